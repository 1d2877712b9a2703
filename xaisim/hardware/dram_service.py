"""What a DRAM with banks and open rows makes of a schedule's transfers.

    transfers = Transfers(address, n_outer, stride_outer, n_inner, stride_inner, piece_bytes, is_write)
    service(arch.dram, transfers).occupancy_cycles        one row per transfer, in program order

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
_OUTPUTS = 7


class Transfers(NamedTuple):
    """Transfers in program order, a column per property: ``n_outer`` × ``n_inner`` pieces of contiguous bytes."""

    address: Array
    n_outer: Array
    stride_outer: Array
    n_inner: Array
    stride_inner: Array
    piece_bytes: Array
    is_write: Array


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


def service(dram: DramPort, transfers: Transfers, *, gap_cycles: int = 0) -> Service:
    """Return what transfers cost, one after the other, on a DRAM whose rows are all closed at first.

    Between two of them pass at least ``gap_cycles`` accelerator cycles in which the DRAM is idle. The DRAM must have
    a ``timing``. Raises ``ValueError`` for a transfer that leaves it.
    """
    timing = dram.timing
    if timing is None:
        raise ValueError(f"{dram.name} has no timing preset")
    columns = Transfers(*(np.ascontiguousarray(column, np.int64) for column in transfers))
    _check_inside(columns, dram.size)
    ratio = timing.cycles_per_clock(dram.clock_mhz)
    out = np.zeros((_OUTPUTS, len(columns.address)), np.int64)
    _walk(columns, _fields(timing, dram.size), _rules(timing), int(gap_cycles / ratio), out)
    clocks, first, bursts, hits, misses, conflicts, turns = out
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


def _check_inside(t: Transfers, size: int) -> None:
    if min(t.n_outer.min(initial=1), t.n_inner.min(initial=1), t.piece_bytes.min(initial=1)) < 1:
        raise ValueError("a transfer moves at least one byte")
    reach = (t.n_outer - 1) * t.stride_outer, (t.n_inner - 1) * t.stride_inner
    lowest = t.address + np.minimum(reach[0], 0) + np.minimum(reach[1], 0)
    end = t.address + np.maximum(reach[0], 0) + np.maximum(reach[1], 0) + t.piece_bytes
    wrong = np.flatnonzero((lowest < 0) | (end > size))
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(f"transfer {row} covers bytes {lowest[row]} to {end[row]} of a DRAM of {size}")


# --- the walk ---------------------------------------------------------------------------------------------------------


class _Fields(NamedTuple):
    """Where an address keeps its parts: byte → burst → channel and burst within it → row, bank, bank group."""

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
        burst=_bits(t.burst_bytes),
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
def _walk(transfers, at, rule, gap, out):  # type: ignore[no-untyped-def] # numba
    """Fill ``out`` with clocks, first data, bursts, hits, misses, conflicts and turn-rounds of every transfer.

    A transfer holds the DRAM until every rule that it set has run out (``quiet``), as far as the gap behind it does
    not cover that. So the next one finds open rows, but nothing to wait for, and its clocks are its own.
    """
    now = _closed_banks(at, rule.lookahead)
    closing = rule.RP if rule.close else 0
    begin, count = 0, len(transfers.address)
    for i in range(count):
        write = transfers.is_write[i] != 0
        to_close = rule.write_recovery if write else rule.RTP
        now.moved[:] = 0
        now.column[:] = now.group_column[:] = _LONG_AGO
        first, last, opening, previous = -1, begin, _LONG_AGO, -1
        for outer in range(transfers.n_outer[i]):
            for inner in range(transfers.n_inner[i]):
                byte = transfers.address[i] + outer * transfers.stride_outer[i] + inner * transfers.stride_inner[i]
                burst, final = byte >> at.burst, (byte + transfers.piece_bytes[i] - 1) >> at.burst
                if burst == previous:  # the piece before this one has moved it
                    burst += 1
                previous = final
                while burst <= final:
                    channel, group, bank, row = _place(at, burst)
                    burst += 1
                    if rule.close and now.user[bank] != i:
                        now.row[bank] = -1
                    now.user[bank] = i
                    if now.row[bank] == row:
                        out[3, i] += 1
                    else:
                        out[4 if now.row[bank] < 0 else 5, i] += 1
                        # A burst is seen when the column command ``lookahead`` bursts before it goes out.
                        moved = now.moved[channel]
                        seen = begin if moved < rule.lookahead else now.columns[channel, moved & (rule.lookahead - 1)]
                        opening = max(opening, _open_row(now, rule, channel, group, bank, row, seen))
                    column = _move(now, rule, channel, group, bank, begin, to_close)
                    first = column if first < 0 else first
                    last = max(last, column)
        hold = rule.burst
        if i + 1 < count:
            turn = (transfers.is_write[i + 1] != 0) != write
            hold = (rule.write_to_read if write else rule.RTW) if turn else rule.CCD_L
        quiet = max(opening + max(rule.RRD_L, rule.FAW, rule.RAS + closing), last + to_close + closing, last + hold)
        out[0, i] = max(last + rule.burst, quiet - gap) - begin
        out[1, i] = first - begin + (rule.CWL if write else rule.CL) + rule.burst
        out[2, i] = out[3, i] + out[4, i] + out[5, i]
        out[6, i] = i > 0 and (transfers.is_write[i - 1] != 0) != write
        begin = quiet
