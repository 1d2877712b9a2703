"""A study's folder: the table, the picture, the JSON, and the cells that they were made from.

with opened("gradcam", Path("out"), setting) as cells: save_study(run("gradcam", setting, cells, progress), Path("out"))
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from xaisim.config import UserError, choose
from xaisim.experiment import code_digest
from xaisim.report.chart import draw_chart
from xaisim.studies.cells import Cells
from xaisim.studies.listed import STUDIES
from xaisim.studies.study import Setting, Study, study_text

_CELLS = "cells.sqlite"


def opened(name: str, folder: Path, setting: Setting) -> Cells:
    """Return what is kept in a study's folder, made where it is not there: of this code, and of the files named.

    Raises :class:`UserError` for an unknown study and for a folder that holds something else.
    """
    choose("study", name, STUDIES)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder}: cannot be used: {error.strerror or error}") from None
    if others and _CELLS not in others:
        raise UserError(f"{folder}: is not empty and is no study's folder (it has {others[0]}); choose another")
    return Cells(folder / _CELLS, code_digest()[:12] + setting.files())


def save_study(study: Study, folder: Path) -> list[Path]:
    """Write NAME.md, NAME.png and NAME.json, each replaced as a whole; return their paths."""
    try:
        with tempfile.TemporaryDirectory(dir=folder) as work:
            made = _written(study, Path(work))
            return [Path(shutil.move(path, folder / path.name)) for path in made]
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from None


def _written(study: Study, folder: Path) -> list[Path]:
    page, picture, data = (folder / f"{study.name}.{suffix}" for suffix in ("md", "png", "json"))
    page.write_text(f"# {study.title}\n\n{study_text(study, picture.name)}", encoding="utf-8")
    draw_chart(study.chart, picture)
    data.write_text(study.to_json(), encoding="utf-8")
    for path in (page, picture, data):
        os.chmod(path, 0o644)
    return [page, picture, data]
