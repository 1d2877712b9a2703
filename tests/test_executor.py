"""Do schedules compute the right bits when every tile is moved and computed on modelled memories?"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from random_graphs import RandomNetwork, architectures, networks
from test_bits import numerics

from xaisim.attribution import METHODS
from xaisim.config import UserError, load_data, shipped_names
from xaisim.experiment import Experiment, prepare
from xaisim.flow import calibrated
from xaisim.hardware import Architecture, load_architecture
from xaisim.ir.graph import Graph
from xaisim.ir.types import TensorType
from xaisim.mapping.order import arrange
from xaisim.mapping.schedule import Schedule, map_kernel
from xaisim.mapping.tiles import Edge, TileGraph, Unit
from xaisim.numerics.devices import FloatDevice
from xaisim.numerics.formats import Formats, Numerics, Ranges
from xaisim.simulate.clock import run_trip
from xaisim.simulate.executor import MemoryFaultError
from xaisim.simulate.memory_check import RecordingDevice, Run, check

Array = np.ndarray
OPTIONS: dict[str, dict[str, Any]] = {"integrated_gradients": {"n_steps": 3}}
METHOD_NAMES = [name for name in METHODS if name != "gradcam"]


@st.composite
def machines(draw: Any, *, levels: bool = True) -> Architecture:
    """Draw an accelerator with small buffers, several arrays and engines, one or two levels of memory, any sums."""
    data = draw(architectures(least=1024, most=16384)).model_dump(mode="json")
    array = data["array"]
    if array["kind"] == "systolic" or array["kind"] == "unrolled":
        array |= {"count": draw(st.integers(1, 3)), "divide": draw(st.sampled_from("KT"))}
    array["accumulator"] = draw(st.sampled_from(["proven", "wrap", "saturate"]))
    if array["accumulator"] != "proven":
        array["accumulator_bits"] = draw(st.integers(20, 48))
        array["psum_bits"] = draw(st.integers(16, array["accumulator_bits"]))
    data["dma"]["engines"] = draw(st.integers(1, 3))
    if levels and draw(st.booleans()):
        holds = sorted(draw(st.sets(st.sampled_from(["activation", "gradient", "weight"]), min_size=1)))
        outer = {"name": "outer", "kind": "sram", "size": f"{draw(st.integers(2, 24))}KiB", "holds": holds,
                 "bytes_per_cycle": draw(st.sampled_from([2, 16])), "buffers": draw(st.integers(1, 2))}  # fmt: skip
        data["memories"].insert(1, outer)
    return load_data(Architecture, data)


def recorded(graph: Graph, arch: Architecture, method: str, chosen: Numerics, x: Array, **options: Any) -> list[Run]:
    """Run a method in fixed point with the machine's accumulators."""
    ranges = Ranges()
    METHODS[method].run(FloatDevice(observe=ranges.see), graph, x, 0, **options)
    formats = Formats(chosen, ranges.largest)
    device = RecordingDevice(
        formats, arch.array.accumulator_bits, policy=arch.array.accumulator, psum_bits=arch.array.stored_sum_bits,
        arrange=lambda fixed: arrange(fixed, arch),
    )  # fmt: skip
    METHODS[method].run(device, graph, x, 0, **options)
    return device.runs


@given(data=st.data(), graph=networks(layers=4, side=9, channels=5), arch=machines(levels=False), chosen=numerics())
def test_a_random_network_on_a_random_machine_gives_the_same_bits(
    data: Any, graph: Graph, arch: Architecture, chosen: Numerics
) -> None:
    method = data.draw(st.sampled_from(METHOD_NAMES))
    x = np.random.default_rng(0).normal(size=(1, *graph.inputs["input"].shape))
    try:
        runs = recorded(graph, arch, method, chosen, x, **OPTIONS.get(method, {}))
        checked = [check(run, arch) for run in runs]
    except UserError:
        assume(False)
    for each in checked:
        assert each.equal, each


# Shipped networks on shipped machines ---------------------------------------------------------------------------------

PRESETS = shipped_names("arch_configs")
NETWORKS = ("cifar_cnn", "resnet18_tiny", "inception_v3_tiny")


