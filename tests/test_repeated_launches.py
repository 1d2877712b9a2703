"""Does a program with a launch many times cost that many times as much, and is it told once?"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from xaisim.attribution import METHODS
from xaisim.attribution.device import Launch
from xaisim.experiment import Experiment, prepare
from xaisim.numerics.devices import DryDevice
from xaisim.numerics.formats import Formats
from xaisim.report.cycles import analyse, layer_rows, path_part
from xaisim.simulate.program import ProgramTiming, time_program
from xaisim.simulate.sensitivity import sensitivity

TIMES = 3
P = prepare(Experiment(model="cifar_cnn", method="nuig", arch="ultra96_v2"), values=False)


@cache
def program() -> tuple[Launch, ...]:
    device = P.device(Formats(P.numerics), DryDevice)
    METHODS["nuig"].run(device, P.model.graph, P.sample.x, 0, n_steps=8)
    return tuple(device.program)


@cache
def timed(times: int) -> ProgramTiming:
    return time_program(program() * times, P.arch)


def test_every_kind_of_launch_is_told_once_with_its_number() -> None:
    assert [t.launch for t in timed(TIMES).launches] == list(program())
    assert {t.count for t in timed(TIMES).launches} == {TIMES}
    assert [t.start_cycle for t in timed(TIMES).launches] == [t.start_cycle for t in timed(1).launches]


@pytest.mark.parametrize("name", ["cycles", "macs", "macs_backward"])
def test_totals_grow_with_the_number_of_launches(name: str) -> None:
    assert getattr(timed(TIMES), name) == TIMES * getattr(timed(1), name)


def test_units_bytes_and_energy_grow_with_the_number_of_launches() -> None:
    many, once = timed(TIMES), timed(1)
    for unit, account in many.units.items():
        assert account.busy == TIMES * once.units[unit].busy
        assert account.busy + sum(account.idle.values()) == many.cycles
    for memory, size in many.read_bytes.items():
        assert size == TIMES * once.read_bytes[memory]
    uj = [sum(item.uj for item in timing.energy) for timing in (many, once)]
    assert uj[0] == pytest.approx(TIMES * uj[1], rel=1e-12)


def test_the_path_and_the_layers_are_those_of_all_launches() -> None:
    many, once = ([analyse(t) for t in timed(times).launches] for times in (TIMES, 1))
    assert path_part(many, P.arch).cycles == timed(TIMES).cycles
    for mine, theirs in zip(many, once, strict=True):
        for row, other in zip(layer_rows(mine, P.arch), layer_rows(theirs, P.arch), strict=True):
            assert (row.macs, row.path_cycles) == (TIMES * other.macs, TIMES * other.path_cycles)
            assert (row.span_cycles, row.array_cycles) == (TIMES * other.span_cycles, TIMES * other.array_cycles)
            stalls = np.array([sum(by_cause.values()) for by_cause in row.stall_cycles.values()])
            others = np.array([sum(by_cause.values()) for by_cause in other.stall_cycles.values()])
            assert (stalls == TIMES * others).all()


def test_what_more_would_buy_is_bought_in_every_launch() -> None:
    many, once = (sensitivity(timed(times), P.arch) for times in (TIMES, 1))
    assert [(g.resource, g.cycles, g.predicted_cycles) for g in many] == [
        (g.resource, TIMES * g.cycles, TIMES * g.predicted_cycles)
        for g in once  # type: ignore[operator]
    ]
