"""Save: a report's files in a folder, all of them or none.

save_report(report, "out", command="xaisim explain -o out")

Everything is written beside its place first and moved there when it is complete.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from xaisim.attribution.device import Tensor
from xaisim.config import UserError
from xaisim.ir.types import Bits, FixedPoint
from xaisim.report.heatmap import draw_heatmap, heatmap_info
from xaisim.report.page import write_page
from xaisim.report.report import Report
from xaisim.report.timeline import write_timeline

RESULT_FILES = (
    "heatmap.png",
    "report.html",
    "report.json",
    "attribution.npy",
    "attribution_raw.npy",
    "timeline.json",
)
"""The names that belong to xaisim in a result folder; nothing else there is ever touched."""


def save_report(
    report: Report, directory: str | Path, *, force: bool = False, command: str | None = None
) -> list[Path]:
    """Write the files of a report into ``directory`` and return their paths.

    A new folder appears complete or not at all; in an existing one every file is replaced as a whole, and files of an
    earlier result that this one does not have are removed. Raises :class:`UserError` as :func:`check_directory` does,
    and where writing fails.
    """
    return save_files(directory, RESULT_FILES, partial(_write_files, report, command), force=force)


def save_files(
    directory: str | Path, names: Sequence[str], write: Callable[[Path], list[str]], *, force: bool = False
) -> list[Path]:
    """Let ``write`` put files into a folder and move them to ``directory``; ``names`` are all it may write.

    Raises :class:`UserError` as :func:`check_directory` does, and where writing fails.
    """
    directory = Path(directory)
    check_directory(directory, names, force=force)
    try:
        return _save(directory, names, write)
    except OSError as error:
        raise UserError(f"{directory}: cannot be written: {error.strerror or error}") from None


def check_directory(directory: str | Path, names: Sequence[str] = RESULT_FILES, *, force: bool = False) -> None:
    """Raise :class:`UserError` unless results can go to ``directory``: it is new, empty, or ``force`` is given."""
    directory = Path(directory)
    try:
        if not directory.exists():
            _check_parent(directory)
            return
        if not directory.is_dir():
            raise UserError(f"{directory}: is a file; results need a folder")
        inside = sorted(path.name for path in directory.iterdir())
    except OSError as error:
        raise UserError(f"{directory}: cannot be read: {error.strerror or error}") from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise UserError(f"{directory}: cannot be written: permission denied")
    if inside and not force:
        raise UserError(f"{directory}: is not empty (it has {inside[0]}); choose another folder or use --force")
    blocked = [name for name in names if (directory / name).is_dir()]
    if blocked:
        raise UserError(f"{directory / blocked[0]}: is a folder where a result file should go")


def check_yaml(file: Path, *, what: str = "numerics are", force: bool = False) -> None:
    """Raise :class:`UserError` unless a YAML file can be written: it is new in a folder that exists, or ``force``."""
    if file.suffix not in (".yaml", ".yml"):
        raise UserError(f"{file}: {what} a .yaml file; choose such a name")
    try:
        if file.is_dir() or not file.absolute().parent.is_dir():
            raise UserError(f"{file}: is a folder" if file.is_dir() else f"{file}: there is no folder {file.parent}")
        if file.exists() and not force:
            raise UserError(f"{file}: exists already; choose another name or use --force")
    except OSError as error:
        raise UserError(f"{str(file)[:60]}: cannot be written: {error.strerror or error}") from None
    if not os.access(file if file.exists() else file.absolute().parent, os.W_OK):
        raise UserError(f"{file}: cannot be written: permission denied")


def _check_parent(directory: Path) -> None:
    """Find the nearest folder above that exists and see that one can be made in it."""
    if directory.is_symlink():
        raise UserError(f"{directory}: is a link that leads nowhere")
    above = next(parent for parent in directory.absolute().parents if parent.exists())
    if not above.is_dir():
        raise UserError(f"{directory}: cannot be made, {above} is a file")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"{directory}: cannot be made in {above}: permission denied")


def _save(directory: Path, every: Sequence[str], write: Callable[[Path], list[str]]) -> list[Path]:
    """Write into a temporary folder on the same file system, then move."""
    new = not directory.exists()
    home = directory.absolute().parent if new else directory
    home.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".xaisim-", dir=home))
    try:
        names = write(staging)
        if new:
            staging.chmod(0o777 & ~_umask())
            staging.rename(directory)
        else:
            for name in names:
                (staging / name).replace(directory / name)
            for name in set(every) - set(names):
                (directory / name).unlink(missing_ok=True)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return [directory / name for name in names]


def _umask() -> int:
    """Return the process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write_files(report: Report, command: str | None, folder: Path) -> list[str]:
    """Write every file that this report has, and return their names."""
    run = report.run
    (folder / "report.json").write_text(report.to_json() + "\n", encoding="utf-8")
    write_page(report, folder / "report.html", command=command)
    write_timeline(run.timing, run.arch, folder / "timeline.json")
    names = ["report.json", "report.html", "timeline.json"]
    if run.sample is not None:
        draw_heatmap(heatmap_info(report), folder / "heatmap.png")
        names.append("heatmap.png")
    if run.attribution is not None:
        np.save(folder / "attribution.npy", np.asarray(report.attribution, np.float64))
        np.save(folder / "attribution_raw.npy", raw_integers(run.attribution))
        names += ["attribution.npy", "attribution_raw.npy"]
    return names


def raw_integers(attribution: Tensor) -> np.ndarray:
    """Return the integers of a fixed-point tensor in the smallest type that holds its format."""
    format = attribution.type.format
    if not isinstance(format, FixedPoint | Bits):
        raise TypeError(f"an attribution of format {format} has no integers")
    signed = isinstance(format, FixedPoint) and format.signed
    width = next(width for width in (8, 16, 32, 64) if width >= format.bits)
    return np.asarray(attribution.values).astype(f"{'int' if signed else 'uint'}{width}")
