"""Do the figures of the cycles show what was measured, all of it, and do their bars add up?"""

from __future__ import annotations

from collections import Counter

import pytest

import xaisim
from xaisim.report.cycle_figures import (
    CYCLE_COLOURS,
    bandwidth_figure,
    cycles_figure,
    path_figure,
    roofline_figure,
    sensitivity_figure,
    spoken,
    stalls_figure,
)
from xaisim.report.page import page_html
from xaisim.report.report import Report
from xaisim.report.sentences import gains_text, layers_text, of_roof
from xaisim.simulate.clock import CAUSE_NAMES

CASES = {
    "path": {"model": "resnet18_tiny", "method": "integrated_gradients", "n_steps": 5, "arch": "ultra96_v2"},
    "saliency": {"model": "inception_v3_tiny", "method": "saliency", "arch": "edge_systolic_16_ws"},
    "forward": {"model": "cifar_cnn", "method": "forward"},
}


@pytest.fixture(scope="module", params=list(CASES))
def report(request: pytest.FixtureRequest) -> Report:
    return xaisim.sensitivity(xaisim.profile(**CASES[request.param]))


def test_every_cause_has_a_colour_of_its_own() -> None:
    assert set(CYCLE_COLOURS) == {"busy", *CAUSE_NAMES.values()}
    assert len(set(CYCLE_COLOURS.values())) == len(CYCLE_COLOURS)


def test_bars_of_every_unit_add_up_to_the_run(report: Report) -> None:
    for index, _ in enumerate(report.units):
        assert sum(trace["x"][index] for trace in cycles_figure(report)["data"]) == report.cycles.total


def test_bars_of_the_path_add_up_to_each_launch(report: Report) -> None:
    for number, launch in enumerate(report.launches):
        bars = path_figure(report, number)["data"]
        assert sum(sum(trace["y"]) for trace in bars) == launch.cycles - launch.host_cycles


def test_bars_of_stalls_are_those_of_the_layers(report: Report) -> None:
    drawn: Counter[str] = Counter()
    for number, _ in enumerate(report.launches):
        for trace in stalls_figure(report, number)["data"]:
            drawn[trace["name"]] += sum(trace["y"])
    told: Counter[str] = Counter()
    for row in report.layers:
        for unit, causes in row.stall_cycles.items():
            if unit != "host":
                told.update({spoken(cause): cycles for cause, cycles in causes.items()})
    assert drawn == told


def test_every_layer_that_multiplies_is_a_point_below_the_roof(report: Report) -> None:
    arch, points = report.run.arch, list[tuple[float, float, str]]()
    for trace in roofline_figure(report)["data"][1:]:
        points += zip(trace["x"], trace["y"], trace["text"], strict=True)
    rows = [row for row in report.layers if row.macs]
    assert len(points) == len(rows) + 1
    assert {row.backward for row in rows} == ({False} if report.method == "forward" else {False, True})
    for intensity, speed, _ in points:
        assert speed <= min(arch.peak_macs_per_cycle, intensity * arch.dram.bytes_per_cycle) * (1 + 1e-9)
    for row in rows:
        assert 0 < of_roof(row) <= 1
        assert any(
            f"{row.kernel}: {row.stage}<br>{100 * of_roof(row):.1f} % of the roof" in text for *_, text in points
        )


def test_every_layer_that_multiplies_nothing_is_a_point_below_the_bandwidth(report: Report) -> None:
    figure, bandwidth = bandwidth_figure(report), report.run.arch.dram.bytes_per_cycle
    assert figure is not None
    points = [point for trace in figure["data"][1:] for point in zip(trace["y"], trace["text"], strict=True)]
    rows = [row for row in report.layers if not row.macs]
    assert len(points) == len(rows)
    assert all(0 <= speed <= bandwidth * (1 + 1e-9) for speed, _ in points)
    assert {row.stage for row in rows} == {text.split("<br>")[0].split(": ")[1] for _, text in points}
    assert 'data-figure="bandwidth"' in page_html(report)


def test_bars_of_sensitivity_are_the_shares_saved(report: Report) -> None:
    figure = sensitivity_figure(report)
    assert [trace["name"] for trace in figure["data"]] == [
        "predicted from the critical path",
        "timed again, same schedule",
    ]
    for gain, predicted, timed in zip(report.sensitivity, *(trace["x"] for trace in figure["data"]), strict=True):
        assert gain.cycles is not None
        assert predicted >= timed >= 0
        assert timed == pytest.approx(100 * (1 - gain.cycles / report.cycles.total))


def test_the_sentences_name_the_largest_gains_and_the_furthest_layers(report: Report) -> None:
    first = report.sensitivity[0]
    assert first.cycles is not None
    assert gains_text(report).startswith(f"{first.resource} saves {1 - first.cycles / report.cycles.total:.1%}")
    assert gains_text(report.model_copy(update={"sensitivity": ()})) == (
        "any one resource saves less than 0.1%; sizes of memories need --remap"
    )
    again = tuple(gain.model_copy(update={"remapped_cycles": gain.cycles}) for gain in report.sensitivity)
    assert "--remap" not in gains_text(report.model_copy(update={"sensitivity": again}))
    assert layers_text(report).count("%") == 3


def test_the_page_of_a_report_without_sensitivity_says_nothing_of_it(report: Report) -> None:
    assert "What 10 % more would buy" in page_html(report)
    assert "What 10 % more would buy" not in page_html(report.model_copy(update={"sensitivity": ()}))
