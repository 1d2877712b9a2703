"""Real input: shipped test scenes with masks and labels, a user's own picture, and how either reaches a network.

sample = load_image(model, "photo.png")     .x (1, 3, H, W) normalised, .pixels (H, W, 3) as seen
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from xaisim.config import UserError, data_root
from xaisim.ir.graph import Array
from xaisim.models.load import Model

_MOST_PIXELS = 100_000_000


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture as the network sees it."""

    name: str
    pixels: Array
    """(H, W, 3) uint8 at the network's size."""
    x: Array
    """(1, 3, H, W) float64, normalised with the model's mean and standard deviation."""
    label: int | None = None
    mask: Array | None = None
    """(H, W) bool, the ground truth of what carries the label."""


@cache
def _scenes(name: str) -> dict[str, Array]:
    with np.load(data_root() / "workloads" / "data" / f"{name}_scenes.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def scene_count() -> int:
    """Return the number of shipped test scenes."""
    return len(_scenes("test")["images"])


def test_scene(model: Model, index: int) -> Sample:
    """Return shipped test scene ``index`` with its mask and label, resized to the model's input."""
    if not 0 <= index < scene_count():
        raise UserError(f"test scene {index} does not exist; there are scenes 0 to {scene_count() - 1}")
    scenes = _scenes("test")
    size = model.input_shape[1:]
    plane = Image.fromarray((scenes["masks"][index] * 255).astype(np.uint8))
    mask = np.asarray(plane.resize((size[1], size[0]), Image.Resampling.BILINEAR)) >= 128
    pixels = _resized(Image.fromarray(scenes["images"][index]), size)
    return Sample(f"test scene {index}", pixels, normalise(model, pixels), int(scenes["labels"][index]), mask)


def calibration_count() -> int:
    """Return the number of shipped calibration pictures."""
    return len(_scenes("calibration")["images"])


def calibration_batch(model: Model, count: int) -> Array:
    """Return ``count`` calibration pictures, (count, 3, H, W) normalised; they show training digits only."""
    images = _scenes("calibration")["images"][:count]
    return np.concatenate([normalise(model, _resized(Image.fromarray(i), model.input_shape[1:])) for i in images])


def load_image(model: Model, path: str | Path) -> Sample:
    """Return a PNG, JPEG or ``.npy`` picture resized to the model's input; raises :class:`UserError` if it is none.

    A ``.npy`` array is (H, W), (H, W, 3) or (3, H, W), in uint8 or in numbers from 0 to 1.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise UserError(f"{path}: is a folder; an image is a PNG, JPEG or .npy file, or scene:N")
        if not path.is_file():
            raise UserError(f"{path}: no such image; give a PNG, JPEG or .npy file, or scene:N")
    except OSError as error:  # a name that is too long
        raise UserError(f"{str(path)[:60]}: cannot be read: {error.strerror}") from None
    image = _image_of_array(path) if path.suffix == ".npy" else _image_of_file(path)
    pixels = _resized(image, model.input_shape[1:])
    return Sample(path.name, pixels, normalise(model, pixels))


def _image_of_file(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise UserError(f"{path}: {image.width}x{image.height} pixels are more than {_MOST_PIXELS:,}")
            return _rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise UserError(f"{path}: not a PNG or JPEG image") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: not a readable PNG or JPEG image ({str(error).splitlines()[0]})") from None


def _rgb(image: Image.Image) -> Image.Image:
    """Return the picture as it is seen: 16 bits scaled to 8, transparency over white."""
    if image.mode.startswith("I"):  # Pillow's own conversion cuts 16-bit greys off at 255
        grey = np.asarray(image).astype(np.int64)
        return Image.fromarray(((grey + 128) // 257).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _image_of_array(path: Path) -> Image.Image:
    try:
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, OSError, EOFError, MemoryError) as error:
        objects = "Object arrays" in str(error)
        reason = "it holds Python objects" if objects else (str(error).splitlines() or [""])[0]
        raise UserError(f"{path}: not a readable .npy array ({reason})") from None
    if array.size == 0:
        raise UserError(f"{path}: the array is empty, shape {array.shape}")
    if array.ndim == 3 and array.shape[0] == 3 and array.shape[2] != 3:
        array = array.transpose(1, 2, 0)
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3:
        raise UserError(f"{path}: an image has shape (H, W), (H, W, 3) or (3, H, W), got {array.shape}")
    return Image.fromarray(np.ascontiguousarray(array if array.dtype == np.uint8 else _bytes(path, array)))


def _bytes(path: Path, array: Array) -> Array:
    """Return numbers from 0 to 1 as uint8."""
    if array.dtype.kind not in "iuf":
        raise UserError(f"{path}: pixels must be uint8 or numbers from 0 to 1, got dtype {array.dtype}")
    if not np.isfinite(array).all():
        raise UserError(f"{path}: pixels must be finite, got {int((~np.isfinite(array)).sum())} that are not")
    if array.min() < 0 or array.max() > 1:
        raise UserError(
            f"{path}: pixels of dtype {array.dtype} must lie in 0 to 1, got {array.min():g} to {array.max():g}"
        )
    return np.round(array.astype(np.float64) * 255).astype(np.uint8)


def _resized(image: Image.Image, size: tuple[int, ...]) -> Array:
    """Return (H, W, 3) uint8, resized with an antialiased bilinear filter."""
    height, width = size
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.uint8)


def normalise(model: Model, pixels: Array) -> Array:
    """Return (1, 3, H, W): (pixel / 255 − mean) / std per channel."""
    x = (pixels.astype(np.float64) / 255 - np.array(model.mean)) / np.array(model.std)
    return x.transpose(2, 0, 1)[None]
