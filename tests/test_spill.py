"""Are masks and indices that wait in DRAM by choice the same bits, and is that chosen only where it pays?"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from faults import recorded
from hypothesis import assume, given
from hypothesis import strategies as st
from random_graphs import architectures, networks
from schedule_checks import assert_legal, record
from test_remat import dry, only

from xaisim.cli import main
from xaisim.config import UserError
from xaisim.hardware import Architecture, load_architecture
from xaisim.ir.graph import Graph
from xaisim.mapping.remat import stored
from xaisim.mapping.tiling import Objective
from xaisim.numerics.formats import Numerics
from xaisim.simulate.energy import Repeated, energy_account
from xaisim.simulate.mapper import Wish, best_schedule
from xaisim.simulate.memory_check import check


@pytest.mark.parametrize("preset", ["pynq_z2", "ultra96_v2", "zcu104"])
def test_what_fits_is_stored_unless_the_clock_says_that_spilling_is_faster(preset: str) -> None:
    launch, arch = dry("cifar_cnn"), load_architecture(preset)
    schedule, timing = best_schedule(launch, arch)
    everything = list(stored(launch.graph))
    fits, kept = best_schedule(launch, arch, only(spill=[]))
    gone, spilled = best_schedule(launch, arch, only(spill=everything))
    assert fits.fates == (123_008, 0, 0)
    assert gone.fates == (0, 123_008, 0)
    assert timing.cycles == min(kept.cycles, spilled.cycles)
    assert schedule.fates == (gone if spilled.cycles < kept.cycles else fits).fates


@pytest.mark.parametrize("objective", ["latency", "energy", "edp"])
def test_trying_to_spill_never_makes_a_mapping_worse(objective: Objective) -> None:
    launch, arch = dry("resnet18_tiny"), load_architecture("pynq_z2")
    scores = []
    for wish in (Wish(objective), Wish(objective, only(spill=[]).given)):
        schedule, timing = best_schedule(launch, arch, wish)
        energy = sum(item.uj for item in energy_account([Repeated(schedule, timing.trips)], arch))
        scores.append({"latency": timing.cycles, "energy": energy, "edp": timing.cycles * energy}[objective])
    assert scores[0] <= scores[1]


@given(
    graph=networks(layers=5, side=9, channels=5),
    arch=architectures(least=2048, most=16384),
    points=st.sampled_from([1, 2]),
    drawn=st.integers(1, 2**16),
)
def test_random_networks_give_the_same_bits_whatever_is_spilled(
    graph: Graph, arch: Architecture, points: int, drawn: int
) -> None:
    x = np.random.default_rng(0).normal(size=(1, *graph.inputs["input"].shape))
    for run in recorded(graph, arch, "integrated_gradients", Numerics(), x, n_steps=4):
        names = tuple(sorted(n for i, n in enumerate(stored(run.graph)) if drawn >> i & 1))
        if not names:
            continue
        try:
            found = record(run.graph, arch, points=points, spill=names)
        except UserError:
            assume(False)
        assert not {*names} & {*found.schedule.placement.resident}
        assert_legal(found, arch)
        assert check(run, arch, found.schedule).equal


def test_a_printed_mapping_with_spilled_masks_loads_and_gives_the_same_run(tmp_path: Path) -> None:
    common = ["--model", "cifar_cnn", "--method", "saliency"]
    path, printed = tmp_path / "mine.yaml", tmp_path / "printed.yaml"
    path.write_text(
        "kernels:\n  gradient:\n    recompute: [relu2.positive]\n    spill: [relu3.positive, relu1.positive]\n"
    )
    cycles = []
    for source in (path, printed):
        shown = CliRunner().invoke(main, ["show", "mapping", *common, "--mapping", str(source)])
        assert shown.exit_code == 0, shown.output
        assert "    spill: [relu1.positive, relu3.positive]" in shown.stdout
        printed.write_text(shown.stdout)
        run = CliRunner().invoke(main, ["profile", *common, "--mapping", str(source), "--json"])
        assert run.exit_code == 0, run.output
        report = json.loads(run.stdout)
        assert report["memory"]["spilled_bits"] == 32_768 + 16_384
        cycles.append(report["cycles"])
    assert cycles[0] == cycles[1]


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ("spill: [relu1.positiv]", "gradient.spill: no mask or index 'relu1.positiv' that backward reads from forward; "
         "did you mean 'relu1.positive'? choices: relu1.positive, "),
        ("spill: [relu1.positive, relu1.positive]", "gradient.spill: relu1.positive is listed twice"),
        ("recompute: [relu1.positive, relu1.positive]", "gradient.recompute: relu1.positive is listed twice"),
        ("recompute: [relu1.positive]\n    spill: [relu1.positive]",
         "gradient.spill: no mask or index 'relu1.positive'"),
    ],
)  # fmt: skip
def test_a_wrong_list_of_masks_is_refused(lines: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"kernels:\n  gradient:\n    {lines}\n")
    command = ["profile", "--model", "cifar_cnn", "--method", "saliency", "--mapping", str(path)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert f"{path}: kernels.{text}" in result.stderr
