"""Tensor axes as expressions over channel groups, and the unification that ties them.

A channel group is a set of tensor axes that must have the same width. An axis is an ordered sum of parts, each part a
product outer * group * inner: Flatten of [C, H, W] gives one part with inner = H * W, Concat gives several parts, a
grouped convolution or a Reshape to heads one with outer = groups or inner = the width of a head. Where two expressions
cannot be tied so that both stay free, their groups become fixed: the network is read, and never grows there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TypeAlias

from mnx.graphs.errors import GraphError


@dataclass(frozen=True)
class Part:
    """`outer * width * inner` consecutive elements; `group` is None for a fixed width (held in `inner`)."""

    group: int | None
    outer: int = 1
    inner: int = 1


Axis: TypeAlias = tuple[Part, ...]
Axes: TypeAlias = tuple[Axis, ...]


def fixed(size: int) -> Axis:
    """An axis whose width never changes: batch, space, the network's input channels and classes."""
    return (Part(None, 1, size),)


def is_fixed(axis: Axis) -> bool:
    """Whether the width of an axis depends on no group."""
    return all(part.group is None for part in axis)


def width_of(axis: Axis, widths: Mapping[int, int]) -> int:
    """The number of elements along an axis, given the widths of its groups."""
    return sum(part.outer * part.inner * (1 if part.group is None else widths[part.group]) for part in axis)


def without(axis: Axis, groups: Collection[int]) -> Axis:
    """The axis without the parts of these groups; of width 0 where nothing is left."""
    if not groups:
        return axis
    kept = tuple(part for part in axis if part.group not in groups)
    return kept or fixed(0)


def repeated(axis: Axis, inner: int) -> Axis:
    """The axis of a tensor flattened over `axis` (outermost) and `inner` further elements."""
    if is_fixed(axis):
        return fixed(sum(part.outer * part.inner for part in axis) * inner)
    return tuple(Part(part.group, part.outer, part.inner * inner) for part in axis)


