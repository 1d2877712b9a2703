"""Constraints and objectives: what a point must keep to, and what makes it better.

parse_constraint("latency_ms < 20").holds({"latency_ms": 12.5})      # True; None where it is not known yet
parse_constraint("fits: ultra96_v2")
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from xaisim.config import did_you_mean
from xaisim.hardware.fpga import load_board

TIMED = (
    "cycles",
    "array_cycles",
    "latency_ms",
    "energy_mj",
    "edp",
    "explanations_per_s",
    "utilisation",
    "dram_mb",
    "power_w",
)
"""What the clock says. ``array_cycles`` are those in which the array works, ``edp`` is in mJ·ms, ``dram_mb`` in 10⁶
bytes moved, ``utilisation`` a share of the multipliers."""
BUILT = ("area_mm2", "dsp", "bram", "fits")
"""What the machine takes, known without a run."""
FIDELITY = ("sqnr_db", "spearman", "cosine", "topk", "sign_agreement")
OUTPUTS = (*TIMED, *BUILT, *(f"fidelity.{name}" for name in FIDELITY))

Direction = Literal["min", "max"]
_TESTS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq}
_LARGER_IS_LATER = ("cycles", "latency_ms", "energy_mj", "edp")


@dataclass(frozen=True, slots=True)
class Objective:
    """An output to make small or large."""

    name: str
    direction: Direction

    def cost(self, outputs: Mapping[str, Any]) -> float | None:
        """Return the output such that less is better; None where the point has no such number."""
        value = outputs.get(self.name)
        if not isinstance(value, int | float):
            return None
        return float(value) if self.direction == "min" else -float(value)


@dataclass(frozen=True, slots=True)
class Constraint:
    """An output, a comparison and a limit; ``board`` is the one that ``fits`` asks for."""

    text: str
    output: str
    test: str
    limit: float
    board: str | None = None

    def holds(self, outputs: Mapping[str, Any]) -> bool | None:
        """Return whether it holds; None where the outputs, and their bounds, do not say yet."""
        if self.output in outputs:
            value = outputs[self.output]
            return value is not None and bool(_TESTS[self.test](value, self.limit))
        best = self._best(outputs)
        return False if best is not None and not _TESTS[self.test](best, self.limit) else None

    def violation(self, outputs: Mapping[str, Any]) -> float:
        """Return how far it is from holding, as a share of the limit; 0 or less where it holds or is not known."""
        value = outputs.get(self.output, self._best(outputs))
        if value is None:
            return 1.0 if self.output in outputs else 0.0
        apart = (float(value) - self.limit) / max(abs(self.limit), 1e-12)
        apart = abs(apart) if self.test == "==" else apart if self.test.startswith("<") else -apart
        return apart if self.holds(outputs) is not False else max(apart, 1e-9)

    def told(self, outputs: Mapping[str, Any]) -> str:
        """Return the reason of a point that breaks it."""
        value = outputs.get(self.output)
        if self.board is not None:
            need = f"DSP {outputs.get('dsp'):g}, BRAM36 {outputs.get('bram'):g}"
            return f"{self.text}: needs {need}"
        if value is None and self.output in outputs:
            return f"{self.text}: the machine has none"
        if value is None:
            return f"{self.text}: at best {self._best(outputs):.6g}"
        return f"{self.text}: got {value:.6g}"

    def _best(self, outputs: Mapping[str, Any]) -> float | None:
        """Return what the output can be at best, where a lower bound is known and can break it."""
        if self.output in _LARGER_IS_LATER and self.test.startswith("<"):
            return outputs.get(f"bound.{self.output}")
        if self.output == "explanations_per_s" and self.test.startswith(">"):
            least = outputs.get("bound.latency_ms")
            return None if not least else 1e3 / least
        return None


def parse_constraint(written: Any, known: Sequence[str] = OUTPUTS) -> Constraint:
    """Return a constraint from ``latency_ms < 20`` or ``fits: BOARD``; raise ``ValueError`` with the rule it breaks."""
    if isinstance(written, dict) and len(written) == 1:
        ((key, value),) = written.items()
        written = f"{key}: {value}"
    if not isinstance(written, str):
        raise ValueError(f"must be written like latency_ms < 20 or fits: ultra96_v2 (got {written!r})")
    fits = re.fullmatch(r"\s*fits\s*:\s*(\S+)\s*", written)
    if fits:
        load_board(fits[1])
        return Constraint(f"fits: {fits[1]}", f"fits.{fits[1]}", "==", 1, fits[1])
    parts = re.fullmatch(r"\s*([\w.]+)\s*(<=|>=|==|<|>)\s*([-+.\deE]+)\s*", written)
    try:
        name, test, limit = parts[1], parts[2], float(parts[3])  # type: ignore[index] # None raises, too
    except (TypeError, ValueError):
        raise ValueError(f"must be written like latency_ms < 20 or fits: ultra96_v2 (got {written!r})") from None
    return Constraint(f"{name} {test} {limit:g}", check_output(name, known), test, limit)


def check_output(name: str, known: Sequence[str]) -> str:
    """Return the name of an output; raise ``ValueError`` with the nearest and all choices for an unknown one."""
    if name not in known:
        raise ValueError(f"unknown output {name!r}{did_you_mean(name, known) or ';'} choices: {', '.join(known)}")
    return name
