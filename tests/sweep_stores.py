"""Synthetic stores of sweeps, as ``xaisim explore`` reads them: plausible numbers that no simulator made.

python tests/sweep_stores.py demo.sqlite --points 600          a store to look at; its title says "synthetic"
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SCHEMA = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE points(hash TEXT PRIMARY KEY, inputs TEXT NOT NULL, status TEXT NOT NULL, rung TEXT, outputs TEXT,
  error TEXT, command TEXT, breakdown TEXT, maps TEXT, owner TEXT, started REAL, finished REAL, seconds REAL,
  lease REAL);
CREATE TABLE maps(key TEXT PRIMARY KEY, data TEXT);
"""
OBJECTIVES = [
    {"name": "latency_ms", "direction": "min"},
    {"name": "energy_mj", "direction": "min"},
    {"name": "area_mm2", "direction": "min"},
    {"name": "fidelity.spearman", "direction": "max"},
]
SPACE = """arch.array.rows: [4, 8, 16, 32, 64]
arch.array.cols: [4, 8, 16, 32, 64]
arch.memories.buffer.size: [16KiB, 64KiB, 256KiB]
arch.dram.bytes_per_cycle: [4, 8, 16]
method: [saliency, integrated_gradients, guided_backprop]
method.n_steps: {log: [8, 256]}
numerics.weights: [4, 6, 8, 12, 16]
constraints: [fits: zcu104, latency_ms < 2000]
"""
METHODS = ("saliency", "integrated_gradients", "guided_backprop")
START = 1_790_000_000.0


def write_store(
    path: Path, points: int, *, seed: int = 0, statuses: dict[str, float] | None = None, version: int = 1
) -> Path:
    """Write a store with so many points; ``statuses`` are the shares of each, by default mostly done."""
    random = np.random.default_rng(seed)
    shares = statuses or {"done": 0.88, "pruned": 0.08, "failed": 0.03, "running": 0.01}
    with sqlite3.connect(path) as db:
        db.executescript(SCHEMA)
        db.execute(f"PRAGMA user_version = {version}")
        meta = {"space": SPACE, "objectives": json.dumps(OBJECTIVES), "version": "0.1.0", "title": "synthetic sweep"}
        db.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        names = random.choice(list(shares), size=points, p=np.array(list(shares.values())) / sum(shares.values()))
        for number, status in enumerate(names):
            db.execute(f"INSERT INTO points VALUES ({','.join('?' * 14)})", _row(random, number, str(status)))
        for bits in (4, 6, 8, 12, 16) if points else ():
            for method in METHODS:
                db.execute("INSERT INTO maps VALUES (?, ?)", (f"{method}-{bits}", json.dumps(_map(method, bits))))
    db.close()
    return path


def _row(random: np.random.Generator, number: int, status: str) -> tuple[Any, ...]:
    inputs = _inputs(random, number)
    hash = hashlib.sha256(json.dumps([number, inputs]).encode()).hexdigest()
    outputs, breakdown = _outputs(random, inputs)
    error = None
    if status == "pruned":
        error = f"latency_ms < 2000: it is {outputs['latency_ms'] + 2000:.0f}"
        outputs = {"latency_ms": outputs["latency_ms"] + 2000}
    elif status == "failed":
        error = str(random.choice(["memory 'buffer': no tile of layer3.0.conv1 fits <16 KiB>", "worker lost 3 times"]))
    rung = {"done": "all", "pruned": "clock", "running": "bound", "failed": "bound"}[status]
    done, method = status == "done", inputs["method"]
    steps, bits = inputs["method.n_steps"], inputs["numerics.weights"]
    command = f"xaisim explain --method {method} --n-steps {steps} --numerics fixed16:weights={bits}"
    started = START + 2.0 * number + float(random.uniform(0, 1))
    seconds = float(random.gamma(2.0, 0.8))
    return (
        hash, json.dumps(inputs), status, rung, json.dumps(outputs) if done or status == "pruned" else None, error,
        command, json.dumps(breakdown) if done else None, f"{method}-{bits}" if done else None,
        "worker-0", started, None if status == "running" else started + seconds,
        None if status == "running" else seconds, None,
    )  # fmt: skip


