"""Does the timeline show what was computed, tiles, stalls, phases, critical path and counters, and does it load?"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from random_graphs import architectures, dry_program, networks
from trace_format import assert_is_a_trace

from xaisim.config import UserError
from xaisim.experiment import Experiment, Options
from xaisim.flow import profile
from xaisim.hardware import Architecture
from xaisim.ir.graph import Graph
from xaisim.mapping.prologue import OVER_TRIPS
from xaisim.mapping.tiles import SEATS
from xaisim.report import timeline
from xaisim.report.counters import counters, drawn_trips, span_of
from xaisim.report.cycles import analyse
from xaisim.report.events import Event
from xaisim.report.report import Report
from xaisim.simulate.clock import CAUSE_NAMES, run_trip
from xaisim.simulate.critical import trip_traces
from xaisim.simulate.program import ProgramTiming, time_program

TRIPS = 11  # no divisor: one path point a trip


@pytest.fixture(scope="module")
def path_report() -> Report:
    return profile(Experiment(model="resnet18_tiny", options=Options(n_steps=TRIPS), arch="ultra96_v2"))


@pytest.fixture(scope="module")
def gradcam_report() -> Report:
    return profile(Experiment(model="cifar_cnn", method="gradcam"))


@pytest.fixture(scope="module")
def forward_report() -> Report:
    return profile(Experiment(model="cifar_cnn", method="forward", arch="edge_systolic_16_ws"))


REPORTS = ["path_report", "gradcam_report", "forward_report"]


def events_of(report: Report) -> list[Event]:
    return timeline.timeline_events(report.run.timing, report.run.arch)


def tile_events(events: list[Event], trip: int, first: int, last: int) -> list[Event]:
    """Return the tile events of a trip that start in a range of cycles, of all units."""
    return [
        e for e in events
        if "kind" in e.get("args", {}) and e["args"].get("trip", 1) == trip
        and first <= e["args"]["start_cycle"] < last
    ]  # fmt: skip


def layer_events(events: list[Event]) -> list[Event]:
    return [e for e in events if e.get("cat") == "layer"]


def tracks_of(events: list[Event]) -> dict[int, str]:
    return {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}


# --- tiles, stalls, phases --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REPORTS)
def test_every_tile_event_has_the_cycles_of_the_trace(name: str, request: pytest.FixtureRequest) -> None:
    report: Report = request.getfixturevalue(name)
    run, events = report.run, events_of(report)
    for t in run.timing.launches:
        offset = t.start_cycle + run.arch.control.launch_cycles
        traces = trip_traces(t.schedule.tiles, t.timing)
        for trip in drawn_trips(analyse(t)):
            trace = traces[trip - 1]
            mine = tile_events(events, trip, t.start_cycle, t.start_cycle + t.cycles)
            assert [e["args"]["tile"] for e in mine] == list(range(t.schedule.tiles.rows))
            found = [(e["args"]["start_cycle"], e["args"]["cycles"], e["args"].get("latency_cycles", 0)) for e in mine]
            occupied = t.schedule.tiles.occupy_cycles
            expected = zip(trace.start + offset, occupied, trace.end - trace.start - occupied, strict=True)
            assert found == [tuple(map(int, row)) for row in expected]


@pytest.mark.parametrize("name", REPORTS)
def test_a_file_is_a_trace_that_viewers_can_show(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    run = request.getfixturevalue(name).run
    for mhz, most in ((100.0, timeline.MOST_EVENTS), (333.3, 3000), (1500.0, 400)):
        arch = run.arch.model_copy(update={"clock_mhz": mhz})
        timeline.write_timeline(run.timing, arch, tmp_path / "timeline.json", most=most)
        trace = json.loads((tmp_path / "timeline.json").read_text())
        assert_is_a_trace(trace)
        assert len(trace["traceEvents"]) <= most


def test_the_check_of_the_format_notices_slices_that_stick_out_and_counters_that_go_back() -> None:
    slices = [{"ph": "X", "pid": 1, "tid": 1, "name": n, "cat": "c", "ts": ts, "dur": dur, "args": {}}
              for n, ts, dur in (("a", 0, 10), ("b", 5, 6))]  # fmt: skip
    values = [{"ph": "C", "pid": 1, "name": "n", "ts": ts, "args": {"v": 1}} for ts in (2, 1)]
    for events, message in ((slices, "sticks out"), (values, "goes back")):
        with pytest.raises(AssertionError, match=message):
            assert_is_a_trace({"displayTimeUnit": "ns", "otherData": {}, "traceEvents": events})


def test_the_events_of_a_trip_cover_the_busy_cycles_of_every_unit(path_report: Report) -> None:
    events = events_of(path_report)
    tracks = tracks_of(events)
    for t in path_report.run.timing.launches:
        ahead: Counter[str] = Counter()
        for e in tile_events(events, 0, t.start_cycle, t.start_cycle + t.cycles):
            ahead[tracks[e["tid"]]] += e["args"]["cycles"]
        for trip in drawn_trips(analyse(t)):
            sums: Counter[str] = Counter()
            for e in tile_events(events, trip, t.start_cycle, t.start_cycle + t.cycles):
                sums[tracks[e["tid"]]] += e["args"]["cycles"]
            for unit, seat in enumerate(SEATS):
                assert sums[seat.name] * t.timing.trips + ahead[seat.name] == t.timing.busy[unit]


def test_stalls_fill_the_time_before_their_tile_and_name_the_cause(path_report: Report) -> None:
    events, t = events_of(path_report), path_report.run.timing.launches[0]
    assert t.timing.trips == 1
    last = t.start_cycle + t.cycles
    tracks, table = tracks_of(events), Counter[tuple[str, str]]()
    for e in events:
        if e.get("cat") == "idle" and e["args"]["start_cycle"] < last:
            table[tracks[e["tid"]], e["name"]] += e["args"]["cycles"]
    expected = {
        (seat.name, name): int(t.timing.idle[unit, cause])
        for unit, seat in enumerate(SEATS)
        for cause, name in CAUSE_NAMES.items()
        if name != "finished" and t.timing.idle[unit, cause]
    }
    assert table == expected


def test_colours_of_stalls_and_phases_tell_them_apart(path_report: Report, gradcam_report: Report) -> None:
    for report in (path_report, gradcam_report):
        events = events_of(report)
        for category in ("idle", "phase"):
            pairs = {(e["name"], e["cname"]) for e in events if e.get("cat") == category}
            assert len(pairs) == len({name for name, _ in pairs}) == len({colour for _, colour in pairs}) > 1


@pytest.mark.parametrize("name", REPORTS)
def test_every_tile_and_stall_lies_in_a_slice_of_its_phase(name: str, request: pytest.FixtureRequest) -> None:
    events = events_of(request.getfixturevalue(name))
    runs: dict[int, list[Event]] = {}
    for e in events:
        if e.get("cat") == "phase":
            runs.setdefault(e["tid"], []).append(e)
    for e in events:
        if "tile" not in e.get("args", {}):
            continue
        start = e["args"]["start_cycle"]
        around = [
            r for r in runs[e["tid"]]
            if r["args"]["start_cycle"] <= start
            and start + e["args"]["cycles"] <= r["args"]["start_cycle"] + r["args"]["cycles"]
        ]  # fmt: skip
        assert e["cat"] == "idle" or e["cat"] in {r["name"] for r in around}
        assert around


def test_phases_are_forward_backward_path_and_map(path_report: Report, gradcam_report: Report) -> None:
    def names(report: Report) -> set[str]:
        return {e["name"] for e in events_of(report) if e.get("cat") == "phase"}

    prologue = {"prologue"} if any(t.schedule.prologue for t in path_report.run.timing.launches) else set()
    assert names(path_report) == {"forward", "backward", "path"} | prologue
    assert names(gradcam_report) == {"forward", "backward", "map"}


def test_times_are_microseconds_of_simulated_time(path_report: Report) -> None:
    run = path_report.run
    for e in events_of(path_report):
        if e["ph"] == "X":
            assert e["ts"] == pytest.approx(e["args"]["start_cycle"] / run.arch.clock_mhz, abs=6e-4)
            assert e["dur"] == pytest.approx(e["args"]["cycles"] / run.arch.clock_mhz, abs=1.1e-3)


def test_trips_that_repeat_are_one_event_that_says_so(path_report: Report) -> None:
    loop = next(t for t in path_report.run.timing.launches if t.timing.trips == TRIPS)
    trips = [e for e in events_of(path_report) if e.get("cat") == "trip"]
    period, last = f"{loop.timing.period_cycles:,}", drawn_trips(analyse(loop))[-1]
    assert trips[-1]["name"] == f"trips {last + 1}-{TRIPS} repeat trip {last} every {period} cycles, not drawn"
    assert sum(e["args"]["cycles"] for e in trips) == loop.timing.cycles


def test_launches_and_the_host_add_up_to_the_program(path_report: Report) -> None:
    timing, events = path_report.run.timing, events_of(path_report)
    assert sum(e["args"]["cycles"] for e in events if e.get("cat") == "launch") == timing.cycles
    assert sum(e["args"]["cycles"] for e in events if e.get("cat") == "host") == timing.units["host"].busy


# --- critical path ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REPORTS)
def test_the_track_of_the_critical_path_covers_every_cycle_of_a_launch_that_is_drawn_whole(
    name: str, request: pytest.FixtureRequest
) -> None:
    report: Report = request.getfixturevalue(name)
    events = [e for e in events_of(report) if e.get("cat") == "critical"]
    for t in report.run.timing.launches:
        first = t.start_cycle + report.run.arch.control.launch_cycles
        mine = [e for e in events if first <= e["args"]["start_cycle"] < first + t.timing.cycles]
        at = [(e["args"]["start_cycle"], e["args"]["start_cycle"] + e["args"]["cycles"]) for e in mine]
        if t.timing.trips == 1:
            assert [start for start, _ in at] == [first, *(end for _, end in at[:-1])]
            assert at[-1][1] == first + t.timing.cycles
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(at))


def test_tiles_on_the_path_are_marked_and_have_no_slack(path_report: Report) -> None:
    critical = Counter(e["args"].get("critical") for e in events_of(path_report) if "kind" in e.get("args", {}))
    assert set(critical) == {None, True}
    for e in events_of(path_report):
        if "kind" in e.get("args", {}):
            assert e["args"].get("slack_cycles", 0) >= 0
            assert "slack_cycles" not in e["args"] or "critical" not in e["args"]


# --- counters ---------------------------------------------------------------------------------------------------------


def occupied_at(timing: Any, cycle: int, memory: int) -> int:
    """Return the bytes of a memory that tiles hold at a cycle of a launch, trip by trip from the definition."""
    tiles, used, trace, begin = timing.schedule.tiles, 0, None, 0
    a, prologue = tiles.allocations, timing.schedule.prologue
    if prologue is not None:  # what it loads stays
        first, loaded = run_trip(prologue.tiles), prologue.tiles.allocations
        begin = int(first.end.max())
        live = (loaded.memory == memory) & (first.start[loaded.filled_by] <= cycle)
        used += int(loaded.size_bytes[live].sum())
    for _ in range(timing.timing.trips):
        trace = run_trip(tiles, trace, begin=begin)
        live = (a.memory == memory) & (trace.start[a.filled_by] <= cycle) & (cycle < trace.end[a.released_by])
        used += int(a.size_bytes[live & (a.slot != OVER_TRIPS)].sum())
    return used


@pytest.mark.parametrize("name", REPORTS)
def test_a_memory_counter_is_what_the_tiles_hold(name: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(name).run
    for t in run.timing.launches:
        analysis = analyse(t)
        found = counters(analysis, run.arch, 10**6)
        for index, memory in enumerate(run.arch.on_chip, start=1):
            counter = found[memory.name]
            spans = [span_of(analysis, trip) for trip in drawn_trips(analysis)]
            for cycle, value in list(zip(counter.cycle, counter.series["bytes"], strict=True))[
                :: max(1, len(counter.cycle) // 40)
            ]:
                if any(low <= cycle < high for low, high in spans):
                    assert value == occupied_at(t, int(cycle), index)


def assert_counters_are_possible(timing: ProgramTiming, arch: Architecture, points: int) -> None:
    """No memory is fuller than it is large, and the bus moves what tiles move and never more than it can."""
    for t in timing.launches:
        analysis = analyse(t)
        found = counters(analysis, arch, points)
        for memory in arch.on_chip:
            values = found[memory.name].series["bytes"]
            assert 0 <= values.min() <= values.max() <= memory.size
            assert values.max() == counters(analysis, arch, 10**6)[memory.name].series["bytes"].max()
            assert (np.diff(found[memory.name].cycle) > 0).all()
        bus = found[arch.dram.name]
        both = bus.series["read"] + bus.series["written"]
        assert both.max() <= arch.dram.bytes_per_cycle * (1 + 1e-9)
        moved = (both[:-1] * np.diff(bus.cycle)).sum()
        tiles = t.schedule.tiles
        per_trip = float((tiles.read_bytes + tiles.write_bytes)[:, 0].sum())
        ahead = float(t.schedule.prologue.tiles.read_bytes[:, 0].sum()) if t.schedule.prologue else 0.0
        if t.timing.trips <= 2:
            assert moved == pytest.approx(per_trip * len(drawn_trips(analysis)) + ahead)


@pytest.mark.parametrize("points", [3, 50, 10**6])
@pytest.mark.parametrize("name", REPORTS)
def test_counters_never_exceed_the_memory_or_the_bus(name: str, points: int, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(name).run
    assert_counters_are_possible(run.timing, run.arch, points)


@settings(max_examples=15)
@given(graph=networks(layers=3, side=8, channels=4), arch=architectures())
def test_counters_of_random_networks_never_exceed_the_memory_or_the_bus(graph: Graph, arch: Architecture) -> None:
    try:
        timing = time_program(dry_program(graph, "integrated_gradients", n_steps=2), arch)
    except UserError:
        assume(False)
    assert_counters_are_possible(timing, arch, 40)


# --- what is left out -------------------------------------------------------------------------------------------------


def test_the_file_is_json_and_lists_what_it_leaves_out(path_report: Report, tmp_path: Path) -> None:
    run = path_report.run
    timeline.write_timeline(run.timing, run.arch, tmp_path / "timeline.json")
    trace = json.loads((tmp_path / "timeline.json").read_text())
    assert trace["traceEvents"] == events_of(path_report)
    loop = next(t for t in run.timing.launches if t.timing.trips == TRIPS)
    last = drawn_trips(analyse(loop))[-1]
    assert any(f"to {TRIPS}, which repeat trip {last}" in s for s in trace["otherData"]["left_out"])


def test_a_small_budget_keeps_the_small_launch_and_says_what_is_missing(path_report: Report, tmp_path: Path) -> None:
    run = path_report.run
    whole = events_of(path_report)
    timeline.write_timeline(run.timing, run.arch, tmp_path / "timeline.json", most=400)
    trace = json.loads((tmp_path / "timeline.json").read_text())
    assert len(trace["traceEvents"]) <= 400 < len(whole)
    said = " ".join(trace["otherData"]["left_out"])
    assert "as 400 events are the most that is written" in said
    assert "the track of the critical path" in said
    assert "counters, as they may take 40 events" in said
    assert not any(e["ph"] == "C" for e in trace["traceEvents"])
    small = min(run.timing.launches, key=lambda t: t.schedule.tiles.rows)
    mine = tile_events(trace["traceEvents"], 1, small.start_cycle, small.start_cycle + small.cycles)
    assert [e["args"]["tile"] for e in mine] == list(range(small.schedule.tiles.rows))


@pytest.mark.parametrize("most", [300, 1200, 3000, 10_000, timeline.MOST_EVENTS])
def test_a_trip_is_called_not_drawn_exactly_where_nothing_of_it_is(path_report: Report, most: int) -> None:
    run = path_report.run
    events = timeline.timeline_events(run.timing, run.arch, most=most)
    drawn = [e["args"] for e in events if e.get("cat") in ("phase", "layer") or "kind" in e.get("args", {})]
    named = [e for e in events if e.get("cat") in ("launch", "trip")]
    for e in named:
        first, last = e["args"]["start_cycle"], e["args"]["start_cycle"] + e["args"]["cycles"]
        if e["cat"] == "launch" and e["args"]["trips"] > 1:
            continue
        prologue = e["args"].get("trip") == 0
        inside = [
            a for a in drawn if first < a["start_cycle"] + a["cycles"] <= last and (a.get("trip") == 0) == prologue
        ]
        assert e["name"].endswith(", not drawn") == (not inside), e["name"]
        tiles = [a for a in inside if "kind" in a]
        assert e["name"].endswith(", layers without tiles") == (bool(inside) and not tiles)


def test_a_layer_without_tiles_is_there_on_each_of_its_units_forward_and_backward(path_report: Report) -> None:
    """With room for phases and layers alone, the slices of a launch stand for every tile of it."""
    run = path_report.run
    events = timeline.timeline_events(run.timing, run.arch, most=1200)
    loop = next(t for t in run.timing.launches if t.timing.trips == TRIPS)
    tiles, stages = loop.schedule.tiles, loop.schedule.stages
    first, last = loop.start_cycle, loop.start_cycle + loop.cycles
    drawn = {e["args"]["tile"] for e in tile_events(events, 1, first, last)}
    cut = [e for e in layer_events(events) if first <= e["args"]["start_cycle"] < last and "trip" not in e["args"]]
    assert len(drawn) < tiles.rows // 10
    assert sum(e["args"]["tiles"] for e in cut) == tiles.rows - len(drawn)
    left = [row for row in range(tiles.rows) if row not in drawn]
    assert sum(e["args"]["busy_cycles"] for e in cut) == int(tiles.occupy_cycles[left].sum())
    assert sum(e["args"].get("macs", 0) for e in cut) == int(tiles.macs[left].sum())
    tracks = tracks_of(events)
    found = {(tracks[e["tid"]], e["name"].removesuffix(", tiles not drawn")) for e in cut}
    assert found == {(tiles.units[tiles.unit[row]].name, stages[tiles.stage[row]].name) for row in left}


def test_a_middling_budget_draws_the_first_tiles_of_every_layer(path_report: Report) -> None:
    run = path_report.run
    events = timeline.timeline_events(run.timing, run.arch, most=3000)
    loop = next(t for t in run.timing.launches if t.timing.trips == TRIPS)
    mine = tile_events(events, 1, loop.start_cycle, loop.start_cycle + loop.cycles)
    drawn: dict[int, list[int]] = {}
    for e in mine:
        drawn.setdefault(int(loop.schedule.tiles.stage[e["args"]["tile"]]), []).append(e["args"]["tile"])
    assert set(drawn) == set(range(len(loop.schedule.stages)))
    for stage, rows in drawn.items():
        assert rows == np.flatnonzero(loop.schedule.tiles.stage == stage)[: len(rows)].tolist()
    assert any(len(rows) < (loop.schedule.tiles.stage == stage).sum() for stage, rows in drawn.items())


def test_a_loop_that_repeats_its_first_trip_is_drawn_once(path_report: Report, forward_report: Report) -> None:
    for report in (path_report, forward_report):
        for t in report.run.timing.launches:
            analysis = analyse(t)
            traces, trips = trip_traces(t.schedule.tiles, t.timing), drawn_trips(analysis)
            shifts = [np.unique(trace.start - traces[0].start) for trace in traces]
            assert (trips == [1]) == (len(traces) == 1 or (len(traces) == 2 and len(shifts[1]) == 1))


def test_nothing_that_is_zero_is_written(path_report: Report) -> None:
    for e in events_of(path_report):
        for name, value in e["args"].items():
            assert value != 0 or name in ("start_cycle", "cycles", "tile", "trip", "sort_index", "period_cycles") or (
                e["ph"] == "C" or e["cat"] == "launch"
            ), (name, e)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "arch"), [("resnet18", "pynq_z2"), ("inception_v3", "edge_systolic_16")]
)  # fmt: skip
def test_a_large_run_stays_loadable_and_shows_every_layer(model: str, arch: str, tmp_path: Path) -> None:
    report = profile(Experiment(model=model, options=Options(n_steps=300), arch=arch))
    path = tmp_path / "timeline.json"
    timeline.write_timeline(report.run.timing, report.run.arch, path)
    assert path.stat().st_size < 15_000_000
    trace = json.loads(path.read_text())
    assert_is_a_trace(trace)
    events = trace["traceEvents"]
    for t in report.run.timing.launches:
        first, last = t.start_cycle, t.start_cycle + t.cycles
        inside = [e for e in events if first <= e.get("args", {}).get("start_cycle", -1) < last]
        names = {e["name"].removesuffix(", tiles not drawn") for e in inside}
        assert {stage.name for stage in t.schedule.stages} <= names
        assert {"backward"} <= names or t.timing.trips == 1
        assert any(e["cat"] == "critical" for e in inside)


def test_a_middling_budget_makes_counters_coarse(path_report: Report) -> None:
    run = path_report.run
    few = timeline.timeline_events(run.timing, run.arch, most=3000)
    assert 0 < sum(e["ph"] == "C" for e in few) <= 300
