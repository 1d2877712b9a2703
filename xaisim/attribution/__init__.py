"""Gradients, paths and attribution methods as functions over a device."""

from xaisim.attribution.methods import METHODS, Method

__all__ = ["METHODS", "Method"]
