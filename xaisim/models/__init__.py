"""Networks as graphs: the built-in ones, their weights, and the images they look at."""

from xaisim.models.load import Model, load_model
from xaisim.models.networks import NETWORKS

__all__ = ["NETWORKS", "Model", "load_model"]
