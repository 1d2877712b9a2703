"""Plan: a fixed-point graph arranged for speed, bit for bit what :func:`xaisim.ir.graph.evaluate` computes.

    plan = Plan(graph)
    plan.run({"input": integers})["logits"]

Numbers of at most 16 bits live as NHWC maps (``xaisim.ir.nhwc``). A sum of products, a window sum or an addition takes
along what follows it element by element: a residual, the mask, ``requant``, a ReLU or gate (``xaisim.ir.tail``).
Whatever fits none of this runs by its definition on int64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from xaisim.ir.chain import Packs, Reading, Step
from xaisim.ir.graph import Graph, Observer
from xaisim.ir.ops import OPS, Node
from xaisim.ir.steps import STEPS
from xaisim.ir.values import Values

Array = np.ndarray


class Plan:
    """A graph compiled to steps; ``packs`` may be shared by plans over the same weights.

    With ``every_rounding``, what a ReLU or gate cuts after it was rounded is kept as it was rounded, for observers.
    """

    def __init__(self, graph: Graph, packs: Packs | None = None, *, every_rounding: bool = False) -> None:
        self.graph = graph
        self.reading = Reading(graph, {} if packs is None else packs, every_rounding=every_rounding)
        self.steps = _in_order([*self._made()], graph)
        self.last = {name: i for i, step in enumerate(self.steps) for name in step.reads}

    def run(self, feeds: Mapping[str, Array], *, threads: int = 1, observe: Observer | None = None) -> dict[str, Array]:
        """Return the outputs, int64 (N, *shape), for int64 inputs (N or 1, *shape).

        ``observe`` sees every tensor that is stored (not the sums that are rounded on their way).
        """
        values = Values(self.reading.types, threads)
        for name in self.graph.inputs:
            if name in feeds:
                values.plain[name] = feeds[name]
                if observe:
                    observe(name, feeds[name])
            elif name in self.last or name in self.graph.outputs:
                raise ValueError(f"input {name!r} has no value")
        for name, constant in self.graph.constants.items():
            if constant.value is None:
                raise ValueError(f"constant {name!r} has no value")
            if name in self.last or name in self.graph.outputs:
                values.plain[name] = constant.value[None]
        for i, step in enumerate(self.steps):
            step.run(values)
            if observe:
                for node in step.nodes:
                    if node.name in values.maps or node.name in values.plain:
                        observe(node.name, values.integers(node.name))
            for name in step.reads:
                if self.last[name] == i and name not in self.graph.outputs:
                    values.drop(name)
        return {name: values.integers(name) for name in self.graph.outputs}

    def _made(self) -> Iterator[Step]:
        """Yield a step per group of nodes, in the order of their first nodes."""
        done: set[str] = set()
        for node in self.graph.nodes:
            if node.name not in done:
                make = STEPS.get(node.op)
                step = make(self.reading, node) if make and self.reading.mapped(node.name) else None
                step = step or _by_definition(node)
                done.update(n.name for n in step.nodes)
                yield step


def _by_definition(node: Node) -> Step:
    """Return the step that evaluates a node's definition."""

    def run(values: Values) -> None:
        values.plain[node.name] = OPS[node.op].evaluate(node, *(values.integers(a) for a in node.args))

    return Step([node], list(node.args), run, definition=True)


def _in_order(steps: list[Step], graph: Graph) -> list[Step]:
    """Order steps so that each comes after those that make what it reads."""
    maker = {node.name: i for i, step in enumerate(steps) for node in step.nodes}
    ordered: list[Step] = []
    state = [0] * len(steps)  # 0 unseen, 1 waiting, 2 placed
    for start in range(len(steps)):
        stack = [start]
        while stack:
            i = stack[-1]
            missing = [maker[r] for r in steps[i].reads if r in maker and state[maker[r]] != 2]
            if state[i] == 2 or not missing:
                stack.pop()
                if state[i] != 2:
                    state[i] = 2
                    ordered.append(steps[i])
                continue
            state[i] = 1
            if any(state[m] == 1 for m in missing):
                raise AssertionError(f"steps of {graph.outputs} wait for each other")
            stack += missing
    return ordered
