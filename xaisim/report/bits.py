"""What a search for the fewest bits found: the widths, every point tried on the way, and how both held elsewhere.

print(bits_text(found))            found.to_json()            numerics_yaml(found)
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML

from xaisim.numerics.formats import Numerics
from xaisim.report.sentences import bytes_text

FIGURES = {"sqnr_db": "SQNR dB", "spearman": "Spearman"}


@dataclass(frozen=True, slots=True)
class Trial:
    """One point: its widths, the median figures over the scenes, and the bits that one explanation moves."""

    widths: Mapping[str, int]
    figures: Mapping[str, float]
    moved_bits: int
    meets: bool
    refused: str = ""
    """Why the machine cannot run it, instead of figures."""


@dataclass(frozen=True, slots=True)
class FoundBits:
    """The result of a search."""

    model: str
    method: str
    architecture: str
    wish: Mapping[str, float]
    """Least median of each figure."""
    scenes: int
    validation_scenes: int
    tried: tuple[Trial, ...]
    """In the order of trial; the first is where the search started."""
    found: Trial
    validation: Mapping[str, float]
    """Median figures of the found widths over scenes that the search did not see."""
    numerics: Numerics

    @property
    def holds(self) -> bool:
        """Whether the wish is also met on the scenes that the search did not see."""
        return all(self.validation[name] >= least for name, least in self.wish.items())

    def to_json(self) -> str:
        """Return everything as JSON; what is not finite becomes null."""

        def trial(t: Trial) -> dict[str, Any]:
            figures = {name: _finite(value) for name, value in t.figures.items()}
            row = {"widths": dict(t.widths), "figures": figures, "moved_bits": t.moved_bits, "meets": t.meets}
            return {**row, "refused": t.refused} if t.refused else row

        return json.dumps(
            {
                "model": self.model,
                "method": self.method,
                "architecture": self.architecture,
                "wish": dict(self.wish),
                "found": trial(self.found),
                "scenes": self.scenes,
                "validation": {name: _finite(value) for name, value in self.validation.items()},
                "validation_scenes": self.validation_scenes,
                "holds": self.holds,
                "numerics": self.numerics.model_dump(mode="json"),
                "tried": [trial(t) for t in self.tried],
            },
            indent=1,
        )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def wish_text(wish: Mapping[str, float]) -> str:
    """Return ``SQNR >= 30 dB and Spearman >= 0.95``."""
    parts = {"sqnr_db": "SQNR >= {:g} dB", "spearman": "Spearman >= {:g}"}
    return " and ".join(parts[name].format(least) for name, least in wish.items())


def figures_text(figures: Mapping[str, float]) -> str:
    """Return ``SQNR 30.4 dB, Spearman 0.9921``."""
    return f"SQNR {figures['sqnr_db']:.1f} dB, Spearman {figures['spearman']:.4f}"


def bits_text(found: FoundBits) -> str:
    """Return the table of tried points and what was found."""
    start, best = found.tried[0], found.found
    names = list(best.widths)
    lines = [
        f"explains     {found.model} by {found.method} on {found.architecture}",
        f"wish         median {wish_text(found.wish)} over {found.scenes} calibration scenes",
        "",
        "  ".join([*names, *(title.rjust(8) for title in FIGURES.values()), "   moved", "meets"]),
    ]
    for t in found.tried:
        cells = [str(t.widths[name]).rjust(len(name)) for name in names]
        if t.refused:
            lines.append("  ".join([*cells, f"refused: {t.refused}"]))
            continue
        cells += [f"{t.figures['sqnr_db']:8.1f}", f"{t.figures['spearman']:8.4f}"]
        cells += [bytes_text(t.moved_bits / 8).rjust(8), ("yes" if t.meets else "no") + (" *" if t is best else "")]
        lines.append("  ".join(cells))
    saved = 1 - best.moved_bits / start.moved_bits
    widths = ", ".join(f"{name} {bits}" for name, bits in best.widths.items())
    held = "holds" if found.holds else "does not hold"
    lines += [
        "",
        f"found        {widths}",
        f"searched on  {figures_text(best.figures)}; {saved:.1%} fewer bits moved than at the start",
        f"validation   {figures_text(found.validation)} on {found.validation_scenes} test scenes: the wish {held}",
    ]
    return "\n".join(lines)


def numerics_yaml(found: FoundBits) -> str:
    """Return the found numerics as a file for ``--numerics``: the widths, and whatever else is not the default."""
    own = found.numerics.model_dump(mode="json", exclude_defaults=True)
    widths = {key: getattr(found.numerics, key) for key in Numerics.model_fields if key in found.found.widths}
    text = io.StringIO()
    YAML().dump({**widths, **{key: value for key, value in own.items() if key not in widths}}, text)
    return (
        f"# {found.model}, {found.method}: median {wish_text(found.wish)} was asked over {found.scenes} calibration "
        f"scenes.\n# {figures_text(found.found.figures)} there, {figures_text(found.validation)} on "
        f"{found.validation_scenes} test scenes.\n{text.getvalue()}"
    )
