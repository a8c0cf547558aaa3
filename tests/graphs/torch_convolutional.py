"""Small convolutional torch networks of the families that members come from, with knobs for width and depth.

Block by block as torchvision and timm write them, for images of 16x16 pixels.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the networks under test are written in torch")
nn = torch.nn
Net = Any

CLASSES = 10
SIDE = 16


def conv_bn(channels: int, width: int, kernel: int = 3, stride: int = 1, groups: int = 1, act: Net = nn.ReLU) -> Net:
    """A convolution that keeps the size (but for its stride), BatchNorm and an activation (None for none)."""
    conv = nn.Conv2d(channels, width, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), *([act()] if act else []))


def pooled(channels: int) -> Net:
    """The end of most networks: global average pooling and a linear layer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


def perceptron(widths: Sequence[int] = (24, 16), act: Callable[[], Net] = nn.ReLU, norm: bool = False) -> Net:
    layers: list[Net] = [nn.Flatten()]
    fan = 3 * 8 * 8
    for width in widths:
        layers += [nn.Linear(fan, width), *([nn.BatchNorm1d(width)] if norm else []), act()]
        fan = width
    return nn.Sequential(*layers, nn.Linear(fan, CLASSES))


def vgg(blocks: Sequence[Sequence[int]] = ((6, 6), (8,)), hidden: int = 12, norm: bool = False) -> Net:
    layers: list[Net] = []
    channels = 3
    for block in blocks:
        for width in block:
            layers += [nn.Conv2d(channels, width, 3, padding=1), *([nn.BatchNorm2d(width)] if norm else []), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    fan = channels * (SIDE >> len(blocks)) ** 2
    head = [nn.Flatten(), nn.Linear(fan, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, CLASSES)]
    return nn.Sequential(*layers, *head)


def activated(width: int = 8, act: Callable[[], Net] = nn.LeakyReLU) -> Net:
    """Two convolutions with an activation that need not be the identity on what arrives."""
    layers = [nn.Conv2d(3, width, 3, padding=1), act(), nn.AvgPool2d(2), nn.Conv2d(width, width + 2, 3, 2, 1), act()]
    return nn.Sequential(*layers, pooled(width + 2))


def batch_norm(width: int) -> Net:
    return nn.BatchNorm2d(width)


def group_norm(width: int) -> Net:
    return nn.GroupNorm(2, width)


class Basic(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, channels: int, width: int, stride: int, norm: Callable[[int], Net] = batch_norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.norm1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = norm(width)
        self.shortcut = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), norm(width))

    def forward(self, x: Net) -> Net:
        inside = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(inside + self.shortcut(x))


class OptionA(nn.Module):
    """A basic block whose shortcut subsamples and pads with zero channels (He et al. 2016, option A)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.inside = nn.Sequential(conv_bn(channels, width, 3, stride), conv_bn(width, width, act=None))
        self.stride, self.missing = stride, width - channels

    def forward(self, x: Net) -> Net:
        short = x
        if self.stride != 1 or self.missing:
            side = self.missing // 2
            pads = (0, 0, 0, 0, side, self.missing - side)
            short = nn.functional.pad(x[:, :, :: self.stride, :: self.stride], pads)
        return torch.relu(self.inside(x) + short)


class Bottleneck(nn.Module):
    """1x1, 3x3 (grouped in ResNeXt), 1x1 and a shortcut."""

    def __init__(self, channels: int, width: int, stride: int, inner: int, groups: int = 1) -> None:
        super().__init__()
        self.inside = nn.Sequential(
            conv_bn(channels, inner, 1), conv_bn(inner, inner, 3, stride, groups), conv_bn(inner, width, 1, act=None)
        )
        self.shortcut = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = conv_bn(channels, width, 1, stride, act=None)

    def forward(self, x: Net) -> Net:
        return torch.relu(self.inside(x) + self.shortcut(x))


class PreActivation(nn.Module):
    """Normalisation and ReLU before each convolution; a projecting shortcut reads what is normalised."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.shortcut = None
        if stride != 1 or channels != width:
            self.shortcut = nn.Conv2d(channels, width, 1, stride, bias=False)

    def forward(self, x: Net) -> Net:
        ready = torch.relu(self.norm1(x))
        inside = self.conv2(torch.relu(self.norm2(self.conv1(ready))))
        return inside + (self.shortcut(ready) if self.shortcut is not None else x)


def stages(block: Callable[[int, int, int], Net], depths: Sequence[int], widths: Sequence[int], channels: int) -> Net:
    """Blocks in stages; every stage but the first halves the size."""
    layers = []
    for number, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        for position in range(depth):
            layers.append(block(channels, width, 2 if number and not position else 1))
            channels = width
    return nn.Sequential(*layers)


def resnet(depths: Sequence[int] = (1, 1), width: int = 4) -> Net:
    body = stages(Basic, depths, [width << i for i in range(len(depths))], width)
    return nn.Sequential(conv_bn(3, width), body, pooled(width << (len(depths) - 1)))


