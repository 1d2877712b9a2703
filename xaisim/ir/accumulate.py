"""Sums of products in an accumulator that may overflow: one that wraps, or one that saturates in a stated order.

    Accumulator("saturate", bits=24, psum_bits=20, order=Order(channels=32, fold=16))

An array operator carries an ``Accumulator`` where its sum is not proven to fit. The bias is there first; then products
join in the order (c, r, s), tile after tile of input channels. What the array keeps between two clamps is exact. Where
channels have a ``lift``, it happens behind the array, and the bias joins after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

from xaisim.hardware.array import AccumulatorPolicy
from xaisim.ir.kernels import phases

if TYPE_CHECKING:
    from xaisim.ir.ops import Node

Array = np.ndarray
Definition = Callable[..., Array]


@dataclass(frozen=True, slots=True)
class Order:
    """In which order an array adds the products of one output, and when the sum goes to memory and comes back.

    By default one product after the other, and to memory once, when all are in.
    """

    channels: int | None = None
    """Input channels of a reduction tile, after which the sum goes to memory; None: all of them."""
    tree: tuple[int, int, int] = (1, 1, 1)
    """Channels, filter rows and columns whose products an adder tree adds exactly before they join the sum."""
    fold: int | None = None
    """Products after which the sum goes to memory, counted from the start of each reduction tile."""

    def groups(self, channels: int, rows: int, columns: int) -> Iterator[tuple[list[int], bool]]:
        """Yield the products that join the sum at once, as c·R·S + r·S + s, and whether it then goes to memory."""
        tile = self.channels or channels
        for first in range(0, channels, tile):
            parts = list(self._tile(first, min(first + tile, channels), channels, rows, columns))
            for i, part in enumerate(parts, start=1):
                yield part, i == len(parts) or (self.fold is not None and i % self.fold == 0)

    def _tile(self, first: int, last: int, channels: int, rows: int, columns: int) -> Iterator[list[int]]:
        index = np.arange(channels * rows * columns).reshape(channels, rows, columns)
        c_step, r_step, s_step = self.tree
        for c in range(first, last, c_step):
            for r in range(0, rows, r_step):
                for s in range(0, columns, s_step):
                    block = index[c : min(c + c_step, last), r : r + r_step, s : s + s_step]
                    yield block.reshape(-1).tolist()

    def __str__(self) -> str:
        tree = "" if self.tree == (1, 1, 1) else f" tree {'x'.join(map(str, self.tree))}"
        fold = "" if self.fold is None else f" fold {self.fold}"
        return f"C{self.channels or ''}{tree}{fold}"


@dataclass(frozen=True, slots=True)
class Accumulator:
    """What becomes of a sum that is not proven to fit: it wraps or saturates, in the array and in memory.

    Clamping depends on the ``order``, which the mapping knows; wrapping does not.
    """

    policy: AccumulatorPolicy
    bits: int
    psum_bits: int
    """A sum in memory; at most ``bits``."""
    order: Order = Order()

    def __str__(self) -> str:
        stored = "" if self.psum_bits == self.bits else f"/{self.psum_bits}"
        order = f" {self.order}" if self.policy == "saturate" else ""
        return f"{self.policy} {self.bits}{stored}{order}"


def limited(exact: Definition) -> Definition:
    """Return the definition of an array operator that obeys the node's accumulator, where it has one."""

    def evaluate(node: Node, x: Array, w: Array, b: Array | None = None) -> Array:
        accumulator: Accumulator | None = node.attrs.get("accumulator")
        if accumulator is None:
            return exact(node, x, w, b)
        if "lift" in node.attrs:  # channels are brought to one scale behind the array, and their bias after that
            attrs = {name: value for name, value in node.attrs.items() if name != "lift"}
            sums = evaluate(replace(node, attrs=attrs), x, w)
            trailing = (1,) * (sums.ndim - 2)
            lifted = sums << np.array(node.attrs["lift"]).reshape(-1, *trailing)
            return lifted if b is None else lifted + b.reshape(-1, *trailing)
        if accumulator.policy == "wrap":
            return wrap(exact(node, x, w, b), accumulator.psum_bits)
        return _saturated(node, accumulator, x, w, b)

    return evaluate


