"""The tail of a sum: what happens to an exact value while it is still near, before it is stored in 16 bits or less.

    v → (v << shift) + (other << other_shift) → sign to ``mask`` → round and fit → pass where ``gate`` is set → ``out``

Every step but the last is optional; an array of size 0 stands for an absent one. All maps are NHWC of one shape, flat.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit

from xaisim.ir import machine
from xaisim.ir.kernels import OVERFLOW, ROUNDING, requant_into
from xaisim.ir.types import FixedPoint, Overflow, Rounding

Array = np.ndarray

_NEAREST, _SATURATE = ROUNDING[Rounding.RND], OVERFLOW[Overflow.SAT]
_NONE16, _NONE8, _NONE64 = np.zeros(0, np.int16), np.zeros(0, np.int8), np.zeros(0, np.int64)


class Tail(NamedTuple):
    """Scalars and flat arrays; integers are stored as ``value − zero`` in int16, masks as 0 and −1 in int8."""

    shift: int
    other: Array
    other_shift: int
    other_zero: int
    mask: Array
    gate: Array
    out: Array
    zero: int
    wide: Array
    """Takes the value in int64 where it does not fit 16 bits."""
    rounds: bool
    right: int
    rounding: int
    overflow: int
    low: int
    high: int
    positive: bool
    """What is negative after rounding becomes zero (a ReLU); only where the bounds do not see to it."""


def tail(
    *,
    shift: int = 0,
    other: Array = _NONE16,
    other_shift: int = 0,
    other_zero: int = 0,
    mask: Array = _NONE8,
    gate: Array = _NONE8,
    out: Array = _NONE16,
    zero: int = 0,
    wide: Array = _NONE64,
    right: int = 0,
    to: FixedPoint | None = None,
    positive: bool = False,
) -> Tail:
    """Return a tail; ``to`` is the format it rounds to (None: it does not round), ``positive`` cuts below zero."""
    low, high, rounding, overflow = 0, 0, 0, 0
    if to is not None:
        low = -to.high if to.overflow is Overflow.SAT_SYM and to.signed else to.low
        high, rounding, overflow = to.high, ROUNDING[to.rounding], OVERFLOW[to.overflow]
        if positive and to.overflow is Overflow.SAT:
            low, positive = max(low, 0), False
    flat = [a.reshape(-1) for a in (other, mask, gate, out, wide)]
    return Tail(
        shift, flat[0], other_shift, other_zero, flat[1], flat[2], flat[3], zero, flat[4],
        to is not None, right, rounding, overflow, low, high, positive,
    )  # fmt: skip


# --- whole groups of channels, compiled for this machine --------------------------------------------------------------

Source = Literal["lo", "planes", "row"]
"""Where the exact values are: one int32 plane, two (lo + 2^16 · hi), or an int64 row without a bias."""
_FIELDS = (
    "shift",
    "other",
    "other_shift",
    "other_zero",
    "mask",
    "gate",
    "out",
    "zero",
    "right",
    "half",
    "low",
    "high",
    "lift",
)


def code(t: Tail, source: Source, *, lift: bool = False) -> int:
    """Return the address of ``t`` compiled, or 0 where this machine or the way it rounds needs the loops of ``finish``.

    The function is ``void(lo, hi, bias, pixels, groups, at, first, fields)``: ``groups`` · 16 values per pixel, of the
    channels from ``first`` on, go to the elements ``at[pixel]`` of the maps; ``fields`` is what :func:`fields` returns.
    """
    usual = t.rounding == _NEAREST and t.overflow == _SATURATE and 0 <= t.right < 62
    if not machine.selected().lanes or not usual or t.wide.size or t.rounds != bool(t.out.size):
        return 0
    return _compiled(source, t.shift != 0, t.other.size != 0, t.mask.size != 0, t.gate.size != 0, t.rounds, lift)


def fields(t: Tail, lift: Array = _NONE64) -> Array:
    """Return what compiled code reads of ``t`` and the channels' ``lift``: scalars and addresses."""
    at = {name: getattr(t, name).ctypes.data for name in ("other", "mask", "gate", "out")} | {"lift": lift.ctypes.data}
    half = (1 << t.right) >> 1 if 0 <= t.right < 62 else 0
    return np.array([at[n] if n in at else half if n == "half" else getattr(t, n) for n in _FIELDS], np.int64)


@cache
def _compiled(source: Source, *flags: bool) -> int:
    return machine.compiled(_module(source, *flags))


