"""Metrics of attribution maps: close to float? faithful? robust? noisy? at the evidence? Defined in docs/metrics.md.

from xaisim.metrics import spearman, deletion, autvc, pointing_hit
"""

from xaisim.metrics.curve import Curve
from xaisim.metrics.faithfulness import aupc, deletion, insertion
from xaisim.metrics.fidelity import (
    cosine,
    max_error_lsb,
    nrmse,
    pearson,
    ranks,
    sign_agreement,
    spearman,
    sqnr_db,
    ssim,
    top_count_intersection,
    top_k_intersection,
)
from xaisim.metrics.localisation import pointing_hit, relevance, relevance_mass, relevance_rank
from xaisim.metrics.model import Scores
from xaisim.metrics.noise import atv, autvc
from xaisim.metrics.robustness import gaussian_perturbations, infidelity, max_sensitivity, square_perturbations

__all__ = [
    "Curve",
    "Scores",
    "atv",
    "aupc",
    "autvc",
    "cosine",
    "deletion",
    "gaussian_perturbations",
    "infidelity",
    "insertion",
    "max_error_lsb",
    "max_sensitivity",
    "nrmse",
    "pearson",
    "pointing_hit",
    "ranks",
    "relevance",
    "relevance_mass",
    "relevance_rank",
    "sign_agreement",
    "spearman",
    "sqnr_db",
    "square_perturbations",
    "ssim",
    "top_count_intersection",
    "top_k_intersection",
]
