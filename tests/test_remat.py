"""Are masks and indices that backward computes again the same bits, and is it chosen where it pays, and only there?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from faults import recorded
from hypothesis import assume, given
from hypothesis import strategies as st
from random_graphs import RandomNetwork, architectures, dry_program, networks
from schedule_checks import assert_legal, record
from test_clock import assert_clocks_agree

from xaisim.attribution import METHODS
from xaisim.attribution.device import Launch
from xaisim.cli import main
from xaisim.config import UserError, load_data
from xaisim.experiment import Experiment, Options, prepare
from xaisim.flow import calibrated
from xaisim.hardware import Architecture, load_architecture
from xaisim.ir.graph import Graph, evaluate
from xaisim.ir.graph import verify as verify_graph
from xaisim.ir.types import TensorType
from xaisim.mapping.choice import Choice, GivenMapping, GivenStage, KernelMapping, MappingFile
from xaisim.mapping.plan import plan_kernel
from xaisim.mapping.remat import recomputable, rematerialise
from xaisim.mapping.schedule import Schedule, map_kernel
from xaisim.mapping.tiling import Objective
from xaisim.models import load_model
from xaisim.numerics.formats import NAMED_NUMERICS, Numerics
from xaisim.simulate.energy import Repeated, energy_account
from xaisim.simulate.mapper import Wish, best_schedule
from xaisim.simulate.memory_check import RecordingDevice, Run, check

CONV_MASKS = ("relu1.positive", "relu2.positive", "relu3.positive", "relu4.positive")
"""Of ``cifar_cnn``."""


def machine(masks: str, dram_bytes_per_cycle: float = 0.125, **array: Any) -> Architecture:
    """A machine with little room for masks, and a DRAM so slow that multiplications are cheaper than bytes."""
    data = load_architecture("edge_systolic_16").model_dump(mode="json")
    data["memories"][0] |= {"bytes_per_cycle": dram_bytes_per_cycle, "burst_bytes": 1}
    for memory in data["memories"]:
        if memory["name"] == "masks":
            memory["size"] = masks
    data["array"] |= array
    return load_data(Architecture, data)


def stem_network(kind: str) -> Graph:
    """A stem of one channel, whose large mask takes little to compute again, in front of a pool or a residual block."""
    net = RandomNetwork(1)
    side = (3, 3), (1, 1), (1, 1, 1, 1)
    x = net.input("input", TensorType((1, 16, 16)))
    x = net.add("stem", "relu", net.window(x, 24, *side, True))
    if kind == "pool":
        x = net.add("relu", "relu", net.window(x, 12, *side, True))
        x = net.add("pool", "maxpool", x, kernel=(2, 2), stride=(2, 2), padding=(0, 0, 0, 0))
    else:
        y = net.add("relu", "relu", net.window(x, 16, *side, True))
        x = net.add("sum", "relu", net.add("add", "add", net.window(y, 24, *side, True), x))
    return net.build(net.head(x, 3, True))


def only(**kernel: Any) -> Wish:
    """Wish for a mapping of which something is given, whatever the kernel is called."""
    names = ("forward", "gradient", "path gradient", "path result")
    return Wish(given=GivenMapping(MappingFile(kernels=dict.fromkeys(names, KernelMapping(**kernel))), "mine.yaml"))


def launch_of(run: Run) -> Launch:
    return Launch(run.kernel, run.graph, run.trips, run.sync)


def dry(network: str, method: str = "saliency") -> Launch:
    return dry_program(load_model(network, values=False).graph, method)[0]


# The same bits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "preset", "method"),
    [
        ("cifar_cnn", "pynq_z2", "saliency"),
        ("resnet18_tiny", "edge_systolic_16_is", "guided_backprop"),
        ("cifar_cnn", "zcu104", "integrated_gradients"),
    ],
)
def test_everything_computed_again_gives_the_same_bits_on_modelled_memories(
    network: str, preset: str, method: str
) -> None:
    options = Options(n_steps=2) if method == "integrated_gradients" else Options()
    p = prepare(Experiment(model=network, arch=preset, method=method, options=options))
    device = p.device(calibrated(p)[0], RecordingDevice)
    METHODS[method].run(device, p.model.graph, p.sample.x, 3, **p.options)
    run = next(run for run in device.runs if recomputable(run.graph))  # type: ignore[attr-defined]
    everything = tuple(sorted(recomputable(run.graph)))
    assert len(everything) == sum(node.op in ("positive", "pool_index") for node in run.graph.nodes) > 5
    for keep in (0.0, 0.75):
        for points in (1, 2) if run.trips > 1 else (1,):
            choice = Choice(keep=keep, points=points, recompute=everything)
            schedule = map_kernel(run.graph, p.arch, choice, sync=run.sync)
            assert schedule.fates.on_chip == schedule.fates.spilled == 0
            assert check(run, p.arch, schedule).differing == dict.fromkeys(run.outputs, 0)


@given(
    graph=networks(layers=5, side=9, channels=5),
    arch=architectures(least=2048, most=16384),
    keep=st.sampled_from([0.0, 0.5]),
    points=st.sampled_from([1, 2]),
    drawn=st.integers(1, 2**16),
)
def test_random_networks_give_the_same_bits_whatever_is_computed_again(
    graph: Graph, arch: Architecture, keep: float, points: int, drawn: int
) -> None:
    x = np.random.default_rng(0).normal(size=(1, *graph.inputs["input"].shape))
    for run in recorded(graph, arch, "integrated_gradients", Numerics(), x, n_steps=4):
        names = tuple(sorted(n for i, n in enumerate(recomputable(run.graph)) if drawn >> i & 1))
        if not names:
            continue
        choices = {"keep": keep, "points": points, "recompute": names}
        try:
            found = record(run.graph, arch, **choices)
        except UserError:
            assume(False)
        assert_legal(found, arch)
        assert check(run, arch, found.schedule).equal
        assert_clocks_agree(found.schedule.tiles, trips=2)


@given(graph=networks(layers=5), drawn=st.integers(1, 2**16))
def test_the_graph_stays_whole_and_its_forward_half_as_it_is(graph: Graph, drawn: int) -> None:
    for launch in dry_program(graph, "guided_backprop"):
        names = tuple(n for i, n in enumerate(recomputable(launch.graph)) if drawn >> i & 1)
        again = rematerialise(launch.graph, names)
        verify_graph(again)
        forward = [node for node in launch.graph.nodes if not node.backward and node.name not in names]
        assert [node for node in again.nodes if not node.backward] == forward
        assert again.outputs == launch.graph.outputs
        assert not {*names} & {node.name for node in again.nodes}


def test_a_mask_is_the_sign_of_the_accumulator_again_and_not_that_of_the_rounded_map() -> None:
    net = RandomNetwork(0)
    x = net.add(
        "relu", "relu", net.window(net.input("input", TensorType((1, 4, 4))), 2, (1, 1), (1, 1), (0,) * 4, True)
    )
    picture = np.random.default_rng(0).normal(size=(1, 1, 4, 4))
    (run,) = recorded(net.build(net.head(x, 2, False)), machine("1KiB"), "saliency", Numerics(uniform="q8.4"), picture)
    again = rematerialise(run.graph, ("relu.positive",))
    seen: dict[str, np.ndarray] = {}
    outputs = evaluate(again, run.feeds, observe=seen.__setitem__)
    assert (seen["relu.positive.again"] != (seen["relu"] > 0)).any(), "rounding hides no sign here"
    for name, values in evaluate(run.graph, run.feeds).items():
        assert np.array_equal(outputs[name], values)


# What it saves and what it costs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [CONV_MASKS, ("relu2.positive",), ("pool1.pool_index",), ()])
def test_storage_falls_by_exactly_what_is_computed_again(names: tuple[str, ...]) -> None:
    launch, arch = dry("cifar_cnn"), load_architecture("pynq_z2")
    types = launch.graph.types()
    saved = sum(types[name].size_bits for name in names)
    fates = map_kernel(launch.graph, arch, Choice(recompute=names)).fates
    assert fates == (123_008 - saved, 0, saved)


def test_cifar_cnn_stores_24704_bits_when_the_masks_of_its_convolutions_are_computed_again() -> None:
    """Two pools of 2 bits per window, 16·16·32 + 8·8·64 of them, and a bit for each of the 128 of the dense layer."""
    schedule = map_kernel(dry("cifar_cnn").graph, load_architecture("pynq_z2"), Choice(recompute=CONV_MASKS))
    assert schedule.stored_bits("positive") == 128
    assert schedule.stored_bits("pool_index") == 2 * (16 * 16 * 32 + 8 * 8 * 64)
    assert schedule.stored_bits("positive") + schedule.stored_bits("pool_index") == 24_704


def test_a_convolution_is_multiplied_again_and_a_pool_is_not() -> None:
    graph, arch = dry("cifar_cnn").graph, load_architecture("pynq_z2")
    macs = {node.name: node.type.size * 9 for node in graph.nodes if node.op == "conv" and not node.backward}
    again = map_kernel(graph, arch, Choice(recompute=("pool1.pool_index", "relu3.positive")))
    assert int(again.tiles.macs.sum()) - graph.macs() == macs["conv3.exact"] * 32
    assert again.graph.macs(backward=False) == graph.macs(backward=False)


def dram_bytes(schedule: Schedule) -> float:
    return float(schedule.tiles.read_bytes[:, 0].sum() + schedule.tiles.write_bytes[:, 0].sum())


def test_traffic_is_what_a_hand_counts() -> None:
    """1 KiB for masks: the stem's 768 bytes stay, the other ReLU's 384 and the pool's 192 are written and read.

    Computed again, the stem's mask lies where those two did: nothing but its input, weights and biases is loaded.
    """
    arch = machine("1KiB")
    (launch,) = dry_program(stem_network("pool"), "saliency", NAMED_NUMERICS["fixed8"])
    schedules = []
    for names in ((), ("stem.positive",)):
        plan = plan_kernel(launch.graph, arch, Choice(recompute=names))
        loops = {"conv2": "K by 4", "d_relu": "K by 2"}  # masks in tiles, each loaded once
        stages = tuple(GivenStage(stage.name, (loops.get(stage.name, "whole"),)) for stage in plan.stages)
        schedules.append(map_kernel(launch.graph, arch, Choice(recompute=names, stages=stages)))
    stored, again = schedules
    assert stored.fates == (8 * 768, 8 * (384 + 192), 0)
    assert again.fates == (8 * (384 + 192), 0, 8 * 768)
    picture, weights, biases = 16 * 16 * 1, 24 * 9, 24 * 48 // 8
    assert dram_bytes(stored) - dram_bytes(again) == 2 * (384 + 192) - (picture + weights + biases)
    addresses = again.placement.resident
    assert addresses["stem.positive.again"].address + 768 == arch.memory("masks").size
    assert addresses["stem.positive.again"].first > addresses["relu.positive"].last


# The mapper's choice --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "method", "masks"),
    [
        ("pool", "saliency", "1KiB"),
        ("residual", "guided_backprop", "1536B"),
        ("residual", "integrated_gradients", "5KiB"),
    ],
)
def test_where_bytes_are_dear_the_mapper_computes_masks_again_by_itself(kind: str, method: str, masks: str) -> None:
    arch = machine(masks)
    options = {"n_steps": 4} if method == "integrated_gradients" else {}
    x = np.random.default_rng(0).normal(size=(1, 1, 16, 16))
    chosen = []
    for run in recorded(stem_network(kind), arch, method, NAMED_NUMERICS["fixed8"], x, **options):
        schedule, timing = best_schedule(launch_of(run), arch)
        _, stored = best_schedule(launch_of(run), arch, only(recompute=[]))
        assert check(run, arch, schedule).equal
        again = schedule.plan.choice.recompute
        chosen += [*again]
        assert (timing.cycles < stored.cycles) if again else (timing.cycles == stored.cycles)
    assert chosen == ["stem.positive"]


@given(
    graph=networks(layers=3, side=8, channels=6),
    arch=architectures(least=512, most=8192),
    objective=st.sampled_from(["latency", "energy", "edp"]),
)
def test_looking_for_masks_to_compute_again_never_makes_a_mapping_worse(
    graph: Graph, arch: Architecture, objective: Objective
) -> None:
    for launch in dry_program(graph, "saliency"):
        scores = []
        for given_ in (None, only(recompute=[]).given):
            try:
                schedule, timing = best_schedule(launch, arch, Wish(objective, given_))
            except UserError:
                assume(False)
            energy = sum(item.uj for item in energy_account([Repeated(schedule, timing.trips)], arch))
            scores.append({"latency": timing.cycles, "energy": energy, "edp": timing.cycles * energy}[objective])
        assert scores[0] <= scores[1]


# Files, reports and refusals ------------------------------------------------------------------------------------------


def test_a_printed_mapping_with_masks_computed_again_loads_and_gives_the_same_run(tmp_path: Path) -> None:
    common = ["--model", "cifar_cnn", "--method", "saliency"]
    path, printed = tmp_path / "mine.yaml", tmp_path / "printed.yaml"
    path.write_text(f"kernels:\n  gradient:\n    recompute: [{', '.join(reversed(CONV_MASKS))}]\n")
    runs = []
    for source in (path, printed):
        shown = CliRunner().invoke(main, ["show", "mapping", *common, "--mapping", str(source)])
        assert shown.exit_code == 0, shown.output
        assert f"    recompute: [{', '.join(CONV_MASKS)}]" in shown.stdout
        printed.write_text(shown.stdout)
        run = CliRunner().invoke(main, ["profile", *common, "--mapping", str(source), "--json"])
        assert run.exit_code == 0, run.output
        runs.append((shown.stdout, json.loads(run.stdout)["cycles"]))
    assert runs[0] == runs[1]


def test_a_report_says_what_is_stored_and_what_is_multiplied_again(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"kernels:\n  gradient:\n    recompute: [{', '.join(CONV_MASKS)}]\n")
    common = ["profile", "--model", "cifar_cnn", "--method", "saliency", "--mapping", str(path)]
    report = json.loads(CliRunner().invoke(main, [*common, "--json"]).stdout)
    memory, macs = report["memory"], report["macs"]
    assert (memory["mask_bits"], memory["index_bits"]) == (128, 24_576)
    assert (memory["on_chip_bits"], memory["spilled_bits"], memory["recomputed_bits"]) == (24_704, 0, 98_304)
    convolutions = sum(row["macs"] for row in report["layers"] if row["stage"] in ("conv1", "conv2", "conv3", "conv4"))
    assert macs["recomputed"] == convolutions == 24_477_696
    plain = dry("cifar_cnn").graph
    assert macs["forward"] == plain.macs(backward=False)
    assert macs["backward"] == plain.macs(backward=True) + convolutions
    text = CliRunner().invoke(main, common).stdout
    assert "all on the chip; 98,304 bits computed again with 24,477,696 MAC" in text


def test_an_unknown_mask_is_refused_with_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("kernels:\n  gradient:\n    recompute: [relu1.positiv]\n")
    result = CliRunner().invoke(
        main, ["profile", "--model", "cifar_cnn", "--method", "saliency", "--mapping", str(path)]
    )
    assert result.exit_code == 2
    assert f"{path}: kernels.gradient.recompute: no mask or index 'relu1.positiv'" in result.stderr
    assert "did you mean 'relu1.positive'? choices: relu1.positive, relu2.positive, pool1.pool_index" in result.stderr


def test_a_sum_that_saturates_is_not_computed_again() -> None:
    """Its value depends on the order of addition, which another mapping of the same loops could change."""
    arch = machine("1KiB", accumulator="saturate", accumulator_bits=16)
    x = np.random.default_rng(0).normal(size=(1, 1, 16, 16))
    (run,) = recorded(stem_network("pool"), arch, "saliency", Numerics(uniform="q12.6"), x)
    assert recomputable(run.graph) == ("pool.pool_index",)
    with pytest.raises(ValueError, match=r"stem\.positive: no mask or index that can be recomputed"):
        rematerialise(run.graph, ("stem.positive",))
    with pytest.raises(UserError, match=r"no mask or index 'stem\.positive' .*choices: pool\.pool_index"):
        best_schedule(launch_of(run), arch, only(recompute=["stem.positive"]))
    schedule, _ = best_schedule(launch_of(run), arch, only(recompute=["pool.pool_index"]))
    assert schedule.plan.choice.recompute == ("pool.pool_index",)
    assert check(run, arch, schedule).equal
