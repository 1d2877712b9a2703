"""The DRAM as it is defined: a table of rules between pairs of commands, and a log of every command ever issued.

Slow and obvious: a command may go out when no rule against any command before it forbids that.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

from xaisim.hardware.dram import DramPort, DramTiming
from xaisim.hardware.dram_service import Pieces


class Command(NamedTuple):
    """``name`` is ACT, PRE, RD or WR; a place is (channel, bank group, bank)."""

    name: str
    place: tuple[int, int, int]
    row: int


class Rule(NamedTuple):
    """The ``window``-th last ``before`` in the same part (the first ``depth`` numbers of a place) and ``after``."""

    before: str
    after: str
    depth: int
    clocks: int
    window: int = 1


CHANNEL, GROUP, BANK = 1, 2, 3


def rules(t: DramTiming) -> list[Rule]:
    """Return what the standards ask between two commands."""
    burst = t.burst_length // t.transfers_per_clock
    column = [
        Rule("RD", "RD", CHANNEL, t.CCD_S),
        Rule("WR", "WR", CHANNEL, t.CCD_S),
        Rule("RD", "RD", GROUP, t.CCD_L),
        Rule("WR", "WR", GROUP, t.CCD_L),
        Rule("RD", "WR", CHANNEL, t.RTW),
        Rule("WR", "RD", CHANNEL, t.CWL + burst + t.WTR),
        Rule("RD", "PRE", BANK, t.RTP),
        Rule("WR", "PRE", BANK, t.CWL + burst + t.WR),
    ]
    row = [
        Rule("ACT", "ACT", CHANNEL, t.RRD_S),
        Rule("ACT", "ACT", GROUP, t.RRD_L),
        Rule("ACT", "ACT", CHANNEL, t.FAW, window=4),
        Rule("ACT", "ACT", BANK, t.RC),
        Rule("ACT", "RD", BANK, t.RCD),
        Rule("ACT", "WR", BANK, t.RCD),
        Rule("ACT", "PRE", BANK, t.RAS),
        Rule("PRE", "ACT", BANK, t.RP),
    ]
    return column + row


Log = list[tuple[int, Command]]


def earliest(t: DramTiming, log: Log, command: Command) -> int:
    """Return the first clock at which no rule forbids a command any more."""
    at = -(10**9)
    for rule in rules(t):
        if rule.after == command.name:
            same = [
                time
                for time, old in log
                if old.name == rule.before and old.place[: rule.depth] == command.place[: rule.depth]
            ]
            if len(same) >= rule.window:
                at = max(at, sorted(same)[-rule.window] + rule.clocks)
    return at


def ready(t: DramTiming, log: Log, command: Command, clock: int) -> bool:
    """Return whether every rule allows a command at that clock."""
    return clock >= earliest(t, log, command)


def place_of(t: DramTiming, size: int, byte: int) -> tuple[tuple[int, int, int], int]:
    """Return (channel, group, bank) and row of an address, by division."""
    burst_bytes = t.bus_bits // 8 * t.burst_length
    chunk = t.interleave or burst_bytes
    turn, inside = divmod(byte, chunk)
    turn, channel = divmod(turn, t.channels)
    rest = (turn * chunk + inside) // burst_bytes
    counts = {
        "Co": t.row_size // burst_bytes,
        "Bg": t.bank_groups,
        "Ba": t.banks // t.bank_groups,
        "Ro": size // (t.channels * t.banks * t.row_size),
    }
    parts = [t.address_map[i : i + 2] for i in range(0, len(t.address_map), 2)]
    value = {"Bg": 0}
    for part in reversed(parts):
        rest, value[part] = divmod(rest, counts[part])
    return (channel, value["Bg"], value["Ba"]), value["Ro"]


def bursts_of(t: DramTiming, pieces: Pieces, transfer: int) -> list[int]:
    """Return the first bytes of a transfer's bursts in order; neighbouring runs share one that both need."""
    size = t.bus_bits // 8 * t.burst_length
    found: list[int] = []
    final = -1
    for number, address, outer, outer_stride, inner, inner_stride, bits in zip(*pieces, strict=True):
        starts = [int(address + o * outer_stride + i * inner_stride) for o in range(outer) for i in range(inner)]
        for start in starts if number == transfer and bits else []:
            run = list(range(start // (8 * size), (start + int(bits) - 1) // (8 * size) + 1))
            found += run[1:] if run[0] == final else run
            final = run[-1]
    return [burst * size for burst in found]


class Walk(NamedTuple):
    """Per transfer: clocks, first data, bursts, hits, misses, conflicts, turns; and all commands with their clocks."""

    columns: list[tuple[int, ...]]
    log: Log
    begins: list[int]
    turn: list[int]
    """For each command of the log: when the controller itself was ready for it."""


def walk(dram: DramPort, pieces: Pieces, is_write: list[bool], gap: int = 0) -> Walk:
    """Issue every command as early as the rules, the order and the controller's view allow; no transfer is empty."""
    t = dram.timing
    assert t is not None
    burst_clocks = t.burst_length // t.transfers_per_clock
    log: Log = []
    allowed: list[int] = []
    open_rows: dict[tuple[int, int, int], int] = {}
    columns, begins, begin = [], [], 0

    def issue(command: Command, not_before: int) -> int:
        clock = max(not_before, earliest(t, log, command))
        log.append((clock, command))
        allowed.append(not_before)
        return clock

    for i, write in enumerate(is_write):
        if t.page_policy == "closed":
            open_rows.clear()
        begins.append(begin)
        seen: dict[int, list[int]] = {}
        counts = {"hit": 0, "miss": 0, "conflict": 0}
        first, marks = 0, []
        for byte in bursts_of(t, pieces, i):
            place, row = place_of(t, dram.size, byte)
            mine = seen.setdefault(place[0], [])
            visible = mine[-t.lookahead_bursts] if len(mine) >= t.lookahead_bursts else begin
            state = "hit" if open_rows.get(place) == row else "conflict" if place in open_rows else "miss"
            counts[state] += 1
            if state == "conflict":
                visible = issue(Command("PRE", place, row), visible)
            if state != "hit":
                clock = issue(Command("ACT", place, row), visible)
                marks += [clock + c for c in (t.RAS, t.RRD_L, t.FAW)]
                if t.page_policy == "closed":
                    marks.append(clock + t.RC)
            open_rows[place] = row
            mine.append(issue(Command("WR" if write else "RD", place, row), begin))
            first = first or mine[-1] - begin + (t.CWL if write else t.CL) + burst_clocks
        last = max(max(clocks) for clocks in seen.values())
        recovery = t.CWL + burst_clocks + t.WR if write else t.RTP
        marks.append(last + recovery + (t.RP if t.page_policy == "closed" else 0))
        if i + 1 < len(is_write):
            turn = t.CWL + burst_clocks + t.WTR if write else t.RTW
            marks.append(last + (t.CCD_L if is_write[i + 1] == write else turn))
        quiet = max([last + burst_clocks, *marks])
        turned = int(i > 0 and is_write[i - 1] != write)
        clocks = max(last + burst_clocks, quiet - gap) - begin
        columns.append((clocks, first, sum(counts.values()), *counts.values(), turned))
        begin = quiet
    return Walk(columns, log, begins, allowed)


def occupancy_cycles(t: DramTiming, clock_mhz: float, clocks: int) -> int:
    """Return a transfer's accelerator cycles, refresh included, by exact fractions."""
    tck = Fraction(repr(t.tck_ns))
    pause = Fraction(repr(t.refresh_ns)) + (t.RTP + t.RP + t.RCD) * tck
    refresh = math.ceil(clocks * pause / (Fraction(repr(t.refresh_every_ns)) - pause))
    return math.ceil((clocks + refresh) * tck * Fraction(repr(clock_mhz)) / 1000)
