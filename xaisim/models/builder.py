"""Writes a network as a graph while reading its parameters by torchvision's names, BatchNorm folded on the way.

Run once without parameters, it lists what the network needs; run again with them, it makes the graph.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from xaisim.ir.graph import Array, GraphBuilder
from xaisim.ir.types import TensorType

Pair = tuple[int, int]


def pair(value: int | Pair) -> Pair:
    """Return ``(value, value)`` for a number and a pair as it is."""
    return (value, value) if isinstance(value, int) else value


@dataclass(frozen=True, slots=True)
class Parameter:
    """A tensor the network wants: its shape and how to draw it when no weights are given."""

    shape: tuple[int, ...]
    scale: float = 0.0  # standard deviation of a normal draw
    mean: float = 0.0


class NetworkBuilder(GraphBuilder):
    """A graph builder with the layers of convolutional networks."""

    def __init__(self, parameters: Mapping[str, Array] | None = None) -> None:
        super().__init__()
        self.parameters = parameters
        self.required: dict[str, Parameter] = {}

    def conv(
        self,
        name: str,
        x: str,
        filters: int,
        kernel: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        *,
        bn: tuple[str, float] | None = None,
        gain: float = 1.0,
        input_affine: tuple[Array, Array] | None = None,
    ) -> str:
        """Append a convolution; with ``bn=(name, eps)`` its BatchNorm is folded in, else it has a bias.

        ``gain`` scales the random draw. ``input_affine`` = (scale, shift) per channel is folded too, which is
        exact only where nothing is padded.
        """
        R, S = pair(kernel)
        channels = self.types[x].shape[0]
        self.layer = name
        # torchvision names the pair `block.conv` and `block.bn`; the layer itself goes by the block's name.
        weight = f"{name}.conv.weight" if bn and bn[0] == f"{name}.bn" else f"{name}.weight"
        w = self._parameter(weight, (filters, channels, R, S), scale=math.sqrt(2 / (channels * R * S)))
        b = self._folded_bias(name, filters, bn, gain)
        if w is not None and b is not None:
            scale, bias = b
            w = w * scale[:, None, None, None]
            if input_affine is not None:
                if pair(padding) != (0, 0):
                    raise ValueError(f"{name}: an input transform folds only into an unpadded convolution")
                bias = bias + np.einsum("kcrs,c->k", w, input_affine[1])
                w = w * input_affine[0][None, :, None, None]
        else:
            w, bias = None, None
        self.constant(f"{name}.w", w, TensorType((filters, channels, R, S)))
        self.constant(f"{name}.b", bias, TensorType((filters,)))
        py, px = pair(padding)
        return self.add(name, "conv", x, f"{name}.w", f"{name}.b", stride=pair(stride), padding=(py, px, py, px))

    def linear(self, name: str, x: str, outputs: int, *, node: str | None = None) -> str:
        """Append a fully connected layer with bias, as node ``node`` where that differs from the layer's name."""
        inputs = self.types[x].shape[0]
        self.layer = name
        w = self._parameter(f"{name}.weight", (outputs, inputs), scale=math.sqrt(1 / inputs))
        b = self._parameter(f"{name}.bias", (outputs,))
        self.constant(f"{name}.w", w, TensorType((outputs, inputs)))
        self.constant(f"{name}.b", b, TensorType((outputs,)))
        return self.add(node or name, "linear", x, f"{name}.w", f"{name}.b")

    def relu(self, name: str, x: str) -> str:
        """Append a ReLU."""
        return self.add(name, "relu", x)

    def maxpool(self, name: str, x: str, kernel: int, stride: int, padding: int = 0) -> str:
        """Append a max-pool with implicit −∞ padding."""
        self.layer = name
        return self.add(name, "maxpool", x, kernel=pair(kernel), stride=pair(stride), padding=(padding,) * 4)

    def avgpool(self, name: str, x: str, kernel: int | Pair, stride: int = 1, padding: int = 0) -> str:
        """Append an average pool that counts the padding."""
        self.layer = name
        R, S = pair(kernel)
        self.constant(f"{name}.scale", np.array(1 / (R * S)))
        return self.add(name, "avgpool", x, f"{name}.scale", kernel=(R, S), stride=pair(stride), padding=(padding,) * 4)

    def global_avgpool(self, name: str, x: str) -> str:
        """Append the mean over the whole map and flatten it to a vector."""
        channels, height, width = self.types[x].shape
        pooled = self.avgpool(name, x, (height, width))
        return self.add(f"{name}.flat", "reshape", pooled, shape=(channels,))

    def flatten(self, name: str, x: str) -> str:
        """Append a view as one vector in C, H, W order."""
        return self.add(name, "reshape", x, shape=(self.types[x].size,))

    def _folded_bias(
        self, name: str, filters: int, bn: tuple[str, float] | None, gain: float
    ) -> tuple[Array, Array] | None:
        """Return (scale of each filter, bias), or None without parameters."""
        if bn is None:
            bias = self._parameter(f"{name}.bias", (filters,))
            return None if bias is None else (np.full(filters, 1.0), bias)
        prefix, eps = bn
        weight = self._parameter(f"{prefix}.weight", (filters,), mean=gain)
        shift = self._parameter(f"{prefix}.bias", (filters,))
        mean = self._parameter(f"{prefix}.running_mean", (filters,))
        var = self._parameter(f"{prefix}.running_var", (filters,), mean=1.0)
        if weight is None or shift is None or mean is None or var is None:
            return None
        scale = weight / np.sqrt(var + eps)
        return scale, shift - mean * scale

    def _parameter(self, name: str, shape: tuple[int, ...], *, scale: float = 0.0, mean: float = 0.0) -> Array | None:
        self.required[name] = Parameter(shape, scale, mean)
        return None if self.parameters is None else np.asarray(self.parameters[name], np.float64)
