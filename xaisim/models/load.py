"""Load a network with its weights: shipped, from a file, or seeded random ones.

load_model("resnet18_tiny")                      trained weights that ship with the package
load_model("resnet18", weights="resnet18.pth")   torchvision's state dict
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
    ``values=False`` makes a graph of shapes only, which is all that timing needs.
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
        if values:
            parameters = _checked(path, found, listing.required)
    elif values:
        label, parameters = f"random weights (seed {seed})", _random(listing.required, seed)
    else:
        label = "shapes only"
    net = NetworkBuilder(parameters)
    features, logits = _write(net, name)
    graph = net.build(logits)
    classes = metadata.get("classes", "").split(",") if metadata.get("classes") else map(str, range(_classes(graph)))
    return Model(
        name=name,
        graph=graph,
        features=features,
        weights=label,
        mean=_floats(metadata.get("input_mean"), IMAGENET_MEAN),
        std=_floats(metadata.get("input_std"), IMAGENET_STD),
        classes=tuple(classes),
        accuracy=float(metadata["test_accuracy"]) if "test_accuracy" in metadata else None,
    )


def _classes(graph: Graph) -> int:
    return graph.types()[graph.outputs[0]].shape[0]


def _write(net: NetworkBuilder, name: str) -> tuple[str, str]:
    network = NETWORKS[name]
    net.input("input", TensorType(network.input_shape))
    return network.write(net)


def _floats(text: str | None, default: tuple[float, ...]) -> tuple[float, ...]:
    return default if text is None else tuple(float(part) for part in text.split(","))


def _random(required: Mapping[str, Parameter], seed: int) -> dict[str, Array]:
    """Draw every parameter from its own generator, so that one does not depend on the order of the others."""
    drawn = {}
    for name, p in required.items():
        generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
        drawn[name] = generator.normal(p.mean, p.scale, p.shape) if p.scale else np.full(p.shape, p.mean)
    return drawn


def _read(path: Path) -> tuple[dict[str, Array], Mapping[str, str]]:
    if not path.is_file():
        raise UserError(f"{path}: no such weights file")
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="numpy") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: not a readable .safetensors file ({error})") from None
    if path.suffix in (".pth", ".pt"):
        return _read_torch(path), {}
    raise UserError(f"{path}: weights must be a .safetensors or .pth file, got '{path.suffix}'")


def _read_torch(path: Path) -> dict[str, Array]:
    """Read a PyTorch state dict; ``weights_only`` refuses pickled code."""
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path}: reading .pth files needs PyTorch; install it with: pip install 'xaisim[torch]'"
        ) from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler meets
        raise UserError(f"{path}: not a plain state dict of tensors ({str(error).splitlines()[0]})") from None
    if not isinstance(state, Mapping) or not all(hasattr(v, "detach") for v in state.values()):
        raise UserError(f"{path}: not a plain state dict of tensors")
    return {name: np.asarray(value.detach().to(torch.float64)) for name, value in state.items()}


def _checked(path: Path, found: Mapping[str, Array], required: Mapping[str, Parameter]) -> dict[str, Array]:
    """Return the required tensors, or raise one error that lists all that is missing or misshapen."""
    missing = [name for name in required if name not in found]
    wrong = [
        f"{name} is {'x'.join(map(str, found[name].shape))} instead of {'x'.join(map(str, p.shape))}"
        for name, p in required.items()
        if name in found and found[name].shape != p.shape
    ]
    infinite = [name for name in required if name in found and not np.isfinite(found[name]).all()]
    problems = []
    if missing:
        problems.append(f"{len(missing)} of {len(required)} tensors are missing: {_some(missing)}")
    if wrong:
        problems.append(f"{len(wrong)} tensors have another shape: {_some(wrong)}")
    if infinite:
        problems.append(f"{len(infinite)} tensors are not finite: {_some(infinite)}")
    if problems:
        raise UserError(f"{path}: {'; '.join(problems)}")
    return {name: np.asarray(found[name], np.float64) for name in required}


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
