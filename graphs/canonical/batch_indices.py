"""Picking by the number of the example: masks written as x[arange(batch), r].

GatherND(x, [b, r]) = Gather(flat x, b T + r) = Gather(x, r, axis=1)      x of shape (batch, T, ...), b in arange(batch)
Gather(x, 0 ... T - 1, axis=1) = Reshape(x),                              x = x for r that is nothing
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import NodeProto, helper

from mnx.graphs.canonical.draft import Draft
from mnx.graphs.model import Array, Shape

_MATRIX_RANK = 2
_FLATTENING = frozenset({"Reshape", "Flatten"})


def plain_indices(draft: Draft, found: Mapping[str, Array], shapes: Mapping[str, Shape], batch: int) -> None:
    """Write every gather whose indices hold the number of the example without it, in place.

    Args:
        draft: the network.
        found: the values that depend on the batch size alone, at the size `batch`.
        shapes: all shapes at that size.
        batch: the batch size.
    """
    makers = {name: node for node in draft.nodes for name in node.output}
    for node in draft.nodes:
        picked = _picked(node, found, makers, shapes, batch)
        if picked is None:
            continue
        source, rest = picked
        result, tokens = node.output[0], shapes[source][1]
        if np.array_equal(rest.ravel(), np.arange(tokens)):
            name = f"{result}.target"
            draft.constants[name] = np.array([0, *shapes[result][1:]], dtype=np.int64)
            new = helper.make_node("Reshape", [source, name], [result], node.name)
        else:
            name = f"{result}.indices"
            draft.constants[name] = rest
            new = helper.make_node("Gather", [source, name], [result], node.name, axis=1)
        node.CopyFrom(new)
    draft.drop_dead()


def _picked(
    node: NodeProto,
    found: Mapping[str, Array],
    makers: Mapping[str, NodeProto],
    shapes: Mapping[str, Shape],
    batch: int,
) -> tuple[str, Array] | None:
    """What the node picks from, and where in each example; None where it does something else."""
    if node.op_type not in ("GatherND", "Gather") or node.input[1] not in found or node.input[0] in found:
        return None
    if any(attribute.i for attribute in node.attribute if attribute.name in ("axis", "batch_dims")):
        return None
    source, indices = node.input[0], found[node.input[1]].astype(np.int64)
    if not indices.shape or len(indices) != batch or node.output[0] not in shapes:
        return None
    flat: Shape = ()
    if node.op_type == "GatherND":
        examples = indices[..., 0]
        rest = indices[..., 1] if indices.shape[-1] == _MATRIX_RANK else None
    else:
        maker, flat = makers.get(source), shapes.get(source, ())
        if maker is None or maker.op_type not in _FLATTENING:
            return None
        source = maker.input[0]
        examples, rest = np.divmod(indices, max(shapes.get(source, (0, 0))[1:2] or (1,)))
    given = shapes.get(source, ())
    if rest is None or len(given) < _MATRIX_RANK or given[0] != batch or (flat and flat[0] != batch * given[1]):
        return None
    numbers = np.arange(batch).reshape(-1, *(1,) * (examples.ndim - 1))
    whole = np.array_equal(rest[0].ravel(), np.arange(given[1]))
    if (
        not (examples == numbers).all()
        or not (rest == rest[:1]).all()
        or (flat and flat[1:] != given[2:] and not whole)
    ):
        return None
    return source, rest[0]
