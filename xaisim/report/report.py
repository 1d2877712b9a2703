"""The report: what an explanation cost and how true it is, as one JSON-able noun with the maps beside it.

report.cycles.total, report.energy_uj.by_component["dram"], report.fidelity.spearman
Report.load("out/report.json")
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, PrivateAttr

from xaisim.attribution.device import Tensor
from xaisim.config import UserError
from xaisim.hardware.architecture import Architecture
from xaisim.ir.graph import Array
from xaisim.models.images import Sample
from xaisim.simulate.program import ProgramTiming


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value


Real = Annotated[
    float,
    BeforeValidator(_number),
    PlainSerializer(lambda v: v if math.isfinite(v) else str(v), when_used="json"),
]
"""A float that survives JSON: infinities are written as text."""


class Part(BaseModel):
    """Base of all parts of a report."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Meta(Part):
    """What makes the run reproducible."""

    hash: str
    """Content hash of model, input, method, numerics, architecture and code version."""
    version: str
    seed: int


class Prediction(Part):
    """The class explained and the fixed-point and float scores (logits) it got."""

    target: int
    label: str
    score: Real
    reference_score: Real
    predicted: int
    truth: int | None = None


class Cycles(Part):
    """Cycles of the whole program, of inference alone, and what explaining adds to it."""

    total: int
    inference: int
    explanation: int


class Macs(Part):
    """Multiply-accumulates of the whole program."""

    forward: int
    backward: int
    recomputed: int
    """Those of ``backward`` that only make ReLU masks again."""


class Roofline(Part):
    """This schedule's own bound, which perfect overlap would reach: the larger of compute and DRAM time."""

    lower_bound_cycles: int
    compute_cycles: int
    dram_cycles: int


class UnitCycles(Part):
    """busy + Σ idle = cycles.total."""

    busy: int
    idle: dict[str, int]


class Traffic(Part):
    """Bytes moved, DRAM bursts rounded up."""

    read: Real
    write: Real


class EnergyCount(Part):
    """One line of the energy account: count · pj_each."""

    component: str
    what: str
    count: Real
    pj_each: Real


class Energy(Part):
    """Energy in microjoules; ``total`` and ``by_component`` are sums over ``counts``."""

    total: Real
    by_component: dict[str, Real]
    counts: tuple[EnergyCount, ...]
    sources: tuple[str, ...]
    """Where every coefficient comes from and how it was scaled."""


class Memory(Part):
    """What backward needs from forward, of one path point, and the fullest moment of each memory.

    What is kept from forward for backward waits on the chip or in DRAM; the rest is computed again.
    """

    mask_bits: int
    index_bits: int
    on_chip_bits: int
    spilled_bits: int
    recomputed_bits: int
    peak_bytes: dict[str, int]


class DramRows(Part):
    """How bursts found the DRAM's rows, over all launches and trips; absent where the DRAM is a bus and no more."""

    row_hits: int
    row_misses: int
    """Bursts that found their bank closed."""
    row_conflicts: int
    """Bursts that found another row open in their bank."""
    turn_rounds: int
    """Changes of the bus between reading and writing."""
    refresh_cycles: int


class Fidelity(Part):
    """Fixed point against float64 on the same input. Rates are shares of 1."""

    sqnr_db: Real
    nrmse: Real
    """Root mean squared error over max − min of the float map."""
    max_error_lsb: Real
    """The largest error in last bits of the attribution's format."""
    cosine: Real
    pearson: Real
    spearman: Real
    ssim: Real | None
    """Structural similarity, mean over channels; None where the map has a side below 11."""
    topk_1pct: Real
    topk_5pct: Real
    topk_10pct: Real
    topk_1000: Real | None
    """None where the map has no more than 1000 elements."""
    sign_agreement: Real
    mask_flip_rate: Real | None
    """Share of stored ReLU mask bits that differ from the float run's, over all points; None where none are stored."""
    index_flip_rate: Real | None
    zero_fraction: Real
    """Share of exact zeros in the fixed-point map: read the rank figures beside it."""
    saturated_fraction: Real
    """Share of requantised values at the bounds of their format, over all launches."""


class Accumulators(Part):
    """How often the array's sums overflowed, over all launches and trips; absent where they are proven to fit."""

    policy: str
    bits: int
    psum_bits: int
    sums: int
    overflowed: int
    """Sums that are not the exact ones, because they wrapped or saturated."""


class Completeness(Part):
    """Σ attribution − (F(x) − F(x')), split: what the quadrature leaves and what quantisation adds."""

    delta: Real
    delta_integration: Real
    delta_quantisation: Real
    score_difference: Real


class Localisation(Part):
    """Against the ground-truth mask: is the peak inside, which share of the relevance, and of the strongest pixels."""

    pointing_hit: bool
    relevance_mass: Real
    relevance_rank: Real
    """Share inside of as many of the most relevant pixels as the mask has."""
    mask_fraction: Real


class PathCycles(Part):
    """Cycles that a path spends on the tiles of one stage on one unit."""

    kernel: str
    stage: str
    unit: str
    what: str
    """``busy`` on the unit, ``latency`` of a result on its way, or ``hold`` of the DRAM bus or a memory port."""
    cycles: int


