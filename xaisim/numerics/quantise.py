"""Turn a graph of real numbers into one of fixed-point integers in which only ``requant`` rounds.

    quantise(graph, formats, accumulator_bits=48)

Every sum of products becomes an exact node ``<name>.exact`` of a proven bound, followed by a ``requant``. Where the
accumulator is to wrap or saturate, a sum whose bound does not fit says so in its ``accumulator``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from xaisim.config import UserError
from xaisim.hardware.array import AccumulatorPolicy
from xaisim.ir.accumulate import Accumulator
from xaisim.ir.graph import Constant, Graph, GraphBuilder
from xaisim.ir.ops import Attrs, Node
from xaisim.ir.types import FixedPoint, TensorType
from xaisim.numerics.channels import scale_channels
from xaisim.numerics.formats import Formats, fitting, to_integers

_WIDEST = 64  # bits of an exact sum on the vector unit: int64
_MOST_SUM_FRAC = 128
_ARRAY_OPS = ("conv", "linear")
Integers = dict[tuple[object, ...], tuple[np.ndarray, np.ndarray]]
"""Integers of weights by identity and format, with the real numbers, which keeps the identity theirs."""
_WIDENS = {"accumulator": " or a wider accumulator_bits", "partial-sum memory": " or a wider psum_bits"}


def quantise(
    graph: Graph,
    formats: Formats,
    *,
    accumulator_bits: int,
    policy: AccumulatorPolicy = "proven",
    psum_bits: int | None = None,
    inputs: Mapping[str, FixedPoint] | None = None,
    made: Integers | None = None,
) -> Graph:
    """Return ``graph`` in fixed point.

    ``inputs`` overrides the format of inputs that another kernel hands over as they are. A sum of the array that may
    exceed ``accumulator_bits`` (or, in memory, ``psum_bits``) gets an ``accumulator`` of the ``policy``; if that is
    ``proven``, and for sums of other units, :class:`UserError` names the bound and the width that would do.
    Kernels over the same weights share their integers through ``made``.
    """
    accumulator = Accumulator(policy, accumulator_bits, psum_bits or accumulator_bits)
    q = _Quantiser(graph, formats, accumulator, {} if made is None else made)
    for name, type in graph.inputs.items():
        given = (inputs or {}).get(name)
        q.input(name, TensorType(type.shape, given or formats.of(name, host=True)), per_trip=name in graph.per_trip)
    for node in graph.nodes:
        q.lower(node)
    return q.build(*(q.output(name) for name in graph.outputs))


class _Quantiser(GraphBuilder):
    """Walks the real graph once and appends the fixed one."""

    def __init__(self, graph: Graph, formats: Formats, accumulator: Accumulator, made: Integers) -> None:
        super().__init__()
        self.made = made
        self.graph = graph
        self.formats = formats
        self.accumulator = accumulator
        self.users = graph.users()
        self.by_name = {node.name: node for node in graph.nodes}
        self.order = {name: i for i, name in enumerate(graph.types())}
        self.positive = _never_negative(graph)
        self.lifts: dict[str, tuple[int, ...]] = {}
        self.bias_peaks: dict[str, int] = {}

    def lower(self, node: Node) -> None:
        """Append the fixed-point form of one node."""
        self.layer, self.backward = node.layer, node.backward
        if self.formats.numerics.per_channel and node.op in _ARRAY_OPS and node.args[1] in self.graph.constants:
            node = self.scaled_by_channel(node)
        for arg in node.args:
            self.need(arg, node)
        if node.op in _BOUNDS:
            self.exact(node)
        elif node.op in ("positive", "sign"):
            self.copy(node, args=(self.before_rounding(node.args[0]),))
        elif node.op in ("softmax", "softmax_seed"):
            frac = self.fixed(node.args[0]).frac
            exact = self.copy(node, name=f"{node.name}.exact", attrs={**node.attrs, "frac": frac})
            self.add(node.name, "requant", exact, from_frac=self.fixed(exact).frac, to=self.format_of(node))
        elif node.op == "concat":
            to = self.format_of(node)
            self.copy(node, args=tuple(self.requant(f"{a}.to.{node.name}", a, to) for a in node.args))
        elif node.op == "accumulate":
            grown = self.fixed(node.args[0]).bits + int(node.attrs["trips"]).bit_length()
            self.prove(node, grown - 1, "vector unit", _WIDEST)
            self.copy(node, attrs={**node.attrs, "bits": grown})
        else:
            self.copy(node)

    def scaled_by_channel(self, node: Node) -> Node:
        """Return the node with weights scaled per output channel, quantising them when they are first read.

        Turned weights have other output channels, hence other scales: they are a second tensor. Weights that are
        computed have one format like any other tensor.
        """
        x, w, *biases = node.args
        self.need(x, node)
        transposed = bool(node.attrs.get("transposed"))
        name = f"{w}.transposed" if transposed else w
        if name not in self.lifts:
            constant = self.graph.constants[w]
            bias = self.graph.constants[biases[0]].value if biases else None
            scaled = scale_channels(
                name,
                constant,
                int(transposed),
                self.formats,
                peak=self.peak(x),
                bias=None if bias is None else np.ldexp(bias, self.fixed(x).frac),
                bias_bits=self.accumulator.bits,
            )
            key = (id(constant.value), scaled.format, scaled.lift, transposed)
            value = self.shared(key, constant, scaled.value)
            self.constant(name, value, TensorType(constant.type.shape, scaled.format), chosen=constant.chosen)
            self.lifts[name] = scaled.lift
        return replace(node, args=(x, name, *biases), attrs={**node.attrs, "lift": self.lifts[name]})

    def exact(self, node: Node) -> None:
        """Append the exact sum, and the requant behind it unless the next sum takes the exact value."""
        attrs = dict(node.attrs)
        if node.op in ("add", "sub"):
            fractions = [self.fixed(arg).frac for arg in node.args]
            attrs["shifts"] = tuple(max(fractions) - frac for frac in fractions)
        bound = _BOUNDS[node.op](self, node, attrs)
        if node.op in _ARRAY_OPS:
            attrs |= self.limited(node, bound)
        else:
            self.prove(node, bound.bit_length(), "vector unit", _WIDEST)
        bits = max(2, bound.bit_length() + 1)
        if "lift" in attrs:
            whole = self.lifted(node, attrs)
            self.prove(node, whole.bit_length(), "vector unit", _WIDEST)
            bits = max(2, whole.bit_length() + 1)
        elif "accumulator" in attrs:
            bits = self.accumulator.psum_bits
        attrs |= {"bound": bound, "bits": bits}
        if self.flows_on(node):
            self.copy(node, attrs=attrs)
            return
        exact = self.copy(node, name=f"{node.name}.exact", attrs=attrs)
        self.add(node.name, "requant", exact, from_frac=self.fixed(exact).frac, to=self.format_of(self.stored_as(node)))

    def limited(self, node: Node, bound: int) -> Attrs:
        """Prove that the array's sum fits, or return the accumulator that wraps or saturates where it need not."""
        limit = self.accumulator
        if limit.policy == "proven":
            self.prove(node, bound.bit_length(), "accumulator", limit.bits)
            self.prove(node, bound.bit_length(), "partial-sum memory", limit.psum_bits)
        return {"accumulator": limit} if bound.bit_length() + 1 > limit.psum_bits else {}

    def flows_on(self, node: Node) -> bool:
        """Return whether the exact value is handed on as it is: where the node is ``exact``, whoever reads it.

        Else the only reader is a sum that can take it before it is rounded and stored. Of an addition's operands that
        is the one computed last: the sum happens where it comes out of the array. A running sum takes products as they
        are; the width of any other sum depends on the weights' values, and so would the traffic of a sum of it.
        """
        users = self.users[node.name]
        if node.attrs.get("exact"):
            return True
        if len(users) != 1 or node.name in self.graph.outputs:
            return False
        if users[0].op == "accumulate":
            return self.formats.numerics.running_sum is None and node.op == "mul"
        return users[0].op in ("add", "sub") and node.name == max(users[0].args, key=lambda arg: self.order[arg])

    def before_rounding(self, name: str) -> str:
        """Return the exact sum behind a ReLU's output: a mask is the sign of the accumulator, before it is rounded."""
        node = self.by_name.get(name)
        while node is not None and node.op == "relu":
            name = node.args[0]
            node = self.by_name.get(name)
        return f"{name}.exact" if f"{name}.exact" in self.types else name

    def format_of(self, node: Node) -> FixedPoint:
        """Return the calibrated format of a node's result."""
        term = any(user.op == "accumulate" for user in self.users[node.name])
        return self.formats.of(node.name, backward=node.backward, signed=node.name not in self.positive, term=term)

    def prove(self, node: Node, magnitude_bits: int, unit: str, width: int) -> None:
        """Refuse a sum whose magnitude needs more than the unit has."""
        if magnitude_bits + 1 > width:
            wider = "" if magnitude_bits >= _WIDEST else _WIDENS.get(unit, "")
            raise UserError(
                f"{node.name}: the {unit} of {width} bits cannot hold a sum of up to 2^{magnitude_bits}; it needs "
                f"{magnitude_bits + 1} bits (narrower formats{wider} would do)"
            )

    def prove_bias(self, name: str, format: FixedPoint) -> None:
        """Refuse a bias that its format would saturate; one that starts an accumulator is part of that one's bound."""
        bits = self.bias_peaks[name].bit_length() + 1
        if bits > format.bits:
            raise UserError(
                f"{name}: at {format.frac} fraction bits the largest bias takes {bits} bits, more than the "
                f"{format.bits} of accumulator_bits (narrower formats or a wider accumulator_bits would do)"
            )

    def stored_as(self, node: Node) -> Node:
        """Return the node whose range decides the format: what a ReLU or gate lets through, where that is all.

        Values that are cut to zero right away need no range; masks look at the value behind the ReLU.
        """
        if node.name in self.graph.outputs:
            return node
        users = [user for user in self.users[node.name] if user.op != "positive"]
        only = users[0] if len(users) == 1 else None
        if only is None or only.op not in ("relu", "gate", "concat"):
            return node
        if only.op == "gate" and only.args[0] != node.name:
            return node
        return self.stored_as(only)

    def requant(self, name: str, arg: str, to: FixedPoint) -> str:
        """Append a change of format, even one that changes nothing: the structure must not depend on the numbers."""
        name = name if name not in self.types else f"{name}.b"
        return self.add(name, "requant", arg, from_frac=self.fixed(arg).frac, to=to)

    def fixed(self, name: str) -> FixedPoint:
        """Return the fixed-point format of a tensor of the new graph."""
        format = self.types[name].format
        if not isinstance(format, FixedPoint):
            raise TypeError(f"{name} has no fixed-point format but {format}")
        return format

    def need(self, name: str, user: Node) -> None:
        """Quantise a constant when it is first read; a bias takes the fraction of the sum it joins."""
        if name in self.types or name not in self.graph.constants:
            return
        constant = self.graph.constants[name]
        if user.op in _ARRAY_OPS and name in user.args[2:]:
            frac = self.fixed(user.args[0]).frac + self.fixed(user.args[1]).frac
            format = FixedPoint(self.accumulator.bits, frac)
            if constant.value is not None:
                largest = math.ldexp(float(np.abs(constant.value).max(initial=0)), frac)
                self.bias_peaks[name] = math.floor(largest + 0.5)
                if "lift" in user.attrs:
                    self.prove_bias(name, format)
        else:
            others = [self.fixed(arg).bits for arg in user.args if arg in self.types and self.is_number(arg)]
            room = _WIDEST - max(others) if constant.type.shape == () and others else _WIDEST
            format = self.formats.of_constant(name, constant.value, constant.type.shape, room)
        value = self.integers(constant, format)
        if constant.value is not None and name not in self.bias_peaks:
            self.check_uniform(name, constant.value, format)
        self.constant(name, value, TensorType(constant.type.shape, format), chosen=constant.chosen)

    def integers(self, constant: Constant, format: FixedPoint) -> np.ndarray | None:
        """Return a constant in integers; those of weights are made once, those chosen for a class come and go."""
        if constant.value is None:
            return None
        key = (id(constant.value), format)
        return (
            self.made[key][1] if key in self.made else self.shared(key, constant, to_integers(constant.value, format))
        )

    def shared(self, key: tuple[object, ...], constant: Constant, integers: np.ndarray | None) -> np.ndarray | None:
        """Return the integers that were made first under ``key``: what is packed for them stays usable."""
        if constant.value is None or integers is None or constant.chosen:
            return integers
        return self.made.setdefault(key, (constant.value, integers))[1]

    def check_uniform(self, name: str, value: np.ndarray, format: FixedPoint) -> None:
        """Refuse a uniform format in which nothing is left of a constant but signs."""
        if self.formats.numerics.uniform is None:
            return
        magnitude = np.abs(value[value != 0])
        if not magnitude.size:
            return
        whole = np.floor(np.ldexp(magnitude, format.frac) + 0.5)
        for lost, verb in ((whole == 0, "round to zero"), (whole > format.high + 1, "saturate")):
            if lost.all():
                holds = fitting(float(magnitude.max()), format.bits)
                raise UserError(
                    f"{name}: uniform {format} is too narrow: all its values, {magnitude.min():.3g} to "
                    f"{magnitude.max():.3g} without their signs, {verb} ({holds} would hold them)"
                )

    def is_number(self, name: str) -> bool:
        """Return whether a tensor of the new graph is fixed point (and no mask or index)."""
        return isinstance(self.types[name].format, FixedPoint)

    def output(self, name: str) -> str:
        """Return an output's name, quantising it where it is a constant that no node reads."""
        if name in self.graph.constants and name not in self.types:
            constant = self.graph.constants[name]
            format = self.formats.of_constant(name, constant.value, constant.type.shape)
            value = None if constant.value is None else to_integers(constant.value, format)
            self.constant(name, value, TensorType(constant.type.shape, format), chosen=constant.chosen)
        return name

    # --- bounds: the largest |integer| an exact sum can reach ---------------------------------------------------------

    def peak(self, name: str) -> int:
        """Return the largest |integer| of a tensor: its value's where it is constant, its format's otherwise.

        A bias counts unsaturated, so that a sum that starts with it is refused with the width that would do.
        """
        if name in self.bias_peaks:
            return self.bias_peaks[name]
        constant: Constant | None = self.constants.get(name)
        if constant is not None and constant.value is not None:
            return int(np.abs(constant.value).max(initial=0))
        return max(-self.fixed(name).low, self.fixed(name).high)

    def norms(self, node: Node) -> list[int] | None:
        """Return Σ|w| of every output channel, or None for weights that are not known."""
        constant: Constant | None = self.constants.get(node.args[1])
        if constant is None or constant.value is None:
            return None
        outputs = 1 if node.attrs.get("transposed") else 0
        axes = tuple(i for i in range(constant.value.ndim) if i != outputs)
        return list(map(int, np.abs(constant.value).sum(axis=axes)))

    def lifted(self, node: Node, attrs: Attrs) -> int:
        """The worst channel's Σ|w|·max|x| after its lift, + |b|; without values, as far as the vector unit goes."""
        norms, biases = self.norms(node), sum(self.peak(b) for b in node.args[2:])
        if norms is None:
            return min(self.products(node, attrs) + biases, (1 << (_WIDEST - 1)) - 1)
        peak = self.peak(node.args[0])
        return max(norm * peak << shift for norm, shift in zip(norms, attrs["lift"], strict=True)) + biases

    def products(self, node: Node, attrs: Attrs) -> int:
        """Σ|w|·max|x| + |b| of the worst output, or the formats' worst case for weights that are not known.

        A bias joins behind the lift, where there is one: the array's sum is then without it.
        """
        x, w = node.args[0], node.args[1]
        shape = self.types[w].shape
        norms = self.norms(node)
        if norms is not None:
            return max(norms) * self.peak(x) + (0 if "lift" in attrs else sum(self.peak(b) for b in node.args[2:]))
        outputs = shape[1] if node.attrs.get("transposed") else shape[0]
        worst = math.prod(shape) // outputs * self.peak(w) * self.peak(x)
        # Without values (a dry run) nothing can be proven or refused.
        return worst if w not in self.constants else min(worst, (1 << (self.accumulator.psum_bits - 1)) - 1)

    def product(self, node: Node, attrs: Attrs) -> int:  # noqa: ARG002
        """|a|·|b|."""
        return self.peak(node.args[0]) * self.peak(node.args[1])

    def window(self, node: Node, attrs: Attrs) -> int:
        """A whole window times its scale."""
        return math.prod(attrs["kernel"]) * self.product(node, attrs)

    def sum(self, node: Node, attrs: Attrs) -> int:
        """|a| + |b|, each shifted to the common fraction."""
        return sum(self.peak(arg) << shift for arg, shift in zip(node.args, attrs["shifts"], strict=True))

    def overlap(self, node: Node, attrs: Attrs) -> int:
        """Every window that covers a place may route its gradient there."""
        windows = (math.ceil(k / s) for k, s in zip(attrs["kernel"], attrs["stride"], strict=True))
        return math.prod(windows) * self.peak(node.args[0])

    def interpolated(self, node: Node, attrs: Attrs) -> int:  # noqa: ARG002
        """Σ|row|·Σ|column|·max|x|."""
        frac = sum(self.fixed(arg).frac for arg in node.args)
        if abs(frac) > _MOST_SUM_FRAC:
            raise UserError(
                f"{node.name}: its sum would have {frac} fraction bits, and no more than {_MOST_SUM_FRAC} are carried "
                f"(fewer fraction bits of {', '.join(node.args)} would do)"
            )
        norms = [
            int(np.abs(c.value).sum(axis=1).max()) if c.value is not None else 2 * self.peak(name)
            for name, c in ((name, self.constants[name]) for name in node.args[1:])
        ]
        return math.prod(norms) * self.peak(node.args[0])


_BOUNDS = {
    "conv": _Quantiser.products,
    "linear": _Quantiser.products,
    "mul": _Quantiser.product,
    "avgpool": _Quantiser.window,
    "add": _Quantiser.sum,
    "sub": _Quantiser.sum,
    "unpool": _Quantiser.overlap,
    "upsample": _Quantiser.interpolated,
}


def _never_negative(graph: Graph) -> set[str]:
    """Names of tensors that a ReLU made, and what keeps their sign."""
    names: set[str] = set()
    for node in graph.nodes:
        data = node.args[:1] if node.op == "avgpool" else node.args
        keeps = node.op in ("maxpool", "avgpool", "concat", "slice", "reshape") and all(a in names for a in data)
        if node.op == "relu" or keeps:
            names.add(node.name)
    return names
