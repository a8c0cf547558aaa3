"""MaxPoolGrad(d, places) = 0 but for d at `places`, which number the elements of the pooled tensor.

ONNX Runtime has no CUDA kernel of it: d and the places would go to the CPU, and what comes of them back. There is one
of ScatterElements. Where windows overlap, an element may be the largest of several; there the windows are taken in
groups of which no two overlap, and what the groups make is added in one order, so that it is the same at every run.
"""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np
from onnx import NodeProto, TensorProto, helper

from mnx.train.kernels.graph import Graph, window_of

MOST_GROUPS = 16
"""Each takes a tensor of the size of what is pooled; above so many the copies to the CPU and back cost less."""


def max_pool_gradient(node: NodeProto, graph: Graph) -> bool:
    """Replace a MaxPoolGrad, unless its windows overlap too much."""
    arriving, places = node.input
    pooled, window = graph.makers[places].input[0], window_of(node)
    kernel = window["kernel_shape"]
    strides, dilations = (window.get(name) or [1] * len(kernel) for name in ("strides", "dilations"))
    reach = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    apart = [-(-size // stride) for size, stride in zip(reach, strides, strict=True)]
    if prod(apart) > MOST_GROUPS:
        return False
    size = graph.add("Size", [pooled], f"{node.name}:size")
    length = graph.add("Reshape", [size, graph.numbers(1)], f"{node.name}:length")
    nothing = helper.make_tensor("nothing", TensorProto.FLOAT, [1], [0.0])
    zeros = graph.add("ConstantOfShape", [length], f"{node.name}:zeros", value=nothing)
    parts = []
    for number, start in enumerate(product(*map(range, apart))):
        chosen = [arriving, places]
        if len(apart) < sum(apart):
            axes = range(2, 2 + len(apart))
            end = np.iinfo(np.int64).max
            given = [graph.numbers(*each) for each in (start, [end] * len(apart), axes, apart)]
            chosen = [
                graph.add("Slice", [value, *given], f"{node.name}:{what}/{number}")
                for what, value in (("arriving", arriving), ("places", places))
            ]
        flat = [
            graph.add("Reshape", [value, graph.numbers(-1)], f"{node.name}:flat {what}/{number}")
            for what, value in zip(("arriving", "places"), chosen, strict=True)
        ]
        parts.append(graph.add("ScatterElements", [zeros, flat[1], flat[0]], f"{node.name}:part/{number}", axis=0))
    total = parts[0]
    for number, part in enumerate(parts[1:]):
        total = graph.add("Add", [total, part], f"{node.name}:total/{number}")
    shape = graph.add("Shape", [pooled], f"{node.name}:shape")
    graph.add("Reshape", [total, shape], node.output[0])
    return True
