"""The operators: one row each says which shape and format comes out, what it computes and what it multiplies.

    OPS["conv"].evaluate(node, x, w, b)

The same definitions serve real numbers (float64) and fixed point (int64). ``requant`` is the only one that rounds;
everything else is exact on integers. Arrays have a leading batch axis; a constant's batch axis has length 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xaisim.ir import kernels, noise, selection, softmax
from xaisim.ir.accumulate import limited
from xaisim.ir.types import Bits, FixedPoint, Format, TensorType

Array = np.ndarray
Shape = tuple[int, ...]
Attrs = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Node:
    """One SSA assignment: ``name = op(args) with attrs``, in the layer it came from."""

    name: str
    op: str
    args: tuple[str, ...]
    type: TensorType
    attrs: Attrs = field(default_factory=dict)
    layer: str = ""
    backward: bool = False

    def __str__(self) -> str:
        attrs = "".join(f" {key}={_short(value)}" for key, value in sorted(self.attrs.items()))
        return f"{self.name} = {self.op}({', '.join(self.args)}){attrs} : {self.type}"


def _short(value: Any) -> str:
    if isinstance(value, tuple) and len(value) > 4:  # one number per channel
        return f"{min(value)}..{max(value)}"
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


@dataclass(frozen=True, slots=True)
class Op:
    """Meaning of an operator: shape rule, format rule, definition and the multiply-accumulates it needs."""

    shape: Callable[[Sequence[Shape], Attrs], Shape]
    format: Callable[[Sequence[Format], Attrs, Shape], Format]
    evaluate: Callable[..., Array]
    macs: Callable[[Sequence[Shape], Node], int] = lambda _shapes, _node: 0


# --- shapes -----------------------------------------------------------------------------------------------------------


def _window_shape(shape: Shape, kernel: tuple[int, int], attrs: Attrs) -> tuple[int, int]:
    """Output (P, Q) of a window op; a dilated input has ``dilation − 1`` zeros between its elements."""
    top, left, bottom, right = attrs["padding"]
    stride, dilation = attrs.get("stride", (1, 1)), attrs.get("dilation", (1, 1))
    height = (shape[1] - 1) * dilation[0] + 1 + top + bottom
    width = (shape[2] - 1) * dilation[1] + 1 + left + right
    size = ((height - kernel[0]) // stride[0] + 1, (width - kernel[1]) // stride[1] + 1)
    if min(size) < 1 or (height < kernel[0] or width < kernel[1]):
        raise ValueError(f"a {kernel[0]}x{kernel[1]} window does not fit a padded input of {height}x{width}")
    return size


def _conv_shape(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    x, w = shapes[0], shapes[1]
    filters, channels = (w[1], w[0]) if attrs.get("transposed") else (w[0], w[1])
    if attrs.get("dilation", (1, 1)) != (1, 1) != attrs["stride"]:
        raise ValueError(f"conv with an input dilation needs stride 1x1, got {_short(attrs['stride'])}")
    if x[0] != channels:
        raise ValueError(f"conv weights take {channels} channels, the input has {x[0]}")
    _check_lift(filters, attrs)
    return (filters, *_window_shape(x, (w[2], w[3]), attrs))


def _linear_shape(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    x, w = shapes[0], shapes[1]
    outputs, inputs = (w[1], w[0]) if attrs.get("transposed") else w
    if x != (inputs,):
        raise ValueError(f"linear weights take {inputs} features, the input has shape {x}")
    _check_lift(outputs, attrs)
    return (outputs,)


def _check_lift(outputs: int, attrs: Attrs) -> None:
    lift = attrs.get("lift")
    if lift is not None and (len(lift) != outputs or min(lift) < 0 or max(lift) > 62):
        raise ValueError(f"lift has a shift of 0 to 62 for each of {outputs} channels, got {lift}")


def _pool_shape(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    return (shapes[0][0], *_window_shape(shapes[0], attrs["kernel"], attrs))


def _same_shape(shapes: Sequence[Shape], _attrs: Attrs) -> Shape:
    return shapes[0]


def _elementwise_shape(shapes: Sequence[Shape], _attrs: Attrs) -> Shape:
    """All operands have one shape; a scalar or a shape with ones stretches."""
    return tuple(np.broadcast_shapes(*shapes))


def _concat_shape(shapes: Sequence[Shape], _attrs: Attrs) -> Shape:
    if len({shape[1:] for shape in shapes}) != 1:
        raise ValueError(f"concat needs equal heights and widths, got {list(shapes)}")
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _slice_shape(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    if not 0 <= attrs["start"] < attrs["stop"] <= shapes[0][0]:
        raise ValueError(f"slice {attrs['start']}:{attrs['stop']} leaves the {shapes[0][0]} channels")
    return (attrs["stop"] - attrs["start"], *shapes[0][1:])


def _reshape_shape(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    if math.prod(shapes[0]) != math.prod(attrs["shape"]):
        raise ValueError(f"cannot reshape {shapes[0]} to {attrs['shape']}")
    return tuple(attrs["shape"])


def _row_shape(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    """A row of classes, (1, 1, C), of which ``target`` is one where there is a target."""
    shape = shapes[0]
    if len(shape) != 3 or shape[:2] != (1, 1) or not 0 <= attrs.get("target", 0) < shape[2]:
        raise ValueError(f"a softmax goes over a row (1, 1, classes) with its target among them, got {shape}")
    return shape


def _selection_shape(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    """One channel that is selected from as a whole, with a mask of the same shape."""
    shape = shapes[0]
    if len(shape) != 3 or shape[0] != 1 or shapes[1] != shape or not 1 <= attrs["count"] <= math.prod(shape):
        raise ValueError(
            f"a selection of 1 to all goes over one channel (1, rows, columns) and a mask of that shape, "
            f"got {attrs['count']} of {shape} and {shapes[1]}"
        )
    return shape


# --- formats ----------------------------------------------------------------------------------------------------------


def _first_format(formats: Sequence[Format], _attrs: Attrs, _shape: Shape) -> Format:
    return formats[0]


def _product_format(formats: Sequence[Format], attrs: Attrs, _shape: Shape) -> Format:
    """The exact sum of products: fractions add; ``bits`` is what the bound of this node was proven to need.

    Where weights have a scale per output channel, theirs is the finest channel's, and ``lift`` brings every sum there.
    """
    a, b = formats[0], formats[1]
    if not isinstance(a, FixedPoint) or not isinstance(b, FixedPoint):
        return None
    return FixedPoint(attrs.get("bits", a.bits + b.bits), a.frac + b.frac)


def _sum_format(formats: Sequence[Format], attrs: Attrs, _shape: Shape) -> Format:
    """The exact sum: operands with fewer fraction bits are shifted left by ``shifts`` first, which is exact."""
    fixed = [f for f in formats if isinstance(f, FixedPoint)]
    if not fixed:
        return None
    fractions = [f.frac + s for f, s in zip(fixed, attrs.get("shifts", (0,) * len(fixed)), strict=True)]
    if len(set(fractions)) != 1:
        raise ValueError(f"add needs operands with equal fraction bits, got {fractions}")
    return FixedPoint(attrs.get("bits", max(f.bits for f in fixed) + 1), fractions[0])


def _join_format(formats: Sequence[Format], _attrs: Attrs, _shape: Shape) -> Format:
    if len(set(formats)) != 1:
        raise ValueError(f"operands need one format, got {', '.join(map(str, formats))}")
    return formats[0]


def _selected_format(formats: Sequence[Format], attrs: Attrs, shape: Shape) -> Format:
    """That of both values; the mask has none."""
    return _join_format(formats[1:], attrs, shape)


def _mask_format(_formats: Sequence[Format], _attrs: Attrs, _shape: Shape) -> Format:
    return Bits(1)


def _index_format(_formats: Sequence[Format], attrs: Attrs, _shape: Shape) -> Format:
    return Bits(max(1, (math.prod(attrs["kernel"]) - 1).bit_length()))


def _requant_format(_formats: Sequence[Format], attrs: Attrs, _shape: Shape) -> Format:
    return attrs["to"]


def _noise_format(formats: Sequence[Format], _attrs: Attrs, _shape: Shape) -> Format:
    trip = formats[0]
    if trip is not None and not (isinstance(trip, FixedPoint) and trip.frac == 0):
        raise ValueError(f"noise follows from the number of a trip, an integer, not {trip}")
    return None if trip is None else noise.UNIT


def _seed_format(formats: Sequence[Format], _attrs: Attrs, _shape: Shape) -> Format:
    """Shares of 1, with a sign."""
    return None if formats[0] is None else FixedPoint(softmax.SEED_FRAC + 2, softmax.SEED_FRAC)


def _sign_format(formats: Sequence[Format], _attrs: Attrs, _shape: Shape) -> Format:
    """−1, 0 or 1."""
    return None if formats[0] is None else FixedPoint(2, 0)


# --- definitions ------------------------------------------------------------------------------------------------------


def _bound(node: Node) -> int | None:
    """The largest |integer| that this exact sum can reach (before its lift), or None for real numbers."""
    return None if node.type.format is None else int(node.attrs["bound"])


def turned(w: Array) -> Array:
    """Return conv weights as the input gradient reads them: W'[c, k, u, v] = W[k, c, R−1−u, S−1−v]."""
    return np.ascontiguousarray(w.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1])


