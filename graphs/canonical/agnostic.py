"""Ops that do not care where an axis stands: how each is written when the axes of its values are rearranged.

op(x; axes) = rearranged back(op(rearranged x; the same axes where they stand then)), constants rearranged alike
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from mnx.graphs.canonical.rearranging import Order, rearranged_array
from mnx.graphs.canonical.surgery import Node, Tensor, extents, given, values
from mnx.graphs.model import Array

LEAST_RANK = 3


@dataclass(frozen=True)
class Moved:
    """What changes in a node whose values are rearranged: attributes, and constant inputs by index."""

    attributes: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[int, Array] = field(default_factory=dict)


Rewrite: TypeAlias = Callable[[Node, Order, int], Moved | None]
"""(node, rearrangement, rank of the values before) -> what changes, None where the op cannot follow."""

POINTWISE = frozenset(
    [
        "Abs",
        "Add",
        "And",
        "Cast",
        "Ceil",
        "Celu",
        "Clip",
        "Cos",
        "Div",
        "Dropout",
        "Elu",
        "Equal",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "Greater",
        "GreaterOrEqual",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "Less",
        "LessOrEqual",
        "Log",
        "Max",
        "Mean",
        "Min",
        "Mish",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "PRelu",
        "Pow",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Sigmoid",
        "Sign",
        "Sin",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Sub",
        "Sum",
        "Tanh",
        "ThresholdedRelu",
        "Where",
        "Xor",
    ]
)
_REDUCING = frozenset(
    [
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
    ]
)
_BROADCAST_FROM = 1
_PADS, _PAD_AXES = 1, 3
_SLICE_AXES = 3


def values_in_layout(node: Node) -> tuple[list[Tensor], list[Tensor]] | None:
    """The inputs and outputs of an agnostic node that are rearranged with it; None where it cannot be.

    They are all its data, of one rank of at least three.
    """
    if node.op not in AGNOSTIC and node.op not in CHANNELS_FIRST:
        return None
    single = node.op not in POINTWISE and node.op != "Concat"
    inputs = [tensor for tensor in (node.inputs[:1] if single else node.inputs) if _is_data(tensor)]
    ranks = {None if extents(tensor) is None else len(tensor.shape) for tensor in (*inputs, *node.outputs[:1])}
    rank = len(inputs[0].shape) if inputs and inputs[0].shape is not None else 0
    if rank < LEAST_RANK or None in ranks:
        return None
    if node.op in POINTWISE or node.op == "Concat":
        return (inputs, list(node.outputs)) if ranks == {rank} and len(node.outputs) == 1 else None
    outputs = [tensor for tensor in node.outputs if tensor.shape is not None and len(tensor.shape) == rank]
    return inputs, outputs


def moved(node: Node, order: Order, rank: int) -> Moved | None:
    """What changes in the node when its values of that rank are rearranged; None where it cannot follow."""
    rewrite = AGNOSTIC.get(node.op) or CHANNELS_FIRST.get(node.op)
    return None if rewrite is None else rewrite(node, order, rank)


def _is_data(tensor: Tensor) -> bool:
    return values(tensor) is None and not tensor.is_empty()


def _pointwise(node: Node, order: Order, rank: int) -> Moved | None:
    constants = {}
    for index, tensor in enumerate(node.inputs):
        array = values(tensor)
        if array is None or (array.size == 1 and array.ndim <= _BROADCAST_FROM):
            continue
        if array.ndim > rank:
            return None
        constants[index] = rearranged_array(order, array.reshape((1,) * (rank - array.ndim) + array.shape))
    return Moved(constants=constants)


def _place(order: Order, axis: int, rank: int) -> int | None:
    axis %= rank
    return order.index(axis) if axis in order else None


def _split(node: Node, order: Order, rank: int) -> Moved | None:
    place = _place(order, int(node.attrs.get("axis", 0)), rank)
    return None if place is None else Moved({"axis": place})


def _softmax(node: Node, order: Order, rank: int) -> Moved | None:
    place = _place(order, int(node.attrs.get("axis", -1)), rank)
    return None if place is None else Moved({"axis": -1 if place == len(order) - 1 else place})


def _gather(node: Node, order: Order, rank: int) -> Moved | None:
    index, axis = values(node.inputs[1]), int(node.attrs.get("axis", 0)) % rank
    if index is None or index.ndim > 1 or (not index.ndim and not _leaves_order(order, rank, {axis})):
        return None
    return _split(node, order, rank)


def _leaves_order(order: Order, rank: int, gone: set[int]) -> bool:
    """Whether a permutation leaves the axes that are not `gone` in their order."""
    left = [axis for axis in order if axis not in gone]
    return set(order) == set(range(rank)) and left == [axis for axis in range(rank) if axis not in gone]


def _concat(node: Node, order: Order, rank: int) -> Moved | None:
    place = _place(order, int(node.attrs["axis"]), rank)
    pieces = {index: values(tensor) for index, tensor in enumerate(node.inputs)}
    constants = {index: rearranged_array(order, array) for index, array in pieces.items() if array is not None}
    return None if place is None else Moved({"axis": place}, constants)


def _reduce(node: Node, order: Order, rank: int) -> Moved | None:
    axes = values(node.inputs[1]) if given(node, 1) else None
    if axes is None or not axes.size:
        return None
    if not node.attrs.get("keepdims", 1) and not _leaves_order(order, rank, {int(axis) % rank for axis in axes}):
        return None
    return _with_axes(axes, order, rank, 1)


def _with_axes(axes: Array, order: Order, rank: int, index: int) -> Moved | None:
    places = [_place(order, int(axis), rank) for axis in axes]
    found = [place for place in places if place is not None]
    return Moved(constants={index: np.array(found, dtype=np.int64)}) if len(found) == len(places) else None


def _slice(node: Node, order: Order, rank: int) -> Moved | None:
    axes = values(node.inputs[_SLICE_AXES]) if given(node, _SLICE_AXES) else None
    return None if axes is None else _with_axes(axes, order, rank, _SLICE_AXES)


def _pad(node: Node, order: Order, rank: int) -> Moved | None:
    pads = values(node.inputs[_PADS])
    if pads is None or given(node, _PAD_AXES):
        return None
    begin, end = pads[:rank], pads[rank:]
    both = [[0 if axis is None else int(side[axis]) for axis in order] for side in (begin, end)]
    return Moved(constants={_PADS: np.array(both[0] + both[1], dtype=np.int64)})


def _channels_first(node: Node, order: Order, rank: int) -> Moved | None:
    """Windowed ops and BatchNormalization stay channels first; they follow where dead axes of space are dropped.

    A dead axis has size 1 before and behind the op, with a kernel of 1 and no pads.
    """
    if None in order or order[:2] != (0, 1) or list(order) != sorted(a for a in order if a is not None):
        return None
    if len(order) < LEAST_RANK:
        return None
    if node.op not in _WINDOWED:
        return Moved()
    if any(name not in node.attrs for name in ("kernel_shape", "strides", "pads")):
        return None
    space = rank - 2
    kept = [axis - 2 for axis in order[2:] if axis is not None]
    attributes: dict[str, Any] = {
        name: [node.attrs[name][axis] for axis in kept]
        for name in ("kernel_shape", "strides", "dilations")
        if name in node.attrs
    }
    attributes["pads"] = [node.attrs["pads"][side * space + axis] for side in (0, 1) for axis in kept]
    dead = [axis for axis in range(space) if axis not in kept]
    if any(node.attrs["kernel_shape"][axis] != 1 for axis in dead):
        return None
    if any(node.attrs["pads"][axis] or node.attrs["pads"][space + axis] for axis in dead):
        return None
    if node.op != "Conv":
        return Moved(attributes)
    weight = values(node.inputs[1])
    return None if weight is None else Moved(attributes, {1: rearranged_array(order, weight)})


_WINDOWED = frozenset({"Conv", "MaxPool", "AveragePool"})

AGNOSTIC: Mapping[str, Rewrite] = {
    **dict.fromkeys(POINTWISE, _pointwise),
    **dict.fromkeys(_REDUCING, _reduce),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), _softmax),
    "Concat": _concat,
    "Gather": _gather,
    "Pad": _pad,
    "Slice": _slice,
    "Split": _split,
}
"""Ops that follow any rearrangement. One more is one entry."""

CHANNELS_FIRST: Mapping[str, Rewrite] = dict.fromkeys(
    (*sorted(_WINDOWED), "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization"), _channels_first
)
"""Ops that follow only where dead axes of space go."""
