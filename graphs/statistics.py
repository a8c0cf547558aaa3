"""BatchNormalization by the statistics of the batch, written in primitives that every runtime has.

y = scale * (x - m) / sqrt(v + epsilon) + shift,  m and v the mean and biased variance of x over all axes but channels
"""

from __future__ import annotations

import numpy as np

from mnx.graphs.builder import Builder
from mnx.graphs.model import Array, Model, Node
from mnx.graphs.shapes import shapes

_ANY_BATCH = 2


def with_batch_statistics(model: Model) -> Model:
    """The model with every BatchNormalization normalising by its own batch; running statistics are not read."""
    normalising = [node for node in model.nodes if node.op == "BatchNormalization"]
    if not normalising:
        return model
    ranks = {name: len(shape) for name, shape in shapes(model, _ANY_BATCH).items()}
    nodes: list[Node] = []
    weights: dict[str, Array] = dict(model.weights)
    for node in model.nodes:
        if node in normalising:
            found = _primitives(node, ranks[node.inputs[0]], model.weights[node.inputs[1]].dtype.name)
            nodes += found.nodes
            weights |= found.weights
        else:
            nodes.append(node)
    return model.replace(nodes=tuple(nodes), weights=weights)


def _primitives(node: Node, rank: int, precision: str) -> Builder:
    x, scale, shift = node.inputs[:3]
    build = Builder(prefix=f"{node.name}/batch_statistics/")
    axes = build.weight("axes", np.array([axis for axis in range(rank) if axis != 1], dtype=np.int64))
    column = build.weight("column", np.array([1, -1] + [1] * (rank - 2), dtype=np.int64))
    epsilon = build.weight("epsilon", np.array(node.real("epsilon", 1e-5), dtype=precision))
    centred = build.add("Sub", x, build.add("ReduceMean", x, axes, name="mean", keepdims=1))
    variance = build.add("ReduceMean", build.add("Mul", centred, centred), axes, name="variance", keepdims=1)
    deviation = build.add("Sqrt", build.add("Add", variance, epsilon))
    normal = build.add("Div", centred, deviation)
    scaled = build.add("Mul", normal, build.add("Reshape", scale, column, name="scale"))
    build.add("Add", scaled, build.add("Reshape", shift, column, name="shift"), name="result", outputs=node.outputs[:1])
    return build
