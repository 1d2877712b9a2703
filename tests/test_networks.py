"""Are the built-in networks the published ones? Sizes, work, storage, and equality with torch modules by name."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from xaisim.attribution.gradient import DECONVNET, differentiate
from xaisim.config import UserError, data_root
from xaisim.ir.graph import evaluate, verify
from xaisim.ir.ops import OPS
from xaisim.models import NETWORKS, load_model
from xaisim.models.load import IMAGENET_MEAN, IMAGENET_STD
from xaisim.models.networks import Network, inception_v3, resnet18

FORWARD_MACS = {
    "resnet18": 1_814_073_344,
    "inception_v3": 5_713_216_096,
    "resnet18_cifar": 555_422_720,
    "cifar_cnn": 25_003_264,
}


@pytest.mark.parametrize("name", FORWARD_MACS)
def test_a_published_network_has_the_published_multiplications(name: str) -> None:
    assert load_model(name, "random", values=False).graph.macs() == FORWARD_MACS[name]


@pytest.mark.parametrize("name", NETWORKS)
def test_backward_multiplies_as_often_as_forward_but_for_taps_on_the_border(name: str) -> None:
    """Without one product on an inserted zero: counted naively for every convolution, border taps apart."""
    graph = load_model(name, "random", values=False).graph
    backward = differentiate(graph, "logits", "input")
    forward_macs, backward_macs = backward.macs(backward=False), backward.macs(backward=True)
    assert forward_macs == graph.macs()
    assert 1 <= backward_macs / forward_macs < 1.03
    inside = {False: 0, True: 0}
    types = backward.types()
    for node in backward.nodes:
        if node.op == "conv":
            shapes = [types[a].shape for a in node.args]
            needed = shapes[1][0] * shapes[1][1] * real_taps(node.attrs, shapes, node.type.shape)
            assert OPS["conv"].macs(shapes, node) >= needed
            inside[node.backward] += needed
    assert inside[False] == inside[True]


def real_taps(attrs: dict[str, Any], shapes: list[tuple[int, ...]], out: tuple[int, ...]) -> int:
    """Count (output pixel, tap) pairs that meet an element of the input: no padding, no inserted zero."""
    counts = []
    for axis in range(2):
        pad, stride = attrs["padding"][axis], attrs["stride"][axis]
        dilation, extent = attrs.get("dilation", (1, 1))[axis], shapes[0][1 + axis]
        places = [p * stride + r - pad for p in range(out[1 + axis]) for r in range(shapes[1][2 + axis])]
        counts.append(sum(place % dilation == 0 and 0 <= place // dilation < extent for place in places))
    return counts[0] * counts[1]


def test_inception_v3_has_the_published_maps_at_every_stage() -> None:
    types = load_model("inception_v3", values=False).graph.types()
    shapes = {
        "Conv2d_1a_3x3": (32, 149, 149),
        "Conv2d_2a_3x3": (32, 147, 147),
        "Conv2d_2b_3x3": (64, 147, 147),
        "maxpool1": (64, 73, 73),
        "Conv2d_3b_1x1": (80, 73, 73),
        "Conv2d_4a_3x3": (192, 71, 71),
        "maxpool2": (192, 35, 35),
        "Mixed_5b": (256, 35, 35),
        "Mixed_5c": (288, 35, 35),
        "Mixed_5d": (288, 35, 35),
        "Mixed_6a": (768, 17, 17),
        "Mixed_6e": (768, 17, 17),
        "Mixed_7a": (1280, 8, 8),
        "Mixed_7b": (2048, 8, 8),
        "Mixed_7c": (2048, 8, 8),
        "logits": (1000,),
    }
    assert {name: types[name].shape for name in shapes} == shapes


def test_inception_v3_has_four_max_pools_and_average_pools_that_count_padding() -> None:
    graph = load_model("inception_v3", values=False).graph
    pools = [node for node in graph.nodes if node.op == "maxpool"]
    assert [node.attrs["kernel"] for node in pools] == [(3, 3)] * 4
    average = [node for node in graph.nodes if node.op == "avgpool"]
    assert len(average) == 10
    assert [n.attrs["padding"] for n in average[:-1]] == [(1, 1, 1, 1)] * 9
    assert all(graph.constants[n.args[1]].value == pytest.approx(1 / 9) for n in average[:-1])


@pytest.mark.parametrize(
    ("name", "mask_bits", "index_bits"),
    [
        ("resnet18", 2_308_096, 4 * 64 * 56 * 56),  # 281.8 KiB and 98 KiB
        ("inception_v3", 8_967_488, 2_834_560),  # 1094.7 KiB and 346 KiB
        ("resnet18_cifar", 557_056, 0),  # 68 KiB
        ("cifar_cnn", 12 * 1024 * 8 + 128, 24_576),
    ],
)
def test_backward_stores_the_published_mask_and_index_bits(name: str, mask_bits: int, index_bits: int) -> None:
    backward = differentiate(load_model(name, "random", values=False).graph, "logits", "input")
    stored = {op: sum(n.type.size_bits for n in backward.nodes if n.op == op) for op in ("positive", "pool_index")}
    assert stored == {"positive": mask_bits, "pool_index": index_bits}


def test_deconvnet_stores_no_mask() -> None:
    graph = load_model("cifar_cnn", "random", values=False).graph
    assert not [n for n in differentiate(graph, "logits", "input", rules=DECONVNET).nodes if n.op == "positive"]


# Against torch modules ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch_networks() -> ModuleType:
    pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location("networks_torch", data_root() / "workloads" / "networks_torch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def randomised(module: Any, seed: int = 0) -> Any:
    """Give a torch module BatchNorm statistics and biases that a folding mistake would show in, in float64."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    module = module.double().eval()
    for name, tensor in module.state_dict().items():
        if name.endswith("running_var") or (".bn" in name and name.endswith("weight")):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith(("running_mean", "bias")):
            tensor.normal_(0, 0.2, generator=generator)
    return module


