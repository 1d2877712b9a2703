"""Numbers and verdicts as people read them.

energy_text(234_567.0) == "235 mJ";  verdict(report) is one or two sentences
"""

from __future__ import annotations

import re

from xaisim.report.report import CriticalPath, Fidelity, LayerRow, PathCycles, Report

FAITHFUL_DB, FAITHFUL_SPEARMAN = 30.0, 0.98
ROUGH_SPEARMAN = 0.9


def time_text(ms: float) -> str:
    """Return a time with three digits in s, ms or µs."""
    if ms >= 1e3:
        return f"{ms / 1e3:,.3g} s" if ms < 1e6 else f"{ms / 1e3:,.0f} s"
    return f"{ms:.3g} ms" if ms >= 1 else f"{ms * 1e3:.3g} µs"


def energy_text(uj: float) -> str:
    """Return an energy with three digits in J, mJ or µJ."""
    if uj >= 1e6:
        return f"{uj / 1e6:,.3g} J" if uj < 1e9 else f"{uj / 1e6:,.0f} J"
    return f"{uj / 1e3:.3g} mJ" if uj >= 1e3 else f"{uj:.3g} µJ"


def bytes_text(count: float) -> str:
    """Return a number of bytes in B, KiB, MiB or GiB."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:,.4g} GiB"


def path_part(part: PathCycles) -> str:
    """Return what a part of the path waits for, engines and arrays of several taken together: ``dma latency``."""
    return f"{re.sub(r'[0-9]+$', '', part.unit)} {part.what}"


def path_text(path: CriticalPath) -> str:
    """Say what the critical path spends its cycles on, and in which layer most of them: ``array busy 74%, …``."""
    parts: dict[str, int] = {}
    stages: dict[str, int] = {}
    for part in path.spent:
        parts[path_part(part)] = parts.get(path_part(part), 0) + part.cycles
        stages[part.stage] = stages.get(part.stage, 0) + part.cycles
    shares = [(name, cycles / path.cycles) for name, cycles in sorted(parts.items(), key=lambda item: -item[1])]
    most = max(stages, key=lambda name: stages[name])
    text = ", ".join(f"{name} {share:.0%}" for name, share in shares if share >= 0.005)
    return f"{text}; most in {most} ({stages[most] / path.cycles:.0%})"


def gains_text(report: Report) -> str:
    """Say which three resources to add to first: what a tenth more of each saves under the same schedule.

    Sizes of memories save nothing under the same schedule, so unless the program was mapped again it says so.
    """
    total = report.cycles.total
    saved = [(gain.resource, 1 - gain.cycles / total) for gain in report.sensitivity if gain.cycles is not None]
    best = [f"{resource} saves {share:.1%}" for resource, share in saved[:3] if share >= 0.0005]
    text = ", ".join(best) or "any one resource saves less than 0.1%"
    remapped = any(gain.remapped_cycles is not None for gain in report.sensitivity)
    return text if remapped else f"{text}; sizes of memories need --remap"


def of_roof(row: LayerRow) -> float:
    """Return the share of a layer's time that the roofline alone would take, 0 to 1."""
    return row.bound_cycles / row.span_cycles if row.span_cycles else 1.0


def layers_text(report: Report) -> str:
    """Say which three layers lose most cycles against their own roofline, and where they stand."""
    lost: dict[str, tuple[int, int]] = {}
    for row in report.layers:
        span, bound = lost.get(row.stage, (0, 0))
        lost[row.stage] = span + row.span_cycles, bound + row.bound_cycles
    worst = sorted(lost.items(), key=lambda item: item[1][1] - item[1][0])[:3]
    parts = [f"{stage} at {bound / max(1, span):.0%}" for stage, (span, bound) in worst]
    return ", ".join([f"{parts[0]} of its roofline", *parts[1:]])


def stored_text(report: Report) -> str:
    """Return ``98,432 mask bits, 24,576 pool index bits; all on the chip``, and what is computed again."""
    m = report.memory
    parts = [f"{m.mask_bits:,} mask bits, {m.index_bits:,} pool index bits"]
    if m.spilled_bits:
        parts.append(f"{m.on_chip_bits:,} on the chip, {m.spilled_bits:,} in DRAM")
    elif m.on_chip_bits:
        parts.append("all on the chip")
    if m.recomputed_bits:
        parts.append(recomputed_text(report))
    return "; ".join(parts)


def recomputed_text(report: Report) -> str:
    """Return ``98,304 bits computed again with 25,001,984 MAC``."""
    return f"{report.memory.recomputed_bits:,} bits computed again with {report.macs.recomputed:,} MAC"


def verdict(report: Report) -> str:
    """Say in a line whether the map can be trusted and what it costs."""
    where = f"{time_text(report.latency_ms)} and {energy_text(report.energy_uj.total)} on {report.architecture}"
    if report.cycles.explanation == 0:
        return f"Inference alone takes {where}."
    more = (
        f"{report.overhead:.3g} times as many again" if report.overhead >= 1 else f"{100 * report.overhead:.2g} % more"
    )
    cost = f"takes {where}: the cycles of inference, and {more} to explain it."
    if report.fidelity is None:
        return f"The whole {cost}"
    return f"{_agreement(report.fidelity)} The whole {cost}"


def _agreement(f: Fidelity) -> str:
    figures = f"SQNR {f.sqnr_db:.1f} dB, Spearman {f.spearman:.4f}"
    if f.sqnr_db >= FAITHFUL_DB and f.spearman >= FAITHFUL_SPEARMAN:
        return f"The fixed-point map says what float64 says ({figures})."
    if f.spearman >= ROUGH_SPEARMAN:
        return f"The fixed-point map follows float64 roughly ({figures})."
    return f"The fixed-point map departs from float64 ({figures}): do not trust it."
