"""The mapper: candidates that the cost bound ranks, and the clock's word on the best of them.

    schedule, timing = best_schedule(launch, arch, Wish(objective="edp"))

The bound tiles every stage for a number of path points in flight and for shares of the memories that feature maps keep
within a trip, and weights over all trips; the clock then times the best candidates, and what it says decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from xaisim.attribution.device import Launch
from xaisim.config import UserError, did_you_mean
from xaisim.hardware.architecture import Architecture
from xaisim.ir.graph import Graph
from xaisim.mapping.choice import Choice, GivenMapping, kernel_key
from xaisim.mapping.order import saturating
from xaisim.mapping.placement import varying_tensors
from xaisim.mapping.plan import Plan, plan_kernel
from xaisim.mapping.remat import recomputable, stored
from xaisim.mapping.schedule import Schedule, check_dram, schedule_of, verify
from xaisim.mapping.tiling import Objective
from xaisim.simulate.clock import LoopTiming, time_schedule
from xaisim.simulate.energy import Repeated, energy_account
from xaisim.simulate.recompute import recomputing

_KEEP = (0.0, 0.25, 0.5, 0.75)
_STAY = (0.0, 0.25, 0.5, 0.75)
_POINTS = (2, 5, 10)
"""Path points in flight to try: of each, the largest divisor of the number of trips that is not more."""
_TRIED: dict[Objective, tuple[Objective, ...]] = {
    "latency": ("latency",),
    "energy": ("energy", "edp", "latency"),
    "edp": ("edp", "latency", "energy"),
}
"""What stages are tiled for. Their bounds do not add up to energy or a product, so neighbours are timed, too."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the mapping of a program is to be good at, and what of it is given."""

    objective: Objective = "latency"
    given: GivenMapping | None = None
    search: bool = True
    """Whether to look for maps to keep and points in flight; else tiles alone are chosen, by the bound."""


DEFAULT_WISH = Wish()


def best_schedule(launch: Launch, arch: Architecture, wish: Wish = DEFAULT_WISH) -> tuple[Schedule, LoopTiming]:
    """Return the best schedule of a launch that was found, with its timing.

    Raises ``UserError`` where the kernel does not fit or a given mapping is wrong.
    """
    remembered = _chosen if wish.given is None else _chosen.__wrapped__
    found = remembered(launch.graph, launch.kernel, launch.trips, launch.sync, arch, wish)
    if found.made:
        schedule, timing = found.made.pop()
    else:
        schedule, timing = _timed(plan_kernel(launch.graph, arch, found.choice), launch.trips, launch.sync, arch)
    verify(schedule, arch)
    return schedule, timing


@dataclass(frozen=True, slots=True)
class _Found:
    """The choice that won. What the clock made of it goes to the first who asks and is not kept: it is large."""

    choice: Choice
    made: list[tuple[Schedule, LoopTiming]]


