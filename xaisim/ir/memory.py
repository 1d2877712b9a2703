"""Memory for maps: aligned, with room behind it, and taken again once nobody holds it.

Fresh pages cost a tenth of a run: the system clears them first. So every thread keeps its buffers and hands out those
that no array refers to any more.
"""

from __future__ import annotations

import math
import sys
import threading

import numpy as np

Array = np.ndarray

_ALIGNMENT = 64
_ROOM = 64
"""Bytes that may be read behind the end."""
_SMALL = 1 << 16
_LARGE, _HUGE = 1 << 19, 4 << 20
"""Buffers beyond the first are as large as the second at least: from there on numpy asks the system for huge pages."""
_KEPT = 256 << 20
"""Bytes of free buffers that a thread keeps at most."""


class _Buffers(threading.local):
    """The buffers of one thread."""

    def __init__(self) -> None:
        self.held: list[Array] = []

    def take(self, size: int) -> Array:
        """Return a buffer of at least ``size`` bytes that no array refers to."""
        size = max(size, _HUGE) if size >= _LARGE else size
        best, unused = None, 0
        for buffer in self.held:
            if _references(buffer) == _UNUSED:
                unused += buffer.size
                if size <= buffer.size <= 2 * size and (best is None or buffer.size < best.size):
                    best = buffer
        if best is not None:
            return best
        if unused > _KEPT:
            self.held = [buffer for buffer in self.held if _references(buffer) != _UNUSED]
        self.held.append(np.empty(size, np.uint8))
        return self.held[-1]


def _references(buffer: Array) -> int:
    return sys.getrefcount(buffer)


def _unused() -> int:
    """Return how many references a buffer shows that only its list holds, or -1 where views of it do not show."""
    held = [np.empty(1, np.uint8)]
    counts = []
    for buffer in held:
        counts.append(_references(buffer))
    view = held[0][:]
    for buffer in held:
        counts.append(_references(buffer))
    del view
    return counts[0] if counts[1] == counts[0] + 1 else -1


_UNUSED = _unused()
_buffers = _Buffers()


def aligned(shape: tuple[int, ...], dtype: type) -> Array:
    """Return uninitialised memory at a multiple of 64 bytes, with 64 readable bytes behind it."""
    return _view(np.empty(_bytes(shape, dtype), np.uint8), shape, dtype)


def scratch(shape: tuple[int, ...], dtype: type) -> Array:
    """Return the same from this thread's buffers unless it is small; free again once no array refers to it."""
    size = _bytes(shape, dtype)
    return _view(np.empty(size, np.uint8) if size < _SMALL else _buffers.take(size), shape, dtype)


def _bytes(shape: tuple[int, ...], dtype: type) -> int:
    return math.prod(shape) * np.dtype(dtype).itemsize + _ALIGNMENT + _ROOM


def _view(raw: Array, shape: tuple[int, ...], dtype: type) -> Array:
    start = -raw.ctypes.data % _ALIGNMENT
    end = start + math.prod(shape) * np.dtype(dtype).itemsize
    return raw[start:end].view(dtype).reshape(shape)
