"""Captum's objects over simulated accelerators: the same names, arguments, defaults and shapes.

    ig = IntegratedGradients("resnet18_tiny", arch="zcu104", numerics="fixed8")
    maps, delta = ig.attribute(inputs, target=3, n_steps=50, return_convergence_delta=True)

Inputs (N, C, H, W) are normalised as the network wants them: arrays, or torch tensors, which then come back.
``device="float"`` is the float64 reference. Where Captum does something else on purpose, the docstring says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import numpy as np

from xaisim.api import attribute
from xaisim.config import UserError, choose
from xaisim.ir.graph import Array

Target = int | list[int] | Array | None


class Attribution:
    """What all objects share: a network, a machine, and numbers; arrays in, arrays out."""

    explainer: ClassVar[str]

    def __init__(
        self, model: str = "resnet18_tiny", *, device: str = "fixed", arch: str = "pynq_z2", numerics: Any = "fixed16",
        weights: str | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        """``model``, ``arch``, ``numerics``, ``weights`` and ``seed`` as for :func:`xaisim.explain`."""
        self.settings: dict[str, Any] = {
            "model": model, "device": device, "arch": arch, "numerics": numerics, "weights": weights, "seed": seed
        }  # fmt: skip

    def _attribute(self, inputs: Any, target: Any, **options: Any) -> Any:
        x = _array(inputs)
        found = attribute(x, explainer=self.explainer, target=_array(target), **self.settings, **options)
        parts = found if isinstance(found, tuple) else (found,)
        back = tuple(_like(part, inputs) for part in parts)
        return back if isinstance(found, tuple) else back[0]

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.settings.items() if value is not None)
        return f"{type(self).__name__}({given})"


class Saliency(Attribution):
    """Gradients of the class score (Simonyan et al. 2014)."""

    explainer = "saliency"

    def attribute(
        self, inputs: Any, target: Target = None, abs: bool = True, additional_forward_args: None = None
    ) -> Any:  # fmt: skip
        """Return gradients (N, C, H, W), their magnitudes unless ``abs`` is false."""
        _no_more(additional_forward_args)
        found = self._attribute(inputs, target)
        return found.__abs__() if abs else found


class InputXGradient(Attribution):
    """Gradients times inputs (Shrikumar et al. 2016)."""

    explainer = "input_x_gradient"

    def attribute(self, inputs: Any, target: Target = None, additional_forward_args: None = None) -> Any:
        """Return (N, C, H, W)."""
        _no_more(additional_forward_args)
        return self._attribute(inputs, target)


class Deconvolution(Attribution):
    """Gradients whose ReLUs pass what is positive (Zeiler and Fergus 2014); at every ReLU, not at modules alone."""

    explainer = "deconvnet"

    def attribute(self, inputs: Any, target: Target = None, additional_forward_args: None = None) -> Any:
        """Return (N, C, H, W)."""
        _no_more(additional_forward_args)
        return self._attribute(inputs, target)


class GuidedBackprop(Attribution):
    """Gradients whose ReLUs pass positive gradients of positive inputs (Springenberg et al. 2015); at every ReLU."""

    explainer = "guided_backprop"

    def attribute(self, inputs: Any, target: Target = None, additional_forward_args: None = None) -> Any:
        """Return (N, C, H, W)."""
        _no_more(additional_forward_args)
        return self._attribute(inputs, target)


class LayerGradCam(Attribution):
    """GradCAM of one layer (Selvaraju et al. 2017), of the layer's size."""

    explainer = "gradcam"

    def __init__(self, model: str = "resnet18_tiny", layer: str | None = None, **settings: Any) -> None:
        """``layer`` is a feature map by its name, by default the last one; ``settings`` as for :class:`Attribution`."""
        super().__init__(model, **settings)
        self.layer = layer

    def attribute(
        self,
        inputs: Any,
        target: Target = None,
        additional_forward_args: None = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = False,
        attr_dim_summation: bool = True,
    ) -> Any:
        """Return (N, 1, h, w): the channels' sum, upsampled by no one; of a layer's output, as no other is there."""
        _no_more(additional_forward_args)
        if attribute_to_layer_input or not attr_dim_summation:
            raise UserError("a layer's map is the sum over channels at its output; name the layer before for its input")
        return self._attribute(inputs, target, layer=self.layer, upsample="none", relu=relu_attributions)


class GuidedGradCam(Attribution):
    """Guided backprop times GradCAM of one layer (Selvaraju et al. 2017)."""

    explainer = "guided_gradcam"

    def __init__(self, model: str = "resnet18_tiny", layer: str | None = None, **settings: Any) -> None:
        """``layer`` and ``settings`` as for :class:`LayerGradCam`."""
        super().__init__(model, **settings)
        self.layer = layer

    def attribute(
        self, inputs: Any, target: Target = None, additional_forward_args: None = None,
        interpolate_mode: str = "nearest",
    ) -> Any:  # fmt: skip
        """Return (N, C, H, W); ``interpolate_mode`` is ``nearest`` or ``bilinear``."""
        _no_more(additional_forward_args)
        return self._attribute(inputs, target, layer=self.layer, upsample=interpolate_mode)


