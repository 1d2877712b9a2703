"""How long bit-accurate values take beside PyTorch's float32, in one process, the two in turn.

    python benchmarks/values.py [--quick] [--json]

ResNet18 @224 forward and input gradient of batches of 1 and 8, InceptionV3 @299, and Integrated Gradients with 50 steps
on ResNet18 beside Captum's. PyTorch is taken at its best: BN folded, weights without gradients, NCHW or channels last,
1 or 2 threads; ours with 16 bits, 1 or 2 threads. Figures are medians over rounds. Compiling is timed apart.
The peak is that of a register block on data in the first cache. Needs PyTorch and Captum (`pip install torch captum`).
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.fx.experimental.optimization import fuse

from xaisim.api import experiment_of
from xaisim.attribution.methods import METHODS
from xaisim.experiment import Prepared, prepare
from xaisim.flow import calibrated
from xaisim.ir.blocks import block
from xaisim.ir.machine import call, selected
from xaisim.ir.memory import aligned
from xaisim.ir.threads import share
from xaisim.numerics.devices import FixedDevice

ROOT = Path(__file__).resolve().parents[1]
THREADS = (1, 2)
IG_STEPS = 50


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table."""

    model: str
    method: str
    batch: int

    def __str__(self) -> str:
        return f"{self.model} {self.method} x{self.batch}"


CASES = (
    Case("resnet18", "forward", 1),
    Case("resnet18", "forward", 8),
    Case("resnet18", "saliency", 1),
    Case("resnet18", "saliency", 8),
    Case("inception_v3", "saliency", 1),
    Case("inception_v3", "saliency", 8),
    Case("resnet18", "integrated_gradients", 1),
)
HEADLINE = Case("resnet18", "saliency", 8)


