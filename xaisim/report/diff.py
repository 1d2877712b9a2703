"""The diff: where two runs of one method part, tensor by tensor, and what each half of the second one loses.

diff = difference(...); diff.first, diff.rows, diff.split, diff.completeness
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Literal

from xaisim import metrics
from xaisim.ir.graph import Array
from xaisim.ir.types import FixedPoint
from xaisim.numerics.twin import Kind, Tally
from xaisim.report.report import Part, Real

Side = Literal["a", "b"]
Entry = Literal["arithmetic", "flips", "constants"]
WIDEST_TENSOR = 32  # bits; only sums are wider


class Place(Part):
    """The first element that differs, with both values as real numbers."""

    kernel: str
    name: str
    trip: int
    index: tuple[int, ...]
    a: Real
    b: Real


class DiffRow(Part):
    """One tensor of one launch over all its trips; pairs are (A, B)."""

    kernel: str
    name: str
    kind: Kind
    op: str
    layer: str
    backward: bool
    formats: tuple[str, str]
    elements: int
    differing: int
    """Elements that are not equal; of a mask or an index these are its flips."""
    sqnr_db: Real | None
    """10·log10(Σ a² / Σ (a − b)²); none for masks and indices."""
    largest_error: Real
    """max |a − b|, real."""
    largest_error_lsb: Real | None
    """The same in steps of the format of ``Diff.lsb_of``; none where the tensor is not rounded to one."""
    zero_fraction: tuple[Real, Real]
    saturated_fraction: tuple[Real, Real]
    """Share of values at the bounds of the format; 0 of real numbers."""
    growth_db: Real | None
    """How far the SQNR falls below that of the worst tensor it is made from; none where that one does not differ."""
    enters_by: Entry | None
    """It differs though the values it is made from do not: a mask or index does, a constant, or nothing does and it is
    summed or rounded otherwise."""


class Loss(Part):
    """How close a result is to the reference's."""

    sqnr_db: Real
    cosine: Real
    spearman: Real
    topk_1pct: Real


class Split(Part):
    """What the result loses when only one half of the run is as in ``of`` and the other as in the reference."""

    reference: Side
    of: Side
    forward: Loss
    backward: Loss
    both: Loss


class CompletenessSplit(Part):
    """Σ attribution − (F(x) − F(x')) of the fixed-point run; the parts add up to ``delta``.

    Integration is what the float run with the same points leaves; quantisation is the fixed-point sum less the float
    one: what quantising the forward half alone adds, the backward half alone, and what the two do together.
    """

    of: Side
    score_difference: Real
    delta: Real
    delta_integration: Real
    delta_quantisation: Real
    delta_forward: Real | None = None
    delta_backward: Real | None = None
    delta_interaction: Real | None = None


class Diff(Part):
    """Everything that scripts read; A is the reference, B is compared with it."""

    version: str
    model: str
    weights: str
    image: str
    method: str
    options: dict[str, Any]
    target: int
    a: str
    b: str
    predicted: tuple[int, int]
    launches: dict[str, int]
    """Trips of every kernel."""
    lsb_of: Side | None
    """Whose format the errors are counted in: B's where B is fixed point, else A's."""
    equal: bool
    first: Place | None
    result: Loss
    """B's attribution (logits for ``forward``) against A's."""
    rows: tuple[DiffRow, ...]
    split: Split | None = None
    completeness: CompletenessSplit | None = None

    def to_json(self) -> str:
        """Return the diff as JSON text, keys in a stable order."""
        return json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False)


def loss(reference: Array, other: Array) -> Loss:
    """Return how close ``other`` is to ``reference``, real numbers of one shape."""
    return Loss(
        sqnr_db=metrics.sqnr_db(reference, other),
        cosine=metrics.cosine(reference, other),
        spearman=metrics.spearman(reference, other),
        topk_1pct=metrics.top_k_intersection(reference, other, 0.01),
    )


