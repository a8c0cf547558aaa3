"""One ensemble graph: all members on one shared input, their probabilities averaged.

p(x) = (1 / k) * sum over members of softmax(logits(x)): ensemble averaging, the paper's EA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mnx.graphs.builder import Builder
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model, Node, Port

PROBABILITIES = "probabilities"
"""The ensemble's output."""


def join(models: Sequence[Model], name: str, metadata: Mapping[str, str] | None = None) -> Model:
    """The ensemble of several classifiers with equal inputs and classes, as one model.

    The input takes the name of the first member's; nodes and weights of member m are called `m/...`.

    Raises:
        GraphError: there are no members, two have one name, or inputs or classes differ.
    """
    if not models:
        raise GraphError("an ensemble needs at least one member")
    first = models[0]
    for other in models[1:]:
        if other.inputs[0].shape != first.inputs[0].shape or other.outputs[0].shape != first.outputs[0].shape:
            raise GraphError(f"{other.name} and {first.name} have different inputs or classes")
    if len({model.name for model in models}) < len(models):
        raise GraphError("two members of the ensemble have the same name")
    port = first.inputs[0]
    build = Builder()
    parts = []
    for model in models:
        parts.append(build.add("Softmax", _absorb(build, model, port), name=f"{model.name}/{PROBABILITIES}", axis=-1))
    build.add("Mean", *parts, name=PROBABILITIES)
    output = Port(PROBABILITIES, port.dtype, first.outputs[0].shape)
    return replace(build.model(name, [port], [output]), metadata=dict(metadata or {}))


def _absorb(build: Builder, model: Model, port: Port) -> str:
    """Add a member's body under its name; returns its logits."""

    def renamed(value: str) -> str:
        if not value:
            return ""
        return port.name if value == model.inputs[0].name else f"{model.name}/{value}"

    for node in model.nodes:
        build.nodes.append(
            Node(
                f"{model.name}/{node.name}",
                node.op,
                tuple(renamed(value) for value in node.inputs),
                tuple(renamed(value) for value in node.outputs),
                node.attributes,
                node.domain,
            )
        )
    build.weights.update({f"{model.name}/{weight}": array for weight, array in model.weights.items()})
    return f"{model.name}/{model.outputs[0].name}"
