"""What the page gets: the store by columns, the front and the progress, ready for JSON.

with Store.read(path) as store:
    payload(store)
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Any

import numpy as np

from xaisim.config import UserError, parse_bytes
from xaisim.explore.labels import label_of, short_names
from xaisim.sweep.front import costs_of, hypervolumes, nondominated
from xaisim.sweep.rules import Objective
from xaisim.sweep.store import Row, Store

STATUSES = ("done", "running", "pruned", "failed")
_STEPS = 200  # of the progress line, at most: large fronts take a while to measure


def payload(store: Store) -> dict[str, Any]:
    """Return the columns of all points and what is known of the whole."""
    meta, objectives, points = store.meta(), store.objectives(), store.points()
    columns = [
        _categories("status", "status", "state", [p.status for p in points]),
        _categories("rung", "evaluated up to", "state", [p.rung for p in points]),
        *_group("input", [p.inputs for p in points]),
        *_group("output", [p.outputs for p in points]),
        _numbers("seconds", ("time to evaluate", "s"), "state", [p.seconds for p in points]),
    ]
    return {
        "source": store.path.name,
        "title": meta.get("title") or store.path.stem,
        "version": meta.get("version") or "",
        "space": meta.get("space") or "",
        "objectives": [{"name": o.name, "direction": o.direction} for o in objectives],
        "statuses": STATUSES,
        "hashes": [p.hash for p in points],
        "errors": [p.error for p in points],
        "maps": [p.maps for p in points],
        "front": np.flatnonzero(nondominated(costs_of(points, objectives))).tolist(),
        "columns": columns,
        "progress": _progress([p for p in points if p.finished is not None], objectives),
    }


def _group(kind: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a column per key that any row has, in the order of first use."""
    found = []
    names = list(dict.fromkeys(key for row in rows for key in row))
    labels = {name: label_of(name) for name in names} if kind == "output" else short_names(names)
    for name in names:
        values = [row.get(name) for row in rows]
        if all(v is None or (isinstance(v, int | float) and not isinstance(v, bool)) for v in values):
            found.append(_numbers(name, labels[name], kind, values))
        else:
            found.append(_categories(name, labels[name][0], kind, values))
    return found


def _numbers(name: str, label: tuple[str, str], kind: str, values: Sequence[float | None]) -> dict[str, Any]:
    finite = [v if v is not None and math.isfinite(v) else None for v in values]
    return {"name": name, "label": label[0], "unit": label[1], "kind": kind, "values": finite}


def _categories(name: str, label: str, kind: str, values: Sequence[Any]) -> dict[str, Any]:
    """Return a column of words: what there is, sorted with numbers in front, and an index per row (-1: nothing)."""
    texts = [None if v is None else v if isinstance(v, str) else json.dumps(v) for v in values]
    words = sorted({text for text in texts if text is not None}, key=_natural)
    index = {word: number for number, word in enumerate(words)}
    return {
        "name": name,
        "label": label,
        "unit": "",
        "kind": kind,
        "words": words,
        "values": [-1 if t is None else index[t] for t in texts],
    }


def _natural(text: str) -> tuple[bool, float, str]:
    """Sort numbers and sizes by what they are, in front of words."""
    for read in (float, parse_bytes):
        with suppress(ValueError):
            return (False, float(read(text)), text)
    return (True, 0.0, text)


def _progress(ended: Sequence[Row], objectives: Sequence[Objective]) -> dict[str, Any]:
    """Return the hypervolume and the done points over time: one entry per finished point, thinned where many.

    The hypervolume is None without moocore.
    """
    steps = sorted({*np.linspace(0, len(ended) - 1, _STEPS if ended else 0).astype(int).tolist()})
    try:
        volume = hypervolumes(ended, objectives, at=steps)
    except UserError:
        volume = None
    times = [float(p.finished or 0.0) for p in ended]
    start = min((t - (p.seconds or 0.0) for t, p in zip(times, ended, strict=True)), default=0.0)
    done = list(accumulate(int(p.status == "done") for p in ended))
    return {
        "seconds": [round(times[i] - start, 3) for i in steps],
        "ended": [i + 1 for i in steps],
        "done": [done[i] for i in steps],
        "volume": None if volume is None else [round(v, 6) for v in volume],
    }
