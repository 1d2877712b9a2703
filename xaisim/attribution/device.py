"""What a method sees of the machine: it launches kernels on a device and gets tensors back.

    logits = device.launch(forward, {"input": x})["logits"].real()

A method is an ordinary function over a :class:`Device`; float64, fixed-point and dry devices run it unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from xaisim.ir.graph import Array, Graph
from xaisim.ir.types import FixedPoint, TensorType


@dataclass(frozen=True, slots=True)
class Tensor:
    """A batch of samples as the device holds them: integers with a fixed-point format, or real numbers."""

    values: Array
    type: TensorType

    def real(self) -> Array:
        """Return the values as real numbers (N, *shape)."""
        if isinstance(self.type.format, FixedPoint):
            return np.ldexp(self.values.astype(np.float64), -self.type.format.frac)
        return self.values

    def followed_by(self, *others: Tensor) -> Tensor:
        """Return these samples and those of ``others``, of the same type, as one batch."""
        return replace(self, values=np.concatenate([self.values, *(other.values for other in others)]))

    def on_host(self, function: Callable[..., Array], *others: Tensor) -> Tensor:
        """Return what the host computes from the real numbers of this and other tensors that it reads back."""
        values = function(self.real(), *(other.real() for other in others))
        return Tensor(values, TensorType(values.shape[1:]))


class Given(Tensor):
    """What a method hands over in a format of its own, so that every device has these very numbers."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Kernel:
    """A named graph of real numbers that a device compiles and launches."""

    name: str
    graph: Graph

    def __str__(self) -> str:
        return f"kernel {self.name}\n{self.graph}"


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch as recorded: the compiled kernel and how often its body runs."""

    kernel: str
    graph: Graph
    trips: int
    sync: bool
    """The host waits for the result and decides something."""
    host_operations: int = 0
    """Scalar operations of the host on the result before it launches what comes next."""


class Device(Protocol):
    """Runs kernels and records the launches: the recorded list is the program that is mapped and timed."""

    program: list[Launch]
    dry: bool
    """It computes nothing: what it answers says nothing, and a method does the most that it may have to do."""

    def launch(
        self, kernel: Kernel, feeds: Mapping[str, Array | Tensor], *, trips: int = 1, sync: bool = False
    ) -> dict[str, Tensor]:
        """Run ``kernel`` on every sample of ``feeds`` (``trips`` of them) and return its outputs by name."""
        ...

    def decide(self, operations: int) -> None:
        """Count scalar operations of the host behind the last launch: allocation, sampling, stopping, line search."""
        ...


class Recorder:
    """What every device shares: the list of what was launched, and the host's work between."""

    dry = False

    def __init__(self) -> None:
        self.program: list[Launch] = []

    def decide(self, operations: int) -> None:
        """Count scalar operations of the host behind the last launch."""
        last = self.program[-1]
        self.program[-1] = replace(last, host_operations=last.host_operations + operations)
