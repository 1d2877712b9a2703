"""What a dataflow chosen per layer is worth: three systolic arrays of one dataflow each beside one that has the choice.

python benchmarks/forms.py [--objective energy]      rows of a Markdown table
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from typing import get_args

from xaisim.attribution.methods import METHODS
from xaisim.experiment import Experiment, Options, prepare
from xaisim.mapping.tiling import Objective
from xaisim.numerics.devices import DryDevice
from xaisim.numerics.formats import Formats
from xaisim.simulate.energy import Repeated, energy_account
from xaisim.simulate.program import time_program

MACHINES = ("edge_systolic_16", "edge_systolic_16_ws", "edge_systolic_16_is", "edge_systolic_16_flex")
CASES = {
    "ResNet18 gradient": Experiment(model="resnet18", weights="random", method="saliency"),
    "narrow ResNet18 IG-50": Experiment(
        model="resnet18_tiny", method="integrated_gradients", options=Options(n_steps=50)
    ),
}


def row(name: str, case: Experiment, machine: str, objective: Objective) -> str:
    """Return cycles, energy and how many stages of forward and backward run in which form."""
    p = prepare(case.model_copy(update={"arch": machine, "objective": objective}), values=False)
    device = p.device(Formats(p.numerics), DryDevice)
    METHODS[case.method].run(device, p.model.graph, p.sample.x, 0, **p.options)
    begin = time.process_time()
    timing = time_program(device.program, p.arch, p.wish)
    seconds = time.process_time() - begin
    runs = [Repeated(launch.schedule, launch.timing.trips) for launch in timing.launches]
    energy = sum(item.uj for item in energy_account(runs, p.arch)) / 1e3
    used: Counter[tuple[bool, str]] = Counter()
    for schedule, *_ in runs:
        for stage, mapping in zip(schedule.stages, schedule.mappings, strict=True):
            if stage.on_array:
                used[stage.anchor.backward, str(p.arch.array.forms[mapping.spatial])] += 1
    halves = (", ".join(f"{used[half, str(f)]} {f}" for f in p.arch.array.forms) for half in (False, True))
    return f"| {name} | {machine} | {timing.cycles:,} | {energy:.4g} | {' | '.join(halves)} | {seconds:.1f} |"


def main() -> None:
    """Print a row per machine and case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objective", choices=get_args(Objective), default="latency")
    objective = parser.parse_args().objective
    print("| case | machine | cycles | energy, mJ | forward stages | backward stages | search, s |")
    print("|---|---|---|---|---|---|---|")
    for name, case in CASES.items():
        for machine in MACHINES:
            print(row(name, case, machine, objective))


if __name__ == "__main__":
    main()
