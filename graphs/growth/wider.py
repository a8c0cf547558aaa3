"""The widths that a growth asks for: from layers, channel groups or 'all', to the new width of every channel group.

A layer's width is that of the axis along which its parameters make channels: a sum of outer * group * inner. What is
asked of the axis is asked of its groups, and with a group grows all that is tied to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, inf

from mnx.graphs.errors import GraphError
from mnx.graphs.growth.places import named
from mnx.graphs.growth.request import Times
from mnx.graphs.ops.axes import Axis, Part, is_fixed, width_of
from mnx.graphs.ops.rule import Kind, Role
from mnx.graphs.suggest import listed
from mnx.graphs.trees.structure import Op, Structure, axis_text

ALL = "all"
"""The name of all channel groups together."""


@dataclass(frozen=True)
class _Asked:
    """New widths of groups, what asked for them, and of how many layers: the fewer, the more it counts."""

    widths: Mapping[int, int]
    text: str
    layers: float


def widened(structure: Structure, wishes: Mapping[str, int | Times], origin: Structure) -> dict[int, int]:
    """The width of every channel group of a network, those that are asked for at their new one.

    Where two wishes meet in one group, that of fewer layers counts: `all=x2` and `conv1=64` go together.

    Args:
        structure: the network.
        wishes: layer, channel group (g3) or 'all' -> new width, or factor.
        origin: the network whose groups have the numbers that the wishes use, a network with the same layers.

    Raises:
        GraphError: a name is unknown, a width is not legal, less than it was, or never changes, or wishes contradict.
    """
    found: dict[int, tuple[int, _Asked]] = {}
    for asked in (_asked(structure, text, wish, origin) for text, wish in wishes.items()):
        for group, width in asked.widths.items():
            if width < structure.groups[group]:
                raise GraphError(
                    f"{asked.text}: g{group} of {structure.name} has {structure.groups[group]} channels already, and "
                    "a growth never narrows"
                )
            known, before = found.get(group, (width, asked))
            if before.layers == asked.layers and known != width:
                raise GraphError(
                    f"{before.text} and {asked.text} contradict: both set the channels of g{group} of "
                    f"{structure.name}, to {known} and {width}"
                )
            if asked.layers <= before.layers:
                found[group] = width, asked
    return {**structure.groups, **{group: width for group, (width, _) in found.items()}}


def made(op: Op) -> list[Axis]:
    """The axes along which the parameters of an op make channels, each once."""
    return list(
        dict.fromkeys(
            axis
            for parameter in op.parameters
            for axis, role in zip(parameter.axes, parameter.roles, strict=True)
            if role is Role.PRODUCE
        )
    )


def makers(structure: Structure, group: int) -> list[Op]:
    """The ops whose parameters make the channels of a group."""
    return [op for op in structure.ops() if any(part.group == group for axis in made(op) for part in axis)]


def _asked(structure: Structure, text: str, wish: int | Times, origin: Structure) -> _Asked:
    words = f"width {text}={wish}"
    if (wish.factor if isinstance(wish, Times) else wish) < 1:
        raise GraphError(f"{words}: a growth never narrows: give a width or a factor of 1 or more")
    if text == ALL:
        if not isinstance(wish, Times):
            raise GraphError(f"{words}: all widths at once grow by a factor: give {ALL}=x2, or name a layer")
        if not structure.groups:
            raise GraphError(f"{words}: no width of {structure.name} can change, see 'mnx show'")
        return _Asked({group: _times(width, wish) for group, width in structure.groups.items()}, words, inf)
    if re.fullmatch(r"g\d+", text) and text not in (op.name for op in origin.ops()):
        groups = _renumbered(structure, text, origin)
        return _Asked({g: _times(structure.groups[g], wish) for g in groups}, words, 0)
    layers = [op for op in named(structure, text) if made(op)]
    if not layers:
        raise GraphError(f"{words}: '{text}' of {structure.name} has no weights that make channels: name a layer")
    growing = [op for op in layers if any(not is_fixed(axis) for axis in made(op))]
    if not growing:
        raise GraphError(f"{words}: {_why_fixed(structure, layers[0])}")
    return _Asked(_of_layers(structure, growing, wish, words), words, len(growing))


def _of_layers(structure: Structure, layers: Sequence[Op], wish: int | Times, words: str) -> dict[int, int]:
    """The widths of the groups that some layers make."""
    found: dict[int, int] = {}
    growing = [(op, axis) for op in layers for axis in made(op) if not is_fixed(axis)]
    for maker, axis in growing:
        for group, width in _of_axis(structure, maker, axis, wish, words).items():
            if found.setdefault(group, width) != width:
                raise GraphError(
                    f"{words}: {listed([op.name for op in layers])} of {structure.name} are tied in different ways, so "
                    "that one width does not fit all: name one of them, or give a factor"
                )
    return found


def _times(width: int, wish: int | Times) -> int:
    return ceil(width * wish.factor) if isinstance(wish, Times) else wish


def _renumbered(structure: Structure, text: str, origin: Structure) -> list[int]:
    """The groups that are made where the origin's group of this number is made."""
    number = int(text[1:])
    if number not in origin.groups:
        last = max(origin.groups, default=0)
        raise GraphError(f"{origin.name} has no channel group '{text}': its groups are g0 to g{last}, see 'mnx show'")
    after = {op.name: op for op in structure.ops()}
    return list(
        dict.fromkeys(
            new.group
            for op in makers(origin, number)
            for axis, other in zip(made(op), made(after[op.name]), strict=True)
            for part, new in zip(axis, other, strict=True)
            if part.group == number and new.group is not None
        )
    )


