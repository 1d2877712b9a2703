"""Which masks and indices are worth computing again: a filter by bytes, then the cost bound, one by one.

again = recomputing(graph, arch, plan)      the plan itself where nothing is worth it
"""

from __future__ import annotations

from dataclasses import replace

from xaisim.config import UserError
from xaisim.hardware.architecture import Architecture
from xaisim.ir.graph import Graph
from xaisim.mapping.placement import varying_tensors
from xaisim.mapping.plan import Plan, plan_kernel
from xaisim.mapping.remat import read_again, recomputable


def recomputing(graph: Graph, arch: Architecture, plan: Plan) -> Plan:
    """Return the plan with those masks and indices computed again that lower its bound, largest saving first."""
    best = plan
    for name in _candidates(graph, plan):
        try:
            trial = plan_kernel(
                graph, arch, replace(plan.choice, recompute=tuple(sorted({*best.choice.recompute, name})))
            )
        except UserError:  # tiles of what is computed again may not fit
            continue
        if trial.bound < best.bound:
            best = trial
    return best


def _candidates(graph: Graph, plan: Plan) -> list[str]:
    """Where something is spilled, return what is computed again from fewer bits than to store and load it takes.

    It need not be what is spilled: what stays on the chip may make room there. Whatever takes more bits to compute
    again costs more of everything: bytes over the bus, and multiplications besides.
    """
    names, resident = recomputable(graph), plan.placement.resident
    if all(name in resident for name in names):
        return []
    types = graph.types()
    varying = varying_tensors(graph) if plan.points > 1 else frozenset()

    def bits(name: str) -> int:
        return types[name].size_bits * (plan.points if name in varying else 1)

    saved = {
        name: 2 * bits(name) - sum(bits(arg) for arg in read_again(graph, name) if arg not in resident)
        for name in names
    }
    return sorted((name for name in names if saved[name] > 0), key=lambda name: (-saved[name], name))
