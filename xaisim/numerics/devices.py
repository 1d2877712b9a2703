"""Three devices that run the same methods: float64 reference, bit-accurate fixed point, and dry (shapes only).

device = FixedDevice(formats, accumulator_bits=48)
METHODS["saliency"].run(device, model.graph, x, target=3)
device.program                                       what was launched: this is mapped and timed
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from xaisim.attribution.device import Kernel, Launch, Recorder, Tensor
from xaisim.hardware.array import AccumulatorPolicy
from xaisim.ir.chain import Packs
from xaisim.ir.graph import Array, Graph, Observer, evaluate, verify
from xaisim.ir.plan import Plan
from xaisim.ir.threads import in_parallel, thread_count
from xaisim.ir.types import FixedPoint
from xaisim.numerics.formats import Formats, to_integers
from xaisim.numerics.quantise import Integers, quantise

K = TypeVar("K")
V = TypeVar("V")
Progress = Callable[[str, int, int], None]
"""(kernel, trips done, trips in all)"""

Arrange = Callable[[Graph], Graph]
"""Puts the order in which a machine adds products into the sums that depend on it."""

_BATCH_BUDGET_BYTES = 96 << 20
"""Live tensors of one evaluated batch stay about within this, so that any number of trips fits in memory."""

_MOST_REMEMBERED = 64
"""Compiled kernels that a device keeps."""
_SAMPLES_AT_ONCE, _CACHE_ELEMENTS = 4, 2 << 20
"""A thread's share: this many samples, or as many as keep about this many numbers alive, 16 bits each."""


class FloatDevice(Recorder):
    """The float64 reference; ``observe`` sees every tensor of every launch (calibration)."""

    def __init__(
        self, *, observe: Observer | None = None, batch_size: int | None = None, progress: Progress | None = None
    ) -> None:
        super().__init__()
        self.class_known = False
        """The user names the class: the host need not read logits to choose it."""
        self.observe = observe
        self.watch: Observer | None = None
        """Sees what memory holds, where ``observe`` sees every sum too, for which a fixed device takes its time."""
        self.batch_size = batch_size
        self.progress = progress

    def launch(
        self, kernel: Kernel, feeds: Mapping[str, Array | Tensor], *, trips: int = 1, sync: bool = False
    ) -> dict[str, Tensor]:
        """Run every trip of ``kernel``: inputs have one sample per trip, or a single one for all."""
        graph = self.compile(kernel.graph, feeds)
        needless = self.class_known and any(constant.chosen for constant in graph.constants.values())
        self.program.append(Launch(kernel.name, graph, trips, sync and not needless))
        arrays = {name: self.enter(feeds[name], graph.inputs[name].format) for name in graph.inputs}
        return self.run(kernel.name, graph, arrays, trips)

    def compile(self, graph: Graph, feeds: Mapping[str, Array | Tensor]) -> Graph:  # noqa: ARG002 - other devices do
        """Return the graph that this device runs: kernels come folded."""
        return graph

    def enter(self, feed: Array | Tensor, format: object) -> Array:  # noqa: ARG002 - other devices do
        """Return host data in the device's numbers: what is handed over as integers by what it is worth."""
        return feed.real() if isinstance(feed, Tensor) else np.asarray(feed, np.float64)

    def run(self, name: str, graph: Graph, arrays: Mapping[str, Array], trips: int) -> dict[str, Tensor]:
        """Evaluate batch by batch; accumulated outputs add up, all others join along the batch axis."""
        most = min((node.attrs["trips"] for node in graph.nodes if node.op == "accumulate"), default=trips)
        if trips > most:
            raise ValueError(f"{name}: {trips} trips are more than the {most} that its sum can take")
        count = max(trips, *(len(a) for a in arrays.values())) if arrays else trips
        cut = list(windows(arrays, trips, self.batch_size or self.batch_for(graph, count)))
        sums = {node.name for node in graph.nodes if node.op == "accumulate"}
        parts: list[dict[str, Array]] = []
        for part, (_, done, _) in zip(self.evaluated(graph, [window for window, _, _ in cut]), cut, strict=True):
            for total in sums & part.keys() if parts else ():
                parts[0][total] = parts[0][total] + part.pop(total)
            parts.append(part)
            if self.progress:
                self.progress(name, done, count)
        return joined(graph, parts, arrays)

    def batch_for(self, graph: Graph, count: int) -> int:  # noqa: ARG002 - other devices divide the samples
        """Return how many of ``count`` samples to evaluate at once."""
        return batch_size_for(graph)

    def evaluated(self, graph: Graph, windows: Sequence[Mapping[str, Array]]) -> Iterable[dict[str, Array]]:
        """Yield the outputs for every window of samples, in order."""
        return (evaluate(graph, window, observe=self.observe or self.watch) for window in windows)