def seconds(run: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def torch_networks() -> ModuleType:
    """Return workloads/networks_torch.py as a module."""
    spec = importlib.util.spec_from_file_location("networks_torch", ROOT / "workloads" / "networks_torch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["networks_torch"] = module
    spec.loader.exec_module(module)
    return module


class Ours:
    """xaisim on one model: devices per number of threads, weights packed."""

    def __init__(self, model: str, method: str) -> None:
        options = {"n_steps": IG_STEPS} if method == "integrated_gradients" else {}
        self.p: Prepared = prepare(experiment_of(model=model, method=method, weights="random", **options))
        self.formats, _ = calibrated(self.p)
        self.device = FixedDevice(self.formats, 48)
        self.method = METHODS[method]

    def run(self, x: np.ndarray, threads: int) -> None:
        """Attribute a batch."""
        numba.set_num_threads(threads)
        self.method.run(self.device, self.p.model.graph, x, 0, **self.p.options)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the last run, for one picture."""
        launches = {launch.kernel: launch for launch in self.device.program}.values()
        return sum(launch.graph.macs() * launch.trips for launch in launches)


def torch_runs(case: Case, x: np.ndarray) -> dict[str, Callable[[], object]]:
    """Return PyTorch's variants of a case: layout and threads."""
    networks = torch_networks()
    made = (
        networks.ResNet18((64, 128, 256, 512), stem_kernel=7, classes=1000)
        if case.model == "resnet18"
        else networks.InceptionV3(classes=1000)
    )
    runs: dict[str, Callable[[], object]] = {}
    for layout, format in (("NCHW", torch.contiguous_format), ("channels last", torch.channels_last)):
        own = fuse(made.eval()).to(memory_format=format)
        for parameter in own.parameters():
            parameter.requires_grad_(False)
        data = torch.tensor(x, dtype=torch.float32).to(memory_format=format)
        for threads in THREADS:
            runs[f"{layout}, {threads} threads"] = _torch_run(own, data, case.method, threads)
    return runs


def _torch_run(network: torch.nn.Module, x: torch.Tensor, method: str, threads: int) -> Callable[[], object]:
    def forward() -> None:
        torch.set_num_threads(threads)
        with torch.no_grad():
            network(x)

    def gradient() -> None:
        torch.set_num_threads(threads)
        inputs = x.clone(memory_format=torch.preserve_format).requires_grad_(True)
        network(inputs)[:, 0].sum().backward()

    def path() -> None:
        from captum.attr import IntegratedGradients

        torch.set_num_threads(threads)
        IntegratedGradients(network).attribute(x, target=0, n_steps=IG_STEPS, internal_batch_size=8)

    return {"forward": forward, "saliency": gradient, "integrated_gradients": path}[method]


def peak_gmacs(threads: int) -> float:
    """Return 10^9 MAC/s of the largest register block for sums that fit 32 bits, on data in the first cache."""
    if not selected().lanes:
        return 0.0
    shape, steps, repeats = selected().whole[0], 64, 20000
    address = block(selected(), shape, fold=False)

    def part(_: int) -> None:
        x, w = aligned((2 * steps,), np.int16), aligned((steps * shape.groups * 32,), np.int16)
        x[:], w[:] = 1, 1
        planes = aligned((2 * shape.pixels * shape.groups * 16,), np.int32)
        _repeat(address, np.full(shape.pixels, x.ctypes.data), np.array([0, 4 * steps]), w, planes, repeats)

    part(0)
    best = min(seconds(lambda: share(part, threads)) for _ in range(5))
    return threads * repeats * shape.pixels * shape.groups * 16 * 2 * steps / best / 1e9


@numba.njit(nogil=True)
def _repeat(address, pixels, segment, w, planes, repeats):  # type: ignore[no-untyped-def] # numba
    for _ in range(repeats):
        call(
            address, (pixels.ctypes.data, segment.ctypes.data, 1, w.ctypes.data, planes.ctypes.data, planes.ctypes.data)
        )


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Return medians, the ratio and throughput of a case."""
    ours = Ours(case.model, case.method)
    generator = np.random.default_rng(0)
    x = np.concatenate([ours.p.sample.x] * case.batch)
    x = x + 0.1 * generator.normal(size=x.shape)  # eight pictures, not one
    own = {threads: (lambda t=threads: ours.run(x, t)) for threads in THREADS}
    first = seconds(own[2])
    theirs = torch_runs(case, x)
    runs: dict[Any, Callable[[], object]] = {**own, **theirs}
    for run in runs.values():
        run()
    times: dict[Any, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds(run))
    medians = {name: statistics.median(values) for name, values in times.items()}
    best, rival = min(own, key=medians.__getitem__), min(theirs, key=medians.__getitem__)
    gmacs = ours.macs * case.batch / medians[best] / 1e9
    return {
        "case": str(case),
        "ours_ms": 1e3 * medians[best],
        "ours_1_thread_ms": 1e3 * medians[1],
        "ours_2_threads_ms": 1e3 * medians[2],
        "torch_ms": 1e3 * medians[rival],
        "torch_best": rival,
        "torch_all_ms": {name: 1e3 * medians[name] for name in theirs},
        "ratio_vs_torch": medians[best] / medians[rival],
        "gmacs_per_s": gmacs,
        "share_of_peak": gmacs / peak if (peak := peak_gmacs(best)) else None,
        "first_run_extra_ms": 1e3 * (first - medians[2]),
    }


def start_times() -> dict[str, float]:
    """Return seconds of a cold and a warm command line: nothing compiled yet, and everything cached by numba."""
    command = [sys.executable, "-m", "xaisim", "profile", "--model", "cifar_cnn", "--method", "saliency", "--json"]
    values = [sys.executable, "-c", _FIRST_VALUES]
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)

        def call(arguments: list[str]) -> float:
            return seconds(
                lambda: subprocess.run(arguments, env=environment, check=True, capture_output=True, cwd=ROOT)
            )

        cold = {"profile_cold_s": call(command), "values_cold_s": call(values)}
        return {**cold, "profile_warm_s": call(command), "values_warm_s": call(values)}


_FIRST_VALUES = """
import numpy as np
from xaisim.models import load_model
from xaisim.attribution.methods import METHODS
from xaisim.numerics.devices import FixedDevice
from xaisim.numerics.formats import Formats, Numerics
graph = load_model("cifar_cnn").graph
device = FixedDevice(Formats(Numerics(uniform="q16.10")), 48)
METHODS["saliency"].run(device, graph, np.zeros((1, 3, 32, 32)), 0)
"""


def main() -> None:
    """Print the table, and as the last line of ``--json`` one JSON object."""
    quick, as_json = "--quick" in sys.argv, "--json" in sys.argv
    console = Console(stderr=as_json)
    cases = (HEADLINE,) if quick else CASES
    rounds = 7 if quick else 9
    results = []
    for case in cases:
        with console.status(f"{case} …") if console.is_terminal else tempfile.TemporaryDirectory():
            results.append(measure(case, 3 if case.method == "integrated_gradients" else rounds))
    started = start_times()
    table = Table(
        "", "ours ms", "torch ms", "ratio", "GMAC/s", "of peak", "torch's best", title="16-bit values and float32"
    )
    for r in results:
        share_text = f"{r['share_of_peak']:.0%}" if r["share_of_peak"] else "–"
        table.add_row(r["case"], f"{r['ours_ms']:.1f}", f"{r['torch_ms']:.1f}", f"{r['ratio_vs_torch']:.2f}",
                      f"{r['gmacs_per_s']:.0f}", share_text, r["torch_best"])  # fmt: skip
    console.print(table)
    console.print("  ".join(f"{name} {value:.2f}" for name, value in started.items()))
    headline = next(r for r in results if r["case"] == str(HEADLINE))
    summary = {"kernels": selected().name, "ratio_vs_torch": headline["ratio_vs_torch"], "cases": results, **started}
    if as_json:
        print(json.dumps(summary))


if __name__ == "__main__":
    main()
