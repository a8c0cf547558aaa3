"""Normalisations as ops with right gradients, and BatchNormalization as it behaves in training.

BatchNormalization: normalised by the mean a and the biased variance b of the batch, n numbers a channel. The running
    statistics move as in torch: r' = m r + (1 - m) s, where s is a or the unbiased variance b n / (n - 1). The running
    outputs of ONNX Runtime's op are left alone: they move by b and overwrite the inputs. Instead b = 1 / i^2 - epsilon,
    where i is the inverse deviation that the op keeps for its gradient.
BatchNormalization, frozen: scale (x - mean) / sqrt(variance + epsilon) + shift with the running statistics, which stay.
LayerNormalization: with its mean and inverse deviation as outputs, which its gradient reads, and a shift.
GroupNormalization, InstanceNormalization: a LayerNormalization of every group, then scale and shift by channel.
LRN: x (bias + alpha / size * s)^-beta, s the sums of x^2 over neighbouring channels by a Conv with ones.
"""

from __future__ import annotations

from math import prod

import numpy as np

from mnx.graphs.canonical.fused import MICROSOFT
from mnx.graphs.model import Node
from mnx.train.lowering.draft import Draft, Parts


def batch_normalization(node: Node, draft: Draft) -> None:
    """Append a BatchNormalization that normalises by the batch and moves its statistics."""
    at, (x, scale, shift, mean, variance) = draft.at(node), node.inputs
    decay, epsilon = node.real("momentum", 0.9), node.real("epsilon", 1e-5)
    overwritten = [at("Mul", mean, 0.0) for _ in range(2)]
    batch_mean, inverse = at.name(), at.name()
    inputs, outputs = (x, scale, shift, *overwritten), (node.outputs[0], at.name(), at.name(), batch_mean, inverse)
    attributes = {"epsilon": epsilon, "momentum": decay, "training_mode": 1}
    draft.append(Node(node.name, "BatchNormInternal", inputs, outputs, attributes, MICROSOFT))

    one = at.constant(1.0)
    guarded = at("Div", one, at("Mul", inverse, inverse))
    biased = at("Max", at("Sub", guarded, epsilon), 0.0)
    unbiased = at("Mul", biased, _correction(x, draft, at))
    for old, seen in ((mean, batch_mean), (variance, unbiased)):
        draft.statistics[old] = at("Add", at("Mul", old, decay), at("Mul", seen, 1 - decay))


def _correction(x: str, draft: Draft, at: Parts) -> str:
    """n / (n - 1) of the n numbers a channel in x; once for all values of the same extent.

    The first axis is not always the batch: it may hold all tokens of it.
    """
    rows, channels, *space = draft.shapes[x]
    extent, made = (rows, prod(space)), {} if x in draft.open else draft.corrections
    if extent not in made:
        count = at("Div", at("CastLike", at("Size", x), at.constant(1.0)), float(channels))
        made[extent] = at("Div", count, at("Max", at("Sub", count, 1.0), 1.0))
    return made[extent]


def frozen_batch_normalization(node: Node, draft: Draft) -> None:
    """Append a BatchNormalization by its running statistics, as in evaluation."""
    at, (x, scale, shift, mean, variance) = draft.at(node), node.inputs
    column = (-1, *(1,) * (len(draft.shapes[x]) - 2))
    deviation = at("Sqrt", at("Add", variance, node.real("epsilon", 1e-5)))
    centred = at("Sub", x, at("Reshape", mean, column))
    scaled = at("Mul", centred, at("Reshape", at("Div", scale, deviation), column))
    at("Add", scaled, at("Reshape", shift, column), out=node.outputs[0])
    for statistic in (mean, variance):
        draft.statistics[statistic] = at("Identity", statistic)


def layer_normalization(node: Node, draft: Draft) -> None:
    """Append a LayerNormalization."""
    at, (x, scale, *shift) = draft.at(node), node.inputs
    shift = shift or [at.constant(np.zeros(draft.shapes[scale], np.float32))]
    axis, epsilon = node.integer("axis", -1), node.real("epsilon", 1e-5)
    at.several("LayerNormalization", (node.outputs[0], "", ""), x, scale, *shift, axis=axis, epsilon=epsilon)


def group_normalization(node: Node, draft: Draft) -> None:
    """Append a GroupNormalization."""
    _by_groups(node, draft, node.integer("num_groups", 1))


def instance_normalization(node: Node, draft: Draft) -> None:
    """Append an InstanceNormalization."""
    _by_groups(node, draft, draft.shapes[node.inputs[0]][1])


def _by_groups(node: Node, draft: Draft, groups: int) -> None:
    at, (x, scale, shift) = draft.at(node), node.inputs
    shape = draft.shapes[x][1:]
    each, column = prod(shape) // groups, (-1, *(1,) * (len(shape) - 1))
    parts = at("Reshape", x, (0, groups, each))
    plain = (np.ones(each, np.float32), np.zeros(each, np.float32))
    normal = at.several("LayerNormalization", ("", "", ""), parts, *plain, axis=-1, epsilon=node.real("epsilon", 1e-5))[
        0
    ]
    scaled = at("Mul", at("Reshape", normal, (0, *shape)), at("Reshape", scale, column))
    at("Add", scaled, at("Reshape", shift, column), out=node.outputs[0])


def local_response_normalization(node: Node, draft: Draft) -> None:
    """Append an LRN."""
    at, x, size = draft.at(node), node.inputs[0], node.integer("size", 1)
    shape = draft.shapes[x][1:]
    share, bias = node.real("alpha", 1e-4) / size, node.real("bias", 1.0)
    squares = at("Reshape", at("Mul", x, x), (0, 1, shape[0], prod(shape[1:])))
    sums = _sums_of_neighbours(at, squares, size)
    base = at("Add", at("Mul", at("Reshape", sums, (0, *shape)), share), bias)
    at("Mul", x, at("Pow", base, -node.real("beta", 0.75)), out=node.outputs[0])


def _sums_of_neighbours(at: Parts, x: str, size: int) -> str:
    """Sums over windows of axis 2 of x (batch, 1, channels, places)."""
    pads = ((size - 1) // 2, 0, size // 2, 0)
    return at("Conv", x, np.ones((1, 1, size, 1), np.float32), kernel_shape=(size, 1), pads=pads)
