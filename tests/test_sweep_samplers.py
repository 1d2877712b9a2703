"""Do samplers ask for the same points again, whatever happened between, and do those that learn find better ones?"""

from __future__ import annotations

import itertools
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from sweeps import SMALL, content, space_of

from xaisim.sweep.front import around, costs_of, hypervolumes
from xaisim.sweep.run import sweep
from xaisim.sweep.samplers import sampler_of

pytest.importorskip("optuna")
pytest.importorskip("moocore")

WIDE = """
title: a small and quick machine for a small network; one in thirty is
base: {model: cifar_cnn, method: forward, arch: edge_systolic_16, mapping: "free:kernels.forward.keep_on_chip=0.0"}
space:
  arch.array.rows: {log: [2, 64]}
  arch.array.cols: {log: [2, 64]}
  arch.array.dataflow: [os, ws, is]
  arch.memories.dram.bytes_per_cycle: {log: [1, 64]}
  arch.clock_mhz: {range: [100, 1000, 50]}
  arch.memories.weights.size: [16KiB, 32KiB, 64KiB, 128KiB, 256KiB]
  arch.memories.activations.size: [16KiB, 32KiB, 64KiB, 128KiB, 256KiB]
  arch.memories.partial_sums.size: [16KiB, 32KiB, 64KiB, 128KiB, 256KiB]
  arch.vector.lanes: {log: [1, 64]}
constraints: [area_mm2 < 0.5, latency_ms < 0.8]
objectives: {latency_ms: min, energy_mj: min, area_mm2: min}
"""


@pytest.mark.parametrize("kind", ["grid", "random", "sobol", "nsga2", "nsga3", "tpe"])
def test_an_interrupted_sweep_ends_with_the_same_points(kind: str, tmp_path: Path) -> None:
    space = space_of(tmp_path, SMALL + f"points: 10\nsampler: {{kind: {kind}, generation: 4}}\n")
    whole, parts = tmp_path / "whole.sqlite", tmp_path / "parts.sqlite"
    first = sweep(space, whole)
    sweep(space, parts, points=3)
    with sqlite3.connect(parts) as db:  # one of them is lost, too
        db.execute("DELETE FROM points WHERE rowid = 2")
    again = sweep(space, parts)
    assert (len(first.rows), again.computed) == (10, 8)
    assert content(parts) == content(whole)
    assert [row.hash for row in again.rows] == [row.hash for row in first.rows]


def test_the_grid_and_random_points_are_each_there_once(tmp_path: Path) -> None:
    for kind in ("grid", "random"):
        space = space_of(tmp_path, SMALL + f"sampler: {kind}\n")
        sampler = sampler_of(space)
        asked = [tuple(choice.values()) for choice in itertools.chain.from_iterable(iter(sampler.ask, []))]
        assert sorted(asked) == sorted(itertools.product(*space.axes.values()))


def test_a_warm_start_begins_with_the_front_of_an_earlier_store(tmp_path: Path) -> None:
    earlier = sweep(space_of(tmp_path), tmp_path / "earlier.sqlite")
    for kind in ("random", "nsga2"):
        space = space_of(tmp_path, SMALL + f"sampler: {{kind: {kind}, generation: 6}}\npoints: 6\n")
        warm = sweep(space, tmp_path / f"{kind}.sqlite", warm=tmp_path / "earlier.sqlite")
        count = min(6, len(earlier.front))
        assert {row.hash for row in warm.rows[:count]} <= {row.hash for row in earlier.front}


def test_hypervolume_never_falls_and_is_that_of_the_box(tmp_path: Path) -> None:
    found = sweep(space_of(tmp_path), tmp_path / "s.sqlite")
    assert found.hypervolume == sorted(found.hypervolume or [])
    assert 0 < found.hypervolume[-1] < 1
    goals = space_of(tmp_path).goals
    assert hypervolumes(found.rows, goals, at=[2, 5, 11]) == [found.hypervolume[i] for i in (2, 5, 11)]


def test_200_points_that_learn_beat_2000_random_ones(tmp_path: Path) -> None:
    drawn = space_of(tmp_path, WIDE + "sampler: random\npoints: 2000\n")
    random_rows = sweep(drawn, tmp_path / "random.sqlite").rows
    learnt = []
    for seed in range(3):
        space = space_of(tmp_path, WIDE + f"sampler: nsga2\npoints: 200\nseed: {seed}\n")
        learnt.append(sweep(space, tmp_path / f"{seed}.sqlite").rows)
    goals = drawn.goals
    box = around(np.concatenate([costs_of(rows, goals) for rows in (random_rows, *learnt)]))
    volumes = [hypervolumes(rows, goals, box)[-1] for rows in learnt]
    assert [len(rows) for rows in (random_rows, *learnt)] == [2000, 200, 200, 200]
    assert float(np.median(volumes)) >= hypervolumes(random_rows, goals, box)[-1]
