"""Tensors in flight while a plan runs: as integers, as maps, or both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from xaisim.ir import nhwc
from xaisim.ir.memory import scratch
from xaisim.ir.types import Bits, FixedPoint, TensorType

Array = np.ndarray


@dataclass(slots=True)
class Values:
    """Tensors in flight, each in one or both of its forms."""

    types: Mapping[str, TensorType]
    threads: int = 1
    plain: dict[str, Array] = field(default_factory=dict)
    """int64 (N, *shape)."""
    maps: dict[str, Array] = field(default_factory=dict)
    """NHWC: int16, int8 masks or uint8 indices."""
    seen: dict[str, nhwc.Ranges] = field(default_factory=dict)

    def integers(self, name: str) -> Array:
        """Return a tensor as int64 (N, *shape)."""
        if name not in self.plain:
            map, type = self.maps[name], self.types[name]
            rank = len(type.shape)
            if isinstance(type.format, FixedPoint):
                self.plain[name] = nhwc.integers(map, nhwc.zero_of(type.format), rank)
            else:
                self.plain[name] = np.abs(nhwc.integers(map, 0, rank))
        return self.plain[name]

    def map(self, name: str) -> Array:
        """Return a tensor as a map."""
        if name not in self.maps:
            values, type = self.plain[name], self.types[name]
            if isinstance(type.format, FixedPoint):
                self.maps[name] = nhwc.stored(values, nhwc.zero_of(type.format))
            else:
                kind, sign = (np.int8, -1) if type.format == Bits(1) else (np.uint8, 1)
                spread = values[:, :, None, None] if values.ndim == 2 else values
                self.maps[name] = np.ascontiguousarray(sign * spread.transpose(0, 2, 3, 1), kind)
        return self.maps[name]

    def ranges(self, name: str) -> nhwc.Ranges:
        """Return the least and the largest stored number of every channel of a map."""
        if name not in self.seen:
            self.seen[name] = nhwc.channel_ranges(self.maps[name])
        return self.seen[name]

    def batch(self, names: list[str]) -> int:
        """Return the number of samples that an operator on ``names`` makes."""
        return max(len(self.maps[n] if n in self.maps else self.plain[n]) for n in names)

    def whole(self, name: str, count: int) -> Array:
        """Return a map with ``count`` samples, repeating a single one."""
        map = self.map(name)
        if len(map) == count:
            return map
        out = scratch((count, *map.shape[1:]), map.dtype.type)
        out[...] = map
        return out

    def drop(self, name: str) -> None:
        """Forget a tensor."""
        self.plain.pop(name, None)
        self.maps.pop(name, None)
        self.seen.pop(name, None)
