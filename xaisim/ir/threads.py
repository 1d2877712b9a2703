"""Threads for compiled code that releases the interpreter: one pool per process, made when it is first asked for."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import numba

T = TypeVar("T")
R = TypeVar("R")
_pool: tuple[int, int, ThreadPoolExecutor] | None = None


def thread_count() -> int:
    """Return how many threads values may use: all cores, or what ``numba.set_num_threads`` or its variable says."""
    return int(numba.get_num_threads())


def _executor(size: int) -> ThreadPoolExecutor:
    """Return the pool; a forked process makes its own, as threads do not survive a fork."""
    global _pool
    if _pool is None or _pool[0] != os.getpid() or _pool[1] < size:
        _pool = (os.getpid(), size, ThreadPoolExecutor(size, thread_name_prefix="xaisim"))
    return _pool[2]


def share(work: Callable[[int], object], parts: int) -> None:
    """Run ``work(0) … work(parts − 1)`` at once, the first of them here."""
    waiting = [_executor(parts - 1).submit(work, i) for i in range(1, parts)] if parts > 1 else []
    try:
        work(0)
    finally:
        wait(waiting)
    for future in waiting:
        future.result()


def in_parallel(work: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Yield ``work(item)`` in order, ``threads`` of them at once and not many more results waiting."""
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(_executor(threads).submit(work, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # nobody asks for the rest
        for future in waiting:
            future.cancel()
        wait(waiting)
