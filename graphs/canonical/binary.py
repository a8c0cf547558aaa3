"""One logit for two classes, written as two.

    softmax((0, z)) = (1 - sigmoid(z), sigmoid(z)),    z = x w^T + b  ->  (0, z) = x (0, w)^T + (0, b)

Concat(1 - p, p) with p = Sigmoid(z) is then a Softmax, and p itself a part of it. p may be a column, (batch, 1), or
what is left of one, (batch,).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mnx.graphs.model import Model, Node, Port

COLUMN = frozenset({"Reshape", "Gather"})
"""What makes (batch,) of (batch, 1)."""
_CLASSES = 2


def two_logits(model: Model, outputs: tuple[Port, ...]) -> Model:
    """The model with two logits in place of one, where a Sigmoid makes the probabilities of two classes of it.

    Args:
        model: the model; where two probabilities are put together, that Concat is still the end of the body.
        outputs: what the user's file gives.
    """
    joined = _joined(model)
    if joined is not None:
        sigmoid, inner, end = joined
        head = (Node(end.name, "Softmax", sigmoid.inputs, end.outputs, {"axis": -1}), *model.head)
    elif model.outputs[0].shape == (1,) and len(outputs) == 1 and (found := _sigmoid_first(model.head)):
        sigmoid, inner = found[0], []
        head = (*_second(sigmoid), *found[1:])
    else:
        return model
    logit = sigmoid.inputs[0]
    layer = model.producers().get(logit)
    if layer is None or layer.op != "Gemm" or not _is_alone(model, layer, logit, inner):
        return model
    weight, bias = layer.inputs[1], layer.inputs[2]
    doubled = {
        name: np.concatenate([np.zeros_like(model.weights[name]), model.weights[name]]) for name in (weight, bias)
    }
    for array in doubled.values():
        array.flags.writeable = False
    kept = tuple(node for node in model.nodes if node not in inner)
    change = f"the one logit {logit!r} written as two: 0 and itself"
    return model.with_weights(doubled).replace(
        nodes=kept, outputs=(Port(logit, "float32", (_CLASSES,)),), head=head, changes=(*model.changes, change)
    )


def _joined(model: Model) -> tuple[Node, list[Node], Node] | None:
    """The Sigmoid, all nodes from it to the end, and the Concat, of a model that ends in Concat(1 - p, p)."""
    makers, readers = model.producers(), model.consumers()
    end = makers.get(model.outputs[0].name)
    if end is None or end.op != "Concat" or len(end.inputs) != _CLASSES or model.outputs[0].shape != (_CLASSES,):
        return None
    rest, share = (makers.get(name) for name in end.inputs)
    if rest is None or share is None or rest.op != "Sub" or share.op != "Sigmoid":
        return None
    one = model.weights.get(rest.inputs[0])
    whole = one is not None and one.size == 1 and one.item() == 1
    alone = readers[rest.outputs[0]] == [end] and readers[share.outputs[0]] == [rest, end]
    return (share, [share, rest, end], end) if whole and alone and rest.inputs[1] == share.outputs[0] else None


def _sigmoid_first(head: tuple[Node, ...]) -> tuple[Node, ...]:
    """A head of a Sigmoid, and what makes one number of a column on either side, in this order; () for others."""
    first, *others = head or (None,)
    if first is None or len(others) > 1:
        return ()
    if first.op == "Sigmoid":
        return head if all(node.op in COLUMN for node in others) else ()
    if first.op not in COLUMN or [node.op for node in others] != ["Sigmoid"]:
        return ()
    (sigmoid,) = others
    share = f"{sigmoid.outputs[0]}.column"
    return (
        replace(sigmoid, inputs=first.inputs[:1], outputs=(share,)),
        replace(first, inputs=(share, *first.inputs[1:]), outputs=sigmoid.outputs),
    )


def _second(sigmoid: Node) -> tuple[Node, ...]:
    """The second of two probabilities, under the name that the Sigmoid gave it."""
    result = sigmoid.outputs[0]
    both, place = f"{result}.both", f"{result}.second"
    return (
        Node(sigmoid.name, "Softmax", sigmoid.inputs, (both,), {"axis": -1}),
        Node(place, "Constant", (), (place,), {"value_ints": (1,)}),
        Node(f"{result}.Gather", "Gather", (both, place), (result,), {"axis": 1}),
    )


def _is_alone(model: Model, layer: Node, logit: str, inner: list[Node]) -> bool:
    """Whether the layer has weights of its own for one unit, and nothing but the Sigmoid reads it."""
    readers = model.consumers()
    read = [node for node in readers.get(logit, []) if node not in inner]
    own = all(name in model.weights and len(readers[name]) == 1 for name in layer.inputs[1:])
    return own and not read and len(layer.inputs) > _CLASSES and len(model.weights[layer.inputs[1]]) == 1
