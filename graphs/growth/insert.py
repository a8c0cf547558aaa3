"""Parameters of ops that the mother does not have: the identity on what arrives, or a branch that adds zero.

An identity is given in the mother's own channels, as if she had the op: the unit matrix at the tap that reads the same
position; BatchNormalization with scale sqrt(v + epsilon) and shift m, where m and v are the statistics of what arrives.
The growth maps then widen it like any other op.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from mnx.graphs.model import Array
from mnx.graphs.ops.axes import is_fixed
from mnx.graphs.ops.convolution import groups
from mnx.graphs.ops.rule import Kind
from mnx.graphs.trees.structure import Op

Statistics = tuple[Array, Array]
"""Mean and biased variance of a value, one number a channel."""


def identity(op: Op, width: int, arriving: Callable[[], Statistics]) -> Mapping[int, Array]:
    """Slot -> parameter, in the mother's channels, that makes an op pass on `width` channels."""
    return IDENTITIES[op.op](op, width, arriving) if op.op in IDENTITIES else {}


def zero(op: Op) -> Mapping[int, Array]:
    """Slot -> parameter, at full size, that makes a linear op give zeros."""
    return {p.slot: np.full(p.shape, 1.0 if p.kind is Kind.VARIANCE else 0.0, np.float32) for p in op.parameters}


def channel_statistics(value: Array) -> Statistics:
    """Mean and biased variance of a value of shape (n, channels, ...) over all axes but channels, in float64."""
    axes = tuple(axis for axis in range(value.ndim) if axis != 1)
    mean, variance = np.mean(value, axis=axes, dtype=np.float64), np.var(value, axis=axes, dtype=np.float64)
    return np.asarray(mean), np.asarray(variance)


def _linear(op: Op, width: int, arriving: Callable[[], Statistics]) -> dict[int, Array]:
    weight = op.parameters[0]
    rank = len(weight.shape) - 2
    blocks = groups(op.site) if op.op == "Conv" else 1
    if blocks != 1 and is_fixed(weight.axes[1]):
        blocks = width // weight.shape[1]
    unit = np.tile(np.eye(width // blocks, dtype=np.float32), (blocks, 1))
    unit = unit.reshape(*unit.shape, *[1] * rank)
    return {p.slot: unit if p.kind is Kind.WEIGHT else np.zeros(width, dtype=np.float32) for p in op.parameters}


def _constant(op: Op, width: int, arriving: Callable[[], Statistics]) -> dict[int, Array]:
    """Nothing added, a factor of one, or a slope of one, along the axes that the parameter has."""
    (parameter,) = op.parameters
    shape = tuple(size if is_fixed(axis) else width for size, axis in zip(parameter.shape, parameter.axes, strict=True))
    number = 1.0 if parameter.kind in (Kind.SCALE, Kind.SLOPE) else 0.0
    return {parameter.slot: np.full(shape, number, dtype=np.float32)}


def _batch_normalization(op: Op, width: int, arriving: Callable[[], Statistics]) -> dict[int, Array]:
    mean, variance = arriving()
    scale = np.sqrt(variance + op.site.node.real("epsilon", 1e-5))
    values = {Kind.SCALE: scale, Kind.SHIFT: mean, Kind.MEAN: mean, Kind.VARIANCE: variance}
    return {p.slot: values[p.kind] for p in op.parameters}


IDENTITIES: Mapping[str, Callable[[Op, int, Callable[[], Statistics]], Mapping[int, Array]]] = {
    "Conv": _linear,
    "Gemm": _linear,
    "MatMul": _linear,
    "Add": _constant,
    "Mul": _constant,
    "PRelu": _constant,
    "BatchNormalization": _batch_normalization,
}
"""How an op with parameters becomes the identity; ops without parameters need nothing."""
