"""What a DRAM with banks and open rows makes of a schedule's transfers.

    pieces = Pieces(row, address, outer, outer_stride, inner, inner_stride, bits)
    service(arch.dram, pieces, is_write).occupancy_cycles        one row per transfer, in program order

Addresses and order are fixed by the static schedule, and with them which rows are open when a transfer begins. Every
command is issued as early as those before it allow; each rule has the form ``time >= earlier time + timing``, so a
transfer's occupancy never grows when a timing shrinks. What is left out is in ``docs/dram.md``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from xaisim.hardware.dram import DramPort, DramTiming, address_parts

Array = np.ndarray
_LONG_AGO = -(1 << 60)
_CLOCKS, _FIRST, _HIT, _MISS, _CONFLICT, _TURNS = range(6)  # what the walk writes, a row each


class Pieces(NamedTuple):
    """What DRAM transfers move: ``outer`` × ``inner`` runs of ``bits`` each, in the order of the tile on the chip.

    A transfer may have several rows here: weights and bias, the parts of a concat that lie apart, path points.
    """

    row: Array
    """Which transfer, ascending: its row in program order."""
    address: Array
    """Bit address of the first run."""
    outer: Array
    outer_stride: Array
    """In bits, as all of these."""
    inner: Array
    inner_stride: Array
    bits: Array


class Service(NamedTuple):
    """What each transfer costs, a column per figure."""

    occupancy_cycles: Array
    """Accelerator cycles for which the transfer holds the DRAM, refresh included."""
    first_data_cycles: Array
    """Cycles from its start until its first burst is over, without refresh and the controller's time."""
    refresh_cycles: Array
    """The part of the occupancy that refresh takes."""
    bus_bytes: Array
    """Whole bursts, in bytes."""
    bursts: Array
    row_hits: Array
    row_misses: Array
    """Bursts that found their bank closed."""
    row_conflicts: Array
    """Bursts that found another row open in their bank."""
    turn_rounds: Array
    """1 where the bus changes its direction before the transfer."""

    @property
    def activates(self) -> Array:
        """Rows opened."""
        return self.row_misses + self.row_conflicts


def service(dram: DramPort, pieces: Pieces, is_write: Array, *, gap_cycles: int = 0) -> Service:
    """Return what transfers cost, one after the other, on a DRAM whose rows are all closed at first.

    ``is_write`` has an element per row in program order; rows without pieces cost nothing. Between two transfers pass
    at least ``gap_cycles`` accelerator cycles in which the DRAM is idle. The DRAM must have a ``timing``. Raises
    ``ValueError`` for a transfer that leaves it.
    """
    timing = dram.timing
    if timing is None:
        raise ValueError(f"{dram.name} has no timing preset")
    some = (pieces.outer > 0) & (pieces.inner > 0) & (pieces.bits > 0)
    moved = Pieces(*(np.ascontiguousarray(column[some], np.int64) for column in pieces))
    _check_inside(moved, dram.size)
    number, own = np.unique(moved.row, return_inverse=True)  # transfers that move anything
    ratio = timing.cycles_per_clock(dram.clock_mhz)
    walked = np.zeros((6, len(number)), np.int64)
    write = np.ascontiguousarray(is_write[number] != 0)
    _walk(moved._replace(row=own), write, _fields(timing, dram.size), _rules(timing), int(gap_cycles / ratio), walked)
    out = np.zeros((6, len(is_write)), np.int64)
    out[:, number] = walked
    clocks, first, hits, misses, conflicts, turns = out
    bursts = hits + misses + conflicts
    share = timing.refresh_per_clock
    refresh = _scaled(clocks, share.numerator, share.denominator)
    bus_bytes = bursts * timing.burst_bytes
    port = np.ceil(bus_bytes / (dram.port_bytes_per_cycle or np.inf)).astype(np.int64)
    busy = np.maximum(port, _scaled(clocks, ratio.numerator, ratio.denominator))
    occupancy = np.maximum(port, _scaled(clocks + refresh, ratio.numerator, ratio.denominator))
    return Service(
        occupancy_cycles=occupancy,
        first_data_cycles=_scaled(first, ratio.numerator, ratio.denominator),
        refresh_cycles=occupancy - busy,
        bus_bytes=bus_bytes,
        bursts=bursts,
        row_hits=hits,
        row_misses=misses,
        row_conflicts=conflicts,
        turn_rounds=turns,
    )


