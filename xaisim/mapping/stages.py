"""Stages: what runs as one tiled loop nest, an anchor operator with the element-wise operators fused behind it.

stages(graph)     conv → requant → relu → positive becomes one stage that stores a feature map and its mask
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from xaisim.ir.graph import Graph
from xaisim.ir.ops import VIEWS, Node
from xaisim.ir.types import Bits, TensorType

ARRAY_OPS = frozenset({"conv", "linear"})
WINDOW_OPS = frozenset(
    {"maxpool", "pool_index", "unpool", "avgpool", "upsample", "softmax", "softmax_seed", "smallest"}
)
WHOLE_OPS = frozenset({"upsample", "softmax", "softmax_seed", "smallest"})
"""Those of which any output may read any place of the input's channel."""


class Window(NamedTuple):
    """Which input rows (or columns) an output range reads along one axis."""

    size: int
    stride: int
    padding: int
    dilation: int
    extent: int
    """Length of the input along this axis."""

    def span(self, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return input [start, stop) for outputs [first, last), clipped to what exists."""
        start = -((self.padding - first * self.stride) // self.dilation)
        stop = ((last - 1) * self.stride + self.size - 1 - self.padding) // self.dilation + 1
        return np.clip(start, 0, self.extent), np.clip(stop, 0, self.extent)


@dataclass(slots=True)
class Operand:
    """A tensor that a stage reads tile by tile: which memory class it is and how its tiles follow the output's."""

    name: str
    type: TensorType
    role: str
    """``input`` of the anchor, ``weight``, or ``tail``: read at the place of the output tile."""
    memory_class: str
    """activation, gradient, weight or mask."""
    constant: bool = False
    chosen: bool = False
    """A constant that the host picks once it has seen the logits."""


@dataclass(slots=True)
class Stage:
    """One loop nest over output tiles (K, P, Q), with C inside where the anchor sums over channels."""

    index: int
    anchor: Node
    tail: list[Node] = field(default_factory=list)
    operands: list[Operand] = field(default_factory=list)
    outputs: list[Operand] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The anchor's name without the suffix of its exact sum."""
        return self.anchor.name.removesuffix(".exact")

    @property
    def on_array(self) -> bool:
        """Whether the anchor runs on the MAC array."""
        return self.anchor.op in ARRAY_OPS

    @property
    def nodes(self) -> list[Node]:
        """The anchor and its tail."""
        return [self.anchor, *self.tail]

    def operand(self, role: str) -> Operand | None:
        """Return the first operand of that role."""
        return next((o for o in self.operands if o.role == role), None)


class Nest(NamedTuple):
    """Loop bounds of a stage and the windows that tie its output to its input."""

    K: int
    C: int
    P: int
    Q: int
    R: int
    S: int
    rows: Window
    columns: Window
    T: int = 1
    """Path points that one trip works on."""


def nest_of(stage: Stage) -> Nest:
    """Return the loop nest of a stage; element-wise anchors have one-element windows, linear ones no P and Q."""
    node = stage.anchor
    K, P, Q = volume(node.type.shape)
    source = stage.operand("input")
    C, H, W = volume(source.type.shape) if source is not None else (K, P, Q)
    weight = stage.operand("weight")
    if node.op == "linear":
        return Nest(K, C * H * W, 1, 1, 1, 1, Window(1, 1, 0, 1, 1), Window(1, 1, 0, 1, 1))
    if node.op in WHOLE_OPS:
        return Nest(K, 1, P, Q, 1, 1, Window(H, 0, 0, 1, H), Window(W, 0, 0, 1, W))
    if node.op not in ("conv", "avgpool", "maxpool", "pool_index", "unpool"):
        return Nest(K, 1, P, Q, 1, 1, Window(1, 1, 0, 1, H), Window(1, 1, 0, 1, W))
    R, S = weight.type.shape[2:] if node.op == "conv" and weight is not None else node.attrs["kernel"]
    top, left = node.attrs["padding"][:2]
    stride, dilation = node.attrs.get("stride", (1, 1)), node.attrs.get("dilation", (1, 1))
    if node.op == "unpool":  # windows seen from the large side: output row h lies in windows (h + top − r) / stride
        stride, dilation, top, left = (1, 1), stride, R - 1 - top, S - 1 - left
    channels = C if node.op == "conv" else 1
    return Nest(
        K, channels, P, Q, R, S,
        Window(R, stride[0], top, dilation[0], H), Window(S, stride[1], left, dilation[1], W),
    )  # fmt: skip


def volume(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return a shape as (channels, rows, columns)."""
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    return (int(np.prod(shape)), 1, 1)


class Source(NamedTuple):
    """Part of a view: channels [start, stop) of the view are tensor ``name`` from its channel ``offset`` on."""

    name: str
    start: int
    stop: int
    offset: int
    """Where the view reshapes, counted in elements of the tensor."""
    whole: bool
    """The view reshapes: any part of it may need any part of the tensor."""


class Views:
    """Resolves concat, slice and reshape to the tensors that hold the data; ``views_of(graph)`` makes one."""

    def __init__(self, graph: Graph) -> None:
        self.nodes = {node.name: node for node in graph.nodes if node.op in VIEWS}
        self.types = graph.types()
        self._found: dict[str, list[Source]] = {}

    def sources(self, name: str) -> Sequence[Source]:
        """Return the tensors that ``name`` is made of, by channel range."""
        if name not in self._found:
            self._found[name] = self._resolved(name)
        return self._found[name]

    def _resolved(self, name: str) -> list[Source]:
        channels, height, width = volume(self.types[name].shape)
        node = self.nodes.get(name)
        if node is None:
            return [Source(name, 0, channels, 0, whole=False)]
        if node.op == "reshape":
            return self._reshaped(node)
        if node.op == "slice":
            first, last = node.attrs["start"], node.attrs["stop"]
            plane = height * width
            return [
                Source(s.name, max(s.start, first) - first, min(s.stop, last) - first,
                       s.offset + max(0, first - s.start) * (plane if s.whole else 1), s.whole)
                for s in self.sources(node.args[0])
                if s.start < last and first < s.stop
            ]  # fmt: skip
        parts: list[Source] = []
        base = 0
        for arg in node.args:
            parts += [s._replace(start=s.start + base, stop=s.stop + base) for s in self.sources(arg)]
            base += volume(self.types[arg].shape)[0]
        return parts

    def _reshaped(self, node: Node) -> list[Source]:
        """Elements keep their order; each tensor's share of them is counted in channels of the new shape."""
        _, height, width = volume(self.types[node.args[0]].shape)
        _, rows, columns = volume(node.type.shape)
        ratio = Fraction(height * width, rows * columns)
        return [
            s._replace(
                start=int(s.start * ratio), stop=int(s.stop * ratio), whole=True,
                offset=s.offset if s.whole else s.offset * int(np.prod(volume(self.types[s.name].shape)[1:])),
            )
            for s in self.sources(node.args[0])
        ]  # fmt: skip


@lru_cache(maxsize=64)
def views_of(graph: Graph) -> Views:
    """Return the views of a graph; what they resolve to is found once."""
    return Views(graph)


class _Grouping:
    """Walks the nodes in order and puts each into a new or an existing stage."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.types = graph.types()
        self.users = graph.users()
        self.views = views_of(graph)
        self.stages: list[Stage] = []
        self.stage_of: dict[str, int] = {}

    @cached_property
    def backward(self) -> set[str]:
        """Names of tensors that carry gradients."""
        return {node.name for node in self.graph.nodes if node.backward}

    def place(self, node: Node) -> None:
        """Fuse a node where that is possible, or let it begin a stage."""
        home = None if node.op in ARRAY_OPS else self.twin(node) if node.op in WINDOW_OPS else self.fusable(node)
        if home is None:
            home = Stage(len(self.stages), node)
            self.stages.append(home)
        else:
            home.tail.append(node)
        self.stage_of[node.name] = home.index

    def twin(self, node: Node) -> Stage | None:
        """A pool's index comes out of the same comparison as its maximum, unless backward makes it again."""
        if node.op != "pool_index" or node.backward:
            return None
        for stage in reversed(self.stages):
            if stage.anchor.op == "maxpool" and stage.anchor.args == node.args and stage.anchor.attrs == node.attrs:
                return stage
        return None

    def fusable(self, node: Node) -> Stage | None:
        """Return the latest stage that an element-wise node reads, if the node fits behind it tile by tile."""
        homes = {arg: max((self.stage_of.get(s.name, -1) for s in self.views.sources(arg)), default=-1)
                 for arg in node.args}  # fmt: skip
        latest = max(homes.values())
        if latest < 0 or self.stages[latest].anchor.backward != node.backward:
            return None  # backward begins when forward is through and the host has chosen the class
        in_place = all(
            arg in self.stage_of and self.types[arg].shape == node.type.shape
            for arg, home in homes.items()
            if home == latest
        )
        return self.stages[latest] if in_place else None

    def connect(self, stage: Stage) -> None:
        """Fill in what the stage reads from and leaves in memory."""
        inside = {node.name for node in stage.nodes}
        for node in stage.nodes:
            for position, arg in enumerate(node.args):
                if arg not in inside and not self.has(stage, node, arg):
                    self.read(stage, node, arg, position)
            if node.op == "accumulate":  # the running sum of earlier trips comes back in
                stage.operands.append(self.tensor(node.name, "tail"))
        for node in stage.nodes:
            if node.name in self.graph.outputs or any(user.name not in inside for user in self.users[node.name]):
                stage.outputs.append(self.tensor(node.name, "output"))

    def has(self, stage: Stage, node: Node, arg: str) -> bool:
        """Return whether a node finds an operand among the tiles that it can reach: not in those of the array."""
        behind = stage.on_array and node is not stage.anchor
        return any(o.name == arg and (o.role == "tail" or not behind) for o in stage.operands)

    def read(self, stage: Stage, node: Node, arg: str, position: int) -> None:
        """Add an operand; scalars are registers, a bias travels with its weights, coefficients are generated."""
        if not self.types[arg].shape or (node.op == "upsample" and position > 0):
            return
        if node.op in ARRAY_OPS and position == 2:
            return
        role = "tail"
        if node is stage.anchor:
            role = "weight" if node.op in ARRAY_OPS and position == 1 else "input"
            if node.op == "unpool" and position == 1:
                role = "index"
            if node.op not in ARRAY_OPS | WINDOW_OPS:
                role = "tail"
        stage.operands.append(self.tensor(arg, role))

    def tensor(self, name: str, role: str) -> Operand:
        """Describe a tensor as an operand."""
        type = self.types[name]
        if role == "weight":
            memory_class = "weight"
        elif isinstance(type.format, Bits):
            memory_class = "mask"
        else:
            base = self.views.sources(name)[0].name
            memory_class = "gradient" if base in self.backward else "activation"
        constant = self.graph.constants.get(name)
        chosen = constant is not None and constant.chosen
        return Operand(name, type, role, memory_class, constant is not None, chosen)


@lru_cache(maxsize=64)
def stages(graph: Graph) -> tuple[Stage, ...]:
    """Return the stages of a fixed-point graph in program order; the mapper asks for them with every candidate."""
    grouping = _Grouping(graph)
    for node in graph.nodes:
        if node.op not in VIEWS:
            grouping.place(node)
    for stage in grouping.stages:
        grouping.connect(stage)
    for index, stage in enumerate(grouping.stages):
        stage.index = index
    return tuple(grouping.stages)
