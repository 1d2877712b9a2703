"""Weights from files, from a seed and as shipped; what is wrong with a file is listed."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from xaisim.config import UserError, data_root
from xaisim.ir.graph import evaluate, verify
from xaisim.models.builder import NetworkBuilder
from xaisim.models.images import scene_count
from xaisim.models.images import test_scene as shipped_scene
from xaisim.models.load import IMAGENET_MEAN, IMAGENET_STD, Model, load_model
from xaisim.models.networks import NETWORKS

TRAINED = [name for name, network in NETWORKS.items() if network.trained]


def required(name: str) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes that a network asks for."""
    from xaisim.ir.types import TensorType

    net = NetworkBuilder()
    net.input("input", TensorType(NETWORKS[name].input_shape))
    NETWORKS[name].write(net)
    return {tensor: parameter.shape for tensor, parameter in net.required.items()}


def drawn(name: str, dtype: type = np.float32) -> dict[str, np.ndarray]:
    """Return random tensors of the right names and shapes; variances are positive."""
    rng = np.random.default_rng(11)
    return {tensor: rng.uniform(0.1, 0.2, shape).astype(dtype) for tensor, shape in required(name).items()}


def constants(model: Model) -> dict[str, np.ndarray]:
    return {name: constant.value for name, constant in model.graph.constants.items() if constant.value is not None}


def refused(name: str, path: Path) -> str:
    with pytest.raises(UserError) as error:
        load_model(name, path)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


# ---------------------------------------------------------------------------------------------------------------------
# Files


