"""Calibration: run the method itself in float64 on sample pictures and note how large every tensor gets.

ranges = calibrate(method, model.graph, samples, options, Numerics())
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from xaisim.attribution.methods import Method
from xaisim.ir.graph import Array, Graph, evaluate
from xaisim.numerics.devices import FloatDevice
from xaisim.numerics.formats import Numerics, Ranges

_MOST_STEPS, _MOST_STEEP = 8, 32
"""Path points per calibration picture: ranges saturate long before attributions converge. A probability's gradient
peaks where it jumps, on a small part of the path, which takes more points to meet."""


def calibrate(
    method: Method,
    graph: Graph,
    samples: Array,
    options: dict[str, Any],
    numerics: Numerics,
    *,
    targets: Sequence[int] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Ranges:
    """Return the ranges of all tensors over ``samples`` (N, C, H, W).

    Each picture is explained for its predicted class; the first few also for every class in ``targets``.
    """
    ranges = Ranges(
        numerics.percentile if numerics.calibration == "percentile" else None,
        histograms={} if numerics.calibration == "min_error" else None,
    )
    options = method.brief(options, _MOST_STEEP if options.get("score") == "probability" else _MOST_STEPS)
    predicted = evaluate(graph, {"input": samples})[graph.outputs[0]].argmax(axis=1)
    jobs = [(i, int(c)) for i, c in enumerate(predicted)]
    jobs += [(i, t) for t in targets for i in range(min(8, len(samples))) if (i, t) not in jobs]
    for done, (i, target) in enumerate(jobs):
        run = method.calibration or method.run
        run(FloatDevice(observe=ranges.see), graph, samples[i : i + 1], target, **options)
        if progress:
            progress(done + 1, len(jobs))
    return ranges
