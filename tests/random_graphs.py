"""Random small networks and architectures for property tests, and the fixed-point kernels of both."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from xaisim.attribution.device import Launch
from xaisim.attribution.methods import METHODS
from xaisim.config import load_data, parse_bytes
from xaisim.hardware import Architecture
from xaisim.ir.graph import Graph
from xaisim.ir.types import TensorType
from xaisim.models.builder import NetworkBuilder, Parameter
from xaisim.models.networks import Write
from xaisim.numerics.devices import DryDevice
from xaisim.numerics.formats import Formats, Numerics

LAYERS = ("conv", "relu", "maxpool", "avgpool", "residual", "branches")


class RandomNetwork(NetworkBuilder):
    """Writes layers with the values of one generator."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = np.random.default_rng(seed)
        self.made = 0

    def name(self, kind: str) -> str:
        self.made += 1
        self.layer = f"{kind}{self.made}"
        return self.layer

    def weights(self, name: str, *shape: int) -> str:
        scale = np.sqrt(2 / np.prod(shape[1:]))
        return self.constant(name, self.generator.normal(0, scale, shape))

    def window(self, x: str, filters: int, kernel: tuple[int, int], stride: Any, padding: Any, bias: bool) -> str:
        name = self.name("conv")
        args = [x, self.weights(f"{name}.w", filters, self.types[x].shape[0], *kernel)]
        if bias:
            args.append(self.constant(f"{name}.b", self.generator.normal(0, 0.3, filters)))
        return self.add(name, "conv", *args, stride=stride, padding=padding)

    def head(self, x: str, classes: int, pooled: bool) -> str:
        x = self.global_avgpool(self.name("gap"), x) if pooled else self.flatten(self.name("flat"), x)
        name = self.name("fc")
        w = self.weights(f"{name}.w", classes, self.types[x].size)
        return self.add("logits", "linear", x, w, self.constant(f"{name}.b", self.generator.normal(0, 0.3, classes)))


