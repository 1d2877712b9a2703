"""Run one method on two devices side by side and compare every tensor that both make.

twin = TwinDevice(FloatDevice(), FixedDevice(formats, 48))
METHODS["saliency"].run(twin, model.graph, x, target)
twin.tallies                    one per tensor of every launch, in the order of execution
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from xaisim.attribution.device import Kernel, Launch, Recorder, Tensor
from xaisim.ir.graph import Array, Graph
from xaisim.ir.ops import VIEWS, Node
from xaisim.ir.types import FixedPoint, Format, TensorType
from xaisim.numerics.devices import FixedDevice, FloatDevice, Progress, depending, joined, peak_elements, windows

_BUDGET_BYTES = 512 << 20
"""What is kept of the first run until the second has passed stays about within this."""


class Kind(StrEnum):
    """What a compared tensor is."""

    CONSTANT = "constant"
    INPUT = "input"
    VALUE = "value"
    EXACT = "exact"  # a sum that is not rounded yet
    MASK = "mask"
    INDEX = "index"


@dataclass(frozen=True, slots=True)
class Point:
    """A tensor that both runs have. ``sources`` are the nearest points that it is made from."""

    kernel: str
    name: str
    kind: Kind
    op: str
    layer: str
    backward: bool
    types: tuple[TensorType, TensorType]
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """The first element that differs: its trip, its index and both values as real numbers."""

    trip: int
    index: tuple[int, ...]
    a: float
    b: float


@dataclass(slots=True)
class Tally:
    """What was counted of one tensor over all trips; pairs are (first run, second run)."""

    point: Point
    elements: int = 0
    differing: int = 0
    signal: float = 0.0
    """Σ a²."""
    noise: float = 0.0
    """Σ (a − b)²."""
    largest: float = 0.0
    """max |a − b|, real."""
    zeros: tuple[int, int] = (0, 0)
    saturated: tuple[int, int] = (0, 0)
    first: Place | None = None

    def add(self, a: Array, b: Array, trip: int) -> None:
        """Compare one batch (N, *shape) whose first sample is ``trip``."""
        formats = (self.point.types[0].format, self.point.types[1].format)
        x, y = real(a, formats[0]), real(b, formats[1])
        different = (a != b) if _same_scale(*formats) else (x != y)
        self.elements += different.size
        count = int(np.count_nonzero(different))
        self.differing += count
        if count and self.first is None:
            at = tuple(int(i) for i in np.unravel_index(int(different.argmax()), different.shape))
            self.first = Place(trip + at[0], at[1:], float(x[at]), float(y[at]))
        if self.point.kind in (Kind.MASK, Kind.INDEX):
            return
        flat = x.reshape(-1)
        self.signal += float(flat @ flat)
        if count:
            error = (x - y).reshape(-1)
            self.noise += float(error @ error)
            self.largest = max(self.largest, float(np.abs(error).max()))
        self.zeros = (self.zeros[0] + _zeros(a), self.zeros[1] + _zeros(b))
        self.saturated = (
            self.saturated[0] + _saturated(a, formats[0]),
            self.saturated[1] + _saturated(b, formats[1]),
        )


def real(values: Array, format: Format) -> Array:
    """Return values as real numbers; masks and indices as they are."""
    if isinstance(format, FixedPoint):
        return np.ldexp(values.astype(np.float64), -format.frac)
    return values


def _same_scale(a: Format, b: Format) -> bool:
    if isinstance(a, FixedPoint) and isinstance(b, FixedPoint):
        return a.frac == b.frac
    return not isinstance(a, FixedPoint) and not isinstance(b, FixedPoint)


def _zeros(values: Array) -> int:
    return values.size - int(np.count_nonzero(values))


def _saturated(values: Array, format: Format) -> int:
    """Count values at the bounds of their format; zero of an unsigned one is none."""
    if not isinstance(format, FixedPoint):
        return 0
    count = int(np.count_nonzero(values == format.high))
    return count + int(np.count_nonzero(values == format.low)) if format.signed else count


@dataclass(frozen=True, slots=True)
class TwinTensor(Tensor):
    """What the first device made, and beside it what the second did."""

    twin: Tensor

    def followed_by(self, *others: Tensor) -> Tensor:
        """Join the samples of both devices."""
        twins = [other.twin for other in others if isinstance(other, TwinTensor)]
        values = np.concatenate([self.values, *(other.values for other in others)])
        return TwinTensor(values, self.type, self.twin.followed_by(*twins))

    def on_host(self, function: Callable[..., Array], *others: Tensor) -> Tensor:
        """Compute for each device from what it made."""
        mine = Tensor.on_host(self, function, *others)
        twins = [other.twin if isinstance(other, TwinTensor) else other for other in others]
        return TwinTensor(mine.values, mine.type, self.twin.on_host(function, *twins))


class TwinDevice(Recorder):
    """Launches every kernel on both devices, window by window; answers with the first one's tensors."""

    def __init__(self, a: FloatDevice, b: FloatDevice, *, progress: Progress | None = None) -> None:
        super().__init__()
        self.devices = (a, b)
        self.progress = progress
        self.tallies: list[Tally] = []

    def launch(
        self, kernel: Kernel, feeds: Mapping[str, Array | Tensor], *, trips: int = 1, sync: bool = False
    ) -> dict[str, Tensor]:
        """Run every trip of ``kernel`` on both devices and compare."""
        a, b = self.devices
        own = (dict(feeds), {name: f.twin if isinstance(f, TwinTensor) else f for name, f in feeds.items()})
        graphs = (a.compile(kernel.graph, own[0]), b.compile(kernel.graph, own[1]))
        self.program.append(Launch(kernel.name, graphs[0], trips, sync))
        arrays = [
            {name: device.enter(feed[name], graph.inputs[name].format) for name in graph.inputs}
            for device, feed, graph in zip(self.devices, own, graphs, strict=True)
        ]
        tallies = {point.name: Tally(point) for point in points(kernel.name, *graphs)}
        self.tallies += tallies.values()
        _compare_fixed_parts(tallies, graphs, arrays)
        moving = depending(graphs[1], {name for name, values in arrays[1].items() if len(values) > 1})
        parts: tuple[list[dict[str, Array]], list[dict[str, Array]]] = ([], [])
        batch, before = _batch_size(*graphs), 0
        for (first, done, count), (second, _, _) in zip(*(windows(x, trips, batch) for x in arrays), strict=True):
            watched = {n: t for n, t in tallies.items() if t.elements == 0 or n in moving}
            outputs = self._window(kernel.name, graphs, (first, second), (before, done), watched)
            for part, output in zip(parts, outputs, strict=True):
                part.append({name: tensor.values for name, tensor in output.items()})
            before = done
            if self.progress:
                self.progress(kernel.name, done, count)
        joint = [joined(graph, part, x) for graph, part, x in zip(graphs, parts, arrays, strict=True)]
        return {name: TwinTensor(t.values, t.type, joint[1][name]) for name, t in joint[0].items()}

    def _window(
        self,
        name: str,
        graphs: tuple[Graph, Graph],
        arrays: tuple[dict[str, Array], dict[str, Array]],
        trips: tuple[int, int],
        tallies: Mapping[str, Tally],
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Run one window on the first device, keeping what is compared, then on the second, comparing."""
        kept: dict[str, Array] = {}
        computed = {n for n, t in tallies.items() if t.point.kind not in (Kind.CONSTANT, Kind.INPUT)}

        def keep(tensor: str, values: Array) -> None:
            if tensor in computed:
                kept[tensor] = values

        def compare(tensor: str, values: Array) -> None:
            if tensor in kept:
                tallies[tensor].add(kept.pop(tensor), values, trips[0])

        outputs = []
        for device, graph, window, see in zip(self.devices, graphs, arrays, (keep, compare), strict=True):
            device.batch_size = trips[1] - trips[0]
            if isinstance(device, FixedDevice) and device.naive:
                device.observe = see  # the sums too, which the fast kernels do not show
            else:
                device.watch = see
            outputs.append(device.run(name, graph, window, trips[1] - trips[0]))
        return outputs[0], outputs[1]


def _compare_fixed_parts(
    tallies: Mapping[str, Tally], graphs: tuple[Graph, Graph], arrays: list[dict[str, Array]]
) -> None:
    """Compare what does not depend on the window: constants, and inputs as a whole."""
    for name, tally in tallies.items():
        if tally.point.kind is Kind.INPUT:
            tally.add(arrays[0][name], arrays[1][name], 0)
        elif tally.point.kind is Kind.CONSTANT:
            tally.add(_in_one_scale(graphs[0], name), _in_one_scale(graphs[1], name), 0)


def _in_one_scale(graph: Graph, name: str) -> Array:
    """Return a constant with its batch axis; weights with a scale per channel in the finest one's, their type's."""
    value = graph.constants[name].value
    if value is None:
        raise ValueError(f"constant {name!r} has no value")
    reader = next((node for node in graph.nodes if name in node.args[1:2] and "lift" in node.attrs), None)
    if reader is None:
        return value[None]
    axis = 1 if reader.attrs.get("transposed") else 0
    shape = tuple(-1 if i == axis else 1 for i in range(value.ndim))
    return (value << np.array(reader.attrs["lift"]).reshape(shape))[None]


def _batch_size(a: Graph, b: Graph) -> int:
    kept = sum(node.type.size for node in a.nodes)
    return max(1, _BUDGET_BYTES // (8 * (kept + peak_elements(b))))


# --- which tensors are compared ---------------------------------------------------------------------------------------


def points(kernel: str, a: Graph, b: Graph) -> list[Point]:
    """Return the tensors of both graphs that are compared, in the order of execution.

    Views are left out, and so is a value that only a ReLU or gate reads: formats need not hold what is cut to zero.
    Running sums depend on the window; they are compared where the next kernel reads them.
    """
    types = (a.types(), b.types())
    nodes = ({node.name: node for node in a.nodes}, {node.name: node for node in b.nodes})
    longer = a if len(a.nodes) > len(b.nodes) else b
    hidden = {name for graph in (a, b) for name in _hidden(graph)}
    makers = {node.name: node for node in longer.nodes}
    found: list[Point] = []
    known: dict[str, tuple[str, ...]] = {}
    for name in _ordered(longer):
        node = makers.get(name)
        sources = () if node is None else tuple(dict.fromkeys(s for arg in node.args for s in known[arg]))
        if name in hidden or name not in types[0] or name not in types[1]:
            known[name] = sources
            continue
        known[name] = (name,)
        pair = (types[0][name], types[1][name])
        if node is None:
            kind = Kind.CONSTANT if name in longer.constants else Kind.INPUT
            first = next((n for n in longer.nodes if name in n.args), None)
            layer, backward = (first.layer, first.backward) if first else ("", False)
            found.append(Point(kernel, name, kind, str(kind), layer, backward, pair, sources))
            continue
        kind = _kind(nodes[0][name], nodes[1][name])
        op = makers[node.args[0]].op if node.op == "requant" and node.args[0] in makers else node.op
        found.append(Point(kernel, name, kind, op, node.layer, node.backward, pair, sources))
    return found


def _kind(a: Node, b: Node) -> Kind:
    if a.op == "positive":
        return Kind.MASK
    if a.op == "pool_index":
        return Kind.INDEX
    return Kind.EXACT if "bound" in a.attrs or "bound" in b.attrs else Kind.VALUE


def _ordered(graph: Graph) -> list[str]:
    """Return inputs, then nodes, each constant right before its first reader; unread inputs are left out."""
    order: dict[str, None] = {}
    for node in graph.nodes:
        order |= dict.fromkeys(arg for arg in node.args if arg in graph.constants or arg in graph.inputs)
        order[node.name] = None
    order |= dict.fromkeys(name for name in graph.outputs if name in graph.constants)
    return [*(n for n in order if n in graph.inputs), *(n for n in order if n not in graph.inputs)]


def _hidden(graph: Graph) -> set[str]:
    """Return the nodes that are not compared themselves."""
    users = graph.users()
    names = set()
    for node in graph.nodes:
        readers = [user for user in users[node.name] if user.op != "positive"]
        clipped = len(readers) == 1 and readers[0].op in ("relu", "gate") and readers[0].args[0] == node.name
        if node.op == "accumulate" or (node.name not in graph.outputs and (clipped or node.op in VIEWS)):
            names.add(node.name)
    return names