def _scaled(clocks: Array, numerator: int, denominator: int) -> Array:
    """Return clocks · numerator / denominator, rounded up."""
    return -(-clocks * numerator // denominator)


def _check_inside(pieces: Pieces, size: int) -> None:
    outer, inner = (pieces.outer - 1) * pieces.outer_stride, (pieces.inner - 1) * pieces.inner_stride
    lowest = pieces.address + np.minimum(outer, 0) + np.minimum(inner, 0)
    end = pieces.address + np.maximum(outer, 0) + np.maximum(inner, 0) + pieces.bits
    wrong = np.flatnonzero((lowest < 0) | (end > 8 * size))
    if len(wrong):
        row = int(wrong[0])
        where = f"bytes {lowest[row] // 8} to {-(-end[row] // 8)} of a DRAM of {size}"
        raise ValueError(f"transfer {pieces.row[row]} covers {where}")


# --- the walk ---------------------------------------------------------------------------------------------------------


class _Fields(NamedTuple):
    """Where an address keeps its parts: bit → burst → channel and burst within it → row, bank, bank group."""

    burst: int
    channels: int
    channel: int
    inside: int
    row: int
    rows: int
    bank: int
    banks: int
    group: int
    groups: int


class _Rules(NamedTuple):
    """The rules between commands, in memory clocks, and the controller's."""

    RCD: int
    RP: int
    RAS: int
    CCD_S: int
    CCD_L: int
    RRD_S: int
    RRD_L: int
    FAW: int
    RTP: int
    write_recovery: int
    RTW: int
    write_to_read: int
    CL: int
    CWL: int
    burst: int
    lookahead: int
    close: bool


def _fields(t: DramTiming, size: int) -> _Fields:
    rows = size // (t.channels * t.banks * t.row_size)
    width = {"Co": _bits(t.row_size // t.burst_bytes), "Bg": _bits(t.bank_groups), "Ro": (rows - 1).bit_length()}
    width["Ba"] = _bits(t.banks // t.bank_groups)
    shift, low = {"Bg": 0}, 0
    for part in reversed(address_parts(t)):
        shift[part] = low
        low += width[part]
    return _Fields(
        burst=_bits(8 * t.burst_bytes),
        channels=t.channels,
        channel=_bits(t.channels),
        inside=_bits((t.interleave or t.burst_bytes) // t.burst_bytes),
        row=shift["Ro"],
        rows=1 << width["Ro"],
        bank=shift["Ba"],
        banks=t.banks // t.bank_groups,
        group=shift["Bg"],
        groups=t.bank_groups,
    )


def _bits(power_of_two: int) -> int:
    return power_of_two.bit_length() - 1


def _rules(t: DramTiming) -> _Rules:
    own = {key: getattr(t, key) for key in _Rules._fields if key in DramTiming.model_fields}
    return _Rules(
        **own,
        write_recovery=t.write_recovery,
        write_to_read=t.write_to_read,
        burst=t.burst_clocks,
        lookahead=t.lookahead_bursts,
        close=t.page_policy == "closed",
    )


class _State(NamedTuple):
    """What a controller remembers: per bank, per bank group and per channel, in clocks."""

    row: Array  # open in a bank, or -1
    user: Array  # the transfer that used a bank last
    activated: Array
    may_close: Array
    group_activate: Array
    group_column: Array
    column: Array  # the channel's last column command
    columns: Array  # its latest ``lookahead`` ones in this transfer, a ring
    activates: Array  # its latest four, a ring
    opened: Array  # rows so far
    moved: Array  # bursts of this transfer


@njit(cache=True, nogil=True)
def _closed_banks(at, lookahead):  # type: ignore[no-untyped-def] # numba
    channels, groups = at.channels, at.channels * at.groups
    banks = groups * at.banks
    return _State(
        np.full(banks, -1, np.int64),
        np.full(banks, -1, np.int64),
        np.full(banks, _LONG_AGO, np.int64),
        np.full(banks, _LONG_AGO, np.int64),
        np.full(groups, _LONG_AGO, np.int64),
        np.full(groups, _LONG_AGO, np.int64),
        np.full(channels, _LONG_AGO, np.int64),
        np.full((channels, lookahead), _LONG_AGO, np.int64),
        np.full((channels, 4), _LONG_AGO, np.int64),
        np.zeros(channels, np.int64),
        np.zeros(channels, np.int64),
    )


@njit(cache=True, nogil=True)
def _place(at, burst):  # type: ignore[no-untyped-def] # numba
    """Return channel, bank group and bank (each counted over the whole DRAM) and row of a burst."""
    channel = (burst >> at.inside) & (at.channels - 1)
    local = (burst >> (at.inside + at.channel) << at.inside) | (burst & ((1 << at.inside) - 1))
    group = channel * at.groups + ((local >> at.group) & (at.groups - 1))
    bank = group * at.banks + ((local >> at.bank) & (at.banks - 1))
    return channel, group, bank, (local >> at.row) & (at.rows - 1)


@njit(cache=True, nogil=True)
def _open_row(now, rule, channel, group, bank, row, seen):  # type: ignore[no-untyped-def] # numba
    """Open a row no sooner than it is ``seen``, closing the one that is in its way; return when."""
    clock = seen
    if now.row[bank] >= 0:
        clock = max(clock, now.may_close[bank]) + rule.RP
    latest = now.opened[channel] & 3
    clock = max(clock, now.activates[channel, (latest + 3) & 3] + rule.RRD_S)
    clock = max(clock, now.group_activate[group] + rule.RRD_L)
    clock = max(clock, now.activates[channel, latest] + rule.FAW)
    now.row[bank] = row
    now.activated[bank] = now.group_activate[group] = now.activates[channel, latest] = clock
    now.may_close[bank] = clock + rule.RAS
    now.opened[channel] += 1
    return clock


@njit(cache=True, nogil=True)
def _move(now, rule, channel, group, bank, begin, to_close):  # type: ignore[no-untyped-def] # numba
    """Issue the column command of a burst whose row is open or opening; return when."""
    clock = max(begin, now.activated[bank] + rule.RCD)
    clock = max(clock, now.column[channel] + rule.CCD_S)
    clock = max(clock, now.group_column[group] + rule.CCD_L)
    now.may_close[bank] = max(now.may_close[bank], clock + to_close)
    now.column[channel] = now.group_column[group] = clock
    now.columns[channel, now.moved[channel] & (rule.lookahead - 1)] = clock
    now.moved[channel] += 1
    return clock


@njit(cache=True, nogil=True)
def _burst(now, at, rule, i, burst, begin, to_close):  # type: ignore[no-untyped-def] # numba
    """Move one burst of transfer ``i``; return how it found its row, when it opened it, and its column command."""
    channel, group, bank, row = _place(at, burst)
    if rule.close and now.user[bank] != i:
        now.row[bank] = -1
    now.user[bank] = i
    found, opened = _HIT, _LONG_AGO
    if now.row[bank] != row:
        found = _MISS if now.row[bank] < 0 else _CONFLICT
        # A burst is seen when the column command ``lookahead`` bursts before it goes out.
        moved = now.moved[channel]
        seen = begin if moved < rule.lookahead else now.columns[channel, moved & (rule.lookahead - 1)]
        opened = _open_row(now, rule, channel, group, bank, row, seen)
    return found, opened, _move(now, rule, channel, group, bank, begin, to_close)


@njit(cache=True, nogil=True)
def _walk(pieces, is_write, at, rule, gap, out):  # type: ignore[no-untyped-def] # numba
    """Fill ``out`` with clocks, first data, hits, misses, conflicts and turn-rounds of every transfer.

    A transfer holds the DRAM until every rule that it set has run out (``quiet``), as far as the gap behind it does
    not cover that. So the next one finds open rows, but nothing to wait for, and its clocks are its own.
    """
    now = _closed_banks(at, rule.lookahead)
    closing = rule.RP if rule.close else 0
    begin, piece, count = 0, 0, len(is_write)
    for i in range(count):
        write = is_write[i]
        to_close = rule.write_recovery if write else rule.RTP
        now.moved[:] = 0
        now.column[:] = now.group_column[:] = _LONG_AGO
        first, last, opened, final = _LONG_AGO, begin, _LONG_AGO, -1
        while piece < len(pieces.row) and pieces.row[piece] == i:
            for outer in range(pieces.outer[piece]):
                start = pieces.address[piece] + outer * pieces.outer_stride[piece]
                for inner in range(pieces.inner[piece]):
                    bit = start + inner * pieces.inner_stride[piece]
                    burst = bit >> at.burst
                    burst += burst == final  # the run before this one has moved it
                    final = (bit + pieces.bits[piece] - 1) >> at.burst
                    while burst <= final:
                        found, opening, column = _burst(now, at, rule, i, burst, begin, to_close)
                        out[found, i] += 1
                        first = column if first < begin else first
                        last, opened = max(last, column), max(opened, opening)
                        burst += 1
            piece += 1
        hold = rule.burst
        if i + 1 < count:
            turn = is_write[i + 1] != write
            hold = (rule.write_to_read if write else rule.RTW) if turn else rule.CCD_L
        quiet = max(opened + max(rule.RRD_L, rule.FAW, rule.RAS + closing), last + to_close + closing, last + hold)
        out[_CLOCKS, i] = max(last + rule.burst, quiet - gap) - begin
        out[_FIRST, i] = first - begin + (rule.CWL if write else rule.CL) + rule.burst
        out[_TURNS, i] = i > 0 and is_write[i - 1] != write
        begin = quiet
