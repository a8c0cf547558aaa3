"""ConvGrad(d, x, w): the gradients of a convolution, which its kernel makes image by image through a matrix of windows.

By x, where the stride is 1, it is also a Conv of d with w turned by half a turn and its channels swapped, whose kernel
is faster where w makes no more channels than it reads, or where its blocked form can be taken.

By w a second thread makes ConvGrad slower where there are few channels, for it waits at every image. With X_v the
columns of the padded x that column v of the window reads, and D_u d moved down by u rows, it is also

    dW[:, :, u, v] = sum over images n of D_u[n] X_v[n]^T

one product of matrices for each v, all u stacked, whose images are shared out to the threads. One thread keeps
ConvGrad: it stays in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from onnx import NodeProto

from mnx.graphs.canonical.fused import MICROSOFT
from mnx.train.kernels.blocked import convolved, fits, taps_outside
from mnx.train.kernels.graph import Graph, plain, window_of

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
    shape, blocks, block = [into, out, *kernel], fits(graph, graph.shapes[weight]), graph.block
    if blocks:
        flat = graph.add("Reshape", [weight, graph.numbers(out, into // block, -1)], f"{output}:flat")
        moved = graph.add("Transpose", [flat], f"{output}:moved", perm=[1, 0, 2])
        columns = graph.add("Reshape", [moved, graph.numbers(-1, block, taps)], f"{output}:columns")
        inside = graph.add("Transpose", [columns], f"{output}:inside", perm=[0, 2, 1])
        swapped = taps_outside(graph, inside, into // block, out // block, f"{output}:swapped")
    else:
        flat = graph.add("Reshape", [weight, graph.numbers(out, into, -1)], f"{output}:flat")
        swapped = graph.add("Transpose", [flat], f"{output}:swapped", perm=[1, 0, 2])
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
    height = graph.shapes[x][2]
    top, left, bottom, right = window["pads"]
    down, along = window["dilations"]
    above, below = (max(0, (rows - 1) * down - pad) for pad in (top, bottom))
    if above or below:
        arriving = graph.add("Pad", [arriving, graph.numbers(0, 0, above, 0, 0, 0, below, 0)], f"{output}:padded")
    start = top + above - down * np.arange(rows)
    read = graph.constant(f"{output}:rows", start[:, None] + np.arange(height))
    moved, flat = graph.add("Gather", [arriving, read], f"{output}:moved", axis=2), graph.numbers(0, 0, -1)
    stacked = graph.add("Reshape", [moved, graph.numbers(0, out * rows, -1)], f"{output}:stacked")
    if left or right:
        x = graph.add("Pad", [x, graph.numbers(0, 0, 0, left, 0, 0, 0, right)], f"{output}:widened")
    products, width = [], graph.shapes[node.input[1]][3] + left + right - (columns - 1) * along
    for column in range(columns):
        span = [graph.numbers(column * along), graph.numbers(column * along + width), graph.numbers(3)]
        seen = graph.add("Slice", [x, *span], f"{output}:seen{column}") if columns > 1 else x
        columned = graph.add("Reshape", [seen, flat], f"{output}:flat{column}")
        inputs = [stacked, columned]
        product = graph.add("FusedMatMul", inputs, f"{output}:product{column}", MICROSOFT, transB=1)
        products.append(graph.add("ReduceSum", [product, graph.numbers(0)], f"{output}:sum{column}", keepdims=0))
    together = graph.add("Concat", products, f"{output}:together", axis=0)
    apart = graph.add("Reshape", [together, graph.numbers(columns, out, rows, into)], f"{output}:apart")
    graph.add("Transpose", [apart], output, perm=[1, 3, 2, 0])


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
