"""Verilog of a design, through Amaranth and its Yosys: one module per part, instantiated as often as the array has it.

verilog(design)              text: xaisim_array and the modules below it, Verilog-2001
"""

from __future__ import annotations

from typing import Any

from xaisim.config import UserError
from xaisim.rtl.design import Design
from xaisim.version import __version__

TOP = "xaisim_array"
MODULES = {part: f"xaisim_{part}" for part in ("element", "requant", "sums", "control")}


def verilog(design: Design) -> str:
    """Return the Verilog of a design; ``UserError`` where Amaranth or a Yosys for it is not installed."""
    convert = _converter()
    from xaisim.rtl.arithmetic import Requant
    from xaisim.rtl.controller import Controller
    from xaisim.rtl.core import Core
    from xaisim.rtl.elements import HoldingElement, MovingElement
    from xaisim.rtl.sums import sums_verilog

    element = HoldingElement(design) if design.stationary else MovingElement(design)
    parts = {"element": element, "requant": Requant(design), "control": Controller(design)}
    texts = [convert(part, MODULES[name]) for name, part in parts.items()]
    if design.stationary:
        texts.append(sums_verilog(design, MODULES["sums"]))
    return "\n".join([_header(design), *texts, convert(Core(design, MODULES), TOP)])


def _converter() -> Any:
    try:
        from amaranth._toolchain.yosys import YosysError
        from amaranth.back import verilog as back
    except ImportError:
        raise UserError("amaranth is not installed; RTL needs it: pip install 'xaisim[rtl]'") from None

    def convert(part: Any, name: str) -> str:
        try:
            return str(back.convert(part, name=name, emit_src=False, strip_internal_attrs=True))
        except YosysError as error:
            raise UserError(f"Verilog needs Yosys: pip install 'xaisim[rtl]' ({error})") from None

    return convert


def _header(design: Design) -> str:
    lines = [f"{name:17s}{value}" for name, value in design.parameters().items()]
    return "\n".join([f"// {TOP}, written by xaisim {__version__}", *(f"// {line}" for line in lines), ""])
