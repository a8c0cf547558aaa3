"""One ensemble graph: all members on the same inputs, what they say averaged.

The inputs are what the members' users give them (channels last, say) where that is the same for all; otherwise they are
what the members' bodies take. Members' inputs belong together by their order.

p(x) = (1 / k) * sum over members of softmax(logits(x)): ensemble averaging, the paper's EA. Sigmoid takes the place of
softmax where members say yes or no to each label, and nothing does where they predict numbers. What a member with
several networks (snapshots of its training) says is their average; each member counts once, however many it has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mnx.graphs.builder import Builder
from mnx.graphs.errors import GraphError
from mnx.graphs.interface import SOFTMAX
from mnx.graphs.model import Model, Node, Port, Shape
from mnx.graphs.proto import inputs_before_entry

PROBABILITIES = "probabilities"
"""The ensemble's output."""
PREDICTIONS = "predictions"
"""Its output where members predict numbers."""


def join(
    models: Sequence[Model],
    name: str,
    metadata: Mapping[str, str] | None = None,
    activation: str = SOFTMAX,
    members: Sequence[str] | None = None,
) -> Model:
    """The ensemble of several networks with equal inputs and outputs, as one model.

    Where all members turn the user's inputs into their own in one way, that stays the ensemble's entry; where they do
    it in different ways, it is part of the graph. The inputs take the names of the first member's; nodes and values
    of member m are called `m/...`, the output `probabilities` or, of numbers, `predictions`, each numbered where that
    is taken.

    Args:
        models: the networks.
        name: of the ensemble.
        metadata: of its file.
        activation: what makes of a member's outputs what is averaged: Softmax, Sigmoid, or '' for nothing.
        members: the member that each network is of; None where each is one.

    Raises:
        GraphError: there are no networks, two have one name, or inputs or outputs differ.
    """
    if not models:
        raise GraphError("an ensemble needs at least one member")
    first = models[0]
    given = inputs_before_entry(first)
    as_given = all(_forms(inputs_before_entry(model)) == _forms(given) for model in models)
    for other in models[1:]:
        alike = as_given or _forms(other.inputs) == _forms(first.inputs)
        if not alike or other.outputs[0].shape != first.outputs[0].shape:
            raise GraphError(
                f"{other.name} and {first.name} have different inputs or classes: {_ends(other)} and {_ends(first)}; "
                "an ensemble takes members with the same"
            )
    repeated = [each for each, count in Counter(model.name for model in models).items() if count > 1]
    if repeated:
        raise GraphError(f"two members of the ensemble have the same name, {repeated[0]!r}: rename one")
    shared = as_given and all(_orders(model) == _orders(first) for model in models)
    ports = given if as_given and not shared else first.inputs
    build = Builder()
    for port in ports:
        build.name(port.name)
    result = PROBABILITIES if activation else PREDICTIONS
    parts: dict[str, list[str]] = {}
    for model, member in zip(models, members or [model.name for model in models], strict=True):
        part = _absorb(build, model, ports, with_entry=as_given and not shared)
        if activation:
            part = _activated(build, activation, part, f"{model.name}/{result}")
        parts.setdefault(member, []).append(part)
    said = [
        each[0] if len(each) == 1 else build.add("Mean", *each, name=f"{member}/mean") for member, each in parts.items()
    ]
    output = build.add("Mean", *said, name=result)
    end = Port(output, first.outputs[0].dtype, first.outputs[0].shape)
    joined = replace(build.model(name, ports, [end]), metadata=dict(metadata or {}))
    return replace(joined, entry=_entry(build, first)) if shared else joined


def _activated(build: Builder, activation: str, value: str, name: str) -> str:
    if activation == SOFTMAX:
        return build.add(activation, value, name=name, axis=-1)
    return build.add(activation, value, name=name)


def _forms(ports: Sequence[Port]) -> list[tuple[str, Shape]]:
    return [(port.dtype, port.shape) for port in ports]


def _ends(model: Model) -> str:
    return f"{', '.join(str(port.shape) for port in model.inputs)} -> {model.outputs[0].shape}"


def _orders(model: Model) -> list[list[tuple[int, ...]]]:
    """How each input is transposed on its way in."""
    found = []
    for port in model.inputs:
        value, orders = port.name, []
        for node in reversed(model.entry):
            if value in node.outputs:
                value = node.inputs[0]
                orders.append(node.integers("perm", ()))
        found.append(orders)
    return found


def _entry(build: Builder, model: Model) -> tuple[Node, ...]:
    """The member's entry in front of the ensemble, under names that are not taken."""
    ends = {port.name for port in model.inputs}
    made = {value for node in model.entry for value in node.outputs} - ends
    names = {value: build.name(value) for node in model.entry for value in node.inputs if value not in ends}
    names |= {value: build.name(value) for value in made if value not in names}

    def value(name: str) -> str:
        return names.get(name, name)

    return tuple(
        replace(node, name=build.name(node.name), inputs=(value(node.inputs[0]),), outputs=(value(node.outputs[0]),))
        for node in model.entry
    )


def _absorb(build: Builder, model: Model, ports: Sequence[Port], with_entry: bool) -> str:
    """Add a member's body, with its entry if asked, under its name; returns its outputs."""
    given: dict[str, str] = {}
    sources = inputs_before_entry(model) if with_entry else model.inputs
    shared = {source.name: port.name for source, port in zip(sources, ports, strict=True)}

    def own(name: str) -> str:
        if name not in given:
            given[name] = build.name(f"{model.name}/{name}")
        return given[name]

    def value(name: str) -> str:
        return name and (shared[name] if name in shared else own(name))

    build.weights.update({own(name): array for name, array in model.weights.items()})
    for node in (*model.entry, *model.nodes) if with_entry else model.nodes:
        inputs, outputs = tuple(map(value, node.inputs)), tuple(map(value, node.outputs))
        build.nodes.append(replace(node, name=own(node.name), inputs=inputs, outputs=outputs))
    return value(model.outputs[0].name)