@pytest.mark.parametrize("name", ["cifar_cnn", "resnet18_tiny"])
def test_safetensors_of_the_right_names_are_taken(name: str, tmp_path: Path) -> None:
    tensors = drawn(name)
    save_file({**tensors, "unused.counter": np.zeros(1, np.int64)}, tmp_path / "mine.safetensors")
    model = load_model(name, tmp_path / "mine.safetensors")
    verify(model.graph)
    assert (model.weights, model.trained, model.accuracy) == ("mine.safetensors", True, None)
    assert (model.mean, model.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert model.classes == tuple(map(str, range(10)))
    assert np.array_equal(constants(model)["fc.w" if "fc.weight" in tensors else "fc2.w"], tensors[list(tensors)[-2]])


def test_metadata_name_classes_and_normalisation(tmp_path: Path) -> None:
    metadata = {"classes": "a,b,c,d,e,f,g,h,i,j", "input_mean": "0,0.5,1", "input_std": "1,2,3", "test_accuracy": "0.5"}
    save_file(drawn("cifar_cnn"), tmp_path / "mine.safetensors", metadata)
    model = load_model("cifar_cnn", tmp_path / "mine.safetensors")
    assert (model.classes, model.mean, model.std) == (tuple("abcdefghij"), (0.0, 0.5, 1.0), (1.0, 2.0, 3.0))
    assert model.accuracy == 0.5


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_numbers_of_any_width_are_read_exactly(dtype: type, tmp_path: Path) -> None:
    tensors = drawn("cifar_cnn", dtype)
    save_file(tensors, tmp_path / "mine.safetensors")
    values = constants(load_model("cifar_cnn", tmp_path / "mine.safetensors"))
    assert values["conv1.w"].dtype == np.float64
    assert np.array_equal(values["conv1.w"], tensors["conv1.weight"].astype(np.float64))


def test_what_is_wrong_with_a_file_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    tensors = drawn("resnet18_tiny")
    tensors.pop("fc.bias")
    tensors["fc.weight"] = tensors["fc.weight"].T.copy()
    tensors["conv1.weight"][0, 0, 0, 0] = np.inf
    tensors["bn1.running_var"] *= -1
    save_file(tensors, path)
    assert refused("resnet18_tiny", path).split("; ") == [
        "1 of 102 tensors are missing: fc.bias",
        "1 tensor has another shape: fc.weight is 128x10 instead of 10x128",
        "1 tensor has values that are no finite float32: conv1.weight",
        "1 tensor has negative variances: bn1.running_var",
    ]
    with pytest.raises(UserError, match="1 of 102 tensors are missing"):
        load_model("resnet18_tiny", path, values=False)  # a profile does not take a wrong file either


def test_long_lists_are_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file({"conv1.weight": np.zeros((32, 3, 3, 3), np.float32)}, path)
    text = refused("cifar_cnn", path)
    assert (
        text
        == "11 of 12 tensors are missing: conv1.bias, conv2.weight, conv2.bias, conv3.weight, conv3.bias and 6 more"
    )


def test_pth_files_are_read_and_never_run(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tensors = {name: torch.tensor(values) for name, values in drawn("cifar_cnn").items()}
    path = tmp_path / "mine.pth"
    for kind in (torch.float32, torch.float64, torch.bfloat16):
        torch.save({name: tensor.to(kind) for name, tensor in tensors.items()}, path)
        values = constants(load_model("cifar_cnn", path))
        assert np.array_equal(values["conv2.w"], tensors["conv2.weight"].to(kind).to(torch.float64).numpy())
    parameters = {name: torch.nn.Parameter(tensor) for name, tensor in tensors.items()}
    torch.save(parameters, tmp_path / "mine.pt")
    assert np.array_equal(
        constants(load_model("cifar_cnn", tmp_path / "mine.pt"))["fc1.w"], tensors["fc1.weight"].double().numpy()
    )
    torch.save({**tensors, "conv1.weight": tensors["conv1.weight"][:3]}, path)
    assert refused("cifar_cnn", path) == "1 tensor has another shape: conv1.weight is 3x3x3x3 instead of 32x3x3x3"


class Code:
    """What unpickling would run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


def test_pth_files_of_anything_else_are_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "mine.pth"
    ran = tmp_path / "ran"
    objects = "not a plain state dict; damaged, or it holds Python objects, which are not run"
    torch.save({"a": Code(ran)}, path)
    assert refused("cifar_cnn", path) == objects
    path.write_bytes(pickle.dumps(Code(ran)))
    assert refused("cifar_cnn", path) == objects
    torch.save(torch.nn.Linear(2, 2), path)
    assert refused("cifar_cnn", path) == objects
    for junk in (b"", b"abc", np.random.default_rng(0).bytes(300)):
        path.write_bytes(junk)
        assert refused("cifar_cnn", path) == objects
    torch.save([1, 2], path)
    assert refused("cifar_cnn", path) == "not a state dict but a list"
    torch.save({"state_dict": {}, "epoch": 3}, path)
    assert refused("cifar_cnn", path) == "not a plain state dict of tensors; it has state_dict, epoch"
    assert not ran.exists()


def test_bfloat16_safetensors_are_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_tensors

    path = tmp_path / "mine.safetensors"
    save_tensors({name: torch.tensor(v).bfloat16() for name, v in drawn("cifar_cnn").items()}, path)
    assert refused("cifar_cnn", path).startswith("numbers of a kind that is not read (")


# ---------------------------------------------------------------------------------------------------------------------
# Random weights


def test_random_weights_follow_the_seed_and_are_named() -> None:
    first, again, other = (load_model("cifar_cnn", "random", seed=seed) for seed in (0, 0, 1))
    for name, values in constants(first).items():
        assert np.array_equal(values, constants(again)[name])
    assert not np.array_equal(constants(first)["conv1.w"], constants(other)["conv1.w"])
    assert (first.weights, other.weights) == ("random weights (seed 0)", "random weights (seed 1)")
    assert not first.trained


def test_random_is_the_default_where_no_weights_ship() -> None:
    assert load_model("resnet18_cifar", seed=3).weights == "random weights (seed 3)"
    assert load_model("resnet18_cifar", values=False).weights == "shapes only"


@pytest.mark.parametrize("name", ["resnet18_cifar", "resnet18_tiny", "inception_v3_tiny"])
def test_random_weights_keep_the_signal_alive(name: str) -> None:
    model = load_model(name, "random")
    x = np.random.default_rng(0).normal(size=(1, *model.input_shape))
    logits = evaluate(model.graph, {"input": x})["logits"]
    assert 1e-3 < logits.std() < 1e3


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_alone_make_the_same_graph(name: str) -> None:
    model = load_model(name, values=False)
    verify(model.graph)
    assert all(constant.value is None for n, constant in model.graph.constants.items() if not n.endswith(".scale"))
    assert model.input_shape == NETWORKS[name].input_shape
    assert len(model.classes) == model.graph.types()["logits"].shape[0]
    if name in TRAINED:
        assert str(load_model(name).graph) == str(model.graph)


# ---------------------------------------------------------------------------------------------------------------------
# Shipped weights


@pytest.mark.parametrize("name", TRAINED)
def test_shipped_weights_say_where_they_come_from(name: str) -> None:
    with safe_open(data_root() / "workloads" / "weights" / f"{name}.safetensors", framework="numpy") as file:
        metadata = file.metadata()
    model = load_model(name)
    assert (metadata["model"], metadata["test_images"]) == (name, "320")
    assert model.weights == f"{name}.safetensors"
    assert model.accuracy == float(metadata["test_accuracy"])
    assert model.accuracy >= 0.97


def accuracy(model: Model, count: int) -> float:
    """Return the share of the first ``count`` test scenes whose class is predicted."""
    hits = 0
    for first in range(0, count, 32):
        scenes = [shipped_scene(model, i) for i in range(first, min(count, first + 32))]
        logits = evaluate(model.graph, {"input": np.concatenate([scene.x for scene in scenes])})["logits"]
        hits += int((logits.argmax(axis=1) == [scene.label for scene in scenes]).sum())
    return hits / count


def test_the_smallest_network_reads_digits() -> None:
    assert accuracy(load_model("cifar_cnn"), 64) >= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_shipped_weights_reproduce_their_accuracy(name: str) -> None:
    model = load_model(name)
    assert model.accuracy == round(accuracy(model, scene_count()), 4)
