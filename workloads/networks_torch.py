"""The trained networks as torch modules, with torchvision's state-dict names and BatchNorm in place.

    model = build("resnet18_tiny")          # 3×64×64 → 10 logits
    model.load_state_dict(safetensors.torch.load_file("workloads/weights/resnet18_tiny.safetensors"))

Only training and cross-checks need torch; the simulator reads the same weight files without it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional


class CifarCnn(nn.Module):
    """32C3-32C3-P2-64C3-64C3-P2-FC128-FC10 with biases and without BatchNorm; input 3×32×32."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.conv4 = nn.Conv2d(64, 64, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(64 * 8 * 8, 128)
        self.fc2 = nn.Linear(128, classes)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv1(x))
        x = self.pool(self.relu(self.conv2(x)))
        x = self.relu(self.conv3(x))
        x = self.pool(self.relu(self.conv4(x)))
        return self.fc2(self.relu(self.fc1(x.flatten(1))))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut, projected by ``downsample`` where the shape changes; one reused ReLU."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or channels_in != channels:
            projection = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet18(nn.Module):
    """ResNet with two basic blocks per stage and a stem of ``stem_kernel`` (7 strides by 2, 3 by 1)."""

    def __init__(self, widths: tuple[int, int, int, int], stem_kernel: int = 7, classes: int = 1000) -> None:
        super().__init__()
        stem_stride = 2 if stem_kernel == 7 else 1
        self.conv1 = nn.Conv2d(3, widths[0], stem_kernel, stem_stride, padding=stem_kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        inputs, strides = (widths[0], *widths[:-1]), (1, 2, 2, 2)
        stages = [
            nn.Sequential(BasicBlock(before, width, stride), BasicBlock(width, width, 1))
            for before, width, stride in zip(inputs, widths, strides, strict=True)
        ]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


class BasicConv2d(nn.Module):
    """Convolution without bias, BatchNorm with epsilon 1e-3, ReLU."""

    def __init__(self, channels_in: int, channels: int, kernel: int | tuple[int, int], **options: object) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, kernel, bias=False, **options)  # type: ignore[arg-type]
        self.bn = nn.BatchNorm2d(channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


def _average_pool(x: Tensor) -> Tensor:
    """Average 3×3 windows at stride 1; the padding counts as zeros."""
    return functional.avg_pool2d(x, 3, stride=1, padding=1)


class InceptionA(nn.Module):
    """1×1, 5×5, double 3×3 and pooled branches side by side."""

    def __init__(self, channels_in: int, pool_features: int, divisor: int) -> None:
        super().__init__()
        n = partial(_divide, divisor=divisor)
        self.branch1x1 = BasicConv2d(channels_in, n(64), 1)
        self.branch5x5_1 = BasicConv2d(channels_in, n(48), 1)
        self.branch5x5_2 = BasicConv2d(n(48), n(64), 5, padding=2)
        self.branch3x3dbl_1 = BasicConv2d(channels_in, n(64), 1)
        self.branch3x3dbl_2 = BasicConv2d(n(64), n(96), 3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(n(96), n(96), 3, padding=1)
        self.branch_pool = BasicConv2d(channels_in, pool_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(_average_pool(x))], 1)


class InceptionB(nn.Module):
    """Reduction to half the side: strided 3×3, double 3×3, max pool."""

    def __init__(self, channels_in: int, divisor: int) -> None:
        super().__init__()
        n = partial(_divide, divisor=divisor)
        self.branch3x3 = BasicConv2d(channels_in, n(384), 3, stride=2)
        self.branch3x3dbl_1 = BasicConv2d(channels_in, n(64), 1)
        self.branch3x3dbl_2 = BasicConv2d(n(64), n(96), 3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(n(96), n(96), 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, functional.max_pool2d(x, 3, stride=2)], 1)


class InceptionC(nn.Module):
    """7×7 kernels factored into 1×7 and 7×1."""

    def __init__(self, channels_in: int, channels_7x7: int, divisor: int) -> None:
        super().__init__()
        n, c7 = partial(_divide, divisor=divisor), _divide(channels_7x7, divisor)
        wide, tall = {"kernel": (1, 7), "padding": (0, 3)}, {"kernel": (7, 1), "padding": (3, 0)}
        self.branch1x1 = BasicConv2d(channels_in, n(192), 1)
        self.branch7x7_1 = BasicConv2d(channels_in, c7, 1)
        self.branch7x7_2 = BasicConv2d(c7, c7, **wide)
        self.branch7x7_3 = BasicConv2d(c7, n(192), **tall)
        self.branch7x7dbl_1 = BasicConv2d(channels_in, c7, 1)
        self.branch7x7dbl_2 = BasicConv2d(c7, c7, **tall)
        self.branch7x7dbl_3 = BasicConv2d(c7, c7, **wide)
        self.branch7x7dbl_4 = BasicConv2d(c7, c7, **tall)
        self.branch7x7dbl_5 = BasicConv2d(c7, n(192), **wide)
        self.branch_pool = BasicConv2d(channels_in, n(192), 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(_average_pool(x))], 1)