def windows(arrays: Mapping[str, Array], trips: int, batch: int) -> Iterator[tuple[dict[str, Array], int, int]]:
    """Yield the inputs of ``batch`` trips at a time, with how many are done after them, of how many.

    What has a batch axis of length 1 is the same for every trip and comes with every window.
    """
    count = max(trips, *(len(a) for a in arrays.values())) if arrays else trips
    for first in range(0, count, batch):
        window = {k: a if len(a) == 1 else a[first : first + batch] for k, a in arrays.items()}
        yield window, min(count, first + batch), count


def joined(graph: Graph, parts: Sequence[Mapping[str, Array]], arrays: Mapping[str, Array]) -> dict[str, Tensor]:
    """Join the outputs of all windows: accumulated ones add up, what depends on moving inputs is concatenated."""
    sums = {node.name for node in graph.nodes if node.op == "accumulate"}
    moving = depending(graph, {name for name, a in arrays.items() if len(a) > 1})
    types = graph.types()
    outputs = {}
    for output in graph.outputs:
        values = [part[output] for part in parts if output in part]
        whole = sum(values[1:], values[0]) if output in sums else values[0]
        outputs[output] = Tensor(np.concatenate(values) if output in moving - sums else whole, types[output])
    return outputs


def depending(graph: Graph, sources: set[str]) -> set[str]:
    """Return the tensors that depend on any of ``sources``; all others are the same for every sample."""
    found = set(sources)
    for node in graph.nodes:
        if any(arg in found for arg in node.args):
            found.add(node.name)
    return found


