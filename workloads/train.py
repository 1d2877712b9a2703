"""Train the shipped networks on generated scenes and store their weights with the accuracy they reached.

    python workloads/train.py cifar_cnn          # or resnet18_tiny, inception_v3_tiny, all

Needs the ``train`` extra. The seed fixes the scenes, the initial weights and the order of the batches; the last
bits still depend on the torch build and on the number of threads.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from networks_torch import NETWORKS, build
from numpy.typing import NDArray
from safetensors.torch import save
from scenes import CLASSES, DATA_FOLDER, make_scenes, resize_images
from torch import Tensor, nn
from torch.nn import functional

WEIGHTS_FOLDER = Path(__file__).parent / "weights"
INPUT_MEAN, INPUT_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as torchvision's weights expect
REQUIRED_ACCURACY = 0.97
FRESH_COUNT = 2000
BATCH = 128


@dataclass(frozen=True)
class Recipe:
    """What differs between the networks' trainings."""

    epochs: int
    scenes: int
    peak_rate: float
    weight_decay: float


RECIPES = {
    "cifar_cnn": Recipe(epochs=14, scenes=24_000, peak_rate=1.5e-3, weight_decay=0.02),
    "resnet18_tiny": Recipe(epochs=10, scenes=16_000, peak_rate=6e-3, weight_decay=0.02),
    "inception_v3_tiny": Recipe(epochs=10, scenes=16_000, peak_rate=6e-3, weight_decay=0.02),
}


def normalise(images: NDArray[np.uint8]) -> Tensor:
    """Turn NHWC bytes into normalised NCHW float32."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(INPUT_MEAN).view(3, 1, 1)) / torch.tensor(INPUT_STD).view(3, 1, 1)


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Swap the colour channels, change gain and offset, and shift by up to 4 % of the side, alike for the batch."""
    x = x[:, torch.randperm(3, generator=generator)]
    gain, offset = (torch.rand(2, len(x), 1, 1, 1, generator=generator) - 0.5) * 0.4
    x = x * (1 + gain) + offset
    reach = round(x.shape[-1] * 0.04)
    down, right = torch.randint(0, 2 * reach + 1, (2,), generator=generator).tolist()
    side = x.shape[-1]
    return functional.pad(x, (reach,) * 4, mode="replicate")[..., down : down + side, right : right + side]


def train(name: str, recipe: Recipe, seed: int) -> nn.Module:
    """Train network ``name`` on scenes of train digits; print loss and time of every epoch."""
    side = NETWORKS[name][0]
    images, _, labels = make_scenes("train", recipe.scenes, seed)
    images, targets = resize_images(images, side), torch.from_numpy(labels).long()
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = build(name).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(model.parameters(), recipe.peak_rate, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.peak_rate, total_steps=steps, pct_start=0.2)
    start = time.perf_counter()
    for epoch in range(recipe.epochs):
        model.train()
        losses = []
        for batch in torch.randperm(len(images), generator=generator).split(BATCH):
            if len(batch) < BATCH:
                continue
            x = augment(normalise(images[batch.numpy()]), generator).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", dtype=torch.bfloat16):  # two to three times faster; the weights stay float32
                logits = model(x)
            loss = functional.cross_entropy(logits.float(), targets[batch], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        print(f"{name} epoch {epoch + 1}: loss {np.mean(losses):.4f}, {time.perf_counter() - start:.0f} s", flush=True)
    return model.eval()


def measure_accuracy(model: nn.Module, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> float:
    """Return the fraction of ``images`` (already of the network's side) that ``model`` classifies rightly."""
    with torch.no_grad():
        logits = torch.cat([model(normalise(images[i : i + BATCH])) for i in range(0, len(images), BATCH)])
    return float((logits.argmax(1).numpy() == labels).mean())


def save_weights(name: str, model: nn.Module, metadata: dict[str, str]) -> Path:
    """Write the float32 state dict, BatchNorm not folded, without the step counters; return the path."""
    tensors = {
        key: tensor.detach().to(torch.float32).contiguous()
        for key, tensor in model.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    WEIGHTS_FOLDER.mkdir(exist_ok=True)
    path = WEIGHTS_FOLDER / f"{name}.safetensors"
    path.write_bytes(save(tensors, metadata))
    return path


def run(name: str, recipe: Recipe, seed: int) -> None:
    """Train, test, print the accuracies and store the weights; refuse to store a network below what is required."""
    model = train(name, recipe, seed)
    side = NETWORKS[name][0]
    with np.load(DATA_FOLDER / "test_scenes.npz", allow_pickle=False) as shipped:
        images, labels = shipped["images"], shipped["labels"]
    accuracy = measure_accuracy(model, resize_images(images, side), labels)
    fresh_images, _, fresh_labels = make_scenes("test", FRESH_COUNT, seed + 1)
    fresh = measure_accuracy(model, resize_images(fresh_images, side), fresh_labels)
    print(f"{name}: test accuracy {accuracy:.4f} on {len(labels)} shipped scenes, {fresh:.4f} on {FRESH_COUNT} fresh")
    if accuracy < REQUIRED_ACCURACY:
        raise SystemExit(f"{name}: {accuracy:.4f} is below {REQUIRED_ACCURACY}; nothing stored")
    metadata = {
        "model": name,
        "test_accuracy": f"{accuracy:.4f}",
        "test_images": str(len(labels)),
        "fresh_accuracy": f"{fresh:.4f}",
        "fresh_images": str(FRESH_COUNT),
        "seed": str(seed),
        "epochs": str(recipe.epochs),
        "input_mean": ",".join(map(str, INPUT_MEAN)),
        "input_std": ",".join(map(str, INPUT_STD)),
        "classes": ",".join(map(str, range(CLASSES))),
        "torch": torch.__version__,
    }
    path = save_weights(name, model, metadata)
    print(f"{name}: wrote {path.name}, {path.stat().st_size / 1e6:.2f} MB")


def main() -> None:
    """Parse the command line and train what it names."""
    parser = argparse.ArgumentParser(description="Train the shipped networks.")
    parser.add_argument("name", choices=[*RECIPES, "all"])
    parser.add_argument("--epochs", type=int, help="instead of the network's own number")
    parser.add_argument("--scenes", type=int, help="instead of the network's own number of training scenes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in RECIPES if arguments.name == "all" else [arguments.name]:
        own = RECIPES[name]
        recipe = Recipe(arguments.epochs or own.epochs, arguments.scenes or own.scenes, own.peak_rate, own.weight_decay)
        run(name, recipe, arguments.seed)


if __name__ == "__main__":
    main()