def _conv(node: Node, x: Array, w: Array, b: Array | None = None) -> Array:
    if len(w) > 1:  # weights of its own for every sample, as in a GradCAM whose channel weights are data
        return np.concatenate([_conv(node, x[n : n + 1], w[n : n + 1], b) for n in range(len(w))])
    filters = turned(w[0]) if node.attrs.get("transposed") else w[0]
    _, P, Q = node.type.shape
    corner, size = node.attrs["padding"][:2], (P, Q)
    dilation = node.attrs.get("dilation", (1, 1))
    if dilation == (1, 1):
        y = kernels.correlate(x, filters, node.attrs["stride"], corner, size, _bound(node))
    else:
        y = kernels.correlate_dilated(x, filters, dilation, corner, size, _bound(node))
    y = _lifted(node, y)
    return y if b is None else y + b[0][:, None, None]


def _lifted(node: Node, y: Array) -> Array:
    """Shift every channel of a sum (N, K, …) left, where the weights' channels have scales of their own."""
    lift = node.attrs.get("lift")
    return y if lift is None else y << np.array(lift).reshape(-1, *(1,) * (y.ndim - 2))


def _linear(node: Node, x: Array, w: Array, b: Array | None = None) -> Array:
    matrix = w[0].T if node.attrs.get("transposed") else w[0]
    y = _lifted(node, kernels.matmul(matrix, x[:, :, None], _bound(node))[:, :, 0])
    return y if b is None else y + b[0]


