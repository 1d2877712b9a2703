"""Whether the model itself depends on what an attribution calls important: pixels change and scores are watched.

    deletion(scores, x, attribution).area, insertion(...).area, aupc(...).area

``x`` is a picture (1, C, H, W) or (C, H, W) as the model takes it; ``attribution`` is of one picture too, or a plane
(H, W); ``scores`` gives logits (see :mod:`xaisim.metrics.model`); ``target`` is the class, else the one predicted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from xaisim.ir.graph import Array
from xaisim.metrics.curve import Curve, simpson, trapezoid
from xaisim.metrics.image import blur, filtered, picture, plane
from xaisim.metrics.model import Scores, chosen, logits, softmax

Seed = int | np.random.Generator

_PAPER_SIDE, _PAPER_WINDOW = 224, 15


def deletion(
    scores: Scores,
    x: Array,
    attribution: Array,
    target: int | None = None,
    *,
    step: int | None = None,
    substrate: Array | float = 0.0,
    signed: bool = False,
    batch_size: int = 32,
) -> Curve:
    """Return the class's probability as pixels give way to ``substrate``, the most relevant first; low is good.

    RISE (Petsiuk et al. 2018). Relevance is |Σ over channels|, or that sum itself if ``signed``; of equals, the first
    pixel goes first. ``step`` pixels go at a time, by default a row's number; the area is over a width of 1.
    """
    x = picture(x)
    finish = np.broadcast_to(substrate, x.shape)
    rows = logits(scores, _between(x, finish, _places(attribution, x, signed), step), batch_size)
    return _probabilities(rows, chosen(rows[0], target))


def insertion(
    scores: Scores,
    x: Array,
    attribution: Array,
    target: int | None = None,
    *,
    step: int | None = None,
    substrate: Array | float | None = None,
    signed: bool = False,
    batch_size: int = 32,
) -> Curve:
    """Return the class's probability as pixels return to ``substrate``, the most relevant first; high is good.

    As :func:`deletion`, from the other end. ``substrate`` is by default the picture under a Gaussian of 11 x 11 taps
    and σ = 5; the class is that of the picture, not of the substrate.
    """
    x = picture(x)
    start = blur(x) if substrate is None else np.broadcast_to(substrate, x.shape)
    rows = logits(scores, _between(start, x, _places(attribution, x, signed), step), batch_size)
    return _probabilities(rows, chosen(rows[-1], target))


def _places(attribution: Array, image: Array, signed: bool) -> Array:
    """Return when each pixel's turn comes, (H, W): 0 for the most relevant."""
    map = _fitting(attribution, image)
    order = np.argsort(-(map if signed else np.abs(map)).reshape(-1), kind="stable")
    places = np.empty(map.size, np.int64)
    places[order] = np.arange(map.size)
    return places.reshape(map.shape)


def _between(start: Array, finish: Array, places: Array, step: int | None) -> Iterator[Array]:
    """Yield ``start`` with 0, step, 2 · step, ... of its pixels replaced, all of them at last."""
    step = places.shape[1] if step is None else step
    if step < 1:
        raise ValueError(f"at least one pixel changes at a time, not {step}")
    for count in range(0, places.size + step, step):
        yield np.where(places < count, finish, start)


def _probabilities(rows: Array, target: int) -> Curve:
    scores = softmax(rows)[:, target]
    return Curve(scores, trapezoid(scores))