class AttributionObject(Protocol):
    """Any of the objects here."""

    settings: dict[str, Any]

    @property
    def attribute(self) -> Callable[..., Any]:
        """Attribute a batch."""


class NoiseTunnel:
    """Any object here, averaged over noisy copies of the inputs: SmoothGrad, its square and VarGrad.

    The host draws the noise and averages. On the chip, in one launch, do so ``AnyMethod("smoothgrad")``
    and ``AnyMethod("smooth_taylor")``, whose cycles ``xaisim.profile`` counts.
    """

    def __init__(self, attribution_method: AttributionObject) -> None:
        self.attribution_method = attribution_method

    def attribute(
        self,
        inputs: Any,
        nt_type: str = "smoothgrad",
        nt_samples: int = 5,
        nt_samples_batch_size: int | None = None,
        stdevs: float = 1.0,
        *,
        target: Target = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> Any:
        """Return the mean (``smoothgrad``), mean square (``smoothgrad_sq``) or variance (``vargrad``), (N, C, H, W).

        Noise is normal with deviation ``stdevs``, the same for the same ``seed``; ``kwargs`` go to the method. One
        noisy copy is computed after the other, whatever ``nt_samples_batch_size`` says: no bit depends on it.
        """
        del nt_samples_batch_size
        if kwargs.get("return_convergence_delta"):
            raise UserError("a NoiseTunnel has no convergence delta")
        choose("nt_type", nt_type, ("smoothgrad", "smoothgrad_sq", "vargrad"))
        if nt_samples < 1:
            raise UserError(f"nt_samples must be at least 1, got {nt_samples}")
        x = np.asarray(_array(inputs), np.float64)
        noise = np.random.default_rng(seed).normal(scale=stdevs, size=(nt_samples, *x.shape))
        targets = np.broadcast_to(np.asarray(_array(target)), len(x)) if target is not None else self._predicted(x)
        maps = [np.asarray(self.attribution_method.attribute(x + own, target=targets, **kwargs)) for own in noise]
        mean = np.mean(maps, axis=0)
        if nt_type == "smoothgrad":
            return _like(mean, inputs)
        squares = np.mean(np.square(maps), axis=0)
        return _like(squares - mean**2 if nt_type == "vargrad" else squares, inputs)

    def _predicted(self, x: Array) -> Array:
        """Return the classes of the inputs without noise, which are those that are explained."""
        settings = {**self.attribution_method.settings, "device": "float"}
        return np.asarray(attribute(x, explainer="forward", **settings)).argmax(axis=1)


class IntegratedGradients(Attribution):
    """Integrated Gradients (Sundararajan et al. 2017), multiplied by inputs minus baselines."""

    explainer = "integrated_gradients"

    def attribute(
        self,
        inputs: Any,
        baselines: Any = None,
        target: Target = None,
        additional_forward_args: None = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
    ) -> Any:
        """Return (N, C, H, W), and with ``return_convergence_delta`` the deltas (N,), too.

        ``baselines`` is 0 by default. ``method`` is the quadrature, with Captum's names; ``riemann_trapezoid`` is the
        trapezoid rule, whose weights sum to 1. Captum's do not: they are ``captum_trapezoid`` here.
        """
        _no_more(additional_forward_args)
        return self._attribute(
            inputs, target, baselines=_array(baselines), n_steps=n_steps, method=method,
            internal_batch_size=internal_batch_size, return_convergence_delta=return_convergence_delta,
        )  # fmt: skip


class AnyMethod(Attribution):
    """Every other method by its name here, with its options as keywords: ``AnyMethod("nuig", "cifar_cnn")``."""

    def __init__(self, explainer: str, *arguments: Any, **settings: Any) -> None:
        """``explainer`` is a name that ``xaisim list`` prints; the rest as for :class:`Attribution`."""
        super().__init__(*arguments, **settings)
        self.explainer = explainer  # type: ignore[misc]

    def attribute(
        self,
        inputs: Any,
        baselines: Any = None,
        target: Target = None,
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
        **options: Any,
    ) -> Any:
        """Return what the method makes of each input, and with ``return_convergence_delta`` the deltas, too."""
        return self._attribute(
            inputs, target, baselines=_array(baselines), internal_batch_size=internal_batch_size,
            return_convergence_delta=return_convergence_delta, **options,
        )  # fmt: skip


def _no_more(additional_forward_args: None) -> None:
    if additional_forward_args is not None:
        raise UserError("additional_forward_args: these networks take their input alone")


def _array(given: Any) -> Any:
    """Return a torch tensor as an array; anything else as it is."""
    if isinstance(given, tuple):
        raise UserError("inputs, baselines and targets are single arrays: these networks have one input")
    if hasattr(given, "detach"):
        return given.detach().cpu().numpy()
    return given


def _like(found: Array, given: Any) -> Any:
    """Return an array as what was given: a torch tensor of the same kind, or an array."""
    if hasattr(given, "new_tensor"):
        return given.new_tensor(np.asarray(found))
    return found