def rows_of(tallies: Sequence[Tally], lsb_of: Side | None) -> tuple[DiffRow, ...]:
    """Return the rows of all launches in the order of execution; sums that a run did not show have none."""
    known: dict[tuple[str, str], Tally] = {(t.point.kernel, t.point.name): t for t in tallies}
    return tuple(_row(tally, known, lsb_of) for tally in tallies if tally.elements)


def first_difference(tallies: Sequence[Tally]) -> Place | None:
    """Return the first element that differs in the first tensor, in the order of execution, that does."""
    tally = next((t for t in tallies if t.first is not None), None)
    if tally is None or tally.first is None:
        return None
    at = tally.first
    return Place(kernel=tally.point.kernel, name=tally.point.name, trip=at.trip, index=at.index, a=at.a, b=at.b)


def _row(tally: Tally, known: dict[tuple[str, str], Tally], lsb_of: Side | None) -> DiffRow:
    point, count = tally.point, max(1, tally.elements)
    number = point.kind not in (Kind.MASK, Kind.INDEX)
    sqnr = _sqnr(tally) if number else None
    behind = min((_sqnr(t) for t in _numbers(tally, known)), default=math.inf)
    return DiffRow(
        kernel=point.kernel,
        name=point.name,
        kind=point.kind,
        op=point.op,
        layer=point.layer,
        backward=point.backward,
        formats=(_format(tally, 0), _format(tally, 1)),
        elements=tally.elements,
        differing=tally.differing,
        sqnr_db=sqnr,
        largest_error=tally.largest,
        largest_error_lsb=_in_lsb(tally, lsb_of) if number else None,
        zero_fraction=(tally.zeros[0] / count, tally.zeros[1] / count),
        saturated_fraction=(tally.saturated[0] / count, tally.saturated[1] / count),
        growth_db=None if sqnr is None or not (math.isfinite(sqnr) and math.isfinite(behind)) else behind - sqnr,
        enters_by=_entry(tally, _differing(tally, known)),
    )


def _entry(tally: Tally, kinds: set[Kind]) -> Entry | None:
    """Return how a difference comes in; ``kinds`` are those of the sources that differ."""
    if not tally.differing or kinds & {Kind.VALUE, Kind.INPUT, Kind.EXACT}:
        return None
    if kinds & {Kind.MASK, Kind.INDEX}:
        return "flips"
    return "constants" if kinds else "arithmetic"


def _differing(tally: Tally, known: dict[tuple[str, str], Tally]) -> set[Kind]:
    """Return the kinds of what differs among a tensor's sources, an exact sum standing for what it is made from."""
    kinds: set[Kind] = set()
    for name in tally.point.sources:
        source = known[tally.point.kernel, name]
        behind = _differing(source, known) if source.point.kind is Kind.EXACT else set()
        kinds |= behind or ({source.point.kind} if source.differing else set())
    return kinds


def _sqnr(tally: Tally) -> float:
    if tally.noise == 0:
        return math.inf
    return 10 * math.log10(tally.signal / tally.noise) if tally.signal > 0 else -math.inf


def _numbers(tally: Tally, known: dict[tuple[str, str], Tally]) -> list[Tally]:
    """Return the rounded tensors that a tensor is made from, looking through exact sums, past constants and masks."""
    found: list[Tally] = []
    for name in tally.point.sources:
        source = known[tally.point.kernel, name]
        if source.point.kind is Kind.EXACT:
            found += _numbers(source, known)
        elif source.point.kind in (Kind.VALUE, Kind.INPUT):
            found.append(source)
    return found


def _format(tally: Tally, side: int) -> str:
    format = tally.point.types[side].format
    return "real" if format is None else str(format)


def _in_lsb(tally: Tally, lsb_of: Side | None) -> float | None:
    format = tally.point.types["ab".index(lsb_of)].format if lsb_of else None
    if (
        tally.point.kind is Kind.EXACT or not isinstance(format, FixedPoint) or format.bits > WIDEST_TENSOR
    ):  # a sum is not rounded to its last bit
        return None
    return tally.largest / format.step
