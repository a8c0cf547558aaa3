"""Inputs of today's ops that were attributes, were obligatory, or were not there in older opsets."""

from __future__ import annotations

import numpy as np
from onnx import numpy_helper

from mnx.graphs.canonical.expansion import Expansion
from mnx.graphs.given.place import NeedsOpset, Write, again, fixed, integers
from mnx.graphs.model import Array

_LARGEST = 2**63 - 1


def axes(since: int) -> Write:
    """The rule of an op whose axes became an input in opset `since`."""

    def write(place: Expansion, opset: int) -> None:
        found = fixed(place, 1, since)
        if place.integer("noop_with_empty_axes", 0) and (found is None or not found.size):
            raise NeedsOpset(place, since, "reduces no axis")
        again(
            place,
            place.inputs[:1],
            axes=integers(found) if found is not None and found.size else None,
            noop_with_empty_axes=None,
        )

    return write


def clip(place: Expansion, opset: int) -> None:
    """Bounds as attributes; an infinite one is none."""
    low, high = fixed(place, 1, 11), fixed(place, 2, 11)
    bounds = {"min": low, "max": high}
    attributes = {
        word: None if bound is None or np.isinf(bound).all() else float(bound.reshape(()))
        for word, bound in bounds.items()
    }
    again(place, place.inputs[:1], **attributes)


def constant(place: Expansion, opset: int) -> None:
    """Numbers and words as one tensor."""
    name, value = next(iter(place.attributes.items()))
    if name == "value":
        return
    kind = {"value_float": np.float32, "value_int": np.int64, "value_string": np.object_}[name.removesuffix("s")]
    tensor = numpy_helper.from_array(np.array(value, dtype=kind))
    again(place, [], **{name: None, "value": tensor})


def dropout(place: Expansion, opset: int) -> None:
    """The ratio as an attribute."""
    ratio = fixed(place, 1, 12)
    again(place, place.inputs[:1], ratio=None if ratio is None else float(ratio.reshape(())))


def gemm(place: Expansion, opset: int) -> None:
    """A bias, of zeros where there is none."""
    if place.input(2):
        return
    width = place.shape(place.inputs[1])[0 if place.integer("transB", 0) else 1]
    again(place, [*place.inputs[:2], place.array("bias", np.zeros(width, np.float32))])


def pad(place: Expansion, opset: int) -> None:
    """Before opset 18 pads of every axis, before 11 as attributes, with their value."""
    if place.text("mode", "constant") == "wrap":
        raise NeedsOpset(place, 19, "pads with what lies on the other side")
    inputs, amounts = place.inputs, place.constant(place.inputs[1])
    some = fixed(place, 3, 18) if opset < 18 else None
    if some is not None and amounts is not None:
        rank = len(place.shape(inputs[0]))
        full = np.zeros((2, rank), np.int64)
        full[:, [int(axis) % rank for axis in some]] = amounts.reshape(2, -1)
        amounts = full.reshape(-1)
        inputs = [inputs[0], place.integers(integers(amounts)), *inputs[2:3]]
    elif some is not None:
        raise NeedsOpset(place, 18, "computes the pads of some axes")
    if opset >= 11:
        again(place, inputs)
        return
    value = fixed(place, 2, 11)
    if amounts is None:
        raise NeedsOpset(place, 11, "computes its pads")
    again(place, inputs[:1], pads=integers(amounts), value=None if value is None else float(value.reshape(())))


