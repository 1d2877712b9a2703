"""The graph: SSA nodes in topological order over named inputs and constants, and its evaluator.

x   = input                     3x32x32 real
c1  = conv(x, conv1.weight)     ...
outputs c1
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from xaisim.ir.ops import OPS, Node, infer
from xaisim.ir.types import TensorType

Array = np.ndarray
Observer = Callable[[str, Array], None]


@dataclass(frozen=True, slots=True)
class Constant:
    """A tensor known at compile time; ``value`` is None where only its shape matters (the dry device)."""

    type: TensorType
    value: Array | None = None
    chosen: bool = False
    """The host picks it from a table once it has seen the logits (the explained class's row of a head)."""


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A kernel: everything between its inputs and its outputs, forward and backward alike.

    Two graphs are equal only if they are one: what is made of a graph may be remembered by it.
    """

    inputs: dict[str, TensorType]
    constants: dict[str, Constant]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    per_trip: frozenset[str] = frozenset()
    """Inputs of which every trip reads one of its own, beside the scalars, which all are such tables."""

    def type_of(self, name: str) -> TensorType:
        """Return the type of any tensor of the graph."""
        return self.types()[name]

    def types(self) -> dict[str, TensorType]:
        """Return the type of every tensor: inputs, constants and nodes."""
        return {
            **self.inputs,
            **{name: c.type for name, c in self.constants.items()},
            **{node.name: node.type for node in self.nodes},
        }

    def node(self, name: str) -> Node:
        """Return the node that defines ``name``."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(f"no node {name!r} in the graph")

    def users(self) -> dict[str, list[Node]]:
        """Return the nodes that read each tensor."""
        readers: dict[str, list[Node]] = {name: [] for name in self.types()}
        for node in self.nodes:
            for arg in dict.fromkeys(node.args):
                readers[arg].append(node)
        return readers

    def macs(self, *, backward: bool | None = None) -> int:
        """Count multiply-accumulates of conv and linear nodes, of one direction where ``backward`` is given."""
        types = self.types()
        return sum(
            OPS[node.op].macs([types[a].shape for a in node.args], node)
            for node in self.nodes
            if backward is None or node.backward == backward
        )

    def __str__(self) -> str:
        lines = [
            f"{name} = input{' per trip' if name in self.per_trip else ''} : {t}" for name, t in self.inputs.items()
        ]
        lines += [f"{name} = constant : {c.type}" for name, c in self.constants.items()]
        lines += [str(node) for node in self.nodes]
        return "\n".join([*lines, f"outputs {', '.join(self.outputs)}"])


class GraphBuilder:
    """Collects nodes in topological order, inferring every type on the way in."""

    def __init__(self, start: Graph | None = None) -> None:
        self.inputs: dict[str, TensorType] = dict(start.inputs) if start else {}
        self.constants: dict[str, Constant] = dict(start.constants) if start else {}
        self.nodes: list[Node] = list(start.nodes) if start else []
        self.per_trip: set[str] = set(start.per_trip) if start else set()
        self.types: dict[str, TensorType] = start.types() if start else {}
        self.layer = ""
        self.backward = False

    def input(self, name: str, type: TensorType, *, per_trip: bool = False) -> str:
        """Add an input; ``per_trip``: every trip reads one of its own."""
        self.inputs[name] = self.types[self._new(name)] = type
        self.per_trip |= {name} if per_trip else set()
        return name

    def constant(self, name: str, value: Array | None, type: TensorType | None = None, *, chosen: bool = False) -> str:
        """Add a constant; ``type`` is needed where the value is unknown or carries a format."""
        if type is None:
            if value is None:
                raise ValueError(f"constant {name!r} needs a type or a value")
            type = TensorType(tuple(value.shape))
        self.constants[name] = Constant(type, value, chosen)
        self.types[self._new(name)] = type
        return name

    def add(self, name: str, op: str, *args: str, layer: str | None = None, **attrs: object) -> str:
        """Append ``name = op(args)`` and return ``name``."""
        if op not in OPS:
            raise ValueError(f"unknown op {op!r}; choices: {', '.join(OPS)}")
        try:
            type = infer(op, [self.types[a] for a in args], attrs)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        where = self.layer if layer is None else layer
        self.nodes.append(Node(self._new(name), op, args, type, dict(attrs), where, self.backward))
        self.types[name] = type
        return name

    def copy(self, node: Node, **changes: object) -> str:
        """Append a node of another graph, its type inferred anew."""
        node = replace(node, **changes)  # type: ignore[arg-type]
        type = infer(node.op, [self.types[a] for a in node.args], node.attrs)
        self.nodes.append(replace(node, name=self._new(node.name), type=type))
        self.types[node.name] = type
        return node.name

    def build(self, *outputs: str) -> Graph:
        """Return the graph of everything the outputs need; unused inputs stay, unused nodes and constants go."""
        return prune(Graph(self.inputs, self.constants, tuple(self.nodes), outputs, frozenset(self.per_trip)))

    def _new(self, name: str) -> str:
        if name in self.types:
            raise ValueError(f"the name {name!r} is defined twice")
        return name


def prune(graph: Graph) -> Graph:
    """Drop nodes and constants that no output needs."""
    needed = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.name in needed:
            kept.append(node)
            needed.update(node.args)
    constants = {name: c for name, c in graph.constants.items() if name in needed}
    return replace(graph, inputs=dict(graph.inputs), constants=constants, nodes=tuple(reversed(kept)))


def depends(graph: Graph, name: str, on: str) -> bool:
    """Return whether a tensor follows from another one."""
    needed = {name}
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.args)
    return on in needed


