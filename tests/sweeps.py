"""Small sweeps for tests: spaces that are cheap, and stores compared without clocks and owners."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from xaisim.sweep.space import Space, load_space

SMALL = """
title: twelve points
base: {model: cifar_cnn, method: saliency, arch: edge_systolic_16}
space:
  arch.array.rows: [8, 16, 32]
  arch.memories.weights.size: [32KiB, 64KiB]
  arch.memories.dram.bytes_per_cycle: [8, 16]
constraints: [area_mm2 < 0.9]
objectives: {latency_ms: min, energy_mj: min, area_mm2: min}
"""


def space_file(folder: Path, text: str = SMALL, name: str = "space.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def space_of(folder: Path, text: str = SMALL) -> Space:
    return load_space(space_file(folder, text))


def content(store: Path) -> list[tuple[Any, ...]]:
    """Return all that a store says of its points but when, by whom and in which order."""
    columns = "hash, inputs, status, rung, outputs, error, command, breakdown, maps"
    with sqlite3.connect(store) as db:
        return db.execute(f"SELECT {columns} FROM points ORDER BY hash").fetchall()


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """Start ``xaisim sweep`` as a process of its own."""
    command = [sys.executable, "-m", "xaisim", "sweep", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


def ended(process: subprocess.Popen[bytes]) -> str:
    """Wait for a sweep and return what it said on stderr; it must have ended well."""
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told.decode()
    return told.decode()
