"""Kernel windows: a small kernel has its one place inside a larger one, where their pads say.

With stride and dilation d equal, output o of a Conv reads input o * stride - begin + d * t at tap t. Tap t of the small
kernel reads the same input as tap t + offset of the large one exactly when d * offset = begin_large - begin_small.
"""

from __future__ import annotations

from dataclasses import dataclass

from mnx.graphs.model import Shape
from mnx.graphs.ops.rule import Role
from mnx.graphs.trees.structure import Op


@dataclass(frozen=True)
class Window:
    """A Conv's kernel sizes, pads before and after, and dilations, one number per spatial axis."""

    size: Shape
    begins: Shape
    ends: Shape
    dilations: Shape


def window(op: Op) -> Window | None:
    """The kernel window of an op, None where its weights have no kernel axes."""
    for parameter in op.parameters:
        size = tuple(n for n, role in zip(parameter.shape, parameter.roles, strict=True) if role is Role.KERNEL)
        if size:
            pads = op.site.node.integers("pads", (0,) * (2 * len(size)))
            dilations = op.site.node.integers("dilations", (1,) * len(size))
            return Window(size, pads[: len(size)], pads[len(size) :], dilations)
    return None


def offsets(small: Window, large: Window) -> Shape | None:
    """Where the small kernel starts inside the large one, or None where it has no place there."""
    found = []
    for k, large_k, begin, large_begin, end, large_end, step in zip(
        small.size, large.size, small.begins, large.begins, small.ends, large.ends, small.dilations, strict=True
    ):
        before, after = large_begin - begin, large_end - end
        if before < 0 or after < 0 or before % step or after % step or before // step + k + after // step != large_k:
            return None
        found.append(before // step)
    return tuple(found)


def common_window(left: Op, right: Op) -> Window | None:
    """The largest window that has a place inside those of both ops: per axis the smaller kernel with its pads."""
    one, other = window(left), window(right)
    if one is None or other is None or one.dilations != other.dilations:
        return None
    first = [k <= other_k for k, other_k in zip(one.size, other.size, strict=True)]

    def pick(a: Shape, b: Shape) -> Shape:
        return tuple(x if chosen else y for chosen, x, y in zip(first, a, b, strict=True))

    least = Window(
        pick(one.size, other.size), pick(one.begins, other.begins), pick(one.ends, other.ends), one.dilations
    )
    return least if offsets(least, one) is not None and offsets(least, other) is not None else None
