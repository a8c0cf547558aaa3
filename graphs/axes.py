"""Tensor axes as expressions over channel groups, and the unification that ties them.

A channel group is a set of tensor axes that must have the same width. An axis is an ordered sum of parts, each part a
product outer * group * inner: Flatten of [C, H, W] gives one part with inner = H * W, Concat gives several parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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


def width_of(axis: Axis, widths: Mapping[int, int]) -> int:
    """The number of elements along an axis, given the widths of its groups."""
    return sum(part.outer * part.inner * (1 if part.group is None else widths[part.group]) for part in axis)


def repeated(axis: Axis, inner: int) -> Axis:
    """The axis of a tensor flattened over `axis` (outermost) and `inner` further elements."""
    if all(part.group is None for part in axis):
        return fixed(sum(part.outer * part.inner for part in axis) * inner)
    return tuple(Part(part.group, part.outer, part.inner * inner) for part in axis)


@dataclass
class Ties:
    """Union-find over channel groups; a group may also be bound to an expression over others."""

    sizes: dict[int, int] = field(default_factory=dict)
    _bound: dict[int, Axis] = field(default_factory=dict)

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
                raise GraphError("an axis repeats a sum of channel groups, which has no rule yet")
            for found in inner:
                parts.append(Part(found.group, part.outer * found.outer, found.inner * part.inner))
        return tuple(parts)

    def same(self, left: Axis, right: Axis, where: str) -> None:
        """Tie two axes: from now on they have the same width for ever.

        Raises:
            GraphError: their widths differ, or they are built in ways that cannot be tied.
        """
        left, right = self.resolve(left), self.resolve(right)
        if left == right:
            return
        if self.width(left) != self.width(right):
            raise GraphError(f"{where} ties axes of widths {self.width(left)} and {self.width(right)}")
        for one, other in ((left, right), (right, left)):
            if len(one) == 1 and one[0].group is not None and one[0].outer == one[0].inner == 1:
                self._bound[one[0].group] = other
                return
            if all(part.group is None for part in one):
                groups = [part.group for part in other if part.group is not None]
                self._bound.update({group: fixed(self.sizes[group]) for group in groups})
                return
        if len(left) == len(right) and all(
            (a.outer, a.inner) == (b.outer, b.inner) for a, b in zip(left, right, strict=True)
        ):
            for a, b in zip(left, right, strict=True):
                self._same_part(a, b, where)
            return
        raise GraphError(f"{where} ties axes that are built differently: {left} and {right}")

    def _same_part(self, a: Part, b: Part, where: str) -> None:
        left = fixed(1) if a.group is None else (Part(a.group),)
        right = fixed(1) if b.group is None else (Part(b.group),)
        self.same(left, right, where)
