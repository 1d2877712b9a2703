"""Is the schedule legal? Random networks on random accelerators, shipped networks on shipped ones, and closed forms."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from random_graphs import architectures, dry_program, networks
from schedule_checks import (
    assert_legal,
    assert_loads_wait_for_the_stores_of_what_they_read,
    assert_no_two_live_tiles_share_an_address,
    assert_tiles_have_what_they_read,
    record,
)

from xaisim.attribution import METHODS
from xaisim.attribution.device import Kernel, Launch
from xaisim.config import UserError, load_data, shipped_names
from xaisim.hardware import Architecture, load_architecture, systolic_cycles
from xaisim.ir.graph import Graph, GraphBuilder
from xaisim.ir.types import TensorType
from xaisim.mapping.lower import run_walk
from xaisim.mapping.plan import plan_kernel
from xaisim.mapping.schedule import map_kernel, verify
from xaisim.mapping.tiles import Edge, Kind, TileGraph, Unit
from xaisim.models import load_model
from xaisim.numerics.devices import DryDevice, FixedDevice, FloatDevice
from xaisim.numerics.formats import Formats, Numerics, Ranges
from xaisim.simulate.clock import run_loop, run_trip
from xaisim.simulate.program import time_program

EDGES = ("edge_from", "edge_to", "edge_kind", "edge_distance", "edge_hold")
PRESETS = shipped_names("arch_configs")
SMALL = ("cifar_cnn", "resnet18_tiny", "inception_v3_tiny")
METHOD_OPTIONS: dict[str, dict[str, Any]] = {
    "saliency": {},
    "deconvnet": {},
    "guided_backprop": {},
    "input_x_gradient": {},
    "integrated_gradients": {"n_steps": 3},
}


def assert_every_launch_is_legal(program: list[Launch], arch: Architecture) -> None:
    for launch in program:
        try:
            recorded = record(launch.graph, arch)
        except UserError:
            assume(False)
        assert_legal(recorded, arch)


@given(graph=networks(layers=4, side=9, channels=5), arch=architectures(), method=st.sampled_from(list(METHOD_OPTIONS)))
def test_a_random_network_on_a_random_accelerator_is_mapped_legally(
    graph: Graph, arch: Architecture, method: str
) -> None:
    assert_every_launch_is_legal(dry_program(graph, method, **METHOD_OPTIONS[method]), arch)


@given(graph=networks(layers=3, side=9, channels=4), arch=architectures(least=2048, most=65536))
def test_gradcam_with_weights_that_are_data_is_mapped_legally(graph: Graph, arch: Architecture) -> None:
    layer = next((n.name for n in graph.nodes if len(n.type.shape) == 3 and n.op in ("conv", "add")), None)
    assume(layer is not None)
    assert_every_launch_is_legal(dry_program(graph, "gradcam", layer=layer), arch)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", SMALL)
def test_a_shipped_network_on_a_shipped_accelerator_is_mapped_legally(name: str, preset: str) -> None:
    arch = load_architecture(preset)
    (launch,) = dry_program(load_model(name, values=False).graph, "saliency")
    assert_legal(record(launch.graph, arch), arch, trips=2)


@pytest.mark.parametrize("name", SMALL)
def test_a_path_loop_of_a_shipped_network_is_mapped_legally_over_several_trips(name: str) -> None:
    arch = load_architecture("pynq_z2")
    program = dry_program(load_model(name, values=False).graph, "integrated_gradients", n_steps=3)
    assert [launch.trips for launch in program] == [1, 3, 1]
    for launch in program:
        assert_legal(record(launch.graph, arch), arch, trips=3)


def test_the_checks_notice_missing_edges_and_early_loads() -> None:
    """Without the edges of one kind some tile must be overwritten or read too early, and be found."""
    arch = resized(resized(load_architecture("pynq_z2"), "activations", "24KiB"), "weights", "16KiB")
    program = dry_program(load_model("cifar_cnn", values=False).graph, "integrated_gradients", n_steps=2)
    recorded = record(program[1].graph, arch)
    tiles, mapped = recorded.schedule.tiles, recorded.schedule
    trace = run_trip(tiles)
    with pytest.raises(AssertionError, match="is loaded before it is stored"):
        assert_loads_wait_for_the_stores_of_what_they_read(recorded, [trace._replace(start=0 * trace.start)])

    def without(edge: Edge) -> TileGraph:
        kept = tiles.edge_kind != edge
        columns = {name: getattr(tiles, name)[kept] for name in EDGES}
        return tiles._replace(**columns)

    recorded.schedule = dataclasses.replace(mapped, tiles=without(Edge.BUFFER))
    with pytest.raises(AssertionError, match="two tiles share activations at cycle"):
        assert_no_two_live_tiles_share_an_address(recorded.schedule, [run_trip(recorded.schedule.tiles)], arch)
    recorded.schedule = dataclasses.replace(mapped, tiles=without(Edge.DATA))
    with pytest.raises(AssertionError, match=r"path\.difference"):
        assert_tiles_have_what_they_read(recorded)


def test_dry_and_fixed_runs_are_scheduled_and_timed_alike() -> None:
    """Calibration moves points, not words: with the same widths a run without values costs the same cycles."""
    arch = load_architecture("pynq_z2")
    for name in ("cifar_cnn", "resnet18_tiny"):
        model = load_model(name)
        x = np.random.default_rng(0).normal(size=(1, *model.input_shape))
        ranges = Ranges()
        METHODS["saliency"].run(FloatDevice(observe=ranges.see), model.graph, x, 3)
        devices = DryDevice(Formats(Numerics()), 48), FixedDevice(Formats(Numerics(), ranges.largest), 48)
        for device in devices:
            METHODS["saliency"].run(device, model.graph, x, 3)
        dry, fixed = (time_program(device.program, arch) for device in devices)
        assert dry.cycles == fixed.cycles
        assert (dry.read_bytes, dry.write_bytes) == (fixed.read_bytes, fixed.write_bytes)
        assert dry.units == fixed.units


# Masks and indices ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "mask_bits", "index_bits"),
    [("cifar_cnn", 98_304 + 128, 24_576), ("resnet18_tiny", 188_416, 4 * 16 * 32 * 32)],
)
def test_masks_take_a_bit_per_relu_element_and_indices_two_or_four_per_window(
    name: str, mask_bits: int, index_bits: int
) -> None:
    graph = load_model(name, values=False).graph
    (launch,) = dry_program(graph, "saliency")
    mapped = map_kernel(launch.graph, load_architecture("zcu104"))
    assert mapped.stored_bits("positive") == mask_bits
    assert mapped.stored_bits("positive") == sum(n.type.size for n in graph.nodes if n.op == "relu")
    assert mapped.stored_bits("pool_index") == index_bits


def test_masks_that_fit_stay_on_the_chip_and_others_cross_the_bus() -> None:
    (launch,) = dry_program(load_model("cifar_cnn", values=False).graph, "saliency")
    large, small = (
        map_kernel(launch.graph, resized(load_architecture("pynq_z2"), "masks", size)) for size in ("64KiB", "2KiB")
    )
    kept = {n.name for n in launch.graph.nodes if n.op in ("positive", "pool_index")}
    assert set(large.placement.resident) == kept
    assert set(small.placement.resident) < kept
    assert large.tiles.read_bytes[:, 0].sum() < small.tiles.read_bytes[:, 0].sum()


def resized(arch: Architecture, memory: str, size: str) -> Architecture:
    data = arch.model_dump(mode="json") | {"board": None}
    for entry in data["memories"]:
        if entry["name"] == memory:
            entry["size"] = size
    return load_data(Architecture, data)


# Closed forms and limits ----------------------------------------------------------------------------------------------


def gemm(filters: int, channels: int, side: int) -> Graph:
    """A 1×1 convolution: M = side², K = channels, N = filters."""
    b = GraphBuilder()
    b.input("input", TensorType((channels, side, side)))
    b.constant("w", None, TensorType((filters, channels, 1, 1)))
    return b.build(b.add("logits", "conv", "input", "w", stride=(1, 1), padding=(0, 0, 0, 0)))


def compiled(graph: Graph) -> Graph:
    device = DryDevice(Formats(Numerics()), accumulator_bits=48)
    device.launch(Kernel("gemm", graph), {"input": np.zeros((1, *graph.inputs["input"].shape))})
    return device.program[0].graph


@pytest.mark.parametrize(("dataflow", "cycles"), [("os", 10_176), ("ws", 11_200), ("is", 14_208)])
def test_one_matrix_product_keeps_a_systolic_array_busy_for_the_published_cycles(dataflow: str, cycles: int) -> None:
    """M, N, K = 256, 128, 256 on 32×32, serialised folds without stalls (SCALE-Sim)."""
    arch = load_architecture("edge_systolic_32" + ("" if dataflow == "os" else f"_{dataflow}"))
    mapped = map_kernel(compiled(gemm(128, 256, 16)), arch)
    verify(mapped, arch)
    assert systolic_cycles(arch.array, 256, 256, 128).total == cycles  # type: ignore[arg-type]
    assert int(run_loop(mapped.tiles, 1).busy[Unit.ARRAY]) == cycles
    assert int(mapped.tiles.macs.sum()) == 256 * 128 * 256


@pytest.mark.parametrize("side", [8, 14])
@pytest.mark.parametrize("dataflow", ["os", "ws", "is"])
def test_a_tiled_matrix_product_takes_the_closed_form_of_its_tiles(dataflow: str, side: int) -> None:
    data = load_architecture("edge_systolic_16").model_dump(mode="json")
    data["array"]["dataflow"] = dataflow
    for memory in data["memories"][1:]:
        memory |= {"size": "4KiB", "bytes_per_cycle": 4096.0}
    arch = load_data(Architecture, data)
    mapped = map_kernel(compiled(gemm(24, 40, side)), arch)
    tiles, tile_c = mapped.tiles, mapped.mappings[0].tile(mapped.nests[0])["C"]
    channels = [min(tile_c, 40 - c) for c in range(0, 40, tile_c)]
    total = sum(
        int(systolic_cycles(arch.array, int((p1 - p0) * (q1 - q0)), c, int(k1 - k0)).total)  # type: ignore[arg-type]
        for k0, k1, p0, p1, q0, q1 in tiles.region[tiles.kind == Kind.VECTOR]
        for c in channels
    )
    assert len(tiles.region[tiles.kind == Kind.VECTOR]) > 1
    assert int(tiles.occupy_cycles[tiles.unit == Unit.ARRAY].sum()) == total


@pytest.mark.parametrize("memory", ["activations", "weights", "partial_sums"])
def test_a_network_that_does_not_fit_names_the_memory_that_lacks(memory: str) -> None:
    arch = resized(load_architecture("pynq_z2"), memory, "8B")
    (launch,) = dry_program(load_model("cifar_cnn", values=False).graph, "saliency")
    with pytest.raises(UserError) as error:
        map_kernel(launch.graph, arch)
    text = str(error.value)
    assert text.startswith("pynq_z2: ")
    assert f"bytes of {memory}, which has 8 left" in text
    assert "does not fit: its smallest tile needs " in text
    assert "\n" not in text


def test_a_kernel_larger_than_the_dram_is_refused() -> None:
    arch = resized(load_architecture("pynq_z2"), "dram", "1MiB")
    with pytest.raises(UserError, match=r"pynq_z2: the kernel needs .* bytes of dram, which has 1048576"):
        map_kernel(dry_program(load_model("resnet18", "random", values=False).graph, "forward")[0].graph, arch)


def test_large_networks_map_on_every_board() -> None:
    (launch,) = dry_program(load_model("resnet18", "random", values=False).graph, "forward")
    for preset in ("pynq_z2", "zcu104"):
        arch = load_architecture(preset)
        mapped = map_kernel(launch.graph, arch)
        verify(mapped, arch)
        assert int(mapped.tiles.macs.sum()) == 1_814_073_344
        assert all(mapped.peak_bytes[memory.name] <= memory.size for memory in arch.on_chip)


@pytest.mark.parametrize("preset", ["pynq_z2", "eyeriss"])
def test_the_walk_is_allotted_as_much_as_it_writes_and_not_much_more(preset: str) -> None:
    arch = load_architecture(preset)
    for launch in dry_program(load_model("resnet18_tiny", values=False).graph, "integrated_gradients"):
        out = run_walk(plan_kernel(launch.graph, arch), arch, -1)
        room = [table.base.nbytes / table.nbytes for table in (out.row, out.edge, out.allocation, out.access)]
        assert all(1 <= times < 8 for times in room)


# The host's choice ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["saliency", "gradcam"])
def test_what_the_class_decides_is_loaded_after_the_host_has_read_the_logits(method: str) -> None:
    model, arch = load_model("resnet18_tiny", values=False), load_architecture("pynq_z2")
    options = {"layer": model.features} if method == "gradcam" else {}
    (launch,) = dry_program(model.graph, method, **options)
    schedule = map_kernel(launch.graph, arch, sync=launch.sync)
    tiles, trace = schedule.tiles, run_trip(schedule.tiles)
    (host,) = np.flatnonzero(tiles.kind == Kind.SYNC)
    assert tiles.occupy_cycles[host] == arch.control.sync_cycles
    logits = next(s for s in schedule.stages if "logits" in {o.name for o in s.outputs})
    stored = (tiles.stage == logits.index) & (tiles.kind == Kind.STORE)
    assert trace.start[host] >= trace.end[stored].max()
    choosing = [s.index for s in schedule.stages if any(o.chosen for o in s.operands)]
    assert choosing
    assert trace.start[np.isin(tiles.stage, choosing)].min() >= trace.start[host]
    behind = (tiles.stage > logits.index) & (tiles.kind != Kind.SYNC)
    assert trace.start[behind & (tiles.unit != 0)].min() >= trace.end[host]


def test_no_table_per_class_is_larger_than_a_row_of_the_head() -> None:
    """DeconvNet's backward is constant up to the first pool or mask; it is computed, not stored for every class."""
    model = load_model("resnet18", values=False)
    plain, deconv = (dry_program(model.graph, method)[0].graph for method in ("saliency", "deconvnet"))
    assert deconv.macs(backward=True) == plain.macs(backward=True)
    for graph in (plain, deconv):
        assert max(c.type.size for c in graph.constants.values() if c.chosen) == 512
