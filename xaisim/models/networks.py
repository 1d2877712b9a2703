"""The built-in networks, each a function that writes itself through a builder and returns (features, logits).

``features`` is the last feature map before pooling: the layer GradCAM looks at unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from xaisim.models.builder import NetworkBuilder, Pair

Write = Callable[[NetworkBuilder], tuple[str, str]]

# torchvision feeds InceptionV3 images normalised with ImageNet's statistics and moves them to (x − 0.5) / 0.5 inside.
_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406])
_IMAGENET_STD = np.array([0.229, 0.224, 0.225])
_INCEPTION_INPUT = (_IMAGENET_STD / 0.5, (_IMAGENET_MEAN - 0.5) / 0.5)


def _basic_block(net: NetworkBuilder, name: str, x: str, filters: int, stride: int) -> str:
    """ResNet's two 3×3 convolutions beside a shortcut (He et al. 2016, fig. 5 left)."""
    y = net.conv(f"{name}.conv1", x, filters, 3, stride, 1, bn=(f"{name}.bn1", 1e-5))
    y = net.relu(f"{name}.relu1", y)
    # A quarter of the signal keeps the variance of a random network about level through the sums.
    y = net.conv(f"{name}.conv2", y, filters, 3, 1, 1, bn=(f"{name}.bn2", 1e-5), gain=0.25)
    if stride != 1 or net.types[x].shape[0] != filters:
        x = net.conv(f"{name}.downsample.0", x, filters, 1, stride, bn=(f"{name}.downsample.1", 1e-5))
    net.layer = f"{name}.add"
    return net.relu(f"{name}.relu2", net.add(f"{name}.add", "add", y, x))


def resnet18(width: int = 64, classes: int = 1000, stem: tuple[int, int] = (7, 2), *, pool: bool = True) -> Write:
    """ResNet18 with a ``stem`` of (kernel, stride) and an optional max-pool behind it."""

    def write(net: NetworkBuilder) -> tuple[str, str]:
        kernel, stride = stem
        x = net.conv("conv1", "input", width, kernel, stride, kernel // 2, bn=("bn1", 1e-5))
        x = net.relu("relu", x)
        if pool:
            x = net.maxpool("maxpool", x, 3, 2, 1)
        for stage in range(4):
            for block in range(2):
                first = stage > 0 and block == 0
                x = _basic_block(net, f"layer{stage + 1}.{block}", x, width << stage, 2 if first else 1)
        return x, net.linear("fc", net.global_avgpool("avgpool", x), classes, node="logits")

    return write


def cifar_cnn(net: NetworkBuilder) -> tuple[str, str]:
    """32C3-32C3-P2-64C3-64C3-P2-FC128-FC10."""
    x = "input"
    for i, filters in enumerate((32, 32, 64, 64), start=1):
        x = net.relu(f"relu{i}", net.conv(f"conv{i}", x, filters, 3, padding=1))
        features = x
        if i % 2 == 0:
            x = net.maxpool(f"pool{i // 2}", x, 2, 2)
    x = net.linear("fc1", net.flatten("flatten", x), 128)
    return features, net.linear("fc2", net.relu("relu5", x), 10, node="logits")


class _Inception:
    """InceptionV3's modules (Szegedy et al. 2016) under torchvision's names, every width divided by ``divisor``."""

    def __init__(self, net: NetworkBuilder, divisor: int) -> None:
        self.net = net
        self.divisor = divisor

    def unit(
        self, name: str, x: str, filters: int, kernel: int | Pair = 1, stride: int = 1, padding: int | Pair = 0
    ) -> str:
        """Convolution, BatchNorm with eps 1e-3, ReLU."""
        affine = _INCEPTION_INPUT if name == "Conv2d_1a_3x3" and self.divisor == 1 else None
        y = self.net.conv(
            name, x, filters // self.divisor, kernel, stride, padding, bn=(f"{name}.bn", 1e-3), input_affine=affine
        )
        return self.net.relu(f"{name}.relu", y)

    def chain(self, name: str, x: str, *steps: tuple[str, int, int | Pair, int, int | Pair]) -> str:
        """Units one behind the other, each (suffix, filters, kernel, stride, padding)."""
        for suffix, filters, kernel, stride, padding in steps:
            x = self.unit(f"{name}.{suffix}", x, filters, kernel, stride, padding)
        return x

    def pooled(self, name: str, x: str, filters: int) -> str:
        """The 3×3 average pool (padding counted) and 1×1 convolution at the side of a module."""
        return self.unit(f"{name}.branch_pool", self.net.avgpool(f"{name}.avgpool", x, 3, 1, 1), filters)

    def join(self, name: str, *branches: str) -> str:
        """Channels side by side."""
        self.net.layer = name
        return self.net.add(name, "concat", *branches)

    def a(self, name: str, x: str, pool_filters: int) -> str:
        """35×35 module: 1×1, 5×5, double 3×3, pool."""
        return self.join(
            name,
            self.unit(f"{name}.branch1x1", x, 64),
            self.chain(name, x, ("branch5x5_1", 48, 1, 1, 0), ("branch5x5_2", 64, 5, 1, 2)),
            self.chain(
                name, x,
                ("branch3x3dbl_1", 64, 1, 1, 0), ("branch3x3dbl_2", 96, 3, 1, 1), ("branch3x3dbl_3", 96, 3, 1, 1),
            ),
            self.pooled(name, x, pool_filters),
        )  # fmt: skip

    def b(self, name: str, x: str) -> str:
        """Reduction from 35×35 to 17×17."""
        return self.join(
            name,
            self.unit(f"{name}.branch3x3", x, 384, 3, 2),
            self.chain(
                name, x,
                ("branch3x3dbl_1", 64, 1, 1, 0), ("branch3x3dbl_2", 96, 3, 1, 1), ("branch3x3dbl_3", 96, 3, 2, 0),
            ),
            self.net.maxpool(f"{name}.maxpool", x, 3, 2),
        )  # fmt: skip

    def c(self, name: str, x: str, c7: int) -> str:
        """17×17 module with factorised 7×7 kernels."""
        row, column = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))
        return self.join(
            name,
            self.unit(f"{name}.branch1x1", x, 192),
            self.chain(
                name, x, ("branch7x7_1", c7, 1, 1, 0), ("branch7x7_2", c7, *row), ("branch7x7_3", 192, *column)
            ),
            self.chain(
                name, x,
                ("branch7x7dbl_1", c7, 1, 1, 0), ("branch7x7dbl_2", c7, *column), ("branch7x7dbl_3", c7, *row),
                ("branch7x7dbl_4", c7, *column), ("branch7x7dbl_5", 192, *row),
            ),
            self.pooled(name, x, 192),
        )  # fmt: skip

    def d(self, name: str, x: str) -> str:
        """Reduction from 17×17 to 8×8."""
        return self.join(
            name,
            self.chain(name, x, ("branch3x3_1", 192, 1, 1, 0), ("branch3x3_2", 320, 3, 2, 0)),
            self.chain(
                name, x,
                ("branch7x7x3_1", 192, 1, 1, 0), ("branch7x7x3_2", 192, (1, 7), 1, (0, 3)),
                ("branch7x7x3_3", 192, (7, 1), 1, (3, 0)), ("branch7x7x3_4", 192, 3, 2, 0),
            ),
            self.net.maxpool(f"{name}.maxpool", x, 3, 2),
        )  # fmt: skip

    def e(self, name: str, x: str) -> str:
        """8×8 module: 3×3 kernels split into a row and a column that are joined."""
        narrow = self.unit(f"{name}.branch3x3_1", x, 384)
        double = self.chain(name, x, ("branch3x3dbl_1", 448, 1, 1, 0), ("branch3x3dbl_2", 384, 3, 1, 1))
        return self.join(
            name,
            self.unit(f"{name}.branch1x1", x, 320),
            self.unit(f"{name}.branch3x3_2a", narrow, 384, (1, 3), 1, (0, 1)),
            self.unit(f"{name}.branch3x3_2b", narrow, 384, (3, 1), 1, (1, 0)),
            self.unit(f"{name}.branch3x3dbl_3a", double, 384, (1, 3), 1, (0, 1)),
            self.unit(f"{name}.branch3x3dbl_3b", double, 384, (3, 1), 1, (1, 0)),
            self.pooled(name, x, 192),
        )