def verify(graph: Graph) -> None:
    """Raise ``ValueError`` unless the graph is SSA in topological order, of known ops and of right types."""
    types: dict[str, TensorType] = {**graph.inputs, **{name: c.type for name, c in graph.constants.items()}}
    for node in graph.nodes:
        if node.op not in OPS:
            raise ValueError(f"{node.name}: unknown op {node.op!r}; choices: {', '.join(OPS)}")
        if node.name in types:
            raise ValueError(f"{node.name} is defined twice")
        missing = [arg for arg in node.args if arg not in types]
        if missing:
            raise ValueError(f"{node.name} reads {', '.join(missing)} before it is defined")
        expected = infer(node.op, [types[a] for a in node.args], node.attrs)
        if expected != node.type:
            raise ValueError(f"{node.name} = {node.op} gives {expected}, but says {node.type}")
        types[node.name] = node.type
    unknown = [name for name in graph.outputs if name not in types]
    if unknown:
        raise ValueError(f"outputs {', '.join(unknown)} are not defined")


def evaluate(
    graph: Graph,
    feeds: Mapping[str, Array],
    *,
    keep: Iterable[str] = (),
    observe: Observer | None = None,
) -> dict[str, Array]:
    """Compute the outputs (and the tensors named in ``keep``) for a batch of samples.

    ``feeds`` maps every input to an array (N or 1, *shape): float64 for a real graph, int64 for a fixed one.
    ``observe`` sees every tensor as it is made. A tensor is dropped after its last reader.
    """
    wanted = {*graph.outputs, *keep}
    last_use = {arg: i for i, node in enumerate(graph.nodes) for arg in node.args}
    values: dict[str, Array] = {}
    for name in graph.inputs:
        if name in feeds:
            values[name] = feeds[name]
            if observe:
                observe(name, values[name])
        elif name in last_use:
            raise ValueError(f"input {name!r} has no value")
    for name, constant in graph.constants.items():
        if constant.value is None:
            raise ValueError(f"constant {name!r} has no value")
        values[name] = constant.value[None]
    for i, node in enumerate(graph.nodes):
        values[node.name] = OPS[node.op].evaluate(node, *(values[a] for a in node.args))
        if observe:
            observe(node.name, values[node.name])
        for arg in set(node.args):
            if last_use[arg] == i and arg not in wanted:
                del values[arg]
    return {name: values[name] for name in values if name in wanted}


@dataclass(slots=True)
class Names:
    """Hands out names that are not taken yet: ``d_x``, ``d_x_2``, …"""

    taken: set[str] = field(default_factory=set)

    def fresh(self, base: str) -> str:
        """Return ``base``, or ``base_2`` and so on where it is taken."""
        name, count = base, 1
        while name in self.taken:
            count += 1
            name = f"{base}_{count}"
        self.taken.add(name)
        return name
