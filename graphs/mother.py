"""The mother of several members: the largest network from which all of them can be grown exactly."""

from __future__ import annotations

from collections.abc import Sequence

from mnx.graphs.align import GOALS, Alignment, align
from mnx.graphs.carve import carve, hollowed
from mnx.graphs.correspondence import Correspondence, correspond
from mnx.graphs.describe import describe
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model
from mnx.graphs.structure import Structure


def stand_in(model: Model) -> tuple[Model, Structure]:
    """A model without its weights' values, and its structure: all that planning needs."""
    structure = describe(model)
    return hollowed(model, structure), structure


def common(mother: tuple[Model, Structure], member: Structure) -> tuple[Model, Structure]:
    """The largest part of a mother that a further member contains too.

    Raises:
        GraphError: they share no mother.
    """
    found: list[tuple[Model, Structure]] = []
    refusals: list[GraphError] = []
    for goal in GOALS:
        try:
            found.append(_reduced(mother, member, goal))
        except GraphError as error:
            refusals.append(error)
    if not found:
        raise refusals[0]
    return max(found, key=lambda pair: (pair[1].parameter_count, pair is mother))


def _reduced(mother: tuple[Model, Structure], member: Structure, goal: str) -> tuple[Model, Structure]:
    model, structure = mother
    alignment = align(structure, member, goal=goal)
    found = correspond(alignment, structure, member)
    if _embeds(alignment, found, structure):
        return mother
    widths = {group: found.width[name] for group, name in found.left_class.items()}
    smaller = carve(model, structure, alignment.only_left, widths, found.windows)
    return smaller, describe(smaller)


def mother_of(members: Sequence[tuple[Model, Structure]], name: str) -> tuple[Model, Structure]:
    """The mother of several members, as a stand-in, carved from the smallest of them.

    Aligns progressively from the smallest member, and again until no member asks for anything smaller.

    Raises:
        GraphError: two of them share no mother.
    """
    ordered = sorted(members, key=lambda pair: (pair[1].parameter_count, pair[1].name))
    model, _ = ordered[0]
    model = model.replace(name=name, source=None, metadata={}, changes=())
    mother = model, describe(model)
    while True:
        before = mother
        for _, structure in ordered:
            mother = common(mother, structure)
        if mother is before:
            return mother


def embed(mother: Structure, member: Structure) -> tuple[Alignment, Correspondence]:
    """How a member contains a finished mother.

    Raises:
        GraphError: it does not.
    """
    refusal = GraphError(f"{member.name} cannot be grown from {mother.name}: it is narrower or has a smaller kernel")
    for goal in GOALS:
        try:
            alignment = align(mother, member, keep_left=True, goal=goal)
            found = correspond(alignment, mother, member)
        except GraphError as error:
            refusal = error
            continue
        if _embeds(alignment, found, mother):
            return alignment, found
    raise refusal


def _embeds(alignment: Alignment, found: Correspondence, mother: Structure) -> bool:
    """Whether the alignment leaves the mother as she is."""
    if alignment.only_left or any(found.width[found.left_class[g]] != n for g, n in mother.groups.items()):
        return False
    ops = {op.name: op for op in mother.ops()}
    return all(ops[node].site.shapes[1][2:] == window.size for node, window in found.windows.items())