@lru_cache(maxsize=2)
def experiment(network: str, method: str, preset: str) -> tuple[tuple[Run, ...], Architecture]:
    """Run a method on a trained network in fixed point, as ``xaisim explain`` does."""
    options = {"options": {"n_steps": 3}} if method == "integrated_gradients" else {}
    prepared = prepare(Experiment(model=network, method=method, arch=preset, **options))
    device = prepared.device(calibrated(prepared)[0], RecordingDevice)
    METHODS[method].run(device, prepared.model.graph, prepared.sample.x, 3, **prepared.options)
    return tuple(device.runs), prepared.arch


def assert_every_launch_gives_the_same_bits(network: str, method: str, preset: str) -> None:
    runs, arch = experiment(network, method, preset)
    for run in runs:
        checked = check(run, arch)
        assert checked.differing == dict.fromkeys(run.outputs, 0)
        assert checked.numbers > 0


@pytest.mark.parametrize(
    ("network", "method", "preset"),
    [(NETWORKS[i % 2], list(METHODS)[i % 7], preset) for i, preset in enumerate(PRESETS)]
    + [("inception_v3_tiny", "gradcam", "eyeriss"), ("inception_v3_tiny", "saliency", "zcu104")],
)
def test_a_trained_network_gives_the_same_bits_on_a_shipped_machine(network: str, method: str, preset: str) -> None:
    assert_every_launch_gives_the_same_bits(network, method, preset)


# Seeded faults --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def small() -> tuple[Run, Architecture, Schedule]:
    """A saliency kernel of two convolutions and a pool on a machine whose buffers hold a few rows."""
    net = RandomNetwork(3)
    x = net.input("input", TensorType((2, 9, 8)))
    x = net.add("relu", "relu", net.window(x, 4, (3, 3), (1, 1), (1, 1, 1, 1), True))
    x = net.add("pool", "maxpool", x, kernel=(2, 2), stride=(2, 2), padding=(0, 0, 0, 0))
    x = net.add("relu2", "relu", net.window(x, 6, (3, 3), (1, 1), (1, 1, 1, 1), True))
    graph = net.build(net.head(x, 3, False))
    data = load_architecture("edge_systolic_16").model_dump(mode="json")
    data["dma"]["engines"] = 2
    for memory in data["memories"][1:]:
        memory["size"] = "384B"
    arch = load_data(Architecture, data)
    picture = np.random.default_rng(0).normal(size=(1, 2, 9, 8))
    (run,) = recorded(graph, arch, "saliency", Numerics(), picture)
    return run, arch, map_kernel(run.graph, arch, sync=run.sync)


def caught(schedule: Schedule) -> bool:
    """Return whether a schedule with a fault is refused or gives other bits."""
    run, arch, _ = small()
    try:
        return not check(run, arch, schedule).equal
    except MemoryFaultError:
        return True


def test_the_small_kernel_itself_is_right() -> None:
    assert not caught(small()[2])


def without_edge(tiles: TileGraph, edge: int) -> TileGraph:
    names = ("edge_from", "edge_to", "edge_kind", "edge_distance", "edge_hold")
    return tiles._replace(**{name: np.delete(getattr(tiles, name), edge) for name in names})


def opened(kind: Edge) -> dict[int, TileGraph]:
    """Return the tiles less one edge, for every edge without which its row starts before the other has ended."""
    tiles = small()[2].tiles
    found = {}
    for edge in np.flatnonzero((tiles.edge_kind == kind) & (tiles.edge_distance == 0)).tolist():
        fewer = without_edge(tiles, edge)
        trace = run_trip(fewer)
        if trace.start[tiles.edge_to[edge]] < trace.end[tiles.edge_from[edge]]:
            found[edge] = fewer
    return found


@pytest.mark.parametrize("kind", [Edge.DATA, Edge.BUFFER])
def test_every_dropped_dependency_that_changes_the_order_is_caught(kind: Edge) -> None:
    schedule = small()[2]
    faulty = opened(kind)
    assert len(faulty) > 10
    missed = [edge for edge, tiles in faulty.items() if not caught(replace(schedule, tiles=tiles))]
    # A load that waits for a store has its order from the bus as well, which moves everything in program order.
    by_dma = np.array([seat.kind == Unit.DMA for seat in schedule.tiles.units])[schedule.tiles.unit]
    for edge in missed:
        assert by_dma[schedule.tiles.edge_from[edge]]
        assert by_dma[schedule.tiles.edge_to[edge]]
    assert len(missed) <= len(faulty) // 10