def wrap(values: Array, bits: int) -> Array:
    """Return integers modulo 2^bits, in two's complement.

    Wrapping after every addition, at this width or a larger one, comes to the same: each step changes the sum by a
    multiple of 2^bits, and so does int64 where the exact sum leaves it.
    """
    spare = 64 - bits
    return (values.astype(np.int64) << spare) >> spare


def _saturated(node: Node, accumulator: Accumulator, x: Array, w: Array, b: Array | None) -> Array:
    """Add up in order with clamping: a linear layer as a 1x1 window, others by the phase of their dilation."""
    out = np.empty((max(len(x), len(w)), *node.type.shape), np.int64)
    out[:] = 0 if b is None else b.reshape(1, -1, *(1,) * (len(node.type.shape) - 1))
    transposed = bool(node.attrs.get("transposed"))
    wide = int(node.attrs["bound"]) >= 1 << 63
    if node.op == "linear":
        matrix = w[0].T if transposed else w[0]
        steps = _steps(accumulator, matrix.shape[1], 1, 1)
        if len(out) < matrix.shape[0]:  # the longer side runs in the inner loop
            _add_products(x, np.ascontiguousarray(matrix.T)[None], out[None], steps, wide)
        else:
            by_output = np.ascontiguousarray(out.T)
            _add_products(matrix, np.ascontiguousarray(x.T)[None], by_output[None], steps, wide)
            out[:] = by_output.T
        return out
    if len(w) > 1:  # weights of its own for every sample
        for n in range(len(w)):
            own = x[n : n + 1] if len(x) > 1 else x
            out[n : n + 1] = _saturated(node, accumulator, own, w[n : n + 1], b)
        return out
    filters = w[0].transpose(1, 0, 2, 3)[:, :, ::-1, ::-1] if transposed else w[0]
    convolve(node, accumulator, x, filters, out, wide)
    return out


def convolve(node: Node, accumulator: Accumulator, x: Array, filters: Array, out: Array, wide: bool) -> None:
    """Add all products of a convolution to ``out`` (N, K, P, Q), which holds the bias."""
    K, C, R, S = filters.shape
    _, P, Q = node.type.shape
    stride, (top, left) = node.attrs["stride"], node.attrs["padding"][:2]
    dy, dx = node.attrs.get("dilation", (1, 1))
    for a, r, rows, above, p in phases(R, top, dy, P):
        for b, s, columns, before, q in phases(S, left, dx, Q):
            part = np.ascontiguousarray(out[:, :, a::dy, b::dx]).reshape(len(out), K, p * q)
            if rows and columns:
                matrix = filters[:, :, r::dy, s::dx].reshape(K, -1)
                window = np.array([rows, columns, *stride, above, before, p, q])
                _add_windows(matrix, x, part, _steps(accumulator, C, rows, columns), window, wide)
            else:
                low, high = _limits(accumulator.psum_bits)
                np.clip(part, low, high, out=part)
            out[:, :, a::dy, b::dx] = part.reshape(len(out), K, p, q)


class Steps(NamedTuple):
    """Per product in the order of addition: which one, whether the sum is clamped after it, and to which range."""

    which: Array
    clamped: Array
    low: Array
    high: Array


@lru_cache(maxsize=4096)
def _steps(accumulator: Accumulator, channels: int, rows: int, columns: int) -> Steps:
    own, stored = _limits(accumulator.bits), _limits(accumulator.psum_bits)
    index: list[int] = []
    clamped: list[bool] = []
    limits: list[tuple[int, int]] = []
    for products, to_memory in accumulator.order.groups(channels, rows, columns):
        inside = len(products) - 1
        index += products
        clamped += [False] * inside + [True]
        limits += [_limits(64)] * inside + [stored if to_memory else own]
    low, high = np.ascontiguousarray(np.array(limits, np.int64).T)
    return Steps(np.array(index), np.array(clamped), low, high)


def _limits(bits: int) -> tuple[int, int]:
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


_LANES = 16
"""Outputs that are worked on at once come in multiples of this."""


