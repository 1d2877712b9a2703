"""The attribution methods by name: each an ordinary function that launches kernels on a device.

    METHODS["integrated_gradients"].run(device, model.graph, x, target, n_steps=50)

*Where* is the layer, *how often* is the trip count, *which rule* is the gradient table: no class per combination.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from xaisim.attribution import (
    adaptive,
    adaptive_path,
    along_path,
    cams,
    expected,
    single,
    smoothing,
    stepwise,
    weighed_after,
)
from xaisim.attribution.device import Tensor

COUNTS = {"n_steps", "n_samples", "n_pilots", "n_iterations", "max_iter", "k_classes"}
"""Options that say how often something is repeated."""
_OUTER = {"k_classes": 4}
"""Those around another: a short run has so many times fewer of them."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method and the options it takes."""

    run: Callable[..., Tensor]
    batched: bool = False
    """Takes a batch of inputs of one class at once; the others decide by input, and take one."""
    complete: bool = False
    """The attribution sums to F(x) − F(x'), up to quadrature and rounding."""
    stops: bool = False
    """How much it launches depends on what the host sees; a profile times the most that there can be."""
    calibration: Callable[..., object] | None = None
    """What meets the same ranges in less time than ``run``; takes its arguments."""
    check: Callable[..., object] | None = None
    """Called with all options as keywords; raises ``ValueError`` where they do not go together."""

    @property
    def options(self) -> dict[str, Any]:
        """Option names and their defaults (``inspect.Parameter.empty`` where one must be given)."""
        parameters = inspect.signature(self.run).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}

    def brief(self, options: Mapping[str, Any], most: int) -> dict[str, Any]:
        """Return the options with everything that is repeated done ``most`` times, or as often as it must be."""
        counts = {name: options[name] for name in COUNTS & options.keys() if options[name] is not None}
        while True:
            at_most = {name: max(1, most // _OUTER.get(name, 1)) for name in counts}
            few = {**options, **{name: min(count, at_most[name]) for name, count in counts.items()}}
            try:
                if self.check is not None:
                    self.check(**few)
                return few
            except ValueError:
                if most > max(counts.values(), default=0):
                    raise
                most *= 2

    def few(self, most: int) -> dict[str, Any]:
        """Return what of ``brief`` defaults says how often something is repeated: options for a short run."""
        return {name: value for name, value in self.brief(self.options, most).items() if name in COUNTS}

    @property
    def summary(self) -> str:
        """One line for a list of choices."""
        return (inspect.getdoc(self.run) or "").splitlines()[0]


METHODS: dict[str, Method] = {
    "forward": Method(single.forward, batched=True),
    "saliency": Method(single.saliency, batched=True),
    "input_x_gradient": Method(single.input_x_gradient, batched=True),
    "deconvnet": Method(single.deconvnet, batched=True),
    "guided_backprop": Method(single.guided_backprop, batched=True),
    "gradcam": Method(cams.gradcam, batched=True),
    "guided_gradcam": Method(cams.guided_gradcam, batched=True, check=cams.check_upsampling),
    "gradcam_plus_plus": Method(cams.gradcam_plus_plus, batched=True),
    "layercam": Method(cams.layercam, batched=True),
    "integrated_gradients": Method(along_path.integrated_gradients, complete=True, check=along_path.check_path),
    "nuig": Method(along_path.non_uniform, complete=True, check=along_path.check_intervals),
    "riemann_opt": Method(along_path.learnt_path, complete=True),
    "adaptive_ig": Method(adaptive_path.adaptive, complete=True, check=adaptive_path.check_points, stops=True),
    "left_ig": Method(weighed_after.left_integrated_gradients, check=along_path.check_path),
    "idg": Method(weighed_after.decision_gradients, check=weighed_after.check_pilots),
    "idgi": Method(weighed_after.important_directions, complete=True),
    "smoothgrad": Method(smoothing.smoothgrad, check=smoothing.check_noise),
    "smooth_taylor": Method(smoothing.smooth_taylor),
    "adaptive_smooth_taylor": Method(adaptive.adaptive_smooth_taylor, stops=True, calibration=adaptive.for_calibration),
    "expected_gradients": Method(expected.expected_gradients),
    "blur_ig": Method(expected.blur_ig),
    "guided_ig": Method(stepwise.guided_ig, complete=True, stops=True),
    "agi": Method(stepwise.agi, stops=True),
}
