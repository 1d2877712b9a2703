"""Forward on one device, backward on another: which half of a run loses what.

mixed = MixedDevice(FloatDevice(), FixedDevice(formats, 48), model.graph)      float forward, fixed backward
METHODS["saliency"].run(mixed, model.graph, x, target)
"""

from __future__ import annotations

from collections.abc import Mapping

from xaisim.attribution.device import Given, Kernel, Launch, Recorder, Tensor
from xaisim.ir.graph import Array, Graph, prune
from xaisim.ir.types import FixedPoint, TensorType
from xaisim.numerics.devices import FloatDevice, batch_size_for, joined, windows
from xaisim.numerics.formats import to_integers


class MixedDevice(Recorder):
    """Runs the forward half of every kernel on ``forward`` and the rest on ``backward``.

    The forward half is the network with what leads to its input and the masks and pool indices it leaves; the rest
    reads these, and the activations it needs, as ``forward`` made them, in its own formats.
    """

    def __init__(self, forward: FloatDevice, backward: FloatDevice, network: Graph) -> None:
        super().__init__()
        self.forward = forward
        self.backward = backward
        self.network = frozenset(node.name for node in network.nodes)

    def launch(
        self, kernel: Kernel, feeds: Mapping[str, Array | Tensor], *, trips: int = 1, sync: bool = False
    ) -> dict[str, Tensor]:
        """Run every trip of ``kernel``, one half after the other, window by window."""
        back = self.backward.compile(kernel.graph, feeds)
        self.program.append(Launch(kernel.name, back, trips, sync))
        if not forward_nodes(back, self.network):
            entered = {name: self.backward.enter(feeds[name], back.inputs[name].format) for name in back.inputs}
            return self.backward.run(kernel.name, back, entered, trips)
        # What earlier launches left is in the backward device's numbers; the forward one reads it as from the host.
        made = {name: feed for name, feed in feeds.items() if isinstance(feed, Tensor) and not isinstance(feed, Given)}
        real = dict(feeds) | {name: tensor.real() for name, tensor in made.items()}
        front = self.forward.compile(kernel.graph, real)
        first, second = halves(front, back, self.network)
        arrays = [
            {name: device.enter(own[name], half.inputs[name].format) for name in half.inputs if name in own}
            for device, half, own in ((self.forward, first, real), (self.backward, second, feeds))
        ]
        crossing = [name for name in second.inputs if name in first.outputs]
        types = (front.types(), back.types())
        parts: tuple[list[dict[str, Array]], list[dict[str, Array]]] = ([], [])
        before = 0
        # Both halves see the same windows: a table of scalars that only one reads says how many trips there are.
        everything = {f"{half} {name}": a for half, group in enumerate(arrays) for name, a in group.items()}
        for window, done, _ in windows(everything, trips, batch_size_for(kernel.graph)):
            mine = [{name: window[f"{half} {name}"] for name in group} for half, group in enumerate(arrays)]
            made = self.forward.run(kernel.name, first, mine[0], done - before)
            parts[0].append({name: tensor.values for name, tensor in made.items()})
            if second.outputs:
                handed = {name: converted(made[name].values, types[0][name], types[1][name]) for name in crossing}
                result = self.backward.run(kernel.name, second, mine[1] | handed, done - before)
                parts[1].append({name: tensor.values for name, tensor in result.items()})
            before = done
        fed = [{n: arrays[0].get(n, arrays[1].get(n)) for n in graph.inputs} for graph in (front, back)]
        outputs: dict[str, Tensor] = {}
        for graph, half, part, x in zip((front, back), (first, second), parts, fed, strict=True):
            wanted = tuple(name for name in half.outputs if name in kernel.graph.outputs)
            whole = Graph(graph.inputs, graph.constants, graph.nodes, wanted)
            outputs |= joined(whole, part, {name: a for name, a in x.items() if a is not None})
        return outputs


def forward_nodes(graph: Graph, network: frozenset[str]) -> set[str]:
    """Return the nodes of the forward half: those of the network, masks, indices, and all they are made from."""
    needed: set[str] = set()
    found: set[str] = set()
    for node in reversed(graph.nodes):
        stored = node.op in ("positive", "pool_index") and not node.backward
        if node.name in network or stored or node.name in needed:
            found.add(node.name)
            needed.update(node.args)
    return found


def halves(front: Graph, back: Graph, network: frozenset[str]) -> tuple[Graph, Graph]:
    """Split: the forward half of ``front`` and the backward half of ``back``, which reads the other's outputs."""
    ahead = forward_nodes(front, network)
    behind = forward_nodes(back, network)
    rest = tuple(node for node in back.nodes if node.name not in behind)
    read = {arg for node in rest for arg in node.args}
    entered = {arg for node in back.nodes if node.name in behind for arg in node.args if arg in back.inputs}
    crossing = [name for name in (*back.inputs, *(n.name for n in back.nodes)) if name in read & (behind | entered)]
    finished = [name for name in front.outputs if name in ahead and name not in crossing]
    first = prune(
        Graph(
            {name: t for name, t in front.inputs.items() if name in crossing or name in entered},
            front.constants,
            tuple(node for node in front.nodes if node.name in ahead),
            (*crossing, *finished),
        )
    )
    types = back.types()
    inputs = {name: t for name, t in back.inputs.items() if name in read and name not in crossing}
    inputs |= {name: types[name] for name in crossing}
    outputs = tuple(name for name in back.outputs if name not in behind)
    return first, prune(Graph(inputs, back.constants, rest, outputs))


def converted(values: Array, of: TensorType, to: TensorType) -> Array:
    """Return a tensor in another device's numbers: masks and indices as they are, numbers to nearest."""
    if of.format == to.format:
        return values
    numbers = Tensor(values, of).real()
    return to_integers(numbers, to.format) if isinstance(to.format, FixedPoint) else numbers
