"""Which ops can match, and which units can be passed over because they can be made the identity."""

from __future__ import annotations

from enum import Enum
from math import prod

import numpy as np

from mnx.graphs.axes import Axes, Axis, Part, width_of
from mnx.graphs.kernels import common_window, window
from mnx.graphs.ops.rule import Interval
from mnx.graphs.structure import Op, Series, Unit, ops_of


class How(str, Enum):
    """What becomes of an op that only one side has."""

    IDENTITY = "identity"
    ZERO = "zero"
    FREE = "free"
    JOIN = "join"


def mismatch(left: Op, right: Op) -> str:
    """Why two ops cannot match, '' where they can: all but width, kernel size and bias must agree."""
    if left.op != right.op:
        return f"{left.op} is not {right.op}"
    for (key, one), (_, other) in zip(left.matching, right.matching, strict=True):
        if one != other:
            return f"{key} {one} is not {other}"
    for one_constant, other_constant in zip(left.site.constants, right.site.constants, strict=False):
        if (one_constant is None) != (other_constant is None) or not np.array_equal(
            one_constant if one_constant is not None else 0, other_constant if other_constant is not None else 0
        ):
            return "their constants differ"
    if [len(axes) for axes in (left.output, left.input)] != [len(axes) for axes in (right.output, right.input)]:
        return "their values have different ranks"
    if left.shape[1:] != right.shape[1:]:
        return f"output sizes {left.shape[1:]} and {right.shape[1:]} differ"
    if not all(alike(one, other) for one, other in zip(left.output, right.output, strict=True)):
        return "their widths are built differently"
    if window(left) is not None and common_window(left, right) is None:
        return "neither kernel fits inside the other at the same place"
    return ""


def alike(left: Axis, right: Axis) -> bool:
    """Whether one growth map can lead from one axis to the other: same parts, fixed ones of the same width."""
    return len(left) == len(right) and all(
        (a.group is None) == (b.group is None) and (a.outer, a.inner) == (b.outer, b.inner)
        for a, b in zip(left, right, strict=True)
    )


def shared_parameters(left: Op, right: Op) -> int:
    """Trained parameters that two matched ops have in common: per axis the smaller width."""
    theirs = {parameter.slot: parameter for parameter in right.parameters}
    return sum(
        prod(min(a, b) for a, b in zip(mine.shape, theirs[mine.slot].shape, strict=True))
        for mine in left.parameters
        if mine.kind.trained and mine.slot in theirs
    )


def insertable(unit: Unit, arriving: Interval, axes: Axes) -> tuple[tuple[Op, How], ...] | None:
    """How each op of a unit is set so that the unit passes on what arrives, or None where it cannot."""
    if isinstance(unit, Op):
        return ((unit, How.IDENTITY),) if _passes(unit, arriving, axes) else None
    if unit.join.op != "Add":
        return None
    for through in range(len(unit.branches)):
        passing = _passing_branch(unit.branches[through], arriving, axes)
        if passing is None:
            continue
        others = [_zeroed_branch(branch) for k, branch in enumerate(unit.branches) if k != through]
        known = [other for other in others if other is not None]
        if len(known) == len(others):
            return (*passing, *(pair for other in known for pair in other), (unit.join, How.JOIN))
    return None


def _passes(op: Op, arriving: Interval, axes: Axes) -> bool:
    if not op.rule.identity(op.site, arriving) or len(op.output) != len(axes) or op.input[2:] != op.output[2:]:
        return False
    if not _is_fixed(axes[1]):
        return alike(op.output[1], axes[1])
    if _is_fixed(op.output[1]):
        return op.site.outputs[0][1] == fixed_width(axes[1])
    return op.site.outputs[0][1] >= fixed_width(axes[1]) and op.output[1] == (Part(op.output[1][0].group),)


def _passing_branch(branch: Series, arriving: Interval, axes: Axes) -> tuple[tuple[Op, How], ...] | None:
    found: list[tuple[Op, How]] = []
    for unit in branch:
        ops = insertable(unit, arriving, axes)
        if ops is None:
            return None
        found.extend(ops)
    return tuple(found)


def _zeroed_branch(branch: Series) -> tuple[tuple[Op, How], ...] | None:
    """The last linear op of the branch gives zeros; what stands before it may be anything."""
    if not branch or not isinstance(branch[-1], Op) or not branch[-1].rule.linear or not branch[-1].parameters:
        return None
    from_before = [(op, How.FREE) for op in ops_of(branch[:-1])]
    return (*from_before, (branch[-1], How.ZERO))


def _is_fixed(axis: Axis) -> bool:
    return all(part.group is None for part in axis)


def fixed_width(axis: Axis) -> int:
    """The width of an axis without channel groups."""
    return width_of(axis, {})