def _timed(plan: Plan, trips: int, sync: bool, arch: Architecture) -> tuple[Schedule, LoopTiming]:
    schedule = schedule_of(plan, arch, sync=sync)
    check_dram(schedule.layout, arch, trips // plan.points)
    return schedule, time_schedule(schedule, trips // plan.points)


@lru_cache(maxsize=256)
def _chosen(graph: Graph, kernel: str, trips: int, sync: bool, arch: Architecture, wish: Wish) -> _Found:
    """Rank all candidates by the bound, time the best, and return the winner; ties go to the simpler one."""
    choices = _choices(graph, kernel, trips, arch, wish)
    rank, score = _Ranking(graph, arch), _Clock(arch, trips, sync, wish.objective)
    found = []
    for form in choices.forms:
        plans = rank.candidates(choices, form)
        _check_order(graph, arch, plans, wish)
        if plans:
            best = plans[0] if len(plans) == 1 else min(plans, key=score)
            if len(choices.stay) > 1:
                best = min(best, rank.staying(best, choices.stay), key=score)
            if choices.recompute:
                best = min(best, recomputing(graph, arch, best), key=score)
            if choices.spill:
                best = min(best, rank.spilling(best), key=score)
            found.append(best)
    if not found:
        assert rank.problem is not None
        raise rank.problem
    best = found[0] if len(found) == 1 else min(found, key=score)
    if score.scores.get(best.choice) == math.inf:
        assert score.problem is not None
        raise score.problem
    return _Found(best.choice, [score.made[best.choice]] if best.choice in score.made else [])


@dataclass(slots=True)
class _Clock:
    """Scores plans by the clock, each once; one that does not fit the DRAM scores infinity, and its reason is kept."""

    arch: Architecture
    trips: int
    sync: bool
    objective: Objective
    scores: dict[Choice, float] = field(default_factory=dict)
    made: dict[Choice, tuple[Schedule, LoopTiming]] = field(default_factory=dict)
    """The schedule and the timing of the best so far."""
    problem: UserError | None = None

    def __call__(self, plan: Plan) -> float:
        if plan.choice not in self.scores:
            try:
                timed = _timed(plan, self.trips, self.sync, self.arch)
                found = _score(*timed, self.arch, self.objective)
                if found < min(self.scores.values(), default=math.inf):
                    self.made = {plan.choice: timed}
            except UserError as error:  # several path points may not fit the DRAM
                self.problem, found = error, math.inf
            self.scores[plan.choice] = found
        return self.scores[plan.choice]


@dataclass(slots=True)
class _Ranking:
    """Plans candidates and keeps the reason of one that does not fit."""

    graph: Graph
    arch: Architecture
    problem: UserError | None = None

    def candidates(self, choices: _Choices, form: int | None) -> list[Plan]:
        """Return what the clock is to look at, the simplest first, with the array in one form or in any."""
        plans: list[Plan] = []
        for objective in choices.objectives:
            base = replace(choices.base, objective=objective, spatial=form)
            base = replace(base, keep=choices.keep[0], stay=choices.stay[0])
            found = self.best([[replace(base, points=n) for n in choices.points]])
            plans += self.best([[replace(plan.choice, keep=keep) for keep in choices.keep] for plan in found])
        return list({plan.choice: plan for plan in plans}.values())

    def staying(self, plan: Plan, shares: Sequence[float]) -> Plan:
        """Return the best of a plan with each share of the memories for what stays over all trips."""
        return self.best([[replace(plan.choice, stay=share) for share in shares]])[-1]

    def spilling(self, plan: Plan) -> Plan:
        """Return a plan with all masks and indices in DRAM, for their room and time; itself where none is kept."""
        kept = [name for name in stored(plan.graph) if name in plan.placement.resident]
        if not kept:
            return plan
        try:
            spill = tuple(sorted({*plan.choice.spill, *kept}))
            return plan_kernel(self.graph, self.arch, replace(plan.choice, spill=spill))
        except UserError:  # tiles of masks that travel may not fit
            return plan

    def best(self, groups: Sequence[Sequence[Choice]]) -> list[Plan]:
        """Return the first plan that fits and the best of every group by the bound."""
        found: list[Plan] = []
        for group in groups:
            plans = []
            for candidate in group:
                try:
                    plans.append(plan_kernel(self.graph, self.arch, candidate))
                except UserError as error:  # more kept or more in flight may not fit
                    self.problem = self.problem or error
            if plans:
                found += [plans[0], min(plans, key=_bound_per_point)]
        return list({plan.choice: plan for plan in found}.values())


def _bound_per_point(plan: Plan) -> float:
    """Return the bound of one path point; of a product of energy and time, both shrink with the points in a trip."""
    return plan.bound / plan.points ** (2 if plan.choice.objective == "edp" else 1)


@dataclass(frozen=True, slots=True)
class _Choices:
    """What may be chosen, the simplest first."""

    base: Choice
    objectives: Sequence[Objective]
    forms: Sequence[int | None] = (None,)
    """Of an array that has several: the best one for every stage, and each for all stages."""
    keep: Sequence[float] = (0.0,)
    stay: Sequence[float] = (0.0,)
    points: Sequence[int] = (1,)
    recompute: bool = False
    """Whether to look for masks and indices to compute again."""
    spill: bool = False
    """Whether to try all of them in DRAM."""


def _choices(graph: Graph, kernel: str, trips: int, arch: Architecture, wish: Wish) -> _Choices:
    given = wish.given.kernel(kernel) if wish.given else None
    stages = wish.given.stages(kernel) if wish.given else ()
    where = f"{wish.given.source}: kernels.{kernel_key(kernel)}" if wish.given else ""
    base = Choice(wish.objective, stages=stages, source=where)
    if given is not None and given.recompute is not None:
        names = _named(given.recompute, recomputable(graph), f"{where}.recompute", "that backward can compute again")
        base = replace(base, recompute=names)
    if given is not None and given.spill is not None:
        left = [name for name in stored(graph) if name not in base.recompute]
        base = replace(base, spill=_named(given.spill, left, f"{where}.spill", "that backward reads from forward"))
    objectives = _TRIED[wish.objective] if wish.search else (wish.objective,)
    if arch.array.accumulator == "saturate" or not wish.search:  # the order of addition is the simplest mapping's
        return _Choices(base, ("latency",) if saturating(graph) else objectives)
    keeps: Sequence[float] = _KEEP
    stays: Sequence[float] = _STAY if trips > 1 else (0.0,)
    if trips == 1 and any(node.backward for node in graph.nodes):  # which reads weights of forward again
        stays = (0.0, 0.5)
    points: Sequence[int] = [1]
    if trips > 1 and varying_tensors(graph):
        points = sorted({1, *(max(n for n in range(1, most + 1) if trips % n == 0) for most in _POINTS)})
    if given is not None and given.keep_on_chip is not None:
        keeps = [given.keep_on_chip]
    if given is not None and given.keep_over_trips is not None:
        stays = [given.keep_over_trips]
    if given is not None and given.points_in_flight is not None:
        points = [given.points_in_flight]
        if trips % points[0]:
            raise UserError(f"{where}.points_in_flight: must divide the {trips} trips (got {points[0]})")
    forms = (None, *range(len(arch.array.forms))) if len(arch.array.forms) > 1 else (None,)
    recompute, spill = (given is None or getattr(given, name) is None for name in ("recompute", "spill"))
    return _Choices(base, objectives, forms, keeps, stays, points, recompute, spill)


def _named(names: Sequence[str], known: Sequence[str], where: str, which: str) -> tuple[str, ...]:
    """Return the masks and indices that a file names, sorted; raise ``UserError`` for a wrong or a repeated one."""
    for index, name in enumerate(names):
        if name not in known:
            near = did_you_mean(name, known) or ";"
            raise UserError(f"{where}: no mask or index {name!r} {which}{near} choices: {', '.join(known) or 'none'}")
        if name in names[:index]:
            raise UserError(f"{where}: {name} is listed twice")
    return tuple(sorted(names))


def _score(schedule: Schedule, timing: LoopTiming, arch: Architecture, objective: Objective) -> float:
    if objective == "latency":
        return timing.cycles
    energy = sum(item.uj for item in energy_account([Repeated(schedule, timing.trips)], arch))
    return energy if objective == "energy" else energy * timing.cycles


def _check_order(graph: Graph, arch: Architecture, plans: Sequence[Plan], wish: Wish) -> None:
    """Refuse given loops that would change the order of addition where accumulators saturate."""
    names = saturating(graph)
    if not names or wish.given is None:
        return
    simplest = plan_kernel(graph, arch)
    found = {stage.name: mapping for stage, mapping in zip(simplest.stages, simplest.mappings, strict=True)}
    for plan in plans:
        for stage, p, mine in zip(plan.stages, plan.problems, plan.mappings, strict=True):
            if stage.anchor.name not in names:
                continue
            theirs = found[stage.name]
            where = f"{plan.choice.source}.stages.{stage.name}"
            why = f"{where}: its sums saturate, so their order is part of the values; "
            got, must = mine.tile(p.nest)["C"], theirs.tile(p.nest)["C"]
            if got != must:
                raise UserError(f"{why}the tile must have C{must} (got C{got})")
            if mine.spatial != theirs.spatial:
                forms = arch.array.forms
                raise UserError(f"{why}spatial must be {forms[theirs.spatial]} (got {forms[mine.spatial]})")
