"""Which nodes of a model make its main flow, and which only prepare context: masks, positions, shapes.

A context value depends on no parameter and, where the network has one input of floats, on no number of it: only on
shapes. With several inputs, or ids, all that is computed from inputs without a parameter is context, the inputs
themselves too; the main flow then begins where parameters meet context. Context is part of what a network is, like a
constant: two nodes match only where they read the same context.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model, Node
from mnx.graphs.parameters import parameter_slots

SOURCE = ""
"""The value that a main flow begins with where it has no single input of floats."""

_LONG = 200
"""Texts of so many letters are kept by their hash."""

_MEASURING = frozenset({"Shape", "Size"})


@dataclass(frozen=True)
class Flow:
    """The main flow of a model.

    Attributes:
        source: the value it begins with: the input, or `SOURCE`.
        nodes: its nodes, in execution order.
        reads: node name -> the values of the main flow that it reads, with repetitions.
        context: context value -> what it is, in words that are equal for equal context in another model.
        slots: node name -> the inputs that are parameters.
    """

    source: str
    nodes: tuple[Node, ...]
    reads: Mapping[str, tuple[str, ...]]
    context: Mapping[str, str]
    slots: Mapping[str, tuple[int, ...]]


def flow_of(model: Model) -> Flow:
    """The main flow of a canonical model.

    Raises:
        GraphError: the output depends on no input, or on context alone.
    """
    slots = parameter_slots(model)
    floats = [port for port in model.inputs if np.dtype(port.dtype).kind == "f"]
    single = len(model.inputs) == 1 and len(floats) == 1
    source = model.inputs[0].name if single else SOURCE
    context = {} if single else {port.name: f"input {index}" for index, port in enumerate(model.inputs)}
    nodes, reads = [], {}
    for node in model.nodes:
        computed = [name for name in node.inputs if name and name not in model.weights]
        measures = node.op in _MEASURING
        if not slots[node.name] and (measures or (computed and all(name in context for name in computed))):
            text = _text(node, {} if measures else context, model)
            context |= {name: f"{text} {index}" for index, name in enumerate(node.outputs)}
            continue
        if not computed and not slots[node.name]:
            raise GraphError(
                f"{model.name}: node '{node.name}' ({node.op}) is computed from constants alone, not from a stored "
                "weight or the input: export the model again with constants folded"
            )
        nodes.append(node)
        reads[node.name] = tuple(name for name in computed if name not in context) or (source,)
    for port in model.outputs:
        if port.name in context:
            raise GraphError(f"{model.name}: the output '{port.name}' depends on no weight: there is nothing to train")
    return Flow(source, tuple(nodes), reads, context, slots)


def _text(node: Node, context: Mapping[str, str], model: Model) -> str:
    inputs = []
    for name in node.inputs:
        if name in model.weights:
            array = model.weights[name]
            inputs.append(f"{array.dtype}{array.shape}{sha256(np.ascontiguousarray(array).tobytes()).hexdigest()}")
        else:
            inputs.append(context.get(name, "flow" if name else ""))
    text = repr((node.op, inputs, sorted(node.attributes.items())))
    return text if len(text) < _LONG else f"{node.op} {sha256(text.encode()).hexdigest()}"