def _pool(node: Node, x: Array) -> tuple[Array, Array]:
    out = np.empty((len(x), *node.type.shape), x.dtype)
    index = np.empty(out.shape, np.int64)
    kernels.max_pool(x, out, index, *node.attrs["kernel"], *node.attrs["stride"], *node.attrs["padding"][:2])
    return out, index


def _unpool(node: Node, g: Array, index: Array) -> Array:
    out = np.zeros((max(len(g), len(index)), *node.type.shape), g.dtype)
    g = np.broadcast_to(g, (len(out), *g.shape[1:]))
    index = np.broadcast_to(index, (len(out), *index.shape[1:]))
    kernels.max_unpool(g, index, out, node.attrs["kernel"][1], *node.attrs["stride"], *node.attrs["padding"][:2])
    return out


def _avgpool(node: Node, x: Array, scale: Array) -> Array:
    out = np.empty((len(x), *node.type.shape), x.dtype)
    attrs = node.attrs
    dilation = attrs.get("dilation", (1, 1))
    kernels.window_sum(x, out, *attrs["kernel"], *attrs["stride"], *attrs["padding"][:2], *dilation)
    return out * scale.reshape(-1, 1, 1, 1)


def _stretch(node: Node, a: Array) -> Array:
    """Give a scalar-per-sample operand the rank of the result, so that it multiplies whole samples."""
    missing = len(node.type.shape) - (a.ndim - 1)
    return a.reshape(len(a), *(1,) * missing, *a.shape[1:])


def _terms(node: Node, a: Array, b: Array) -> tuple[Array, Array]:
    """Return the operands of a sum in one rank and, if they are integers, with one fraction."""
    shift_a, shift_b = node.attrs.get("shifts", (0, 0))
    a, b = _stretch(node, a), _stretch(node, b)
    return (a << shift_a if shift_a else a), (b << shift_b if shift_b else b)


def _add(node: Node, a: Array, b: Array) -> Array:
    a, b = _terms(node, a, b)
    return a + b


def _sub(node: Node, a: Array, b: Array) -> Array:
    a, b = _terms(node, a, b)
    return a - b


def _upsample(node: Node, x: Array, rows: Array, columns: Array) -> Array:
    out = np.matmul(np.matmul(rows[0], x), columns[0].T)
    return out.reshape(len(x), *node.type.shape)


def _select(node: Node, mask: Array, a: Array, b: Array) -> Array:
    return np.where(_stretch(node, mask) != 0, _stretch(node, a), _stretch(node, b))


def _softmax_seed(node: Node, x: Array) -> Array:
    if node.type.format is None:
        return softmax.real_seed(x, node.attrs["target"])
    return softmax.seed(x, node.attrs["target"], node.attrs["frac"])


def _noise(node: Node, trip: Array) -> Array:
    """Noise of deviation 1, the same numbers on real and on integer operands."""
    numbers = noise.on_chip(node.type.shape, node.attrs["seed"], trip)
    return numbers * noise.UNIT.step if node.type.format is None else numbers


