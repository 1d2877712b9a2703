"""Load a network with its weights: shipped, from a file, or seeded random ones.

load_model("resnet18_tiny")                      trained weights that ship with the package
load_model("resnet18", weights="resnet18.pth")   torchvision's state dict
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from xaisim.config import UserError, choose, data_root
from xaisim.ir.graph import Array, Graph
from xaisim.ir.types import TensorType
from xaisim.models.builder import NetworkBuilder, Parameter
from xaisim.models.networks import NETWORKS

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Model:
    """A network ready to be explained. ``graph`` maps ``input`` (C, H, W) to ``logits`` (classes,)."""

    name: str
    graph: Graph
    features: str
    """Name of the last feature map before pooling."""
    weights: str
    """Where the weights come from: a file name, ``random weights (seed 0)`` or ``shapes only``."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    accuracy: float | None = None
    """Test accuracy stored beside trained weights."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, (C, H, W)."""
        return self.graph.inputs["input"].shape

    @property
    def trained(self) -> bool:
        """Whether the weights come from a file."""
        return self.weights.endswith((".safetensors", ".pth", ".pt"))


def load_model(name: str, weights: str | Path | None = None, *, seed: int = 0, values: bool = True) -> Model:
    """Return the network ``name``.

    ``weights`` is a ``.safetensors`` or ``.pth`` file with torchvision's names, ``"random"`` for a draw from
    ``seed``, or None for the shipped trained weights (random ones where none ship).
    ``values=False`` makes a graph of shapes only, which is all that timing needs; a file is checked all the same.
    Raises :class:`UserError` for an unknown name, an unreadable file, and missing or misshapen tensors.
    """
    network = NETWORKS[choose("model", name, NETWORKS)]
    listing = NetworkBuilder()
    _write(listing, name)
    metadata: Mapping[str, str] = {}
    parameters: dict[str, Array] | None = None
    if weights is None and network.trained:
        weights = data_root() / "workloads" / "weights" / f"{name}.safetensors"
    if weights not in (None, "random"):
        path = Path(str(weights))
        label = path.name
        found, metadata = _read(path)
        checked = _checked(path, found, listing.required)
        parameters = checked if values else None
    elif values:
        label, parameters = f"random weights (seed {seed})", _random(listing.required, seed)
    else:
        label = "shapes only"
    net = NetworkBuilder(parameters)
    features, logits = _write(net, name)
    graph = net.build(logits)
    described = _described(label, metadata, _classes(graph))
    return Model(name, graph, features, label, **described)


def _classes(graph: Graph) -> int:
    return graph.types()[graph.outputs[0]].shape[0]


def _write(net: NetworkBuilder, name: str) -> tuple[str, str]:
    network = NETWORKS[name]
    net.input("input", TensorType(network.input_shape))
    return network.write(net)


def _described(label: str, metadata: Mapping[str, str], count: int) -> dict[str, Any]:
    """Return mean, std, classes and accuracy as the metadata of a weights file tell them; ImageNet's where not."""
    names = metadata["classes"].split(",") if metadata.get("classes") else [str(i) for i in range(count)]
    if len(names) != count:
        raise UserError(f"{label}: its metadata name {len(names)} classes; the network has {count}")
    mean, std = (
        _numbers(label, metadata, key, default)
        for key, default in (("input_mean", IMAGENET_MEAN), ("input_std", IMAGENET_STD))
    )
    if min(std) <= 0:
        raise UserError(f"{label}: its metadata give input_std {metadata['input_std']!r}; all must be above 0")
    accuracy = _numbers(label, metadata, "test_accuracy", (0.0,))[0] if "test_accuracy" in metadata else None
    return {"mean": mean, "std": std, "classes": tuple(names), "accuracy": accuracy}


def _numbers(label: str, metadata: Mapping[str, str], key: str, default: tuple[float, ...]) -> tuple[float, ...]:
    """Return as many numbers as ``default`` has from the metadata."""
    if key not in metadata:
        return default
    try:
        numbers = tuple(float(part) for part in metadata[key].split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != len(default) or not np.isfinite(numbers).all():
        raise UserError(f"{label}: its metadata give {key} {metadata[key]!r}; expected {len(default)} numbers")
    return numbers


def _random(required: Mapping[str, Parameter], seed: int) -> dict[str, Array]:
    """Draw every parameter from its own generator, so that one does not depend on the order of the others."""
    drawn = {}
    for name, p in required.items():
        generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
        drawn[name] = generator.normal(p.mean, p.scale, p.shape) if p.scale else np.full(p.shape, p.mean)
    return drawn


def _read(path: Path) -> tuple[dict[str, Array], Mapping[str, str]]:
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise UserError(f"weights {str(path)!r}: must be a .safetensors or .pth file, or 'random'")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; weights are a .safetensors or .pth file")
    if not path.is_file():
        raise UserError(f"{path}: no such weights file")
    if path.suffix != ".safetensors":
        return _read_torch(path), {}
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable .safetensors file ({error})") from None
    except TypeError as error:  # numpy has no bfloat16 and no float8
        raise UserError(f"{path}: numbers of a kind that is not read ({error}); save them as float32") from None


def _read_torch(path: Path) -> dict[str, Array]:
    """Read a PyTorch state dict; ``weights_only`` refuses pickled code."""
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path}: reading .pth files needs PyTorch; install it with: pip install 'xaisim[torch]'"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch raises whatever its unpickler meets, and advises to run the code in the file
        raise UserError(
            f"{path}: not a plain state dict; damaged, or it holds Python objects, which are not run"
        ) from None
    if not isinstance(state, Mapping):
        raise UserError(f"{path}: not a state dict but a {type(state).__name__}")
    others = [str(name) for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise UserError(f"{path}: not a plain state dict of tensors; it has {_some(others)}")
    return {str(name): value.detach().to_dense().to(torch.float64).numpy() for name, value in state.items()}


def _checked(path: Path, found: Mapping[str, Array], required: Mapping[str, Parameter]) -> dict[str, Array]:
    """Return the required tensors, or raise one error that lists all that is missing or wrong."""
    missing = [name for name in required if name not in found]
    given = {name: found[name] for name in required if name in found}
    wrong = [
        f"{name} is {_shape(values.shape)} instead of {_shape(required[name].shape)}"
        for name, values in given.items()
        if values.shape != required[name].shape
    ]
    largest = np.finfo(np.float32).max
    infinite = [name for name, values in given.items() if not (np.abs(values) <= largest).all()]
    negative = [name for name, values in given.items() if name.endswith("running_var") and (values < 0).any()]
    problems = []
    if missing:
        problems.append(f"{len(missing)} of {len(required)} tensors are missing: {_some(missing)}")
    if wrong:
        problems.append(f"{_count(wrong)} another shape: {_some(wrong)}")
    if infinite:
        problems.append(f"{_count(infinite)} values that are no finite float32: {_some(infinite)}")
    if negative:
        problems.append(f"{_count(negative)} negative variances: {_some(negative)}")
    if problems:
        raise UserError(f"{path}: {'; '.join(problems)}")
    return {name: np.asarray(values, np.float64) for name, values in given.items()}


def _count(names: list[str]) -> str:
    return "1 tensor has" if len(names) == 1 else f"{len(names)} tensors have"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a number"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
