"""Parts of values in one form: Slice along one axis, Gather at one place.

Split(x) = one Slice per output;  Slice along several axes = one Slice per axis
Slice(x, starts, ends, axes, steps): 1-D int64 of one number each, axis >= 0, end the true end, step written out
Slice of all of an axis = x;  Slice of one element with its axis dropped behind it = Gather(x, index) at that axis
Gather, GatherElements, Concat, ArgMax: axis >= 0;  a constant index of a Gather >= 0 too
"""

from __future__ import annotations

import numpy as np

from mnx.graphs.canonical.draft import Extent
from mnx.graphs.canonical.reshapes import RESHAPING
from mnx.graphs.canonical.surgery import (
    Graph,
    Node,
    Tensor,
    bypass,
    constant,
    extents,
    given,
    insert_before,
    remove,
    set_node,
    sole_reader,
    values,
)

_SLICED = 5
_NO_END = 2**31 - 1
"""From here on the end of a Slice is that of any axis."""
_WITH_AXIS = frozenset({"Gather", "GatherElements", "Concat", "ArgMax", "ArgMin"})


def slices(graph: Graph) -> list[str]:
    """Write every Split and Slice as Slices along one axis, and axes from the front."""
    for node in list(graph.nodes):
        if node.op == "Split":
            _split(graph, node)
    for node in list(graph.nodes):
        if node.op == "Slice":
            _slice(graph, node)
        elif node.op in _WITH_AXIS:
            _axis(graph, node)
    for node in [node for node in graph.nodes if node.op == "Slice"]:
        _single(graph, node)
    return []


def _single(graph: Graph, node: Node) -> None:
    """Write a Slice of one element whose axis is dropped behind it as Gather."""
    reader = sole_reader(graph, node.outputs[0])
    if reader is None or reader.op not in RESHAPING or reader.inputs[0] is not node.outputs[0]:
        return
    parts = [values(tensor) for tensor in node.inputs[1:]]
    shape, result = extents(node.outputs[0]), extents(reader.outputs[0])
    if any(part is None or part.size != 1 for part in parts) or len(parts) != _SLICED - 1:
        return
    if shape is None or result is None or "unknown" in result:
        return
    start, _, axis, step = (int(np.asarray(part).item()) for part in parts)
    if shape[axis] == 1 and step == 1 and (*shape[:axis], *shape[axis + 1 :]) == result:
        index = constant(graph, f"{reader.outputs[0].name}.index", np.array(start, dtype=np.int64))
        set_node(reader, "Gather", [node.inputs[0], index], axis=axis)
        remove(graph, node)


def _split(graph: Graph, node: Node) -> None:
    source = extents(node.inputs[0])
    if source is None:
        return
    axis, start = node.attrs.get("axis", 0) % len(source), 0
    sizes = [(extents(output) or (None,) * len(source))[axis] for output in node.outputs]
    if not all(isinstance(size, int) for size in sizes):
        return
    x, outputs = node.inputs[0], list(node.outputs)
    for index, (output, size) in enumerate(zip(outputs, sizes, strict=True)):
        bounds = _bounds(graph, output.name, start, start + int(str(size)), axis, 1)
        start += int(str(size))
        if index == len(outputs) - 1:
            set_node(node, "Slice", [x, *bounds], [output])
            continue
        made = insert_before(graph, node, "Slice", [x, *bounds], extents(output))
        maker = made.inputs[0]
        node.outputs = [other for other in node.outputs if other is not output]
        maker.outputs = [output]


def _bounds(graph: Graph, name: str, start: int, end: int, axis: int, step: int) -> list[Tensor]:
    numbers = {"start": start, "end": end, "axis": axis, "step": step}
    return [constant(graph, f"{name}.{word}", np.array([n], dtype=np.int64)) for word, n in numbers.items()]


def _slice(graph: Graph, node: Node) -> None:
    source = extents(node.inputs[0])
    parts = [values(node.inputs[index]) if given(node, index) else None for index in range(1, _SLICED)]
    starts, ends = parts[0], parts[1]
    missing = any(given(node, index) and parts[index - 1] is None for index in (3, 4))
    if source is None or starts is None or ends is None or missing:
        return
    axes = list(range(starts.size)) if parts[2] is None else [int(axis) % len(source) for axis in parts[2]]
    steps = [1] * starts.size if parts[3] is None else parts[3].tolist()
    cuts = [cut for cut in zip(starts.tolist(), ends.tolist(), axes, steps, strict=True) if not _keeps_all(cut, source)]
    if not all(isinstance(source[axis], int) for _, _, axis, _ in cuts):
        return
    wanted = []
    for start, end, axis, step in cuts:
        size = source[axis]
        first, last, _ = slice(start, end, step).indices(int(size))
        last = max(first, last) if step > 0 else end
        if (first, last, step) != (0, size, 1):
            wanted.append((first, last, axis, step) if step > 0 else (start, end, axis, step))
    if not wanted:
        bypass(graph, node)
        return
    x, shape = node.inputs[0], list(source)
    for bounds in wanted[:-1]:
        shape[bounds[2]] = len(range(*slice(bounds[0], bounds[1], bounds[3]).indices(int(shape[bounds[2]]))))
        x = insert_before(
            graph, node, "Slice", [x, *_bounds(graph, f"{node.outputs[0].name}.{bounds[2]}", *bounds)], shape
        )
    plain = all(
        part is not None and part.dtype == np.int64 and part.tolist() == [number]
        for part, number in zip(parts, wanted[-1], strict=True)
    )
    if len(wanted) > 1 or not plain:
        set_node(node, "Slice", [x, *_bounds(graph, node.outputs[0].name, *wanted[-1])])


def _keeps_all(cut: tuple[int, int, int, int], source: tuple[Extent, ...]) -> bool:
    """Whether a cut through an axis of open size, the batch, takes all of it."""
    start, end, axis, step = cut
    return not isinstance(source[axis], int) and (start, step) == (0, 1) and end >= _NO_END


def _axis(graph: Graph, node: Node) -> None:
    first = values(node.inputs[0])
    shape = extents(node.inputs[0]) if first is None else first.shape
    if shape is None:
        return
    axis = node.attrs.get("axis", 0) % len(shape)
    node.attrs["axis"] = axis
    index = values(node.inputs[1]) if node.op == "Gather" else None
    size = shape[axis]
    if index is not None and isinstance(size, int) and bool((index < 0).any()):
        node.inputs[1] = constant(graph, f"{node.inputs[1].name}.index", np.where(index < 0, index + size, index))
