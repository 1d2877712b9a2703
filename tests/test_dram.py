"""Does every DRAM timing hold to the clock, do closed forms come out, and is a faster DRAM never slower?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import dram_reference as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_dram import (
    LONG_GAP,
    NEXT_ROW,
    OTHER_BANK,
    OTHER_GROUP,
    SAME_ROW,
    SIMPLE,
    SIX_BANKS,
    SMALL,
    TIMES,
    Run,
    Stream,
    at,
    clocks,
    dram,
    pieces,
    preset,
    timing_of,
    transfers,
)

from xaisim.config import UserError, load_data, shipped_names
from xaisim.hardware import Dram, DramTiming
from xaisim.hardware.dram_service import Pieces, service

PRESETS = shipped_names("arch_configs/dram")
MIB = 1 << 20


# Every rule, on both sides --------------------------------------------------------------------------------------------

Form = Callable[[DramTiming], int]

# The rule that binds, what makes it bind, and the last column command of the transfer.
WITHIN: dict[str, tuple[str, dict[str, int], Run, bool, Form]] = {
    "a row is read RCD after it was opened": ("RCD", {}, pieces(0), False, lambda t: t.RCD),
    "a row is written RCD after it was opened": ("RCD", {}, pieces(0), True, lambda t: t.RCD),
    "bursts of one row": ("CCD_L", {}, SAME_ROW, False, lambda t: t.RCD + t.CCD_L),
    "bursts of two groups": ("CCD_S", {"CCD_S": 6, "CCD_L": 8}, OTHER_GROUP, False, lambda t: t.RCD + t.CCD_S),
    "rows of two groups": ("RRD_S", {"RRD_S": 6, "RRD_L": 9, "FAW": 28}, OTHER_GROUP, False, lambda t: t.RRD_S + t.RCD),
    "rows of one group": ("RRD_L", {"RRD_L": 8}, OTHER_BANK, False, lambda t: t.RRD_L + t.RCD),
    "four rows in a window": ("FAW", {"FAW": 50, "RRD_L": 7}, SIX_BANKS, False, lambda t: t.FAW + t.RRD_L + t.RCD),
    "a row stays open": ("RAS", {}, NEXT_ROW, False, lambda t: t.RAS + t.RP + t.RCD),
    "a bank is precharged": ("RP", {}, NEXT_ROW, False, lambda t: t.RAS + t.RP + t.RCD),
    "a row is closed after a read": ("RTP", {"RTP": 33}, NEXT_ROW, False, lambda t: 2 * t.RCD + t.RTP + t.RP),
    "a row is closed after a write": ("WR", {"WR": 25}, NEXT_ROW, True, lambda t: 2 * t.RCD + t.CWL + 4 + t.WR + t.RP),
    "write latency delays the close": ("CWL", {}, NEXT_ROW, True, lambda t: 2 * t.RCD + t.CWL + 4 + t.WR + t.RP),
}  # fmt: skip


@pytest.mark.parametrize("case", WITHIN)
def test_a_rule_opens_exactly_on_time(case: str) -> None:
    rule, changes, row, write, form = WITHIN[case]
    value = {**SMALL, **changes}[rule]
    for clock in (value, value + 1):
        memory = dram(**{**changes, rule: clock})
        served = service(memory, *transfers(row, writes=write), gap_cycles=LONG_GAP)
        assert clocks(served) == [form(timing_of(memory)) + 4]


# The rule that binds between a transfer and the next, and how long the first one holds the DRAM when no gap follows.
BETWEEN: dict[str, tuple[str, dict[str, int], list[Run], list[int], Form]] = {
    "the next read": ("CCD_L", {"CCD_L": 40}, [pieces(0)] * 2, [0, 0], lambda t: t.RCD + t.CCD_L),
    "the bus turns to writing": ("RTW", {"RTW": 40}, [pieces(0)] * 2, [0, 1], lambda t: t.RCD + t.RTW),
    "the bus turns to reading": ("WTR", {"WTR": 30}, [pieces(0)] * 2, [1, 0], lambda t: t.RCD + t.CWL + 4 + t.WTR),
    "the row may be closed": ("RAS", {}, [pieces(0)] * 2, [0, 0], lambda t: t.RAS),
    "a read row may be closed": ("RTP", {"RTP": 40}, [pieces(0)] * 2, [0, 0], lambda t: t.RCD + t.RTP),
    "a written row may be closed": ("WR", {}, [pieces(0)] * 2, [1, 1], lambda t: t.RCD + t.CWL + 4 + t.WR),
    "four more rows may be opened": ("FAW", {"FAW": 50}, [pieces(0)] * 2, [0, 0], lambda t: t.FAW),
    "a row of the group may be opened": ("RRD_L", {"RRD_L": 50}, [pieces(0)] * 2, [0, 0], lambda t: t.RRD_L),
}  # fmt: skip


@pytest.mark.parametrize("case", BETWEEN)
def test_a_transfer_holds_the_dram_until_the_next_can_begin_and_a_gap_hides_that(case: str) -> None:
    rule, changes, rows, writes, form = BETWEEN[case]
    value = {**SMALL, **changes}[rule]
    for clock in (value, value + 1):
        memory = dram(**{**changes, rule: clock})
        held, moved = form(timing_of(memory)), timing_of(memory).RCD + 4
        for gap in (0, 1, held - moved, held - moved + 1, LONG_GAP):
            served = service(memory, *transfers(*rows, writes=writes), gap_cycles=gap)
            assert clocks(served)[0] == max(moved, held - gap)


def test_the_turn_of_the_bus_is_counted_where_it_happens() -> None:
    served = service(dram(), *transfers(*[pieces(0)] * 5, writes=[0, 1, 1, 0, 0]))
    assert served.turn_rounds.tolist() == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("lookahead", [1, 2, 4, 8])
def test_the_next_bank_opens_as_many_bursts_ahead_as_the_controller_sees(lookahead: int) -> None:
    # 16 bursts of one row at CCD_L, then another bank: its command is seen ``lookahead`` column commands early.
    memory = dram(lookahead_bursts=lookahead, bank_groups=1, CCD_S=6, RRD_S=5)
    t = timing_of(memory)
    served = service(memory, *transfers(pieces(0, size=17 * 64)), gap_cycles=LONG_GAP)
    sixteenth = t.RCD + 15 * t.CCD_L
    seen = sixteenth - (lookahead - 1) * t.CCD_L
    assert clocks(served) == [max(seen + t.RCD, sixteenth + t.CCD_L) + 4]


# Closed forms ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_a_long_read_streams_at_the_peak_rate_minus_refresh(name: str) -> None:
    memory = preset(name)
    t = timing_of(memory)
    size = 64 * MIB
    served = service(memory, *transfers(pieces(0, size=size)), gap_cycles=LONG_GAP)
    peak_ns = size / t.peak_bytes_per_ns
    share = (t.refresh_ns + (t.RTP + t.RP + t.RCD) * t.tck_ns) / t.refresh_every_ns
    # Rows open behind the data of others: all that is added is the first one's opening.
    most_ns = (peak_ns + (t.RCD + 4 * t.RRD_L) * t.tck_ns) / (1 - share)
    taken_ns = served.occupancy_cycles[0] * 5.0
    assert peak_ns / (1 - share) <= taken_ns <= most_ns + 5 + t.tck_ns
    assert served.bus_bytes.tolist() == [size]
    assert served.row_hits[0] / served.bursts[0] == 1 - t.burst_bytes / t.row_size


@pytest.mark.parametrize("name", PRESETS)
def test_a_row_of_an_open_bank_is_there_after_rp_rcd_cl_and_a_burst(name: str) -> None:
    memory = preset(name, clock_mhz=1000.0)
    t = timing_of(memory)
    other_row = memory.size // 2  # rows are the most significant part of every preset's addresses
    burst = t.burst_length // t.transfers_per_clock
    served = service(memory, *transfers(pieces(0), pieces(other_row), pieces(other_row)), gap_cycles=LONG_GAP)
    expected = [t.RCD + t.CL + burst, t.RP + t.RCD + t.CL + burst, t.CL + burst]
    spans = [math.ceil(n * t.tck_ns - 1e-9) for n in expected]
    assert served.first_data_cycles.tolist() == spans
    found = [served.row_hits, served.row_misses, served.row_conflicts]
    bursts = max(1, 64 // t.burst_bytes)
    if t.bank_groups == 1 and t.channels == 1:
        assert np.array(found).T.tolist() == [[bursts - 1, 1, 0], [bursts - 1, 0, 1], [bursts, 0, 0]]


def test_two_rows_of_one_bank_take_its_row_cycle_each() -> None:
    for RAS in (30, 50):
        memory = dram(RAS=RAS)
        served = service(memory, *transfers(pieces(0, inner=(2, at(1)), outer=(50, 0))), gap_cycles=LONG_GAP)
        assert clocks(served) == [SMALL["RCD"] + 99 * timing_of(memory).RC + 4]
        assert (served.row_misses[0], served.row_conflicts[0], served.row_hits[0]) == (1, 99, 0)


def test_refresh_takes_its_share_of_the_time_that_the_dram_is_used() -> None:
    served = service(dram(), *transfers(*[pieces(0, size=MIB)] * 3))
    pause = 260 + 7 + 11 + 9
    for held, refresh in zip(clocks(served), served.refresh_cycles.tolist(), strict=True):
        assert refresh == -(-held * pause // (7800 - pause))


def test_channels_move_their_shares_at_the_same_time() -> None:
    narrow = dram()
    wide = dram(channels=4, interleave="256B")
    single = service(narrow, *transfers(pieces(0, size=MIB // 4)), gap_cycles=LONG_GAP)
    shared = service(wide, *transfers(pieces(0, size=MIB)), gap_cycles=LONG_GAP)
    assert shared.occupancy_cycles.tolist() == single.occupancy_cycles.tolist()
    assert shared.row_misses.tolist() == [4 * single.row_misses[0]]


def test_a_narrow_port_of_the_chip_makes_long_transfers_longer() -> None:
    free = dram()
    narrow = free._replace(port_bytes_per_cycle=10.0)
    rows = transfers(pieces(0), pieces(0, size=64 * 1024))
    free_cycles, narrow_cycles = (
        service(memory, *rows, gap_cycles=LONG_GAP).occupancy_cycles for memory in (free, narrow)
    )
    assert narrow_cycles.tolist() == [free_cycles[0], 6554]
    assert free_cycles[1] < 6554


def test_closed_rows_are_never_in_the_way_and_never_there_again() -> None:
    rows = transfers(pieces(0), pieces(0), pieces(at(1)))
    opened, closed = service(dram(), *rows), service(dram(page_policy="closed"), *rows)
    assert np.array([opened.row_hits, opened.row_misses, opened.row_conflicts]).T.tolist() == [
        [0, 1, 0], [1, 0, 0], [0, 0, 1]
    ]  # fmt: skip
    assert closed.row_misses.tolist() == [1, 1, 1]
    assert closed.row_conflicts.tolist() == [0, 0, 0]
    assert closed.first_data_cycles.tolist() == [9 + 10 + 4] * 3


def test_neighbouring_pieces_share_the_burst_that_both_need() -> None:
    served = service(dram(), *transfers(pieces(10, inner=(20, 30), size=30), pieces(10, inner=(20, 40), size=30)))
    assert served.bursts.tolist() == [len({b // 64 for b in range(10, 610)}), len({b // 64 for b in range(10, 800)})]
    assert served.bus_bytes.tolist() == [64 * n for n in served.bursts.tolist()]


def test_a_transfer_of_nothing_takes_no_time_and_changes_nothing() -> None:
    with_it = service(dram(), *transfers(pieces(0), pieces(at(1), size=0), pieces(64), writes=[0, 1, 0]))
    without = service(dram(), *transfers(pieces(0), pieces(64)))
    for one, other in zip(with_it, without, strict=True):
        assert one.tolist() == [other[0], 0, other[1]]
    nothing = service(dram(), Pieces(*np.zeros((7, 0), np.int64)), np.zeros(2, bool))
    assert nothing.occupancy_cycles.tolist() == [0, 0]


def test_a_transfer_outside_the_dram_is_refused() -> None:
    with pytest.raises(ValueError, match=r"transfer 1 covers bytes 1048512 to 1048640 of a DRAM of 1048576"):
        service(dram(), *transfers(pieces(0), pieces(MIB - 64, size=128)))
    with pytest.raises(ValueError, match="transfer 0 covers bytes -64 to 64"):
        service(dram(), *transfers(pieces(0, inner=(2, -64))))
    with pytest.raises(ValueError, match="dram has no timing"):
        service(load_data(Dram, SIMPLE).port(200), *transfers(pieces(0)))


# Against the definition, and what always holds ------------------------------------------------------------------------


@st.composite
def timings(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a possible DRAM: every timing at or above the least that the others leave."""
    more = lambda least, most=12: least + draw(st.integers(0, most))  # noqa: E731
    t: dict[str, Any] = dict(SMALL)
    t["bank_groups"] = draw(st.sampled_from([1, 2, 4]))
    t["banks"] = t["bank_groups"] * draw(st.sampled_from([1, 2, 4]))
    t["channels"] = draw(st.sampled_from([1, 2, 4]))
    t["interleave"] = draw(st.sampled_from(["64B", "128B", "1KiB"])) if t["channels"] > 1 else None
    t["row_size"] = draw(st.sampled_from(["128B", "256B", "1KiB"]))
    t["transfers_per_clock"] = draw(st.sampled_from([1, 2, 8]))
    t["lookahead_bursts"] = draw(st.sampled_from([1, 2, 4, 8]))
    t["page_policy"] = draw(st.sampled_from(["open", "open", "closed"]))
    t["address_map"] = draw(st.permutations(["Ro", "Ba", "Bg", "Co"]).map("".join))
    burst = 8 // t["transfers_per_clock"]
    t |= {key: more(1) for key in ("CL", "CWL", "RCD", "RP", "RTP", "WR", "WTR")}
    t["CCD_S"], t["RRD_S"] = more(burst, 3), more(1, 6)
    t["CCD_L"] = more(t["CCD_S"], 4) if t["bank_groups"] > 1 else t["CCD_S"]
    t["RRD_L"] = more(t["RRD_S"], 4) if t["bank_groups"] > 1 else t["RRD_S"]
    t["FAW"] = more(4 * t["RRD_S"])
    t["RAS"] = more(t["RCD"] + t["CCD_S"])
    t["RTW"] = more(max(1, t["CL"] + burst - t["CWL"]))
    return t


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """Draw a few transfers within 64 KiB, of one or two kinds of runs that begin at any bit."""
    parts, writes = [], []
    for transfer in range(draw(st.integers(1, 5))):
        for _ in range(draw(st.sampled_from([1, 1, 2]))):
            outer, inner = draw(st.integers(1, 3)), draw(st.integers(1, 3))
            stride = st.one_of(st.integers(0, 8 * 4096), st.sampled_from([8 * 64, 8 * 1024, 8 * 4096]))
            near = st.one_of(st.integers(0, 8 * 40_000), st.sampled_from([0, 8 * 1024, 8 * 8192]))
            bits = draw(st.sampled_from([1, 8 * 30, 8 * 64, 8 * 65, 1601, 8 * 700]))
            parts.append((transfer, draw(near), outer, draw(stride), inner, draw(stride), bits))
        writes.append(draw(st.booleans()))
    return Stream(Pieces(*np.array(parts, np.int64).T), np.array(writes))


