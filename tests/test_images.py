"""A picture gives the same input however it is stored, and odd ones are seen as a viewer would show them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xaisim.config import UserError
from xaisim.models.images import calibration_batch, load_image, normalise, scene_count
from xaisim.models.images import test_scene as shipped_scene
from xaisim.models.load import load_model

MODEL = load_model("cifar_cnn", values=False)
RNG = np.random.default_rng(3)
PIXELS = RNG.integers(0, 256, (32, 32, 3), np.uint8)
GREY = RNG.integers(0, 256, (32, 32), np.uint8)


def seen(path: Path) -> np.ndarray:
    """Return the pixels that a network sees, and check that its input is made of them."""
    sample = load_image(MODEL, path)
    assert (sample.name, sample.label, sample.mask) == (path.name, None, None)
    assert (sample.pixels.shape, sample.pixels.dtype) == ((32, 32, 3), np.uint8)
    assert (sample.x.shape, sample.x.dtype) == ((1, 3, 32, 32), np.float64)
    assert np.array_equal(sample.x, normalise(MODEL, sample.pixels))
    return sample.pixels


def saved(folder: Path, pixels: np.ndarray, name: str = "picture.png", **options: object) -> Path:
    path = folder / name
    Image.fromarray(pixels).save(path, **options)
    return path


def test_the_same_pixels_in_any_file_give_the_same_input(tmp_path: Path) -> None:
    arrays = {
        "hwc": PIXELS,
        "chw": PIXELS.transpose(2, 0, 1),
        "float64": PIXELS / 255,
        "float32": (PIXELS / 255).astype(np.float32),
        "float16": (PIXELS / 255).astype(np.float16),
        "chw_float": (PIXELS / 255).transpose(2, 0, 1),
        "fortran": np.asfortranarray(PIXELS),
        "big_endian": (PIXELS / 255).astype(">f8"),
    }
    assert np.array_equal(seen(saved(tmp_path, PIXELS)), PIXELS)
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
        assert np.array_equal(seen(tmp_path / f"{name}.npy"), PIXELS), name


def test_the_same_greys_in_any_file_give_the_same_input(tmp_path: Path) -> None:
    expected = np.repeat(GREY[:, :, None], 3, axis=2)
    assert np.array_equal(seen(saved(tmp_path, GREY)), expected)
    for name, array in {"uint8": GREY, "float": GREY / 255, "three": expected}.items():
        np.save(tmp_path / f"{name}.npy", array)
        assert np.array_equal(seen(tmp_path / f"{name}.npy"), expected), name


def test_a_flat_jpeg_keeps_its_colour(tmp_path: Path) -> None:
    flat = np.full((32, 32, 3), (200, 100, 50), np.uint8)
    difference = seen(saved(tmp_path, flat, "flat.jpg", quality=95)).astype(int) - flat
    assert np.abs(difference).max() <= 2


def test_a_photo_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # held upright: turn by a quarter clockwise to view
    path = saved(tmp_path, PIXELS, exif=exif)
    assert np.array_equal(seen(path), np.rot90(PIXELS, k=-1))


def test_transparent_pixels_show_white(tmp_path: Path) -> None:
    alpha = np.full((32, 32, 1), 255, np.uint8)
    alpha[:16] = 0
    expected = PIXELS.copy()
    expected[:16] = 255
    assert np.array_equal(seen(saved(tmp_path, np.concatenate([PIXELS, alpha], axis=2))), expected)
    grey = np.stack([GREY, alpha[:, :, 0]], axis=2)
    assert np.array_equal(seen(saved(tmp_path, grey))[16:, :, 0], GREY[16:])
    assert (seen(saved(tmp_path, grey))[:16] == 255).all()


def test_a_palette_gives_its_colours(tmp_path: Path) -> None:
    few = PIXELS // 128 * 255
    image = Image.fromarray(few).convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    assert image.mode == "P"
    image.save(tmp_path / "palette.png")
    assert np.array_equal(seen(tmp_path / "palette.png"), few)


def test_black_and_white_give_0_and_255(tmp_path: Path) -> None:
    image = Image.fromarray(GREY).convert("1", dither=Image.Dither.NONE)
    image.save(tmp_path / "one_bit.png")
    assert np.array_equal(seen(tmp_path / "one_bit.png")[:, :, 1], np.where(GREY >= 128, 255, 0))


def test_16_bit_greys_are_scaled_not_cut(tmp_path: Path) -> None:
    deep = GREY.astype(np.uint16) * 257
    assert np.array_equal(seen(saved(tmp_path, deep))[:, :, 0], GREY)


def test_any_size_is_resized_to_the_network(tmp_path: Path) -> None:
    for shape in ((1, 1, 3), (7, 100, 3), (301, 200, 3)):
        pixels = seen(saved(tmp_path, np.full(shape, 77, np.uint8)))
        assert (pixels == 77).all()


def test_an_enormous_picture_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, PIXELS)
    monkeypatch.setattr("xaisim.models.images._MOST_PIXELS", 1000)
    with pytest.raises(UserError, match=r"picture\.png: 32x32 pixels are more than 1,000"):
        load_image(MODEL, path)


def test_normalisation_is_that_of_the_model() -> None:
    x = normalise(MODEL, PIXELS)
    for channel, (mean, std) in enumerate(zip(MODEL.mean, MODEL.std, strict=True)):
        assert np.array_equal(x[0, channel], (PIXELS[:, :, channel] / 255 - mean) / std)


def test_scenes_have_labels_in_turn_and_masks_of_the_digit() -> None:
    assert scene_count() == 320
    for index in (0, 7, 319):
        sample = shipped_scene(MODEL, index)
        assert (sample.name, sample.label) == (f"test scene {index}", index % 10)
        assert sample.mask is not None
        assert (sample.mask.shape, sample.mask.dtype) == ((32, 32), bool)
        assert 0.01 < sample.mask.mean() < 0.4
        assert np.array_equal(sample.x, normalise(MODEL, sample.pixels))
    for index in (-1, 320):
        with pytest.raises(UserError, match=f"test scene {index} does not exist; there are scenes 0 to 319"):
            shipped_scene(MODEL, index)


def test_calibration_pictures_are_none_of_the_test_scenes() -> None:
    batch = calibration_batch(MODEL, 32)
    assert batch.shape == (32, 3, 32, 32)
    scenes = {shipped_scene(MODEL, i).x.tobytes() for i in range(scene_count())}
    assert not scenes & {x[None].tobytes() for x in batch}
