"""Scenes with a known answer: one handwritten digit over textured clutter, with the mask of the digit's strokes.

    images, masks, labels = make_scenes("train", count=1000, seed=7)   # uint8 NHWC 96×96, bool NHW, uint8 N

``python workloads/scenes.py`` writes the shipped files under ``workloads/data``. The digits are scikit-learn's
bundled 8×8 set; which of them are test digits depends only on their index, so the two splits never meet.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits  # type: ignore[import-untyped]

SIDE = 96
CLASSES = 10
TEST_SEED, TEST_COUNT = 96, 320
CALIBRATION_SEED, CALIBRATION_COUNT = 32, 32
DATA_FOLDER = Path(__file__).parent / "data"

Plane = NDArray[np.float32]  # SIDE×SIDE opacities in 0..1

_PIXELS = np.arange(SIDE, dtype=np.float32) + 0.5
_X, _Y = _PIXELS[None, :], _PIXELS[:, None]


def split_indices(split: str) -> NDArray[np.int64]:
    """Return the indices of the scikit-learn digits of ``split``, "train" (1397) or "test" (400).

    9 has no factor in common with 10, the period of the labels in the set, so both splits hold every class.
    """
    indices = np.arange(len(load_glyphs()[1]))
    is_test = indices % 9 < 2
    train, test = indices[~is_test], indices[is_test]
    assert not set(train) & set(test), "a digit is in both splits"
    return {"train": train, "test": test}[split]


@cache
def load_glyphs() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Load the digits as ink coverage 0..1 (n×12×12, two empty pixels on every side) and their labels (n)."""
    digits = load_digits()
    glyphs = np.pad(digits.images / 16.0, ((0, 0), (2, 2), (2, 2))).astype(np.float32)
    return glyphs, digits.target


def make_scenes(split: str, count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.uint8]]:
    """Draw ``count`` scenes with digits of ``split``, every class equally often.

    Scene ``i`` depends on (split, seed, i) alone. Within a class the digits take turns, so none comes twice
    before all have come once.
    Returns images (count×96×96×3), masks of the digit's strokes (count×96×96) and labels (count).
    """
    indices = split_indices(split)
    targets = load_glyphs()[1][indices]
    stream = [seed, int(split == "test")]
    turns = [np.random.default_rng([*stream, label]).permutation(indices[targets == label]) for label in range(CLASSES)]
    images = np.empty((count, SIDE, SIDE, 3), np.uint8)
    masks = np.empty((count, SIDE, SIDE), np.bool_)
    labels = (np.arange(count) % CLASSES).astype(np.uint8)
    for i, label in enumerate(labels):
        digit = turns[label][i // CLASSES % len(turns[label])]
        images[i], masks[i] = draw_scene(digit, indices, np.random.default_rng([*stream, CLASSES, i]))
    return images, masks, labels


def draw_scene(
    digit: int, fragment_sources: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw glyph ``digit`` over texture, strokes, blobs and fragments of the glyphs ``fragment_sources``.

    The digit is on top, wholly inside the picture, and lighter than what it lies on except for rare strokes.
    Returns the image (96×96×3) and the mask of the digit's strokes (96×96).
    """
    canvas = _draw_texture(rng)
    for _ in range(rng.integers(1, 4)):
        canvas = _paint(canvas, _draw_blob(rng), _pick_colour(rng, 20, 150))
    for _ in range(rng.integers(2, 5)):
        canvas = _paint(canvas, _draw_stroke(rng), _pick_colour(rng, 60, 170))
    for _ in range(rng.integers(1, 4)):
        canvas = _paint(canvas, _draw_fragment(rng.choice(fragment_sources), rng), _pick_colour(rng, 100, 180))
    ink = _draw_glyph(load_glyphs()[0][digit], rng.uniform(SIDE / 3, SIDE * 2 / 3), rng)
    canvas = _paint(canvas, ink, _pick_colour(rng, 200, 245))
    # Six bits per channel: not visible, and the shipped files shrink by a third.
    image = np.clip(np.round(canvas / 4.0) * 4.0, 0, 255).astype(np.uint8)
    return image, ink >= 0.5


def resize_images(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resize NHWC images with Pillow's antialiased BILINEAR filter, as in the training of the shipped networks."""
    if images.shape[1] == side:
        return images
    size = (side, side)
    return np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)) for image in images])


