"""Run a sweep: ask, claim, evaluate, keep, tell, until there are as many points as were asked for.

    found = sweep(load_space("space.yaml"), Path("store.sqlite"), workers=2)
    found.front, found.count("done"), found.hypervolume

It can be stopped at any time and started again; several may fill one store.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from xaisim.config import UserError
from xaisim.experiment import code_digest
from xaisim.sweep.front import front, hypervolumes
from xaisim.sweep.point import Point
from xaisim.sweep.samplers import Sampler, Told, sampler_of
from xaisim.sweep.space import Space
from xaisim.sweep.store import LEASE_SECONDS, Row, Store, check_place
from xaisim.sweep.workers import Pool, pool_of
from xaisim.version import __version__

_DEFAULT_POINTS = 200
_AHEAD = 100
"""Points per place of a pool that are asked for at once: all wait at the end of these for the last of them."""
_FRUITLESS = 20
"""Generations without a new point after which a sampler has nothing more to say."""

Progress = Callable[[str, int, int], None]
"""(what, done, of how many)"""


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep came to: its points in the order in which they were asked for."""

    rows: list[Row]
    front: list[Row]
    computed: int
    """Points that this run evaluated; the others were in the store."""
    seconds: float
    hypervolume: list[float] | None
    """After each point, as a share of the box around all; None without moocore."""

    def count(self, status: str) -> int:
        """Return how many points have a status."""
        return sum(row.status == status for row in self.rows)


def sweep(
    space: Space,
    path: Path,
    *,
    text: str | None = None,
    workers: int = 1,
    cluster: str | None = None,
    points: int | None = None,
    warm: Path | None = None,
    any_code: bool = False,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> Swept:
    """Fill a store with the points of a space and return them.

    ``text`` is the space file's, kept in the store. ``warm`` is an earlier store whose front is evaluated first.
    ``any_code`` goes on with a store of another state of the package, ``retry_failed`` does failed points again. Raises
    :class:`UserError`.
    """
    first = _front_of(space, warm) if warm is not None else []
    sampler = sampler_of(space, first)
    most = points or space.points or (space.size if space.sampler.kind == "grid" else _DEFAULT_POINTS)
    start = time.monotonic()
    memo = None if cluster is not None else path.with_name(path.name + ".memo")
    check_place(path)
    meta = _meta(space, text)
    if path.exists():
        with Store.create(path, meta) as store:  # before any worker starts
            _check_same(store, space, any_code=any_code)
    with (  # a cluster that cannot be reached leaves no store behind
        pool_of(space.rules, memo, workers=workers, address=cluster) as pool,
        Store.create(path, meta) as store,
    ):
        _check_same(store, space, any_code=any_code)
        if retry_failed:
            store.forget_failed()
        with _kept(store):
            job = _Job(store, pool, progress, min(most, space.size))
            rows = job.follow(sampler, space)
    try:
        volumes = hypervolumes(rows, space.goals)
    except UserError:
        volumes = None
    return Swept(rows, front(rows, space.goals), job.computed, time.monotonic() - start, volumes)


class _Job:
    """Gets points finished: by us, or by another sweep on the same store."""

    def __init__(self, store: Store, pool: Pool, progress: Progress | None, most: int) -> None:
        self._store, self._pool, self._progress, self._most = store, pool, progress, most
        self.computed = 0

    def follow(self, sampler: Sampler, space: Space) -> list[Row]:
        """Return the rows of all that a sampler asks for, in its order, until there are enough or nothing new comes."""
        seen, fruitless = dict[str, Row](), 0
        while len(seen) < self._most and fruitless < _FRUITLESS:
            choices = sampler.ask(_AHEAD * self._pool.width)
            if not choices:
                break
            asked = [space.point(choice) for choice in choices]
            new = list({point.hash: point for point in asked if point.hash not in seen}.values())
            found = self.complete(new[: self._most - len(seen)], len(seen))
            seen |= found
            fruitless = 0 if found or sampler.ends else fruitless + 1
            known = [(c, seen[p.hash]) for c, p in zip(choices, asked, strict=True) if p.hash in seen]
            sampler.tell([_told(space, choice, row) for choice, row in known])
        return list(seen.values())

    def complete(self, points: Sequence[Point], before: int) -> dict[str, Row]:
        """Return the finished rows of points, in their order, when all are there."""
        by_hash = {point.hash: point for point in points}
        found = self._store.finished(by_hash)
        pause = 0.02
        while len(found) < len(points):
            left = [point for point in points if point.hash not in found]
            count = before + len(found)
            for point, result in self._pool.run(self._claimed(left)):
                self._store.finish([(point, result)])
                self.computed += 1
                count += 1
                if self._progress:
                    self._progress("points", count, self._most)
            found |= self._store.finished(point.hash for point in left)
            if len(found) < len(points):  # another sweep has the rest: it finishes them, or its lease ends
                time.sleep(pause)
                pause = min(1.0, 2 * pause)
        return {key: found[key] for key in by_hash}

    def _claimed(self, points: Sequence[Point]) -> Iterator[Point]:
        """Claim points as they are asked for, as many at once as there are workers to take them."""
        for at in range(0, len(points), self._pool.width):
            yield from self._store.claim(points[at : at + self._pool.width])


@contextmanager
def _kept(store: Store) -> Iterator[None]:
    """Renew our claims in the background, and let go of them when we stop before the end."""
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(LEASE_SECONDS / 4):
            with suppress(UserError), Store.create(store.path, {}) as own:  # two threads must not share transactions
                own.renew()

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        store.release()


def _meta(space: Space, text: str | None) -> dict[str, str]:
    goals = [{"name": goal.name, "direction": goal.direction} for goal in space.goals]
    return {
        "title": space.title,
        "space": text or json.dumps(space.model_dump(mode="json"), indent=1),
        "objectives": json.dumps(goals),
        "version": __version__,
        "identity": space.identity(),
        "code": code_digest(),
    }


def _check_same(store: Store, space: Space, *, any_code: bool) -> None:
    """Refuse a store of another space, and one that other code has filled."""
    meta = store.meta()
    if meta.get("identity") != space.identity():
        raise UserError(f"{store.path}: holds another space, {meta.get('title')!r}; give another store (-o)")
    if meta.get("code") != code_digest() and not any_code:
        raise UserError(
            f"{store.path}: was filled by other code (xaisim {meta.get('version')}), whose results may differ; give "
            "another store, or --any-code to go on with this one"
        )


def _front_of(space: Space, path: Path) -> list[dict[str, object]]:
    """Return the choices of an earlier store's front that are points of this space, too."""
    with Store.read(path) as store:
        rows = front(list(store.finished().values()), space.goals)
    whole = [row.inputs for row in rows if set(row.inputs) == set(space.axes)]
    return [dict(inputs) for inputs in whole if all(inputs[key] in values for key, values in space.axes.items())]


def _told(space: Space, choice: dict[str, object], row: Row) -> Told:
    costs = [goal.cost(row.outputs) for goal in space.goals]
    violation = max([0.0, *(rule.violation(row.outputs) for rule in space.rules)])
    known = [cost for cost in costs if cost is not None]
    return Told(choice, known if row.status == "done" and len(known) == len(costs) else None, violation)
