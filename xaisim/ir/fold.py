"""Constant folding: what depends on constants alone is computed once, at compile time.

    fold(bind(graph, {"seed": one_hot}))

Static GradCAM is this and nothing else: with a pooled linear head, every backward node folds away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from xaisim.ir.graph import Array, Constant, Graph, prune
from xaisim.ir.ops import OPS, Node


def bind(graph: Graph, values: Mapping[str, Array | None], *, chosen: bool = False) -> Graph:
    """Turn the named inputs into constants; None keeps the value unknown (shapes only).

    ``chosen`` marks them as picked by the host when the kernel runs.
    """
    constants = dict(graph.constants)
    for name, value in values.items():
        constants[name] = Constant(graph.inputs[name], value, chosen)
    inputs = {name: t for name, t in graph.inputs.items() if name not in values}
    return replace(graph, inputs=inputs, constants=constants)


def fold(graph: Graph) -> Graph:
    """Return the graph with every node of constant operands replaced by its value; real numbers only.

    What depends on a chosen constant exists once per choice. It is folded only as far as it stays within the size of
    what the choice itself picks (a row of the head): a larger table is computed on the machine, not stored.
    """
    constants = dict(graph.constants)
    makers = {}
    row = 0
    for node in graph.nodes:
        if any(arg not in constants for arg in node.args):
            continue
        known = [constants[arg].value for arg in node.args]
        value = None
        if all(v is not None for v in known):
            value = OPS[node.op].evaluate(node, *(np.asarray(v)[None] for v in known))[0]
        picked = any(constants[arg].chosen for arg in node.args)
        if picked and not any(arg in makers and constants[arg].chosen for arg in node.args):
            row = max(row, node.type.size)
        constants[node.name] = Constant(node.type, value, picked)
        makers[node.name] = node
    kept = [node for node in graph.nodes if node.name not in makers]
    computed = _too_large(graph, constants, makers, row, {arg for node in kept for arg in node.args})
    nodes = tuple(node for node in graph.nodes if node.name not in makers or node.name in computed)
    constants = {name: c for name, c in constants.items() if name not in computed}
    return prune(replace(graph, constants=constants, nodes=nodes))


def _too_large(
    graph: Graph, constants: Mapping[str, Constant], makers: Mapping[str, Node], row: int, read: set[str]
) -> set[str]:
    """Return the foldable nodes that are computed after all, walking back until their operands are small enough."""
    computed: set[str] = set()
    wanted = read | set(graph.outputs)
    for node in reversed(graph.nodes):
        if node.name in makers and node.name in wanted and constants[node.name].chosen and node.type.size > row:
            computed.add(node.name)
            wanted |= set(node.args)
    return computed
