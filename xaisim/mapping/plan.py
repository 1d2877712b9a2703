"""The plan of a kernel: its stages, how each is tiled, and where its tensors live.

plan = plan_kernel(graph, arch, Choice(keep=0.25))
plan.mappings[0]                     Mapping of the first stage
"""

from __future__ import annotations

from dataclasses import dataclass

from xaisim.config import UserError, did_you_mean
from xaisim.hardware.architecture import Architecture
from xaisim.ir.graph import Graph
from xaisim.mapping.choice import Choice, given_mapping
from xaisim.mapping.nest import Mapping
from xaisim.mapping.placement import Placement, place, varying_tensors
from xaisim.mapping.remat import rematerialise
from xaisim.mapping.stages import Stage, Views, nest_of, stages
from xaisim.mapping.streams import Problem, problem_of
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
    """Tile every stage by the cost bound; stages that are given a mapping keep it.

    Raises ``UserError`` where a stage does not fit, or where a given mapping is wrong.
    """
    graph = rematerialise(graph, choice.recompute)
    parts = stages(graph)
    given = {name: (levels, tile) for name, levels, tile in choice.stages}
    _check_names(given, [stage.name for stage in parts], choice)
    placement = place(graph, parts, arch, keep=choice.keep, points=choice.points)
    varying = varying_tensors(graph) if choice.points > 1 else frozenset()
    problems, mappings, bounds = [], [], []
    for stage, streams, free in zip(parts, placement.streams, placement.free, strict=True):
        varies = any(node.name in varying for node in stage.nodes)
        nest = nest_of(stage)._replace(T=choice.points if varies else 1)
        problem = problem_of(stage, nest, streams)
        if stage.name in given:
            mapping, cost = _given(stage, problem, *given[stage.name], arch, free, choice), 0.0
        else:
            mapping, cost = choose_mapping(problem, arch, tuple(free.items()), stage.name, choice.objective)
        problems.append(problem)
        bounds.append(cost)
        mappings.append(mapping)
    return Plan(
        graph, tuple(parts), tuple(problems), tuple(mappings), placement, Views(graph), choice, tuple(bounds)
    )  # fmt: skip


def _check_names(given: dict[str, tuple[tuple[str, ...], str]], known: list[str], choice: Choice) -> None:
    for name in given:
        if name not in known:
            near = did_you_mean(name, known) or ";"
            raise UserError(f"{choice.source}: stages.{name}: no such stage{near} choices: {', '.join(known)}")


def _given(
    stage: Stage, problem: Problem, levels: tuple[str, ...], tile: str, arch: Architecture, free: dict[str, int],
    choice: Choice,
) -> Mapping:  # fmt: skip
    """Return a mapping that the user gave, if it covers the nest and fits."""
    where = f"{choice.source}: stages.{stage.name}"
    try:
        mapping = given_mapping(problem, levels, tile, depth_of(problem))
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    short = lacking(problem, mapping, arch, free)
    if short:
        raise UserError(f"{where}: its tiles do not fit: {short}")
    return mapping
