"""The pictures of a study: shipped scenes, or a user's folder.

for sample in pictures(model, setting, 100): sample.x, sample.label, sample.mask
"""

from __future__ import annotations

from collections.abc import Sequence

from xaisim.config import UserError
from xaisim.models.images import Sample, load_image, scene_count, test_scene
from xaisim.models.load import Model, load_model
from xaisim.studies.study import Setting

_SUFFIXES = (".png", ".jpg", ".jpeg")


def pictures(model: Model, setting: Setting, usual: int, quick: int) -> Sequence[Sample]:
    """Return the pictures for a model: ``usual`` or, in a quick run, ``quick`` of them, unless a number is given.

    Raises :class:`UserError` where the folder has too few.
    """
    count = setting.count or (quick if setting.quick else usual)
    if setting.images is None:
        if count > scene_count():
            raise UserError(f"{count} pictures are asked for; {scene_count()} scenes ship (or give --images FOLDER)")
        return [test_scene(model, number) for number in range(count)]
    if not setting.images.is_dir():
        raise UserError(f"{setting.images}: is no folder of pictures")
    files = sorted(path for path in setting.images.iterdir() if path.suffix.lower() in _SUFFIXES)
    if not files:
        raise UserError(f"{setting.images}: has no PNG or JPEG picture")
    if setting.count is not None and len(files) < setting.count:
        raise UserError(f"{setting.images}: has {len(files)} pictures, {setting.count} are asked for")
    return [load_image(model, path) for path in files[:count]]


def models_of(setting: Setting, usual: Sequence[str]) -> list[Model]:
    """Return the networks of a study: those named, or the usual ones. Weights can only be for one."""
    names = setting.models or tuple(usual)
    if setting.weights is not None and len(names) != 1:
        raise UserError("--weights are those of one network: name it with --model")
    return [load_model(name, setting.weights) for name in names]
