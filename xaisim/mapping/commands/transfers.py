"""How long a tile's loads and stores take: rows become requests, requests have a window, answers have a bus.

A load command moves up to 16 rows of up to 64 bytes. Its rows are cut into aligned requests of 16, 32 or 64 bytes; so
many requests and commands are in flight at once, and answers are merged into rows one after the other.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from xaisim.hardware.soc import Soc
from xaisim.mapping.commands.caches import fetch

Array = np.ndarray

ISSUED, ENGINE, ANSWERED, COMMANDS, REQUESTS, OVER, BYTES = range(7)
"""What the state of a stream of loads holds: cycles of the last request, of the engine and of the last answer, counts
of commands and requests, the cycle when all are over, and the bytes that were asked for."""
_RING = 64  # commands whose ends are remembered; more than any queue holds


class ReadRates(NamedTuple):
    """Terms of the reading engine, in cycles and bytes."""

    smallest: int
    line_shift: int
    """log2 of the largest request, which is a line."""
    beat: int
    in_flight: int
    commands_in_flight: int
    queued: int
    round_trip: int
    command: int
    finish: int


class WriteRates(NamedTuple):
    """Terms of the writing engine, in cycles and bytes."""

    smallest: int
    line_shift: int
    beat: int
    in_flight: int
    round_trip: int
    beat_cycles: int
    command: int


def read_rates(soc: Soc) -> ReadRates:
    """Return the terms of a system as the kernels take them."""
    r = soc.reads
    return ReadRates(
        smallest=r.smallest,
        line_shift=r.largest.bit_length() - 1,
        beat=r.beat,
        in_flight=r.in_flight,
        commands_in_flight=r.commands_in_flight,
        queued=r.queued_commands,
        round_trip=r.round_trip_cycles,
        command=r.command_cycles,
        finish=r.finish_cycles,
    )


def write_rates(soc: Soc) -> WriteRates:
    """Return the terms of a system as the kernels take them."""
    r, w = soc.reads, soc.writes
    return WriteRates(
        smallest=r.smallest,
        line_shift=r.largest.bit_length() - 1,
        beat=r.beat,
        in_flight=w.in_flight,
        round_trip=w.round_trip_cycles,
        beat_cycles=w.beat_cycles,
        command=r.command_cycles,
    )


@njit(cache=True, nogil=True)
def new_stream():  # type: ignore[no-untyped-def] # numba
    """Return the state of a stream that begins: counters, the window of requests, ends of commands, LLC port."""
    return np.zeros(7, np.int64), np.zeros(64, np.int64), np.zeros(_RING, np.int64), np.zeros(20, np.int64)


@njit(cache=True, nogil=True)
def _request(address, left, smallest, line_shift):  # type: ignore[no-untyped-def] # numba
    """Return the aligned request at ``address`` that brings most of the ``left`` bytes: its size, and how many."""
    size, best = smallest, 0
    step = smallest
    while step <= 1 << line_shift:
        brings = min(step - (address & (step - 1)), left)
        if brings > best:
            size, best = step, brings
        step *= 2
    return size, best


@njit(cache=True, nogil=True)
def merge_cycles(size, shift, wanted, beat, row_offset):  # type: ignore[no-untyped-def] # numba
    """Return how long an answer of ``size`` bytes holds the merger that cuts it into rows of one beat's width.

    A beat arrives per cycle and a row leaves per cycle once its bytes are there; the first ``shift`` bytes are thrown
    away, ``wanted`` are kept, and they begin ``row_offset`` bytes into a row. The next answer follows the last row.
    """
    read = beat  # the first beat arrives in cycle 0
    sent = 0
    cycle = 1
    while True:
        have = min(max(read - shift, 0), wanted)
        if read == size and sent == wanted:
            return cycle + 1
        if have > sent and (have - sent >= beat or have == wanted):
            to = min(sent + beat - (row_offset if sent == 0 else 0), wanted)
            if to == wanted and read == size:
                return cycle
            finished, sent = sent == wanted, to
        else:
            finished = sent == wanted
        if finished and size - read <= beat:
            return cycle + 1
        if read < size:
            read += beat
        cycle += 1


@njit(cache=True, nogil=True)
def _begin(state, ends, rates):  # type: ignore[no-untyped-def] # numba
    """Return when the engine may begin the next command: behind the last one, with a place among those in flight."""
    n = state[COMMANDS]
    start = state[ENGINE] + rates.command
    if n >= rates.commands_in_flight:
        start = max(start, ends[(n - rates.commands_in_flight) & (_RING - 1)] + 1)
    return start


@njit(cache=True, nogil=True)
def load(stream, caches, miss, rates, address, stride, rows, width):  # type: ignore[no-untyped-def] # numba
    """Append one load command of ``rows`` rows of ``width`` bytes that lie ``stride`` bytes apart."""
    state, window, ends, port = stream
    at = _begin(state, ends, rates)
    last = at
    for row in range(rows):
        here, left = address + row * stride, width
        while left > 0:
            size, brings = _request(here, left, rates.smallest, rates.line_shift)
            k = state[REQUESTS] % rates.in_flight
            at = max(at + 1, window[k])
            ready = fetch(caches, here >> rates.line_shift, False, at, port, miss) + rates.round_trip
            offset = (width - left) & (rates.beat - 1)
            state[ANSWERED] = max(ready, state[ANSWERED]) + merge_cycles(
                size, here & (size - 1), brings, rates.beat, offset
            )
            window[k] = state[ANSWERED]
            last = max(last, state[ANSWERED])
            state[REQUESTS] += 1
            state[BYTES] += brings
            here += brings
            left -= brings
    _finish(state, ends, at, last + rates.finish)


@njit(cache=True, nogil=True)
def load_zeros(stream, rates, rows, width):  # type: ignore[no-untyped-def] # numba
    """Append one load command of padding: zeros are written row by row and nothing is asked for."""
    state, _, ends, _ = stream
    at = _begin(state, ends, rates) + rows * ((width + rates.beat - 1) // rates.beat)
    _finish(state, ends, at, at + rates.finish)


@njit(cache=True, nogil=True)
def _finish(state, ends, engine, end):  # type: ignore[no-untyped-def] # numba
    state[ENGINE] = engine
    ends[state[COMMANDS] & (_RING - 1)] = end
    state[COMMANDS] += 1
    state[OVER] = max(state[OVER], end)


@njit(cache=True, nogil=True)
def queued_from(stream, rates):  # type: ignore[no-untyped-def] # numba
    """Return when the last command has found a place in the queue."""
    state, _, ends, _ = stream
    n = state[COMMANDS]
    return ends[(n - rates.queued) & (_RING - 1)] if n > rates.queued else 0


@njit(cache=True, nogil=True)
def store(stream, caches, miss, rates, address, stride, rows, width):  # type: ignore[no-untyped-def] # numba
    """Append one store command; rows leave one after the other, each as aligned writes of whole beats."""
    state, window, _, port = stream
    at = state[ENGINE] + rates.command
    for row in range(rows):
        here, left = address + row * stride, width
        while left > 0:
            size, brings = _request(here, left, rates.smallest, rates.line_shift)
            k = state[REQUESTS] % rates.in_flight
            at = max(at + rates.beat_cycles * (size // rates.beat), window[k])
            window[k] = fetch(caches, here >> rates.line_shift, True, at, port, miss) + rates.round_trip
            state[OVER] = max(state[OVER], window[k])
            state[REQUESTS] += 1
            state[BYTES] += brings
            here += brings
            left -= brings
    state[ENGINE] = at
    state[COMMANDS] += 1
