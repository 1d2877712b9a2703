"""The plan of a kernel: its stages, how each is tiled, and where its tensors live.

plan = plan_kernel(graph, arch, Choice(keep=0.25))
plan.mappings[0]                     Mapping of the first stage
"""

from __future__ import annotations

from dataclasses import dataclass

from xaisim.config import UserError, did_you_mean
from xaisim.hardware.architecture import Architecture
from xaisim.ir.graph import Graph
from xaisim.mapping.choice import Choice, GivenStage, given_form, given_mapping
from xaisim.mapping.forms import choose_form, form_for
from xaisim.mapping.nest import Mapping
from xaisim.mapping.placement import Placement, place, varying_stages
from xaisim.mapping.remat import rematerialise
from xaisim.mapping.stages import Stage, Views, stages, views_of
from xaisim.mapping.streams import Problem, problems_of
from xaisim.mapping.tiling import choose_mapping, depth_of, lacking

DEFAULT = Choice()


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that mapping decided: the stages, their problems and mappings, and where tensors live."""

    graph: Graph
    """The kernel as it is mapped: with what backward computes again."""
    stages: tuple[Stage, ...]
    problems: tuple[Problem, ...]
    mappings: tuple[Mapping, ...]
    placement: Placement
    views: Views
    choice: Choice
    bounds: tuple[float, ...]
    """The cost bound of every stage in a trip; 0 for one that is given."""

    @property
    def bound(self) -> float:
        """The cost bound of a trip."""
        return sum(self.bounds)

    @property
    def points(self) -> int:
        """Path points that one trip works on."""
        return self.choice.points


def plan_kernel(graph: Graph, arch: Architecture, choice: Choice = DEFAULT) -> Plan:
    """Tile every stage and choose the array's form for it by the cost bound; what is given stays as it is.

    Raises ``UserError`` where a stage does not fit, or where a given mapping is wrong.
    """
    graph = rematerialise(graph, choice.recompute)
    parts = stages(graph)
    given = {stage.name: stage for stage in choice.stages}
    _check_names(given, [stage.name for stage in parts], choice)
    placement = place(graph, arch, keep=choice.keep, stay=choice.stay, points=choice.points, spill=choice.spill)
    each = zip(parts, problems_of(graph), varying_stages(graph), placement.streams, placement.free, strict=True)
    problems, mappings, bounds = [], [], []
    for stage, base, varies, streams, free in each:
        problem = base._replace(nest=base.nest._replace(T=choice.points if varies else 1), streams=streams)
        mapping, cost = _mapped(problem, given.get(stage.name, GivenStage(stage.name, ())), arch, free, choice)
        problems.append(problem)
        bounds.append(cost)
        mappings.append(mapping)
    return Plan(
        graph, parts, tuple(problems), tuple(mappings), placement, views_of(graph), choice, tuple(bounds)
    )  # fmt: skip


def _mapped(
    problem: Problem, given: GivenStage, arch: Architecture, free: dict[str, int], choice: Choice
) -> tuple[Mapping, float]:
    """Return the mapping of a stage and its bound, 0 where its loops are given."""
    form = choice.spatial if problem.on_array else 0
    if given.spatial:
        try:
            form = given_form(problem, given.spatial, arch.array)
        except ValueError as error:
            raise UserError(f"{choice.source}.stages.{given.name}: {error}") from None
    if given.levels:
        mapping = _given(given, problem, arch, free, choice)
        if form is None:
            form = form_for(problem, mapping, arch, choice.objective)
        return mapping._replace(spatial=form), 0.0
    own = {memory for stream in problem.streams for memory in stream.memories}
    left = tuple((memory, size) for memory, size in free.items() if memory in own)
    if form is None:
        tiled = choose_form(problem, arch, left, given.name, choice.objective)
        return tiled.mapping, tiled.bound
    tiled = choose_mapping(problem, arch.alternatives[form], left, given.name, choice.objective)
    return tiled.mapping._replace(spatial=form), tiled.bound


def _check_names(given: dict[str, GivenStage], known: list[str], choice: Choice) -> None:
    for name in given:
        if name not in known:
            near = did_you_mean(name, known) or ";"
            raise UserError(f"{choice.source}.stages.{name}: no such stage{near} choices: {', '.join(known)}")


def _given(
    given: GivenStage, problem: Problem, arch: Architecture, free: dict[str, int], choice: Choice
) -> Mapping:  # fmt: skip
    """Return loops that the user gave, if they cover the nest and fit."""
    where = f"{choice.source}.stages.{given.name}"
    try:
        mapping = given_mapping(problem, given.levels, given.tile, depth_of(problem))
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    short = lacking(problem, mapping, arch, free)
    if short:
        raise UserError(f"{where}: its tiles do not fit: {short}")
    return mapping
