"""Is a wrong graph refused with the rule that it breaks?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xaisim.ir.graph import Graph, GraphBuilder, evaluate, verify
from xaisim.ir.types import Bits, FixedPoint, TensorType


def test_an_index_takes_as_many_bits_as_its_window_needs() -> None:
    b = GraphBuilder()
    b.input("x", TensorType((1, 8, 8)))
    for side, bits in ((1, 1), (2, 2), (3, 4), (4, 4), (5, 5)):
        name = b.add(f"i{side}", "pool_index", "x", kernel=(side, side), stride=(1, 1), padding=(0, 0, 0, 0))
        assert b.types[name].format == Bits(bits)
    assert b.types[b.add("m", "positive", "x")].size_bits == 64


@pytest.mark.parametrize(
    ("op", "shapes", "attrs", "message"),
    [
        ("conv", [(3, 4, 4), (2, 5, 1, 1)], {"stride": (1, 1), "padding": (0,) * 4}, "take 5 channels, the input"),
        ("conv", [(3, 2, 2), (2, 3, 3, 3)], {"stride": (1, 1), "padding": (0,) * 4}, "3x3 window does not fit"),
        ("linear", [(3,), (2, 4)], {}, "take 4 features, the input has shape"),
        ("concat", [(3, 4, 4), (3, 5, 4)], {}, "concat needs equal heights and widths"),
        ("slice", [(3, 4, 4)], {"start": 2, "stop": 4}, "leaves the 3 channels"),
        ("reshape", [(3, 4, 4)], {"shape": (47,)}, "cannot reshape"),
        ("convolve", [(3, 4, 4)], {}, "unknown op 'convolve'; choices: conv, linear"),
    ],
)
def test_a_wrong_node_is_refused_with_the_broken_rule(op: str, shapes: Any, attrs: Any, message: str) -> None:
    b = GraphBuilder()
    names = [b.input(f"x{i}", TensorType(shape)) for i, shape in enumerate(shapes)]
    with pytest.raises(ValueError, match=message):
        b.add("y", op, *names, **attrs)


def test_adding_different_fractions_is_refused() -> None:
    b = GraphBuilder()
    b.input("a", TensorType((2,), FixedPoint(8, 3)))
    b.input("b", TensorType((2,), FixedPoint(8, 4)))
    with pytest.raises(ValueError, match=r"add needs operands with equal fraction bits, got \[3, 4\]"):
        b.add("y", "add", "a", "b")
    with pytest.raises(ValueError, match=r"operands need one format, got q8\.3, q8\.4"):
        b.add("z", "concat", "a", "b")


def test_verify_finds_what_is_wrong_with_a_graph() -> None:
    b = GraphBuilder()
    b.input("x", TensorType((2,)))
    b.add("y", "relu", "x")
    graph = b.build(b.add("z", "relu", "y"))
    verify(graph)
    y, z = graph.nodes
    wrong = [
        ((z, y), "z reads y before it is defined"),
        ((y, y), "y is defined twice"),
        ((y,), "outputs z are not defined"),
    ]
    for nodes, message in wrong:
        with pytest.raises(ValueError, match=message):
            verify(Graph(graph.inputs, graph.constants, nodes, graph.outputs))
    with pytest.raises(ValueError, match="the name 'x' is defined twice"):
        b.input("x", TensorType((2,)))


def test_evaluate_names_what_has_no_value() -> None:
    b = GraphBuilder()
    b.input("x", TensorType((2,)))
    b.constant("c", None, TensorType((2,)))
    graph = b.build(b.add("y", "add", "x", "c"))
    with pytest.raises(ValueError, match="input 'x' has no value"):
        evaluate(graph, {})
    with pytest.raises(ValueError, match="constant 'c' has no value"):
        evaluate(graph, {"x": np.zeros((1, 2))})
