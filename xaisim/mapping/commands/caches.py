"""Which requests hit which cache, and what a miss costs, in the order of the schedule.

    served = fetch(memory, line, write, at, port, rates)      # when the line is in the L2

Both caches replace at random, as the modelled ones do; the generator is seeded, so a schedule always meets the same.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from xaisim.hardware.soc import Cache, Soc

Array = np.ndarray

HIT = -1
CLEAN_MISS = -2  # any other result of ``_touch`` is the changed line that was replaced


class Caches(NamedTuple):
    """Lines held and changed bits of both caches (sets, ways), and the state of the generator."""

    l2_tag: Array
    l2_changed: Array
    llc_tag: Array
    llc_changed: Array
    random: Array


class MissRates(NamedTuple):
    """The last level's terms, in cycles."""

    access: int
    latency: int
    fill: int
    evict: int
    dram: int
    misses: int
    block_shift: int
    """log2 of the lines in a block."""


def new_caches(soc: Soc) -> Caches:
    """Return caches full of unchanged lines of some other program."""

    def tags(cache: Cache) -> Array:
        return np.full((cache.sets, cache.ways), -1, np.int64)

    def changed(cache: Cache) -> Array:
        return np.zeros((cache.sets, cache.ways), np.int64)

    return Caches(tags(soc.l2), changed(soc.l2), tags(soc.llc), changed(soc.llc), np.array([12345], np.int64))


def miss_rates(soc: Soc) -> MissRates:
    """Return the terms of a system as the kernels take them."""
    llc = soc.llc
    return MissRates(
        llc.access_cycles, llc.latency_cycles, llc.fill_cycles, llc.evict_cycles, llc.dram_cycles, llc.misses,
        (llc.line // soc.l2.line).bit_length() - 1,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _touch(tag, changed, random, line, write):  # type: ignore[no-untyped-def] # numba
    """Look a line up and put it in; return ``HIT``, ``CLEAN_MISS`` or the changed line that had to go."""
    sets, ways = tag.shape
    at = line & (sets - 1)
    for way in range(ways):
        if tag[at, way] == line:
            if write:
                changed[at, way] = 1
            return HIT
    random[0] = (random[0] * 1103515245 + 12345) & 0x7FFFFFFF
    way = (random[0] >> 16) % ways
    out = tag[at, way] if changed[at, way] else CLEAN_MISS
    tag[at, way] = line
    changed[at, way] = 1 if write else 0
    return out


@njit(cache=True, nogil=True)
def _last_level(caches, block, write, at, port, rates):  # type: ignore[no-untyped-def] # numba
    """Serve a line's access from cycle ``at``; return when it is done.

    ``port`` is what is in flight: [0] when the cache is free, [1] misses so far, [2 + k] the set of miss k,
    [10 + k] when its block is there.
    """
    start = max(at, port[0])
    here = block & (caches.llc_tag.shape[0] - 1)
    for k in range(rates.misses):
        if port[2 + k] == here and port[10 + k] > start:
            start = port[10 + k]  # reads are in order, and one of this set waits for the block on its way
    out = _touch(caches.llc_tag, caches.llc_changed, caches.random, block, write)
    if out == HIT:
        port[0] = start + rates.access
        return start + rates.latency
    k = port[1] % rates.misses
    start = max(start, port[10 + k])
    port[1] += 1
    port[0] = start + 2 + rates.fill + (rates.evict if out >= 0 else 0) + (rates.access if write else 0)
    port[2 + k] = here
    port[10 + k] = start + 2 + rates.dram + rates.fill
    return port[10 + k] + rates.latency


@njit(cache=True, nogil=True)
def fetch(caches, line, write, at, port, rates):  # type: ignore[no-untyped-def] # numba
    """Bring a line into the L2 from cycle ``at``; return when it is there (``at`` for a hit)."""
    out = _touch(caches.l2_tag, caches.l2_changed, caches.random, line, write)
    if out == HIT:
        return at
    if out >= 0:
        _last_level(caches, out >> rates.block_shift, True, at, port, rates)
    return _last_level(caches, line >> rates.block_shift, False, at, port, rates)


@njit(cache=True, nogil=True)
def use_before(caches, first, lines, write, port, rates):  # type: ignore[no-untyped-def] # numba
    """Touch lines one after the other, as a program did that ran before."""
    for line in range(first, first + lines):
        fetch(caches, line, write, 0, port, rates)
