"""Libraries that a test compares with; with ``XAISIM_EVERY_ORACLE`` set, as in CI, they must be there."""

from __future__ import annotations

import importlib
import importlib.util
import os
from types import ModuleType

import pytest


def oracle(name: str) -> ModuleType:
    """Return the library, or skip the test that needs it."""
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        if os.environ.get("XAISIM_EVERY_ORACLE"):
            pytest.fail(f"XAISIM_EVERY_ORACLE is set, and this test needs {name}")
        pytest.skip(f"needs {name}")
    return importlib.import_module(name)
