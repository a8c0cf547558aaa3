"""ConvGrad(d, x, w): the gradients of a convolution, which its kernel makes image by image through a matrix of windows.

By x, where the stride is 1, it is also a Conv of d with w turned by half a turn and its channels swapped, whose kernel
is faster where w makes no more channels than it reads, or where its blocked form can be taken.

By w a second thread makes ConvGrad slower where there are few channels, for it waits at every image. With X_v the
columns of the padded x that tap column v reads, and D_u d moved down by u rows, it is also

    dW[:, :, u, v] = sum over images n of D_u[n] X_v[n]^T

one product of matrices for each v, all u stacked, whose images are shared out to the threads. One thread keeps
ConvGrad: it stays in the cache.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import numpy as np
from onnx import NodeProto

from mnx.train.kernels.blocked import convolved, fits
from mnx.train.kernels.graph import MICROSOFT, Graph, plain, window_of

_CHANNELS = range(16, 129)
"""How many channels on either side make the products faster than ConvGrad, by measurement."""
_PIXELS = 50
"""The fewest pixels for which they are: the longer the rows of the products, the less their results weigh."""


def convolution_gradient(node: NodeProto, graph: Graph) -> bool:
    """Replace a ConvGrad, or the part of it that is faster otherwise."""
    window, (arriving, x, weight) = window_of(node), node.input
    shape = graph.shapes.get(weight, ())
    if len(shape) < 3 or not all(shape) or not plain(window):
        return False
    by_x, by_weight = bool(node.output[0]), len(node.output) > 1 and bool(node.output[1])
    gains = shape[0] <= shape[1] or fits(graph, shape)
    turning = by_x and gains and _turns(window["pads"], window["dilations"], shape)
    multiplying = by_weight and (turning or not by_x) and _multiplies(graph, x, shape)
    if turning:
        _by_input(node, graph)
    if multiplying:
        _by_weight(node, graph)
        if len(node.output) > 2 and node.output[2]:
            axes = graph.numbers(0, *range(2, len(shape)))
            graph.add("ReduceSum", [arriving, axes], node.output[2], keepdims=0)
    elif turning:
        rest = NodeProto()
        rest.CopyFrom(node)
        rest.output[0] = ""
        graph.nodes.append(rest)
    return turning or multiplying


def _by_input(node: NodeProto, graph: Graph) -> None:
    window, (arriving, _, weight), output = window_of(node), node.input, node.output[0]
    out, into, *kernel = graph.shapes[weight]
    taps, dilations = math.prod(kernel), list(window["dilations"])
    sides = zip(window["pads"], kernel * 2, dilations * 2, strict=True)
    pads = [dilation * (side - 1) - pad for pad, side, dilation in sides]
    turn = graph.constant(f"mnx:turn/{taps}", np.arange(taps)[::-1].astype(np.int64).copy())
    shape, blocks = [into, out, *kernel], fits(graph, graph.shapes[weight])
    block = graph.block if blocks else 1
    form = graph.numbers(out // block, block, into // block, block, -1) if blocks else graph.numbers(out, into, -1)
    flat = graph.add("Reshape", [weight, form], f"{output}:flat")
    swapped = graph.add("Transpose", [flat], f"{output}:swapped", perm=[2, 0, 4, 1, 3] if blocks else [1, 0, 2])
    turned = graph.add("Gather", [swapped, turn], f"{output}:turned", axis=2)
    weights = graph.add("Reshape", [turned, graph.numbers(*shape)], f"{output}:weight")
    if blocks:
        convolved(graph, [arriving, weights], output, shape, pads, dilations)
    else:
        window = {"kernel_shape": kernel, "pads": pads, "strides": [1] * len(kernel), "dilations": dilations}
        graph.add("Conv", [arriving, weights], output, **window, group=1)


def _by_weight(node: NodeProto, graph: Graph) -> None:
    window, (arriving, x, weight), output = window_of(node), node.input, node.output[1]
    out, into, rows, columns = graph.shapes[weight]
    top, left, bottom, right = window["pads"]
    down, along = window["dilations"]
    if left or right:
        x = graph.add("Pad", [x, graph.numbers(0, 0, 0, left, 0, 0, 0, right)], f"{output}:padded")
    moved = [
        graph.add(
            "Pad",
            [arriving, graph.numbers(0, 0, row * down - top, 0, 0, 0, (rows - 1 - row) * down - bottom, 0)],
            f"{output}:row{row}",
        )
        for row in range(rows)
    ]
    stacked = graph.add("Concat", moved, f"{output}:rows", axis=1)
    flat, products = graph.numbers(0, 0, -1), []
    left_side = graph.add("Reshape", [stacked, flat], f"{output}:left")
    for column in range(columns):
        last = (columns - 1 - column) * along
        ends = graph.numbers(-last if last else sys.maxsize)
        read = graph.add("Slice", [x, graph.numbers(column * along), ends, graph.numbers(3)], f"{output}:read{column}")
        right_side = graph.add("Reshape", [read, flat], f"{output}:right{column}")
        product = graph.add("FusedMatMul", [left_side, right_side], f"{output}:product{column}", MICROSOFT, transB=1)
        products.append(graph.add("ReduceSum", [product, graph.numbers(0)], f"{output}:sum{column}", keepdims=0))
    together = graph.add("Concat", products, f"{output}:columns", axis=0)
    apart = graph.add("Reshape", [together, graph.numbers(columns, rows, out, into)], f"{output}:apart")
    graph.add("Transpose", [apart], output, perm=[2, 3, 1, 0])


def _turns(pads: Sequence[int], dilations: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether the gradient by x is a Conv."""
    sides = zip(pads, list(shape[2:]) * 2, list(dilations) * 2, strict=True)
    return all(pad <= dilation * (side - 1) for pad, side, dilation in sides)


def _multiplies(graph: Graph, x: str, shape: Sequence[int]) -> bool:
    """Whether the gradient by w is faster as products of matrices."""
    if graph.threads < 2 or len(shape) != 4 or max(shape[2:]) == 1 or not all(each in _CHANNELS for each in shape[:2]):
        return False
    size = list(graph.shapes.get(x, ()))[2:]
    return len(size) == 2 and math.prod(size) >= _PIXELS