def _of_axis(structure: Structure, op: Op, axis: Axis, wish: int | Times, words: str) -> dict[int, int]:
    """The widths of an axis's groups at the width that is asked of the whole axis."""
    groups = structure.groups
    parts = [part for part in axis if part.group is not None]
    if isinstance(wish, Times):
        return {part.group: _times(groups[part.group], wish) for part in parts if part.group is not None}
    old, fixed = width_of(axis, groups), width_of(tuple(part for part in axis if part.group is None), {})
    if wish < old:
        raise GraphError(f"{words}: '{op.name}' of {structure.name} has {old} channels, and a growth never narrows")
    factor = Fraction(wish - fixed, old - fixed)
    wanted = {part.group: groups[part.group] * factor for part in parts if part.group is not None}
    if all(width.denominator == 1 and width > 0 for width in wanted.values()):
        return {group: int(width) for group, width in wanted.items()}
    if len(wanted) > 1:
        parted = ", ".join(f"g{group} {groups[group]}" for group in wanted)
        raise GraphError(
            f"{words}: the {old} channels of '{op.name}' of {structure.name} are several groups ({parted}), which "
            f"cannot be {wish} in the same proportion: set them one by one"
        )
    raise GraphError(f"{words}: {_near(op, axis, parts, wish - fixed, fixed, structure)}")


def _near(op: Op, axis: Axis, parts: Sequence[Part], wish: int, fixed: int, structure: Structure) -> str:
    """The legal widths next to one that is not."""
    block = sum(part.outer * part.inner for part in parts)
    old = width_of(axis, structure.groups)
    below, above = wish // block * block + fixed, -(-wish // block) * block + fixed
    legal = [str(width) for width in (below, above) if width >= old]
    return (
        f"the {old} channels of '{op.name}' of {structure.name} come in blocks of {block} ({axis_text(axis)}: heads, "
        f"groups or joined parts): give {' or '.join(legal)}"
    )


def _why_fixed(structure: Structure, op: Op) -> str:
    ops = list(structure.ops())
    behind = ops[ops.index(op) + 1 :]
    if not any(parameter.kind is Kind.WEIGHT for other in behind for parameter in other.parameters):
        return f"'{op.name}' makes the output of {structure.name}, whose width never changes"
    return (
        f"the width of '{op.name}' of {structure.name} never changes: it is tied to the network's input or output, or "
        "to ops that cannot be taken apart ('mnx show' prints what can change as g0, g1, ...)"
    )
