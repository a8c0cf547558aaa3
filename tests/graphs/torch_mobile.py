"""Small torch networks made for telephones and what grew out of them: depthwise convolutions, gates, shuffles.

Block by block as torchvision and timm write them, for images of 16x16 pixels.
"""

from collections.abc import Callable, Sequence

from torch_convolutional import CLASSES, Net, conv_bn, nn, pooled, torch


class Gate(nn.Module):
    """Squeeze and excite: pool, narrow, widen, multiply."""

    def __init__(self, width: int, inner: int, act: Callable[[], Net], gate: Callable[[], Net]) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, inner, 1), act(), nn.Conv2d(inner, width, 1), gate()
        )

    def forward(self, x: Net) -> Net:
        return x * self.path(x)


class MeanGate(Gate):
    """The gate as timm writes it: the mean over the axes in place of a pooling layer."""

    def forward(self, x: Net) -> Net:
        return x * self.path[1:](x.mean((2, 3), keepdim=True))


class Inverted(nn.Module):
    """Widen, depthwise, gate, narrow; a shortcut where nothing changes (MobileNetV2, V3, EfficientNet)."""

    def __init__(self, channels: int, width: int, stride: int, inner: int, kernel: int, act: Net, gate: Net) -> None:
        super().__init__()
        self.path = nn.Sequential(
            conv_bn(channels, inner, 1, act=act),
            conv_bn(inner, inner, kernel, stride, inner, act),
            *([gate(inner)] if gate else []),
            conv_bn(inner, width, 1, act=None),
        )
        self.short = stride == 1 and channels == width

    def forward(self, x: Net) -> Net:
        return x + self.path(x) if self.short else self.path(x)


def _inverted(depths: Sequence[int], width: int, expand: int, kernel: int, act: Net, gate: Net) -> list[Net]:
    layers, channels = [conv_bn(3, width, 3, 2, act=act)], width
    for number, depth in enumerate(depths):
        out = width + 2 * number
        for position in range(depth):
            stride = 2 if number and not position else 1
            layers.append(Inverted(channels, out, stride, expand * channels, kernel, act, gate))
            channels = out
    return [*layers, conv_bn(channels, 2 * channels, 1, act=act)]


def mobilenet_v2(depths: Sequence[int] = (1, 2), width: int = 4, expand: int = 2) -> Net:
    layers = _inverted(depths, width, expand, 3, nn.ReLU6, None)
    last = 2 * (width + 2 * len(depths) - 2)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(last, CLASSES))


def mobilenet_v3(depths: Sequence[int] = (1, 2), width: int = 4, hidden: int = 12, kernel: int = 5) -> Net:
    def gate(inner: int) -> Net:
        return Gate(inner, max(inner // 4, 2), nn.ReLU, nn.Hardsigmoid)

    layers = _inverted(depths, width, 2, kernel, nn.Hardswish, gate)
    last = 2 * (width + 2 * len(depths) - 2)
    head = [nn.Linear(last, hidden), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(hidden, CLASSES)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head)


def efficientnet(depths: Sequence[int] = (1, 2), width: int = 4, expand: int = 2, mean: bool = False) -> Net:
    def gate(inner: int) -> Net:
        return (MeanGate if mean else Gate)(inner, max(inner // 4, 2), nn.SiLU, nn.Sigmoid)

    layers = _inverted(depths, width, expand, 3, nn.SiLU, gate)
    return nn.Sequential(*layers, pooled(2 * (width + 2 * len(depths) - 2)))


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of an image."""

    def forward(self, x: Net) -> Net:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNextBlock(nn.Module):
    """Depthwise 7x7, LayerNorm, a perceptron with channels last, layer scale, shortcut."""

    def __init__(self, width: int, factor: int = 2, dense: bool = True) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.first, self.second = nn.Linear(width, factor * width), nn.Linear(factor * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.1)) if dense else None

    def forward(self, x: Net) -> Net:
        inside = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        inside = self.second(nn.functional.gelu(self.first(inside)))
        return x + (inside if self.scale is None else inside * self.scale).permute(0, 3, 1, 2)


class ConvNextConvBlock(ConvNextBlock):
    """The same with 1x1 convolutions and the scale beside the channels (timm's `conv_mlp`)."""

    def __init__(self, width: int, factor: int = 2) -> None:
        super().__init__(width, factor)
        self.norm = ChannelNorm(width, eps=1e-6)
        self.first, self.second = nn.Conv2d(width, factor * width, 1), nn.Conv2d(factor * width, width, 1)

    def forward(self, x: Net) -> Net:
        inside = self.second(nn.functional.gelu(self.first(self.norm(self.depthwise(x)))))
        return x + inside * self.scale.reshape(1, -1, 1, 1)


def convnext(depths: Sequence[int] = (1, 1), width: int = 6, conv: bool = False) -> Net:
    layers: list[Net] = [nn.Conv2d(3, width, 2, 2), ChannelNorm(width, eps=1e-6)]
    for number, depth in enumerate(depths):
        out = width << number
        if number:
            layers += [ChannelNorm(out // 2, eps=1e-6), nn.Conv2d(out // 2, out, 2, 2)]
        layers += [(ConvNextConvBlock if conv else ConvNextBlock)(out) for _ in range(depth)]
    last = width << (len(depths) - 1)
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(last, eps=1e-6), nn.Linear(last, CLASSES)]
    return nn.Sequential(*layers, *pool)


class Fire(nn.Module):
    """SqueezeNet's block: squeeze by 1x1, expand by 1x1 and 3x3, concatenate."""

    def __init__(self, channels: int, squeeze: int, one: int, three: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.one, self.three = nn.Conv2d(squeeze, one, 1), nn.Conv2d(squeeze, three, 3, padding=1)

    def forward(self, x: Net) -> Net:
        x = torch.relu(self.squeeze(x))
        return torch.cat([torch.relu(self.one(x)), torch.relu(self.three(x))], 1)


def squeezenet(width: int = 6, squeeze: int = 3, one: int = 4, three: int = 5) -> Net:
    layers = [nn.Conv2d(3, width, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)]
    layers += [Fire(width, squeeze, one, three), Fire(one + three, squeeze, one, three)]
    head = [nn.Dropout(), nn.Conv2d(one + three, CLASSES, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, *head)


def shuffled(x: Net, groups: int) -> Net:
    """Channels of all groups in turn."""
    batch, channels, height, width = x.size()
    x = x.view(batch, groups, channels // groups, height, width)
    return x.transpose(1, 2).contiguous().view(batch, channels, height, width)


class Shuffle(nn.Module):
    """ShuffleNetV2's block: half the channels pass by; then both halves are shuffled."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        half, enters = width // 2, channels if stride > 1 else channels // 2
        self.pass_by = nn.Identity()
        if stride > 1:
            depthwise = conv_bn(channels, channels, 3, stride, channels, act=None)
            self.pass_by = nn.Sequential(depthwise, conv_bn(channels, half, 1))
        self.path = nn.Sequential(
            conv_bn(enters, half, 1), conv_bn(half, half, 3, stride, half, act=None), conv_bn(half, half, 1)
        )
        self.stride = stride

    def forward(self, x: Net) -> Net:
        left, right = (x, x) if self.stride > 1 else x.chunk(2, dim=1)
        return shuffled(torch.cat((self.pass_by(left), self.path(right)), 1), 2)


def shufflenet(depth: int = 1, width: int = 8) -> Net:
    layers = [conv_bn(3, 4), Shuffle(4, width, 2), *(Shuffle(width, width, 1) for _ in range(depth))]
    return nn.Sequential(*layers, conv_bn(width, 12, 1), pooled(12))