def _softmax(node: Node, x: Array) -> Array:
    return softmax.real(x) if node.type.format is None else softmax.probabilities(x, node.attrs["frac"])


# --- work -------------------------------------------------------------------------------------------------------------


def _conv_macs(shapes: Sequence[Shape], node: Node) -> int:
    w = shapes[1]
    dilation = node.attrs.get("dilation", (1, 1))
    rows, columns = (
        sum(taps * outputs for _, _, taps, _, outputs in kernels.phases(w[2 + i], pad, d, size))
        for i, (pad, d, size) in enumerate(
            zip(node.attrs["padding"][:2], dilation, node.type.shape[1:], strict=True),
        )
    )
    return w[0] * w[1] * rows * columns


def _linear_macs(shapes: Sequence[Shape], _node: Node) -> int:
    return math.prod(shapes[1])


OPS: dict[str, Op] = {
    # sums of products, on the array
    "conv": Op(_conv_shape, _product_format, limited(_conv), _conv_macs),
    "linear": Op(_linear_shape, _product_format, limited(_linear), _linear_macs),
    # windows, on the vector unit
    "maxpool": Op(_pool_shape, _first_format, lambda node, x: _pool(node, x)[0]),
    "pool_index": Op(_pool_shape, _index_format, lambda node, x: _pool(node, x)[1]),
    "unpool": Op(lambda _shapes, attrs: attrs["shape"], _sum_format, _unpool),
    "avgpool": Op(_pool_shape, _product_format, _avgpool),
    "upsample": Op(
        lambda shapes, _attrs: (shapes[0][0], shapes[1][0], shapes[2][0]),
        lambda f, attrs, _shape: (
            None if f[0] is None else FixedPoint(attrs["bits"], sum(x.frac for x in f if isinstance(x, FixedPoint)))
        ),
        _upsample,
    ),
    "softmax": Op(_row_shape, _seed_format, _softmax),
    "softmax_seed": Op(_row_shape, _seed_format, _softmax_seed),
    # made on the chip: a number per element, from registers that know the number of the trip
    "noise": Op(lambda _shapes, attrs: attrs["shape"], _noise_format, _noise),
    "smallest": Op(
        _selection_shape, _mask_format, lambda node, x, mask: selection.smallest(x, mask, node.attrs["count"])
    ),
    # element by element, on the vector unit
    "relu": Op(_same_shape, _first_format, lambda _node, x: np.maximum(x, 0)),
    "positive": Op(_same_shape, _mask_format, lambda _node, x: (x > 0).astype(np.int64)),
    "sign": Op(_same_shape, _sign_format, lambda _node, x: np.sign(x)),
    "gate": Op(_same_shape, _first_format, lambda _node, g, mask: np.where(mask != 0, g, 0)),
    "add": Op(_elementwise_shape, _sum_format, _add),
    "sub": Op(_elementwise_shape, _sum_format, _sub),
    "select": Op(_elementwise_shape, _selected_format, _select),
    "maximum": Op(
        _elementwise_shape, _join_format, lambda node, a, b: np.maximum(_stretch(node, a), _stretch(node, b))
    ),
    "minimum": Op(
        _elementwise_shape, _join_format, lambda node, a, b: np.minimum(_stretch(node, a), _stretch(node, b))
    ),
    "mul": Op(_elementwise_shape, _product_format, lambda node, a, b: _stretch(node, a) * _stretch(node, b)),
    "accumulate": Op(_same_shape, _sum_format, lambda _node, x: x.sum(axis=0, keepdims=True)),
    "requant": Op(
        _same_shape,
        _requant_format,
        lambda node, x: kernels.requant(x, node.attrs["from_frac"], node.attrs["to"]),
    ),
    # another view of the same memory
    "concat": Op(_concat_shape, _join_format, lambda _node, *xs: np.concatenate(_batched(xs), axis=1)),
    "slice": Op(_slice_shape, _first_format, lambda node, x: x[:, node.attrs["start"] : node.attrs["stop"]]),
    "reshape": Op(_reshape_shape, _first_format, lambda node, x: x.reshape(len(x), *node.attrs["shape"])),
}

VIEWS = frozenset({"concat", "slice", "reshape"})


def _batched(arrays: Sequence[Array]) -> list[Array]:
    count = max(len(a) for a in arrays)
    return [np.broadcast_to(a, (count, *a.shape[1:])) for a in arrays]


def infer(op: str, types: Sequence[TensorType], attrs: Attrs) -> TensorType:
    """Return the type of ``op`` on operands of ``types``, or raise ``ValueError`` with the broken rule."""
    rule = OPS[op]
    shape = rule.shape([t.shape for t in types], attrs)
    return TensorType(shape, rule.format([t.format for t in types], attrs, shape))
