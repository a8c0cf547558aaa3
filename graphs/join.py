"""One ensemble graph: all members on one shared input, their probabilities averaged.

p(x) = (1 / k) * sum over members of softmax(logits(x)): ensemble averaging, the paper's EA.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mnx.graphs.builder import Builder
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model, Port

PROBABILITIES = "probabilities"
"""The ensemble's output."""


def join(models: Sequence[Model], name: str, metadata: Mapping[str, str] | None = None) -> Model:
    """The ensemble of several classifiers with equal inputs and classes, as one model.

    The input takes the name of the first member's; nodes and values of member m are called `m/...`, the output
    `probabilities`, each numbered where that is taken.

    Raises:
        GraphError: there are no members, two have one name, or inputs or classes differ.
    """
    if not models:
        raise GraphError("an ensemble needs at least one member")
    first = models[0]
    for other in models[1:]:
        if other.inputs[0].shape != first.inputs[0].shape or other.outputs[0].shape != first.outputs[0].shape:
            raise GraphError(
                f"{other.name} and {first.name} have different inputs or classes: {_ends(other)} and {_ends(first)}; "
                "an ensemble takes members with the same"
            )
    repeated = [each for each, count in Counter(model.name for model in models).items() if count > 1]
    if repeated:
        raise GraphError(f"two members of the ensemble have the same name, {repeated[0]!r}: rename one")
    port = first.inputs[0]
    build = Builder()
    build.name(port.name)
    parts = []
    for model in models:
        logits = _absorb(build, model, port)
        parts.append(build.add("Softmax", logits, name=f"{model.name}/{PROBABILITIES}", axis=-1))
    output = build.add("Mean", *parts, name=PROBABILITIES)
    ports = [port], [Port(output, port.dtype, first.outputs[0].shape)]
    return replace(build.model(name, *ports), metadata=dict(metadata or {}))


def _ends(model: Model) -> str:
    return f"{model.inputs[0].shape} -> {model.outputs[0].shape}"


def _absorb(build: Builder, model: Model, port: Port) -> str:
    """Add a member's body under its name; returns its logits."""
    given: dict[str, str] = {}

    def own(name: str) -> str:
        if name not in given:
            given[name] = build.name(f"{model.name}/{name}")
        return given[name]

    def value(name: str) -> str:
        return name and (port.name if name == model.inputs[0].name else own(name))

    build.weights.update({own(name): array for name, array in model.weights.items()})
    for node in model.nodes:
        inputs, outputs = tuple(map(value, node.inputs)), tuple(map(value, node.outputs))
        build.nodes.append(replace(node, name=own(node.name), inputs=inputs, outputs=outputs))
    return value(model.outputs[0].name)
