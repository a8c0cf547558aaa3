"""Pooling as ops with right gradients.

AveragePool: a depthwise Conv with ones, times 1 / (elements of the window that count) at every place.
LpPool: |x|^p summed by a depthwise Conv with ones, then its p-th root;  GlobalLpPool: summed over all of space.
MaxPool: with explicit pads, and behind a Reshape to the known shape where ONNX Runtime would not know height and width.
GlobalMaxPool: a MaxPool whose window is all of space.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np

from mnx.graphs.model import Attribute, Node, Shape
from mnx.train.lowering.draft import Draft, Parts
from mnx.train.lowering.reductions import root
from mnx.train.lowering.windows import Window, window_of


def average_pool(node: Node, draft: Draft) -> None:
    """Append an AveragePool."""
    at, x, y = draft.at(node), node.inputs[0], node.outputs[0]
    channels, *sizes = draft.shapes[x][1:]
    window, axes = window_of(node, tuple(sizes), ()), len(sizes)
    counts = []
    for axis, (size, out) in enumerate(zip(sizes, draft.shapes[y][2:], strict=True)):
        begin, end = (window.pads[axis], window.pads[axis + axes]) if node.integer("count_include_pad", 0) else (0, 0)
        places = _places(window, axis, out)
        counts.append(((places >= -begin) & (places < size + end)).sum(axis=1))
    shares = (1 / reduce(np.multiply.outer, counts)).astype(np.float32)[None, None]
    total = _window_sum(at, x, channels, window, tuple(sizes), draft.shapes[y][2:])
    at("Mul", total, shares, out=y)


def lp_pool(node: Node, draft: Draft) -> None:
    """Append an LpPool."""
    at, x, y, p = draft.at(node), node.inputs[0], node.outputs[0], node.integer("p", 2)
    channels, *sizes = draft.shapes[x][1:]
    window = window_of(node, tuple(sizes), ())
    total = _window_sum(at, _power(at, x, p), channels, window, tuple(sizes), draft.shapes[y][2:])
    _root(at, total, p, y)


def global_lp_pool(node: Node, draft: Draft) -> None:
    """Append a GlobalLpPool."""
    at, x, p = draft.at(node), node.inputs[0], node.integer("p", 2)
    space = tuple(range(2, len(draft.shapes[x])))
    _root(at, at("ReduceSum", _power(at, x, p), space, keepdims=1), p, node.outputs[0])


def max_pool(node: Node, draft: Draft) -> None:
    """Append a MaxPool."""
    shape = draft.shapes[node.inputs[0]]
    window = window_of(node, shape[2:], ())
    _max_pool(draft.at(node), node, draft, {**window.attributes(), "ceil_mode": node.integer("ceil_mode", 0)})


def global_max_pool(node: Node, draft: Draft) -> None:
    """Append a GlobalMaxPool, whose one window is followed by no other."""
    space = draft.shapes[node.inputs[0]][2:]
    _max_pool(draft.at(node), node, draft, {"kernel_shape": space, "strides": space})


def _max_pool(at: Parts, node: Node, draft: Draft, attributes: dict[str, Attribute]) -> None:
    x = node.inputs[0]
    known = at("Reshape", x, (-1, *draft.shapes[x][1:])) if x in draft.open else x
    at("MaxPool", known, out=node.outputs[0], **attributes)


def _power(at: Parts, x: str, p: int) -> str:
    if p == 2:
        return at("Mul", x, x)
    return at("Abs", x) if p == 1 else at("Pow", at("Abs", x), float(p))


def _root(at: Parts, total: str, p: int, out: str) -> None:
    if p == 1:
        at("Identity", total, out=out)
    else:
        root(at, total, p, out)


def _places(window: Window, axis: int, out: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """(out, kernel): the places of every window along an axis, the first of the input being 0."""
    starts = np.arange(out)[:, None] * window.strides[axis] - window.pads[axis]
    return starts + np.arange(window.kernel[axis]) * window.dilations[axis]


def _window_sum(at: Parts, x: str, channels: int, window: Window, sizes: Shape, outs: Shape) -> str:
    """Sums over windows, channel by channel; where the last windows reach further than the pads, zeros count."""
    ones = np.ones((channels, 1, *window.kernel), np.float32)
    ends = tuple(
        max(0, int(_places(window, axis, out).max()) + 1 - size)
        for axis, (size, out) in enumerate(zip(sizes, outs, strict=True))
    )
    if len(sizes) > 2:  # else ONNX Runtime loses the gradient's shape where x is read elsewhere too
        x = at("Reshape", x, (-1, channels, *sizes))
    wider = replace(window, pads=(*window.pads[: len(sizes)], *ends))
    return at("Conv", x, ones, out="", group=channels, **wider.attributes())
