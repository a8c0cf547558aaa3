"""Ways to train a BatchNormalization that was inserted as the identity, in torch, side by side. No script of its own.

s(x) is scale (x - m) / sqrt(v + epsilon) + shift. Hatched as the identity: shift = m0 and scale = sqrt(v0 + epsilon),
where m0 and v0 are the statistics of the calibration batch. A way says which m, v a training step takes:

batch: those of the batch, mB and vB. Not the identity on any batch but the calibration batch.
frozen: m0 and v0, constants: the identity at step 0. Once released it is `batch`; then scale and shift are rewritten
    for the running statistics, so that eval mode does not notice: scale' = scale sqrt((v + epsilon) / (v0 + epsilon)),
    shift' = shift + scale (m - m0) / sqrt(v0 + epsilon).
running: the running statistics, which move, without a gradient through them: the identity at step 0.
renormalised: scale ((x - mB) / sB r + d) + shift with r = sB / s and d = (mB - m) / s as constants, where sB and s are
    the deviations of the batch and of the running statistics (Batch Renormalization, Ioffe, 2017): the value of
    `running`, the gradient through the batch. The identity at step 0. Within limits r in [1 / a, a] and d in [-b, b],
    which close (a to 1, b to 0), it ends as `batch`.
residual: y = S x + s(W x) in place of s(S x), S the hatched kernel as a constant, W drawn, scale = shift = 0, with the
    statistics of the batch: the identity at step 0, on every batch and in eval mode. At the end S + k W with
    k = scale / sqrt(v + epsilon) is one kernel, and a normalisation that is calibrated on what it gives adds
    shift - k m: exact in eval mode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mnx.graphs.growth.insert import channel_statistics
from mnx.graphs.model import Array, Model, Node
from mnx.graphs.ops.rule import Kind
from mnx.graphs.parameters import parameters
from mnx.graphs.run import run
from mnx.train.recipe import Recipe


@dataclass
class Norm:
    """One normalisation while it is trained; `first` are m0 and v0, `held` says whether eval mode takes them."""

    node: Node
    scale: Tensor
    shift: Tensor
    mean: Tensor
    variance: Tensor
    first: tuple[Tensor, Tensor]
    held: bool = False

    @property
    def epsilon(self) -> float:
        return self.node.real("epsilon", 1e-5)

    def affine(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return functional.batch_norm(x, mean, variance, self.scale, self.shift, False, 0.0, self.epsilon)

    def move(self, x: Tensor) -> None:
        """Running statistics move as in torch; nothing else changes."""
        weights = torch.ones_like(self.scale), torch.zeros_like(self.shift)
        functional.batch_norm(x.detach(), self.mean, self.variance, *weights, True, 0.1, self.epsilon)

    def release(self) -> None:
        """Go over from the first to the running statistics at no change of eval mode."""
        with torch.no_grad():
            mean, variance = self.first
            inverse = (variance + self.epsilon).rsqrt()
            self.shift += self.scale * (self.mean - mean) * inverse
            self.scale *= (self.variance + self.epsilon).sqrt() * inverse
        self.held = False


Way = Callable[[Norm, Tensor, float], Tensor]
"""(normalisation, x, epochs done) -> its output in training mode."""


def batch(norm: Norm, x: Tensor, epochs: float) -> Tensor:
    return functional.batch_norm(x, None, None, norm.scale, norm.shift, True, 0.0, norm.epsilon)


def frozen(until: float) -> Way:
    def way(norm: Norm, x: Tensor, epochs: float) -> Tensor:
        if epochs < until:
            norm.held = True
            return norm.affine(x, *norm.first)
        if norm.held:
            norm.release()
        return batch(norm, x, epochs)

    return way


def running(norm: Norm, x: Tensor, epochs: float) -> Tensor:
    return norm.affine(x, norm.mean.clone(), norm.variance.clone())


def renormalised(closed: float = float("inf"), ratio: float = 3.0, shift: float = 5.0) -> Way:
    """Limits fall from `ratio` and `shift` to 1 and 0 over `closed` epochs."""

    def way(norm: Norm, x: Tensor, epochs: float) -> Tensor:
        left = max(0.0, 1.0 - epochs / closed)
        high, far = 1 + (ratio - 1) * left, shift * left
        column = [1, -1] + [1] * (x.ndim - 2)
        variance, mean = torch.var_mean(x, [axis for axis in range(x.ndim) if axis != 1], correction=0)
        deviation, known = (variance + norm.epsilon).sqrt(), (norm.variance + norm.epsilon).sqrt()
        r = (deviation / known).detach().clamp(1 / high, high)
        d = ((mean - norm.mean) / known).detach().clamp(-far, far)
        factor = norm.scale * r / deviation
        return x * factor.view(column) + (norm.shift + norm.scale * d - mean * factor).view(column)

    return way


@dataclass(frozen=True)
class Candidate:
    """A way, and whether the layer is residual while it trains, or calibrated on all training data.

    `warmup` are epochs over which the learning rate rises.
    """

    way: Way
    residual: bool = False
    all_data: bool = False
    warmup: float = 0.0


TODAY = "batch (today)"

CANDIDATES: Mapping[str, Candidate] = {
    TODAY: Candidate(batch),
    "batch, calibrated on all data": Candidate(batch, all_data=True),
    "batch, rate rising for 1 epoch": Candidate(batch, warmup=1.0),
    "frozen for 10 steps": Candidate(frozen(10 / 31)),
    "frozen for 1 epoch": Candidate(frozen(1.0)),
    "frozen to the end": Candidate(frozen(float("inf"))),
    "running": Candidate(running),
    "renormalised": Candidate(renormalised()),
    "renormalised, closing in 2 epochs": Candidate(renormalised(closed=2.0)),
    "residual": Candidate(batch, residual=True),
    "residual, rate rising for 1 epoch": Candidate(batch, residual=True, warmup=1.0),
}
"""Name -> candidate; 10 steps are 10 / 31 of an epoch of 4,000 examples in batches of 128."""


class Network:
    """A model in torch, trained by a recipe; the `inserted` normalisations, named by node, as the candidate says."""

    def __init__(self, model: Model, inserted: Sequence[str], candidate: Candidate, recipe: Recipe, seed: int) -> None:
        self.model, self.candidate, self.recipe = model, candidate, recipe
        kinds = parameters(model)
        self.values = {name: torch.tensor(np.array(array)) for name, array in model.weights.items()}
        makers = model.producers()
        self.skips: dict[str, tuple[Node, Tensor]] = {}
        generator = torch.Generator().manual_seed(seed)
        for node in (node for node in model.nodes if node.name in inserted and candidate.residual):
            conv = makers[node.inputs[0]]
            kernel = self.values[conv.inputs[1]]
            self.skips[node.name] = conv, kernel.clone()
            kernel.normal_(0.0, (2 / kernel[0].numel()) ** 0.5, generator=generator)
            for name in node.inputs[1:4]:
                self.values[name].zero_()
            self.values[node.inputs[4]].fill_(1.0)
        trained = [name for name, kind in kinds.items() if kind.trained]
        self.parameters = [self.values[name].requires_grad_() for name in trained]
        self.norms = {}
        for node in (node for node in model.nodes if node.op == "BatchNormalization"):
            scale, shift, mean, variance = (self.values[name] for name in node.inputs[1:])
            self.norms[node.name] = Norm(node, scale, shift, mean, variance, (mean.clone(), variance.clone()))
        self.ways = {name: candidate.way if name in inserted else batch for name in self.norms}
        decays = {decay: [self.values[n] for n in trained if (kinds[n] is Kind.WEIGHT) == decay] for decay in (1, 0)}
        groups = [{"params": found, "weight_decay": recipe.weight_decay * decay} for decay, found in decays.items()]
        self.optimiser = torch.optim.SGD(groups, recipe.lr, recipe.momentum, nesterov=recipe.nesterov)

    def step(self, x: Array, y: Array, lr: float, epochs: float) -> float:
        """One step of training; returns the loss before it."""
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        logits = self._forward(torch.from_numpy(x), epochs)
        loss = functional.cross_entropy(logits, torch.from_numpy(y), label_smoothing=self.recipe.label_smoothing)
        self.optimiser.zero_grad()
        loss.backward()
        if self.recipe.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip_norm)
        self.optimiser.step()
        return float(loss.detach())

    def evaluate(self, x: Array, size: int = 500) -> Array:
        """Logits in eval mode."""
        with torch.no_grad():
            parts = [self._forward(torch.from_numpy(x[at : at + size]), None) for at in range(0, len(x), size)]
        return np.asarray(torch.cat(parts))

    def train_logits(self, x: Array) -> Array:
        """Logits in training mode before the first step; running statistics move."""
        with torch.no_grad():
            return np.asarray(self._forward(torch.from_numpy(x), 0.0))

    def finished(self, calibration: Array) -> Model:
        """The network in its own architecture, equal to this one in eval mode."""
        for norm in self.norms.values():
            if norm.held:
                norm.release()
        weights = {name: self.values[name].detach().numpy().copy() for name in self.model.weights}
        folded = self.model.with_weights(weights)
        for name, (conv, skip) in self.skips.items():
            norm = self.norms[name]
            k = (norm.scale * (norm.variance + norm.epsilon).rsqrt()).detach()
            kernel = (skip + k.view(-1, *[1] * (skip.ndim - 1)) * self.values[conv.inputs[1]]).detach().numpy()
            bias = (norm.shift - k * norm.mean).detach().numpy()
            folded = folded.with_weights({conv.inputs[1]: kernel})
            mean, variance = channel_statistics(run(folded, calibration, [conv.outputs[0]])[conv.outputs[0]])
            values = (np.sqrt(variance + norm.epsilon), mean + bias, mean, variance)
            named = zip(norm.node.inputs[1:], values, strict=True)
            folded = folded.with_weights({key: value.astype(np.float32) for key, value in named})
        return folded

    def _forward(self, x: Tensor, epochs: float | None) -> Tensor:
        values = {**self.values, self.model.inputs[0].name: x}
        for node in self.model.nodes:
            inputs = [values[name] for name in node.inputs]
            if node.op == "BatchNormalization":
                y = self._normalised(self.norms[node.name], inputs[0], epochs)
                if node.name in self.skips:
                    conv, kernel = self.skips[node.name]
                    y = y + OPS[conv.op](conv, values[conv.inputs[0]], kernel)
                values[node.outputs[0]] = y
            else:
                values[node.outputs[0]] = OPS[node.op](node, *inputs)
        return values[self.model.outputs[0].name]

    def _normalised(self, norm: Norm, x: Tensor, epochs: float | None) -> Tensor:
        if epochs is None:
            return norm.affine(x, *(norm.first if norm.held else (norm.mean, norm.variance)))
        y = self.ways[norm.node.name](norm, x, epochs)
        norm.move(x)
        return y


def _convolved(node: Node, x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    return functional.conv2d(x, kernel, bias, node.integers("strides", (1, 1)), node.integers("pads", (0,) * 4)[:2])


OPS: Mapping[str, Callable[..., Tensor]] = {
    "Conv": _convolved,
    "Gemm": lambda node, x, *weights: functional.linear(x, *weights),
    "Relu": lambda node, x: torch.relu(x),
    "MaxPool": lambda node, x: functional.max_pool2d(x, node.integers("kernel_shape", ())),
    "Flatten": lambda node, x: x.flatten(1),
}
"""What the sample VGG networks are made of."""
