"""Do the README's commands run, and do they print what it says?"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import xaisim
from xaisim.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONSOLE = re.findall(r"```console\n\$ (xaisim [^\n]*)\n(.*?)```", README, re.S)
BLOCKS = [re.findall(r"^(xaisim [^#\n]*)", block, re.M) for block in re.findall(r"```sh\n(.*?)```", README, re.S)]
"""Commands that stand together; a later one may read what an earlier one wrote."""


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a picture in it."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    Image.fromarray(pixels).save("photo.png")
    return tmp_path


def ran(command: str) -> Result:
    return CliRunner().invoke(main, shlex.split(command)[1:])


def test_the_readme_names_commands() -> None:
    assert len(CONSOLE) == 2
    assert sum(map(len, BLOCKS)) >= 7


def test_the_first_run_prints_what_the_readme_shows(photo: Path) -> None:
    command, shown = CONSOLE[0]
    result = ran(f"{command} -o {photo / 'out'}")
    assert result.exit_code == 0
    assert result.output.split("\n\nwritten to")[0].strip() == shown.strip()


def test_a_wrong_file_is_told_as_the_readme_shows(photo: Path) -> None:
    command, shown = CONSOLE[1]
    text = (ROOT / "arch_configs" / "pynq_z2.yaml").read_text(encoding="utf-8")
    text = text.replace("    size: 256KiB", "    size: 4096", 1).replace("    buffers: 2", "    bufers: 2", 1)
    (photo / "mine.yaml").write_text(text, encoding="utf-8")
    result = ran(command)
    assert result.exit_code == 2
    assert result.output.strip() == shown.strip()


@pytest.mark.usefixtures("photo")
@pytest.mark.parametrize("commands", [block for block in BLOCKS if block], ids=lambda block: block[0][:40])
def test_every_command_of_the_readme_runs(commands: list[str]) -> None:
    for command in commands:
        result = ran(command)
        assert result.exit_code == (1 if command.startswith("xaisim diff ") else 0), result.output  # 1: the runs differ
        assert result.output.strip()


def test_the_python_of_the_readme_runs(photo: Path) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.S)
    names: dict[str, Any] = {"inputs": np.zeros((2, 3, 64, 64))}
    exec(compile(snippet.replace("n_steps=50", "n_steps=2"), "README.md", "exec"), names)
    assert names["report"].attribution.shape == (1, 3, 64, 64)
    assert names["maps"].shape == (2, 3, 64, 64)
    assert names["delta"].shape == (2,)
    assert names["xaisim"] is xaisim
    assert photo.exists()


def test_every_file_that_the_documents_link_to_exists() -> None:
    folders = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")]
    for page in [ROOT / "README.md", ROOT / "DESIGN.md", *sorted(folders)]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} -> {target}"
