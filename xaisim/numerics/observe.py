"""What happened inside a run: saturated values, sums that overflowed, masks and indices unlike the float run's.

watch = Watch(); device = FixedDevice(formats, 48); device.watch = watch.on(device)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from xaisim.attribution.device import Launch
from xaisim.ir.graph import Array, Observer
from xaisim.ir.ops import OPS, Node
from xaisim.ir.types import FixedPoint
from xaisim.numerics.devices import FloatDevice

Batches = dict[tuple[int, str], list[Array]]
"""Batches of a tensor, by launch and name."""


def _pairs(a: Batches, b: Batches) -> Iterator[tuple[Array, Array]]:
    """Yield the batches of two runs that belong together, whatever order they were made in."""
    for key, batches in a.items():
        yield from zip(batches, b[key], strict=True)


def _alike(a: Batches, b: Batches) -> bool:
    """Tell whether two runs kept the same tensors; those of a method that decides by what it sees need not."""
    return a.keys() == b.keys() and all(
        [len(part) for part in batches] == [len(part) for part in b[key]] for key, batches in a.items()
    )


@dataclass(slots=True)
class Watch:
    """Collects counts while a device runs; masks are kept packed, so that two runs can be compared."""

    values: int = 0
    saturated: int = 0
    sums: int = 0
    """Sums of products that the array made, over all trips."""
    overflowed: int = 0
    """Those that are not exact, because the accumulator wrapped or saturated."""
    masks: Batches = field(default_factory=dict)
    indices: Batches = field(default_factory=dict)
    mask_elements: int = 0
    index_elements: int = 0
    _nodes: dict[str, Node] = field(default_factory=dict)
    _launch: Launch | None = None
    _launches: int = 0
    _last_use: dict[str, str] = field(default_factory=dict)
    """Operands of sums that may overflow, by the last node that adds them up."""
    _operands: dict[str, Array] = field(default_factory=dict)

    def on(self, device: FloatDevice) -> Observer:
        """Return the observer of a device."""

        def see(name: str, values: Array) -> None:
            launch = device.program[-1]
            if launch is not self._launch:
                self.enter(launch)
            if name in self._last_use:
                self._operands[name] = values
            node = self._nodes.get(name)
            if node is not None:
                self.note(node, values)

        return see

    def enter(self, launch: Launch) -> None:
        """Begin with another launch."""
        graph = launch.graph
        self._launch, self._launches = launch, self._launches + 1
        self.sums += launch.trips * sum(node.type.size for node in graph.nodes if node.op in ("conv", "linear"))
        self._nodes = {node.name: node for node in graph.nodes}
        self._last_use = {arg: node.name for node in graph.nodes if "accumulator" in node.attrs for arg in node.args}
        constants = ((name, graph.constants[name].value) for name in self._last_use if name in graph.constants)
        self._operands = {name: value[None] for name, value in constants if value is not None}

    def note(self, node: Node, values: Array) -> None:
        """Count one tensor of one batch."""
        if node.op == "requant" and isinstance(node.type.format, FixedPoint):
            format = node.type.format
            at_bound = values == format.high
            if format.signed:
                at_bound |= values == format.low
            self.values += values.size
            self.saturated += int(at_bound.sum())
        elif "accumulator" in node.attrs:
            self.overflowed += self.inexact(node, values)
        elif node.op == "positive":
            self.masks.setdefault((self._launches, node.name), []).append(np.packbits(values.astype(bool)))
            self.mask_elements += values.size
        elif node.op == "pool_index":
            self.indices.setdefault((self._launches, node.name), []).append(values.astype(np.uint8).reshape(-1))
            self.index_elements += values.size

    def inexact(self, node: Node, values: Array) -> int:
        """Return how many sums differ from the exact ones (modulo 2^64), and drop what no other sum reads."""
        attrs = {name: value for name, value in node.attrs.items() if name != "accumulator"}
        exact = OPS[node.op].evaluate(replace(node, attrs=attrs), *(self._operands[arg] for arg in node.args))
        for arg in node.args:
            if self._last_use[arg] == node.name and arg in self._nodes:
                self._operands.pop(arg, None)
        return int((values != exact).sum())

    @property
    def saturated_fraction(self) -> float:
        """Share of requantised values that lie at a bound of their format (zero of an unsigned one is none)."""
        return self.saturated / self.values if self.values else 0.0

    def mask_flip_rate(self, reference: Watch) -> float | None:
        """Return the share of mask bits that differ; None where none are stored, or the runs decided differently."""
        if not self.mask_elements or not _alike(self.masks, reference.masks):
            return None
        pairs = _pairs(self.masks, reference.masks)
        return sum(int(np.bitwise_count(a ^ b).sum()) for a, b in pairs) / self.mask_elements

    def index_flip_rate(self, reference: Watch) -> float | None:
        """Return the share of pool indices that differ; None as for masks."""
        if not self.index_elements or not _alike(self.indices, reference.indices):
            return None
        pairs = _pairs(self.indices, reference.indices)
        return sum(int((a != b).sum()) for a, b in pairs) / self.index_elements