class InceptionD(nn.Module):
    """Second reduction: strided 3×3, factored 7×7 then strided 3×3, max pool."""

    def __init__(self, channels_in: int, divisor: int) -> None:
        super().__init__()
        n = partial(_divide, divisor=divisor)
        self.branch3x3_1 = BasicConv2d(channels_in, n(192), 1)
        self.branch3x3_2 = BasicConv2d(n(192), n(320), 3, stride=2)
        self.branch7x7x3_1 = BasicConv2d(channels_in, n(192), 1)
        self.branch7x7x3_2 = BasicConv2d(n(192), n(192), (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = BasicConv2d(n(192), n(192), (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = BasicConv2d(n(192), n(192), 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([three, seven, functional.max_pool2d(x, 3, stride=2)], 1)


class InceptionE(nn.Module):
    """Branches that end in a 1×3 and a 3×1 kernel side by side."""

    def __init__(self, channels_in: int, divisor: int) -> None:
        super().__init__()
        n = partial(_divide, divisor=divisor)
        self.branch1x1 = BasicConv2d(channels_in, n(320), 1)
        self.branch3x3_1 = BasicConv2d(channels_in, n(384), 1)
        self.branch3x3_2a = BasicConv2d(n(384), n(384), (1, 3), padding=(0, 1))
        self.branch3x3_2b = BasicConv2d(n(384), n(384), (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = BasicConv2d(channels_in, n(448), 1)
        self.branch3x3dbl_2 = BasicConv2d(n(448), n(384), 3, padding=1)
        self.branch3x3dbl_3a = BasicConv2d(n(384), n(384), (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = BasicConv2d(n(384), n(384), (3, 1), padding=(1, 0))
        self.branch_pool = BasicConv2d(channels_in, n(192), 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        three = torch.cat([self.branch3x3_2a(three), self.branch3x3_2b(three)], 1)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        double = torch.cat([self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)], 1)
        return torch.cat([self.branch1x1(x), three, double, self.branch_pool(_average_pool(x))], 1)


class InceptionV3(nn.Module):
    """Inception v3 without auxiliary head, every channel count divided by ``divisor``."""

    def __init__(self, divisor: int = 1, stem_stride: int = 2, classes: int = 1000) -> None:
        super().__init__()
        n = partial(_divide, divisor=divisor)
        self.Conv2d_1a_3x3 = BasicConv2d(3, n(32), 3, stride=stem_stride)
        self.Conv2d_2a_3x3 = BasicConv2d(n(32), n(32), 3)
        self.Conv2d_2b_3x3 = BasicConv2d(n(32), n(64), 3, padding=1)
        self.maxpool1 = nn.MaxPool2d(3, 2)
        self.Conv2d_3b_1x1 = BasicConv2d(n(64), n(80), 1)
        self.Conv2d_4a_3x3 = BasicConv2d(n(80), n(192), 3)
        self.maxpool2 = nn.MaxPool2d(3, 2)
        self.Mixed_5b = InceptionA(n(192), n(32), divisor)
        self.Mixed_5c = InceptionA(n(256), n(64), divisor)
        self.Mixed_5d = InceptionA(n(288), n(64), divisor)
        self.Mixed_6a = InceptionB(n(288), divisor)
        self.Mixed_6b = InceptionC(n(768), 128, divisor)
        self.Mixed_6c = InceptionC(n(768), 160, divisor)
        self.Mixed_6d = InceptionC(n(768), 160, divisor)
        self.Mixed_6e = InceptionC(n(768), 192, divisor)
        self.Mixed_7a = InceptionD(n(768), divisor)
        self.Mixed_7b = InceptionE(n(1280), divisor)
        self.Mixed_7c = InceptionE(n(2048), divisor)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(n(2048), classes)

    def forward(self, x: Tensor) -> Tensor:
        for layer in list(self.children())[:-1]:  # the children are registered in the order of execution
            x = layer(x)
        return self.fc(x.flatten(1))


def _divide(channels: int, divisor: int) -> int:
    if channels % divisor:
        raise ValueError(f"{channels} channels cannot be divided by {divisor}")
    return channels // divisor


# Name: (input side, constructor) of the networks that ship with trained weights.
NETWORKS: dict[str, tuple[int, Callable[[], nn.Module]]] = {
    "cifar_cnn": (32, CifarCnn),
    "resnet18_tiny": (64, partial(ResNet18, (16, 32, 64, 128), stem_kernel=3, classes=10)),
    "inception_v3_tiny": (96, partial(InceptionV3, divisor=8, stem_stride=1, classes=10)),
}


def build(name: str) -> nn.Module:
    """Build the network ``name`` of ``NETWORKS`` with torch's default random weights."""
    return NETWORKS[name][1]()
