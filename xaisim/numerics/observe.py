"""What happened inside a run: saturated values, and which masks and pool indices differ from the float run's.

watch = Watch(); device = FixedDevice(formats, 48); device.observe = watch.on(device)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from xaisim.ir.graph import Array, Observer
from xaisim.ir.ops import Node
from xaisim.ir.types import FixedPoint
from xaisim.numerics.devices import FloatDevice


@dataclass(slots=True)
class Watch:
    """Collects counts while a device runs; masks are kept packed, so that two runs can be compared."""

    values: int = 0
    saturated: int = 0
    masks: list[Array] = field(default_factory=list)
    indices: list[Array] = field(default_factory=list)
    mask_elements: int = 0
    index_elements: int = 0
    _nodes: dict[str, Node] = field(default_factory=dict)
    _kernel: object = None

    def on(self, device: FloatDevice) -> Observer:
        """Return the observer of a device."""

        def see(name: str, values: Array) -> None:
            graph = device.program[-1].graph
            if graph is not self._kernel:
                self._kernel, self._nodes = graph, {node.name: node for node in graph.nodes}
            node = self._nodes.get(name)
            if node is not None:
                self.note(node, values)

        return see

    def note(self, node: Node, values: Array) -> None:
        """Count one tensor of one batch."""
        if node.op == "requant" and isinstance(node.type.format, FixedPoint):
            format = node.type.format
            at_bound = values == format.high
            if format.signed:
                at_bound |= values == format.low
            self.values += values.size
            self.saturated += int(at_bound.sum())
        elif node.op == "positive":
            self.masks.append(np.packbits(values.astype(bool)))
            self.mask_elements += values.size
        elif node.op == "pool_index":
            self.indices.append(values.astype(np.uint8).reshape(-1))
            self.index_elements += values.size

    @property
    def saturated_fraction(self) -> float:
        """Share of requantised values that lie at a bound of their format (zero of an unsigned one is none)."""
        return self.saturated / self.values if self.values else 0.0

    def mask_flip_rate(self, reference: Watch) -> float | None:
        """Return the share of mask bits that differ, or None where no masks are stored."""
        if not self.mask_elements:
            return None
        pairs = zip(self.masks, reference.masks, strict=True)
        return sum(int(np.bitwise_count(a ^ b).sum()) for a, b in pairs) / self.mask_elements

    def index_flip_rate(self, reference: Watch) -> float | None:
        """Return the share of pool indices that differ, or None where none are stored."""
        if not self.index_elements:
            return None
        pairs = zip(self.indices, reference.indices, strict=True)
        return sum(int((a != b).sum()) for a, b in pairs) / self.index_elements
