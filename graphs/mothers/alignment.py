"""What two networks have in common, op by op, and what only one of them has: plain data."""

from __future__ import annotations

from dataclasses import dataclass

from mnx.graphs.mothers.exchanges import Exchange
from mnx.graphs.mothers.matching import NONE, Groups, How
from mnx.graphs.mothers.passages import Passage
from mnx.graphs.ops.axes import Axes
from mnx.graphs.trees.structure import Op, Series, Unit, ops_of


@dataclass(frozen=True)
class Place:
    """A value that two networks share at one point of the alignment: its name and axes in one of them."""

    value: str
    axes: Axes


@dataclass(frozen=True)
class Insertion:
    """A unit that one side has alone, and the place on the other side where it would stand.

    Attributes:
        unit: the unit.
        before: what arrives, on its own side.
        ops: how each op is set.
        arriving: what arrives, on the other side.
        beside: groups of its side that it makes beside what it passes on.
        passage: of an activation that ends an inserted layer: how the layer is coded, None where it is an identity.
        exchange: what other nodes take over, None where nothing is needed.
    """

    unit: Unit
    before: Place
    ops: tuple[tuple[Op, How], ...]
    arriving: Place
    beside: Groups = NONE
    passage: Passage | None = None
    exchange: Exchange | None = None


@dataclass(frozen=True)
class Branch:
    """A branch of a Concat that one side has alone, though the other has the Concat too.

    Attributes:
        join: the Concat of its side.
        number: which operand of the join it gives.
        series: its units, all of its own weights.
        beside: the groups that it gives.
    """

    join: Op
    number: int
    series: Series
    beside: Groups


@dataclass(frozen=True)
class Alignment:
    """Matched ops (left, right) in execution order, and what only one side has.

    `shared` is the number of trained parameters of the mother that it leads to.
    """

    matches: tuple[tuple[Op, Op], ...] = ()
    only_left: tuple[Insertion, ...] = ()
    only_right: tuple[Insertion, ...] = ()
    branches_left: tuple[Branch, ...] = ()
    branches_right: tuple[Branch, ...] = ()
    shared: int = 0

    @property
    def new(self) -> tuple[Groups, Groups]:
        """The groups of either side that carry nothing of what both have."""
        return _beside(self.only_left, self.branches_left), _beside(self.only_right, self.branches_right)

    @property
    def inserted(self) -> tuple[tuple[Op, How], ...]:
        """Every op that the right side has alone, and how it is set."""
        units = tuple(pair for insertion in self.only_right for pair in insertion.ops)
        return (*units, *((op, How.FREE) for branch in self.branches_right for op in ops_of(branch.series)))

    @property
    def passages(self) -> tuple[dict[int, Passage], dict[int, Passage]]:
        """Group -> how it is coded, of either side."""
        left, right = (
            {each.passage.group: each.passage for each in insertions if each.passage is not None}
            for insertions in (self.only_left, self.only_right)
        )
        return left, right


def _beside(insertions: tuple[Insertion, ...], branches: tuple[Branch, ...]) -> Groups:
    return NONE.union(*(each.beside for each in insertions), *(each.beside for each in branches))