def aupc(
    scores: Scores,
    x: Array,
    attribution: Array,
    target: int | None = None,
    *,
    regions: int = 30,
    window: int | None = None,
    draws: int = 50,
    low: Array | float | None = None,
    high: Array | float | None = None,
    scored: Literal["kept", "mean"] = "kept",
    seed: Seed = 0,
    batch_size: int = 32,
) -> Curve:
    """Return the class's logit over |F(x)| as the most relevant windows fill with noise, one by one; low is good.

    AUPC (Goh et al. 2020). Windows are those of :func:`top_windows`; by default 15 x 15 at 224 pixels and more, in
    proportion below (4 x 4 at 64). Each is filled ``draws`` times, uniform from ``low`` to ``high`` (numbers, or one
    per channel; by default the picture's own least and largest value of each channel). The draw with the median score
    stays, the lower of the two in the middle; ``scored`` says whether the curve shows its score or the mean of all.
    Simpson's area, points one apart: it grows with the regions. Raises ``ValueError`` for F(x) = 0 and for windows
    that do not fit.
    """
    image = picture(x).copy()
    if draws < 1:
        raise ValueError(f"a region is drawn at least once, not {draws} times")
    generator = np.random.default_rng(seed)
    bounds = _bounds(image, low, high)
    side = default_window(image) if window is None else window
    first = logits(scores, [image], 1)[0]
    target = chosen(first, target)
    if first[target] == 0:
        raise ValueError("AUPC divides by |F(x)|, and the score of this picture is 0")
    found = [float(first[target])]
    for row, col in top_windows(_fitting(attribution, image), side, regions):
        place = (slice(None), slice(row, row + side), slice(col, col + side))
        fills = generator.uniform(*bounds, (draws, len(image), side, side))
        values = logits(scores, _filled(image, place, fills), batch_size)[:, target]
        kept = int(np.argsort(values, kind="stable")[(draws - 1) // 2])
        image[place] = fills[kept]
        found.append(float(values[kept] if scored == "kept" else values.mean()))
    curve = np.array(found) / abs(found[0])
    return Curve(curve, simpson(curve))


def default_window(x: Array) -> int:
    """Return the side of AUPC's windows for a picture (..., H, W): 15 pixels of 224, and as many of larger ones."""
    side = min(*x.shape[-2:], _PAPER_SIDE)
    return max(1, round(_PAPER_WINDOW * side / _PAPER_SIDE))


def top_windows(map: Array, side: int, count: int) -> list[tuple[int, int]]:
    """Return the upper left corners of windows that do not overlap, by falling mean |map|, taken greedily.

    As many as ``count``, but never more than fit on *every* map of this size, so that curves of several maps have equal
    lengths. A window keeps those beginning less than ``side`` away from starting; so of lattice positions 2·side − 1
    apart each rules out at most one, and as many as there are can always be taken.
    """
    if not 1 <= side <= min(map.shape):
        raise ValueError(f"a window of {side} x {side} pixels does not fit into {map.shape[0]} x {map.shape[1]}")
    if count < 1:
        raise ValueError(f"AUPC needs at least one region, not {count}")
    means = filtered(np.abs(map), np.full(side, 1 / side))
    fit = int(np.prod([-(-length // (2 * side - 1)) for length in means.shape]))
    corners = []
    for _ in range(min(count, fit)):
        row, col = (int(i) for i in np.unravel_index(int(means.argmax()), means.shape))
        corners.append((row, col))
        means[max(0, row - side + 1) : row + side, max(0, col - side + 1) : col + side] = -np.inf
    return corners


def _filled(image: Array, place: tuple[slice, ...], fills: Array) -> Iterator[Array]:
    for fill in fills:
        changed = image.copy()
        changed[place] = fill
        yield changed


def _bounds(image: Array, low: Array | float | None, high: Array | float | None) -> tuple[Array, Array]:
    """Return least and largest drawn value, each (C, 1, 1) or of one element."""
    least = image.min(axis=(1, 2)) if low is None else np.asarray(low)
    most = image.max(axis=(1, 2)) if high is None else np.asarray(high)
    if (least > most).any():
        raise ValueError(f"values are drawn from low to high, got {least} and {most}")
    return least.reshape(-1, 1, 1), most.reshape(-1, 1, 1)


def _fitting(attribution: Array, image: Array) -> Array:
    map = plane(attribution)
    if map.shape != image.shape[1:]:
        raise ValueError(f"a map of {map.shape} does not fit a picture of {image.shape[1:]}")
    return map
