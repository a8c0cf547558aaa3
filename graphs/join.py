"""One ensemble graph: all members on one shared input, their probabilities averaged.

The input is what the members' users give them (channels last, say) where that is the same for all; otherwise it is what
the members' bodies take.

p(x) = (1 / k) * sum over members of softmax(logits(x)): ensemble averaging, the paper's EA.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mnx.graphs.builder import Builder
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model, Node, Port
from mnx.graphs.proto import inputs_before_entry

PROBABILITIES = "probabilities"
"""The ensemble's output."""


def join(models: Sequence[Model], name: str, metadata: Mapping[str, str] | None = None) -> Model:
    """The ensemble of several classifiers with equal inputs and classes, as one model.

    Where all members turn the user's input into their own in one way, that stays the ensemble's entry; where they do
    it in different ways, it is part of the graph. The input takes the name of the first member's; nodes and values
    of member m are called `m/...`, the output `probabilities`, each numbered where that is taken.

    Raises:
        GraphError: there are no members, two have one name, or inputs or classes differ.
    """
    if not models:
        raise GraphError("an ensemble needs at least one member")
    first = models[0]
    given = [inputs_before_entry(model)[0] for model in models]
    as_given = all((port.shape, port.dtype) == (given[0].shape, given[0].dtype) for port in given)
    for other in models[1:]:
        alike = as_given or other.inputs[0].shape == first.inputs[0].shape
        if not alike or other.outputs[0].shape != first.outputs[0].shape:
            raise GraphError(
                f"{other.name} and {first.name} have different inputs or classes: {_ends(other)} and {_ends(first)}; "
                "an ensemble takes members with the same"
            )
    repeated = [each for each, count in Counter(model.name for model in models).items() if count > 1]
    if repeated:
        raise GraphError(f"two members of the ensemble have the same name, {repeated[0]!r}: rename one")
    shared = as_given and all(_orders(model) == _orders(first) for model in models)
    port = given[0] if as_given and not shared else first.inputs[0]
    build = Builder()
    build.name(port.name)
    parts = []
    for model in models:
        logits = _absorb(build, model, port, with_entry=as_given and not shared)
        parts.append(build.add("Softmax", logits, name=f"{model.name}/{PROBABILITIES}", axis=-1))
    output = build.add("Mean", *parts, name=PROBABILITIES)
    ports = [port], [Port(output, port.dtype, first.outputs[0].shape)]
    joined = replace(build.model(name, *ports), metadata=dict(metadata or {}))
    return replace(joined, entry=_entry(build, first)) if shared else joined


def _ends(model: Model) -> str:
    return f"{model.inputs[0].shape} -> {model.outputs[0].shape}"


def _orders(model: Model) -> list[tuple[int, ...]]:
    return [node.integers("perm", ()) for node in model.entry]


def _entry(build: Builder, model: Model) -> tuple[Node, ...]:
    """The member's entry in front of the ensemble, under names that are not taken."""
    last = model.inputs[0].name
    made = {value for node in model.entry for value in node.outputs} - {last}
    names = {value: build.name(value) for node in model.entry for value in node.inputs if value != last}
    names |= {value: build.name(value) for value in made if value not in names}

    def value(name: str) -> str:
        return names.get(name, name)

    return tuple(
        replace(node, name=build.name(node.name), inputs=(value(node.inputs[0]),), outputs=(value(node.outputs[0]),))
        for node in model.entry
    )


def _absorb(build: Builder, model: Model, port: Port, with_entry: bool) -> str:
    """Add a member's body, with its entry if asked, under its name; returns its logits."""
    given: dict[str, str] = {}
    source = inputs_before_entry(model)[0].name if with_entry else model.inputs[0].name

    def own(name: str) -> str:
        if name not in given:
            given[name] = build.name(f"{model.name}/{name}")
        return given[name]

    def value(name: str) -> str:
        return name and (port.name if name == source else own(name))

    build.weights.update({own(name): array for name, array in model.weights.items()})
    for node in (*model.entry, *model.nodes) if with_entry else model.nodes:
        inputs, outputs = tuple(map(value, node.inputs)), tuple(map(value, node.outputs))
        build.nodes.append(replace(node, name=own(node.name), inputs=inputs, outputs=outputs))
    return value(model.outputs[0].name)
