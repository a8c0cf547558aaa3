"""What two networks have in common, op by op, and what only one of them has: plain data."""

from __future__ import annotations

from dataclasses import dataclass

from mnx.graphs.mothers.matching import How
from mnx.graphs.ops.axes import Axes
from mnx.graphs.trees.structure import Op, Unit


@dataclass(frozen=True)
class Place:
    """A value that two networks share at one point of the alignment: its name and axes in one of them."""

    value: str
    axes: Axes


@dataclass(frozen=True)
class Insertion:
    """A unit that one side has alone, and the place on the other side where it would stand."""

    unit: Unit
    before: Place
    ops: tuple[tuple[Op, How], ...]
    arriving: Place


@dataclass(frozen=True)
class Alignment:
    """Matched ops (left, right) in execution order, and what only one side has.

    `shared` is the number of trained parameters of the mother that it leads to.
    """

    matches: tuple[tuple[Op, Op], ...] = ()
    only_left: tuple[Insertion, ...] = ()
    only_right: tuple[Insertion, ...] = ()
    shared: int = 0