@settings(max_examples=150, deadline=None)
@given(timings(), streams(), st.sampled_from([0, 0, 7, 100]))
def test_the_kernel_equals_the_definition(keys: dict[str, Any], stream: Stream, gap: int) -> None:
    memory = dram(**keys)
    walk = reference.walk(memory, stream.pieces, [bool(w) for w in stream.is_write], gap)
    served = service(memory, *stream, gap_cycles=gap)
    figures = (served.first_data_cycles, served.bursts, served.row_hits, served.row_misses, served.row_conflicts)
    expected = np.array(walk.columns).reshape(-1, 7)
    assert clocks(served) == expected[:, 0].tolist()
    assert np.array([*figures, served.turn_rounds]).T.tolist() == expected[:, 1:].tolist()
    assert served.occupancy_cycles.tolist() == [
        reference.occupancy_cycles(timing_of(memory), 1000.0, row[0]) for row in walk.columns
    ]


@settings(max_examples=60, deadline=None)
@given(timings(), streams())
def test_no_command_breaks_a_rule_and_none_could_go_a_clock_earlier(keys: dict[str, Any], stream: Stream) -> None:
    memory = dram(**keys)
    t = timing_of(memory)
    walk = reference.walk(memory, stream.pieces, [bool(w) for w in stream.is_write])
    for i, (clock, command) in enumerate(walk.log):
        before = walk.log[:i]
        assert reference.ready(t, before, command, clock)
        assert clock == walk.turn[i] or not reference.ready(t, before, command, clock - 1)


