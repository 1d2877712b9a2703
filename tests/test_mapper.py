"""Does the mapper find better mappings, is all that it may choose legal, and does a mapping file say it again?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from faults import recorded as executed
from hypothesis import assume, given
from hypothesis import strategies as st
from random_graphs import architectures, dry_program, networks
from schedule_checks import assert_legal, record
from test_clock import assert_clocks_agree

from xaisim.attribution import METHODS
from xaisim.attribution.device import Launch
from xaisim.cli import main
from xaisim.config import UserError, load_data
from xaisim.experiment import Experiment, Options, prepare
from xaisim.flow import calibrated
from xaisim.hardware import Architecture, load_architecture
from xaisim.hardware.memory import Sram
from xaisim.ir.graph import Graph
from xaisim.mapping import placement
from xaisim.mapping.choice import Choice, load_mapping
from xaisim.mapping.nest import Loop, Mapping, level_text, parse_level
from xaisim.mapping.placement import Kept
from xaisim.mapping.plan import plan_kernel
from xaisim.mapping.schedule import map_kernel, verify
from xaisim.mapping.tiles import Unit
from xaisim.models import load_model
from xaisim.numerics.formats import Numerics
from xaisim.simulate.clock import time_schedule
from xaisim.simulate.energy import Repeated, energy_account
from xaisim.simulate.mapper import Wish, best_schedule
from xaisim.simulate.memory_check import RecordingDevice, check
from xaisim.simulate.program import time_program


def program(name: str, method: str, **options: Any) -> list[Launch]:
    return dry_program(load_model(name, values=False).graph, method, **options)


# What may be chosen is legal ------------------------------------------------------------------------------------------


@given(
    graph=networks(layers=4, side=9, channels=5),
    arch=architectures(),
    keep=st.sampled_from([0.0, 0.25, 0.5, 0.75]),
    stay=st.sampled_from([0.0, 0.5]),
    objective=st.sampled_from(["latency", "energy", "edp"]),
)
def test_what_stays_on_the_chip_is_mapped_legally(
    graph: Graph, arch: Architecture, keep: float, stay: float, objective: str
) -> None:
    for launch in dry_program(graph, "saliency"):
        try:
            recorded = record(launch.graph, arch, keep=keep, stay=stay, objective=objective)
        except UserError:
            assume(False)
        assert_legal(recorded, arch)


def test_what_is_kept_lies_beside_all_that_lives_with_it_though_they_overlap_in_address() -> None:
    """Of two tensors that follow each other in time, one begins lower and ends higher than the other."""
    memory = load_architecture("eyeriss").memory("global_buffer")
    assert isinstance(memory, Sram)
    top = memory.size
    first, second = (Kept(memory.name, top - 72, 40, 6, 7), Kept(memory.name, top - 104, 96, 4, 5))
    address = placement._gap([first, second], memory, Kept(memory.name, 0, 24, 0, 6), 0)
    assert address == top - 104 - 24


@given(graph=networks(layers=3, side=8, channels=4), arch=architectures(least=4096), points=st.sampled_from([2, 3, 4]))
def test_several_path_points_in_flight_are_mapped_legally(graph: Graph, arch: Architecture, points: int) -> None:
    launch = dry_program(graph, "integrated_gradients", n_steps=12)[1]
    try:
        recorded = record(launch.graph, arch, points=points)
    except UserError:
        assume(False)
    assert_legal(recorded, arch)


@pytest.mark.parametrize("choice", [{"keep": 0.5}, {"points": 5}, {"keep": 0.25, "points": 2, "stay": 0.5}])
def test_a_shipped_network_is_mapped_legally_with_every_choice(choice: dict[str, Any]) -> None:
    arch = load_architecture("pynq_z2")
    launch = program("resnet18_tiny", "integrated_gradients", n_steps=10)[1]
    assert_legal(record(launch.graph, arch, **choice), arch)


def changed(name: str, **values: Any) -> Architecture:
    data = load_architecture(name).model_dump(mode="json") | {"board": None}
    for key, value in values.items():
        part, field = key.split("__")
        data[part][field] = value
    return load_data(Architecture, data)


@pytest.mark.parametrize("divide", ["K", "T"])
def test_several_arrays_share_the_work_of_a_tile(divide: str) -> None:
    launch = program("resnet18_tiny", "integrated_gradients", n_steps=8)[1]
    arch = changed("pynq_z2", array__count=4, array__divide=divide)
    schedule = map_kernel(launch.graph, arch, Choice(points=4))
    macs = np.bincount(schedule.tiles.unit, schedule.tiles.macs, len(schedule.tiles.units))
    arrays = [macs[i] for i, seat in enumerate(schedule.tiles.units) if seat.kind is Unit.ARRAY]
    assert len(arrays) == 4
    assert sum(arrays) == launch.graph.macs() * 4
    if divide == "T":
        assert len(set(arrays)) == 1


def two_levels(size: str = "64KiB") -> Architecture:
    """pynq_z2 with a shared buffer between the DRAM and the memories of each operand."""
    data = load_architecture("pynq_z2").model_dump(mode="json") | {"board": None}
    shared = {"name": "shared", "kind": "sram", "size": size, "holds": ["activation", "gradient", "weight"],
              "bytes_per_cycle": 16, "buffers": 2}  # fmt: skip
    data["memories"].insert(1, shared)
    for memory in data["memories"][2:4]:
        memory["size"] = "16KiB"
    return load_data(Architecture, data)


def test_what_stays_in_the_outer_memory_goes_on_to_the_inner_ones_and_not_to_dram() -> None:
    arch = two_levels("256KiB")
    p = prepare(Experiment(model="cifar_cnn", arch="pynq_z2", options=Options(n_steps=2)))
    path = executed(p.model.graph, arch, "integrated_gradients", Numerics(), p.sample.x, n_steps=2)[1]
    plain, kept = (map_kernel(path.graph, arch, choice) for choice in (Choice(), Choice(keep=0.5, stay=0.25)))
    verify(kept, arch)
    assert check(path, arch, kept).equal
    stay = kept.placement.over_trips
    assert stay
    assert len(kept.placement.resident) > len(stay) + len(plain.placement.resident)
    assert {k.memory for name, k in kept.placement.resident.items() if name not in plain.placement.resident} == {
        "shared"
    }
    bus = [float((s.tiles.read_bytes + s.tiles.write_bytes)[:, 0].sum()) for s in (plain, kept)]
    assert bus[1] < 0.8 * bus[0]
    links = [seat.name for seat in kept.tiles.units]
    weights = kept.tiles.unit == links.index("link weights")
    shared, inner = (1 + [m.name for m in arch.on_chip].index(name) for name in ("shared", "weights"))
    assert kept.tiles.read_bytes[weights, shared].sum() == kept.tiles.write_bytes[weights, inner].sum() > 0


def test_an_outer_memory_that_is_too_small_is_told_and_one_for_some_candidates_is_mapped() -> None:
    saliency = program("cifar_cnn", "saliency")[0]
    with pytest.raises(UserError, match="its smallest tile needs 560 bytes of shared, which has 512 left"):
        best_schedule(saliency, two_levels("512B"))
    path = program("cifar_cnn", "integrated_gradients", n_steps=8)[1]
    schedule, timing = best_schedule(path, two_levels("1200B"))  # some candidates need more
    assert schedule.peak_bytes["shared"] <= 1200
    assert timing.cycles > best_schedule(path, two_levels())[1].cycles


@pytest.mark.parametrize("method", ["saliency", "integrated_gradients"])
def test_a_second_level_of_memory_passes_tiles_on(method: str) -> None:
    arch = two_levels()
    options = {"n_steps": 2} if method == "integrated_gradients" else {}
    for launch in program("cifar_cnn", method, **options):
        schedule = map_kernel(launch.graph, arch)
        tiles = schedule.tiles
        assert [seat.name for seat in tiles.units][-3:] == ["link activations", "link activations out", "link weights"]
        names = [memory.name for memory in arch.memories]
        shared, weights = names.index("shared"), names.index("weights")
        used = [len(m.levels) for m in schedule.mappings]
        assert set(used) == {2}
        moved_in = tiles.write_bytes[tiles.kind == 0][:, weights].sum()
        passed = sum(  # every weight that arrives next to the array came out of the shared memory
            tiles.read_bytes[row, shared] for row in np.flatnonzero(tiles.write_bytes[:, weights] > 0)
        )
        assert moved_in == passed
        assert (passed > 0) == any(stage.on_array for stage in schedule.stages)
        assert schedule.peak_bytes["shared"] <= arch.memories[1].size


@pytest.mark.parametrize("objective", ["latency", "energy"])
def test_a_large_network_maps_through_a_second_level(objective: str) -> None:
    data = load_architecture("edge_systolic_16").model_dump(mode="json")
    data["memories"].insert(1, {"name": "shared", "kind": "sram", "size": "256KiB", "bytes_per_cycle": 64,
                                "holds": ["activation", "gradient", "weight"], "buffers": 2})  # fmt: skip
    arch = load_data(Architecture, data)
    (launch,) = dry_program(load_model("resnet18", "random", values=False).graph, "saliency")
    schedule = map_kernel(launch.graph, arch, Choice(objective))  # type: ignore[arg-type]
    verify(schedule, arch)
    assert int(schedule.tiles.macs.sum()) == launch.graph.macs()


# It finds better ones -------------------------------------------------------------------------------------------------


def fixed(folder: Path, **values: float) -> Wish:
    """Wish for a mapping whose choices are given, and whose tiles are not."""
    lines = "".join(f"    {key}: {value}\n" for key, value in values.items())
    kernels = ("forward", "gradient", "path gradient", "path result")
    (folder / "mapping.yaml").write_text("kernels:\n" + "".join(f"  {kernel}:\n{lines}" for kernel in kernels))
    return Wish(given=load_mapping(folder / "mapping.yaml"))


@pytest.mark.parametrize("preset", ["pynq_z2", "edge_systolic_32_ws"])
def test_what_the_mapper_chooses_is_never_slower_than_the_simplest_mapping(preset: str, tmp_path: Path) -> None:
    arch = load_architecture(preset)
    simplest = fixed(tmp_path, keep_on_chip=0, points_in_flight=1)
    for launch in program("resnet18_tiny", "integrated_gradients", n_steps=10):
        _, timing = best_schedule(launch, arch)
        assert timing.cycles <= best_schedule(launch, arch, simplest)[1].cycles


def test_path_points_in_flight_load_weights_less_often(tmp_path: Path) -> None:
    arch = load_architecture("zcu104")
    launch = program("resnet18_tiny", "integrated_gradients", n_steps=10)[1]
    weights = [memory.name for memory in arch.memories].index("weights")
    one, ten = (
        best_schedule(launch, arch, fixed(tmp_path, keep_on_chip=0, points_in_flight=n))[0].tiles for n in (1, 10)
    )
    assert ten.write_bytes[:, weights].sum() < 3 * one.write_bytes[:, weights].sum()
    assert ten.macs.sum() == 10 * one.macs.sum()


def test_each_objective_is_best_at_what_it_is_for() -> None:
    arch = load_architecture("pynq_z2")
    launch = program("cifar_cnn", "saliency")[0]
    found = {}
    for objective in ("latency", "energy", "edp"):
        schedule, timing = best_schedule(launch, arch, Wish(objective=objective))  # type: ignore[arg-type]
        energy = sum(item.uj for item in energy_account([Repeated(schedule, timing.trips)], arch))
        found[objective] = (timing.cycles, energy)
    assert found["latency"][0] == min(cycles for cycles, _ in found.values())
    assert found["energy"][1] == min(energy for _, energy in found.values())


# A mapping file says it again -----------------------------------------------------------------------------------------


@given(
    extents=st.fixed_dictionaries({dim: st.integers(1, 40) for dim in "TKCPQ"}),
    data=st.data(),
)
def test_loops_print_in_a_form_that_reads_back(extents: dict[str, int], data: st.DataObject) -> None:
    dims = data.draw(st.permutations("TKCPQ"))[: data.draw(st.integers(0, 5))]
    loops = tuple(Loop(dim, data.draw(st.integers(1, extents[dim]))) for dim in dims)
    sizes = dict(extents)
    assert parse_level(level_text(loops), sizes) == loops
    assert sizes == {**extents, **{loop.dim: loop.step for loop in loops}}


@pytest.mark.parametrize(
    "options", [["--method", "saliency"], ["--method", "integrated_gradients", "--n-steps", "10", "--arch", "zcu104"]]
)
def test_the_printed_mapping_loads_and_gives_the_same_schedule(options: list[str], tmp_path: Path) -> None:
    common = ["--model", "cifar_cnn", *options]
    shown = CliRunner().invoke(main, ["show", "mapping", *common])
    assert shown.exit_code == 0, shown.output
    path = tmp_path / "mapping.yaml"
    path.write_text(shown.stdout)
    again = CliRunner().invoke(main, ["show", "mapping", *common, "--mapping", str(path)])
    assert again.exit_code == 0, again.output
    assert again.stdout == shown.stdout
    free, given_ = (
        CliRunner().invoke(main, ["profile", *common, *more, "--json"]) for more in ([], ["--mapping", str(path)])
    )
    assert re.search(r'"total": \d+', free.stdout) is not None
    assert re.search(r'"total": \d+', free.stdout)[0] == re.search(r'"total": \d+', given_.stdout)[0]  # type: ignore[index]


WRONG = [
    ("dram: K by 16, K by 4", "the loops of a level name K twice"),
    ("dram: K by 64", "a step of K must lie in 1 to 32, the extent around it (got 64)"),
    ("dram: R by 1", "no loop dimension 'R' (R and S stay whole); choices: T, K, C, P, Q"),
    ("dram: K of 16", "a loop is written 'K by 16', or 'whole' for none (got 'K of 16')"),
    ("dram: whole", "its tiles do not fit: they need"),
    ("dram: P by 4\n        tile: K16", "loops and tile do not cover the nest: the loops over K leave 32 of 32, "
     "the tile has 16"),
    ("dram: P by 4\n        level 1: whole", "this architecture has 1 level of loops (got 2)"),
    ("sram: P by 4", "levels must be dram in this order (got sram)"),
]  # fmt: skip


@pytest.mark.parametrize(("loops", "message"), WRONG)
def test_a_wrong_mapping_is_told_in_one_line(loops: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_text(f"kernels:\n  gradient:\n    stages:\n      conv1:\n        {loops}\n")
    result = CliRunner().invoke(
        main, ["profile", "--model", "cifar_cnn", "--method", "saliency", "--arch", "eyeriss", "--mapping", str(path)]
    )
    assert result.exit_code == 2
    assert message in result.stderr
    assert "conv1: " in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "kernels:\n  gradients: {}\n",
            "kernels.gradients: the program launches no such kernel; did you mean 'gradient'?",
        ),
        ("kernels:\n  gradient:\n    stages:\n      conv9: {dram: whole}\n", "no such stage; did you mean 'conv"),
        ("kernels:\n  gradient:\n    keep_on_chip: 2\n", "keep_on_chip: must be less than or equal to 0.9 (got 2)"),
        (
            "kernels:\n  gradient:\n    points_in_flight: 3\n",
            "kernels.gradient.points_in_flight: must divide the 1 trips (got 3)",
        ),
        ("kernel: {}\n", "kernel: unknown key; did you mean 'kernels'?"),
        (
            "L3[WIO] K8 - L2[WI] K16X - L1[O] C16X - L0[W] P16\n",
            "is a nest in DOSA's notation, for Gemmini's commands: python benchmarks/gemmini.py times it",
        ),
    ],
)
def test_a_wrong_mapping_file_is_told_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_text(text)
    result = CliRunner().invoke(
        main, ["profile", "--model", "cifar_cnn", "--method", "saliency", "--mapping", str(path)]
    )
    assert result.exit_code == 2
    assert message in result.stderr
    assert str(path) in result.stderr


def test_a_tile_is_what_the_loops_leave() -> None:
    launch = program("cifar_cnn", "forward")[0]
    plan = plan_kernel(launch.graph, load_architecture("pynq_z2"))
    nest = plan.problems[0].nest
    mapping = Mapping(((Loop("K", 8), Loop("P", 5)),))
    assert mapping.tile(nest) == {"T": 1, "K": 8, "C": nest.C, "P": 5, "Q": nest.Q}
    assert mapping.counts(nest) == [("K", nest.K // 8), ("P", -(-nest.P // 5))]


def test_a_program_is_mapped_as_its_wish_says(tmp_path: Path) -> None:
    wish = fixed(tmp_path, keep_on_chip=0.5, points_in_flight=5)
    timing = time_program(
        program("cifar_cnn", "integrated_gradients", n_steps=10)[1:2], load_architecture("pynq_z2"), wish
    )
    assert timing.launches[0].schedule.plan.choice.keep == 0.5
    assert timing.launches[0].timing.trips == 2


# Whatever is chosen, the bits are the same ----------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["pynq_z2", "zcu104", "edge_systolic_16_is"])
@pytest.mark.parametrize("network", ["cifar_cnn", "resnet18_tiny"])
def test_what_stays_and_points_in_flight_give_the_same_bits_on_modelled_memories(network: str, preset: str) -> None:
    p = prepare(Experiment(model=network, arch=preset, options=Options(n_steps=4)))
    device = p.device(calibrated(p)[0], RecordingDevice)
    METHODS["integrated_gradients"].run(device, p.model.graph, p.sample.x, 3, **p.options)
    for run in device.runs:  # type: ignore[attr-defined]
        for keep, stay in ((0.0, 0.0), (0.5, 0.25), (0.75, 0.0), (0.25, 0.5)):
            for points in (1, 2, 4) if run.trips > 1 else (1,):
                choice = Choice(keep=keep, stay=stay, points=points)
                schedule = map_kernel(run.graph, p.arch, choice, sync=run.sync)
                assert check(run, p.arch, schedule).differing == dict.fromkeys(run.outputs, 0)


@given(
    graph=networks(layers=4, side=9, channels=5),
    arch=architectures(least=2048, most=16384),
    keep=st.sampled_from([0.0, 0.5, 0.75]),
    stay=st.sampled_from([0.0, 0.5, 0.9]),
    points=st.sampled_from([1, 2, 3]),
    banks=st.sampled_from([None, 1, 2]),
)
def test_random_networks_give_the_same_bits_whatever_is_chosen(
    graph: Graph, arch: Architecture, keep: float, stay: float, points: int, banks: int | None
) -> None:
    data = arch.model_dump(mode="json")
    for memory, sram in zip(data["memories"][1:], arch.on_chip, strict=True):
        memory["banks"] = banks if sram.size % (banks or 1) == 0 else None
    machine = load_data(Architecture, data)
    x = np.random.default_rng(0).normal(size=(1, *graph.inputs["input"].shape))
    for run in executed(graph, machine, "integrated_gradients", Numerics(), x, n_steps=6):
        try:
            choice = Choice(keep=keep, stay=stay, points=points if run.trips > 1 else 1)
            schedule = map_kernel(run.graph, machine, choice, sync=run.sync)
        except UserError:
            assume(False)
        verify(schedule, machine)
        assert check(run, machine, schedule).equal
        begin = time_schedule(schedule, 1).begin
        assert_clocks_agree(schedule.tiles, trips=2, begin=begin)
        if schedule.prologue is not None:
            assert_clocks_agree(schedule.prologue.tiles, trips=1)
