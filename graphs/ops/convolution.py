"""Conv: the kernel's first axis makes channels, its second sums over them, the rest lie over space.

With `group` = G > 1, input and output channels fall into G blocks of equal width: x has G * in channels, w the shape
(G * out, in, ...). A depthwise Conv has one block for every channel that arrives: w of shape (channels * multiplier, 1,
...), and `group` grows with the channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from mnx.graphs.model import Attribute
from mnx.graphs.ops.axes import Axes, Part, Ties, fixed, is_fixed, repeated
from mnx.graphs.ops.rule import Interval, Kind, Rewritten, Role, Rule, Site, Slot, Widths, space


def groups(site: Site) -> int:
    """The number of blocks of a grouped Conv; 0 for a depthwise one, whose blocks are its channels."""
    count = site.node.integer("group", 1)
    return 0 if count > 1 and count == site.shapes[0][1] else count


def _tie(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """The weight's second axis is what arrives, its first what is made; of grouped ones, block by block."""
    x, weight = axes[0], axes[1]
    count = groups(site)
    if count == 0:
        ties.same(weight[1], fixed(1), site.where)
        ties.same(weight[0], repeated(ties.resolve(x[1]), site.shapes[1][0] // site.shapes[0][1]), site.where)
    elif count == 1:
        ties.same(weight[1], x[1], site.where)
    elif ties.whole:
        blocks = ties.split(x[1], (count, site.shapes[1][1]), free=0)[0]
        ties.same(weight[1], fixed(site.shapes[1][1]), site.where)
        ties.same(weight[0], repeated(ties.resolve(blocks), site.shapes[1][0] // count), site.where)
    else:
        ties.same(weight[1], _block(ties, x[1], count), site.where)
        _block(ties, weight[0], count)
    if len(axes) > 2 and axes[2]:
        ties.same(axes[2][0], weight[0], f"bias of {site.where}")
    return (x[0], weight[0], *space(site, axes, ties))


def _block(ties: Ties, axis: tuple[Part, ...], count: int) -> tuple[Part, ...]:
    return ties.split(axis, (count, ties.width(axis) // count), free=1)[1]


def _identity(site: Site, arriving: Interval) -> bool:
    """A centre tap of 1 per channel copies x, where stride is 1 and the pads keep the size."""
    rank = len(site.shapes[1]) - 2
    dilations = site.node.integers("dilations", (1,) * rank)
    begins = site.node.integers("pads", (0,) * (2 * rank))[:rank]
    return (
        all(stride == 1 for stride in site.node.integers("strides", (1,) * rank))
        and site.outputs[0][2:] == site.shapes[0][2:]
        and all(pad % step == 0 for pad, step in zip(begins, dilations, strict=True))
        and (groups(site) != 0 or site.shapes[1][0] == site.shapes[0][1])
    )


def _cost(site: Site) -> int:
    return prod(site.shapes[1]) * prod(site.outputs[0][2:])


def _rewrite(site: Site, widths: Widths) -> Rewritten:
    """The number of blocks, where these are single channels, or keep their width."""
    if groups(site) != 1 and is_fixed(widths.inputs[1][1]):
        return Rewritten({"group": widths.of(widths.inputs[0][1]) // site.shapes[1][1]})
    return Rewritten()


def _signature(site: Site) -> tuple[tuple[str, Attribute], ...]:
    return (("group", groups(site) or "depthwise"),)


def _whole_signature(site: Site) -> tuple[tuple[str, Attribute], ...]:
    """As many channels a block, in and out."""
    if groups(site) < 2:
        return _signature(site)
    return (("group", "blocks"), ("block", (site.shapes[1][1], site.shapes[1][0] // groups(site))))


CONV = Rule(
    tie=_tie,
    slots={
        1: Slot(Kind.WEIGHT, (Role.PRODUCE, Role.CONTRACT, Role.KERNEL)),
        2: Slot(Kind.BIAS, (Role.PRODUCE,)),
    },
    matching={"strides": (1, 1), "dilations": (1, 1)},
    signature=_signature,
    whole_signature=_whole_signature,
    rewrite=_rewrite,
    identity=_identity,
    cost=_cost,
    linear=True,
    keeps_zero=True,
    doc="kernels grow inside larger ones by their pads; grouped: as many groups; depthwise: with its channels",
)


def _tie_transposed(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """The weight's first axis is what arrives, its second what is made; grouped ones keep their widths."""
    x, weight = axes[0], axes[1]
    ties.same(weight[0], x[1], site.where)
    made = weight[1]
    if (count := site.node.integer("group", 1)) != 1:
        ties.fix(weight[0])
        made = fixed(ties.width(ties.fix(weight[1])) * count)
    if len(axes) > 2 and axes[2]:
        ties.same(axes[2][0], made, f"bias of {site.where}")
    return (x[0], made, *space(site, axes, ties))


def _transposed_cost(site: Site) -> int:
    return prod(site.shapes[1]) * prod(site.shapes[0][2:])


CONV_TRANSPOSE = Rule(
    tie=_tie_transposed,
    slots={
        1: Slot(Kind.WEIGHT, (Role.CONTRACT, Role.PRODUCE, Role.FIXED)),
        2: Slot(Kind.BIAS, (Role.PRODUCE,)),
    },
    matching={
        "strides": (1, 1),
        "pads": (0, 0, 0, 0),
        "output_padding": (0, 0),
        "dilations": (1, 1),
        "group": 1,
        "auto_pad": "NOTSET",
    },
    cost=_transposed_cost,
    linear=True,
    keeps_zero=True,
    doc="its kernel never changes; grouped: its widths neither",
)
