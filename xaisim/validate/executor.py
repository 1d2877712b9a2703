"""Section: schedules run on modelled memories, bit for bit beside the fast values.

table(("cifar_cnn",), ("saliency",), ("pynq_z2",))     one line per network and machine, over all methods
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from xaisim.attribution.methods import METHODS
from xaisim.config import load_data, shipped_names
from xaisim.experiment import Experiment, prepare
from xaisim.flow import calibrated
from xaisim.hardware.architecture import load_architecture
from xaisim.numerics.formats import Formats
from xaisim.simulate.memory_check import RecordingDevice, Run, check
from xaisim.validate.section import Cell, Section

NETWORKS = ("cifar_cnn", "resnet18_tiny", "inception_v3_tiny")
_STEPS = 4
"""Path points of Integrated Gradients: several are in flight, or a trip finds memories as the last one left them."""


class Line(NamedTuple):
    """What came of one network on one machine, over several methods."""

    network: str
    preset: str
    launches: int
    rows: int
    numbers: int
    differing: int


def recorded(network: str, method: str, preset: str) -> list[Run]:
    """Run a method in fixed point, as ``xaisim explain`` does, and return its launches with their integers."""
    numerics = "fixed16" if load_architecture(preset).array.multiplier_bits >= 16 else "fixed8"
    p = prepare(_experiment(network, method, numerics, arch=preset))
    device = p.device(_formats(network, method, numerics), RecordingDevice)
    assert isinstance(device, RecordingDevice)
    METHODS[method].run(device, p.model.graph, p.sample.x, 3, **p.options)
    return device.runs


def _experiment(network: str, method: str, numerics: str, **more: Any) -> Experiment:
    options = {"n_steps": _STEPS} if method == "integrated_gradients" else {}
    return load_data(Experiment, {"model": network, "method": method, "numerics": numerics, "options": options, **more})


@lru_cache(maxsize=64)
def _formats(network: str, method: str, numerics: str) -> Formats:
    """Calibrate once for all machines: formats do not depend on them."""
    return calibrated(prepare(_experiment(network, method, numerics)))[0]


def table(networks: Sequence[str], methods: Sequence[str], presets: Sequence[str]) -> Iterator[Line]:
    """Run every method of every network on every machine; yield a line per network and machine."""
    for preset in presets:
        arch = load_architecture(preset)
        for network in networks:
            done = [check(run, arch) for method in methods for run in recorded(network, method, preset)]
            differing = sum(sum(each.differing.values()) for each in done)
            rows, numbers = sum(each.rows for each in done), sum(each.numbers for each in done)
            yield Line(network, preset, len(done), rows, numbers, differing)


def section() -> Section:
    """Return what runs on modelled memories give beside the fast values: networks with residuals and with pools."""
    lines = list(table(NETWORKS[:2], ("saliency", "gradcam"), shipped_names("arch_configs")))
    rows: list[tuple[Cell, ...]] = [(x.network, x.preset, x.launches, x.numbers, x.differing) for x in lines]
    differing, numbers = sum(line.differing for line in lines), sum(line.numbers for line in lines)
    text = (
        "Every transfer and computation of a schedule is carried out at its addresses, in the order of the clock, on "
        "memories that are bytes and hold junk at first; numbers are packed at their real width. All outputs are "
        "compared with those of the fast evaluation. The weights are the trained ones, the methods a gradient and "
        "GradCAM, in 16 bits or, where multipliers have 8, in 8. `python benchmarks/executor.py` does the same for "
        "all networks and methods."
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
