"""What the model says of a product: the values of the fixed-point device, the cycles of the closed form.

values, terms = expected(design, product)
"""

from __future__ import annotations

import numpy as np

from xaisim.hardware.array import FoldTerms, systolic_cycles
from xaisim.ir.accumulate import Accumulator
from xaisim.ir.kernels import requant
from xaisim.ir.ops import OPS, Node
from xaisim.ir.types import FixedPoint, TensorType
from xaisim.mapping.order import order_of
from xaisim.rtl.bench import Product
from xaisim.rtl.design import Design


def expected(design: Design, product: Product) -> tuple[np.ndarray, FoldTerms]:
    """Return outputs (M, N) and cycles of a product with a bias per filter, or none."""
    array, (M, K, N) = design.array, product.sizes
    operands = [product.x.astype(np.int64), product.w.T[None].astype(np.int64)]
    attrs = _attrs(design, K)
    if product.lift is not None:
        attrs["lift"] = tuple(product.lift.tolist())
    if product.initial is not None:
        operands.append(product.initial.reshape(1, N).astype(np.int64))
    node = Node("y", "linear", ("x", "w", "b")[: len(operands)], TensorType((N,), FixedPoint(64, 0)), attrs)
    sums = OPS["linear"].evaluate(node, *operands)
    return requant(sums, design.outputs.frac + product.shift, design.outputs), systolic_cycles(array, M, K, N)


def _attrs(design: Design, K: int) -> dict[str, object]:
    """Return the attributes that the quantiser and the mapper would give the node, where a sum need not fit."""
    array = design.array
    bound = (K + 1) << max(design.inputs.bits + design.weights.bits, array.accumulator_bits)
    attrs: dict[str, object] = {"transposed": False, "bound": bound}
    if array.accumulator != "proven":
        order = order_of(array, K)
        attrs["accumulator"] = Accumulator(array.accumulator, array.accumulator_bits, array.stored_sum_bits, order)
    return attrs