def resize(place: Expansion, opset: int) -> None:
    """Region and scales given, as empty lists where they say nothing; before opset 11 scales only, from the corner."""
    mode, coordinates = place.text("mode", "nearest"), place.text("coordinate_transformation_mode", "half_pixel")
    if coordinates == "half_pixel_symmetric":
        raise NeedsOpset(place, 19, "has symmetric coordinates")
    if "axes" in place.attributes and opset < 18:
        raise NeedsOpset(place, 18, "names its axes")
    if opset >= 13:
        again(place, place.inputs)
        return
    empty = np.zeros(0, np.float32)
    if opset >= 11:
        region, sizes = (place.input(index) or place.array("none", empty) for index in (1, 2))
        again(place, [place.inputs[0], region, sizes, *place.inputs[3:]])
        return
    scales = fixed(place, 2, 11)
    if scales is None or coordinates != "asymmetric" or not _from_corners(place, mode, scales, opset):
        least = 10 if scales is not None and opset < 10 and _from_corners(place, mode, scales, 10) else 11
        raise NeedsOpset(place, least, "does not read from the corner of a place")
    words = {name: None for name in place.attributes if name != "mode"}
    again(place, [place.inputs[0], place.input(2)], **words)
    if opset < 10:
        place.nodes[-1].op_type = "Upsample"


def _from_corners(place: Expansion, mode: str, scales: Array, opset: int) -> bool:
    """Whether the older op reads the same numbers; Upsample, of opset 9, does not make smaller."""
    smaller = scales.min(initial=1) < 1
    nearest = "ceil" if smaller else "floor"
    known = mode == "linear" or (mode == "nearest" and place.text("nearest_mode", "round_prefer_floor") == nearest)
    return known and not (smaller and opset < 10)


def shape(place: Expansion, opset: int) -> None:
    """A part of the shape by Slice."""
    begin, end = place.integer("start", 0), place.integer("end", _LARGEST)
    if (begin, end) == (0, _LARGEST):
        again(place, place.inputs, start=None, end=None)
        return
    whole = place.add("Shape", *place.inputs)
    if opset < 10:
        place.last("Slice", whole, starts=[begin], ends=[end], axes=[0])
    else:
        place.last("Slice", whole, *(place.integers([number]) for number in (begin, end, 0)))


def cut(place: Expansion, opset: int) -> None:
    """A Slice with places as attributes, in steps of one."""
    begin, end, along, steps = (fixed(place, index, 10) for index in (1, 2, 3, 4))
    if begin is None or end is None or (steps is not None and (steps != 1).any()):
        raise NeedsOpset(place, 10, "goes in steps")
    again(
        place,
        place.inputs[:1],
        starts=integers(begin),
        ends=integers(end),
        axes=None if along is None else integers(along),
    )


def split(place: Expansion, opset: int) -> None:
    """The sizes of the pieces written out, before opset 13 as an attribute."""
    sizes = fixed(place, 1, 13)
    if sizes is None:
        axis = place.integer("axis", 0)
        total, count = place.shape(place.inputs[0])[axis], len(place.outputs)
        each = -(-total // count)
        sizes = np.array([each] * (count - 1) + [total - each * (count - 1)], np.int64)
    if opset < 13:
        again(place, place.inputs[:1], split=integers(sizes), num_outputs=None)
    else:
        again(place, [place.inputs[0], place.input(1) or place.integers(sizes.tolist())], num_outputs=None)


def top_k(place: Expansion, opset: int) -> None:
    """The number of elements as an attribute."""
    count = fixed(place, 1, 10)
    if count is None or not place.integer("largest", 1):
        raise NeedsOpset(place, 11, "picks the least")
    again(place, place.inputs[:1], k=int(count.reshape(-1)[0]), largest=None, sorted=None)


def hardmax(place: Expansion, opset: int) -> None:
    """Over the last axis."""
    if place.integer("axis", -1) % len(place.shape(place.inputs[0])) != len(place.shape(place.inputs[0])) - 1:
        raise NeedsOpset(place, 13, "is over an axis that is not the last")


def softmax(place: Expansion, opset: int) -> None:
    """Over the last axis; another one is brought there and back. Before opset 13 an axis stood for all behind it."""
    rank = len(place.shape(place.inputs[0]))
    axis = place.integer("axis", -1) % rank
    if axis == rank - 1:
        again(place, place.inputs, axis=place.integer("axis", -1))
        return
    order = [*range(axis), *range(axis + 1, rank), axis]
    moved = place.add("Transpose", place.inputs[0], perm=order)
    found = place.add(place.op, moved, axis=rank - 1)
    place.last("Transpose", found, perm=[order.index(each) for each in range(rank)])