@settings(max_examples=60, deadline=None)
@given(timings(), streams())
def test_open_rows_are_all_that_a_transfer_finds_of_those_before_it(keys: dict[str, Any], stream: Stream) -> None:
    memory = dram(**{**keys, "page_policy": "open"})
    t = timing_of(memory)
    walk = reference.walk(memory, stream.pieces, [bool(w) for w in stream.is_write])
    for begin, end in zip(walk.begins, [*walk.begins[1:], LONG_GAP], strict=True):
        before = [(clock, command) for clock, command in walk.log if clock < begin]
        opened = {command.place for _, command in before}
        for clock, command in walk.log:
            if begin <= clock < end:
                precharge = t.RP if command.name == "ACT" and command.place in opened else 0
                assert reference.ready(t, before, command, begin + precharge)


@settings(max_examples=150, deadline=None)
@given(timings(), streams(), st.sampled_from([0, 20, LONG_GAP]), st.data())
def test_a_faster_dram_makes_no_transfer_longer(
    keys: dict[str, Any], stream: Stream, gap: int, data: st.DataObject
) -> None:
    slow = dram(**keys)
    key = data.draw(st.sampled_from([*TIMES, "refresh_ns", "tck_ns", "refresh_every_ns", "lookahead_bursts"]))
    value = keys[key]
    if key == "refresh_every_ns":
        faster = value * data.draw(st.floats(1, 3))
    elif key == "lookahead_bursts":
        faster = value * 2
    elif isinstance(value, float):
        faster = round(value * data.draw(st.floats(0.05, 1)), 3)
    else:
        faster = data.draw(st.integers(1, value))
    changed = {**keys, key: faster}
    try:
        fast = load_data(DramTiming, {**changed, "RC": changed["RAS"] + changed["RP"]})
    except UserError:  # below what another timing asks for
        return
    fast_port = slow._replace(timing=fast)
    one, other = (service(memory, *stream, gap_cycles=gap) for memory in (fast_port, slow))
    assert (one.occupancy_cycles <= other.occupancy_cycles).all()
    assert (one.first_data_cycles <= other.first_data_cycles).all()
    wider = service(slow, *stream, gap_cycles=gap + 5)
    assert (wider.occupancy_cycles <= other.occupancy_cycles).all()


