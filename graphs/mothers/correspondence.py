"""What an alignment says of channel groups: which groups of the two networks must carry the same channels.

Groups that meet in a matched or inserted op form one class. The mother's width for a class is the least width of all
its groups: inserted layers are among them, since they must be wide enough to pass the function through. Where some op
takes a mean over channels (LayerNormalization), it is the largest width up to the least that divides theirs: a mean
stays the same where every channel is repeated equally often.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import gcd

from mnx.graphs.errors import GraphError
from mnx.graphs.mothers.alignment import Alignment
from mnx.graphs.mothers.kernels import Window, common_window, window
from mnx.graphs.mothers.matching import How, trimmed
from mnx.graphs.mothers.passages import Passage
from mnx.graphs.ops.axes import Axes, Axis, is_fixed, without
from mnx.graphs.trees.centred import rigid
from mnx.graphs.trees.structure import Op, Structure

_Key = tuple[str, int]


@dataclass(frozen=True)
class Correspondence:
    """Left is the (candidate) mother, right a member.

    Attributes:
        left_class: left group -> its class, named by the least left group in it.
        width: class -> least width in it, or the fixed width that it meets; 0 of what a left group has alone.
        carried: right group -> how many of the mother's channels it carries, 0 beside what it passes on; groups not in
            it are the member's own.
        windows: left node name -> the kernel window both sides hold.
    """

    left_class: Mapping[int, int]
    width: Mapping[int, int]
    carried: Mapping[int, int]
    windows: Mapping[str, Window]


def correspond(alignment: Alignment, left: Structure, right: Structure) -> Correspondence:
    """The classes of channel groups under an alignment.

    Raises:
        GraphError: a fixed width (the network's input or classes) would have to pass through something narrower.
    """
    new, coded = alignment.new, alignment.passages
    union = _Union(
        {
            **{("L", g): n // _copies(coded[0], g) for g, n in left.groups.items()},
            **{("R", g): n // _copies(coded[1], g) for g, n in right.groups.items()},
        },
        {("L", g) for g in rigid(left)} | {("R", g) for g in rigid(right)},
    )
    for mine, theirs in alignment.matches:
        for one, other in _matched_axes(mine, theirs):
            union.tie_axes(without(one, new[0]), "L", without(other, new[1]), "R", mine.name)
    for insertion in alignment.only_right:
        arriving = trimmed(insertion.arriving.axes, new[0])
        for op, how in insertion.ops:
            if how is How.IDENTITY:
                union.tie_values(trimmed(op.output, new[1]), "R", arriving, "L", op.name)
                union.tie_values(trimmed(op.input, new[1]), "R", arriving, "L", op.name)
    for insertion in alignment.only_left:
        arriving = trimmed(insertion.arriving.axes, new[1])
        for op, how in insertion.ops:
            if how is How.IDENTITY:
                union.tie_values(trimmed(op.output, new[0]), "L", trimmed(op.input, new[0]), "L", op.name)
                union.tie_values(trimmed(op.output, new[0]), "L", arriving, "R", op.name)
        result, before = (trimmed(axes, new[0]) for axes in (insertion.unit.output, insertion.before.axes))
        union.tie_values(result, "L", before, "L", insertion.unit.value)
    left_class, width, carried = union.classes(f"{left.name} and {right.name}")
    left_class |= {group: group for group in new[0]}
    width |= dict.fromkeys(new[0], 0)
    carried |= dict.fromkeys(new[1], 0)
    return Correspondence(left_class, width, carried, dict(_windows(alignment)))


def _copies(passages: Mapping[int, Passage], group: int) -> int:
    """How many channels of a group every channel that it carries takes."""
    return passages[group].copies if group in passages else 1


def _matched_axes(mine: Op, theirs: Op) -> Iterator[tuple[Axis, Axis]]:
    yield from zip(mine.output, theirs.output, strict=True)
    slots = {parameter.slot: parameter for parameter in theirs.parameters}
    for parameter in mine.parameters:
        if parameter.slot in slots:
            yield from zip(parameter.axes, slots[parameter.slot].axes, strict=True)


def _windows(alignment: Alignment) -> Iterator[tuple[str, Window]]:
    for mine, theirs in alignment.matches:
        if window(mine) is not None:
            common = common_window(mine, theirs)
            if common is not None:
                yield mine.name, common


class _Union:
    """Union-find over the groups of both sides; a class may also meet one fixed width.

    Groups in `even` carry every channel of the mother a whole number of times.
    """

    def __init__(self, widths: Mapping[_Key, int], even: Collection[_Key]) -> None:
        self.widths = dict(widths)
        self.even = frozenset(even)
        self.parent = {key: key for key in widths}
        self.pinned: dict[_Key, tuple[int, str]] = {}

    def find(self, key: _Key) -> _Key:
        while self.parent[key] != key:
            key = self.parent[key]
        return key

    def tie_values(self, one: Axes, side: str, other: Axes, other_side: str, where: str) -> None:
        """Tie the axes (all but the batch) of two values that are the same function."""
        for mine, theirs in zip(one[1:], other[1:], strict=True):
            self.tie_axes(mine, side, theirs, other_side, where)

    def tie_axes(self, one: Axis, side: str, other: Axis, other_side: str, where: str) -> None:
        if is_fixed(one) and is_fixed(other):
            return
        if len(one) != len(other):
            raise GraphError(f"'{where}': widths {one} and {other} are built differently")
        for a, b in zip(one, other, strict=True):
            if a.group is not None and b.group is not None:
                self._tie((side, a.group), (other_side, b.group))
            elif a.group is not None:
                self._pin((side, a.group), b.outer * b.inner // (a.outer * a.inner), where)
            elif b.group is not None:
                self._pin((other_side, b.group), a.outer * a.inner // (b.outer * b.inner), where)

    def _tie(self, a: _Key, b: _Key) -> None:
        first, second = self.find(a), self.find(b)
        if first != second:
            self.parent[second] = first
            if second in self.pinned:
                self._pin(first, *self.pinned.pop(second))

    def _pin(self, key: _Key, width: int, where: str) -> None:
        root = self.find(key)
        known = self.pinned.setdefault(root, (width, where))
        if known[0] != width:
            raise GraphError(f"'{where}' ties the fixed widths {known[0]} and {width}")

    def classes(self, where: str) -> tuple[dict[int, int], dict[int, int], dict[int, int]]:
        """Left group -> class, class -> width, right group -> width carried."""
        members: dict[_Key, list[_Key]] = {}
        for key in self.parent:
            members.setdefault(self.find(key), []).append(key)
        left_class: dict[int, int] = {}
        width: dict[int, int] = {}
        carried: dict[int, int] = {}
        for root, keys in members.items():
            least = self._width(root, keys, where)
            lefts = [group for side, group in keys if side == "L"]
            if lefts:
                width[min(lefts)] = least
                left_class.update({group: min(lefts) for group in lefts})
            if lefts or root in self.pinned:
                carried.update({group: least for side, group in keys if side == "R"})
        return left_class, width, carried

    def _width(self, root: _Key, keys: Sequence[_Key], where: str) -> int:
        least = min(self.widths[key] for key in keys)
        common = gcd(*(self.widths[key] for key in keys if key in self.even))
        if root not in self.pinned:
            return least if not common else next(width for width in range(least, 0, -1) if common % width == 0)
        pinned, op = self.pinned[root]
        if least < pinned:
            raise GraphError(
                f"{where}: at '{op}' a fixed width of {pinned} would have to pass through {least} channels"
            )
        if common % pinned:
            raise GraphError(
                f"{where}: at '{op}' a fixed width of {pinned} would have to fill {common} channels, whose mean is "
                "taken, evenly"
            )
        return pinned
