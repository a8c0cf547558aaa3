"""The head: what stands behind the class scores, peeled off so that the body has one output, the logits.

Softmax, LogSoftmax or Sigmoid over the classes; ArgMax, and how labels are looked up behind it; what makes one number
an example of a column, (batch, 1) -> (batch,). What the head reads of constants becomes Constant nodes of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from onnx import helper

from mnx.graphs.canonical.binary import COLUMN, two_logits
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Array, Attribute, Model, Node, Port, Shape, without_unused_weights
from mnx.graphs.proto import ends_of_head
from mnx.graphs.shapes import shapes

HEADS = frozenset({"Softmax", "LogSoftmax", "Sigmoid"})
_BEHIND = HEADS | {
    "ArgMax",
    "ArgMin",
    "TopK",
    "Cast",
    "Concat",
    "Equal",
    "Expand",
    "Flatten",
    "Gather",
    "Greater",
    "Identity",
}
_BEHIND |= {
    "Less",
    "Not",
    "OneHot",
    "Reshape",
    "Slice",
    "Squeeze",
    "Sub",
    "Unsqueeze",
    "Where",
    "Exp",
    "Log",
    "ReduceMax",
}
_PARTS = frozenset({"Slice", "Gather"})
_PLAIN = {"f": "float", "i": "int", "U": "string", "O": "string"}


@dataclass
class _Tail:
    """The end of a model while it is taken apart: `ends` are the values that what was taken reads."""

    model: Model
    ends: list[str]
    nodes: list[Node] = field(default_factory=list)

    def latest(self) -> Node | None:
        """The node that makes an end and that no node of the body reads; None where there is none."""
        readers = self.model.consumers()
        taken = {node.name for node in self.nodes}
        for node in reversed(self.model.nodes):
            if any(name in self.ends for name in node.outputs):
                read = {reader.name for name in node.outputs for reader in readers.get(name, [])}
                return node if read <= taken else None
        return None

    def take(self, node: Node) -> None:
        """Move the node from the body's end to the tail."""
        computed = [name for name in node.inputs if name and name not in self.model.weights]
        kept = [name for name in self.ends if name not in node.outputs]
        self.ends = list(dict.fromkeys([*kept, *computed]))
        self.nodes.insert(0, node)


def peel(model: Model) -> Model:
    """The model with what stands behind its logits moved from the body to `Model.head`.

    An activation only behind scores of shape [batch, classes], over the class axis. One logit behind which a Sigmoid
    gives the probabilities of two classes becomes two.

    Raises:
        GraphError: several outputs do not follow from one set of class scores.
    """
    tail = _Tail(model, list(dict.fromkeys(port.name for port in model.outputs)))
    _common(tail)
    _labels(tail)
    if not _activated_column(tail):
        _activation(tail)
    logits = tail.ends[0]
    kept = tuple(node for node in model.nodes if node not in tail.nodes)
    port = next((port for port in model.outputs if port.name == logits), None)
    if port is None:
        port = Port(logits, "float32", _shape(model, logits))
    body = model.replace(nodes=kept, outputs=(port,), head=tuple(tail.nodes))
    body = _with_own_constants(two_logits(body, model.outputs))
    return without_unused_weights(body.replace(results=_results(body, model.outputs)))


def _common(tail: _Tail) -> None:
    """Take off until everything follows from one value."""
    while len(tail.ends) > 1:
        node = tail.latest()
        if node is None or node.op not in _BEHIND:
            given = ", ".join(port.name for port in tail.model.outputs)
            raise GraphError(
                f"{tail.model.name} has several outputs ({given}) that do not all follow from one set of class "
                "scores: export it with the logits alone"
            )
        tail.take(node)


def _labels(tail: _Tail) -> None:
    """Take off what makes labels of scores, down to and with the ArgMax."""
    floats = all(np.dtype(port.dtype).kind == "f" for port in tail.model.outputs)
    found = len(tail.model.outputs) > 1
    while not floats or found:
        node = tail.latest()
        if node is None or node.op not in _BEHIND or (found and node.op != "ArgMax"):
            return
        tail.take(node)
        if node.op == "ArgMax":
            return


