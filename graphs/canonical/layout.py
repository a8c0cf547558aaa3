"""One layout of axes, channels first, whatever the exporter chose.

A *region* is a set of ops, connected by their values, that do not care where an axis stands. Computing all of it in
another layout changes nothing but which Transposes and Reshapes stand at its borders:

region(x) = rearranged back(region'(rearranged x))

Each region is computed in the layout that leaves the fewest of them; on a tie it stays as it is, so that Transposes
which belong to the network (attention, token mixing) are not moved about. A Transpose counts nothing where it can be
taken into the weights behind a Flatten, or stands at the model's input (it becomes the model's entry).

Transpose(Transpose(x)) and the like are merged.  Reshape(Transpose(x)) that only joins axes of space, as in
(batch, C, H, W) -> (batch, H*W, C), = Transpose(Reshape(x)), the form of exporters that are channels first.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from mnx.graphs.canonical.absorbing import absorption
from mnx.graphs.canonical.rearranging import (
    Extents,
    Order,
    emit,
    order_of,
    possible,
    rearranged,
    root,
    steps,
    write_step,
)
from mnx.graphs.canonical.regions import apply, costs_nothing, layouts, prune, regions, saving
from mnx.graphs.canonical.surgery import Graph, Node, extents, is_output, maker, replace_node, sole_reader

_JOINED_RANK = 3
_IMAGE_RANK = 4
_IMAGE_CHANNELS = (1, 3)
_CHANNELS_FIRST, _CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def channels_first(graph: Graph) -> list[str]:
    """Bring every part of the network that does not care into the layout with the fewest Transposes."""
    for node in graph.nodes:
        if node.op == "Transpose" and (order := order_of(node)) is not None:
            node.attrs = {"perm": [int(axis or 0) for axis in order]}
    _merge(graph)
    for with_windows in (False, True, False):
        for _ in range(len(graph.nodes)):
            if not _sweep(graph, with_windows):
                break
    changed = _turn_images(graph)
    _join_space(graph)
    changed += _absorb(graph)
    graph.cleanup(remove_unused_node_outputs=False, remove_unused_graph_inputs=False)
    names = ", ".join(dict.fromkeys(changed))
    return [f"weights behind a Flatten reordered from channels last to channels first: {names}"] if names else []


def _sweep(graph: Graph, with_windows: bool) -> bool:
    """Rearrange each region where that leaves fewer Transposes; whether any was."""
    done = False
    for region in regions(graph, with_windows):
        best = max(layouts(region), key=lambda order: saving(graph, region, order), default=None)
        if best is not None and saving(graph, region, best) > 0:
            apply(graph, region, best)
            _merge(graph)
            done = True
            break
    return done


def _turn_images(graph: Graph) -> list[str]:
    """Take images (H, W, C) that are only flattened channels first, as networks of the same user with a Conv do."""
    changed = []
    for port in list(graph.inputs):
        shape = extents(port)
        if shape is None or len(shape) != _IMAGE_RANK or np.dtype(port.dtype).kind != "f" or not port.outputs:
            continue
        if shape[-1] not in _IMAGE_CHANNELS or shape[1] in _IMAGE_CHANNELS:
            continue
        region = next((each for each in regions(graph, False) if any(port is value for value in each.inputs)), None)
        if region is not None and not region.outside(port) and costs_nothing(graph, region, _CHANNELS_FIRST):
            apply(graph, region, _CHANNELS_FIRST)
            continue
        first = rearranged(_CHANNELS_FIRST, shape)
        found = [absorption(graph, node.outputs[0], _CHANNELS_LAST, first) for node in port.outputs]
        if all(node.op == "Flatten" for node in port.outputs) and all(each is not None for each in found):
            readers = list(port.outputs)
            turned = emit(graph, port, [("Transpose", _CHANNELS_FIRST)])
            for node, each in zip(readers, found, strict=True):
                changed += each.apply(graph) if each is not None else []
                node.inputs[0] = turned
    return changed


def _merge(graph: Graph) -> None:
    """Replace chains of rearrangements by the fewest that do the same, and drop those that do nothing."""
    for node in [node for node in graph.nodes if order_of(node) is not None]:
        source, order = root(node.outputs[0])
        shape, length = extents(source), _length(node)
        if shape is None or (not node.outputs[0].outputs and not is_output(graph, node.outputs[0])):
            continue
        needed = steps(order, shape)
        if len(needed) < length and possible(needed):
            before, name, value = node.inputs[0], node.name, node.outputs[0].name
            moved = emit(graph, source, needed)
            last = maker(moved) if needed else None
            replace_node(graph, node, moved)
            if last is not None:
                last.name, last.outputs[0].name = name, value
            prune(graph, before)


def _length(node: Node) -> int:
    """How many rearrangements stand in a row up to this one."""
    count, before = 1, maker(node.inputs[0])
    while before is not None and order_of(before) is not None and extents(before.inputs[0]) is not None:
        count, before = count + 1, maker(before.inputs[0])
    return count


def _absorb(graph: Graph) -> list[str]:
    """Take the Transposes in front of every Flatten into the weights behind it, where that can be done."""
    changed = []
    for node in [node for node in graph.nodes if node.op == "Flatten"]:
        before = node.inputs[0]
        source, order = root(before)
        shape = extents(source)
        if source is before or shape is None or any(source is port for port in graph.inputs):
            continue
        found = absorption(graph, node.outputs[0], order, shape)
        if found is not None:
            changed += found.apply(graph)
            node.inputs[0] = source
            prune(graph, before)
    return changed


def _join_space(graph: Graph) -> None:
    """Bring Transpose, then Reshape that joins axes of space, into the other order."""
    for turn in [node for node in graph.nodes if node.op == "Transpose"]:
        node = sole_reader(graph, turn.outputs[0])
        if node is None or node.op != "Reshape":
            continue
        order, shape, result = order_of(turn), extents(turn.inputs[0]), extents(node.outputs[0])
        if order is None or shape is None or result is None or len(result) != _JOINED_RANK:
            continue
        groups = _groups(order, shape, result)
        if groups is None:
            continue
        ranks = sorted(range(len(groups)), key=[group[0] for group in groups].__getitem__)
        joined = tuple(result[index] for index in ranks)
        between = gs.Variable(f"{turn.outputs[0].name}.joined", node.outputs[0].dtype, list(joined))
        turn.outputs, node.inputs = [between], [between]
        write_step(graph, node, "Transpose", tuple(ranks.index(index) for index in range(len(groups))))
        write_step(graph, turn, "Reshape", joined)


def _groups(order: Order, shape: Extents, result: Extents) -> list[tuple[int, ...]] | None:
    """The source's axes that each axis of the result joins; None unless they stand in a row in the source too."""
    groups, place = [], 0
    for size in result:
        if place == len(order):
            return None
        axes = [int(order[place] or 0)]
        place += 1
        while place < len(order) and _product(shape, axes) != size:
            axes.append(int(order[place] or 0))
            place += 1
        if _product(shape, axes) != size or axes != list(range(axes[0], axes[0] + len(axes))):
            return None
        groups.append(tuple(axes))
    joins = any(len(group) > 1 for group in groups)
    return groups if place == len(order) and joins and groups[0] == (0,) else None


def _product(shape: Extents, axes: list[int]) -> int | str | None:
    sizes = [shape[axis] for axis in axes]
    if len(sizes) == 1:
        return sizes[0]
    numbers = [size for size in sizes if isinstance(size, int)]
    return int(np.prod(numbers)) if len(numbers) == len(sizes) else None