class PathPeriod(Part):
    """The circuit that decides how fast a loop repeats: ``spent`` sums to ``cycles`` · ``trips``."""

    kernel: str
    cycles: int
    """From the start of one trip to that of the next."""
    trips: int
    """How many trips the circuit takes to come round."""
    spent: tuple[PathCycles, ...]


class CriticalPath(Part):
    """The chain of tiles that decides how long the run takes: ``spent`` sums to ``cycles``, which are the run's."""

    cycles: int
    spent: tuple[PathCycles, ...]
    """Largest first."""
    periods: tuple[PathPeriod, ...]
    kernel: str
    """The longest launch."""
    stages: tuple[str, ...]
    """Of that launch, the chain of stages, each reading what the one before stores, with most of the path's cycles."""


class Gain(Part):
    """The run's cycles with a tenth more of one resource."""

    resource: str
    change: str
    """Old -> new."""
    predicted_cycles: int | None
    """The length of the critical path with the new durations: no run under this schedule takes fewer."""
    cycles: int | None
    """Timed again under this schedule. Both are None for what changes no duration: the size of a memory."""
    remapped_cycles: int | None
    """Mapped again and timed, if that was asked for; None where no configuration can say the change."""


class LayerRow(Part):
    """One stage of one kind of launch, summed over all trips of all of them."""

    kernel: str
    stage: str
    op: str
    backward: bool
    trips: int
    tiling: str
    macs: int
    array_cycles: int
    array_terms: dict[str, int] | None = None
    """What these are spent on, in arrays with folds: ``load``, ``stream``, ``skew`` and ``drain`` of all folds, and
    ``port``, what tiles take longer because of a memory port. They sum to ``array_cycles``."""
    vector_cycles: int
    dma_cycles: int
    dram_bytes: Real
    span_cycles: int
    """From its first start to its last end; stages overlap."""
    bound_cycles: int
    """The roofline alone: the larger of MACs over peak and DRAM bytes over bandwidth."""
    path_cycles: int
    """Cycles of the critical path."""
    slack_cycles: int
    """How much later every tile of the stage may start without making the run longer; 0 on the critical path."""
    stall_cycles: dict[str, dict[str, int]]
    """By unit and cause: how long it stood idle before the tiles of this stage."""


class LaunchRow(Part):
    """One kind of launch of the program; what follows ``count`` is of one of them."""

    kernel: str
    count: int = 1
    """How often the program has it."""
    trips: int
    points_in_flight: int
    """Path points in a trip."""
    keep_on_chip: float
    """Share of a memory that feature maps may take, which then stay on the chip."""
    keep_over_trips: float = 0.0
    """Share of a memory that weights and inputs may take, which then stay there over all trips."""
    prologue_cycles: int = 0
    """Cycles before the first trip, in which these are loaded."""
    start_cycle: int
    cycles: int
    host_cycles: int
    period_cycles: int
    tiles: int


@dataclass(frozen=True, slots=True)
class Run:
    """What a report was made from: arrays and traces that do not belong in JSON."""

    arch: Architecture
    timing: ProgramTiming
    sample: Sample | None = None
    attribution: Tensor | None = None
    reference: Array | None = None


class Report(Part):
    """Everything that scripts read."""

    meta: Meta
    model: str
    weights: str
    method: str
    options: dict[str, Any]
    target: int
    prediction: Prediction | None
    architecture: str
    numerics: dict[str, Any]
    calibration: str
    attribution_format: str | None
    cycles: Cycles
    overhead: Real
    """Explanation over inference."""
    clock_mhz: float
    latency_ms: Real
    macs: Macs
    utilisation: Real
    roofline: Roofline
    units: dict[str, UnitCycles]
    traffic_bytes: dict[str, Traffic]
    energy_uj: Energy
    memory: Memory
    dram: DramRows | None = None
    fidelity: Fidelity | None = None
    accumulators: Accumulators | None = None
    completeness: Completeness | None = None
    localisation: Localisation | None = None
    critical_path: CriticalPath
    sensitivity: tuple[Gain, ...] = ()
    """What more of each resource would buy, the largest gain first; the commands fill it in."""
    launches: tuple[LaunchRow, ...] = ()
    layers: tuple[LayerRow, ...] = ()

    _run: Run | None = PrivateAttr(default=None)

    @property
    def run(self) -> Run:
        """The arrays and traces behind a report that was made in this process."""
        if self._run is None:
            raise ValueError("this report was read from a file; its traces were not kept")
        return self._run

    @property
    def attribution(self) -> Array:
        """The fixed-point attribution as real numbers, (1, C, H, W)."""
        if self.run.attribution is None:
            raise ValueError(f"method {self.method!r} on this run made no attribution")
        return self.run.attribution.real()

    @property
    def reference(self) -> Array:
        """The float64 attribution, (1, C, H, W)."""
        if self.run.reference is None:
            raise ValueError(f"method {self.method!r} on this run made no reference")
        return np.asarray(self.run.reference)

    def to_json(self) -> str:
        """Return the report as JSON text, keys in a stable order."""
        return json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False)

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Read ``report.json``; raises :class:`UserError` where it is not one."""
        try:
            return cls.model_validate_json(Path(path).read_text(encoding="utf-8"), strict=False)
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not a report ({str(error).splitlines()[0]})") from None