def _module(
    source: Source,
    shift: bool,
    other: bool,
    mask: bool,
    gate: bool,
    out: bool,
    lift: bool,
) -> ir.Module:
    """Write the IR: a loop over pixels around a loop over groups of 16 values."""
    i8, i16, i64 = machine.I8, machine.I16, machine.I64
    module = ir.Module(f"tail_{source}_{shift:d}{other:d}{mask:d}{gate:d}{out:d}{lift:d}")
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [i64] * 8), module.name)
    lo, hi, bias, pixels, groups, at, k, listed = function.args
    entry, outer, inner, end, done = (
        function.append_basic_block(n) for n in ("entry", "outer", "inner", "end", "done")
    )
    b = ir.IRBuilder(entry)
    field = {n: machine.load(b, b.add(listed, i64(8 * i)), i64, 8) for i, n in enumerate(_FIELDS)}
    wide, half, byte = (ir.VectorType(t, machine.LANES) for t in (i64, i16, i8))
    every = {
        n: machine.broadcast(b, v, wide) for n, v in field.items() if n not in ("other", "mask", "gate", "out", "lift")
    }
    b.branch(outer)

    b.position_at_end(outer)
    pixel, value = b.phi(i64), b.phi(i64)  # ``value`` counts exact values over pixels and groups
    first = machine.load(b, b.add(at, b.shl(pixel, i64(3))), i64, 8)
    b.branch(inner)

    b.position_at_end(inner)
    channel, here = b.phi(i64), b.phi(i64)
    place = b.add(first, channel)
    v = _exact(b, source, lo, hi, here)
    behind = b.shl(b.add(k, channel), i64(3))
    if lift:
        v = b.shl(v, machine.load(b, b.add(field["lift"], behind), wide, 8))
    if source != "row":
        v = b.add(v, machine.load(b, b.add(bias, behind), wide, 8))
    if shift:
        v = b.shl(v, every["shift"])
    if other:
        there = b.add(field["other"], b.shl(place, i64(1)))
        added = b.add(b.sext(machine.load(b, there, half, 2), wide), every["other_zero"])
        v = b.add(v, b.shl(added, every["other_shift"]))
    if mask:
        positive = b.icmp_signed(">", v, ir.Constant(wide, [0] * machine.LANES))
        machine.store(b, b.sext(positive, byte), b.add(field["mask"], place), 1)
    if out:
        v = b.ashr(b.add(v, every["half"]), every["right"])
        v = b.select(b.icmp_signed("<", v, every["low"]), every["low"], v)
        v = b.select(b.icmp_signed(">", v, every["high"]), every["high"], v)
        if gate:
            v = b.and_(v, b.sext(machine.load(b, b.add(field["gate"], place), byte, 1), wide))
        result = b.trunc(b.sub(v, every["zero"]), half)
        machine.store(b, result, b.add(field["out"], b.shl(place, i64(1))), 2)
    channel_next, here_next = b.add(channel, i64(machine.LANES)), b.add(here, i64(machine.LANES))
    b.cbranch(b.icmp_signed("<", channel_next, b.shl(groups, i64(4))), inner, end)

    b.position_at_end(end)
    following = b.add(pixel, i64(1))
    b.cbranch(b.icmp_signed("<", following, pixels), outer, done)
    b.position_at_end(done)
    b.ret_void()

    for phi, start, again in [(pixel, i64(0), following), (value, i64(0), here_next)]:
        phi.add_incoming(start, entry)
        phi.add_incoming(again, end)
    for phi, start, again in [(channel, i64(0), channel_next), (here, value, here_next)]:
        phi.add_incoming(start, outer)
        phi.add_incoming(again, inner)
    return module


def _exact(b: ir.IRBuilder, source: Source, lo: ir.Value, hi: ir.Value, here: ir.Value) -> ir.Value:
    """Append the load of 16 exact values in 64 bits."""
    wide, plane = ir.VectorType(machine.I64, machine.LANES), ir.VectorType(machine.I32, machine.LANES)
    if source == "row":
        return machine.load(b, b.add(lo, b.shl(here, machine.I64(3))), wide, 8)
    v = b.sext(machine.load(b, b.add(lo, b.shl(here, machine.I64(2))), plane, 4), wide)
    if source == "lo":
        return v
    upper = b.sext(machine.load(b, b.add(hi, b.shl(here, machine.I64(2))), plane, 4), wide)
    return b.add(v, b.shl(upper, ir.Constant(wide, [16] * machine.LANES)))


# --- any number of values, any way of rounding ------------------------------------------------------------------------


@njit(cache=True, nogil=True, inline="always")
def finish(v, count, pitch, width, at, tail):  # type: ignore[no-untyped-def] # numba
    """Take ``count`` rows of ``width`` exact values from ``v`` (one every ``pitch``) to the places ``at`` of the maps.

    Written as one short loop per step: each runs in vectors over values that are in the first cache.
    """
    if tail.shift != 0:
        for i in range(count * pitch):
            v[i] = v[i] << tail.shift
    if tail.other.size != 0:
        for i in range(count):
            for j in range(width):
                v[i * pitch + j] += (np.int64(tail.other[at[i] + j]) + tail.other_zero) << tail.other_shift
    if tail.mask.size != 0:
        for i in range(count):
            for j in range(width):
                tail.mask[at[i] + j] = -(v[i * pitch + j] > 0)
    if tail.rounds:
        if tail.rounding == _NEAREST and tail.overflow == _SATURATE and 0 <= tail.right < 62:
            half = (np.int64(1) << tail.right) >> 1
            for i in range(count * pitch):
                v[i] = min(max((v[i] + half) >> tail.right, tail.low), tail.high)
        else:
            for i in range(count):
                row = v[i * pitch : i * pitch + width]
                requant_into(row, row, tail.right, tail.rounding, tail.overflow, tail.low, tail.high)
                if tail.positive:
                    for j in range(width):
                        row[j] = max(row[j], 0)
    if tail.gate.size != 0:
        for i in range(count):
            for j in range(width):
                v[i * pitch + j] &= np.int64(tail.gate[at[i] + j])
    if tail.out.size != 0:
        for i in range(count):
            for j in range(width):
                tail.out[at[i] + j] = v[i * pitch + j] - tail.zero
    elif tail.wide.size != 0:
        for i in range(count):
            for j in range(width):
                tail.wide[at[i] + j] = v[i * pitch + j]
