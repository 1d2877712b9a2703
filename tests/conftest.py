"""Hypothesis profiles: a few examples on every run, reproducible ones in CI, many with HYPOTHESIS_PROFILE=thorough."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # tests run side by side already: one thread each, set before numpy loads
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

from hypothesis import HealthCheck, settings

_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

settings.register_profile("default", deadline=None, max_examples=40, suppress_health_check=_QUIET)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, print_blob=True)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))
