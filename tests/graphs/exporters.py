"""What writes torch networks to ONNX, each as its users call it: TorchScript in its modes, dynamo with and without
optimisation."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch_convolutional import Net, torch

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Input:
    """An input: its name, its shape without the batch, and for integers how many values there are."""

    name: str
    shape: tuple[int, ...]
    high: int | None = None

    def batch(self, count: int, seed: int) -> Array:
        """Random examples."""
        random = np.random.default_rng((seed, len(self.name)))
        if self.high is not None:
            return random.integers(0, self.high, (count, *self.shape), dtype=np.int64)
        return random.standard_normal((count, *self.shape), dtype=np.float32)


Inputs = Sequence[Input]
Export = Callable[[Net, Inputs, Path], None]


def batches(inputs: Inputs, count: int, seed: int = 5) -> dict[str, Array]:
    """Random examples for every input; the first token of a mask is always seen."""
    made = {port.name: port.batch(count, seed) for port in inputs}
    if "mask" in made:
        made["mask"][:, 0] = 1
    return made


def outputs(net: Net, feeds: dict[str, Array]) -> Array:
    """What torch computes, in the mode that the network is in."""
    with torch.no_grad():
        result: Array = net(*(torch.from_numpy(array) for array in feeds.values())).numpy()
    return result


def _examples(inputs: Inputs, count: int = 2) -> tuple[Any, ...]:
    return tuple(torch.from_numpy(array) for array in batches(inputs, count, 3).values())


def _script(mode: str, **options: Any) -> Export:
    def write(net: Net, inputs: Inputs, path: Path) -> None:
        chosen = getattr(torch.onnx.TrainingMode, mode)
        names = {"input_names": [port.name for port in inputs], "output_names": ["logits"]}
        axes = {name: {0: "n"} for name in (*names["input_names"], "logits")}
        torch.onnx.export(
            net, _examples(inputs), str(path), training=chosen, dynamo=False, dynamic_axes=axes, **names, **options
        )

    return write


def _dynamo(**options: Any) -> Export:
    def write(net: Net, inputs: Inputs, path: Path) -> None:
        names = {"input_names": [port.name for port in inputs], "output_names": ["logits"]}
        shapes = tuple({0: torch.export.Dim("n")} for _ in inputs)
        torch.onnx.export(
            net, _examples(inputs), str(path), dynamo=True, verbose=False, dynamic_shapes=shapes, **names, **options
        )

    return write


def _baked(net: Net, inputs: Inputs, path: Path) -> None:
    names = {"input_names": [port.name for port in inputs], "output_names": ["logits"]}
    torch.onnx.export(net, _examples(inputs, 1), str(path), dynamo=False, **names)


EXPORTERS: dict[str, Export] = {
    "script_eval": _script("EVAL", opset_version=17),
    "script_train": _script("TRAINING", opset_version=17, do_constant_folding=False),
    "script_preserve": _script("PRESERVE", opset_version=17, do_constant_folding=False),
    "script_opset_11": _script("EVAL", opset_version=11),
    "script_baked_batch": _baked,
    "dynamo": _dynamo(),
    "dynamo_raw": _dynamo(optimize=False),
}
KEEP_NORMS = ("script_train", "script_preserve", "dynamo_raw")
"""Which do not fold a BatchNormalization into the convolution before it."""


def export(net: Net, exporter: str, inputs: Inputs, path: Path) -> None:
    """Write a network to a file. A training-mode export moves the running statistics of the network itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        EXPORTERS[exporter](net, inputs, path)
    net.eval()


def perturbed(net: Net, seed: int = 0) -> Net:
    """The network with statistics, biases and scales that are no longer those of a fresh one."""
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in [*net.parameters(), *net.buffers()]:
            if value.dtype == torch.float32:
                value.add_(torch.rand(value.shape, generator=draws) * 0.2)
    return net
