"""Gradients, paths and attribution methods as functions over a device, and the metrics that compare maps."""

from xaisim.attribution.methods import METHODS, Method

__all__ = ["METHODS", "Method"]
