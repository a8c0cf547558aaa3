"""Which ops can match, and which units can be passed over because they can be made the identity."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from itertools import zip_longest
from typing import TypeAlias

import numpy as np

from mnx.graphs.model import Shape
from mnx.graphs.mothers.kernels import common_window, window
from mnx.graphs.ops.axes import Axes, Axis, Part, is_fixed, width_of, without
from mnx.graphs.ops.rule import Interval, Role
from mnx.graphs.trees.structure import (
    Op,
    Parallel,
    Parameter,
    Series,
    Tangle,
    Unit,
    axis_text,
    ops_of,
    size_text,
)


class How(str, Enum):
    """What becomes of an op that only one side has."""

    IDENTITY = "identity"
    ZERO = "zero"
    FREE = "free"
    JOIN = "join"
    CODED = "coded"
    VEILED = "veiled"
    HANDED = "handed"


Groups: TypeAlias = frozenset[int]
NONE: Groups = frozenset()
"""No channel groups."""


def mismatch(left: Op, right: Op, new: tuple[Groups, Groups] = (NONE, NONE)) -> str:
    """Why two ops cannot match, '' where they can: all but width, kernel size and bias must agree.

    Args:
        left: the mother's op.
        right: the member's.
        new: groups of the left and of the right network that carry nothing of what both have: they do not count.
    """
    if left.op != right.op:
        return f"{left.op} is not {right.op}"
    if reason := _said_differently(left, right):
        return reason
    if [len(axes) for axes in (left.output, left.input)] != [len(axes) for axes in (right.output, right.input)]:
        return "their values have different ranks"
    for one, other in zip(trimmed(left.output[1:], new[0]), trimmed(right.output[1:], new[1]), strict=True):
        if not alike(one, other):
            if is_fixed(one) and is_fixed(other):
                sizes = [size_text(fixed_width(axis)) for axis in (one, other)]
                return f"sizes {sizes[0]} and {sizes[1]} differ, which never change"
            return (
                f"their widths are built differently, {axis_text(one)} and {axis_text(other)}: other layers tie them "
                "(grouped convolutions, joined channels, heads)"
            )
    theirs = {parameter.slot: parameter for parameter in right.parameters}
    if _operands(left) != _operands(right):
        return "one has a parameter where the other has a constant or a value"
    for mine in left.parameters:
        if mine.slot in theirs and (reason := _unlike(mine, theirs[mine.slot], new)):
            return reason
    if window(left) is not None and common_window(left, right) is None:
        return f"neither kernel fits inside the other at the same place: {_place(left)} and {_place(right)}"
    return ""


def _place(op: Op) -> str:
    found = window(op)
    if found is None:
        return "none"
    return f"{'x'.join(map(str, found.size))} with pads {', '.join(map(str, (*found.begins, *found.ends)))}"


def _operands(op: Op) -> set[int]:
    """The parameters that stand where a value or a number could."""
    return {slot for slot in op.site.parameters if op.rule.slots[slot].operand}


def _said_differently(left: Op, right: Op) -> str:
    """Which attribute, context or constant of two nodes of one op differs."""
    mine, theirs = dict(left.matching), dict(right.matching)
    for key in (*mine, *(key for key in theirs if key not in mine)):
        if mine.get(key) != theirs.get(key):
            if key.startswith("input "):
                return "they read other masks, positions or inputs"
            return f"{key} {mine.get(key, 'none')} is not {theirs.get(key, 'none')}"
    if left.scaling and right.scaling:
        return ""
    for index, (one, other) in enumerate(zip_longest(left.site.constants, right.site.constants)):
        if index in left.rule.derived or any(p.slot == index for op in (left, right) for p in op.parameters):
            continue
        if one is None or other is None:
            if one is not other:
                return "their constants differ"
        elif not np.array_equal(one, other):
            return "their constants differ"
    return ""


def _unlike(mine: Parameter, theirs: Parameter, new: tuple[Groups, Groups]) -> str:
    """Why one parameter cannot grow out of the other: a fixed axis of another size, or axes built differently.

    A fixed axis may meet a free one: what arrives at the network's input, passed on by an inserted layer.
    """
    if len(mine.shape) != len(theirs.shape):
        return f"their {mine.kind.value}s have different ranks"
    axes = zip(mine.roles, trimmed(mine.axes, new[0]), trimmed(theirs.axes, new[1]), strict=True)
    for role, one, other in axes:
        if role is not Role.KERNEL and is_fixed(one) == is_fixed(other) and not alike(one, other):
            return f"the {mine.kind.value}s {mine.shape} and {theirs.shape} differ where they never change"
    return ""


def alike(left: Axis, right: Axis) -> bool:
    """Whether one growth map can lead from one axis to the other: same parts, fixed ones of the same width."""
    return len(left) == len(right) and all(
        (a.group is None) == (b.group is None) and (a.outer, a.inner) == (b.outer, b.inner)
        for a, b in zip(left, right, strict=True)
    )


def trimmed(axes: Axes, new: Groups) -> Axes:
    """Axes without the parts of new groups."""
    return tuple(without(axis, new) for axis in axes) if new else axes


def insertable(unit: Unit, arriving: Interval, axes: Axes, new: Groups = NONE) -> tuple[tuple[Op, How], ...] | None:
    """How each op of a unit is set so that the unit passes on what arrives, or None where it cannot.

    Args:
        unit: the unit.
        arriving: the range of what arrives.
        axes: of what arrives, in the network that does not have the unit.
        new: groups of the unit's network that carry nothing of what arrives.
    """
    if isinstance(unit, Op):
        return ((unit, How.IDENTITY),) if _passes(unit, arriving, axes, new) else None
    if isinstance(unit, Tangle) or unit.join.parameters:
        return None
    if unit.join.op == "Concat":
        return _beside(unit, arriving, axes, new)
    if unit.join.op != "Add" or not _holds(unit.output, unit.join.site.outputs[0], axes, new):
        return None
    for through in range(len(unit.branches)):
        passing = _passing_branch(unit.branches[through], arriving, axes, new)
        if passing is None:
            continue
        others = [zeroed(branch) for k, branch in enumerate(unit.branches) if k != through]
        known = [other for other in others if other is not None]
        if len(known) == len(others):
            return (*passing, *(pair for other in known for pair in other), (unit.join, How.JOIN))
    return None


def _beside(unit: Parallel, arriving: Interval, axes: Axes, new: Groups) -> tuple[tuple[Op, How], ...] | None:
    """One branch passes on what arrives, the others make channels beside it that nobody has read so far."""
    for through, branch in enumerate(unit.branches):
        passing = _passing_branch(branch, arriving, axes, new)
        made = added_groups(unit, through)
        if passing is None or made is None:
            continue
        if _holds(unit.output, unit.join.site.outputs[0], axes, new | made):
            rest = tuple(pair for k, other in enumerate(unit.branches) if k != through for pair in _free(other))
            return (*passing, *rest, (unit.join, How.JOIN))
    return None


def added_groups(unit: Parallel, through: int) -> Groups | None:
    """The groups that all branches of a Concat but one give; None where they are no groups of their own."""
    along = unit.join.site.axis(1)
    operands = [unit.join.operands[read][along] for read in unit.join.reads]
    own = {part.group for part in operands[through]}
    made = {part.group for k, axis in enumerate(operands) if k != through for part in axis}
    if not made or None in made or made & own:
        return None
    return frozenset(group for group in made if group is not None)


def groups_beside(unit: Unit, ops: Sequence[tuple[Op, How]]) -> Groups:
    """The groups that a unit makes beside what it passes on, as `insertable` says."""
    if not isinstance(unit, Parallel):
        return NONE
    free = {op.name for op, how in ops if how is How.FREE}
    if unit.join.op == "Concat":
        for through, branch in enumerate(unit.branches):
            if not any(op.name in free for op in ops_of(branch)):
                return (added_groups(unit, through) or NONE) | _inside(branch, ops)
        return NONE
    return NONE.union(*(_inside(branch, ops) for branch in unit.branches))


def _inside(branch: Series, ops: Sequence[tuple[Op, How]]) -> Groups:
    joined = {op.name for op, how in ops if how is How.JOIN}
    units = [unit for unit in branch if isinstance(unit, Parallel) and unit.join.name in joined]
    return NONE.union(*(groups_beside(unit, ops) for unit in units))


def _passes(op: Op, arriving: Interval, axes: Axes, new: Groups) -> bool:
    if not op.rule.identity(op.site, arriving) or not op.reads:
        return False
    return _holds(op.input, op.site.shapes[op.reads[0]], axes, new) and _holds(op.output, op.site.outputs[0], axes, new)


def _holds(value: Axes, shape: Shape, arriving: Axes, new: Groups) -> bool:
    """Whether a value of this shape can be what arrives."""
    value = trimmed(value, new)
    return len(value) == len(arriving) and all(map(_carries, value, shape, arriving))


def _carries(place: Axis, size: int, arriving: Axis) -> bool:
    """Whether an axis of an inserted op, of this size, can hold the channels that arrive."""
    if not is_fixed(arriving):
        return alike(place, arriving)
    if is_fixed(place):
        return fixed_width(place) == fixed_width(arriving)
    return size >= fixed_width(arriving) and place == (Part(place[0].group),)


def _passing_branch(branch: Series, arriving: Interval, axes: Axes, new: Groups) -> tuple[tuple[Op, How], ...] | None:
    found: list[tuple[Op, How]] = []
    for unit in branch:
        ops = insertable(unit, arriving, axes, new)
        if ops is None:
            return None
        new = new | groups_beside(unit, ops)
        found.extend(ops)
    return tuple(found)


def zeroed(branch: Series) -> tuple[tuple[Op, How], ...] | None:
    """How each op of a branch is set so that the branch gives zeros, or None where it cannot.

    The last op with a parameter that what arrives is multiplied with is set to zero; what stands before it may be
    anything, what stands behind it must keep zeros.
    """
    behind: list[tuple[Op, How]] = []
    for place in reversed(range(len(branch))):
        unit = branch[place]
        found = _zeroed_unit(unit)
        if found is not None:
            return (*_free(branch[:place]), *found, *behind)
        keeping = _keeping(unit)
        if keeping is None:
            return None
        behind = [*keeping, *behind]
    return None


def _zeroed_unit(unit: Unit) -> tuple[tuple[Op, How], ...] | None:
    """How a unit is set so that it gives zeros whatever arrives: a linear op, a sum of zeros, a product with one."""
    if isinstance(unit, Tangle):
        return None
    if isinstance(unit, Op):
        return ((unit, How.ZERO),) if unit.rule.linear and unit.parameters else None
    return _joined(unit, [zeroed(branch) for branch in unit.branches])


def _keeping(unit: Unit) -> tuple[tuple[Op, How], ...] | None:
    """How a unit is set so that it gives zeros where zeros arrive, or None where it cannot."""
    if isinstance(unit, Tangle):
        return None
    if isinstance(unit, Op):
        if not unit.rule.keeps_zero or _adds_a_constant(unit):
            return None
        return ((unit, How.ZERO if unit.parameters else How.FREE),)
    return _joined(unit, [_keeping_branch(branch) for branch in unit.branches])


def _keeping_branch(branch: Series) -> tuple[tuple[Op, How], ...] | None:
    found = zeroed(branch)
    if found is not None:
        return found
    units = [_keeping(unit) for unit in branch]
    if any(unit is None for unit in units):
        return None
    return tuple(pair for unit in units if unit is not None for pair in unit)


def _joined(unit: Parallel, branches: Sequence[tuple[tuple[Op, How], ...] | None]) -> tuple[tuple[Op, How], ...] | None:
    """A section of which these branches give zeros gives zeros: a sum where all do, a product where one does."""
    if unit.join.parameters:
        return None
    known = [branch for branch in branches if branch is not None]
    if unit.join.op in ("Add", "Concat") and len(known) == len(branches):
        return (*(pair for branch in known for pair in branch), (unit.join, How.FREE))
    if unit.join.op in ("Mul", "MatMul") and known:
        place = next(place for place, branch in enumerate(branches) if branch is not None)
        free = [pair for k, other in enumerate(unit.branches) if k != place for pair in _free(other)]
        return (*known[0], *free, (unit.join, How.FREE))
    return None


def _free(series: Series) -> tuple[tuple[Op, How], ...]:
    return tuple((op, How.FREE) for op in ops_of(series))


def _adds_a_constant(op: Op) -> bool:
    """Whether an op adds, takes from, or pads with what is no parameter: a number or a mask that stays as it is."""
    if op.op == "Pad":
        value = op.site.constants[2] if len(op.site.constants) > 2 else None
        return bool(op.site.node.input(2)) and (value is None or bool(np.any(value)))
    given = sum(1 for name in op.site.node.inputs if name)
    return op.op in ("Add", "Sub") and given > len(op.reads) + len(op.parameters)


def fixed_width(axis: Axis) -> int:
    """The width of an axis without channel groups."""
    return width_of(axis, {})
