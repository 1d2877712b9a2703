"""Measure: turn values, traces and accounts of a run into the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from xaisim import metrics
from xaisim.attribution.device import Tensor
from xaisim.hardware.architecture import Architecture
from xaisim.hardware.costs import EnergyModel
from xaisim.ir.graph import Array
from xaisim.ir.types import FixedPoint
from xaisim.models.images import Sample
from xaisim.models.load import Model
from xaisim.numerics.formats import Numerics
from xaisim.numerics.observe import Watch
from xaisim.report.cycles import analyse, launch_row, layer_rows, path_part
from xaisim.report.report import (
    Accumulators,
    Completeness,
    Cycles,
    DramRows,
    Energy,
    EnergyCount,
    Fidelity,
    Localisation,
    Macs,
    Memory,
    Meta,
    Prediction,
    Report,
    Roofline,
    Run,
    Traffic,
    UnitCycles,
)
from xaisim.simulate.program import ProgramTiming
from xaisim.version import __version__

_SSIM_SIDE, _TOP = 11, 1000


@dataclass(frozen=True, slots=True)
class Values:
    """What the fixed-point and float runs gave. ``scores`` are logits of the target at x and, on a path, at x'."""

    sample: Sample
    predicted: int
    score: float
    reference_score: float
    attribution: Tensor | None = None
    reference: Array | None = None
    watch: Watch | None = None
    reference_watch: Watch | None = None
    score_difference: float | None = None
    """F(x) − F(x') in float64, for methods that are to be complete."""


def measure(
    *,
    model: Model,
    method: str,
    options: dict[str, Any],
    target: int,
    arch: Architecture,
    numerics: Numerics,
    calibration: str,
    content_hash: str,
    seed: int,
    timing: ProgramTiming,
    inference: ProgramTiming,
    values: Values | None = None,
) -> Report:
    """Return the report of a run; without ``values`` it is a profile."""
    analyses = [analyse(t) for t in timing.launches]
    report = Report(
        meta=Meta(hash=content_hash, version=__version__, seed=seed),
        model=model.name,
        weights=model.weights,
        method=method,
        options=options,
        target=target,
        prediction=None if values is None else _prediction(model, target, values),
        architecture=arch.name,
        numerics=numerics.model_dump(mode="json"),
        calibration=calibration,
        attribution_format=None
        if values is None or values.attribution is None
        else str(values.attribution.type.format),
        cycles=Cycles(total=timing.cycles, inference=inference.cycles, explanation=timing.cycles - inference.cycles),
        overhead=(timing.cycles - inference.cycles) / inference.cycles,
        clock_mhz=arch.clock_mhz,
        latency_ms=timing.cycles / arch.clock_mhz / 1e3,
        macs=Macs(
            forward=timing.macs - timing.macs_backward,
            backward=timing.macs_backward,
            recomputed=timing.macs_recomputed,
        ),
        utilisation=timing.macs / (timing.cycles * arch.peak_macs_per_cycle),
        roofline=_roofline(timing, arch),
        units={name: UnitCycles(busy=unit.busy, idle=unit.idle) for name, unit in timing.units.items()},
        traffic_bytes={
            name: Traffic(read=timing.read_bytes[name], write=timing.write_bytes[name]) for name in timing.read_bytes
        },
        energy_uj=_energy(timing, arch),
        memory=_memory(timing),
        dram=_dram_rows(timing),
        fidelity=None if values is None else _fidelity(values),
        accumulators=None if values is None else _accumulators(values, arch),
        completeness=None if values is None else _completeness(values),
        localisation=None if values is None else _localisation(values),
        critical_path=path_part(analyses, arch),
        launches=tuple(launch_row(t) for t in timing.launches),
        layers=tuple(row for analysis in analyses for row in layer_rows(analysis, arch)),
    )
    attribution = None if values is None else values.attribution
    reference = None if values is None else values.reference
    report._run = Run(arch, timing, None if values is None else values.sample, attribution, reference)
    return report


def _prediction(model: Model, target: int, values: Values) -> Prediction:
    return Prediction(
        target=target,
        label=model.classes[target],
        score=values.score,
        reference_score=values.reference_score,
        predicted=values.predicted,
        truth=values.sample.label if model.accuracy is not None else None,  # scenes' labels mean nothing to others
    )


