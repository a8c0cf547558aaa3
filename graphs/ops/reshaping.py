"""Ops that see the same elements in other shapes: their axes are expressions over the same channel groups.

Flatten and Reshape give products, Concat sums. The target of a Reshape embeds widths and changes with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np

from mnx.graphs.errors import UnsupportedOp
from mnx.graphs.model import Attribute, Shape
from mnx.graphs.ops.axes import Axes, Axis, Ties, fixed, is_fixed, repeated
from mnx.graphs.ops.rule import Interval, Rewritten, Rule, Site, Widths, keeps_every, same_range, space


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


def _tie_to_depth(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """Every place of a block becomes channels of its own, place by place."""
    return (axes[0][0], ties.merged([fixed(_block(site) ** 2), axes[0][1]]), *space(site, axes, ties))


def _tie_to_space(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """Channels become the places of a block: the number of places stays."""
    places = _block(site) ** 2
    channels = site.shapes[0][1] // places
    if site.node.attributes.get("mode", "DCR") == "CRD":
        kept = ties.split(axes[0][1], (channels, places), free=0)[0]
    else:
        kept = ties.split(axes[0][1], (places, channels), free=1)[1]
    return (axes[0][0], kept, *space(site, axes, ties))


def _tie_resize(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """Channels stay; space is fixed."""
    if site.shapes[0][:2] != site.outputs[0][:2]:
        raise UnsupportedOp(f"{site.where} resizes channels, which has no rule")
    return (*axes[0][:2], *space(site, axes, ties))


def _block(site: Site) -> int:
    return site.node.integer("blocksize", 1)


def _hull(site: Site, arriving: Sequence[Interval]) -> Interval:
    return min(low for low, _ in arriving), max(high for _, high in arriving)


FLATTEN = Rule(
    tie=_tie_flatten,
    range=same_range,
    matching={"axis": 1},
    keeps_zero=True,
    keeps=keeps_every,
    doc="width becomes channels * space",
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
    keeps=keeps_every,
    doc="axes become products; channels split into heads, whose width stays",
)
TRANSPOSE = Rule(tie=_tie_transpose, range=same_range, matching={"perm": ()}, keeps_zero=True, keeps=keeps_every)
SPACE_TO_DEPTH = Rule(tie=_tie_to_depth, range=same_range, matching={"blocksize": 1}, keeps_zero=True)
DEPTH_TO_SPACE = Rule(tie=_tie_to_space, range=same_range, matching={"blocksize": 1, "mode": "DCR"}, keeps_zero=True)
RESIZE = Rule(
    tie=_tie_resize,
    matching={
        "mode": "nearest",
        "coordinate_transformation_mode": "half_pixel",
        "nearest_mode": "round_prefer_floor",
        "cubic_coeff_a": -0.75,
        "antialias": 0,
    },
    keeps_zero=True,
    doc="space only",
)
