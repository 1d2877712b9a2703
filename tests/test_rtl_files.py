"""Does `xaisim rtl` write hardware that runs as its page says, and refuse in one line what it cannot write?"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_cli import assert_refused, here, run

from xaisim.hardware import load_architecture
from xaisim.rtl import design_of
from xaisim.rtl.generate import RTL_FILES
from xaisim.rtl.ports import ports

__all__ = ["here"]
SMALL = ("edge_systolic_16_ws", "--rows", 3, "--cols", 4)


def test_an_array_is_written_with_a_testbench_and_a_page_that_names_every_port(here: Path) -> None:
    pytest.importorskip("amaranth")
    result = run("rtl", *SMALL, "-o", "out", "--inputs", "u8", "--weights", "q8", "--outputs", "u8", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (
        sorted(path.name for path in (here / "out").iterdir()) == told["files"] == sorted({*RTL_FILES} - {"lift.hex"})
    )
    assert told["parameters"]["inputs"] == "u8.0"
    assert (told["parameters"]["rows"], told["parameters"]["dataflow"]) == (3, "ws")
    text, page = ((here / "out" / name).read_text() for name in ("array.v", "README.md"))
    modules = re.findall(r"^module (\w+)", text, re.MULTILINE)
    assert modules == [f"xaisim_{name}" for name in ("element", "requant", "control", "sums", "array")]
    assert len(re.findall(r"^  xaisim_element ", text, re.MULTILINE)) == 12
    for port in ports(design_of(load_architecture("edge_systolic_16_ws"), rows=3, cols=4)):
        assert f"| `{port.name}` |" in page


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs Icarus Verilog: apt-get install iverilog")
@pytest.mark.parametrize(("dataflow", "lift"), [("os", 0), ("ws", 2), ("is", 0)])
def test_the_commands_on_the_page_print_the_product_and_the_cycles_that_it_promises(
    dataflow: str, lift: int, here: Path
) -> None:
    pytest.importorskip("amaranth")
    assert run("rtl", *SMALL, "-o", "out", "--dataflow", dataflow, "--lift", lift).exit_code == 0
    page = (here / "out" / "README.md").read_text()
    for line in re.findall(r"^(?:iverilog|vvp) .*", page, re.MULTILINE):
        printed = subprocess.run(shlex.split(line), cwd=here / "out", check=True, capture_output=True, text=True).stdout
    (promised,) = re.findall(r"`(done [\d ]+)`", page)
    assert promised in printed.splitlines()
    values: list[int] = []
    for valid, data in re.findall(r"^out (\d+) (\w+)$", printed, re.MULTILINE):
        words = [data[16 * i : 16 * i + 16] for i in range(4)]
        values += [int(word, 2) - (int(word[0]) << 16) for word, bit in zip(words, valid, strict=True) if bit == "1"]
    y = [int(value) for value in (here / "out" / "y.txt").read_text().split()]
    assert sorted(values) == sorted(y)


def test_what_cannot_be_written_is_told_in_one_line(here: Path) -> None:
    refused = {
        ("pynq_z2",): "pynq_z2: RTL is made of systolic arrays (got array kind 'unrolled')",
        ("edge_systolic_17",): "unknown architecture 'edge_systolic_17'; did you mean 'edge_systolic_1",
        (
            "edge_systolic_16",
            "--folds",
            "pipelined",
        ): "options: array: folds: pipelined folds need dataflow ws (got data",
        ("edge_systolic_16", "--dataflow", "rs"): "options: array: dataflow: must be one of os, ws, is (got 'rs')",
        ("edge_systolic_16", "--rows", "0"): "options: array: rows: must be greater than or equal to 1 (got 0)",
        ("edge_systolic_16", "--inputs", "q17"): "inputs q17.0: may not be wider than multiplier_bits 16",
        ("edge_systolic_16", "--outputs", "8"): "--outputs: a format is written like q8 or u8, signed or not, and its",
        ("edge_systolic_16", "--outputs", "q99"): "--outputs: fixed point needs 2 to 64 bits, got 99",
        ("edge_systolic_16", "--lift", "63"): "lift: must lie between 0 and 62 (got 63)",
        ("edge_systolic_16", "--rounding", "up"): "unknown rounding mode 'up'; choices: trn, trn_zero, rnd,",
    }
    for arguments, line in refused.items():
        assert_refused(run("rtl", *arguments, "-o", "out"), line, folder=here)


def test_without_the_extra_the_command_says_what_to_install(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "amaranth", None)
    for name in [name for name in sys.modules if name.startswith("amaranth.")]:
        monkeypatch.delitem(sys.modules, name)
    line = "amaranth is not installed; RTL needs it: pip install 'xaisim[rtl]'"
    assert_refused(run("rtl", *SMALL, "-o", "out"), line, folder=here)


def test_the_accumulator_memory_is_a_buffer_of_the_one_that_holds_partial_sums() -> None:
    arch = load_architecture("edge_systolic_16_ws")
    memory = arch.memory_for("psum")
    design = design_of(arch)
    assert design.depth * 16 * design.array.stored_sum_bits == 8 * memory.size // 2


def test_the_package_without_its_circuits_does_not_import_amaranth() -> None:
    code = "import sys, xaisim.rtl.generate, xaisim.rtl.bench; sys.exit('amaranth' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