def _roofline(timing: ProgramTiming, arch: Architecture) -> Roofline:
    dram = timing.read_bytes[arch.dram.name] + timing.write_bytes[arch.dram.name]
    return Roofline(
        lower_bound_cycles=timing.lower_bound_cycles(arch),
        compute_cycles=-(-timing.macs // arch.peak_macs_per_cycle),
        dram_cycles=int(np.ceil(dram / arch.dram.bytes_per_cycle)),
    )


def _dram_rows(timing: ProgramTiming) -> DramRows | None:
    runs = [part for t in timing.launches for part in t.repeated.parts]
    served = [(schedule.dram, trips) for schedule, trips in runs if schedule.dram is not None]
    if not served:
        return None
    return DramRows(**{
        name: sum(int(getattr(dram, name).sum()) * trips for dram, trips in served) for name in DramRows.model_fields
    })  # fmt: skip


def _memory(timing: ProgramTiming) -> Memory:
    """Describe the kernel that has most to remember, masks and indices each."""
    fates = [t.schedule.fates for t in timing.launches]
    most = max(fates, key=sum)
    return Memory(
        mask_bits=max(t.schedule.stored_bits("positive") for t in timing.launches),
        index_bits=max(t.schedule.stored_bits("pool_index") for t in timing.launches),
        on_chip_bits=most.on_chip,
        spilled_bits=most.spilled,
        recomputed_bits=most.recomputed,
        peak_bytes=timing.peak_bytes,
    )


def _energy(timing: ProgramTiming, arch: Architecture) -> Energy:
    by_component: dict[str, float] = {}
    for item in timing.energy:
        by_component[item.component] = by_component.get(item.component, 0.0) + item.uj
    counts = tuple(
        EnergyCount(component=i.component, what=i.what, count=i.count, pj_each=i.pj_each) for i in timing.energy
    )
    return Energy(
        total=sum(by_component.values()),
        by_component=by_component,
        counts=counts,
        sources=tuple(EnergyModel(arch).scaling_notes()),
    )


def _fidelity(values: Values) -> Fidelity | None:
    if values.attribution is None or values.reference is None or values.watch is None or values.reference_watch is None:
        return None
    fixed, real, format = values.attribution.real(), values.reference, values.attribution.type.format
    assert isinstance(format, FixedPoint)
    return Fidelity(
        sqnr_db=metrics.sqnr_db(real, fixed),
        nrmse=metrics.nrmse(real, fixed),
        max_error_lsb=metrics.max_error_lsb(real, fixed, format.step),
        cosine=metrics.cosine(real, fixed),
        pearson=metrics.pearson(real, fixed),
        spearman=metrics.spearman(real, fixed),
        ssim=metrics.ssim(real, fixed) if min(real.shape[-2:]) >= _SSIM_SIDE else None,
        topk_1pct=metrics.top_k_intersection(real, fixed, 0.01),
        topk_5pct=metrics.top_k_intersection(real, fixed, 0.05),
        topk_10pct=metrics.top_k_intersection(real, fixed, 0.10),
        topk_1000=metrics.top_count_intersection(real, fixed, _TOP) if real.size > _TOP else None,
        sign_agreement=metrics.sign_agreement(real, fixed),
        mask_flip_rate=values.watch.mask_flip_rate(values.reference_watch),
        index_flip_rate=values.watch.index_flip_rate(values.reference_watch),
        zero_fraction=float((fixed == 0).mean()),
        saturated_fraction=values.watch.saturated_fraction,
    )


def _accumulators(values: Values, arch: Architecture) -> Accumulators | None:
    array, watch = arch.array, values.watch
    if array.accumulator == "proven" or watch is None:
        return None
    return Accumulators(
        policy=array.accumulator,
        bits=array.accumulator_bits,
        psum_bits=array.stored_sum_bits,
        sums=watch.sums,
        overflowed=watch.overflowed,
    )


def _completeness(values: Values) -> Completeness | None:
    if values.score_difference is None or values.attribution is None or values.reference is None:
        return None
    integration = float(values.reference.sum()) - values.score_difference
    quantisation = float(values.attribution.real().sum() - values.reference.sum())
    return Completeness(
        delta=integration + quantisation,
        delta_integration=integration,
        delta_quantisation=quantisation,
        score_difference=values.score_difference,
    )


def _localisation(values: Values) -> Localisation | None:
    mask = values.sample.mask
    if mask is None or values.attribution is None or not mask.any():
        return None
    fixed = values.attribution.real()
    if fixed.shape[-2:] != mask.shape:  # a map of a layer's size says nothing of pixels
        return None
    return Localisation(
        pointing_hit=metrics.pointing_hit(fixed, mask),
        relevance_mass=metrics.relevance_mass(fixed, mask),
        relevance_rank=metrics.relevance_rank(fixed, mask),
        mask_fraction=float(mask.mean()),
    )
