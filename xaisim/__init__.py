"""xaisim: what it costs to explain a network on a given accelerator, in cycles, joules and lost fidelity.

report = xaisim.explain(model="resnet18_tiny", method="integrated_gradients", arch="pynq_z2")
report.cycles.total, report.energy_uj.total, report.fidelity.spearman, report.attribution
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from xaisim.version import __version__

__all__ = ["__version__", "attribute", "diff", "explain", "fewest_bits", "profile", "sensitivity"]

if TYPE_CHECKING:
    from xaisim.api import attribute, diff, explain, fewest_bits, profile, sensitivity


def __getattr__(name: str) -> Any:
    """Import the API on first use: ``import xaisim`` itself stays instant."""
    if name in ("adapters", "attr"):
        return import_module(f"xaisim.{name}")
    if name in ("attribute", "diff", "explain", "fewest_bits", "profile", "sensitivity"):
        return getattr(import_module("xaisim.api"), name)
    raise AttributeError(f"module 'xaisim' has no attribute {name!r}")
