"""The entry: a Transpose of the model's input, peeled off so that the body takes it channels first."""

from __future__ import annotations

from collections.abc import Sequence

from mnx.graphs.model import Model, Node, Port


def peel_entry(model: Model) -> Model:
    """The model with the Transposes of its inputs moved from the body to `Model.entry`.

    Only of inputs of floats that nothing else reads, and where the channels move from the last axis to the first.
    """
    readers = model.consumers()
    entry: list[Node] = []
    inputs: list[Port] = []
    for port in model.inputs:
        reading = readers.get(port.name, [])
        order = reading[0].integers("perm", ()) if len(reading) == 1 and reading[0].op == "Transpose" else ()
        made = reading[0].outputs[0] if order else ""
        if order and is_to_first(order) and port.dtype == "float32" and not _is_output(model, made):
            entry.append(reading[0])
            port = Port(made, port.dtype, tuple(port.shape[axis - 1] for axis in order[1:]))
        inputs.append(port)
    nodes = tuple(node for node in model.nodes if node not in entry)
    return model.replace(nodes=nodes, inputs=tuple(inputs), entry=tuple(entry))


def is_to_first(order: Sequence[int | None]) -> bool:
    """Whether a permutation takes channels from the last axis to the one behind the batch, all else in order."""
    rank = len(order)
    return tuple(order) == (0, rank - 1, *range(1, rank - 1))


def _is_output(model: Model, value: str) -> bool:
    return any(port.name == value for port in model.outputs)
