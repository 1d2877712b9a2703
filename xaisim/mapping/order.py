"""The order in which a machine adds the products of an output, for sums that depend on it.

    arrange(graph, arch)      every saturating sum gets the order of its stage's tiling and of the array

Reduction tiles follow each other as in the schedule. Within one, products join in the order (c, r, s): on a systolic
array one by one, on an unrolled one an adder tree at a time.
"""

from __future__ import annotations

from dataclasses import replace

from xaisim.hardware.architecture import Architecture
from xaisim.hardware.array import Array, GridArray, UnrolledArray
from xaisim.ir.accumulate import Accumulator, Order
from xaisim.ir.graph import Graph
from xaisim.mapping.plan import plan_kernel


def arrange(graph: Graph, arch: Architecture) -> Graph:
    """Return the graph with the machine's order in every saturating sum; it changes nothing that mapping looks at."""
    waiting = saturating(graph)
    if not waiting:
        return graph
    plan = plan_kernel(graph, arch)
    orders = {
        stage.anchor.name: order_of(arch.array.alternatives[mapping.spatial], mapping.tile(problem.nest)["C"])
        for stage, problem, mapping in zip(plan.stages, plan.problems, plan.mappings, strict=True)
    }
    nodes = []
    for node in graph.nodes:
        if node.name in waiting:
            accumulator = replace(node.attrs["accumulator"], order=orders[node.name])
            node = replace(node, attrs={**node.attrs, "accumulator": accumulator})
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def saturating(graph: Graph) -> set[str]:
    """Return the sums whose value depends on the order of addition."""
    return {node.name for node in graph.nodes if _saturates(node.attrs.get("accumulator"))}


def order_of(array: Array, channels: int) -> Order:
    """Return the order of an array on reduction tiles of that many input channels.

    Output stationary, a sum stays in its element until the tile ends. Weight or input stationary, it goes down a
    column that holds one product per row, and comes back for the next fold. An unrolled array adds exactly in its
    trees and keeps the sum in a register until the tile ends.
    """
    if isinstance(array, UnrolledArray):
        tree = array.form
        return Order(channels, tree=(tree.C, tree.R, tree.S))
    assert not isinstance(array, GridArray), "a grid's accumulators do not saturate"
    return Order(channels, fold=None if array.form == "os" else array.rows)


def _saturates(accumulator: Accumulator | None) -> bool:
    return accumulator is not None and accumulator.policy == "saturate"
