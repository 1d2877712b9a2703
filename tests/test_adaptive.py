"""Does adaptive noising search as published, judge maps as the metrics do, and pay for both?"""

from __future__ import annotations

import numpy as np
import pytest
from test_smoothing import ARCH, NET, PICTURE, fixed, linear, run

from xaisim.attribution import METHODS
from xaisim.attribution.adaptive import autvc_operations, search, starting_sigma
from xaisim.attribution.smoothing import LEAST_SIGMA
from xaisim.attribution.smoothing_kernels import forward_each
from xaisim.config import UserError
from xaisim.ir.graph import evaluate
from xaisim.metrics import aupc, autvc
from xaisim.numerics.devices import DryDevice, FloatDevice
from xaisim.numerics.formats import Formats, Numerics
from xaisim.simulate.memory_check import RecordingDevice, check
from xaisim.simulate.program import time_program


class Valley:
    """A cost with one minimum that remembers what was asked."""

    def __init__(self, best: float) -> None:
        self.best, self.asked = best, []  # type: tuple[float, list[float]]

    def __call__(self, sigma: float) -> float:
        self.asked.append(sigma)
        return abs(sigma - self.best)


def test_it_steps_up_else_down_and_shrinks_where_neither_is_better() -> None:
    cost = Valley(0.72)
    assert search(cost, 0.5, 20) == pytest.approx(0.7)
    steps = [0.5, 0.6, 0.7, 0.8, 0.6, 0.79, 0.61, 0.781, 0.619, 0.7729, 0.6271]
    assert cost.asked == pytest.approx(steps)  # the fourth failure in a row ends it


def test_a_better_step_resets_the_count_and_keeps_the_rate() -> None:
    cost = Valley(0.31)
    assert search(cost, 0.5, 20) == pytest.approx(0.3)
    assert cost.asked[:5] == pytest.approx([0.5, 0.6, 0.4, 0.5, 0.3])


def test_it_takes_at_most_41_evaluations() -> None:
    cost = Valley(-1.0)  # down each time, which is the second look
    search(cost, 2.5, 20)
    assert len(cost.asked) == 41
    assert min(cost.asked) == pytest.approx(0.5)


def test_sigma_is_reflected_at_zero_and_stays_in_its_register() -> None:
    cost = Valley(0.0)
    found = search(cost, 0.1, 20)
    assert found == LEAST_SIGMA
    assert min(cost.asked) >= LEAST_SIGMA


@pytest.mark.parametrize("criterion", ["autvc", "aupc"])
def test_the_map_is_smooth_taylors_at_the_sigma_of_least_cost(criterion: str) -> None:
    def judged(sigma: float) -> float:
        map = run("smooth_taylor", sigma=sigma, n_samples=4)
        if criterion == "autvc":
            return autvc(map).area
        return aupc(lambda x: evaluate(NET, {"input": x})["logits"], PICTURE, map, 0).area

    start = float(np.abs(PICTURE).mean())
    assert starting_sigma(PICTURE) == start
    best = search(judged, start, 3)
    found = run("adaptive_smooth_taylor", n_samples=4, n_iterations=3, criterion=criterion)
    assert (found == run("smooth_taylor", sigma=best, n_samples=4)).all()


def test_aupc_is_scored_by_launches_of_fifty_pictures_and_autvc_by_the_host() -> None:
    programs = {}
    for criterion in ("autvc", "aupc"):
        device = FloatDevice()
        run("adaptive_smooth_taylor", device=device, n_samples=4, n_iterations=1, criterion=criterion)
        programs[criterion] = device.program
    means = [launch for launch in programs["autvc"] if launch.kernel == "mean of samples"]
    assert len(means) in (2, 3)
    assert all(launch.sync and launch.host_operations == autvc_operations(PICTURE.shape) for launch in means)
    scored = [launch for launch in programs["aupc"] if launch.kernel == "forward of many"]
    assert {launch.trips for launch in scored} == {1, 50}
    assert all(launch.sync and launch.host_operations > 0 for launch in scored)
    assert "forward of many" not in {launch.kernel for launch in programs["autvc"]}


@pytest.mark.parametrize("criterion", ["autvc", "aupc"])
def test_a_profile_counts_the_most_that_a_search_may_take(criterion: str) -> None:
    device = DryDevice(Formats(Numerics()), 48)
    run("adaptive_smooth_taylor", device=device, n_samples=4, n_iterations=2, criterion=criterion)
    assert METHODS["adaptive_smooth_taylor"].stops
    assert len([launch for launch in device.program if launch.kernel == "mean of samples"]) == 5
    assert time_program(device.program, ARCH).cycles > 0


def test_every_sigma_sees_the_same_noise_in_the_same_kernel() -> None:
    device = fixed("adaptive_smooth_taylor", n_samples=4, n_iterations=2)
    run("adaptive_smooth_taylor", device=device, n_samples=4, n_iterations=2)
    loops = {launch.graph for launch in device.program if launch.kernel.startswith("SmoothTaylor")}
    assert len(loops) == 1
    assert sum(launch.host_operations > 10**4 for launch in device.program) == 1


def test_pictures_of_one_launch_lie_one_behind_the_other() -> None:
    device = fixed("forward", RecordingDevice)
    assert isinstance(device, RecordingDevice)
    pictures = np.random.default_rng(4).normal(size=(11, *PICTURE.shape[1:]))
    logits = device.launch(forward_each(NET), {"input": pictures}, trips=11, sync=True)["logits"].real()
    alone = [run("forward", x=x[None], device=fixed("forward"))[0] for x in pictures]
    assert (logits == alone).all()
    checked = check(device.runs[0], ARCH)
    assert checked.equal, checked


def test_a_score_of_zero_is_refused_with_the_way_out() -> None:
    graph = linear(np.ones(PICTURE.shape[1:]))
    with pytest.raises(UserError, match=r"criterion aupc: AUPC divides by .* is 0 \(autvc needs no score\)"):
        run("adaptive_smooth_taylor", graph, 0 * PICTURE, n_samples=2, criterion="aupc")
