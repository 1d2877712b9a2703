"""What this machine can do, and small pieces of LLVM IR compiled for it.

selected()            the kernels that values are computed with: vnni, avx2 or portable
compiled(module)      the address of the function of that name, as machine code
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from xaisim.config import UserError

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
LANES = 16
"""Output channels are taken in groups of this many."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A register block: ``pixels`` × ``groups`` · 16 output channels."""

    pixels: int
    groups: int


@dataclass(frozen=True, slots=True)
class Kernels:
    """What a machine's instructions allow: 32-bit lanes of a vector, and the block shapes that fit its registers."""

    name: str
    lanes: int
    whole: tuple[Shape, ...]
    """Blocks of sums that fit 32 bits."""
    folded: tuple[Shape, ...]
    """Blocks of sums that are folded into two planes."""
    fours: bool
    """It multiplies 8-bit numbers by fours."""

    def shape_for(self, groups: int, *, fold: bool) -> Shape:
        """Return the widest block of at most ``groups`` · 16 channels."""
        return max((s for s in (self.folded if fold else self.whole) if s.groups <= groups), key=lambda s: s.groups)


VNNI = Kernels(
    "vnni", 16,
    whole=(Shape(6, 4), Shape(12, 2), Shape(12, 1)),
    folded=(Shape(3, 4), Shape(6, 2), Shape(12, 1)),
    fours=True,
)  # fmt: skip
AVX2 = Kernels("avx2", 8, whole=(Shape(5, 1),), folded=(Shape(5, 1),), fours=False)
PORTABLE = Kernels("portable", 0, (), (), fours=False)
_ALL = {kernels.name: kernels for kernels in (VNNI, AVX2, PORTABLE)}
MOST_PIXELS = 12


@cache
def selected() -> Kernels:
    """Return the kernels of this machine, or those that the environment variable ``XAISIM_KERNELS`` names.

    Raises :class:`UserError` for an unknown name, or one whose instructions this machine lacks.
    """
    features = llvm.get_host_cpu_features()
    able = [PORTABLE]
    if features.get("avx2"):
        able.insert(0, AVX2)
    if all(features.get(f) for f in ("avx512f", "avx512bw", "avx512vl", "avx512vnni")):
        able.insert(0, VNNI)
    wanted = os.environ.get("XAISIM_KERNELS", "")
    choices = ", ".join(kernels.name for kernels in able)
    if not wanted:
        return able[0]
    if _ALL.get(wanted) not in able:
        raise UserError(f"XAISIM_KERNELS must name what this machine can run, got {wanted!r}; choices: {choices}")
    return _ALL[wanted]


_engines: list[llvm.ExecutionEngine] = []


def compiled(module: ir.Module) -> int:
    """Return the address of the function that is called like its module; the code lives as long as the process."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3
    )
    engine = llvm.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    _engines.append(engine)
    return engine.get_function_address(module.name)


def load(b: ir.IRBuilder, address: ir.Value, type: ir.Type, align: int) -> ir.Value:
    """Append a load from an address given as an integer."""
    value = b.load(b.inttoptr(address, type.as_pointer()))
    value.align = align
    return value


def store(b: ir.IRBuilder, value: ir.Value, address: ir.Value, align: int) -> None:
    """Append a store to an address given as an integer."""
    b.store(value, b.inttoptr(address, value.type.as_pointer())).align = align


def broadcast(b: ir.IRBuilder, value: ir.Value, vector: ir.VectorType) -> ir.Value:
    """Append a vector whose lanes are all ``value``."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = b.insert_element(undefined, value, I32(0))
    return b.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, vector.count), [0] * vector.count))


@intrinsic
def call(typing_context, address, arguments):  # type: ignore[no-untyped-def] # noqa: ARG001
    """Call compiled code by its address with a tuple of 64-bit integers, from inside a numba function."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        function = ir.FunctionType(ir.VoidType(), [I64] * len(signature.args[1]))
        values = [builder.extract_value(args[1], i) for i in range(len(signature.args[1]))]
        builder.call(builder.inttoptr(args[0], function.as_pointer()), values)
        return context.get_dummy_value()

    return types.void(types.int64, arguments), generate
