"""Does every DRAM timing hold to the clock, do closed forms come out, and is an impossible memory refused?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import dram_reference as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xaisim.config import UserError, load_data, load_yaml, shipped_names
from xaisim.hardware import Dram, DramPort, DramTiming, load_dram_timing
from xaisim.hardware.dram_service import Pieces, Service, service
from xaisim.validate import dram as validate_dram

PRESETS = shipped_names("arch_configs/dram")
MIB = 1 << 20

# A small DRAM with a clock of 1 ns, whose every rule can be made the one that binds. Bursts of 64 B take 4 clocks.
SMALL: dict[str, Any] = {
    "name": "small", "standard": "none", "source": "this test", "channels": 1, "interleave": None, "bus_bits": 64,
    "burst_length": 8, "bank_groups": 2, "banks": 8, "row_size": "1KiB", "tck_ns": 1.0, "transfers_per_clock": 2,
    "CL": 10, "CWL": 8, "RCD": 9, "RP": 11, "RAS": 30, "RC": 41, "CCD_S": 4, "CCD_L": 6, "RRD_S": 4, "RRD_L": 5,
    "FAW": 20, "RTP": 7, "WR": 12, "RTW": 8, "WTR": 5, "refresh_every_ns": 7800.0, "refresh_ns": 260.0,
    "address_map": "RoBaBgCo", "page_policy": "open", "lookahead_bursts": 8, "controller_ns": 30.0,
}  # fmt: skip
TIMES = ["CL", "CWL", "RCD", "RP", "RAS", "CCD_S", "CCD_L", "RRD_S", "RRD_L", "FAW", "RTP", "WR", "RTW", "WTR"]
LONG_GAP = 10_000  # cycles behind a transfer in which every rule that it set runs out
Run = tuple[int, int, int, int, int, int]


def dram(size: str = "1MiB", **changes: Any) -> DramPort:
    """Return the small DRAM with some keys changed (RC follows), seen by a machine with its own clock."""
    timing = {**SMALL, **changes}
    timing["RC"] = timing["RAS"] + timing["RP"]
    data = {"name": "dram", "kind": "dram", "size": size, "timing": timing, "energy": "generic"}
    return load_data(Dram, data).port(1000 / timing["tck_ns"])


def preset(name: str, clock_mhz: float = 200.0) -> DramPort:
    data = {"name": "dram", "kind": "dram", "size": "1GiB", "timing": name, "energy": "generic"}
    return load_data(Dram, data).port(clock_mhz)


def timing_of(memory: DramPort) -> DramTiming:
    assert memory.timing is not None
    return memory.timing


def at(row: int, bank: int = 0, group: int = 0, burst: int = 0) -> int:
    """Return an address of the small DRAM: rows of 16 bursts, 2 groups of 4 banks."""
    return (((row * 4 + bank) * 2 + group) * 16 + burst) * 64


def pieces(address: int, *, inner: tuple[int, int] = (1, 0), outer: tuple[int, int] = (1, 0), size: int = 64) -> Run:
    """Return runs of ``size`` bytes, (count, stride in bytes) per axis: a transfer or a part of one."""
    return (address, *outer, *inner, size)


class Stream(NamedTuple):
    """What ``service`` is given."""

    pieces: Pieces
    is_write: np.ndarray


def transfers(*rows: Run | list[Run], writes: Any = 0) -> Stream:
    """Return transfers, each of one kind of runs or of several."""
    parts = [(i, *run) for i, row in enumerate(rows) for run in (row if isinstance(row, list) else [row])]
    transfer, address, outer, outer_stride, inner, inner_stride, size = np.array(parts, np.int64).T
    bits = (8 * address, outer, 8 * outer_stride, inner, 8 * inner_stride, 8 * size)
    return Stream(Pieces(transfer, *bits), np.broadcast_to(np.array(writes, np.int64), len(rows)))


def clocks(s: Service) -> list[int]:
    """Return what transfers take without refresh."""
    return (s.occupancy_cycles - s.refresh_cycles).tolist()


# Every rule, on both sides --------------------------------------------------------------------------------------------

SAME_ROW, OTHER_GROUP, OTHER_BANK = (
    pieces(0, inner=(2, 64)),
    pieces(0, inner=(2, at(0, 0, 1))),
    pieces(0, inner=(2, at(0, 1))),
)
NEXT_ROW = pieces(0, inner=(2, at(1)))
SIX_BANKS = pieces(0, inner=(3, at(0, 1)), outer=(2, at(0, 0, 1)))
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


# What a user writes ---------------------------------------------------------------------------------------------------

SIMPLE = {
    "name": "dram", "kind": "dram", "size": "1GiB", "bytes_per_cycle": 16, "latency_cycles": 40, "burst_bytes": 64,
    "energy": "ddr3",
}  # fmt: skip


def refusal(**changes: Any) -> list[str]:
    data = {"name": "dram", "kind": "dram", "size": "1MiB", "timing": {**SMALL, **changes}, "energy": "generic"}
    with pytest.raises(UserError) as error:
        load_data(Dram, data, "d.yaml")
    return str(error.value).splitlines()


IMPOSSIBLE = [
    ({"RC": 40}, "RC: must be RAS + RP, 41 clocks (got 40)"),
    ({"RAS": 12, "RC": 23}, "RAS: must be at least RCD + CCD_S, 13 clocks (got 12)"),
    ({"FAW": 15}, "FAW: must be at least 4 RRD_S, 16 clocks (got 15)"),
    ({"CCD_S": 3}, "CCD_S: must be at least a burst, 8/2 clocks, 4 clocks (got 3)"),
    ({"CCD_L": 3}, "CCD_L: must be at least CCD_S, 4 clocks (got 3)"),
    ({"RRD_L": 3}, "RRD_L: must be at least RRD_S, 4 clocks (got 3)"),
    (
        {"RTW": 5},
        "RTW: must be at least CL + burst - CWL, or read and write data meet on the bus, 6 clocks (got 5)",
    ),
    ({"refresh_ns": 7780.0}, "refresh_ns: must be below refresh_every_ns less RTP + RP + RCD, 7773 (got 7780)"),
    ({"banks": 12}, "banks: must be a power of two (got 12)"),
    ({"banks": 1}, "banks: must be divisible by bank_groups, 2 (got 1)"),
    ({"channels": 3, "interleave": "256B"}, "channels: must be a power of two (got 3)"),
    ({"channels": 2}, "interleave: required key missing: 2 channels share the addresses"),
    ({"interleave": "256B"}, "interleave: one channel has nothing to interleave (got 256B)"),
    ({"channels": 2, "interleave": "32B"}, "interleave: must be at least a burst, 64B (got 32B)"),
    ({"row_size": "32B"}, "row_size: a row must hold a burst, 64B (got 32B)"),
    ({"row_size": "1000B"}, "row_size: must be a power of two (got 1000)"),
    ({"burst_length": 1}, "burst_length: must be at least transfers_per_clock, 2 (got 1)"),
    ({"lookahead_bursts": 5}, "lookahead_bursts: must be a power of two (got 5)"),
    (
        {"address_map": "RoBaCo"},
        "address_map: must name each of Ro (row), Ba (bank), Bg (bank group), Co (column) once, "
        "e.g. RoBaBgCo (got 'RoBaCo')",
    ),
    ({"tck_ns": 0}, "tck_ns: must be greater than 0 (got 0)"),
    ({"page_policy": "shut"}, "page_policy: must be one of open, closed (got 'shut')"),
    ({"tRP": 5}, "tRP: unknown key; did you mean 'RP'?"),
]


@pytest.mark.parametrize(("changes", "text"), IMPOSSIBLE, ids=[text.split(":")[0] for _, text in IMPOSSIBLE])
def test_an_impossible_preset_is_refused_with_the_rule_and_the_value(changes: dict[str, Any], text: str) -> None:
    lines = refusal(**changes)
    assert len(lines) == 1
    assert lines[0].startswith(f"d.yaml: timing.{text}")


def test_one_bank_group_knows_one_distance_only() -> None:
    assert refusal(bank_groups=1) == [
        "d.yaml: timing.CCD_S: with one bank group must equal CCD_L, 6 (got 4)",
        "d.yaml: timing.RRD_S: with one bank group must equal RRD_L, 5 (got 4)",
    ]


def test_a_size_must_be_whole_rows_and_as_many_as_the_map_can_tell() -> None:
    with pytest.raises(UserError, match=r"size: must be whole rows of 8 banks, 8KiB \(got 12KiB\)"):
        dram(size="12KiB")
    assert dram(size="24KiB").size == 24 * 1024
    with pytest.raises(UserError, match=r"size: BaBgRoCo needs a power of two of rows, Ro in front does not \(got 3"):
        dram(size="24KiB", address_map="BaBgRoCo")


def test_a_dram_is_either_simple_or_timed() -> None:
    with pytest.raises(UserError) as error:
        load_data(Dram, {**SIMPLE, "timing": "ddr4_2400r"}, "d.yaml")
    assert str(error.value).splitlines() == [
        "d.yaml: bytes_per_cycle: follows from timing 'ddr4_2400r'; give one of the two (got 16)",
        "d.yaml: latency_cycles: follows from timing 'ddr4_2400r'; give one of the two (got 40)",
        "d.yaml: burst_bytes: follows from timing 'ddr4_2400r'; give one of the two (got 64)",
    ]
    with pytest.raises(UserError, match=r"port_bytes_per_cycle: stands beside a timing; .* is all \(got 8\)"):
        load_data(Dram, {**SIMPLE, "port_bytes_per_cycle": 8})
    text = "name: dram\nkind: dram\nsize: 1GiB\nburst_bytes: 64\nenergy: ddr3\n"
    with pytest.raises(UserError) as error:
        load_yaml(Dram, "d.yaml", text=text)
    assert str(error.value).splitlines() == [
        "d.yaml:1:1: bytes_per_cycle: required key missing",
        "d.yaml:1:1: latency_cycles: required key missing",
    ]


def test_an_unknown_preset_is_told_with_the_choices() -> None:
    text = "name: dram\nkind: dram\nsize: 1GiB\nenergy: ddr3\ntiming: ddr4_2400\n"
    choices = ", ".join(PRESETS)
    for written, column in (("ddr4_2400", 9), ("{like: ddr4_2400}", 16)):
        with pytest.raises(UserError) as error:
            load_yaml(Dram, "d.yaml", text=text.replace("timing: ddr4_2400", f"timing: {written}"))
        where = "timing" if column == 9 else "timing.like"
        unknown = f"unknown DRAM timing 'ddr4_2400'; did you mean 'ddr4_2400r'? choices: {choices}"
        assert str(error.value) == f"d.yaml:5:{column}: {where}: {unknown}"


def test_a_mapping_like_a_preset_changes_what_it_names() -> None:
    timing = {"like": "ddr3_1600k", "bus_bits": 16, "row_size": "2KiB", "RRD_S": 6, "RRD_L": 6, "FAW": 32}
    narrow = load_data(Dram, {"name": "dram", "kind": "dram", "size": "512MiB", "timing": timing, "energy": "ddr3"})
    assert narrow.timing is not None
    base = load_dram_timing("ddr3_1600k")
    changed = {"bus_bits": 16, "row_size": 2048, "RRD_S": 6, "RRD_L": 6, "FAW": 32}
    assert narrow.timing == base.model_copy(update=changed)
    assert narrow.port(100).bytes_per_cycle == 32.0  # 1600 MT/s x 2 B at 100 MHz
    assert load_data(Dram, narrow.model_dump(mode="json")) == narrow


def test_a_dram_prints_its_timing_in_one_line() -> None:
    data = {"name": "dram", "kind": "dram", "size": "2GiB", "timing": "ddr4_2400r", "energy": "generic"}
    assert str(load_data(Dram, data)) == (
        "dram: generic 2GiB, ddr4_2400r (DDR4-2400R, 8 Gb x8), 1 channel of 64 bits, 19.21 GB/s, 16 banks in 4 groups, "
        "rows of 8KiB, CL-RCD-RP-RAS 16-16-16-39 at 0.833 ns, RoBaCoBg, open rows"
    )
    assert str(load_data(Dram, SIMPLE)) == "dram: ddr3 1GiB, 16 B/cycle, latency 40, burst 64 B"


CHANGED: dict[str, Any] = {
    "channels": 2, "interleave": "1KiB", "bus_bits": 128, "burst_length": 16, "bank_groups": 4, "banks": 16,
    "row_size": "2KiB", "tck_ns": 1.1, "transfers_per_clock": 4, "CL": 12, "CWL": 10, "RCD": 12, "RP": 20, "RAS": 45,
    "CCD_S": 6, "CCD_L": 9, "RRD_S": 5, "RRD_L": 11, "FAW": 50, "RTP": 40, "WR": 30, "RTW": 60, "WTR": 60,
    "refresh_every_ns": 3900.0, "refresh_ns": 500.0, "address_map": "RoBaCoBg", "page_policy": "closed",
    "lookahead_bursts": 1, "controller_ns": 90.0,
}  # fmt: skip
LONG = {"CCD_S": 8, "CCD_L": 8, "RTW": 12}
BOTH: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # what else must differ from the small one, before and after
    "channels": ({}, {"interleave": "256B"}),
    "interleave": ({"channels": 2, "interleave": "256B"}, {}),
    "burst_length": (LONG, {}),
}


@pytest.mark.parametrize("key", CHANGED)
def test_every_key_of_a_timing_changes_what_a_transfer_costs(key: str) -> None:
    before, after = BOTH.get(key, ({}, {}))
    slow, fast = dram(**before), dram(**{**before, **after, key: CHANGED[key]})
    rows = [pieces(0, size=3000), NEXT_ROW, SIX_BANKS, OTHER_GROUP, pieces(3 * 1024, inner=(3, 700), size=300)]
    rows.append(pieces(at(3), inner=(2, at(0, 0, 1))))
    writes = [0, 1, 0, 1, 0, 1]
    one, other = (service(memory, *transfers(*rows, writes=writes)) for memory in (slow, fast))
    same = all((a == b).all() for a, b in zip(one, other, strict=True))
    assert not same or slow.latency_cycles != fast.latency_cycles


# The section of the validation page -----------------------------------------------------------------------------------


def test_the_validation_section_holds_and_notices_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    found = validate_dram.section()
    assert found.exact
    assert found.verdict == "25 of 25 equal"
    wrong = validate_dram.PUBLISHED[1]._replace(RP=17)
    monkeypatch.setattr(validate_dram, "PUBLISHED", (wrong,))
    assert validate_dram.section().verdict == "4 of 5 equal"
