"""The spatial choice: in which of its forms the array does a stage, together with the tiles that suit the form.

    choose_form(problem, arch, free, "conv1", "latency")      Tiled: a mapping with its ``spatial``, and its bound

Each form is tiled as if the array had no other. Which of them is best depends on the words that the array reads and
writes, too, so these join the bound: the time that its ports need, and their energy.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, NamedTuple

from xaisim.config import UserError
from xaisim.hardware.architecture import Architecture
from xaisim.hardware.array import array_accesses, array_cycles
from xaisim.hardware.costs import EnergyModel
from xaisim.mapping.nest import LOOPS, Mapping
from xaisim.mapping.streams import Problem
from xaisim.mapping.tiling import Cost, Objective, Tiled, choose_mapping, phase_dims


class Work(NamedTuple):
    """What the array does for a whole stage."""

    cycles: float
    """Its own, or those of its busiest port."""
    moved_bytes: float
    """What it reads and writes in on-chip memory."""
    picojoules: float
    """The energy of these."""

    def beside(self, cost: Cost) -> Cost:
        """Return the cost of a stage with this work in it."""
        return Cost(max(cost.cycles, self.cycles), cost.picojoules + self.picojoules)


def choose_form(
    problem: Problem, arch: Architecture, free: tuple[tuple[str, int], ...], name: str, objective: Objective
) -> Tiled:
    """Return the mapping of least bound over all forms; of equal ones that in which the array moves fewest bytes.

    Raises ``UserError`` where no form fits.
    """
    machines = arch.alternatives
    if len(machines) == 1 or not problem.on_array:
        return choose_mapping(problem, machines[0], free, name, objective)
    found: list[tuple[float, float, int, Tiled]] = []
    refused: list[UserError] = []
    for index, machine in enumerate(machines):
        try:
            tiled = choose_mapping(problem, machine, free, name, objective)
        except UserError as error:  # unrollings differ in the tiles that they offer
            refused.append(error)
            continue
        work = work_of(problem, tiled.mapping, machine)
        bound = max(work.beside(cost).bound(objective) for cost in tiled.costs)
        found.append((bound, work.moved_bytes, index, tiled))
    if not found:
        raise refused[0]
    bound, _, index, tiled = min(found, key=lambda one: one[:3])
    return Tiled(tiled.mapping._replace(spatial=index), bound, tiled.costs)


def form_for(problem: Problem, mapping: Mapping, arch: Architecture, objective: Objective) -> int:
    """Return the form that does given tiles best; transfers are the same in all of them."""
    if len(arch.alternatives) == 1 or not problem.on_array:
        return 0
    works = [work_of(problem, mapping, machine) for machine in arch.alternatives]
    bounds = [(Cost(work.cycles, work.picojoules).bound(objective), work.moved_bytes) for work in works]
    return bounds.index(min(bounds))


@lru_cache(maxsize=16384)
def work_of(problem: Problem, mapping: Mapping, arch: Architecture) -> Work:
    """Return the work of a stage on an array of one form, as if every tile were full."""
    nest, tile = problem.nest, mapping.tile(problem.nest)
    counts = {dim: math.ceil(getattr(nest, dim) / tile[dim]) for dim in LOOPS}
    tiles, later = math.prod(counts.values()), 1 - 1 / counts["C"]  # share of tiles that add to the sums of others
    stride = nest.rows.stride, nest.columns.stride
    cycles, words = 0.0, {"input_reads": 0.0, "weight_reads": 0.0, "psum_reads": 0.0, "psum_writes": 0.0}
    for dims in phase_dims(problem, *(tile[dim] for dim in LOOPS)):
        cycles += array_cycles(arch.array, dims, stride=stride)
        for name, count in array_accesses(arch.array, dims, accumulate=later, stride=stride).items():
            words[name] += count
    srams = {memory.name: memory for memory in arch.on_chip}
    model, streams = EnergyModel(arch), {stream.role: stream for stream in problem.streams}
    at: dict[tuple[str, Literal["read", "write"]], float] = {}
    for name, count in words.items():
        stream = streams[name.partition("_")[0]]
        access: Literal["read", "write"] = "read" if name.endswith("reads") else "write"
        place = stream.memory, access
        at[place] = at.get(place, 0.0) + srams[stream.memory].stored_bytes(count, stream.bits)
    # Each of several arrays has a port of its own, and an equal share of the words at most.
    ports = max(moved / (srams[memory].bytes_per_cycle * arch.array.count) for (memory, _), moved in at.items())
    for memory in arch.on_chip:
        if memory.banks is not None:  # whose ports all arrays share, for reads and writes where they are one
            both = at.get((memory.name, "read"), 0.0) + at.get((memory.name, "write"), 0.0)
            ports = max(ports, both / (memory.bytes_per_cycle * memory.banks * memory.ports))
    energy = sum(moved * model.memory_pj_per_byte(*place) for place, moved in at.items())
    return Work(tiles * max(cycles, ports), tiles * sum(at.values()), tiles * energy)
