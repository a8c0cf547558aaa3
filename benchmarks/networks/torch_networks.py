"""Three networks as users of torch write them, channels first, and their training step in eager mode.

    python benchmarks/networks/torch_networks.py MLP|VGG-BN|ResNet-20 --device cuda --batch 64

reads numbers of steps, one a line, and answers each with the seconds that a step took; needs torch and numpy alone.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

LR = 0.01
WIDTHS = (32, 64, 128, 256)


class Perceptron(nn.Sequential):
    """784-1024-1024-10."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))


class Vgg(nn.Sequential):
    """Eight convolutions with normalisation in four blocks, for images of 32 x 32."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        into = 3
        for width in WIDTHS:
            for _ in range(2):
                layers += [nn.Conv2d(into, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                into = width
            layers.append(nn.MaxPool2d(2))
        super().__init__(*layers, nn.Flatten(), nn.Linear(into * 4, 128), nn.ReLU(), nn.Linear(128, 10))


class Block(nn.Module):
    """A basic residual block."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(into, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out))
        project = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        self.shortcut: nn.Module = project if into != out or stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.second(self.first(x)) + self.shortcut(x))


class ResNet20(nn.Sequential):
    """He et al. 2016, for CIFAR."""

    def __init__(self) -> None:
        stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
        widths = [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2 + [(32, 64, 2)] + [(64, 64, 1)] * 2
        super().__init__(
            *stem, *(Block(*each) for each in widths), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
        )


TORCH_NETWORKS: Mapping[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "MLP": (Perceptron, (784,)),
    "VGG-BN": (Vgg, (3, 32, 32)),
    "ResNet-20": (ResNet20, (3, 32, 32)),
}
"""Name -> how it is made, and the shape of an example."""


def of_torch(
    network: nn.Module, x: npt.NDArray[Any], y: npt.NDArray[Any], device: str = "cpu"
) -> Callable[[], float | None]:
    """One step as users of torch write it. On a GPU the batch is brought there and the loss brought back each time."""
    network.to(device).train()
    optimiser = torch.optim.SGD(network.parameters(), LR, momentum=0.9, nesterov=True, weight_decay=5e-4)
    given, labels = torch.tensor(x), torch.tensor(y)

    def step() -> float | None:
        optimiser.zero_grad()
        loss = functional.cross_entropy(network(given.to(device)), labels.to(device))
        loss.backward()
        optimiser.step()
        return None if device == "cpu" else loss.item()

    return step


def burst(step: Callable[[], object], many: int) -> float:
    """Seconds a step."""
    start = time.perf_counter()
    for _ in range(many):
        step()
    return (time.perf_counter() - start) / many


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=list(TORCH_NETWORKS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = False
    make, shape = TORCH_NETWORKS[options.network]
    random = np.random.default_rng(0)
    x = random.standard_normal((options.batch, *shape), np.float32)
    step = of_torch(make(), x, random.integers(0, 10, options.batch), options.device)
    print(torch.__version__, flush=True)
    for line in sys.stdin:
        print(burst(step, int(line)), flush=True)


if __name__ == "__main__":
    main()
