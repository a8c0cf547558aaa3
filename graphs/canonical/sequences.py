"""Lists of pieces, as dynamo writes chunk() and split() without optimisation.

SequenceAt(SplitToSequence(x, s), i) = Slice(x, from i s to (i + 1) s) along the axis, for a number s;
for a list of sizes s, from s_0 + ... + s_{i-1} on, s_i long.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mnx.graphs.model import Array


def resolve_sequences(graph: onnx.GraphProto) -> None:
    """Take, in place, pieces out of lists whose sizes and places are constant; other lists stay, to be refused."""
    numbers = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    splits = {node.output[0]: node for node in graph.node if node.op_type == "SplitToSequence"}
    nodes = []
    for node in graph.node:
        split = splits.get(node.input[0]) if node.op_type == "SequenceAt" else None
        cut = None if split is None else _cut(split, numbers.get(node.input[1]), numbers)
        if split is None or cut is None:
            nodes.append(node)
            continue
        names = [f"{node.output[0]}.{part}" for part in ("start", "end", "axis")]
        for name, number in zip(names, cut, strict=True):
            graph.initializer.append(numpy_helper.from_array(np.array([number], dtype=np.int64), name))
        nodes.append(helper.make_node("Slice", [split.input[0], *names], [node.output[0]], name=node.name))
    del graph.node[:]
    graph.node.extend(nodes)


def _cut(split: onnx.NodeProto, place: Array | None, numbers: dict[str, Array]) -> tuple[int, int, int] | None:
    """Start, end and axis of one piece; None where they are not known."""
    sizes = numbers.get(split.input[1]) if len(split.input) > 1 else None
    if place is None or sizes is None or int(place) < 0:
        return None
    axis = next((attribute.i for attribute in split.attribute if attribute.name == "axis"), 0)
    index = int(place)
    if sizes.ndim == 0:
        return index * int(sizes), (index + 1) * int(sizes), axis
    start = int(sizes[:index].sum())
    return start, start + int(sizes[index]), axis