@dataclass
class Ties:
    """Union-find over channel groups; a group may also be bound to an expression over others.

    `choices` says of splits by their place which of the possible axes stays free; see `retry`. Of those it does not
    name it is the first, or the last with `last`. `products` are the nodes that multiply two computed values whose
    inner axis stays free. With `whole`, blocks of channels (grouped convolutions, GroupNormalization) grow in number,
    else in width.
    """

    choices: Mapping[str, int] = field(default_factory=dict)
    last: bool = False
    products: frozenset[str] = frozenset()
    whole: bool = False
    sizes: dict[int, int] = field(default_factory=dict)
    _bound: dict[int, Axis] = field(default_factory=dict)
    _splits: dict[str, tuple[Axis, int]] = field(default_factory=dict)

    def group(self, size: int) -> Axis:
        """A new free axis of width `size`."""
        key = len(self.sizes)
        self.sizes[key] = size
        return (Part(key),)

    def width(self, axis: Axis) -> int:
        """The number of elements along `axis`."""
        return width_of(axis, self.sizes)

    def resolve(self, axis: Axis) -> Axis:
        """`axis` in terms of free groups only."""
        parts: list[Part] = []
        for part in axis:
            if part.group is None or part.group not in self._bound:
                parts.append(part)
                continue
            inner = self.resolve(self._bound[part.group])
            if part.outer != 1 and len(inner) != 1:
                inner = self.fix(inner)
            for found in inner:
                parts.append(Part(found.group, part.outer * found.outer, found.inner * part.inner))
        return tuple(parts)

    def same(self, left: Axis, right: Axis, where: str) -> None:
        """Tie two axes: from now on they have the same width for ever.

        Raises:
            GraphError: their widths differ.
        """
        left, right = self.resolve(left), self.resolve(right)
        if left == right:
            return
        if self.width(left) != self.width(right):
            raise GraphError(f"{where} ties axes of widths {self.width(left)} and {self.width(right)}")
        if len(left) == len(right) == 1:
            self._same_part(left[0], right[0])
        elif any(len(one) == 1 and self._bind(one[0], other) for one, other in ((left, right), (right, left))):
            return
        elif len(left) == len(right) and all(
            self.width((a,)) == self.width((b,)) for a, b in zip(left, right, strict=True)
        ):
            for a, b in zip(left, right, strict=True):
                self.same((a,), (b,), where)
        else:
            self.fix(left + right)

    def fix(self, axis: Axis) -> Axis:
        """Make every group of an axis fixed; the axis as it is then."""
        for part in self.resolve(axis):
            if part.group is not None and part.group not in self._bound:
                self._bound[part.group] = fixed(self.sizes[part.group])
        return fixed(self.width(axis))

    def merged(self, axes: Sequence[Axis]) -> Axis:
        """The axis of a tensor flattened over several axes, the first outermost; one of them at most stays free."""
        resolved = [self.resolve(axis) for axis in axes]
        free = [place for place, axis in enumerate(resolved) if not is_fixed(axis)]
        if not free:
            return fixed(prod(self.width(axis) for axis in resolved))
        place = free[0]
        for other in free[1:]:
            self.fix(resolved[other])
        outer = prod(self.width(axis) for axis in resolved[:place])
        inner = prod(self.width(axis) for axis in resolved[place + 1 :])
        middle = resolved[place]
        if outer != 1 and len(middle) != 1:
            return fixed(self.width(self.fix(middle)) * outer * inner)
        return tuple(Part(part.group, part.outer * outer, part.inner * inner) for part in middle)

    def split(self, axis: Axis, sizes: Sequence[int], free: int | None = None, where: str = "") -> Axes:
        """An axis seen as several, row-major, of the given sizes.

        Args:
            axis: the axis; its width is the product of the sizes.
            sizes: of the axes wanted.
            free: which of them stays free where a group itself is split; None to take the first that the rest of the
                network leaves free (see `retry`).
            where: the place of such a choice.
        """
        resolved = self.resolve(axis)
        if len(resolved) > 1 and sizes[0] == len(resolved):
            resolved = self._equal_parts(resolved)
        if len(resolved) == 1 and resolved[0].group is not None:
            found = self._split_part(resolved[0], sizes, free, where)
            if found is not None:
                return found
        self.fix(resolved)
        return tuple(fixed(size) for size in sizes)

    def retry(self) -> dict[str, int] | None:
        """Other choices to tie everything anew with, where what a split left free was fixed later; None where none is.

        Of joined queries, keys and values in heads (3, heads, width), a Gather fixes the first, so that the second is
        what grows.
        """
        choices, changed = dict(self.choices), False
        for where, (axis, options) in self._splits.items():
            taken = choices.get(where, options - 1 if self.last else 0)
            if taken + 1 < options and is_fixed(self.resolve(axis)):
                choices[where], changed = taken + 1, True
        return choices if changed else None

    def taken(self, axis: Axis, start: int, stop: int) -> Axis:
        """The elements from `start` to `stop` of an axis: whole parts, or whole repetitions of one part."""
        resolved = self.resolve(axis)
        whole = self._whole_parts(resolved, start, stop)
        if whole is not None:
            return whole
        width = self.width(resolved)
        if (
            len(resolved) == 1
            and resolved[0].group is not None
            and width % (stop - start) == start % (stop - start) == 0
        ):
            pieces = width // (stop - start)
            found = self.split(resolved, (pieces, stop - start), free=1)
            if not is_fixed(found[1]):
                return found[1]
        self.fix(resolved)
        return fixed(stop - start)

    def _whole_parts(self, axis: Axis, start: int, stop: int) -> Axis | None:
        kept, place = [], 0
        for part in axis:
            end = place + self.width((part,))
            if start <= place and end <= stop:
                kept.append(part)
            elif start < end and place < stop:
                return None
            place = end
        return tuple(kept) or None

    def _equal_parts(self, axis: Axis) -> Axis:
        """A sum of parts of one width as repetitions of one part; as it is where they cannot be tied."""
        first = axis[0]
        if any(self.width((part,)) != self.width((first,)) for part in axis) or first.group is None:
            return axis
        for part in axis[1:]:
            self.same((part,), (first,), "a split of joined channels")
        resolved = self.resolve((first,))
        return (Part(resolved[0].group, len(axis) * resolved[0].outer, resolved[0].inner),)

    def _split_part(self, part: Part, sizes: Sequence[int], free: int | None, where: str) -> Axes | None:
        """The fixed factors of a part go to the outer and inner sizes; None where the sizes cut across them."""
        before, after = part.outer, part.inner
        start, stop = 0, len(sizes)
        while start < stop - 1 and before % sizes[start] == 0 and (before > 1 or sizes[start] == 1):
            before //= sizes[start]
            start += 1
        while stop - 1 > start and after % sizes[stop - 1] == 0 and (after > 1 or sizes[stop - 1] == 1):
            after //= sizes[stop - 1]
            stop -= 1
        found = [fixed(size) for size in sizes]
        if stop - start == 1:
            found[start] = (Part(part.group, before, after),)
            return tuple(found)
        if sizes[start] % before or sizes[stop - 1] % after or part.group is None:
            return None
        core = list(sizes[start:stop])
        core[0] //= before
        core[-1] //= after
        place = self._choice(core, None if free is None else free - start, where)
        (inside,) = self.group(core[place])
        self._bound[part.group] = (Part(inside.group, prod(core[:place]), prod(core[place + 1 :])),)
        last = place == len(core) - 1
        found[start + place] = (Part(inside.group, before if place == 0 else 1, after if last else 1),)
        if free is None:
            self._splits[where] = ((inside,), len(core))
        return tuple(found)

    def _choice(self, core: Sequence[int], free: int | None, where: str) -> int:
        if free is not None and 0 <= free < len(core):
            return free
        return min(self.choices.get(where, len(core) - 1 if self.last else 0), len(core) - 1)

    def _same_part(self, a: Part, b: Part) -> None:
        apart = a.group is not None and b.group is not None and a.group != b.group
        if not (apart and (self._bind(a, (b,)) or self._bind(b, (a,)))):
            self.fix((a, b))

    def _bind(self, part: Part, other: Axis) -> bool:
        """Express the group of `part` by `other`, where that divides without a rest."""
        if part.group is None or any(each.group == part.group for each in other):
            return False
        if part.outer != 1 and len(other) != 1:
            return False
        if any(each.outer % part.outer or each.inner % part.inner for each in other):
            return False
        if is_fixed(other):
            self.fix((part,))
            return True
        self._bound[part.group] = tuple(
            Part(each.group, each.outer // part.outer, each.inner // part.inner) for each in other
        )
        return True
