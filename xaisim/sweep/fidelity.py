"""How faithful a fixed-point explanation is to float64, picture by picture, each computed once and remembered.

    fidelities(experiment, arch, 8, memo)        # {"fidelity.spearman": 0.99, …}: medians over scene:0 … scene:7

Values depend on the network, method, numerics and on what accumulators do, and on nothing else of the machine.
"""

from __future__ import annotations

import base64
import io
import statistics
from functools import lru_cache, partial
from typing import Any

import numpy as np
from PIL import Image

from xaisim import metrics
from xaisim.attribution.methods import METHODS
from xaisim.experiment import Experiment, Prepared, prepare
from xaisim.flow import calibrated, explained_class
from xaisim.hardware.architecture import Architecture
from xaisim.ir.graph import Array
from xaisim.numerics.devices import FloatDevice
from xaisim.numerics.formats import Formats
from xaisim.sweep.memo import Memo, key_of
from xaisim.sweep.point import contents

_TOP = 0.01
_MOST_DB = 300.0
"""What equal maps count as; their ratio is infinite."""
_UNUSED = {"description", "image", "arch", "objective", "mapping"}


def values_key(experiment: Experiment, arch: Architecture, image: int) -> str:
    """Return the key of one picture's values: of the machine only the accumulators matter.

    Where these saturate, so does the order of addition, which the whole machine decides.
    """
    array = arch.array
    machine: Any = [array.accumulator, array.accumulator_bits, array.psum_bits, array.multiplier_bits]
    if array.accumulator == "saturate":
        machine = arch.model_dump_json(exclude={"name", "description"})
    return key_of("values", experiment.model_dump_json(exclude=_UNUSED), contents(experiment), machine, image)


def fidelities(experiment: Experiment, arch: Architecture, images: int, memo: Memo) -> dict[str, float]:
    """Return the medians over the first ``images`` scenes; empty for a method that makes no map."""
    keys = {image: values_key(experiment, arch, image) for image in range(images)}
    rows = [memo.get(key, partial(_explained, experiment, image))["fidelity"] for image, key in keys.items()]
    return {f"fidelity.{name}": statistics.median(row[name] for row in rows) for name in rows[0]}


def maps(experiment: Experiment, arch: Architecture, memo: Memo) -> tuple[str, dict[str, Any]] | None:
    """Return the key and the first picture's maps; None for a method that makes none."""
    key = values_key(experiment, arch, 0)
    found = memo.get(key, partial(_explained, experiment, 0))["maps"]
    return None if found is None else (key, found)


def _explained(experiment: Experiment, image: int) -> dict[str, Any]:
    """Explain one picture in fixed point and in float64, and compare."""
    p = prepare(experiment.model_copy(update={"image": f"scene:{image}", "mapping": None}))
    if experiment.method == "forward":
        return {"fidelity": {}, "maps": None}
    device = p.device(_formats(p, experiment, image))
    target = explained_class(p, device)[0]
    device.class_known = experiment.target is not None
    method = METHODS[experiment.method]
    fixed = method.run(device, p.model.graph, p.sample.x, target, **p.options).real()
    real = method.run(FloatDevice(), p.model.graph, p.sample.x, target, **p.options).real()
    drawn = None
    if image == 0:
        drawn = {"picture": _png(p.sample.pixels), "shape": list(fixed.shape[-2:])}
        drawn |= {"float": _summed(real), "fixed": _summed(fixed)}
    return {"fidelity": _compared(real, fixed), "maps": drawn}


def _formats(p: Prepared, experiment: Experiment, image: int) -> Formats:
    """Return the formats, calibrated once for all pictures where they come from scenes of their own."""
    own = p.experiment.weights is not None or not p.model.trained
    text = experiment.model_dump_json(exclude=_UNUSED)
    found = _calibrated(text, contents(experiment), p.arch.array.accumulator_bits, image if own else None)
    if not found:
        found.append(calibrated(p)[0])
    return found[0]


@lru_cache(maxsize=32)
def _calibrated(*_key: Any) -> list[Formats]:
    return []


def _compared(real: Array, fixed: Array) -> dict[str, float]:
    sqnr = metrics.sqnr_db(real, fixed)
    found = {
        "sqnr_db": float(np.clip(sqnr, -_MOST_DB, _MOST_DB)),
        "spearman": metrics.spearman(real, fixed),
        "cosine": metrics.cosine(real, fixed),
        "topk": metrics.top_k_intersection(real, fixed, _TOP),
        "sign_agreement": metrics.sign_agreement(real, fixed),
    }
    return {name: float(np.nan_to_num(value)) for name, value in found.items()}


def _summed(values: Array) -> list[float]:
    """Return a map summed over channels, row by row, in four digits."""
    return [float(f"{value:.4g}") for value in values[0].sum(axis=0).ravel()]


def _png(pixels: Array) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
