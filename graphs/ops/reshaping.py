"""Ops that see the same elements in other shapes: their axes are expressions over the same channel groups.

Flatten and Reshape give products, Concat sums. The target of a Reshape embeds widths and changes with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np

from mnx.graphs.axes import Axes, Axis, Ties, fixed, is_fixed, repeated
from mnx.graphs.errors import UnsupportedOp
from mnx.graphs.model import Attribute, Shape
from mnx.graphs.ops.rule import Interval, Rewritten, Rule, Site, Widths, same_range


def _tie_flatten(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """The axes behind the batch become their product."""
    if site.node.integer("axis", 1) != 1:
        raise UnsupportedOp(f"node '{site.node.name}': Flatten with axis other than 1 has no rule")
    x = [ties.resolve(axis) for axis in axes[0]]
    if all(is_fixed(axis) for axis in x[2:]):
        return (x[0], repeated(x[1], prod(site.shapes[0][2:])))
    return (x[0], ties.merged(x[1:]))


def _tie_concat(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """The axis joined along is the sum of the operands'; all others are equal."""
    rank = len(axes[0])
    along = site.axis(1)
    if along == 0:
        raise UnsupportedOp(f"{site.where} joins along axis 0, the batch, which has no rule")
    for index in range(rank):
        for other in axes[1:]:
            if index != along:
                ties.same(other[index], axes[0][index], site.where)
    joined = tuple(part for operand in axes for part in ties.resolve(operand[along]))
    if is_fixed(joined):
        joined = fixed(ties.width(joined))
    return tuple(joined if index == along else axes[0][index] for index in range(rank))


def _tie_transpose(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """The axes in another order."""
    return tuple(axes[0][axis] for axis in _order(site))


def _order(site: Site) -> Shape:
    return site.node.integers("perm", tuple(reversed(range(len(site.shapes[0])))))


def _tie_reshape(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """Runs of axes of one product are merged and split again; each run by itself."""
    source, result = site.shapes[0], site.outputs[0]
    found: list[Axis] = []
    for start, stop, first, last in _runs(source, result):
        sizes = result[first:last]
        if stop - start == 1 and len(sizes) == 1:
            found.append(axes[0][start])
        elif sizes:
            whole = ties.merged(axes[0][start:stop]) if stop - start != 1 else axes[0][start]
            found.extend(ties.split(whole, sizes, where=site.node.name) if len(sizes) > 1 else [whole])
        else:
            for axis in axes[0][start:stop]:
                ties.fix(axis)
    return tuple(found)


def _runs(source: Shape, result: Shape) -> Iterator[tuple[int, int, int, int]]:
    """(start, stop) in the source and in the result of the shortest runs of axes with equal products."""
    i = j = 0
    while i < len(source) or j < len(result):
        start, first = i, j
        left = right = 1
        if i < len(source) and j < len(result):
            left, right, i, j = source[i], result[j], i + 1, j + 1
        while left != right:
            if (left < right and i < len(source)) or j == len(result):
                left, i = left * source[i], i + 1
            else:
                right, j = right * result[j], j + 1
        if i == len(source) or j == len(result):
            i, j = len(source), len(result)
        yield start, i, first, j


def _rewrite_reshape(site: Site, widths: Widths) -> Rewritten:
    target = next((constant for constant in site.constants[1:2] if constant is not None), None)
    if target is None:
        return Rewritten()
    sizes = [int(entry) if entry <= 0 else widths.of(axis) for entry, axis in zip(target, widths.output, strict=True)]
    return Rewritten(constants={1: np.array(sizes, dtype=np.int64)})


def _along(site: Site) -> tuple[tuple[str, Attribute], ...]:
    return (("axis", site.axis(1)),)


def _hull(site: Site, arriving: Sequence[Interval]) -> Interval:
    return min(low for low, _ in arriving), max(high for _, high in arriving)


FLATTEN = Rule(
    tie=_tie_flatten, range=same_range, matching={"axis": 1}, keeps_zero=True, doc="width becomes channels * space"
)
CONCAT = Rule(
    tie=_tie_concat,
    range=_hull,
    signature=_along,
    keeps_zero=True,
    doc="width becomes the sum of the branches'",
)
RESHAPE = Rule(
    tie=_tie_reshape,
    range=same_range,
    rewrite=_rewrite_reshape,
    derived=(1,),
    keeps_zero=True,
    doc="axes become products; channels split into heads, whose width stays",
)
TRANSPOSE = Rule(tie=_tie_transpose, range=same_range, matching={"perm": ()}, keeps_zero=True)