def _timeline(random: np.random.Generator, cycles: int) -> dict[str, Any]:
    """Return a forward launch and ten of a gradient, one trip with three units and eight layers."""
    launches = [
        {"kernel": "forward", "count": 1, "trips": 1, "cycles": cycles // 4, "host": 200},
        {"kernel": "path gradient", "count": 10, "trips": 5, "cycles": cycles * 3 // 40, "host": 200},
    ]
    units = {name: random.integers(0, 101, 100).tolist() for name in ("dma", "array", "vector")}
    layers = [(f"layer{i}", 125 * i, 125 * i + 120) for i in range(8)]
    return {"launches": launches, "longest": 1,
            "trip": {"cycles": cycles // 70, "points": 5, "units": units, "layers": layers}}  # fmt: skip


def _inputs(random: np.random.Generator, number: int) -> dict[str, Any]:
    later = min(1.0, number / 400)  # a sampler that learns: larger arrays, moderate widths
    size = [4, 8, 16, 32, 64]
    weights = np.array([1, 1, 1 + later, 1 + 2 * later, 1])
    return {
        "arch.array.rows": int(random.choice(size, p=weights / weights.sum())),
        "arch.array.cols": int(random.choice(size, p=weights / weights.sum())),
        "arch.memories.buffer.size": str(random.choice(["16KiB", "64KiB", "256KiB"])),
        "arch.dram.bytes_per_cycle": int(random.choice([4, 8, 16])),
        "method": str(random.choice(METHODS)),
        "method.n_steps": round(2 ** float(random.uniform(3, 8))),
        "numerics.weights": int(random.choice([4, 6, 8, 12, 16])),
    }


def _outputs(random: np.random.Generator, inputs: dict[str, Any]) -> tuple[dict[str, float], dict[str, Any]]:
    elements = inputs["arch.array.rows"] * inputs["arch.array.cols"]
    trips = inputs["method.n_steps"] if inputs["method"] == "integrated_gradients" else 1
    bits, bandwidth = inputs["numerics.weights"], inputs["arch.dram.bytes_per_cycle"]
    buffer = {"16KiB": 16, "64KiB": 64, "256KiB": 256}[inputs["arch.memories.buffer.size"]]
    compute = 4e7 * trips / elements * float(random.uniform(1.05, 1.3))
    waiting = 2.4e6 * trips * bits / bandwidth / np.sqrt(buffer) * float(random.uniform(0.7, 1.2))
    cycles = round(compute + waiting)
    array, dram = 0.0004 * compute * elements * (bits / 16) ** 1.6 / 1e3, 0.05 * waiting * bandwidth / 1e3
    area = 0.15 + 0.0021 * elements * (bits / 8) ** 1.3 + 0.004 * buffer
    leak = 0.002 * area * cycles / 1e3
    energy = array + dram + leak
    faithful = (
        1 - 0.75 * 2 ** (-(bits - 2) / 2.2) * float(random.uniform(0.6, 1.3)) - (0.12 / trips if trips > 1 else 0.03)
    )
    outputs = {
        "latency_ms": cycles / 1e5, "cycles": cycles, "energy_mj": energy / 1e3, "area_mm2": area,
        "fidelity.spearman": max(0.02, faithful), "fidelity.sqnr_db": 5.6 * bits - 18 + float(random.normal(0, 2)),
    }  # fmt: skip
    breakdown = {
        "cycles": {"busy": round(compute), "load": round(waiting * 0.7), "store": round(waiting * 0.3)},
        "energy_uj": {"array": array, "dram": dram, "leakage": leak},
        "phases": {"forward": round(cycles * 0.36), "backward": round(cycles * 0.6), "path": round(cycles * 0.04)},
        "timeline": _timeline(random, round(cycles)),
    }
    return {name: float(f"{value:.6g}") for name, value in outputs.items()}, breakdown


def _map(method: str, bits: int, side: int = 32) -> dict[str, Any]:
    """A smooth blob with texture, and the same rounded to so many bits."""
    random = np.random.default_rng(METHODS.index(method))
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    blob = np.exp(-((x - 0.1) ** 2 + (y + 0.05) ** 2) / 0.03)
    exact = blob * random.normal(0.4, 1, (side, side)) + 0.05 * random.normal(0, 1, (side, side))
    step = 2 * np.abs(exact).max() / 2**bits
    picture = np.clip(0.25 + 0.7 * blob[..., None] * [1, 0.9, 0.6] + 0.1 * random.random((side, side, 3)), 0, 1) * 255
    file = io.BytesIO()
    Image.fromarray(picture.astype(np.uint8)).save(file, "PNG")
    return {
        "picture": base64.b64encode(file.getvalue()).decode(),
        "shape": [side, side],
        "float": [round(float(v), 4) for v in exact.ravel()],
        "fixed": [round(float(v), 4) for v in (np.round(exact / step) * step).ravel()],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--points", type=int, default=600)
    given = parser.parse_args()
    write_store(given.store, given.points)