@settings(max_examples=100, deadline=None)
@given(timings(), streams(), st.sampled_from(["RoBaBgCo", "RoBaCoBg", "BgRoBaCo"]), st.sampled_from([0, LONG_GAP]))
def test_more_banks_make_no_transfer_longer(keys: dict[str, Any], stream: Stream, order: str, gap: int) -> None:
    keys["address_map"] = order  # the bank's new bit is the row's last one: rows that shared a bank may part
    few, many = (service(dram(**{**keys, "banks": n * keys["banks"]}), *stream, gap_cycles=gap) for n in (1, 2))
    assert (many.occupancy_cycles <= few.occupancy_cycles).all()
    assert (many.row_hits >= few.row_hits).all()


@settings(max_examples=60, deadline=None)
@given(timings(), streams(), st.sampled_from([100.0, 333.333, 1000.0]))
def test_no_transfer_beats_the_peak_rate_and_every_burst_is_a_hit_a_miss_or_a_conflict(
    keys: dict[str, Any], stream: Stream, clock_mhz: float
) -> None:
    data = {"name": "dram", "kind": "dram", "size": "1MiB", "timing": dram(**keys).timing, "energy": "generic"}
    memory = Dram.model_validate(data).port(clock_mhz)
    served = service(memory, *stream, gap_cycles=LONG_GAP)
    assert (served.occupancy_cycles * memory.bytes_per_cycle >= served.bus_bytes * (1 - 1e-9)).all()
    assert (served.row_hits + served.activates == served.bursts).all()
    again = service(memory, *stream, gap_cycles=LONG_GAP)
    assert all((a == b).all() for a, b in zip(served, again, strict=True))
