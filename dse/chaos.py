"""How far float64 maps of AGI and Guided IG part when their picture is disturbed, beside what 16 bits do.

python dse/chaos.py           a minute: SQNR in dB on the first four test scenes of resnet18_tiny
"""

from __future__ import annotations

import numpy as np

from xaisim.attribution.methods import METHODS
from xaisim.metrics import sqnr_db
from xaisim.models.load import load_model
from xaisim.numerics.devices import FloatDevice
from xaisim.studies.bench import Bench, Contender, float_map
from xaisim.studies.pictures import pictures
from xaisim.studies.study import Setting

NOISE = (1e-6, 1e-4, 1e-3)


def main() -> None:
    """Print a line per method and scene."""
    model = load_model("resnet18_tiny")
    bench = Bench(model, "ultra96_v2")
    print("method     scene    " + "".join(f"noise {sigma:g}".rjust(14) for sigma in NOISE) + "fixed16".rjust(10))
    for contender in (Contender("AGI", "agi"), Contender("Guided IG", "guided_ig", {"n_steps": 50})):
        prepared, _ = bench.prepared(contender)
        run = METHODS[contender.method].run
        for sample in pictures(model, Setting(), 4, 4):
            target = bench.target(sample)
            exact = float_map(model, contender, prepared, sample, target)
            found = []
            for sigma in NOISE:
                x = sample.x + np.random.default_rng(0).normal(scale=sigma, size=sample.x.shape)
                found.append(run(FloatDevice(), model.graph, x, target, **prepared.options).real())
            ratios = [f"{sqnr_db(exact, made):.1f}" for made in (*found, bench.run(contender, sample, target).map)]
            row = "".join(text.rjust(14) for text in ratios[:-1]) + ratios[-1].rjust(10)
            print(f"{contender.name:10s} {sample.name:8s} {row}")


if __name__ == "__main__":
    main()
