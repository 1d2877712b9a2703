"""A measured layer on the tile machine of preset ``gemmini_16``, as ``xaisim profile`` would time it.

tile_machine_cycles(row.layer)          the mapper's own tiles: no row's mapping, no host, caches or request window

It stands beside the model of commands (``xaisim.validate.gemmini``) to show how far apart the two are.
"""

from __future__ import annotations

import numpy as np

from xaisim.attribution.device import Kernel, Launch
from xaisim.hardware.architecture import Architecture
from xaisim.ir.graph import GraphBuilder
from xaisim.ir.types import TensorType
from xaisim.mapping.commands.lower import conv_shape
from xaisim.mapping.commands.nest import Layer
from xaisim.numerics.devices import DryDevice
from xaisim.numerics.formats import Formats, load_numerics
from xaisim.simulate.program import time_program


def layer_launch(layer: Layer, arch: Architecture) -> Launch:
    """Return the convolution, padded as the measured programs do, or the product, in 8 bits as one kernel."""
    shape = conv_shape(layer, 1)
    size = (layer.C, shape.in_q, shape.in_p)
    builder = GraphBuilder()
    x = builder.input("input", TensorType(size))
    w = builder.constant("w", None, TensorType((layer.K, layer.C, layer.S, layer.R)))
    builder.layer = "conv"
    down, right = layer.S // 2, layer.R // 2
    builder.add("conv", "conv", x, w, stride=(layer.stride,) * 2, padding=(down, right, down, right))
    device = DryDevice(Formats(load_numerics("fixed8")), accumulator_bits=arch.array.accumulator_bits)
    device.launch(Kernel("layer", builder.build("conv")), {"input": np.zeros((1, *size))})
    return device.program[0]


def tile_machine_cycles(layer: Layer, arch: Architecture) -> int:
    """Return the cycles of one layer alone, with tiles that the mapper chooses and the host's call."""
    return time_program([layer_launch(layer, arch)], arch).cycles
