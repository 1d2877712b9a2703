"""Does the selection unit mark what its definition says, and does a schedule charge its passes?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xaisim.attribution.stepwise_kernels import selection
from xaisim.hardware.architecture import load_architecture
from xaisim.ir.graph import GraphBuilder, evaluate
from xaisim.ir.ops import OPS
from xaisim.ir.selection import passes, smallest
from xaisim.ir.types import Bits, FixedPoint, TensorType
from xaisim.mapping.schedule import map_kernel
from xaisim.mapping.tiles import Kind
from xaisim.numerics.formats import Formats, Numerics
from xaisim.numerics.quantise import quantise
from xaisim.simulate.energy import Repeated, energy_account

NUMBERS = st.lists(st.tuples(st.integers(-6, 6), st.booleans()), min_size=1, max_size=40)


def by_sorting(x: np.ndarray, mask: np.ndarray, count: int) -> np.ndarray:
    """Sort those let in by magnitude, take the first ``count``, and whoever is equal to the last of them."""
    order = [i for i in np.argsort(np.abs(x), kind="stable") if mask[i]]
    taken = order[:count]
    return np.array([int(bool(mask[i]) and any(abs(x[i]) <= abs(x[j]) for j in taken)) for i in range(len(x))])


def by_bits(x: np.ndarray, mask: np.ndarray, count: int, bits: int) -> np.ndarray:
    """Find the threshold bit by bit from the top, as the unit does, counting its passes."""
    magnitude, threshold, made = np.abs(x), 0, 0
    for bit in reversed(range(bits)):
        below = int((mask & (magnitude < threshold + (1 << bit))).sum())
        made += 1
        if below < count:
            threshold += 1 << bit
    assert made + 1 == passes(bits)
    return (mask & (magnitude <= threshold)).astype(int)


@given(NUMBERS, st.data())
def test_it_marks_the_smallest_magnitudes_and_their_equals(numbers: list[tuple[int, bool]], data: Any) -> None:
    x, mask = (np.array(part) for part in zip(*numbers, strict=True))
    count = data.draw(st.integers(1, len(x)))
    found = smallest(x[None], mask[None].astype(np.int64), count)[0]
    assert found.tolist() == by_sorting(x, mask, count).tolist() == by_bits(x, mask, count, 4).tolist()
    assert smallest(x[None] / 8, mask[None], count)[0].tolist() == found.tolist(), "real numbers are selected alike"


def test_the_most_negative_number_is_the_largest_magnitude() -> None:
    x = np.array([[-(1 << 15), 5, (1 << 15) - 1]])
    assert smallest(x, np.ones_like(x), 2).tolist() == [[0, 1, 1]]
    assert by_bits(x[0], np.ones(3, bool), 2, 16).tolist() == [0, 1, 1]


def test_samples_are_selected_from_one_by_one_and_share_what_is_the_same() -> None:
    x, mask = np.array([[[1, 2, 3]], [[3, 2, 1]]]), np.array([[[1, 0, 1]]])
    assert smallest(x, mask, 1).tolist() == [[[1, 0, 0]], [[0, 0, 1]]]


@pytest.mark.parametrize(
    ("shape", "other", "count"),
    [((2, 3, 3), (2, 3, 3), 1), ((1, 3, 3), (1, 3, 2), 1), ((1, 3, 3), (1, 3, 3), 10), ((1, 3, 3), (1, 3, 3), 0)],
)
def test_it_refuses_what_is_no_single_map(shape: Any, other: Any, count: int) -> None:
    with pytest.raises(ValueError, match="one channel"):
        OPS["smallest"].shape([shape, other], {"count": count})


def lone_selection(bits: int) -> Any:
    b = GraphBuilder()
    b.input("x", TensorType((1, 24, 8), FixedPoint(bits, 0)))
    b.input("mask", TensorType((1, 24, 8), Bits(1)))
    b.add("selected", "smallest", "x", "mask", count=7)
    return b.build("selected")


@pytest.mark.parametrize("bits", [8, 16])
def test_a_schedule_charges_a_pass_per_bit_and_one_more(bits: int) -> None:
    arch = load_architecture("pynq_z2")
    schedule = map_kernel(lone_selection(bits), arch)
    vector = schedule.tiles.kind == Kind.VECTOR
    elements = 24 * 8
    lanes, pipeline = arch.vector.lanes, arch.vector.pipeline_cycles
    spent = int(schedule.tiles.occupy_cycles[vector].sum())
    assert spent == elements * (bits + 1) // lanes + pipeline * int(vector.sum())
    (operations,) = (item for item in energy_account([Repeated(schedule, 1)], arch) if item.component == "vector")
    assert (operations.what, operations.count) == (f"operation {bits} bit", elements * (bits + 1))
    read = dict(zip([m.name for m in arch.memories], schedule.tiles.read_bytes[vector].sum(axis=0), strict=True))
    assert read["activations"] == elements * (bits + 1) * bits / 8
    loads = schedule.tiles.kind == Kind.LOAD
    assert int(loads.sum()) == 2, "the map and the mask once, however many tiles of the result there are"


def test_the_unit_of_guided_ig_chooses_by_the_numbers_of_the_definition() -> None:
    """One selection in fixed point by hand: four features of way 4, at 0; half of them may be moved by a quarter."""
    graph = quantise(selection((1, 2, 2), 2).graph, Formats(Numerics(uniform="q16.8")), accumulator_bits=48)
    whole = np.full((1, 1, 2, 2), 4 * 256)
    found = evaluate(graph, {
        "input": 0 * whole, "input@start": 0 * whole, "input@end": whole,
        "step.gradient": np.array([[[[30, -10], [20, -40]]]]),
        "path.alpha@least": np.array([0]), "path.alpha@most": np.array([64]),
    })  # fmt: skip
    assert found["input@caught"].tolist() == [[[[0, 0], [0, 0]]]]
    assert found["input@aim"].tolist() == [[[[0, 256], [256, 0]]]]
    one = 1 << graph.type_of("step.one").format.frac  # type: ignore[union-attr]
    assert found["step.left"].tolist() == [[[[16 * 256 * one]]]]
    assert found["step.reach"].tolist() == [[[[2 * 256 * one]]]]