class FixedDevice(FloatDevice):
    """Integers only, bit by bit what the accelerator computes; it differs from the float device by ``quantise``."""

    def __init__(
        self,
        formats: Formats,
        accumulator_bits: int,
        *,
        policy: AccumulatorPolicy = "proven",
        psum_bits: int | None = None,
        arrange: Arrange | None = None,
        observe: Observer | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
        naive: bool = False,
    ) -> None:
        """``policy`` and ``psum_bits`` as in ``quantise``; ``arrange`` gives saturating sums the machine's order."""
        super().__init__(observe=observe, batch_size=batch_size, progress=progress)
        self.formats = formats
        self.accumulator_bits = accumulator_bits
        self.policy = policy
        self.psum_bits = psum_bits
        self.arrange = arrange
        self.naive = naive
        """Evaluate node by node on int64, by the definitions, instead of the fast plan; the bits are the same."""
        self._packs: Packs = {}
        self._made: Integers = {}
        self._compiled: OrderedDict[tuple[Any, ...], Graph] = OrderedDict()
        self._plans: OrderedDict[tuple[Any, ...], Plan] = OrderedDict()

    def compile(self, graph: Graph, feeds: Mapping[str, Array | Tensor]) -> Graph:
        """Quantise; tensors that another kernel left keep their format."""
        given = {name: self._entered(name, feeds.get(name)) for name in graph.inputs}
        key = (graph, tuple(given.items()))
        if key in self._compiled:
            return self._compiled[key]
        fixed = quantise(
            graph,
            self.formats,
            accumulator_bits=self.accumulator_bits,
            policy=self.policy,
            psum_bits=self.psum_bits,
            inputs=given,
            made=self._made,
        )
        if self.arrange is not None:
            fixed = self.arrange(fixed)
        verify(fixed)
        return _remembered(self._compiled, key, fixed)

    def _entered(self, name: str, feed: Array | Tensor | None) -> FixedPoint:
        """Return an input's format: that of a tensor of this device, or the one that the host gives its numbers."""
        if isinstance(feed, Tensor) and isinstance(feed.type.format, FixedPoint):
            return feed.type.format
        return self.formats.of(name, host=True)

    def enter(self, feed: Array | Tensor, format: object) -> Array:
        """Quantise real numbers to the input's format; what has a format already is handed over as it is."""
        if isinstance(feed, Tensor) and feed.type.format is not None:
            return feed.values
        if not isinstance(format, FixedPoint):
            raise TypeError(f"an input of a fixed-point kernel has format {format}")
        return to_integers(feed.real() if isinstance(feed, Tensor) else feed, format)

    def batch_for(self, graph: Graph, count: int) -> int:
        """Return how many samples a thread takes at once: few enough to stay in its cache and in the budget."""
        if self.naive or self.observe:
            return batch_size_for(graph)
        near = max(_SAMPLES_AT_ONCE, _CACHE_ELEMENTS // peak_elements(graph))
        return max(1, min(near, batch_size_for(graph), -(-count // thread_count())))

    def evaluated(self, graph: Graph, windows: Sequence[Mapping[str, Array]]) -> Iterable[dict[str, Array]]:
        """Yield the outputs for every window; windows run side by side, one alone divides its sums among threads."""
        if self.naive or self.observe:
            yield from super().evaluated(graph, windows)
            return
        key = (graph, self.watch is not None)
        plan = self._plans.get(key)
        if plan is None:
            plan = _remembered(self._plans, key, Plan(graph, self._packs, every_rounding=self.watch is not None))
        threads = thread_count()
        if self.watch or len(windows) == 1 or threads == 1:
            yield from (plan.run(window, threads=threads, observe=self.watch) for window in windows)
        else:
            yield from in_parallel(plan.run, windows, threads)


def _remembered(memory: OrderedDict[K, V], key: K, value: V) -> V:
    """Keep a value, and forget the oldest of many."""
    memory[key] = value
    if len(memory) > _MOST_REMEMBERED:
        memory.popitem(last=False)
    return value


class DryDevice(FixedDevice):
    """Compiles and records like the fixed device, but computes nothing: outputs are zeros of the right shape."""

    dry = True

    def run(self, name: str, graph: Graph, arrays: Mapping[str, Array], trips: int) -> dict[str, Tensor]:  # noqa: ARG002
        """Return zeros."""
        types = graph.types()
        return {
            output: Tensor(np.zeros((1, *types[output].shape), np.int64), types[output]) for output in graph.outputs
        }


def batch_size_for(graph: Graph) -> int:
    """Return how many samples to evaluate at once so that their live tensors keep within the budget."""
    return max(1, _BATCH_BUDGET_BYTES // (8 * peak_elements(graph)))


def peak_elements(graph: Graph) -> int:
    """Return the largest number of elements alive at once while one sample is evaluated (gathered windows too)."""
    last_use = {arg: i for i, node in enumerate(graph.nodes) for arg in node.args}
    live = sum(t.size for name, t in graph.inputs.items() if name in last_use)
    peak = live
    types = graph.types()
    for i, node in enumerate(graph.nodes):
        live += node.type.size
        peak = max(peak, live)
        live -= sum(types[arg].size for arg in set(node.args) if last_use[arg] == i and arg not in graph.constants)
    return max(1, peak)
