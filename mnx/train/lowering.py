"""Ops as others that ONNX Runtime differentiates rightly, and as they behave in training: op -> decomposition.

BatchNormalization: normalised by the mean a and the biased variance b of the batch, n numbers a channel. The running
    statistics move as in torch: r' = m r + (1 - m) s, where s is a or the unbiased variance b n / (n - 1). The running
    outputs of ONNX Runtime's op are left alone: they move by b and overwrite the inputs. Instead b = 1 / i^2 - epsilon,
    where i is the inverse deviation that the op keeps for its gradient.
Dropout: x times a mask whose numbers are 0 with probability `ratio`, else 1 / (1 - ratio). The mask is an input of the
    step, drawn by the host from (seed, step), so that a resumed training goes on as the uninterrupted one.
AveragePool: a depthwise Conv with ones, times 1 / (elements of the window that count) at every place.
Any node that reads one value twice: the second time through Identity; ONNX Runtime cannot build its gradient otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from mnx.graphs.model import Array, Attribute, Model, Node, Port, Shape
from mnx.graphs.shapes import shapes

RUNTIME_DOMAIN = "com.microsoft"

_BATCH = 2
"""Any batch size: the shapes of interest leave it out."""


@dataclass(frozen=True)
class Mask:
    """A Dropout's mask: the input that takes it, its shape without the batch, and the share of zeros."""

    name: str
    shape: Shape
    ratio: float


@dataclass(frozen=True)
class Lowered:
    """A model that can be differentiated.

    `statistics` says for every running statistic which value of the graph is the new one; `masks` are the inputs that
    were added to the model's own, in node order.
    """

    model: Model
    statistics: Mapping[str, str]
    masks: tuple[Mask, ...]


@dataclass
class _Draft:
    shapes: Mapping[str, Shape]
    nodes: list[Node] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)
    statistics: dict[str, str] = field(default_factory=dict)
    masks: list[Mask] = field(default_factory=list)

    def constant(self, node: Node, part: str, array: Array) -> str:
        """Add a constant that belongs to `node`."""
        name = f"mnx:{node.name}:{part}"
        self.weights[name] = array
        return name

    def add(self, node: Node, part: str, op: str, *inputs: str, output: str = "") -> str:
        """Add a node that is part of the decomposition of `node`."""
        name = f"mnx:{node.name}:{part}"
        self.nodes.append(Node(name, op, inputs, (output or name,)))
        return output or name


def lowered(model: Model) -> Lowered:
    """The model as it is differentiated; the argument is not changed.

    Args:
        model: a canonical model.

    Raises:
        GraphError: a shape is not known.
    """
    draft = _Draft(shapes(model, _BATCH), weights=dict(model.weights))
    for node in model.nodes:
        single = _reading_once(node, draft)
        lower = LOWERINGS.get(node.op) if not node.domain else None
        if lower:
            lower(single, draft)
        else:
            draft.nodes.append(single)
    inputs = (*model.inputs, *(Port(mask.name, "float32", mask.shape) for mask in draft.masks))
    body = model.replace(inputs=inputs, nodes=tuple(draft.nodes), weights=draft.weights, head=())
    return Lowered(body, draft.statistics, tuple(draft.masks))


def draw_masks(masks: Iterable[Mask], batch: int, seed: int, step: int) -> dict[str, Array]:
    """The masks of one step by input name, float32, shape (batch, ...): the same for the same seed and step."""
    random = np.random.default_rng([seed, step])
    drawn: dict[str, Array] = {}
    for mask in masks:
        kept = random.random((batch, *mask.shape), np.float32) >= np.float32(mask.ratio)
        drawn[mask.name] = kept.astype(np.float32) * np.float32(1 / (1 - mask.ratio) if mask.ratio < 1 else 0)
    return drawn


def _reading_once(node: Node, draft: _Draft) -> Node:
    inputs: list[str] = []
    for index, value in enumerate(node.inputs):
        again = value and value in inputs
        inputs.append(draft.add(node, f"input{index}", "Identity", value) if again else value)
    return Node(node.name, node.op, tuple(inputs), node.outputs, node.attributes, node.domain)