def inception_v3(divisor: int = 1, classes: int = 1000, stem_stride: int = 2) -> Write:
    """InceptionV3 without its auxiliary head; at full width the input transform of torchvision is folded in."""

    def write(net: NetworkBuilder) -> tuple[str, str]:
        m = _Inception(net, divisor)
        x = m.unit("Conv2d_1a_3x3", "input", 32, 3, stem_stride)
        x = m.unit("Conv2d_2a_3x3", x, 32, 3)
        x = m.unit("Conv2d_2b_3x3", x, 64, 3, 1, 1)
        x = net.maxpool("maxpool1", x, 3, 2)
        x = m.unit("Conv2d_3b_1x1", x, 80)
        x = m.unit("Conv2d_4a_3x3", x, 192, 3)
        x = net.maxpool("maxpool2", x, 3, 2)
        for name, pool_filters in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            x = m.a(name, x, pool_filters)
        x = m.b("Mixed_6a", x)
        for name, c7 in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
            x = m.c(name, x, c7)
        x = m.d("Mixed_7a", x)
        for name in ("Mixed_7b", "Mixed_7c"):
            x = m.e(name, x)
        return x, net.linear("fc", net.global_avgpool("avgpool", x), classes, node="logits")

    return write


@dataclass(frozen=True, slots=True)
class Network:
    """A built-in network: its input and how it writes itself."""

    input_shape: tuple[int, int, int]
    write: Write
    trained: bool = False
    """Weights ship with the package."""


NETWORKS: dict[str, Network] = {
    "resnet18": Network((3, 224, 224), resnet18()),
    "inception_v3": Network((3, 299, 299), inception_v3()),
    "resnet18_cifar": Network((3, 32, 32), resnet18(64, 10, (3, 1), pool=False)),
    "cifar_cnn": Network((3, 32, 32), cifar_cnn, trained=True),
    "resnet18_tiny": Network((3, 64, 64), resnet18(16, 10, (3, 1)), trained=True),
    "inception_v3_tiny": Network((3, 96, 96), inception_v3(8, 10, 1), trained=True),
}
