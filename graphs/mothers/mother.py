"""The mother of several members: the largest network from which all of them can be grown exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model
from mnx.graphs.mothers.align import align, embedding
from mnx.graphs.mothers.alignment import Alignment
from mnx.graphs.mothers.carve import carve, hollowed
from mnx.graphs.mothers.correspondence import Correspondence, correspond
from mnx.graphs.mothers.promises import reach
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.structure import Structure

Member: TypeAlias = tuple[Model, Structure]
"""A model without weights' values, and its structure, as `stand_in` gives them."""

FEW = 5
"""Of more members than so many, one order of alignment is tried: the work grows with the square of their number."""

Common: TypeAlias = Callable[[Member, Structure], Member]


def stand_in(model: Model) -> Member:
    """A model without its weights' values, and its structure: all that planning needs."""
    structure = describe(model)
    return hollowed(model, structure), structure


def common(mother: Member, member: Structure) -> Member:
    """The largest part of a mother that a further member contains too: herself where it contains her.

    Raises:
        GraphError: they share no mother.
    """
    model, structure = mother
    if structure is member or _embedding(structure, member) is not None:
        return mother
    found: list[Member] = []
    errors: list[GraphError] = []
    for left, right in _variants(structure, member):
        try:
            found.append(_smaller(model, left, right))
        except GraphError as error:
            errors.append(error)
    if not found:
        raise errors[-1]
    return max(found, key=lambda each: size(each[1]))


def _smaller(model: Model, structure: Structure, member: Structure) -> Member:
    alignment = align(structure, member)
    found = correspond(alignment, structure, member)
    widths = {group: found.width[name] for group, name in found.left_class.items()}
    smaller = carve(model, structure, alignment.only_left, widths, found.windows, alignment.branches_left)
    return smaller, describe(smaller)


def _variants(left: Structure, right: Structure) -> list[tuple[Structure, Structure]]:
    """Two networks with heads free in number and blocks in width, and with what else is free where these differ."""
    found = [(left, right)]
    if left.wide is not None and right.wide is not None and len(_heads(left.wide) | _heads(right.wide)) > 1:
        found.append((left.wide, right.wide))
    if left.whole is not None and right.whole is not None and len(left.blocks | right.blocks) > 1:
        found.append((left.whole, right.whole))
    return found


def _heads(wide: Structure) -> set[int]:
    """The widths of heads."""
    return {wide.groups[group] for group in wide.dotted}


def size(structure: Structure) -> tuple[int, int]:
    """What mothers are compared by: how far their kernels reach, then how many parameters are trained.

    Kernels go first because no width makes up for what a layer does not see. So does the paper: its mother of V5 keeps
    two 3x3 layers a block, where one of 1x1 could have been matched with more filters and more parameters.
    """
    return reach(structure), structure.parameter_count


def mother_of(members: Sequence[Member], name: str) -> Member:
    """The mother of several members, as a stand-in, carved from the smallest of them (see `largest`).

    Raises:
        GraphError: two of them share no mother.
    """
    model, structure = largest(members)
    return model.replace(name=name, source=None, metadata={}, changes=()), replace(structure, name=name)


def largest(members: Sequence[Member], common: Common = common) -> Member:
    """The largest mother that is found by aligning one member after the other; she keeps the smallest one's name.

    Of two members she is the largest there is (see `size`; the search in `align` keeps all states that small networks
    have, and the most promising of large ones), so that a third member never enlarges her. Of more members,
    each order of alignment may lead to another: tried are the members by size, then, of up to `FEW`, each one first.
    None can be larger than the mother of two of them: where one is as large, the search ends. A fourth member can
    enlarge her in theory; no random ensemble tried so far does. Counted in parameters alone, a member with smaller
    kernels may: what the kernels lose, the widths may gain.

    Args:
        members: in any order; the result depends on their sizes and names only.
        common: how two are aligned, for whoever keeps what was found.

    Raises:
        GraphError: two of them share no mother.
    """
    ordered = sorted(members, key=lambda member: (member[1].parameter_count, member[1].name))
    best, bound = _folded(ordered, common)
    for place in reversed(range(2, len(ordered) if len(ordered) <= FEW else 0)):
        if size(best[1]) >= bound:
            break
        for rest in ([*ordered[:place], *ordered[place + 1 :]], [*ordered[place + 1 :], *ordered[:place][::-1]]):
            found, least = _folded([ordered[place], *rest], common)
            bound = min(bound, least)
            if size(found[1]) > size(best[1]):
                same = common(ordered[0], found[1])
                fits = size(same[1]) == size(found[1]) and all(common(same, member) is same for _, member in ordered)
                best = same if fits else found
    return best


def _folded(order: Sequence[Member], common: Common) -> tuple[Member, tuple[int, int]]:
    """The mother by aligning members in this order until none asks for anything smaller, and the first two's size."""
    mother = order[0]
    bound = size(mother[1] if len(order) < 2 else common(mother, order[1][1])[1])
    content, place = 1, 1
    while content < len(order):
        before, mother = mother, common(mother, order[place % len(order)][1])
        content, place = content + 1 if mother is before else 0, place + 1
    return mother, bound


@dataclass(frozen=True)
class Embedding:
    """How a member contains a finished mother; the structures have their heads free in number or in width."""

    mother: Structure
    member: Structure
    alignment: Alignment
    found: Correspondence


def embed(mother: Structure, member: Structure) -> tuple[Alignment, Correspondence]:
    """How a member contains a finished mother; see `embedded`."""
    found = embedded(mother, member)
    return found.alignment, found.found


def embedded(mother: Structure, member: Structure) -> Embedding:
    """How a member contains a finished mother.

    Raises:
        GraphError: it does not.
    """
    known = _embedding(mother, member)
    if known is not None:
        return known
    raise GraphError(f"{member.name} cannot be grown from {mother.name}: {_misfit(mother, member)}")


def _misfit(mother: Structure, member: Structure) -> str:
    """Where a member has no room for a mother whose layers it has.

    Raises:
        GraphError: it lacks some of them, or the two share nothing.
    """
    alignment = align(mother, member, keep_left=True)
    found = correspond(alignment, mother, member)
    names = {theirs.name: mine for mine, theirs in alignment.matches}
    for group, width in mother.groups.items():
        carried = found.width[found.left_class[group]]
        if carried != width:
            ops = [op for op in names.values() if any(part.group == group for axis in op.output for part in axis)]
            theirs = [right for right, left in names.items() if left in ops[:1]]
            where = f"behind '{theirs[0]}'" if theirs else f"in g{group}"
            averaged = group in mother.even
            why = "over which a mean is taken, so that they grow by whole multiples only" if averaged else "too few"
            return f"{where} it has room for {carried} of her {width} channels, {why}"
    return "a kernel of hers has no place in its own, or it is narrower"


def _embedding(mother: Structure, member: Structure) -> Embedding | None:
    for left, right in _variants(mother, member):
        alignment = embedding(left, right)
        if alignment is not None:
            found = correspond(alignment, left, right)
            if _embeds(alignment, found, left):
                return Embedding(left, right, alignment, found)
    return None


def _embeds(alignment: Alignment, found: Correspondence, mother: Structure) -> bool:
    """Whether the alignment leaves the mother as she is."""
    if alignment.only_left or alignment.branches_left:
        return False
    if any(found.width[found.left_class[g]] != n for g, n in mother.groups.items()):
        return False
    ops = {op.name: op for op in mother.ops()}
    return all(ops[node].site.shapes[1][2:] == window.size for node, window in found.windows.items())
