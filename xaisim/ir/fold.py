"""Constant folding: what depends on constants alone is computed once, at compile time.

    fold(bind(graph, {"seed": one_hot}))

Static GradCAM is this and nothing else: with a pooled linear head, every backward node folds away.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from xaisim.ir.graph import Array, Constant, Graph, prune
from xaisim.ir.ops import OPS


def bind(graph: Graph, values: Mapping[str, Array | None]) -> Graph:
    """Turn the named inputs into constants; None keeps the value unknown (shapes only)."""
    constants = dict(graph.constants)
    for name, value in values.items():
        constants[name] = Constant(graph.inputs[name], value)
    inputs = {name: t for name, t in graph.inputs.items() if name not in values}
    return Graph(inputs, constants, graph.nodes, graph.outputs)


def fold(graph: Graph) -> Graph:
    """Return the graph with every node of constant operands replaced by its value; real numbers only."""
    constants = dict(graph.constants)
    nodes = []
    for node in graph.nodes:
        if any(arg not in constants for arg in node.args):
            nodes.append(node)
            continue
        known = [constants[arg].value for arg in node.args]
        value = None
        if all(v is not None for v in known):
            value = OPS[node.op].evaluate(node, *(np.asarray(v)[None] for v in known))[0]
        constants[node.name] = Constant(node.type, value)
    return prune(Graph(dict(graph.inputs), constants, tuple(nodes), graph.outputs))