def resize_masks(masks: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Resize NHW masks like the images; a pixel belongs to the digit when at least half of it is covered."""
    if masks.shape[1] == side:
        return masks
    planes = masks.astype(np.uint8) * 255
    size = (side, side)
    resized = [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR)) for plane in planes]
    return np.stack(resized) >= 128


def _paint(canvas: NDArray[np.float32], opacity: Plane, colour: NDArray[np.float32]) -> NDArray[np.float32]:
    return canvas + opacity[..., None] * (colour - canvas)


def _pick_colour(rng: np.random.Generator, darkest: float, lightest: float) -> NDArray[np.float32]:
    """Pick a colour of random hue whose luma (Rec. 601) lies between the bounds, before clipping to 0..255."""
    tint = rng.uniform(-60, 60, 3)
    tint -= tint @ (0.299, 0.587, 0.114)
    return np.clip(rng.uniform(darkest, lightest) + tint, 0, 255).astype(np.float32)


def _draw_texture(rng: np.random.Generator) -> NDArray[np.float32]:
    """Sum smooth colour noise of three scales and one grating around a dark base colour."""
    canvas = np.broadcast_to(_pick_colour(rng, 40, 90), (SIDE, SIDE, 3)).astype(np.float32)
    for cells, amplitude in ((3, 40.0), (7, 25.0), (15, 15.0)):
        grid = rng.uniform(-amplitude, amplitude, (3, cells + 1, cells + 1)).astype(np.float32)
        rows = _interpolation(cells)
        canvas += (rows @ grid @ rows.T).transpose(1, 2, 0)
    angle, period, phase = rng.uniform(0, math.pi), rng.uniform(6, 24), rng.uniform(0, 2 * math.pi)
    wave = np.sin((_X * math.cos(angle) + _Y * math.sin(angle)) * (2 * math.pi / period) + phase)
    return canvas + wave[..., None] * rng.uniform(-15, 15, 3).astype(np.float32)


@cache
def _interpolation(cells: int) -> NDArray[np.float32]:
    """Return the SIDE×(cells+1) matrix that interpolates grid values with a smoothstep between neighbours."""
    position = _PIXELS * (cells / SIDE)
    left = position.astype(np.int64)
    weight = position - left
    weight = weight * weight * (3 - 2 * weight)
    matrix = np.zeros((SIDE, cells + 1), np.float32)
    matrix[np.arange(SIDE), left] = 1 - weight
    matrix[np.arange(SIDE), left + 1] = weight
    return matrix


def _draw_blob(rng: np.random.Generator) -> Plane:
    """Draw a soft-edged ellipse."""
    x, y = rng.uniform(0, SIDE, 2)
    radius_x, radius_y = rng.uniform(5, 20, 2)
    distance = np.hypot((_X - x) / radius_x, (_Y - y) / radius_y)
    return np.clip((1 - distance) * 4, 0, 1) * rng.uniform(0.5, 0.9)


def _draw_stroke(rng: np.random.Generator) -> Plane:
    """Draw a straight or bent pen stroke: a stretch of a circle's outline, whose radius may be far larger than it."""
    x, y = rng.uniform(0, SIDE, 2)
    reach = rng.uniform(8, 26)
    bend = reach * 10 ** rng.uniform(-0.1, 1.2)  # at most half a circle: a whole one would be a nought
    angle = rng.uniform(0, 2 * math.pi)
    dx, dy = _X - (x - bend * math.cos(angle)), _Y - (y - bend * math.sin(angle))
    from_line = np.abs(np.hypot(dx, dy) - bend)
    inside = np.hypot(_X - x, _Y - y) < reach
    return np.clip(rng.uniform(1.0, 3.0) + 0.5 - from_line, 0, 1) * inside


def _draw_fragment(glyph_index: int, rng: np.random.Generator) -> Plane:
    """Draw a corner of a glyph, about a quarter of it, smaller than any digit: the same pen, but no digit."""
    glyph = load_glyphs()[0][glyph_index]
    row, column = rng.choice((2, 6), 2)
    corner = np.zeros_like(glyph)
    corner[row : row + 4, column : column + 4] = glyph[row : row + 4, column : column + 4]
    return _draw_glyph(corner, rng.uniform(0.3 * SIDE, 0.45 * SIDE), rng)


def _draw_glyph(glyph: NDArray[np.float32], height: float, rng: np.random.Generator) -> Plane:
    """Draw a 12×12 coverage map smoothly enlarged to an 8×8 core of ``height`` pixels, anywhere, slightly turned."""
    scale_y, scale_x = 8 / height, 8 / (height * rng.uniform(0.85, 1.1))
    turn, slant = rng.uniform(-0.15, 0.15, 2)
    x, y = rng.uniform(height * 0.55, SIDE - height * 0.55, 2)
    a, b = scale_x * math.cos(turn), scale_x * (math.sin(turn) + slant)
    d, e = -scale_y * math.sin(turn), scale_y * math.cos(turn)
    centre = glyph.shape[0] / 2
    inverse = (a, b, centre - a * x - b * y, d, e, centre - d * x - e * y)
    coverage = Image.fromarray(glyph).transform((SIDE, SIDE), Image.Transform.AFFINE, inverse, Image.Resampling.BICUBIC)
    # The set's pixels count ink in 4×4 cells; a steep ramp around 0.45 turns them back into a pen with smooth edges.
    return np.clip((np.asarray(coverage) - 0.45) * (height / 20) + 0.5, 0, 1)


def main() -> None:
    """Write the shipped test and calibration scenes."""
    DATA_FOLDER.mkdir(exist_ok=True)
    images, masks, labels = make_scenes("test", TEST_COUNT, TEST_SEED)
    np.savez_compressed(DATA_FOLDER / "test_scenes.npz", images=images, masks=masks, labels=labels)
    images, _, labels = make_scenes("train", CALIBRATION_COUNT, CALIBRATION_SEED)
    np.savez_compressed(DATA_FOLDER / "calibration_scenes.npz", images=images, labels=labels)


if __name__ == "__main__":
    main()