def resnet_imagenet(depths: Sequence[int] = (1, 1), width: int = 4) -> Net:
    """With the stem for large images: 7x7 at stride 2 and overlapping max pooling."""
    stem = [conv_bn(3, width, 7, 2), nn.MaxPool2d(3, 2, 1)]
    body = stages(Basic, depths, [width << i for i in range(len(depths))], width)
    return nn.Sequential(*stem, body, pooled(width << (len(depths) - 1)))


def resnet_group_norm(depths: Sequence[int] = (1, 1), width: int = 4) -> Net:
    def block(channels: int, out: int, stride: int) -> Net:
        return Basic(channels, out, stride, group_norm)

    stem = [nn.Conv2d(3, width, 3, padding=1, bias=False), group_norm(width), nn.ReLU()]
    return nn.Sequential(*stem, stages(block, depths, (width, 2 * width), width), pooled(2 * width))


def resnet_option_a(depths: Sequence[int] = (1, 1), width: int = 4) -> Net:
    return nn.Sequential(conv_bn(3, width), stages(OptionA, depths, (width, 2 * width), width), pooled(2 * width))


def resnet_bottleneck(depths: Sequence[int] = (1, 1), width: int = 8, inner: int = 4, groups: int = 1) -> Net:
    """ResNeXt where there are several groups."""

    def block(channels: int, out: int, stride: int) -> Net:
        return Bottleneck(channels, out, stride, inner * out // width, groups)

    return nn.Sequential(conv_bn(3, width), stages(block, depths, (width, 2 * width), width), pooled(2 * width))


def resnet_preactivation(depths: Sequence[int] = (1, 1), width: int = 4, factor: int = 1) -> Net:
    """A wide ResNet where the factor is more than one."""
    stem, last = nn.Conv2d(3, width, 3, padding=1, bias=False), 2 * width * factor
    body = stages(PreActivation, depths, (width * factor, last), width)
    return nn.Sequential(stem, body, nn.BatchNorm2d(last), nn.ReLU(), pooled(last))


class Dense(nn.Module):
    """Layers that each read all that came before (a list, as torchvision writes it)."""

    def __init__(self, channels: int, growth: int, depth: int, bottleneck: int = 2) -> None:
        super().__init__()
        inner = bottleneck * growth
        self.layers = nn.ModuleList(
            nn.Sequential(
                *(nn.BatchNorm2d(channels + i * growth), nn.ReLU()),
                *(nn.Conv2d(channels + i * growth, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU()),
                nn.Conv2d(inner, growth, 3, padding=1, bias=False),
            )
            for i in range(depth)
        )

    def forward(self, x: Net) -> Net:
        values = [x]
        for layer in self.layers:
            values.append(layer(torch.cat(values, 1)))
        return torch.cat(values, 1)


def densenet(depths: Sequence[int] = (2, 2), growth: int = 4, width: int = 8) -> Net:
    layers: list[Net] = [conv_bn(3, width)]
    channels = width
    for number, depth in enumerate(depths):
        layers.append(Dense(channels, growth, depth))
        channels += depth * growth
        if number < len(depths) - 1:
            half = width + number * 2
            conv = nn.Conv2d(channels, half, 1, bias=False)
            layers += [nn.BatchNorm2d(channels), nn.ReLU(), conv, nn.AvgPool2d(2)]
            channels = half
    return nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(), pooled(channels))


class Inception(nn.Module):
    """Four branches of 1x1, 3x3, twice 3x3 and pooling, concatenated."""

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        one, two, three, four = widths
        self.branches = nn.ModuleList(
            [
                conv_bn(channels, one, 1),
                nn.Sequential(conv_bn(channels, two, 1), conv_bn(two, two + 1)),
                nn.Sequential(conv_bn(channels, three, 1), conv_bn(three, three), conv_bn(three, three)),
                nn.Sequential(nn.AvgPool2d(3, 1, 1), conv_bn(channels, four, 1)),
            ]
        )

    def forward(self, x: Net) -> Net:
        return torch.cat([branch(x) for branch in self.branches], 1)


def inception(depth: int = 1, width: int = 6, branches: Sequence[int] = (3, 4, 2, 2)) -> Net:
    channels, layers = sum(branches) + 1, [conv_bn(3, width), Inception(width, branches)]
    layers += [Inception(channels, branches) for _ in range(depth - 1)]
    return nn.Sequential(*layers, nn.MaxPool2d(2), Inception(channels, branches), pooled(channels))


def signal(widths: Sequence[int] = (6, 8), norm: bool = True, kernel: int = 5) -> Net:
    """A network for one-dimensional signals (4 channels, 32 samples)."""
    layers: list[Net] = []
    channels = 4
    for width in widths:
        conv = nn.Conv1d(channels, width, kernel, padding=kernel // 2)
        layers += [conv, *([nn.BatchNorm1d(width)] if norm else []), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.MaxPool1d(2), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(channels, CLASSES))
