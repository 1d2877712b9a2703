"""How long bit-accurate values take beside PyTorch's float32: ResNet18 @224, forward and input gradient, batch 1.

    python benchmarks/values.py [--quick] [--json]

One process, the two in turn, the median of the pairs. Needs PyTorch (`pip install 'xaisim[torch]'`).
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from xaisim.api import experiment_of
from xaisim.attribution.methods import METHODS
from xaisim.experiment import prepare
from xaisim.flow import calibrated
from xaisim.numerics.devices import FixedDevice, FloatDevice


def seconds(run: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def torch_resnet18() -> torch.nn.Module:
    """Return the torch ResNet18 that stands under workloads/."""
    path = Path(__file__).parents[1] / "workloads" / "networks_torch.py"
    spec = importlib.util.spec_from_file_location("networks_torch", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["networks_torch"] = module
    spec.loader.exec_module(module)
    return module.ResNet18((64, 128, 256, 512), stem_kernel=7, classes=1000).eval()


def main() -> None:
    """Print medians and ratios."""
    pairs = 3 if "--quick" in sys.argv else 9
    p = prepare(experiment_of(model="resnet18", method="saliency", weights="random"))
    formats, _ = calibrated(p)
    network = torch_resnet18()
    x32 = torch.tensor(p.sample.x, dtype=torch.float32)

    def fixed() -> None:
        METHODS["saliency"].run(FixedDevice(formats, 48), p.model.graph, p.sample.x, 0)

    def real() -> None:
        METHODS["saliency"].run(FloatDevice(), p.model.graph, p.sample.x, 0)

    def reference() -> None:
        x = x32.clone().requires_grad_(True)
        network(x)[0, 0].backward()

    runs = {"fixed16": fixed, "float64": real, "torch_float32": reference}
    for run in runs.values():
        run()  # compile and warm up
    times = {name: [] for name in runs}
    for _ in range(pairs):
        for name, run in runs.items():
            times[name].append(seconds(run))
    ratio = np.array(times["fixed16"]) / np.array(times["torch_float32"])
    result = {
        "network": "resnet18 @224, forward and input gradient, batch 1",
        "torch_threads": torch.get_num_threads(),
        **{f"{name}_ms": 1e3 * statistics.median(values) for name, values in times.items()},
        "ratio_vs_torch": float(np.median(ratio)),
    }
    print(json.dumps(result) if "--json" in sys.argv else "\n".join(f"{k:16s} {v}" for k, v in result.items()))


if __name__ == "__main__":
    main()
