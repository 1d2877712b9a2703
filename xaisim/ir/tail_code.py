"""Tails for whole groups of 16 channels, as LLVM IR compiled for the machine: a function per combination of steps.

    void(lo, hi, bias, pixels, groups, at, first, fields)

takes ``groups`` · 16 exact values per pixel, of the channels from ``first`` on, to the elements ``at[pixel]`` of the
maps. Where values keep to 46 bits and lose at least 16 of them, two int32 halves are enough; else they are joined.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit

from xaisim.ir import machine
from xaisim.ir.machine import I8, I16, I32, I64, LANES
from xaisim.ir.tail import Tail

Array = np.ndarray

Source = Literal["lo", "planes", "row"]
"""Where the exact values are: one int32 plane, two (lo + 2^16 · hi), or an int64 row without a bias."""
_SCALARS = ("shift", "other_shift", "other_zero", "zero", "right", "low", "high")
_ADDRESSES = ("other", "mask", "gate", "out", "lift", "bias_high", "bias_low")
_BYTE, _HALF, _WORD, _LONG = (ir.VectorType(type, LANES) for type in (I8, I16, I32, I64))


class Bias(NamedTuple):
    """What is added to the sums of every channel, whole and in halves: whole = 2^16 · high + low."""

    whole: Array
    high: Array
    low: Array


def bias_of(values: Array) -> Bias:
    """Return a bias (K,) of int64."""
    high = values >> 16
    return Bias(values, high.astype(np.int32), (values - (high << 16)).astype(np.int32))


class _Variant(NamedTuple):
    """Which steps there are."""

    source: Source
    halves: bool
    shift: bool
    other: bool
    coarse: bool
    """The other operand is shifted by 16 or more."""
    mask: bool
    gate: bool
    rounds: bool
    lift: bool


def code(t: Tail, source: Source, *, lift: bool = False) -> int:
    """Return the address of ``t`` compiled, or 0 where machine or rounding need the loops of ``finish``."""
    if not machine.selected().lanes or not t.usual or t.wide.size or t.rounds != bool(t.out.size):
        return 0
    other = t.other.size != 0
    halves = (
        source != "row"
        and not lift
        and t.shift == 0
        and t.bits <= 46
        and (16 <= t.right <= 47 or not t.rounds)
        and (t.other_shift <= 30 or not other)
    )
    coarse = halves and other and t.other_shift >= 16
    variant = _Variant(
        source, halves, t.shift != 0, other, coarse, t.mask.size != 0, t.gate.size != 0, t.rounds, lift
    )  # fmt: skip
    return _compiled(variant)


@njit(cache=True, nogil=True)
def fields(t, lift, high, low):  # type: ignore[no-untyped-def] # numba
    """Return what compiled code reads of a tail, of the channels' lift and of the halves of their bias."""
    half = (np.int64(1) << t.right) >> 1 if 0 <= t.right < 62 else np.int64(0)
    addresses = (t.other.ctypes.data, t.mask.ctypes.data, t.gate.ctypes.data, t.out.ctypes.data,
                 lift.ctypes.data, high.ctypes.data, low.ctypes.data)  # fmt: skip
    listed = np.empty(15, np.int64)
    listed[:7] = (t.shift, t.other_shift, t.other_zero, t.zero, t.right, t.low, t.high)
    for i in range(7):
        listed[7 + i] = addresses[i]
    listed[14] = half
    return listed


@cache
def _compiled(variant: _Variant) -> int:
    return machine.compiled(_module(variant))


class _Place(NamedTuple):
    """Where a group of values is: in the planes, among the channels, and in the maps."""

    value: ir.Value
    channel: ir.Value
    element: ir.Value


class _Fields(NamedTuple):
    """Scalars and addresses, loaded once."""

    scalars: dict[str, ir.Value]
    addresses: dict[str, ir.Value]

    def every(self, b: ir.IRBuilder, name: str, type: ir.VectorType) -> ir.Value:
        """Return a scalar in every lane."""
        scalar = self.scalars[name]
        return machine.broadcast(b, scalar if type == _LONG else b.trunc(scalar, type.element), type)


def _module(variant: _Variant) -> ir.Module:
    """Write the IR: a loop over pixels around a loop over groups of 16 values."""
    module = ir.Module("tail_" + "_".join(str(int(v)) if isinstance(v, bool) else v for v in variant))
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64] * 8), module.name)
    lo, hi, bias, pixels, groups, at, first, listed = function.args
    names = ("entry", "outer", "inner", "end", "done")
    entry, outer, inner, end, done = (function.append_basic_block(name) for name in names)
    b = ir.IRBuilder(entry)
    loaded = {
        name: machine.load(b, b.add(listed, I64(8 * i)), I64, 8)
        for i, name in enumerate((*_SCALARS, *_ADDRESSES, "half"))
    }
    given = _Fields(loaded, {**loaded, "lo": lo, "hi": hi, "bias": bias})
    b.branch(outer)

    b.position_at_end(outer)
    pixel, value = b.phi(I64), b.phi(I64)
    element = machine.load(b, b.add(at, b.shl(pixel, I64(3))), I64, 8)
    b.branch(inner)

    b.position_at_end(inner)
    channel, here = b.phi(I64), b.phi(I64)
    place = _Place(here, b.add(first, channel), b.add(element, channel))
    (_halves if variant.halves else _joined)(b, variant, given, place)
    channel_next, here_next = b.add(channel, I64(LANES)), b.add(here, I64(LANES))
    b.cbranch(b.icmp_signed("<", channel_next, b.shl(groups, I64(4))), inner, end)

    b.position_at_end(end)
    following = b.add(pixel, I64(1))
    b.cbranch(b.icmp_signed("<", following, pixels), outer, done)
    b.position_at_end(done)
    b.ret_void()

    for phi, start, again in [(pixel, I64(0), following), (value, I64(0), here_next)]:
        phi.add_incoming(start, entry)
        phi.add_incoming(again, end)
    for phi, start, again in [(channel, I64(0), channel_next), (here, value, here_next)]:
        phi.add_incoming(start, outer)
        phi.add_incoming(again, inner)
    return module


