"""Section: schedules run on modelled memories, bit for bit beside the fast values.

table(("cifar_cnn",), ("saliency",), ("pynq_z2",))     a line per network, method and machine
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

from xaisim.attribution.methods import METHODS
from xaisim.config import load_data, shipped_names
from xaisim.experiment import Experiment, prepare
from xaisim.flow import calibrated
from xaisim.hardware.architecture import Architecture, load_architecture
from xaisim.simulate.memory_check import RecordingDevice, Run, check
from xaisim.validate.section import Cell, Section

NETWORKS = ("cifar_cnn", "resnet18_tiny", "inception_v3_tiny")
_STEPS = 4
"""Path points of Integrated Gradients: several are in flight, or a trip finds memories as the last one left them."""


class Line(NamedTuple):
    """What came of a method of a network on a machine."""

    network: str
    method: str
    preset: str
    launches: int
    rows: int
    numbers: int
    differing: int


def table(networks: Sequence[str], methods: Sequence[str], presets: Sequence[str], jobs: int = 1) -> Iterator[Line]:
    """Run every method of every network on every machine, ``jobs`` methods at a time; yield their lines in order."""
    cases = [(network, method, tuple(presets)) for network, method in product(networks, methods)]
    if jobs == 1:
        for case in cases:
            yield from _lines(*case)
        return
    with ProcessPoolExecutor(jobs) as pool:
        for lines in pool.map(_lines, *zip(*cases, strict=True)):
            yield from lines


def _lines(network: str, method: str, presets: Sequence[str]) -> list[Line]:
    """Compute a method's values once for all machines that compute alike, and run its schedules on each of them."""
    runs: dict[tuple[Any, ...], list[Run]] = {}
    lines = []
    for preset in presets:
        arch = load_architecture(preset)
        key = _decides_values(arch)
        if key not in runs:
            runs[key] = recorded(network, method, arch)
        done = [check(run, arch) for run in runs[key]]
        rows, numbers = sum(each.rows for each in done), sum(each.numbers for each in done)
        differing = sum(sum(each.differing.values()) for each in done)
        lines.append(Line(network, method, preset, len(done), rows, numbers, differing))
    return lines


def _decides_values(arch: Architecture) -> tuple[Any, ...]:
    """Return what of a machine has a part in the values: widths, and the order of addition where sums saturate."""
    array = arch.array
    widths = _numerics(arch), array.accumulator, array.accumulator_bits, array.psum_bits
    return (*widths, arch if array.accumulator == "saturate" else None)


def _numerics(arch: Architecture) -> str:
    return "fixed16" if arch.array.multiplier_bits >= 16 else "fixed8"


def recorded(network: str, method: str, arch: Architecture) -> list[Run]:
    """Run a method in fixed point, as ``xaisim explain`` does, and return its launches with their integers."""
    options = METHODS[method].few(_STEPS)
    wanted = {"model": network, "method": method, "numerics": _numerics(arch), "options": options}
    p = replace(prepare(load_data(Experiment, wanted)), arch=arch)
    device = p.device(calibrated(p)[0], RecordingDevice)
    assert isinstance(device, RecordingDevice)
    METHODS[method].run(device, p.model.graph, p.sample.x, 3, **p.options)
    return device.runs


def section() -> Section:
    """Return what runs on modelled memories give beside the fast values: networks with residuals and with pools."""
    presets, networks = shipped_names("arch_configs"), NETWORKS[:2]
    lines = list(table(networks, ("saliency", "gradcam"), presets))
    rows: list[tuple[Cell, ...]] = []
    for preset, network in product(presets, networks):
        own = [line for line in lines if (line.preset, line.network) == (preset, network)]
        rows.append((network, preset, *(sum(getattr(x, c) for x in own) for c in ("launches", "numbers", "differing"))))
    differing, numbers = sum(line.differing for line in lines), sum(line.numbers for line in lines)
    text = (
        "Every transfer and computation of a schedule is carried out at its addresses, in the order of the clock, on "
        "memories that are bytes and hold junk at first; numbers are packed at their real width. All outputs are "
        "compared with those of the fast evaluation. The weights are the trained ones, the methods a gradient and "
        "GradCAM, in 16 bits or, where multipliers have 8, in 8. `python benchmarks/executor.py` does the same for "
        "all networks and methods; it is part of every change's checks."
    )
    return Section(
        title="Schedules on modelled memories",
        text=text,
        columns=("network", "preset", "launches", "numbers", "differing"),
        rows=rows,
        source="the same run's fixed-point values, which share no schedule with it",
        verdict=f"{differing} of {numbers:,} numbers differ",
        exact=differing == 0,
    )
