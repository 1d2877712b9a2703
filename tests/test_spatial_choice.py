"""Does each stage run in the form of the array that suits it, is that never worse than one for all, is it legal?"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from faults import recorded as executed
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_graphs import RandomNetwork, architectures, dry_program, networks
from ruamel.yaml import YAML
from test_clock import assert_clocks_agree

from xaisim.attribution.device import Launch
from xaisim.cli import main
from xaisim.config import UserError, data_root, json_schema, load_data, load_yaml
from xaisim.hardware import Architecture, EnergyModel, describe, load_architecture
from xaisim.ir.graph import Graph
from xaisim.ir.types import TensorType
from xaisim.mapping.choice import Choice, load_mapping
from xaisim.mapping.forms import Work, work_of
from xaisim.mapping.plan import plan_kernel
from xaisim.mapping.schedule import Schedule, map_kernel, verify
from xaisim.mapping.tiles import Kind
from xaisim.mapping.tiling import choose_mapping
from xaisim.models import load_model
from xaisim.numerics.formats import Numerics
from xaisim.rtl.design import design_of
from xaisim.simulate.energy import Repeated, energy_account
from xaisim.simulate.mapper import Wish, best_schedule
from xaisim.simulate.memory_check import check

FLEX = load_architecture("edge_systolic_16_flex")
UNROLLED = [{"K": 4, "C": 2}, {"K": 2, "P": 4}, {"C": 2, "Q": 4}]
SIDES = [{"rows": ["R", "C2", "K", "P"], "cols": ["P", "K"]}, {"rows": ["C", "K"], "cols": ["K", "P"]}]


def machine(name: str, changes: dict[str, Any]) -> Architecture:
    """Return a preset without its board and with other keys of the array."""
    data = load_architecture(name).model_dump(mode="json") | {"board": None}
    return load_data(Architecture, data | {"array": data["array"] | changes})


def machines() -> list[Architecture]:
    """Return an array of every kind with a choice of forms."""
    return [
        FLEX,
        machine("edge_systolic_16", {"dataflow": ["ws", "os"], "folds": "pipelined", "drain": True, "count": 2}),
        machine("pynq_z2", {"spatial": UNROLLED}),
        machine("eyeriss", {"spatial": SIDES}),
    ]


def flexible(arch: Architecture) -> Architecture:
    """Give a drawn machine a choice of forms where it has none."""
    if len(arch.array.forms) > 1:
        return arch
    forms = {"dataflow": ["os", "ws", "is"]} if arch.array.kind == "systolic" else {"spatial": UNROLLED}
    data = arch.model_dump(mode="json")
    return load_data(Architecture, data | {"array": data["array"] | forms})


def of_one_form(arch: Architecture) -> list[Architecture]:
    """Return the machines that a user would write for each form alone, by the keys that each may have."""
    data, found = arch.model_dump(mode="json"), []
    for form in arch.array.forms:
        if arch.array.kind != "systolic":
            array = data["array"] | {"spatial": form.model_dump(mode="json", exclude_none=True)}
        else:
            folds = data["array"]["folds"] if form == "ws" else "serialised"
            array = data["array"] | {"dataflow": form, "folds": folds, "drain": form == "os" and data["array"]["drain"]}
        found.append(load_data(Architecture, data | {"array": array}))
    return found


def launches(name: str, method: str, **options: Any) -> list[Launch]:
    return dry_program(load_model(name, values=False).graph, method, **options)


def forms_used(schedule: Schedule, arch: Architecture, *, backward: bool) -> set[str]:
    return {
        str(arch.array.forms[mapping.spatial])
        for stage, mapping in zip(schedule.stages, schedule.mappings, strict=True)
        if stage.on_array and stage.anchor.backward == backward
    }


def score(launch: Launch, arch: Architecture, objective: Any) -> float:
    schedule, timing = best_schedule(launch, arch, Wish(objective))
    energy = sum(item.uj for item in energy_account([Repeated(schedule, timing.trips)], arch))
    return {"latency": timing.cycles, "energy": energy, "edp": energy * timing.cycles}[objective]


# Never worse than one form for all ------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=20)
@given(
    graph=networks(layers=2, side=6, channels=5),
    arch=architectures(least=1024),
    objective=st.sampled_from(["latency", "energy", "edp"]),
)
def test_a_choice_of_forms_is_never_worse_by_the_clock_than_any_of_them_alone(
    graph: Graph, arch: Architecture, objective: str
) -> None:
    arch = flexible(arch)
    for launch in dry_program(graph, "integrated_gradients", n_steps=2):
        try:
            alone = [score(launch, one, objective) for one in of_one_form(arch)]
        except UserError:
            assume(False)
        assert score(launch, arch, objective) <= min(alone)


@pytest.mark.parametrize("objective", ["latency", "energy", "edp"])
@pytest.mark.parametrize("arch", machines(), ids=["systolic", "two pipelined", "unrolled", "grid"])
def test_each_stage_has_the_form_of_least_bound(arch: Architecture, objective: Any) -> None:
    for launch in launches("resnet18_tiny", "saliency"):
        plan = plan_kernel(launch.graph, arch, Choice(objective))
        total = 0.0
        for problem, mapping, free in zip(plan.problems, plan.mappings, plan.placement.free, strict=True):
            bounds, tilings = [], []
            for one in of_one_form(arch):
                tiled = choose_mapping(problem, one, tuple(free.items()), "", objective)
                work = work_of(problem, tiled.mapping, one) if problem.on_array else Work(0, 0, 0)
                bounds.append(max(work.beside(cost).bound(objective) for cost in tiled.costs))
                tilings.append(tiled.mapping.levels)
            total += min(bounds)
            assert bounds[mapping.spatial] == min(bounds)
            assert mapping.levels == tilings[mapping.spatial]
        assert plan.bound == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("arch", machines(), ids=["systolic", "two pipelined", "unrolled", "grid"])
def test_one_form_for_all_stages_is_the_machine_that_has_no_other(arch: Architecture) -> None:
    for launch in launches("resnet18_tiny", "integrated_gradients", n_steps=4):
        for form, alone in enumerate(of_one_form(arch)):
            mine = map_kernel(launch.graph, arch, Choice(keep=0.25, spatial=form))
            theirs = map_kernel(launch.graph, alone, Choice(keep=0.25))
            assert mine.plan.bound == theirs.plan.bound
            for field in mine.tiles._fields:
                a, b = getattr(mine.tiles, field), getattr(theirs.tiles, field)
                assert all(itertools.starmap(np.array_equal, zip(a, b, strict=True)))
            assert energy_account([Repeated(mine, 1)], arch) == energy_account([Repeated(theirs, 1)], alone)


def test_a_list_of_one_is_the_plain_value() -> None:
    for name, key in (("edge_systolic_16_ws", "dataflow"), ("pynq_z2", "spatial"), ("eyeriss", "spatial")):
        arch = load_architecture(name)
        data = arch.model_dump(mode="json", exclude_none=True)
        data["array"][key] = [data["array"][key]]
        listed = load_data(Architecture, data)
        assert listed == arch
        assert listed.model_dump_json() == arch.model_dump_json()
        assert listed.alternatives == (listed,)


# What a form costs ----------------------------------------------------------------------------------------------------


def classifier() -> Graph:
    """256 inputs, 16 in the middle, 4 classes."""
    net = RandomNetwork(1)
    x = net.add("flat", "reshape", net.input("input", TensorType((256, 1, 1))), shape=(256,))
    x = net.add("fc", "linear", x, net.weights("fc.w", 16, 256))
    x = net.add("relu", "relu", x)
    return net.build(net.add("logits", "linear", x, net.weights("logits.w", 4, 16)))


def test_forward_stays_with_its_sums_and_backward_with_its_inputs() -> None:
    """A layer of 256 inputs and 16 outputs, and the way back: folds of load + stream + 30 cycles of skew, by hand.

    Forward, os has 1 fold of 0 + 256 + 30, ws and is 16 of 16 + 1 + 30 and of 16 + 16 + 30. Backward os has 16 folds
    of 0 + 16 + 30, ws 16 of 16 + 1 + 30, is one of 16 + 256 + 30.
    """
    data = FLEX.model_dump(mode="json")
    for memory in data["memories"]:
        memory["bytes_per_cycle"] = 65536
    data["memories"][0]["latency_cycles"] = data["dma"]["issue_cycles"] = 0
    arch = load_data(Architecture, data)
    (launch,) = dry_program(classifier(), "saliency")
    schedule, _ = best_schedule(launch, arch)
    cycles = {}
    for stage, mapping in zip(schedule.stages, schedule.mappings, strict=True):
        of_stage = (schedule.tiles.stage == stage.index) & (schedule.tiles.kind == Kind.COMPUTE)
        if stage.on_array and of_stage.sum() == 1:
            cycles[stage.name] = arch.array.forms[mapping.spatial], int(schedule.tiles.occupy_cycles[of_stage].sum())
    assert cycles["fc"] == ("os", 0 + 256 + 30)
    assert [found for name, found in cycles.items() if name.startswith("d_")] == [("is", 16 + 256 + 30)]


@pytest.mark.parametrize("arch", machines(), ids=["systolic", "two pipelined", "unrolled", "grid"])
def test_the_bound_knows_the_bytes_that_an_array_reads_and_writes(arch: Architecture) -> None:
    """Against the rows of the schedule, which are priced one by one; equal where all tiles are full."""
    model = EnergyModel(arch)
    for form in range(len(arch.array.forms)):
        (launch,) = launches("cifar_cnn", "forward")
        schedule = map_kernel(launch.graph, arch, Choice(spatial=form))
        tiles, plan = schedule.tiles, schedule.plan
        full = 0
        for stage, problem, mapping in zip(schedule.stages, plan.problems, plan.mappings, strict=True):
            tile = mapping.tile(problem.nest)
            if not stage.on_array or any(getattr(problem.nest, dim) % tile[dim] for dim in tile):
                continue
            if arch.array.count > 1 and tile["K"] % arch.array.count:
                continue
            full += 1
            work = work_of(problem, mapping, arch.alternatives[form])
            mine = (tiles.stage == stage.index) & (tiles.kind == Kind.COMPUTE)
            reads, writes = tiles.read_bytes[mine].sum(axis=0), tiles.write_bytes[mine].sum(axis=0)
            assert work.moved_bytes == pytest.approx(reads.sum() + writes.sum(), rel=1e-12)
            energy = sum(
                r * model.memory_pj_per_byte(memory.name, "read") + w * model.memory_pj_per_byte(memory.name, "write")
                for memory, r, w in zip(arch.memories, reads, writes, strict=True)
            )
            assert work.picojoules == pytest.approx(energy, rel=1e-12)
            # Tiles after the first add to sums that they read, which may keep a port busy for longer than on average.
            assert work.cycles * arch.array.count <= tiles.occupy_cycles[mine].sum() * (1 + 1e-12)
            if mapping.counts(problem.nest) == [] or "C" not in dict(mapping.counts(problem.nest)):
                assert work.cycles * arch.array.count == pytest.approx(
                    tiles.occupy_cycles[mine].sum(), abs=int(mine.sum())
                )
        assert full > 2


def test_a_narrow_port_for_sums_keeps_a_layer_from_sending_them_back_and_forth() -> None:
    data = FLEX.model_dump(mode="json")
    (sums,) = (memory for memory in data["memories"] if memory["name"] == "partial_sums")
    for rate, expected in ((96, {"os", "ws"}), (6, {"os"})):
        sums["bytes_per_cycle"] = rate
        arch = load_data(Architecture, data)
        (launch,) = launches("cifar_cnn", "forward")
        assert forms_used(map_kernel(launch.graph, arch), arch, backward=False) == expected


@pytest.mark.parametrize("first", ["K4 C2", "K2 C2 P2"])
def test_of_forms_with_equal_bounds_the_one_that_moves_less_wins(first: str) -> None:
    """Both take as many cycles; with 4 filters side by side every pixel reads the weights, with 2 every other."""
    forms = [{"K": 4, "C": 2}, {"K": 2, "P": 2, "C": 2}]
    arch = machine("pynq_z2", {"spatial": forms if first == "K4 C2" else forms[::-1]})
    assert str(arch.array.forms[0]) == first
    net = RandomNetwork(0)
    x = net.window(net.input("input", TensorType((8, 8, 8))), 16, (1, 1), (1, 1), (0, 0, 0, 0), False)
    (launch,) = dry_program(net.build(net.head(x, 4, True)), "forward")
    plan = plan_kernel(launch.graph, arch)
    assert str(arch.array.forms[plan.mappings[0].spatial]) == "K2 C2 P2"


def test_peak_and_resources_are_those_of_the_largest_form() -> None:
    arch = machine("pynq_z2", {"spatial": [{"K": 16, "C": 8}, {"K": 3, "R": 3, "S": 3}]})
    assert arch.peak_macs_per_cycle == 128
    assert arch.fpga_resources() == load_architecture("pynq_z2").fpga_resources()
    assert "array      unrolled K16 C8 or K3 R3 S3, pipeline" in describe(arch)
    assert "array      systolic 16x16 os or ws or is, folds serialised" in describe(FLEX)


# Whatever is chosen, the bits are the same ----------------------------------------------------------------------------


@pytest.mark.slow
@given(
    graph=networks(layers=3, side=7, channels=4),
    arch=architectures(least=2048, most=16384),
    policy=st.sampled_from(["proven", "saturate"]),
    objective=st.sampled_from(["latency", "energy"]),
)
def test_random_networks_give_the_same_bits_in_every_form(
    graph: Graph, arch: Architecture, policy: str, objective: Any
) -> None:
    arch = flexible(arch)
    widths = {"accumulator": policy, "accumulator_bits": 16 if policy == "saturate" else 48}
    arch = arch.model_copy(update={"array": arch.array.model_copy(update=widths)})
    numerics = Numerics(uniform="q12.6") if policy == "saturate" else Numerics()
    x = np.random.default_rng(0).normal(size=(1, *graph.inputs["input"].shape))
    try:
        runs = executed(graph, arch, "integrated_gradients", numerics, x, n_steps=2)
        found = [best_schedule(Launch(r.kernel, r.graph, r.trips, r.sync), arch, Wish(objective))[0] for r in runs]
    except UserError:
        assume(False)
    for run, schedule in zip(runs, found, strict=True):
        verify(schedule, arch)
        assert check(run, arch, schedule).equal
        assert_clocks_agree(schedule.tiles, trips=2)


def test_a_trained_network_gives_the_same_bits_with_forms_that_differ_from_layer_to_layer() -> None:
    model = load_model("cifar_cnn")
    x = np.random.default_rng(0).normal(size=(1, 3, 32, 32))
    (run,) = executed(model.graph, FLEX, "saliency", Numerics(), x)
    schedule, _ = best_schedule(Launch(run.kernel, run.graph, run.trips, run.sync), FLEX)
    assert forms_used(schedule, FLEX, backward=False) == {"os", "ws"}
    assert forms_used(schedule, FLEX, backward=True) == {"os", "is"}
    assert check(run, FLEX, schedule).equal
    assert_clocks_agree(schedule.tiles)


# What a user writes ---------------------------------------------------------------------------------------------------


def written(folder: Path, stages: str) -> Path:
    path = folder / "mapping.yaml"
    path.write_text(f"kernels:\n  gradient:\n    stages:\n{stages}\n")
    return path


@pytest.mark.parametrize("arch", machines(), ids=["systolic", "two pipelined", "unrolled", "grid"])
def test_the_printed_mapping_with_its_forms_gives_the_same_schedule(arch: Architecture, tmp_path: Path) -> None:
    (tmp_path / "arch.yaml").write_text(arch.model_dump_json(exclude_none=True))  # JSON is YAML
    common = ["show", "mapping", "--model", "cifar_cnn", "--method", "saliency", "--arch", str(tmp_path / "arch.yaml")]
    shown = CliRunner().invoke(main, common)
    assert shown.exit_code == 0, shown.output
    stages = YAML(typ="safe").load(shown.stdout)["kernels"]["gradient"]["stages"]
    assert {lines["spatial"] for lines in stages.values() if "spatial" in lines} <= set(map(str, arch.array.forms))
    assert any("spatial" in lines for lines in stages.values())
    assert not all("spatial" in lines for lines in stages.values())  # pools and gates have no form
    (tmp_path / "mapping.yaml").write_text(shown.stdout)
    again = CliRunner().invoke(main, [*common, "--mapping", str(tmp_path / "mapping.yaml")])
    assert again.stdout == shown.stdout


def test_a_machine_of_one_form_prints_none() -> None:
    shown = CliRunner().invoke(main, ["show", "mapping", "--model", "cifar_cnn", "--method", "saliency"])
    assert "spatial" not in shown.stdout


def test_a_form_may_be_given_without_loops_and_loops_without_a_form(tmp_path: Path) -> None:
    (launch,) = launches("cifar_cnn", "saliency")
    free, _ = best_schedule(launch, FLEX)
    named = load_mapping(written(tmp_path, "      conv2: {spatial: is}\n      conv3: {dram: P by 1}"))
    schedule, _ = best_schedule(launch, FLEX, Wish(given=named))
    of = {stage.name: mapping for stage, mapping in zip(schedule.stages, schedule.mappings, strict=True)}
    assert FLEX.array.forms[of["conv2"].spatial] == "is"
    assert [str(of["conv3"]), FLEX.array.forms[of["conv3"].spatial]] == ["P by 1", "os"]
    assert forms_used(free, FLEX, backward=False) == {"os", "ws"}


@pytest.mark.parametrize(
    ("arch", "stages", "message"),
    [
        ("edge_systolic_16_flex", "conv1: {spatial: oss}",
         "stages.conv1: spatial: no form of this array (got 'oss'); did you mean 'os'? choices: os; ws; is"),
        ("edge_systolic_16_ws", "conv1: {spatial: os}",
         "stages.conv1: spatial: no form of this array (got 'os'); choices: ws"),
        ("pynq_z2", "conv1: {spatial: K8 C16}",
         "stages.conv1: spatial: no form of this array (got 'K8 C16'); choices: K16 C8"),
        ("edge_systolic_16_flex", "pool1: {spatial: os}",
         "stages.pool1: spatial: it does not run on the array (got 'os')"),
        ("edge_systolic_16_flex", "conv1: {spatial: os, tile: K32 C3 P1 Q32}",
         "stages.conv1: a stage is given by its loops: write dram, or leave the stage out"),
    ],
)  # fmt: skip
def test_a_wrong_form_in_a_mapping_is_told_in_one_line(arch: str, stages: str, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, f"      {stages}")
    common = ["--model", "cifar_cnn", "--method", "saliency", "--arch", arch]
    result = CliRunner().invoke(main, ["profile", *common, "--mapping", str(path)])
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_another_form_is_refused_where_the_order_of_addition_is_part_of_the_values(tmp_path: Path) -> None:
    arch = machine("edge_systolic_16_flex", {"accumulator": "saturate", "accumulator_bits": 16})
    graph = load_model("cifar_cnn").graph
    x = np.random.default_rng(0).normal(size=(1, 3, 32, 32))
    (run,) = executed(graph, arch, "forward", Numerics(weights=8, activations=8), x)
    launch = Launch(run.kernel, run.graph, run.trips, run.sync)
    simplest = plan_kernel(run.graph, arch)
    index = next(i for i, stage in enumerate(simplest.stages) if stage.name == "conv2")
    used = arch.array.forms[simplest.mappings[index].spatial]
    path = written(tmp_path, f"      conv2: {{dram: '{simplest.mappings[index]}', spatial: is}}")
    path.write_text(path.read_text().replace("gradient", "forward"))
    with pytest.raises(UserError, match=f"conv2: its sums saturate, .*; spatial must be {used} \\(got is\\)"):
        best_schedule(launch, arch, Wish(given=load_mapping(path)))
    for objective in ("latency", "energy", "edp"):  # whatever is wished for, tiles and forms are those of the values
        schedule, _ = best_schedule(launch, arch, Wish(objective))  # type: ignore[arg-type]
        assert schedule.mappings == simplest.mappings


FILE = (data_root() / "arch_configs" / "edge_systolic_16_flex.yaml").read_text(encoding="utf-8")
SYSTOLIC = "  kind: systolic\n  rows: 16\n  cols: 16\n  dataflow: [os, ws, is]"
LIST = "  kind: unrolled\n  pipeline_cycles: 8\n  spatial: "


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ("dataflow: []", "array.dataflow: must have at least 1 items (got 0)"),
        ("dataflow: [os, rs]", "array.dataflow[1]: must be one of os, ws, is (got 'rs')"),
        ("dataflow: [os, ws, os]", "array.dataflow[2]: os is listed twice"),
        ("dataflow: [os, is]\n  folds: pipelined",
         "array.folds: pipelined folds need dataflow ws (got dataflow 'os' and 'is')"),
        ("dataflow: [ws, is]\n  drain: true", "array.drain: only dataflow os has a drain (got dataflow 'ws' and 'is')"),
    ],
)  # fmt: skip
def test_a_wrong_list_of_dataflows_is_told_with_its_place(array: str, message: str) -> None:
    lines = [line for line in FILE.splitlines() if not line.startswith(("  folds", "  drain"))]
    text = "\n".join(lines).replace("dataflow: [os, ws, is]", array, 1)
    with pytest.raises(UserError) as error:
        load_yaml(Architecture, "a.yaml", text=text)
    assert message in str(error.value)
    assert str(error.value).startswith("a.yaml:")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("spatial", "message"),
    [
        ("[{K: 16, C: 8}, {K: 16, Z: 8}]",
         "array.spatial[1].Z: unknown key; choices: N, B, K, C, P, OY, Q, OX, R, FY, S, FX, rows, cols"),
        ("[{K: 16, C: 8}, {K: 0}]", "array.spatial[1].K: must be greater than or equal to 1 (got 0)"),
        ("[{K: 16, C: 8}, {rows: [K], cols: [C]}]", "array.spatial[1]: an unrolled array has no sides: write"),
        ("[{K: 16, C: 8}, {C: 8, K: 16}]", "array.spatial[1]: K16 C8 is listed twice"),
        ("{K: 16, Z: 8}", "array.spatial.Z: unknown key; choices: N, B, K"),
    ],
)  # fmt: skip
def test_a_wrong_list_of_unrollings_is_told_with_its_place(spatial: str, message: str) -> None:
    lines = [line for line in FILE.splitlines() if not line.startswith(("  folds", "  drain"))]
    text = "\n".join(lines).replace(SYSTOLIC.partition("\n  dataflow")[0], LIST + spatial, 1)
    text = "\n".join(line for line in text.splitlines() if "dataflow: [" not in line)
    with pytest.raises(UserError) as error:
        load_yaml(Architecture, "a.yaml", text=text)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_sides_that_do_not_fit_the_grid_are_told_with_the_form_that_lists_them() -> None:
    with pytest.raises(UserError, match=r"array\.spatial\[1\]\.rows: C13 take 13 places, the grid has 12 rows"):
        machine("eyeriss", {"spatial": [SIDES[0], {"rows": ["C13"], "cols": ["K"]}]})


def test_editors_are_offered_a_value_or_a_list() -> None:
    definitions = json_schema(Architecture)["$defs"]
    one, several = definitions["SystolicArray"]["properties"]["dataflow"]["oneOf"]
    assert one["enum"] == ["os", "ws", "is"]
    assert (several["type"], several["items"]["enum"], several["minItems"]) == ("array", one["enum"], 1)


def test_a_circuit_has_one_dataflow() -> None:
    with pytest.raises(UserError, match="a circuit has one, the array lists several; name one of them: os, ws, is"):
        design_of(FLEX)
    assert design_of(FLEX, dataflow="ws") == design_of(load_architecture("edge_systolic_16_ws"))
    both = machine("edge_systolic_16", {"dataflow": ["ws", "os"], "folds": "pipelined", "drain": True})
    assert [design_of(both, dataflow=one).array.folds for one in ("ws", "os")] == ["pipelined", "serialised"]
    result = CliRunner().invoke(main, ["rtl", "edge_systolic_16_flex", "-o", "nowhere"])
    assert result.exit_code == 2
    assert "name one of them: os, ws, is" in result.stderr
