"""Ops that move elements, as ops with right gradients.

DepthToSpace, SpaceToDepth: Reshape, Transpose, Reshape
Pad by reflection, edges or the other end: a Gather along every axis; with numbers: for all axes
Slice, backwards: a Gather along every axis that it cuts
Resize: one linear map an axis, read off the op itself on unit vectors; a Gather where it copies, else a MatMul
"""

from __future__ import annotations

import numpy as np

from mnx.graphs.model import Array, Model, Node, Port
from mnx.graphs.run import run
from mnx.train.lowering.draft import Draft, Parts


def depth_to_space(node: Node, draft: Draft) -> None:
    """Append a DepthToSpace."""
    at, x, block = draft.at(node), node.inputs[0], node.integer("blocksize", 1)
    channels, height, width = draft.shapes[x][1:]
    made = channels // block**2
    parts, order = ((made, block, block), (0, 1, 4, 2, 5, 3))
    if node.attributes.get("mode", "DCR") == "DCR":
        parts, order = (block, block, made), (0, 3, 4, 1, 5, 2)
    apart = at("Reshape", x, (0, *parts, height, width))
    whole = (0, made, height * block, width * block)
    at("Reshape", at("Transpose", apart, perm=order), whole, out=node.outputs[0])


def space_to_depth(node: Node, draft: Draft) -> None:
    """Append a SpaceToDepth."""
    at, x, block = draft.at(node), node.inputs[0], node.integer("blocksize", 1)
    channels, height, width = draft.shapes[x][1:]
    apart = at("Reshape", x, (0, channels, height // block, block, width // block, block))
    moved = at("Transpose", apart, perm=(0, 3, 5, 1, 2, 4))
    at("Reshape", moved, (0, channels * block**2, height // block, width // block), out=node.outputs[0])


def pad(node: Node, draft: Draft) -> None:
    """Append a Pad."""
    at, x = draft.at(node), node.inputs[0]
    shape = draft.shapes[x]
    rank = len(shape)
    amounts = [int(amount) for amount in draft.weights[node.inputs[1]]]
    axes = [int(axis) % rank for axis in draft.weights[node.inputs[3]]] if node.input(3) else list(range(rank))
    pads = dict(zip(axes, zip(amounts[: len(axes)], amounts[len(axes) :], strict=True), strict=True))
    mode = str(node.attributes.get("mode", "constant"))
    if mode == "constant":
        every = tuple(pads.get(axis, (0, 0))[side] for side in (0, 1) for axis in range(rank))
        value = node.input(2) or 0.0
        at("Pad", x, every, value, out=node.outputs[0])
        return
    for axis, (before, behind) in pads.items():
        if before or behind:
            places = _inside(np.arange(-before, shape[axis] + behind), shape[axis], mode)
            x = at("Gather", x, places, axis=axis)
    at("Identity", x, out=node.outputs[0])


def _inside(places: Array, size: int, mode: str) -> Array:
    """The places of an axis that stand for places beyond its ends."""
    if mode == "edge":
        return np.clip(places, 0, size - 1)
    if mode == "wrap":
        return places % size
    return np.asarray(size - 1 - np.abs(size - 1 - np.abs(places)))


def cut(node: Node, draft: Draft) -> None:
    """Append a Slice; forwards it stays as it is."""
    given = [draft.weights[name].tolist() for name in node.inputs[1:] if name in draft.weights]
    if len(given) < 4 or min(given[3]) > 0:
        return draft.append(node)
    at, x = draft.at(node), node.inputs[0]
    shape = draft.shapes[x]
    for start, end, axis, step in zip(*given, strict=True):
        places = np.arange(shape[axis])[start:end:step]
        x = at("Gather", x, places, axis=axis % len(shape))
    at("Identity", x, out=node.outputs[0])


def resize(node: Node, draft: Draft) -> None:
    """Append a Resize of space."""
    at, x = draft.at(node), node.inputs[0]
    rank = len(draft.shapes[x])
    for axis in range(2, rank):
        linear = _map_of(node, draft, axis)
        places = linear.argmax(axis=1)
        if np.array_equal(linear, np.eye(linear.shape[1], dtype=np.float32)[places]):
            x = x if np.array_equal(places, np.arange(linear.shape[1])) else at("Gather", x, places, axis=axis)
        else:
            x = _applied(at, x, linear, axis, rank)
    at("Identity", x, out=node.outputs[0])


def _map_of(node: Node, draft: Draft, axis: int) -> Array:
    """(after, before): what the op does along one axis."""
    before, after = (draft.shapes[name][axis] for name in (node.inputs[0], node.outputs[0]))
    rank = len(draft.shapes[node.inputs[0]])
    axes = [each % rank for each in node.integers("axes", tuple(range(rank)))]
    given = {axis: place for place, axis in enumerate(axes)}
    weights: dict[str, Array] = {}
    if node.input(1):
        region = draft.weights[node.inputs[1]]
        ends = [region[given[axis] + side * len(axes)] if axis in given else side for side in (0, 1)]
        weights["region"] = np.array([0, 0, 0, ends[0], 1, 1, 1, ends[1]], np.float32)
    if node.input(2) and draft.weights[node.inputs[2]].size:
        scale = draft.weights[node.inputs[2]][given[axis]] if axis in given else 1
        weights["scales"] = np.array([1, 1, 1, scale], np.float32)
    else:
        weights["sizes"] = np.array([1, before, 1, after], np.int64)
    attributes = {name: value for name, value in node.attributes.items() if name != "axes"}
    inputs = ("x", *(name if name in weights else "" for name in ("region", "scales", "sizes")))
    port, out = Port("x", "float32", (before, 1, before)), Port("y", "float32", (before, 1, after))
    alone = Model(node.name, (port,), (out,), (Node(node.name, "Resize", inputs, ("y",), attributes),), weights)
    units = np.eye(before, dtype=np.float32)[None, :, None]
    return np.array(run(alone, units)["y"][0, :, 0].T)


def _applied(at: Parts, x: str, linear: Array, axis: int, rank: int) -> str:
    """A linear map on one axis."""
    if axis == rank - 1:
        return at("MatMul", x, np.ascontiguousarray(linear.T))
    if axis == rank - 2:
        return at("MatMul", linear, x)
    order = (*(each for each in range(rank) if each != axis), axis)
    moved = at("MatMul", at("Transpose", x, perm=order), np.ascontiguousarray(linear.T))
    return at("Transpose", moved, perm=tuple(int(place) for place in np.argsort(order)))
