"""Calibration: run the method itself in float64 on sample pictures and note how large every tensor gets.

ranges = calibrate(method, model.graph, samples, options, Numerics())
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from xaisim.attribution.along_path import probed
from xaisim.attribution.methods import Method
from xaisim.attribution.path_kernels import point_gradients
from xaisim.attribution.points import Points, ends_of
from xaisim.attribution.sampling import steepest
from xaisim.ir.graph import Array, Graph, evaluate
from xaisim.numerics.devices import FloatDevice
from xaisim.numerics.formats import Numerics, Ranges

_MOST_STEPS, _MOST_STEEP = 8, 32
"""Path points (or samples) per calibration picture: ranges saturate long before attributions converge. A probability's
gradient peaks where it jumps, which takes more of them to meet where there is no path to search."""
_STEEPER, _STEEPER_MAPS = 2.0, 4.0
"""How much steeper a picture's jump may be than those of all calibration pictures. Maps have bits to spare."""
_MAPS = ("path.mean_gradient", "attribution", "attribution.sum")


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
    steep = options.get("score") == "probability"
    peaks = steep and "baseline" in options
    options = method.brief(options, _MOST_STEEP if steep and not peaks else _MOST_STEPS)
    predicted = evaluate(graph, {"input": samples})[graph.outputs[0]].argmax(axis=1)
    jobs = [(i, int(c)) for i, c in enumerate(predicted)]
    jobs += [(i, t) for t in targets for i in range(min(8, len(samples))) if (i, t) not in jobs]
    for done, (i, target) in enumerate(jobs):
        run = method.calibration or method.run
        run(FloatDevice(observe=ranges.see), graph, samples[i : i + 1], target, **options)
        if peaks:
            see_peak(graph, samples[i : i + 1], options["baseline"], target, ranges)
        if progress:
            progress(done + 1, len(jobs))
    if peaks:
        ranges.widen(_MAPS, _STEEPER_MAPS)
    return ranges


def see_peak(graph: Graph, x: Array, baseline: Array | float, target: int, ranges: Ranges) -> None:
    """Take note of the gradient where the probability of ``target`` jumps on the way to ``x``.

    The jump may be a hundredth of the path and its gradient larger than any other by orders of magnitude, so points
    at fixed places miss it; forward passes find it.
    """
    ends, device = ends_of(x, baseline), FloatDevice()
    alphas = steepest(lambda alphas: probed(device, graph, ends, target, alphas, "probability"))
    backward = {node.name for node in point_gradients(graph, target, "probability").graph.nodes if node.backward}

    def see(name: str, values: Array) -> None:
        ranges.see(name, values * _STEEPER if name in backward else values)

    Points(FloatDevice(observe=see), graph, ends, target, "probability").launch(alphas)
