"""What every array of multipliers has: widths of its arithmetic, and how many there are of it on the chip.

array.widths                              # "16-bit multipliers, 48-bit accumulators"
array.forms                               # ("os", "ws"): what its sides may carry; every stage uses one of them
array.alternatives                        # the array in each of its forms
array.shares({"K": 100, ...})             # [(3, {"K": 32, ...}), (1, {"K": 4, ...})]: four arrays divide the filters
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeVar

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from xaisim.config import Config, RuleError
from xaisim.hardware.spatial import Dims, ceil_div, larger

AccumulatorPolicy = Literal["proven", "wrap", "saturate"]
"""What a sum of products does that leaves the accumulator's range: it is refused, loses its top bits, or is clamped."""


T = TypeVar("T")


def _checked_choices(value: Any) -> Any:
    """Return the only item of a list of one, and refuse one that names an item twice."""
    if not isinstance(value, tuple):
        return value
    twice = [(index, item) for index, item in enumerate(value) if item in value[:index]]
    if twice:
        raise RuleError([((index,), f"{item} is listed twice") for index, item in twice])
    return value[0] if len(value) == 1 else value


OneOrMore = Annotated[
    Annotated[T, Tag("one")] | Annotated[tuple[T, ...], Field(min_length=1), Tag("list")],
    Discriminator(lambda value: "list" if isinstance(value, list | tuple) else "one"),
    AfterValidator(_checked_choices),
]
"""A value, or a list of those that may be chosen from; a list of one is the value."""


class ArrayBase(Config):
    """Widths of the arithmetic, what sums do that do not fit, and the number of equal arrays.

    ``psum_bits``: a sum in the memory that holds ``psum``; by default as wide as the accumulator.
    ``count`` arrays work side by side and divide the filters (K) or path points (T) of a tile; each reads its own.
    """

    form_key: ClassVar[str] = "spatial"
    """The key that says what lies along its sides, once or as a list to choose from."""

    multiplier_bits: int = Field(ge=2, le=32)
    accumulator_bits: int = Field(ge=16, le=64)
    accumulator: AccumulatorPolicy = "proven"
    psum_bits: int | None = Field(default=None, ge=8, le=64)
    count: int = Field(default=1, ge=1)
    divide: Literal["K", "T"] = "K"

    @model_validator(mode="after")
    def _check_psum_bits(self) -> Self:
        if self.stored_sum_bits > self.accumulator_bits:
            text = f"a stored sum may not be wider than accumulator_bits {self.accumulator_bits} (got {self.psum_bits})"
            raise RuleError([(("psum_bits",), text)])
        return self

    @property
    def stored_sum_bits(self) -> int:
        """The width of a sum in memory."""
        return self.accumulator_bits if self.psum_bits is None else self.psum_bits

    @property
    def widths(self) -> str:
        """Multipliers and accumulators in words."""
        does = {"proven": "", "wrap": " that wrap", "saturate": " that saturate"}[self.accumulator]
        stored = "" if self.psum_bits is None else f", {self.psum_bits}-bit partial sums"
        return f"{self.multiplier_bits}-bit multipliers, {self.accumulator_bits}-bit accumulators{does}{stored}"

    @property
    def forms(self) -> tuple[Any, ...]:
        """What may lie along its sides: the dataflows or ``Spatial`` that every stage has the choice of."""
        written = getattr(self, self.form_key)
        return written if isinstance(written, tuple) else (written,)

    @property
    def form(self) -> Any:
        """The form of an array that has no choice."""
        (only,) = self.forms
        return only

    @property
    def alternatives(self) -> tuple[Self, ...]:
        """Return the array in each of its forms; itself if it has no choice."""
        return (self,) if len(self.forms) == 1 else tuple(self.in_form(form) for form in self.forms)

    def in_form(self, form: Any) -> Self:
        """Return the array without the choice."""
        return self.model_copy(update={self.form_key: form})

    @property
    def forms_text(self) -> str:
        """Its forms in words: ``os or ws``."""
        return " or ".join(map(str, self.forms))

    def form_path(self, index: int) -> tuple[str | int, ...]:
        """Return where a form stands below the array."""
        return (self.form_key,) if len(self.forms) == 1 else (self.form_key, index)

    @property
    def times(self) -> str:
        """What stands before the description of one array where there are more."""
        return "" if self.count == 1 else f"{self.count} x, {self.divide} divided; "

    def shares(self, dims: Dims) -> list[tuple[Any, dict[str, Any]]]:
        """Return (number of arrays, their part of the tile) for the arrays with a full and with the last share.

        ``T`` path points, 1 if not given, are divided among the arrays or else follow one another like a batch.
        """
        tile = {dim: extent for dim, extent in dims.items() if dim != "T"}
        points = dims.get("T", 1)
        if self.count == 1:
            return [(1, {**tile, "N": tile["N"] * points})]
        whole = points if self.divide == "T" else tile["K"]
        share = ceil_div(whole, self.count)
        full = whole // larger(share, 1)
        parts = ((full, share), (whole - full * share > 0, whole - full * share))
        if self.divide == "T":
            return [(number, {**tile, "N": tile["N"] * part}) for number, part in parts]
        return [(number, {**tile, "K": part, "N": tile["N"] * points}) for number, part in parts]


class FoldTerms(NamedTuple):
    """Cycles of all folds (or passes) of one tile on an array, by cause."""

    folds: Any
    load: Any
    stream: Any
    skew: Any
    drain: Any

    @property
    def total(self) -> Any:
        """The cycles of the tile."""
        return self.load + self.stream + self.skew + self.drain
