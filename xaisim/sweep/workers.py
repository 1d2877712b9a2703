"""Who evaluates points: this process, or workers of Dask, here or wherever a scheduler has them.

    with pool_of(rules, memo, workers=2) as pool:
        for point, result in pool.run(points): …          # as they come in

Points are taken from ``points`` only when there is room for them, so a sweep claims little ahead of what it computes.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import numba

from xaisim.config import UserError
from xaisim.sweep.evaluate import Evaluator, Result
from xaisim.sweep.memo import Memo
from xaisim.sweep.point import Point
from xaisim.sweep.rules import Constraint

if TYPE_CHECKING:
    from distributed import Future

_TASK_SECONDS = 0.25
"""Tasks get so many points that they take about this long, and longer where there are many workers."""
_SCHEDULER_SECONDS = 0.008
"""Twice what a task costs the one scheduler that all workers share."""
_MOST_PER_TASK = 1000
_NO_WORKER_SECONDS = 300.0
"""After so long without a worker and without a result a cluster is given up."""
_CONNECT_SECONDS = 30
_THREADS = "OMP_NUM_THREADS"
SETTINGS = {
    "distributed.deploy.lost-worker-timeout": "1h",  # else a second death soon after the first closes the supervisor
    "distributed.scheduler.worker-ttl": "1h",
    "distributed.scheduler.allowed-failures": 3,
    "distributed.nanny.pre-spawn-environ": dict.fromkeys((_THREADS, "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), 1),
}

Done = tuple[Point, Result]


class Pool(Protocol):
    """Evaluates points."""

    width: int
    """How many points it is good to hand over at once."""

    def run(self, points: Iterator[Point]) -> Iterator[Done]:
        """Yield every point with its result, in any order."""

    def __enter__(self) -> Pool: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None: ...


class Here:
    """Evaluates in this process, one point after the other."""

    width = 1

    def __init__(self, rules: Sequence[Constraint], memo: Path | None) -> None:
        self._evaluate = Evaluator(Memo(memo), rules)

    def run(self, points: Iterator[Point]) -> Iterator[Done]:
        """Yield in order."""
        for point in points:
            yield point, self._evaluate(point)

    def __enter__(self) -> Here:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._evaluate.memo.close()


class Cluster:
    """Evaluates on Dask workers; the points of one that is lost are done by another."""

    def __init__(self, rules: Sequence[Constraint], memo: Path | None, *, workers: int, address: str | None) -> None:
        self._rules, self._memo, self._seconds = tuple(rules), memo, _TASK_SECONDS
        try:
            import dask
            from distributed import Client, LocalCluster
        except ImportError:
            raise UserError("several workers need Dask: pip install 'xaisim[cluster]'") from None
        self._config = dask.config.set(SETTINGS)
        logging.getLogger("distributed").setLevel(logging.ERROR)  # lost workers are for us to deal with
        self._local = None
        if address is None:
            self._local = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                memory_limit=None,
                silence_logs=logging.ERROR,
            )
        try:
            self._client = Client(self._local or address, timeout=_CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            raise UserError(f"cluster {address}: no scheduler there: {str(error).splitlines()[0]}") from None
        self.width = 2 * workers

    def run(self, points: Iterator[Point]) -> Iterator[Done]:
        """Keep every worker busy with one task and another waiting, and yield what comes back."""
        from distributed import wait

        flying: dict[Future, list[Point]] = {}
        heard = time.monotonic()
        while True:
            while len(flying) < self._room() and (task := list(islice(points, self._size()))):
                flying[self._submit(task)] = task
            if not flying:
                return
            try:
                finished = wait(list(flying), timeout=5, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                self._check_alive(heard)
                continue
            heard = time.monotonic()
            for future in finished:
                task = flying.pop(future)
                if future.status == "finished":
                    yield from self._results(task, future.result())
                elif len(task) > 1:  # one of its points may end every worker that it meets: find out which
                    flying |= {self._submit([point]): [point] for point in task}
                else:
                    yield task[0], Result("failed", None, error=f"its worker was lost: {_why(future)}")

    def _results(self, task: list[Point], results: list[Result]) -> Iterator[Done]:
        mean = sum(result.seconds for result in results) / len(results)
        self._seconds += 0.3 * (mean - self._seconds)
        yield from zip(task, results, strict=True)

    def _submit(self, task: list[Point]) -> Future:
        key = f"{task[0].hash}-{len(task)}-{time.monotonic_ns()}"
        return self._client.submit(evaluate_task, self._rules, self._memo, task, key=key, retries=3, pure=False)

    def _room(self) -> int:
        """Return how many tasks may be under way; workers come and go."""
        self.width = max(2, 2 * len(self._client.scheduler_info(n_workers=-1)["workers"]))
        return self.width

    def _size(self) -> int:
        wanted = max(_TASK_SECONDS, _SCHEDULER_SECONDS * self.width / 2)
        return max(1, min(_MOST_PER_TASK, int(wanted / max(self._seconds, 1e-4))))

    def _check_alive(self, heard: float) -> None:
        if time.monotonic() - heard > _NO_WORKER_SECONDS and not self._client.scheduler_info()["workers"]:
            raise UserError(f"no worker for {_NO_WORKER_SECONDS:g} seconds; run the command again to go on")

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._client.close()
        if self._local is not None:
            self._local.close()


def pool_of(rules: Sequence[Constraint], memo: Path | None, *, workers: int = 1, address: str | None = None) -> Pool:
    """Return this process for one worker and no address, else a cluster."""
    if workers == 1 and address is None:
        return Here(rules, memo)
    return Cluster(rules, memo, workers=workers, address=address)


_evaluators: dict[Any, Evaluator] = {}


def evaluate_task(rules: tuple[Constraint, ...], memo: Path | None, points: list[Point]) -> list[Result]:
    """Evaluate points on a worker, which keeps its memo from task to task, in a file where it can see that."""
    wanted = os.environ.get(_THREADS, "")
    if wanted.isdecimal():  # numba's own variable must not change once numba is imported, here or in a worker
        numba.set_num_threads(max(1, min(int(wanted), numba.get_num_threads())))
    key = (rules, memo, os.getpid())
    if key not in _evaluators:
        _evaluators[key] = Evaluator(Memo(memo), rules)
    return [_evaluators[key](point) for point in points]


def _why(future: Future) -> str:
    return str(future.exception()).splitlines()[0]
