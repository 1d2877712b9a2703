"""The plan of a kernel: its stages, how each is tiled, and where its tensors live.

plan = plan_kernel(graph, arch)
plan.mappings[0]                     Mapping of the first stage
"""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from dataclasses import dataclass

from xaisim.hardware.architecture import Architecture
from xaisim.ir.graph import Graph
from xaisim.mapping.nest import Mapping
from xaisim.mapping.placement import Placement, place
from xaisim.mapping.stages import Stage, Views, nest_of, stages
from xaisim.mapping.streams import Problem, problem_of
from xaisim.mapping.tiling import Objective, choose_mapping


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that mapping decided: the stages, their problems and mappings, and where tensors live."""

    stages: tuple[Stage, ...]
    problems: tuple[Problem, ...]
    mappings: tuple[Mapping, ...]
    placement: Placement
    views: Views
    points: int
    """Path points that one trip works on."""


def plan_kernel(
    graph: Graph,
    arch: Architecture,
    *,
    objective: Objective = "latency",
    keep: float = 0.0,
    points: int = 1,
    given: MappingType[str, Mapping] | None = None,
) -> Plan:
    """Tile every stage by the cost bound; stages that are ``given`` a mapping keep it.

    Raises ``UserError`` where a stage does not fit.
    """
    parts = stages(graph)
    placement = place(graph, parts, arch, keep=keep, points=points)
    problems, mappings = [], []
    for stage, streams, free in zip(parts, placement.streams, placement.free, strict=True):
        varies = points > 1 and any(stream.point for stream in streams)
        nest = nest_of(stage)._replace(T=points if varies else 1)
        problem = problem_of(stage, nest, streams)
        mapping = (given or {}).get(stage.name)
        if mapping is None:
            mapping = choose_mapping(problem, arch, tuple(free.items()), stage.name, objective)
        problems.append(problem)
        mappings.append(mapping)
    return Plan(tuple(parts), tuple(problems), tuple(mappings), placement, Views(graph), points)
