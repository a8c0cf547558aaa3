"""Values that depend on nothing but the size of the batch: class tokens, position ids, masks, first states of an RNN.

Such a value v repeats one constant c along the batch axis. Where what reads v broadcasts, it reads c; elsewhere

    v = Expand(c, Concat(1, ..., Shape(x, start=0, end=1), ..., 1)),    x the first input

in which the ones stand for the axes that c already has, so that the target embeds no width. All zeros as the first
state of an RNN, GRU or LSTM are what is taken where none is given: they are left out. An Expand of what the network
computes from its input has a target of numbers, 1 for every axis that stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

import numpy as np
from onnx import NodeProto, helper

from mnx.graphs.canonical.draft import Draft, Extent
from mnx.graphs.canonical.folding import computable, computed
from mnx.graphs.model import Array, Shape
from mnx.graphs.proto import BATCH

BROADCASTING = frozenset(
    {"Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Mod", "Where", "And", "Or", "Xor"}
    | {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"}
)
"""Ops whose inputs broadcast against each other."""

SHAPE_INPUTS: Mapping[str, tuple[int, ...]] = {
    "Reshape": (1,),
    "Expand": (1,),
    "ConstantOfShape": (0,),
    "Tile": (1,),
    "Slice": (1, 2, 3, 4),
    "Range": (0, 1, 2),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Resize": (3,),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
}
"""Inputs that give a shape or a place, not a value."""

_WEIGHTED = frozenset({"MatMul"})
_STATES: Mapping[str, tuple[int, ...]] = {"RNN": (5,), "GRU": (5,), "LSTM": (5, 6)}
_LARGEST = 1 << 26


def batch_only(draft: Draft, values: Mapping[str, Array], shapes: Mapping[str, Shape]) -> dict[str, Array]:
    """What nodes make of constants and the batch size alone, at the batch size of `values` and `shapes`."""
    found = {name: array for name, array in values.items() if name not in draft.constants}
    known = {**draft.constants, **found}
    for node in draft.nodes:
        light = all(prod(shapes.get(name, (_LARGEST + 1,))) <= _LARGEST for name in node.output if name)
        if node.output[0] in known or node.op_type in _WEIGHTED or not light or not computable(node, known):
            continue
        made = computed(node, known)
        found |= made
        known |= made
    return found


def spread(draft: Draft, found: Mapping[str, Array], shapes: Mapping[str, Shape], batch: int) -> None:
    """Bring every value of `found` that a computing node reads to the form of this file, in place.

    Args:
        draft: the network; `draft.shapes` and `draft.types` are there.
        found: what `batch_only` gave at the size `batch`.
        shapes: all shapes at that size.
        batch: the batch size.
    """
    expanded: dict[str, NodeProto] = {}
    for node in draft.nodes:
        if node.output[0] in found:
            continue
        for index, name in enumerate(node.input):
            if name not in found or index in SHAPE_INPUTS.get(node.op_type, ()):
                continue
            axis = _batch_axis(draft.shapes.get(name, ()))
            one = None if axis is None else _one(found[name], axis)
            if axis is None or one is None:
                continue
            if index in _STATES.get(node.op_type, ()) and not one.any():
                node.input[index] = ""
            elif _broadcasts(node, name, one.shape, shapes):
                node.input[index] = _constant(draft, name, one)
            elif name not in expanded:
                expanded[name] = _expand(draft, name, _constant(draft, name, one), axis, one.ndim)
    _replace(draft, expanded)
    _plain_expands(draft, set(expanded))


def _batch_axis(shape: Iterable[Extent]) -> int | None:
    """The one axis that is the batch; None where there is none, or another that changes with it."""
    changing = [(axis, size) for axis, size in enumerate(shape) if not isinstance(size, int)]
    return changing[0][0] if len(changing) == 1 and changing[0][1] == BATCH else None


def _one(array: Array, axis: int) -> Array | None:
    """What the array repeats along the axis, of size 1 there; None where it does not repeat."""
    first = np.take(array, [0], axis=axis)
    return first if np.array_equal(array, np.broadcast_to(first, array.shape)) else None


def _broadcasts(node: NodeProto, name: str, shape: Shape, shapes: Mapping[str, Shape]) -> bool:
    """Whether the node gives the same where its input `name` has size 1 in place of the batch."""
    if node.op_type not in BROADCASTING or not all(value in shapes for value in (*node.input, *node.output)):
        return False
    others = [shape if value == name else shapes[value] for value in node.input]
    return np.broadcast_shapes(*others) == shapes[node.output[0]]


def _constant(draft: Draft, name: str, array: Array) -> str:
    """The array as a constant; an Expand of a constant of that shape keeps that one."""
    maker = next((node for node in draft.nodes if name in node.output), None)
    if maker is not None and maker.op_type == "Expand":
        given = draft.constants.get(maker.input[0])
        if given is not None and given.shape == array.shape:
            return str(maker.input[0])
    wish = f"{name}.one"
    draft.constants[wish] = np.ascontiguousarray(array)
    return wish


def _expand(draft: Draft, name: str, operand: str, axis: int, rank: int) -> NodeProto:
    """The Expand of `operand` over the batch, and in front of all the nodes that make its target."""
    size, target = f"{draft.inputs[0].name}.batch", f"{name}.shape"
    before, behind = f"{name}.before", f"{name}.behind"
    made = [(size, helper.make_node("Shape", [draft.inputs[0].name], [size], size, start=0, end=1), 1)]
    if rank == 1:
        target = size
    else:
        draft.constants[before], draft.constants[behind] = (np.ones(n, np.int64) for n in (axis, rank - 1 - axis))
        pieces = [before] * (axis > 0) + [size] + [behind] * (axis < rank - 1)
        made.append((target, helper.make_node("Concat", pieces, [target], target, axis=0), rank))
    taken = {output for output, _, _ in made}
    draft.nodes = [
        *(node for _, node, _ in made),
        *(node for node in draft.nodes if not taken.intersection(node.output)),
    ]
    for output, _, length in made:
        draft.shapes[output], draft.types[output] = (length,), helper.np_dtype_to_tensor_dtype(np.dtype(np.int64))
    maker = next((node.name for node in draft.nodes if name in node.output), "")
    return helper.make_node("Expand", [operand, target], [name], maker or name)


def _replace(draft: Draft, new: Mapping[str, NodeProto]) -> None:
    """Put each new node where the maker of its value stood."""
    nodes = []
    for node in draft.nodes:
        nodes += [new[name] for name in node.output if name in new]
        if not any(name in new for name in node.output):
            nodes.append(node)
    draft.nodes = nodes
    draft.drop_dead()


def _plain_expands(draft: Draft, done: set[str]) -> None:
    for node in draft.nodes:
        if node.op_type != "Expand" or node.output[0] in done:
            continue
        source, result = draft.shapes.get(node.input[0]), draft.shapes.get(node.output[0])
        if source is None or result is None:
            continue
        aligned = (*(1,) * (len(result) - len(source)), *source)
        target = [1 if here == there else there for here, there in zip(aligned, result, strict=True)]
        numbers = [size for size in target if isinstance(size, int)]
        if len(numbers) == len(target):
            name = f"{node.output[0]}.target"
            draft.constants[name] = np.array(numbers, dtype=np.int64)
            node.input[1] = name
