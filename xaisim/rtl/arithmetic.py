"""Arithmetic without state: sums that wrap or saturate, and ``requant``, equal to the kernels in ``xaisim.ir``.

Requant(design)       value, shift → result
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib.wiring import Component, In, Out

from xaisim.ir.types import FixedPoint, Overflow, Rounding
from xaisim.rtl.design import Design
from xaisim.rtl.ports import shift_port


def shape_of(format: FixedPoint) -> Shape:
    """Return the shape of the integers of a format."""
    return signed(format.bits) if format.signed else unsigned(format.bits)


def limited(value: Any, bits: int, *, saturate: bool) -> Value:
    """Return a signed value in ``bits`` bits: clamped, or without its upper bits."""
    if not saturate:
        return value[:bits].as_signed() if len(value) >= bits else value
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return Mux(value > high, Const(high, signed(bits)), Mux(value < low, Const(low, signed(bits)), value))


def shift_shape(design: Design) -> Shape:
    """Return the shape of a shift."""
    bits, has_sign = shift_port(design)
    return signed(bits) if has_sign else unsigned(bits)


class Requant(Component):
    """Move a signed sum by ``shift`` bits to the right (to the left if negative), rounded and limited to the outputs.

    All arithmetic is exact: the sum is widened on both sides as far as any shift can move it. Of a design with one
    shift the port is not read, and no shifter is made.
    """

    def __init__(self, design: Design) -> None:
        self.to, self.shifts = design.outputs, design.shifts
        value = signed(design.leaving_bits)
        super().__init__({"value": In(value), "shift": In(shift_shape(design)), "result": Out(shape_of(self.to))})

    def elaborate(self, _platform: Any) -> Module:
        m = Module()
        least, most = self.shifts
        above, below = max(0, -least), max(0, most)  # bits that a shift appends, and that it drops
        widened = Cat(Const(0, above + below), self.value).as_signed()  # shift + above to the right, below are dropped
        moved = Signal(signed(len(widened)))
        fixed = Const(least, self.shift.shape()) if least == most else self.shift
        m.d.comb += moved.eq(widened >> (fixed + above).as_unsigned())
        whole = moved >> below
        rounded = Signal(signed(len(moved) - below + 1))
        m.d.comb += rounded.eq(whole + self._increment(whole, moved[:below]) if below else whole)
        m.d.comb += self.result.eq(self._within(rounded))
        return m

    def _increment(self, whole: Value, rest: Value) -> Value:
        """Return the bit that rounding adds to the next lower integer."""
        negative, half, more = self.value < 0, rest[-1], rest[:-1].any()
        if self.to.rounding is Rounding.TRN:
            return Const(0, 1)
        if self.to.rounding is Rounding.TRN_ZERO:
            return negative & (half | more)
        tie_goes_up = {
            Rounding.RND: Const(1, 1),
            Rounding.RND_ZERO: negative,
            Rounding.RND_INF: ~negative,
            Rounding.RND_MIN_INF: Const(0, 1),
            Rounding.RND_CONV: whole[0],
        }[self.to.rounding]
        return half & (more | tie_goes_up)

    def _within(self, value: Value) -> Value:
        """Return the value in the target's range."""
        to = self.to
        if to.overflow is Overflow.WRAP:
            return value
        low = -to.high if to.overflow is Overflow.SAT_SYM and to.signed else to.low
        at_most, at_least = (0, 0) if to.overflow is Overflow.SAT_ZERO else (to.high, low)
        return Mux(value > to.high, at_most, Mux(value < low, at_least, value))
