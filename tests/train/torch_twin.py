"""The same training in torch: a canonical model interpreted op by op, and torch.optim.SGD with its own clipping."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from mnx.graphs.model import Array, Model, Node
from mnx.graphs.ops.rule import Kind
from mnx.graphs.parameters import parameters
from mnx.train.settings import StepSettings


class Twin:
    """A model, its parameters and its optimiser in torch.

    `decayed` says which kinds decay, so that a test can break the twin.
    """

    def __init__(
        self, model: Model, settings: StepSettings, lr: float, decayed: frozenset[Kind] = frozenset({Kind.WEIGHT})
    ) -> None:
        kinds = parameters(model)
        self.model, self.settings = model, settings
        self.values = {name: torch.tensor(np.array(array)) for name, array in model.weights.items()}
        self.trained = [name for name, kind in kinds.items() if kind.trained]
        for name in self.trained:
            self.values[name].requires_grad_()
        groups = [
            {
                "params": [self.values[name] for name in self.trained if (kinds[name] in decayed) == decays],
                "weight_decay": settings.weight_decay if decays else 0.0,
            }
            for decays in (True, False)
        ]
        self.optimiser = torch.optim.SGD(
            [group for group in groups if group["params"]],
            lr=lr,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
        )

    def step(self, x: Array, y: Array, lr: float, masks: Mapping[str, Array] | None = None) -> tuple[float, int]:
        """One step as the engine does it; masks by the name of the Dropout node."""
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        logits = run(self.model, self.values, torch.tensor(x), masks or {})
        labels = torch.tensor(y)
        loss = functional.cross_entropy(logits, labels, label_smoothing=self.settings.label_smoothing)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_([self.values[name] for name in self.trained], self.settings.clip_norm)
        self.optimiser.step()
        return float(loss.detach()), int((logits.argmax(1) == labels).sum())

    def weights(self) -> dict[str, Array]:
        """Parameters and statistics by name."""
        return {name: self.values[name].detach().numpy().copy() for name in parameters(self.model)}


def run(model: Model, weights: Mapping[str, Tensor], x: Tensor, masks: Mapping[str, Array]) -> Tensor:
    """The logits in training mode; running statistics move in place."""
    values = {**weights, model.inputs[0].name: x}
    for node in model.nodes:
        values[node.outputs[0]] = apply(node, [values.get(name) for name in node.inputs], masks)
    return values[model.outputs[0].name]


def apply(node: Node, inputs: list[Any], masks: Mapping[str, Array]) -> Tensor:
    """One node in training mode."""
    x, *rest = inputs
    kernel, strides = node.integers("kernel_shape", ()), node.integers("strides", ())
    pads = node.integers("pads", ())
    if node.op == "Conv":
        padded = functional.pad(x, [pads[side + axis] for axis in (1, 0) for side in (0, 2)])
        bias = rest[1] if len(rest) == 2 else None
        return functional.conv2d(
            padded, rest[0], bias, strides, 0, node.integers("dilations", (1, 1)), node.integer("group", 1)
        )
    if node.op == "Gemm":
        return functional.linear(x, rest[0], rest[1] if len(rest) == 2 else None)
    if node.op == "BatchNormalization":
        scale, shift, mean, variance = rest
        momentum = 1 - node.real("momentum", 0.9)
        return functional.batch_norm(x, mean, variance, scale, shift, True, momentum, node.real("epsilon", 1e-5))
    if node.op == "MaxPool":
        return functional.max_pool2d(x, kernel, strides, pads[:2], ceil_mode=bool(node.integer("ceil_mode", 0)))
    if node.op == "AveragePool":
        ceil_mode, with_pads = bool(node.integer("ceil_mode", 0)), bool(node.integer("count_include_pad", 0))
        return functional.avg_pool2d(x, kernel, strides, pads[:2], ceil_mode, with_pads)
    if node.op == "GlobalAveragePool":
        return x.mean((2, 3), keepdim=True)
    if node.op == "Dropout":
        return x * torch.tensor(masks[node.name])
    if node.op == "Clip":
        return torch.clamp(x, *rest)
    if node.op == "LeakyRelu":
        return functional.leaky_relu(x, node.real("alpha", 0.01))
    if node.op == "Concat":
        return torch.cat(inputs, node.integer("axis", 1))
    if node.op == "Flatten":
        return x.flatten(1)
    simple = {"Relu": torch.relu, "Sigmoid": torch.sigmoid, "Tanh": torch.tanh, "Add": torch.add, "Mul": torch.mul}
    return simple[node.op](*inputs)
