"""Rematerialisation: ReLU masks and pool indices that backward computes again instead of keeping them from forward.

    rematerialise(graph, ("relu1.positive",))      backward reads relu1.positive.again, made by conv1.again

Copies of the nodes that make a mask, back to what lies in memory anyway, become backward nodes right before the stage
that reads it first. It is the same accumulator again, bit for bit; the sign of the rounded map would be another mask.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from xaisim.ir.graph import Graph, Names, prune
from xaisim.ir.ops import VIEWS, Node
from xaisim.mapping.stages import stages

STORED_OPS = ("positive", "pool_index")


@lru_cache(maxsize=64)
def rematerialise(graph: Graph, names: tuple[str, ...]) -> Graph:
    """Return the graph in which backward computes the masks and indices ``names`` again, for its first reader.

    Raises ``ValueError`` for a name that :func:`recomputable` does not list.
    """
    if not names:
        return graph
    unknown = sorted({*names} - {*recomputable(graph)})
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: no mask or index that can be recomputed")
    resting, taken = _resting(graph), Names(set(graph.types()))
    anchor_of = {node.name: stage.anchor.name for stage in stages(graph) for node in stage.nodes}
    before: dict[str, list[Node]] = {}
    renamed: dict[str, str] = {}
    users = graph.users()
    for name in (node.name for node in graph.nodes if node.name in names):
        first = next(user.name for user in users[name])
        copies = _copies(_cone(graph, name, resting), taken)
        renamed[name] = copies[-1].name
        before.setdefault(anchor_of.get(first, first), []).extend(copies)
    nodes = []
    for node in graph.nodes:
        nodes += before.get(node.name, [])
        nodes.append(replace(node, args=tuple(renamed.get(arg, arg) for arg in node.args)))
    return prune(replace(graph, nodes=tuple(nodes)))


@lru_cache(maxsize=64)
def recomputable(graph: Graph) -> tuple[str, ...]:
    """Return the masks and indices that backward reads from forward, but those whose sums saturate.

    What saturates depends on the order of addition, which the mapping of the forward stage has decided.
    """
    resting, users = _resting(graph), graph.users()
    return tuple(
        node.name
        for node in graph.nodes
        if node.op in STORED_OPS
        and not node.backward
        and node.name not in graph.outputs
        and users[node.name]
        and all(user.backward for user in users[node.name])
        and not any(_saturates(part) for part in _cone(graph, node.name, resting))
    )


def stored(graph: Graph) -> tuple[str, ...]:
    """Return the masks and indices that forward leaves to backward."""
    return tuple(
        node.name
        for node in graph.nodes
        if node.op in STORED_OPS
        and not node.backward
        and node.name not in graph.outputs
        and any(user.backward for user in graph.users()[node.name])
    )


def read_again(graph: Graph, name: str) -> frozenset[str]:
    """Return what is loaded to compute a mask or index again."""
    cone = _cone(graph, name, _resting(graph))
    return frozenset(arg for node in cone for arg in node.args) - {node.name for node in cone}


@lru_cache(maxsize=64)
def _resting(graph: Graph) -> frozenset[str]:
    """Return what lies in memory anyway: inputs, constants, what a stage stores, and views of these."""
    stored = {operand.name for stage in stages(graph) for operand in stage.outputs}
    views = {node.name for node in graph.nodes if node.op in VIEWS}
    return frozenset({*graph.inputs, *graph.constants, *stored, *views})


def _cone(graph: Graph, name: str, resting: frozenset[str]) -> list[Node]:
    """Return the nodes that make ``name`` from what lies in memory, in program order."""
    needed, found = {name}, []
    for node in reversed(graph.nodes):
        if node.name in needed:
            found.append(node)
            needed.update(arg for arg in node.args if arg not in resting)
    return found[::-1]


def _copies(cone: list[Node], taken: Names) -> list[Node]:
    """Return the nodes of a cone as backward nodes of their own: ``conv1.exact`` becomes ``conv1.again.exact``."""
    renamed: dict[str, str] = {}
    copies = []
    for node in cone:
        base = node.name.removesuffix(".exact")
        renamed[node.name] = taken.fresh(f"{base}.again{node.name[len(base) :]}")
        args = tuple(renamed.get(arg, arg) for arg in node.args)
        copies.append(replace(node, name=renamed[node.name], args=args, backward=True))
    return copies


def _saturates(node: Node) -> bool:
    accumulator = node.attrs.get("accumulator")
    return accumulator is not None and accumulator.policy == "saturate"