def _activated_column(tail: _Tail) -> bool:
    """Take off what makes (batch,) of a column (batch, 1), with a Sigmoid behind it; whether there was a Sigmoid."""
    model, behind, node = tail.model, list[Node](), tail.latest()
    if node is not None and node.op == "Sigmoid" and len(model.consumers()[node.inputs[0]]) == 1:
        behind, node = [node], model.producers().get(node.inputs[0])
    if node is None or node.op not in COLUMN:
        return False
    if _shape(model, node.outputs[0]) != () or _shape(model, node.inputs[0]) != (1,):
        return False
    for each in (*behind, node):
        tail.take(each)
    return bool(behind)


def _activation(tail: _Tail) -> None:
    """Take off the activation over the classes, and what picks one of them behind it."""
    node = tail.latest()
    if node is not None and node.op in _PARTS:
        before = next((other for other in tail.model.nodes if node.inputs[0] in other.outputs), None)
        readers = tail.model.consumers().get(node.inputs[0], [])
        if (
            before is not None
            and len(readers) == 1
            and _is_head(tail.model, before, _shape(tail.model, before.outputs[0]))
        ):
            tail.take(node)
            node = before
    makers = tail.model.producers()
    if node is None or node.op not in HEADS or node.inputs[0] not in makers:
        return
    port = next((port for port in tail.model.outputs if port.name == node.outputs[0]), None)
    if _is_head(tail.model, node, port.shape if port else _shape(tail.model, node.outputs[0])):
        tail.take(node)


def _is_head(model: Model, node: Node, shape: Shape) -> bool:
    if node.op not in HEADS or len(shape) != 1:
        return False
    return node.op == "Sigmoid" or node.integer("axis", -1) in (-1, 1)


def _shape(model: Model, value: str) -> Shape:
    return shapes(model, 1)[value][1:]


def _results(model: Model, outputs: tuple[Port, ...]) -> tuple[Port, ...]:
    """The user's outputs, where they are not what the ends of the head are without being told."""
    port = model.outputs[0]
    plain = tuple(replace(port, name=name) for name in ends_of_head(model, port))
    return () if plain == outputs else outputs


def _with_own_constants(model: Model) -> Model:
    """The model whose head reads Constant nodes in place of small weights."""
    in_body = {name for node in model.nodes for name in node.inputs}
    made: dict[str, str] = {}
    head: list[Node] = []
    for node in model.head:
        for name in node.inputs:
            if name in model.weights and name not in made and model.weights[name].ndim <= 1:
                nodes = _constant(f"{name}.head" if name in in_body else name, model.weights[name])
                made[name] = nodes[-1].outputs[0]
                head += nodes
        head.append(replace(node, inputs=tuple(made.get(name, name) for name in node.inputs)))
    weights = {name: array for name, array in model.weights.items() if name in in_body or name not in made}
    return model.replace(head=tuple(head), weights=weights)


def _constant(name: str, array: Array) -> list[Node]:
    """A Constant node of these numbers or words; with a Cast behind it for other integers than int64."""
    kind = "s" if array.ndim else ""
    words = tuple(value.decode() if isinstance(value, bytes) else value for value in array.reshape(-1).tolist())
    value: Attribute = words if array.ndim else words[0]
    if array.dtype in (np.float32, np.int64) or array.dtype.kind in "UO":
        return [Node(name, "Constant", (), (name,), {f"value_{_PLAIN[array.dtype.kind]}{kind}": value})]
    whole = tuple(int(word) for word in words)
    attributes: dict[str, Attribute] = {f"value_int{kind}": whole if array.ndim else whole[0]}
    to = int(helper.np_dtype_to_tensor_dtype(array.dtype))
    cast = f"{name}.cast"
    return [Node(name, "Constant", (), (name,), attributes), Node(cast, "Cast", (name,), (cast,), {"to": to})]