def saved(module: Any, folder: Path, suffix: str) -> Path:
    path = folder / f"weights{suffix}"
    if suffix == ".pth":
        import torch

        torch.save(module.state_dict(), path)
    else:
        from safetensors.torch import save_file

        save_file(module.state_dict(), path)
    return path


def assert_equal_logits(name: str, module: Any, path: Path, transform: Any = None) -> None:
    import torch

    model = load_model(name, path)
    verify(model.graph)
    x = np.random.default_rng(1).normal(size=(2, *model.input_shape))
    with torch.no_grad():
        seen = torch.tensor(x if transform is None else transform(x))
        expected = module(seen).numpy()
    actual = evaluate(model.graph, {"input": x})["logits"]
    assert np.abs(actual - expected).max() / np.abs(expected).max() < 1e-9
    assert model.weights == path.name
    assert model.trained


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("name", ["cifar_cnn", "resnet18_tiny", "inception_v3_tiny"])
def test_a_state_dict_of_torch_gives_equal_logits(
    name: str, suffix: str, torch_networks: ModuleType, tmp_path: Path
) -> None:
    module = randomised(torch_networks.build(name))
    assert_equal_logits(name, module, saved(module, tmp_path, suffix))


def test_resnet18_reads_the_names_of_torchvision(
    torch_networks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NETWORKS, "resnet18", Network((3, 64, 64), resnet18()))
    module = randomised(torch_networks.ResNet18((64, 128, 256, 512)))
    names = set(module.state_dict())
    assert {"conv1.weight", "bn1.running_mean", "layer2.0.downsample.1.weight", "layer4.1.bn2.bias", "fc.bias"} < names
    assert_equal_logits("resnet18", module, saved(module, tmp_path, ".safetensors"))


def test_inception_v3_folds_batch_norm_and_the_input_transform_of_torchvision(
    torch_networks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchvision moves images normalised with ImageNet's statistics to (x − 0.5) / 0.5 before the first layer."""
    monkeypatch.setitem(NETWORKS, "inception_v3", Network((3, 75, 75), inception_v3()))
    module = randomised(torch_networks.InceptionV3())
    assert {"Mixed_6b.branch7x7dbl_5.conv.weight", "Mixed_7a.branch3x3_1.bn.running_var"} < set(module.state_dict())

    def transform(x: np.ndarray) -> np.ndarray:
        mean, std = (np.array(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
        return (x * std + mean - 0.5) / 0.5

    assert_equal_logits("inception_v3", module, saved(module, tmp_path, ".safetensors"), transform)


# Weights --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, network in NETWORKS.items() if network.trained])
def test_a_trained_network_ships_with_weights_and_their_accuracy(name: str) -> None:
    model = load_model(name)
    assert model.trained
    assert model.weights == f"{name}.safetensors"
    assert model.accuracy is not None
    assert model.accuracy >= 0.97
    assert len(model.classes) == 10
    assert model.features in model.graph.types()


def test_random_weights_depend_on_the_seed_alone_and_keep_the_variance() -> None:
    first, again, other = (load_model("resnet18_tiny", "random", seed=seed) for seed in (0, 0, 1))
    assert first.weights == "random weights (seed 0)"
    assert not first.trained
    for name, constant in first.graph.constants.items():
        assert constant.value is not None
        assert (constant.value == again.graph.constants[name].value).all()
    x = np.random.default_rng(0).normal(size=(1, *first.input_shape))
    logits = [evaluate(model.graph, {"input": x})["logits"] for model in (first, other)]
    assert (logits[0] != logits[1]).all()
    assert 0.01 < logits[0].std() < 100


def test_missing_and_misshapen_tensors_are_listed(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    found = load_file(data_root() / "workloads" / "weights" / "cifar_cnn.safetensors")
    del found["conv2.bias"], found["fc1.weight"]
    found["conv1.weight"] = np.zeros((32, 3, 5, 5), np.float32)
    found["fc2.bias"] = np.full(10, np.nan, np.float32)
    path = tmp_path / "broken.safetensors"
    save_file(found, path)
    with pytest.raises(UserError) as error:
        load_model("cifar_cnn", path)
    missing, misshapen, infinite = str(error.value).split("; ")
    assert missing == f"{path}: 2 of 12 tensors are missing: conv2.bias, fc1.weight"
    assert misshapen.endswith(" another shape: conv1.weight is 32x3x5x5 instead of 32x3x3x3")
    assert "finite" in infinite
    assert infinite.endswith(": fc2.bias")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("none.safetensors", None, "no such weights file"),
        ("text.safetensors", b"no tensors here", "not a readable .safetensors file"),
        ("text.pth", b"no tensors here", "not a plain state dict"),
        ("weights.h5", b"", "must be a .safetensors or .pth file"),
    ],
)
def test_an_unreadable_weights_file_is_one_clear_line(
    file: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    if file.endswith(".pth"):
        pytest.importorskip("torch", reason="reading .pth files needs PyTorch")
    path = tmp_path / file
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        load_model("cifar_cnn", path)
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_network_lists_the_choices() -> None:
    with pytest.raises(UserError, match="unknown model 'resnet19'; did you mean 'resnet18'"):
        load_model("resnet19")
