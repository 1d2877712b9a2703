"""Measure: turn values, traces and accounts of a run into the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from xaisim.attribution import metrics
from xaisim.attribution.device import Tensor
from xaisim.hardware.architecture import Architecture
from xaisim.hardware.costs import EnergyModel
from xaisim.ir.graph import Array
from xaisim.mapping.schedule import stage_graph
from xaisim.mapping.tiles import Unit
from xaisim.models.images import Sample
from xaisim.models.load import Model
from xaisim.numerics.formats import Numerics
from xaisim.numerics.observe import Watch
from xaisim.report.report import (
    Accumulators,
    Completeness,
    CriticalPath,
    Cycles,
    Energy,
    EnergyCount,
    Fidelity,
    LaunchRow,
    LayerRow,
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
from xaisim.simulate.program import ProgramTiming, TimedLaunch
from xaisim.version import __version__


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
        macs=Macs(forward=timing.macs - timing.macs_backward, backward=timing.macs_backward),
        utilisation=timing.macs / (timing.cycles * arch.peak_macs_per_cycle),
        roofline=_roofline(timing, arch),
        units={name: UnitCycles(busy=unit.busy, idle=unit.idle) for name, unit in timing.units.items()},
        traffic_bytes={
            name: Traffic(read=timing.read_bytes[name], write=timing.write_bytes[name]) for name in timing.read_bytes
        },
        energy_uj=_energy(timing, arch),
        memory=Memory(
            mask_bits=max(t.schedule.stored_bits("positive") for t in timing.launches),
            index_bits=max(t.schedule.stored_bits("pool_index") for t in timing.launches),
            peak_bytes=timing.peak_bytes,
        ),
        fidelity=None if values is None else _fidelity(values),
        accumulators=None if values is None else _accumulators(values, arch),
        completeness=None if values is None else _completeness(values),
        localisation=None if values is None else _localisation(values),
        critical_path=_critical_path(max(timing.launches, key=lambda t: t.timing.cycles)),
        launches=tuple(_launch_row(t) for t in timing.launches),
        layers=tuple(row for t in timing.launches for row in _layer_rows(t, arch)),
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
    fixed, real = values.attribution.real(), values.reference
    return Fidelity(
        sqnr_db=metrics.sqnr_db(real, fixed),
        cosine=metrics.cosine(real, fixed),
        spearman=metrics.spearman(real, fixed),
        topk_1pct=metrics.top_k_intersection(real, fixed, 0.01),
        topk_5pct=metrics.top_k_intersection(real, fixed, 0.05),
        topk_10pct=metrics.top_k_intersection(real, fixed, 0.10),
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
    return Localisation(
        pointing_hit=metrics.pointing_hit(fixed, mask),
        relevance_mass=metrics.relevance_mass(fixed, mask),
        mask_fraction=float(mask.mean()),
    )


def _launch_row(t: TimedLaunch) -> LaunchRow:
    return LaunchRow(
        kernel=t.launch.kernel,
        trips=t.launch.trips,
        start_cycle=t.start_cycle,
        cycles=t.cycles,
        host_cycles=t.host_cycles,
        period_cycles=t.timing.period_cycles,
        tiles=t.schedule.tiles.rows,
    )


def _busy(t: TimedLaunch) -> np.ndarray:
    """Return the busy cycles of every unit on every stage in one trip, (units, stages)."""
    tiles = t.schedule.tiles
    busy = np.zeros((len(tiles.units), len(t.schedule.stages)), np.int64)
    np.add.at(busy, (tiles.unit, tiles.stage), tiles.occupy_cycles)
    return busy


def _critical_path(t: TimedLaunch) -> CriticalPath:
    """Find the chain of dependent stages that keeps its busiest units busy the longest."""
    import networkx as nx

    cycles = _busy(t).max(axis=0)
    graph = stage_graph(t.schedule)
    for _, reader, edge in graph.edges(data=True):
        edge["weight"] = int(cycles[reader])
    start = "start"  # gives the first stage of a chain its own cycles
    graph.add_weighted_edges_from((start, index, int(cycles[index])) for index in range(len(cycles)))
    chain = nx.dag_longest_path(graph)[1:]
    return CriticalPath(
        kernel=t.launch.kernel,
        cycles=int(cycles[chain].sum()),
        body_cycles=int(t.timing.first.end.max()),
        stages=tuple(t.schedule.stages[index].name for index in chain),
    )


def _layer_rows(t: TimedLaunch, arch: Architecture) -> list[LayerRow]:
    """Sum the tiles of every stage over all trips."""
    tiles, trips, count = t.schedule.tiles, t.launch.trips, len(t.schedule.stages)
    busy = np.zeros((len(Unit), count), np.int64)
    np.add.at(busy, [seat.kind for seat in tiles.units], _busy(t))
    macs = np.bincount(tiles.stage, tiles.macs, count).astype(np.int64)
    dram = [memory.name for memory in arch.memories].index(arch.dram.name)
    traffic = np.bincount(tiles.stage, tiles.read_bytes[:, dram] + tiles.write_bytes[:, dram], count)
    return [
        LayerRow(
            kernel=t.launch.kernel,
            stage=stage.name,
            op="+".join([stage.anchor.op, *dict.fromkeys(node.op for node in stage.tail)]),
            backward=stage.anchor.backward,
            trips=trips,
            tiling=str(t.schedule.tilings[stage.index]),
            macs=int(macs[stage.index]) * trips,
            array_cycles=int(busy[Unit.ARRAY, stage.index]) * trips,
            vector_cycles=int(busy[Unit.VECTOR, stage.index]) * trips,
            dma_cycles=int(busy[Unit.DMA, stage.index]) * trips,
            dram_bytes=float(traffic[stage.index]) * trips,
        )
        for stage in t.schedule.stages
    ]
