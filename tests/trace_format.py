"""Check a trace against the Trace Event Format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU

Names of colours are the reserved ones of catapult's tracing/tracing/base/color_scheme.html.
"""

from __future__ import annotations

import math
from typing import Any

Event = dict[str, Any]

METADATA = {"process_name": "name", "thread_name": "name", "thread_sort_index": "sort_index"}
COLOURS = {
    "thread_state_uninterruptible", "thread_state_iowait", "thread_state_running", "thread_state_runnable",
    "thread_state_sleeping", "thread_state_unknown", "background_memory_dump", "light_memory_dump",
    "detailed_memory_dump", "vsync_highlight_color", "generic_work", "good", "bad", "terrible", "black", "grey",
    "white", "yellow", "olive", "rail_response", "rail_animation", "rail_idle", "rail_load", "startup",
}  # fmt: skip


def assert_is_a_trace(trace: dict[str, Any]) -> None:
    """Raise ``AssertionError`` unless a viewer of the format can show all of a trace as it is meant."""
    assert trace["displayTimeUnit"] in ("ms", "ns")
    assert isinstance(trace["otherData"], dict)
    for event in trace["traceEvents"]:
        assert_event_is_well_formed(event)
    assert_slices_nest(trace["traceEvents"])
    assert_counters_go_forward(trace["traceEvents"])


def assert_event_is_well_formed(event: Event) -> None:
    assert isinstance(event["name"], str)
    assert event["name"]
    assert isinstance(event["pid"], int)
    assert isinstance(event["args"], dict)
    if event["ph"] == "M":
        assert METADATA[event["name"]] in event["args"]
    elif event["ph"] == "C":
        assert event["args"]
        assert all(math.isfinite(value) for value in [event["ts"], *event["args"].values()])
        assert event["ts"] >= 0
    else:
        assert event["ph"] == "X"
        assert isinstance(event["tid"], int)
        assert event["ts"] >= 0
        assert event["dur"] >= 0
        assert isinstance(event["cat"], str)
        assert event.get("cname", "grey") in COLOURS


def nanoseconds(microseconds: float) -> int:
    """Return whole nanoseconds as Perfetto reads them: cut off, not rounded."""
    return int(microseconds * 1e3)


def assert_slices_nest(events: list[Event]) -> None:
    """Slices of a track lie apart or one in the other, and the outer one comes first."""
    tracks: dict[tuple[int, int], list[Event]] = {}
    for event in events:
        if event["ph"] == "X":
            tracks.setdefault((event["pid"], event["tid"]), []).append(event)
    for slices in tracks.values():
        open_until: list[int] = []
        for event in sorted(slices, key=lambda e: nanoseconds(e["ts"])):  # stable: equal times stay as written
            start = nanoseconds(event["ts"])
            end = start + nanoseconds(event["dur"])
            while open_until and open_until[-1] <= start:
                open_until.pop()
            assert not open_until or end <= open_until[-1], f"{event['name']} at {start} ns sticks out"
            open_until.append(end)


def assert_counters_go_forward(events: list[Event]) -> None:
    last: dict[str, tuple[float, set[str]]] = {}
    for event in events:
        if event["ph"] == "C":
            ts, series = last.get(event["name"], (-1.0, set(event["args"])))
            assert ts < event["ts"], f"{event['name']} goes back at {event['ts']}"
            assert series == set(event["args"])
            last[event["name"]] = (event["ts"], series)