def _batch_normalization(node: Node, draft: _Draft) -> None:
    x, scale, shift, mean, variance = node.inputs
    decay, epsilon = node.real("momentum", 0.9), node.real("epsilon", 1e-5)
    zero = draft.constant(node, "zero", np.array(0, np.float32))
    one = draft.constant(node, "one", np.array(1, np.float32))
    overwritten = [draft.add(node, f"scratch{index}", "Mul", mean, zero) for index in range(2)]
    moved = [f"mnx:{node.name}:moved{index}" for index in range(2)]
    batch_mean, inverse = f"mnx:{node.name}:batch_mean", f"mnx:{node.name}:inverse_deviation"
    inputs, outputs = (x, scale, shift, *overwritten), (node.outputs[0], *moved, batch_mean, inverse)
    attributes = {"epsilon": epsilon, "momentum": decay, "training_mode": 1}
    draft.nodes.append(Node(node.name, "BatchNormInternal", inputs, outputs, attributes, RUNTIME_DOMAIN))

    guarded = draft.add(node, "guarded", "Div", one, draft.add(node, "squared", "Mul", inverse, inverse))
    epsilon_given = draft.constant(node, "epsilon", np.array(epsilon, np.float32))
    biased = draft.add(node, "biased", "Max", draft.add(node, "difference", "Sub", guarded, epsilon_given), zero)
    channels = draft.constant(node, "channels", np.array(draft.shapes[x][1], np.float32))
    size = draft.add(node, "float_size", "CastLike", draft.add(node, "size", "Size", x), one)
    count = draft.add(node, "count", "Div", size, channels)
    others = draft.add(node, "others", "Max", draft.add(node, "count_less_1", "Sub", count, one), one)
    unbiased = draft.add(node, "unbiased", "Mul", biased, draft.add(node, "correction", "Div", count, others))

    kept = draft.constant(node, "kept", np.array(decay, np.float32))
    gained = draft.constant(node, "gained", np.array(1 - decay, np.float32))
    for part, old, seen in (("mean", mean, batch_mean), ("variance", variance, unbiased)):
        rest = draft.add(node, f"{part}_kept", "Mul", old, kept)
        draft.statistics[old] = draft.add(
            node, part, "Add", rest, draft.add(node, f"{part}_gained", "Mul", seen, gained)
        )


def _dropout(node: Node, draft: _Draft) -> None:
    x, ratio = node.input(0), node.input(1)
    mask = Mask(f"mnx:{node.name}:mask", draft.shapes[x][1:], float(draft.weights[ratio]) if ratio else 0.5)
    draft.masks.append(mask)
    draft.add(node, "product", "Mul", x, mask.name, output=node.outputs[0])


def _average_pool(node: Node, draft: _Draft) -> None:
    x, y = node.inputs[0], node.outputs[0]
    channels, *sizes = draft.shapes[x][1:]
    axes = len(sizes)
    kernel = node.integers("kernel_shape", ())
    strides, dilations = node.integers("strides", (1,) * axes), node.integers("dilations", (1,) * axes)
    pads = node.integers("pads", (0,) * 2 * axes)
    counts, ends = [], []
    for axis, (size, out) in enumerate(zip(sizes, draft.shapes[y][2:], strict=True)):
        begin, end = (pads[axis], pads[axis + axes]) if node.integer("count_include_pad", 0) else (0, 0)
        starts = np.arange(out)[:, None] * strides[axis] - pads[axis]
        places = starts + np.arange(kernel[axis]) * dilations[axis]
        counts.append(((places >= -begin) & (places < size + end)).sum(axis=1))
        ends.append(max(0, int(places.max()) + 1 - size))
    ones = draft.constant(node, "ones", np.ones((channels, 1, *kernel), np.float32))
    shares = draft.constant(node, "shares", (1 / reduce(np.multiply.outer, counts)).astype(np.float32)[None, None])
    total = f"mnx:{node.name}:total"
    window: dict[str, Attribute] = {
        "kernel_shape": kernel,
        "strides": strides,
        "pads": (*pads[:axes], *ends),
        "dilations": dilations,
        "group": channels,
    }
    draft.nodes.append(Node(total, "Conv", (x, ones), (total,), window))
    draft.add(node, "mean", "Mul", total, shares, output=y)


LOWERINGS: Mapping[str, Callable[[Node, _Draft], None]] = {
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalization,
    "Dropout": _dropout,
}