def _joined(b: ir.IRBuilder, variant: _Variant, given: _Fields, place: _Place) -> None:
    """Append the steps on 64-bit values."""
    if variant.source == "row":
        v = _row(b, given, "lo", place.value, _LONG)
    else:
        v = b.sext(_row(b, given, "lo", place.value, _WORD), _LONG)
        if variant.source == "planes":
            upper = b.sext(_row(b, given, "hi", place.value, _WORD), _LONG)
            v = b.add(v, b.shl(upper, _constant(_LONG, 16)))
        if variant.lift:
            v = b.shl(v, _row(b, given, "lift", place.channel, _LONG))
        v = b.add(v, _row(b, given, "bias", place.channel, _LONG))
    if variant.shift:
        v = b.shl(v, given.every(b, "shift", _LONG))
    if variant.other:
        other = b.add(b.sext(_row(b, given, "other", place.element, _HALF), _LONG), given.every(b, "other_zero", _LONG))
        v = b.add(v, b.shl(other, given.every(b, "other_shift", _LONG)))
    if variant.mask:
        _put(b, given, "mask", place, b.sext(b.icmp_signed(">", v, _constant(_LONG, 0)), _BYTE))
    if variant.rounds:
        half, right = given.every(b, "half", _LONG), given.every(b, "right", _LONG)
        _finish(b, variant, given, place, b.ashr(b.add(v, half), right))


def _halves(b: ir.IRBuilder, variant: _Variant, given: _Fields, place: _Place) -> None:
    """Append the steps on value = 2^16 · high + low, whose halves are 32 bits wide; high takes what is carried."""
    low = _row(b, given, "lo", place.value, _WORD)
    high = _row(b, given, "bias_high", place.channel, _WORD)
    sixteen, lower = _constant(_WORD, 16), _constant(_WORD, 0xFFFF)
    if variant.source == "planes":
        high = b.add(high, _row(b, given, "hi", place.value, _WORD))
    else:
        high = b.add(high, b.ashr(low, sixteen))
        low = b.and_(low, lower)
    low = b.add(low, _row(b, given, "bias_low", place.channel, _WORD))
    if variant.other:
        other = b.add(b.sext(_row(b, given, "other", place.element, _HALF), _WORD), given.every(b, "other_zero", _WORD))
        shift = given.every(b, "other_shift", _WORD)
        if variant.coarse:
            high = b.add(high, b.shl(other, b.sub(shift, sixteen)))
        else:
            high = b.add(high, b.ashr(other, b.sub(sixteen, shift)))
            low = b.add(low, b.and_(b.shl(other, shift), lower))
    if variant.mask:  # v > 0 where v − 1 is not negative
        before = b.add(high, b.ashr(b.sub(low, _constant(_WORD, 1)), sixteen))
        _put(b, given, "mask", place, b.sext(b.icmp_signed(">=", before, _constant(_WORD, 0)), _BYTE))
    if variant.rounds:
        half = given.scalars["half"]
        half_low = machine.broadcast(b, b.trunc(b.and_(half, I64(0xFFFF)), I32), _WORD)
        half_high = machine.broadcast(b, b.trunc(b.ashr(half, I64(16)), I32), _WORD)
        carried = b.ashr(b.add(low, half_low), sixteen)
        total = b.add(b.add(high, half_high), carried)
        _finish(b, variant, given, place, b.ashr(total, b.sub(given.every(b, "right", _WORD), sixteen)))


def _finish(b: ir.IRBuilder, variant: _Variant, given: _Fields, place: _Place, v: ir.Value) -> None:
    """Append the end: saturate, pass where the gate is set, store."""
    type = v.type
    low, high = given.every(b, "low", type), given.every(b, "high", type)
    v = b.select(b.icmp_signed("<", v, low), low, v)
    v = b.select(b.icmp_signed(">", v, high), high, v)
    if variant.gate:
        v = b.and_(v, b.sext(_row(b, given, "gate", place.element, _BYTE), type))
    _put(b, given, "out", place, b.trunc(b.sub(v, given.every(b, "zero", type)), _HALF))


def _row(b: ir.IRBuilder, given: _Fields, name: str, index: ir.Value, type: ir.VectorType) -> ir.Value:
    """Append the load of 16 neighbouring numbers of an array."""
    width = type.element.width // 8
    return machine.load(b, b.add(given.addresses[name], b.mul(index, I64(width))), type, width)


def _put(b: ir.IRBuilder, given: _Fields, name: str, place: _Place, v: ir.Value) -> None:
    """Append the store of 16 neighbouring numbers of a map."""
    width = v.type.element.width // 8
    machine.store(b, v, b.add(given.addresses[name], b.mul(place.element, I64(width))), width)


def _constant(type: ir.VectorType, value: int) -> ir.Constant:
    return ir.Constant(type, [value] * LANES)