def _kernel_stride_padding(draw: Any, height: int, width: int, *, pool: bool) -> tuple[Any, Any, Any]:
    kernel = tuple(draw(st.integers(2 if pool else 1, 3)) for _ in range(2))
    stride = tuple(draw(st.integers(1, 3)) for _ in range(2))
    most = [k // 2 if pool else k for k in kernel]
    padding = tuple(draw(st.integers(0, m)) for m in (*most, *most))
    fits = all(n + padding[i] + padding[2 + i] >= kernel[i] for i, n in enumerate((height, width)))
    return (kernel, stride, padding) if fits else ((1, 1), (1, 1), (0, 0, 0, 0))


@st.composite
def networks(draw: Any, *, layers: int = 5, side: int = 8, channels: int = 4, classes: int = 3) -> Graph:
    """Draw a network from ``input`` to ``logits`` that uses every differentiable operator."""
    net = RandomNetwork(draw(st.integers(0, 2**16)))
    size = [draw(st.integers(3, side)) for _ in range(2)]
    x = net.input("input", TensorType((draw(st.integers(1, 3)), *size)))
    for kind in draw(st.lists(st.sampled_from(LAYERS), min_size=1, max_size=layers)):
        here, height, width = net.types[x].shape
        filters = draw(st.integers(1, channels))
        if kind == "conv":
            window = _kernel_stride_padding(draw, height, width, pool=False)
            x = net.window(x, filters, *window, draw(st.booleans()))
        elif kind == "relu":
            x = net.add(net.name("relu"), "relu", x)
        elif kind in ("maxpool", "avgpool"):
            kernel, stride, padding = _kernel_stride_padding(draw, height, width, pool=True)
            name = net.name(kind)
            scale = [] if kind == "maxpool" else [net.constant(f"{name}.scale", np.array(1 / np.prod(kernel)))]
            x = net.add(name, kind, x, *scale, kernel=kernel, stride=stride, padding=padding)
        elif kind == "residual":
            y = net.add(net.name("relu"), "relu", net.window(x, here, (3, 3), (1, 1), (1, 1, 1, 1), True))
            x = net.add(net.name("add"), "add", y, x)
        else:
            left = net.window(x, filters, (1, 1), (1, 1), (0, 0, 0, 0), False)
            right = net.add(net.name("relu"), "relu", net.window(x, filters, (1, 3), (1, 1), (0, 1, 0, 1), True))
            x = net.add(net.name("concat"), "concat", left, right, x)
    return net.build(net.head(x, classes, draw(st.booleans())))


def written(write: Write, shape: tuple[int, int, int], seed: int = 0) -> tuple[Graph, str, dict[str, np.ndarray]]:
    """Write a built-in network for another input size with random parameters, BatchNorm statistics included."""
    listing = NetworkBuilder()
    listing.input("input", TensorType(shape))
    write(listing)
    generator = np.random.default_rng(seed)
    parameters = {name: _drawn(generator, name, p) for name, p in listing.required.items()}
    net = NetworkBuilder(parameters)
    net.input("input", TensorType(shape))
    features, logits = write(net)
    return net.build(logits), features, parameters


def _drawn(generator: np.random.Generator, name: str, p: Parameter) -> np.ndarray:
    if p.scale:
        return generator.normal(p.mean, p.scale, p.shape)
    if name.endswith("running_var"):
        return generator.uniform(0.5, 1.5, p.shape)
    return generator.normal(p.mean, 0.1, p.shape)


@st.composite
def arrays(draw: Any) -> dict[str, Any]:
    """Draw a MAC array as the configuration has it, one in four with a choice of forms."""
    widths = {"multiplier_bits": 16, "accumulator_bits": 48}
    flexible = draw(st.integers(0, 3)) == 3
    if draw(st.booleans()):
        one = st.dictionaries(st.sampled_from("KCPQRS"), st.integers(1, 4), max_size=3)
        several = st.lists(
            one, min_size=2, max_size=3, unique_by=lambda form: frozenset(d for d in form.items() if d[1] > 1)
        )
        spatial = draw(several if flexible else one)
        return {"kind": "unrolled", "spatial": spatial, "pipeline_cycles": draw(st.integers(0, 5)), **widths}
    one_flow = st.sampled_from(["os", "ws", "is"])
    dataflow: Any = draw(st.lists(one_flow, min_size=2, unique=True) if flexible else one_flow)
    return {
        "kind": "systolic",
        "rows": draw(st.integers(1, 8)),
        "cols": draw(st.integers(1, 8)),
        "dataflow": dataflow,
        "folds": draw(st.sampled_from(["serialised", "pipelined"])) if "ws" in dataflow else "serialised",
        "drain": draw(st.booleans()) if "os" in dataflow else False,
        **widths,
    }


@st.composite
def architectures(draw: Any, *, least: int = 256, most: int = 8192) -> Architecture:
    """Draw an accelerator with small, oddly sized buffers, so that networks need many tiles."""

    def sram(name: str, holds: list[str]) -> dict[str, Any]:
        return {
            "name": name,
            "kind": "sram",
            "size": f"{draw(st.integers(least, most))}B",
            "holds": holds,
            "bytes_per_cycle": draw(st.sampled_from([1, 3, 8, 64])),
            "buffers": draw(st.integers(1, 3)),
        }

    groups = draw(
        st.sampled_from(
            [
                [["activation", "gradient"], ["weight"], ["psum"], ["mask"]],
                [["activation", "gradient", "weight", "psum", "mask"]],
                [["activation"], ["gradient", "weight"], ["psum"]],
                [["activation", "gradient", "mask"], ["weight"], ["psum"]],
            ]
        )
    )
    bus = {
        "bytes_per_cycle": draw(st.sampled_from([0.5, 4, 16])),
        "latency_cycles": draw(st.integers(0, 60)),
        "burst_bytes": draw(st.sampled_from([1, 8, 64])),
    }
    banks: dict[str, Any] = {"timing": draw(st.sampled_from(["ddr3_1600k", "lpddr5_6400"]))}
    dram = {"name": "dram", "kind": "dram", "size": "64MiB", "energy": "ddr3"} | draw(
        st.sampled_from([bus, bus, banks])
    )
    return load_data(
        Architecture,
        {
            "name": "drawn",
            "description": "drawn by a property test",
            "clock_mhz": 100,
            "memories": [dram, *(sram(f"buffer{i}", holds) for i, holds in enumerate(groups))],
            "array": draw(arrays()),
            "vector": {"lanes": draw(st.integers(1, 8)), "pipeline_cycles": draw(st.integers(0, 4))},
            "dma": {"issue_cycles": draw(st.integers(0, 20))},
            "control": {"launch_cycles": 10, "sync_cycles": 20},
            "technology": {"node_nm": 28, "voltage_v": 1.0},
            "costs": "asic_45nm",
        },
    )


@st.composite
def grids(draw: Any) -> dict[str, Any]:
    """Draw a small grid of processing elements as the configuration has it."""
    words = st.fixed_dictionaries(
        {"input": st.integers(1, 12), "weight": st.integers(1, 24), "psum": st.integers(1, 8)}
    )
    sides = st.sampled_from([(["R", "K"], ["P", "C"]), (["C"], ["K"]), (["R", "C2", "K"], ["P", "K"])])
    rows, cols = draw(sides)
    return {
        "kind": "grid",
        "rows": draw(st.integers(2, 6)),
        "cols": draw(st.integers(1, 6)),
        "spatial": {"rows": rows, "cols": cols},
        "registers": draw(words),
        "words_per_cycle": draw(words),
        "pipeline_cycles": draw(st.integers(0, 4)),
        "multiplier_bits": 16,
        "accumulator_bits": 48,
    }


@st.composite
def machines(draw: Any, *, levels: bool = True) -> Architecture:
    """Draw an accelerator with small buffers, several arrays and engines, banks, words, one or two levels, any sums."""
    data = draw(architectures(least=1024, most=16384)).model_dump(mode="json")
    if draw(st.integers(0, 3)) == 3:
        data["array"] = draw(grids())
    array = data["array"]
    array |= {"count": draw(st.integers(1, 3)), "divide": draw(st.sampled_from("KT"))}
    policies = ["proven", "wrap"] if array["kind"] == "grid" else ["proven", "wrap", "saturate"]
    array["accumulator"] = draw(st.sampled_from(policies))
    if array["accumulator"] != "proven":
        array["accumulator_bits"] = draw(st.integers(20, 48))
        array["psum_bits"] = draw(st.integers(16, array["accumulator_bits"]))
    data["dma"]["engines"] = draw(st.integers(1, 3))
    if levels and draw(st.booleans()):
        holds = sorted(draw(st.sets(st.sampled_from(["activation", "gradient", "weight"]), min_size=1)))
        outer = {"name": "outer", "kind": "sram", "size": f"{draw(st.integers(2, 24))}KiB", "holds": holds,
                 "bytes_per_cycle": draw(st.sampled_from([2, 16])), "buffers": draw(st.integers(1, 2))}  # fmt: skip
        data["memories"].insert(1, outer)
    for memory in data["memories"][1:]:
        memory["word_bits"] = draw(st.sampled_from([None, None, 8, 20, 64]))
        banks = draw(st.sampled_from([None, 1, 2, 8]))
        if banks is not None:
            size = parse_bytes(memory["size"]) // banks * banks
            memory |= {"size": f"{size}B", "banks": banks, "ports": draw(st.integers(1, 2))}
    return load_data(Architecture, data)


def dry_program(graph: Graph, method: str, numerics: Numerics | None = None, **options: Any) -> list[Launch]:
    """Return what a method launches, without computing values."""
    device = DryDevice(Formats(numerics or Numerics()), accumulator_bits=48)
    METHODS[method].run(device, graph, np.zeros((1, *graph.inputs["input"].shape)), 0, **options)
    return device.program
