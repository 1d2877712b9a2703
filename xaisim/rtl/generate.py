"""What ``xaisim rtl`` writes: the Verilog of an array, a testbench with a small product, and a page that explains them.

files(design, "edge_systolic_16_ws")        {"array.v": "…", …}, whole texts by name
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from xaisim.config import UserError, choose
from xaisim.hardware.architecture import load_architecture
from xaisim.ir.types import FixedPoint, Overflow, Rounding
from xaisim.rtl.bench import Product
from xaisim.rtl.design import TERMS, Design, design_of
from xaisim.rtl.model import expected
from xaisim.rtl.ports import Port, ports, requests
from xaisim.rtl.testbench import testbench, write_vectors
from xaisim.rtl.verilog import TOP, verilog

RTL_FILES = ("array.v", "testbench.v", "README.md", "left.hex", "top.hex", "initial.hex", "lift.hex", "y.txt")


def files(design: Design, name: str) -> dict[str, str]:
    """Return the texts of all files by name; ``name`` is the architecture's."""
    product = sample(design)
    with tempfile.TemporaryDirectory() as folder:
        arguments = write_vectors(Path(folder), design, product)
        texts = {path.name: path.read_text(encoding="ascii") for path in sorted(Path(folder).iterdir())}
    values, _ = expected(design, product)
    rows = "".join(" ".join(map(str, row)) + "\n" for row in values.tolist())
    texts |= {"array.v": verilog(design), "testbench.v": testbench(design), "y.txt": rows}
    return texts | {"README.md": _readme(design, name, product, arguments)}


def sample(design: Design) -> Product:
    """Return a product that takes two folds each way and fills none of the last, of numbers that do not overflow."""
    rows, cols = design.array.rows, design.array.cols
    on_rows, on_cols, streamed = rows + rows // 2 + 1, cols + cols // 2 + 1, min(9, design.depth)
    order = {"os": (on_rows, streamed, on_cols), "ws": (streamed, on_rows, on_cols), "is": (on_cols, on_rows, streamed)}
    M, K, N = order[design.array.form]
    drawn = np.random.default_rng(0)
    x = drawn.integers(max(design.inputs.low, -7), min(design.inputs.high, 7), (M, K), np.int64, endpoint=True)
    w = drawn.integers(max(design.weights.low, -7), min(design.weights.high, 7), (K, N), np.int64, endpoint=True)
    initial = drawn.integers(-100, 100, N, endpoint=True) if design.initial else None
    lift = np.arange(N) % (design.lift + 1) if design.lift else None
    return Product(x, w, initial, max(design.shifts[0], min(design.shifts[1], 2)), lift)


def _readme(design: Design, name: str, product: Product, arguments: list[str]) -> str:
    M, K, N = product.sizes
    _, terms = expected(design, product)
    done = " ".join(str(getattr(terms, term)) for term in ("total", *TERMS))
    formula = f"x ({M}×{K}) · w ({K}×{N})" + ", lifted," * (design.lift > 0) + " + initial" * design.initial
    parameters = "\n".join(f"| {key} | {value} |" for key, value in design.parameters().items())
    return f"""\
# {TOP}: {design.array}

Written by `xaisim rtl` from {name}. `array.v` is Verilog-2001 without vendor cells, {TOP} its top module; the modules
below it are one processing element, one requantisation and the controller.

| parameter | value |
| --- | --- |
{parameters}

## Ports

One clock `clk`, one synchronous reset `rst`, active high.

| port | bits | direction | meaning |
| --- | ---: | --- | --- |
{_port_rows(ports(design))}

A result is in `out_data` the cycle after its sum left the array. Lanes beyond the edge of a product are ignored.

## Try it

```sh
iverilog -g2005 -o testbench array.v testbench.v
vvp -n testbench {" ".join(arguments)}
```

plays {formula}, shifted right by {product.shift}: operands in
{", ".join(f"`{n}.hex`" for n in requests(design))}, the product in `y.txt`.
Cycles, and load, stream, skew and drain among them, are those of the model: `done {done}`.
"""


def _port_rows(every: list[Port]) -> str:
    rows = [(p.name, p.bits, "out" if p.output else "in", p.text) for p in every]
    return "\n".join(f"| `{name}` | {bits} | {way} | {text} |" for name, bits, way, text in rows)


def _read_format(option: str, text: str) -> FixedPoint:
    """Read ``q8`` (8 bits, signed) or ``u8``; raise ``UserError`` naming the option."""
    if re.fullmatch(r"[qu]\d+", text) is None:
        raise UserError(f"{option}: a format is written like q8 or u8, signed or not, and its bits (got {text!r})")
    try:
        return FixedPoint(int(text[1:]), 0, text[0] == "q")
    except ValueError as error:
        raise UserError(f"{option}: {error}") from None


def files_of(name: str, options: Mapping[str, Any]) -> tuple[Design, dict[str, str]]:
    """Return the design and the files of an architecture with the options of the command line."""
    arch = load_architecture(name)
    rounding = choose("rounding mode", options["rounding"], list(Rounding))
    overflow = choose("overflow mode", options["overflow"], list(Overflow))
    formats = {}
    for operand in ("inputs", "weights", "outputs"):
        plain = _read_format(f"--{operand}", options[operand] or f"q{arch.array.multiplier_bits}")
        formats[operand] = replace(plain, rounding=Rounding(rounding), overflow=Overflow(overflow))
    changes = {key: options[key] for key in ("dataflow", "folds", "rows", "cols")}
    design = design_of(arch, formats=formats, lift=options["lift"], **changes)
    return design, files(design, name)


def write_texts(texts: Mapping[str, str], folder: Path) -> list[str]:
    """Write texts into a folder by name; return the names."""
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return list(texts)
