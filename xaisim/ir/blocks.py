"""Register blocks: the innermost loops of exact integer products, as LLVM IR compiled for the machine they run on.

A block adds up x · w for a few pixels × a few vectors of output channels, all held in registers:

    lo[p][v] + 2^16 · hi[p][v] = Σ_k x_p[k] · w[k][v]        k in pairs of int16 (or in fours of 8-bit numbers)

``lo`` and ``hi`` are int32 planes. The sum runs in segments whose partial sums are known to fit 31 bits; after each the
upper half moves to ``hi`` (three instructions per register). Where the whole sum fits, ``hi`` is not used at all.
The instructions are vpdpwssd and vpdpbusd (AVX-512 VNNI) or vpmaddwd (AVX2).
"""

from __future__ import annotations

from functools import cache

from llvmlite import ir

from xaisim.ir.machine import I32, I64, LANES, VNNI, Kernels, Shape, broadcast, compiled, load, store


@cache
def block(kernels: Kernels, shape: Shape, *, fold: bool, fours: bool = False) -> int:
    """Return the address of a compiled block: ``void(pixels, segments, count, w, lo, hi)``, all 64-bit integers.

    ``pixels`` points to the addresses of the pixels' first input elements; ``segments`` to pairs (first byte, end byte)
    relative to them, four bytes per step; ``w`` holds 64 bytes per step and group, aligned to 64.
    """
    return compiled(_module(kernels, shape, fold=fold, fours=fours))


def _module(kernels: Kernels, shape: Shape, *, fold: bool, fours: bool) -> ir.Module:
    """Write the IR of one block: a loop over segments around a loop over steps."""
    lanes = kernels.lanes
    parts = range(shape.groups * LANES // lanes)
    accumulators = [(p, v) for p in range(shape.pixels) for v in parts]
    vector = ir.VectorType(I32, lanes)
    zero = ir.Constant(vector, [0] * lanes)
    module = ir.Module(f"block_{kernels.name}_{shape.pixels}x{shape.groups}_{'fold' if fold else 'one'}_{fours:d}")
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64] * 6), module.name)
    pixels, segments, count, w, lo, hi = function.args
    names = ("entry", "outer", "inner", "end", "done")
    entry, outer, inner, end, done = (function.append_basic_block(name) for name in names)

    b = ir.IRBuilder(entry)
    base = [load(b, b.add(pixels, I64(8 * p)), I64, 8) for p in range(shape.pixels)]
    b.branch(outer)

    b.position_at_end(outer)
    segment, w_outer = b.phi(I64), b.phi(I64)
    carried = [b.phi(vector) for _ in accumulators]
    upper = [b.phi(vector) for _ in accumulators] if fold else []
    at = b.add(segments, b.shl(segment, I64(4)))
    first, last = load(b, at, I64, 8), load(b, b.add(at, I64(8)), I64, 8)
    b.branch(inner)

    b.position_at_end(inner)
    offset, w_inner = b.phi(I64), b.phi(I64)
    sums = [b.phi(vector) for _ in accumulators]
    weights = [load(b, b.add(w_inner, I64(4 * lanes * v)), vector, 4 * lanes) for v in parts]
    new = []
    for p, address in enumerate(base):
        x = broadcast(b, load(b, b.add(address, offset), I32, 1), vector)
        new += [_multiply_add(b, kernels, sums[p * len(parts) + v], weights[v], x, fours=fours) for v in parts]
    offset_next, w_next = b.add(offset, I64(4)), b.add(w_inner, I64(64 * shape.groups))
    b.cbranch(b.icmp_signed("<", offset_next, last), inner, end)

    b.position_at_end(end)
    left = [b.and_(total, ir.Constant(vector, [0xFFFF] * lanes)) for total in new] if fold else new
    risen = [b.add(u, b.ashr(t, ir.Constant(vector, [16] * lanes))) for u, t in zip(upper, new, strict=False)]
    following = b.add(segment, I64(1))
    b.cbranch(b.icmp_signed("<", following, count), outer, done)

    b.position_at_end(done)
    for plane, totals in ((lo, left), (hi, risen)):
        for i, total in enumerate(totals):
            store(b, total, b.add(plane, I64(4 * lanes * i)), 4 * lanes)
    b.ret_void()

    for phi, start, again in [(segment, I64(0), following), (w_outer, w, w_next)]:
        phi.add_incoming(start, entry)
        phi.add_incoming(again, end)
    for phi, start, again in [(offset, first, offset_next), (w_inner, w_outer, w_next)]:
        phi.add_incoming(start, outer)
        phi.add_incoming(again, inner)
    for i in range(len(accumulators)):
        carried[i].add_incoming(zero, entry)
        carried[i].add_incoming(left[i], end)
        sums[i].add_incoming(carried[i], outer)
        sums[i].add_incoming(new[i], inner)
    for phi, again in zip(upper, risen, strict=True):
        phi.add_incoming(zero, entry)
        phi.add_incoming(again, end)
    return module


def _multiply_add(
    b: ir.IRBuilder, kernels: Kernels, total: ir.Value, w: ir.Value, x: ir.Value, *, fours: bool
) -> ir.Value:
    """Return total + the sum of two int16 products per lane (or of four u8 · s8), modulo 2^32."""
    if kernels.lanes == VNNI.lanes:  # as assembly: the compiler spills fewer registers than with its own intrinsic
        instruction = "vpdpbusd" if fours else "vpdpwssd"
        type = ir.FunctionType(total.type, [total.type] * 3)
        return b.asm(type, f"{instruction} $2, $3, $0", "=v,0,v,v", [total, w, x], side_effect=False)
    halves = ir.VectorType(ir.IntType(16), 2 * total.type.count)
    name = "llvm.x86.avx2.pmadd.wd"
    function = b.module.globals.get(name) or ir.Function(b.module, ir.FunctionType(total.type, [halves] * 2), name)
    return b.add(total, b.call(function, [b.bitcast(w, halves), b.bitcast(x, halves)]))
