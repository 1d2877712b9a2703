"""Which fixed-point format each tensor gets: calibrated from the ranges seen on samples, uniform, or overridden.

ranges = Ranges(); FloatDevice(observe=ranges.see) ... ; Formats(Numerics(), ranges)
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np
from numba import njit
from pydantic import AfterValidator, Field, model_validator

from xaisim.attribution.path_kernels import MOST_TRIPS
from xaisim.changes import parted
from xaisim.config import Config, RuleError, UserError, did_you_mean, load_data, load_yaml
from xaisim.ir.graph import Array
from xaisim.ir.types import FixedPoint, Overflow, Rounding, parse_fixed_point
from xaisim.numerics.histogram import Histogram, nearest_errors

_MOST_FRAC = 60
"""Finer steps than 2^-60 would let the fraction of a product of products run out of range."""
_TRIP_BITS = MOST_TRIPS.bit_length()
_MOST_CLIPPED_BITS = 12
"""A format of least error leaves out at most this many of the leading bits that the largest value would take."""
WIDTHS = ("weights", "activations", "gradients", "attributions", "path")


def _tensor_format(text: str) -> FixedPoint:
    """Return the format of a tensor from its text; raise ``ValueError`` with the rule it breaks."""
    numbers = re.fullmatch(r"[qu](\d+)\.(-?\d+)", text.strip().lower())
    if numbers is not None and not 2 <= int(numbers[1]) <= 32:
        raise ValueError(f"a tensor has 2 to 32 bits, not {int(numbers[1])}")
    if numbers is not None and abs(int(numbers[2])) > _MOST_FRAC:
        raise ValueError(f"a tensor has -{_MOST_FRAC} to {_MOST_FRAC} fraction bits, not {int(numbers[2])}")
    try:
        return parse_fixed_point(text)
    except ValueError as error:
        raise ValueError(str(error).removesuffix(f", got {text!r}")) from None


def _signed_format(text: str) -> str:
    if not _tensor_format(text).signed:
        raise ValueError(f"weights and gradients have a sign; write q{text[1:]}")
    return text.lower()


@dataclass(frozen=True, slots=True)
class Override:
    """What a user fixes about one tensor; None leaves it as it would be."""

    format: FixedPoint | None = None
    rounding: Rounding | None = None
    overflow: Overflow | None = None


def parse_override(text: str) -> Override:
    """Read ``q16.8``, ``trn``, ``q16.8/trn`` or ``q16.8/trn/wrap``; raise ``ValueError`` with the rule it breaks."""
    found: dict[str, Any] = {}
    for part in text.lower().split("/"):
        kind = "rounding" if part in list(Rounding) else "overflow" if part in list(Overflow) else "format"
        if kind in found or (kind == "format" and not re.match(r"[qu]-?\d", part)):
            modes = ", ".join([*Rounding, *Overflow])
            raise ValueError(
                f"write a format, a rounding and an overflow mode, each once: q16.8/trn/wrap; modes: {modes}"
            )
        read = {"rounding": Rounding, "overflow": Overflow, "format": _tensor_format}[kind]
        found[kind] = read(part)
    return Override(**found)


def _checked_override(text: str) -> str:
    parse_override(text)
    return text.lower()


OverrideText = Annotated[str, AfterValidator(_checked_override)]
SignedFormatText = Annotated[str, AfterValidator(_signed_format)]
Width = Annotated[int, Field(ge=2, le=32)]


class Numerics(Config):
    """What a user chooses about numbers. Widths are in bits; a format is written ``q16.8``."""

    weights: Width = 16
    activations: Width = 16
    gradients: Width = 16
    attributions: Width = 24
    """What is made once per run; eight more bits keep small relevances from rounding away."""
    path: Width = 16
    """Path positions α and weights."""
    running_sum: Annotated[int, Field(ge=_TRIP_BITS + 2, le=_TRIP_BITS + 32)] | None = None
    """The sum over path points, in DRAM between two of them; by default as wide as it can get, so that none rounds."""
    per_channel: bool = False
    """Every output channel of a weight has fraction bits of its own; otherwise each tensor has one format."""
    uniform: SignedFormatText | None = None
    """One format for every tensor instead of calibrated ones; it sets every width above."""
    calibration: Literal["max", "percentile", "min_error"] = "max"
    """Which values a format must hold: all, a percentile of them, or those that make the mean squared error least."""
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.9
    """Which percentile of |values| the format must hold, where calibration is ``percentile``."""
    headroom_bits: Annotated[int, Field(ge=0, le=8)] = 0
    """Integer bits beyond what calibration saw."""
    rounding: Rounding = Rounding.RND
    overflow: Overflow = Overflow.SAT
    overrides: dict[str, OverrideText] = Field(default_factory=dict)
    """Formats and modes of single tensors by name, as ``xaisim show graph`` prints them: ``q16.8``, ``q16.8/trn``."""

    @model_validator(mode="before")
    @classmethod
    def _widths_of_uniform(cls, data: Any) -> Any:
        """Take every width from a uniform format, whatever else is given."""
        if not isinstance(data, dict) or not isinstance(data.get("uniform"), str):
            return data
        try:
            bits = _tensor_format(data["uniform"]).bits
        except ValueError:
            return data  # told at the key itself
        return {**data, **dict.fromkeys(WIDTHS, bits)}

    @model_validator(mode="after")
    def _one_granularity(self) -> Numerics:
        if self.uniform is not None:
            given = [name for name in ("per_channel", "running_sum") if getattr(self, name)]
            problems = [((name,), f"needs calibrated formats; uniform {self.uniform} gives all one") for name in given]
            if problems:
                raise RuleError(problems)
        return self


NAMED_NUMERICS = {
    "fixed16": Numerics(),
    "fixed8": Numerics(weights=8, activations=8, gradients=8, attributions=16, path=8),
}


def load_numerics(text: str) -> Numerics:
    """Return ``fixed16``, ``fixed8``, a uniform format written like ``q16.8``, or a YAML file.

    Single keys can be changed behind a colon: ``fixed16:rounding=trn,overrides.layer1.0.relu=q8.4``.
    """
    name, changes = parted(text, "numerics")
    numerics = _named(name)
    if not changes:
        return numerics
    data = numerics.model_dump(mode="json")
    for key, value in changes.items():
        field, _, entry = key.partition(".")
        if entry and isinstance(data.get(field), dict):
            data[field][entry] = value
        else:
            data[key] = value
    changed = load_data(Numerics, data, f"numerics {text!r}")
    fixed = [key for key in changes if key in WIDTHS and changed.uniform is not None]
    if fixed:
        raise UserError(f"numerics {text!r}: {fixed[0]} is given by the uniform format {changed.uniform}")
    return changed


def _named(name: str) -> Numerics:
    """Return numerics by name, format or file."""
    if name in NAMED_NUMERICS:
        return NAMED_NUMERICS[name]
    if name.endswith((".yaml", ".yml")):
        return load_yaml(Numerics, name)
    if re.match(r"[qu]\d", name.lower()):
        try:
            return Numerics(uniform=_signed_format(name))
        except ValueError as error:
            raise UserError(f"numerics {name!r}: {error}") from None
    choices = f"{', '.join(NAMED_NUMERICS)}, a format like q16.8, or a .yaml file"
    raise UserError(f"unknown numerics {name!r}; choices: {choices}{did_you_mean(name, NAMED_NUMERICS)}")


def kind_of(name: str) -> str:
    """Return the name of which the format is: of ``input@next`` and ``input@start`` that of ``input``.

    What stands behind an @ tells tensors of one kind apart. They have one format, so that they can be compared and
    copied without rounding: the one that the host gives the first of them.
    """
    return name.partition("@")[0]


@dataclass(slots=True)
class Ranges:
    """The largest magnitude seen of every tensor, in real numbers, and where it is asked how the values are spread."""

    percentile: float | None = None
    largest: dict[str, float] = field(default_factory=dict)
    histograms: dict[str, Histogram] | None = None

    def see(self, name: str, values: Array) -> None:
        """Take note of one batch of a tensor."""
        name = kind_of(name)
        magnitude = np.abs(values)
        seen = float(magnitude.max(initial=0) if self.percentile is None else np.percentile(magnitude, self.percentile))
        self.largest[name] = max(self.largest.get(name, 0.0), seen)
        if self.histograms is not None:
            self.histograms.setdefault(name, Histogram()).see(values)

    def widen(self, names: Iterable[str], factor: float) -> None:
        """Allow for larger values of some tensors than were seen."""
        for name in names:
            if name in self.largest:
                self.largest[name] *= factor


_ATTRIBUTIONS = frozenset(
    {"attribution", "input_x_gradient", "path.mean_gradient", "smooth.mean", "smooth.mean_square", "path.square"}
)
_TABLES = frozenset({"path.alpha", "path.weight", "path.share"})
_READ_BACK = "path.slope."
"""Sums over a whole map that the host reads."""
_REGISTERS = {"path.scale": 32}
"""Scalars whose values lie orders of magnitude apart, and their bits."""
_SUMS = frozenset({"attribution.sum"})
"""Sums that launches hand on: with a bit for every doubling of their number they lose nothing that the map shows."""


@dataclass(frozen=True)
class Formats:
    """Answers which format a tensor has. Without ranges (dry runs) only the widths mean something."""

    numerics: Numerics
    ranges: Mapping[str, float] | None = None
    asked: set[str] = field(default_factory=set, compare=False)
    """Names of the tensors whose format was asked for: those that an override can be for."""
    histograms: Mapping[str, Histogram] | None = None
    """How the values of each tensor are spread: needed where calibration is ``min_error``."""
    _chosen: dict[tuple[str, FixedPoint, bool], FixedPoint] = field(default_factory=dict, compare=False, repr=False)

    def of(
        self, name: str, *, backward: bool = False, signed: bool = True, host: bool = False, term: bool = False
    ) -> FixedPoint:
        """Return the format of an input or node; what a ReLU made positive spends no bit on a sign.

        ``host``: the tensor is not rounded on the machine but by the host, to nearest. ``term``: a running sum over
        trips takes it up.
        """
        n = self.numerics
        if kind_of(name) != name:
            name, backward, signed, host = kind_of(name), False, True, True
        self.asked.add(name)
        own = self._own(name)
        if own.format is not None:
            return self._finished(own.format, own)
        if name in _TABLES:
            width = n.path
        elif name in _REGISTERS:
            width = _REGISTERS[name]
        elif name in _ATTRIBUTIONS or name.startswith(_READ_BACK):
            width = n.attributions
        elif name in _SUMS:
            width = n.running_sum or n.attributions + _TRIP_BITS
        elif term and n.running_sum is not None:
            width = n.running_sum - _TRIP_BITS
        else:
            width = n.gradients if backward else n.activations
        if n.uniform is not None:
            return self._finished(parse_fixed_point(n.uniform), own)
        if self.ranges is None:
            return self._finished(FixedPoint(width, width // 2, signed), own)
        if name not in self.ranges:
            raise KeyError(f"calibration never saw {name!r}")
        if n.calibration == "min_error":
            format = self._finished(fitting(self.ranges[name], width, signed=signed), own)
            return _coarser(self._of_least_error(name, format, host), n.headroom_bits)
        return self._finished(fitting(self.ranges[name], width, n.headroom_bits, signed=signed), own)

    def _of_least_error(self, name: str, whole: FixedPoint, host: bool) -> FixedPoint:
        """Return the format of least error among ``whole``, which holds everything, and finer ones, which clip."""
        if self.histograms is None or name not in self.histograms:
            raise KeyError(f"calibration kept no histogram of {name!r}")
        if (name, whole, host) not in self._chosen:  # a kernel is compiled once per launch
            finer = range(whole.frac, min(_MOST_FRAC, whole.frac + min(whole.bits, _MOST_CLIPPED_BITS)) + 1)
            tried = [replace(whole, frac=frac) for frac in finer]
            rounding, overflow = (Rounding.RND, Overflow.SAT) if host else (whole.rounding, whole.overflow)
            spread = self.histograms[name]
            errors = [spread.squared_error(FixedPoint(f.bits, f.frac, f.signed, rounding, overflow)) for f in tried]
            self._chosen[name, whole, host] = tried[int(np.argmin(errors))]
        return self._chosen[name, whole, host]

    def of_constant(self, name: str, value: Array | None, shape: tuple[int, ...], room: int = 64) -> FixedPoint:
        """Return the format of a constant: the finest that holds its largest element, or the one of least error.

        A lone factor such as 1/n is a register with a scale of its own, even among uniform formats; it is no wider
        than ``room`` bits, so that its product fits.
        """
        n = self.numerics
        self.asked.add(name)
        own = self._own(name)
        if own.format is not None:
            return self._finished(own.format, own)
        if n.uniform is not None and shape != ():
            return self._finished(parse_fixed_point(n.uniform), own)
        width = max(2, min(n.weights, room))
        if value is None:
            return self._finished(FixedPoint(width, width // 2), own)
        return self._finished(FixedPoint(width, int(self._fractions(value.reshape(1, -1), width)[0])), own)

    def _fractions(self, rows: Array, bits: int) -> Array:
        """Return the fraction bits of every row (K, n) of a constant in ``bits`` bits."""
        largest = np.abs(rows).max(axis=1, initial=0)
        fractions = np.array([fitting(float(one), bits).frac for one in largest])
        if self.numerics.calibration != "min_error":
            return fractions
        tried = np.minimum(_MOST_FRAC, fractions[:, None] + np.arange(min(bits, _MOST_CLIPPED_BITS) + 1))
        high = float((1 << (bits - 1)) - 1)
        errors = nearest_errors(np.ascontiguousarray(rows, np.float64), tried, -high - 1, high)
        return tried[np.arange(len(rows)), errors.argmin(axis=1)]

    def of_channels(self, name: str, rows: Array | None, count: int) -> tuple[FixedPoint, Array]:
        """Return the format of weights by output channel (count, n), and each channel's own fraction bits (count,).

        An override gives all channels one. A channel of zeros takes the finest fraction of the others.
        """
        n = self.numerics
        self.asked.add(name)
        own = self._own(name)
        if own.format is not None or rows is None:
            format = own.format or FixedPoint(n.weights, n.weights // 2)
            return self._finished(format, own), np.full(count, format.frac)
        largest = np.abs(rows).max(axis=1, initial=0)
        fractions = self._fractions(rows, n.weights)
        if largest.any():
            fractions[largest == 0] = fractions[largest > 0].max()
        return self._finished(FixedPoint(n.weights, int(fractions.max())), own), fractions

    def _own(self, name: str) -> Override:
        text = self.numerics.overrides.get(name)
        return Override() if text is None else parse_override(text)

    def _finished(self, format: FixedPoint, own: Override) -> FixedPoint:
        n = self.numerics
        return replace(format, rounding=own.rounding or n.rounding, overflow=own.overflow or n.overflow)


def fitting(largest: float, bits: int, headroom_bits: int = 0, *, signed: bool = True) -> FixedPoint:
    """Return the format of ``bits`` with the most fraction bits that holds ±``largest`` after rounding."""
    if largest == 0 or not math.isfinite(largest):
        return FixedPoint(bits, bits - signed, signed)
    high = (1 << (bits - signed)) - 1
    frac = math.floor(math.log2(high) - math.log2(largest))
    while math.floor(math.ldexp(largest, frac) + 0.5) > high:
        frac -= 1
    while math.floor(math.ldexp(largest, frac + 1) + 0.5) <= high:
        frac += 1
    return FixedPoint(bits, max(-_MOST_FRAC, min(_MOST_FRAC, frac - headroom_bits)), signed)


def _coarser(format: FixedPoint, bits: int) -> FixedPoint:
    """Return the format with ``bits`` more integer bits and as many fewer behind the point."""
    return replace(format, frac=max(-_MOST_FRAC, format.frac - bits))


def joined(formats: Sequence[Formats]) -> Formats:
    """Return formats for all that any of these, of the same numerics, were calibrated on."""
    ranges: dict[str, float] = {}
    histograms: dict[str, Histogram] = {}
    for one in formats:
        for name, largest in (one.ranges or {}).items():
            ranges[name] = max(ranges.get(name, 0.0), largest)
        for name, histogram in (one.histograms or {}).items():
            histograms[name] = histograms[name].plus(histogram) if name in histograms else histogram
    return Formats(formats[0].numerics, ranges, histograms=histograms or None)


def to_integers(values: Array, format: FixedPoint, fractions: Array | None = None) -> Array:
    """Convert host data to the device's integers: nearest (ties up), saturating. Returns int64.

    ``fractions`` (broadcast to ``values``) stand in for the format's where they differ by channel.
    """
    if fractions is None and format.bits <= 53:
        real = np.asarray(values, np.float64)
        integers = np.empty(real.shape, np.int64)
        _to_integers(
            np.ascontiguousarray(real).reshape(-1), 2.0**format.frac, format.low, format.high, integers.reshape(-1)
        )
        return integers
    frac = format.frac if fractions is None else fractions
    scaled = np.floor(np.ldexp(np.asarray(values, np.float64), frac) + 0.5)
    high = float(format.high)
    if int(high) > format.high:  # of 54 bits and more, float64 knows no such neighbour of a power of two
        high = math.nextafter(high, 0.0)
    return np.clip(scaled, format.low, high).astype(np.int64)


@njit(cache=True, nogil=True)
def _to_integers(values, factor, low, high, out):  # type: ignore[no-untyped-def] # numba
    for i in range(values.size):
        out[i] = np.int64(min(max(np.floor(values[i] * factor + 0.5), float(low)), float(high)))