def _add_products(matrix: Array, columns: Array, out: Array, steps: Steps, wide: bool) -> None:
    """Add ``matrix`` (K, M) · ``columns`` (N, M, L) to ``out`` (N, K, L) in order."""
    M, L = columns.shape[1:]
    window = np.array([1, 1, 1, 1, 0, 0, 1, L])
    _add_windows(matrix, columns.reshape(len(columns), M, 1, L), out, steps, window, wide)


def _add_windows(matrix: Array, x: Array, out: Array, steps: Steps, window: Array, wide: bool) -> None:
    """Add ``matrix`` (K, C·R·S) times the windows of ``x`` (N, C, H, W) to ``out`` (N, K, P·Q) in order."""
    weights, x = matrix[:, steps.which].T, np.ascontiguousarray(x, np.int64)
    largest = max(*(abs(int(edge(a))) for a in (x, weights) for edge in (np.min, np.max)))
    held = np.dtype(np.int32 if largest < 1 << 31 else np.int64)  # 32 bits multiply several times as fast
    block = (1 << 18) // (held.itemsize * len(steps.which)) // _LANES * _LANES  # columns stay in the cache
    columns = np.empty((len(steps.which), min(out.shape[2], max(_LANES, min(512, block)))), held)
    add = _add_wide if wide else _add
    add(np.ascontiguousarray(weights, held), x, out, *steps, window, columns)


@njit(cache=True, nogil=True)
def _gather(x, columns, index, window, first):  # type: ignore[no-untyped-def] # numba
    """Fill ``columns`` (M, B) with what the outputs from ``first`` on multiply, in the order of addition."""
    R, S, stride_y, stride_x, top, left, P, Q = window
    _, H, W = x.shape
    count = min(columns.shape[1], P * Q - first)
    for m in range(len(index)):
        c, tap = index[m] // (R * S), index[m] % (R * S)
        r, s = tap // S - top, tap % S - left
        for p in range(first // Q, (first + count - 1) // Q + 1):
            start, stop = max(first, p * Q), min(first + count, (p + 1) * Q)
            h = p * stride_y + r
            for i in range(start, stop):
                w = (i - p * Q) * stride_x + s
                columns[m, i - first] = x[c, h, w] if 0 <= h < H and 0 <= w < W else 0
    return count


@njit(cache=True, nogil=True)
def _add(weights, x, out, index, _clamped, low, high, window, columns):  # type: ignore[no-untyped-def] # numba
    """Add product after product, clamped to its limits; no sum of all their magnitudes leaves int64."""
    for n in range(len(out)):
        for first in range(0, out.shape[2], columns.shape[1]):
            count = _gather(x[n if len(x) > 1 else 0], columns, index, window, first)
            for k in range(out.shape[1]):
                sums = out[n, k, first : first + count]
                for m in range(len(index)):
                    weight, least, most = np.int64(weights[m, k]), low[m], high[m]
                    column = columns[m]
                    for i in range(count):
                        sums[i] = min(max(sums[i] + weight * np.int64(column[i]), least), most)


@njit(cache=True, nogil=True)
def _add_wide(weights, x, out, index, clamped, low, high, window, columns):  # type: ignore[no-untyped-def] # numba
    """As ``_add`` where exact sums may leave int64: they are held as upper·2^32 + lower."""
    mask = np.int64(0xFFFFFFFF)
    for n in range(len(out)):
        for first in range(0, out.shape[2], columns.shape[1]):
            count = _gather(x[n if len(x) > 1 else 0], columns, index, window, first)
            for k in range(out.shape[1]):
                for i in range(count):
                    upper, lower = out[n, k, first + i] >> 32, out[n, k, first + i] & mask
                    for m in range(len(index)):
                        product = np.int64(weights[m, k]) * np.int64(columns[m, i])
                        lower += product & mask
                        upper += (product >> 32) + (lower >> 32)
                        lower &= mask
                        if clamped[m]:
                            least, most = low[m], high[m]
                            if upper < least >> 32 or (upper == least >> 32 and lower < least & mask):
                                upper, lower = least >> 32, least & mask
                            elif upper > most >> 32 or (upper == most >> 32 and lower > most & mask):
                                upper, lower = most >> 32, most & mask
                    out[n, k, first + i] = (upper << 32) | lower
