"""Normalisations: every parameter has one number a channel."""

from __future__ import annotations

from collections.abc import Sequence

from mnx.graphs.errors import UnsupportedOp
from mnx.graphs.model import Attribute
from mnx.graphs.ops.axes import Axes, Part, Ties
from mnx.graphs.ops.pooling import evenly
from mnx.graphs.ops.rule import Interval, Kind, Rewritten, Role, Rule, Site, Slot, Widths, output_cost


def _tie(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """Every parameter has the channels of the input, and so has the output."""
    for parameter in axes[1:]:
        ties.same(parameter[0], axes[0][1], site.where)
    return axes[0]


def _tie_layer(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """Normalised together are the axes from `axis` on; the parameters have their shape."""
    first = site.axis(-1)
    evenly(axes[0][first:], ties)
    for parameter in axes[1:]:
        if len(parameter) != len(axes[0]) - first:
            raise UnsupportedOp(f"{site.where} has parameters of another rank than what it normalises")
        for theirs, mine in zip(parameter, axes[0][first:], strict=True):
            ties.same(theirs, mine, site.where)
    return axes[0]


def _normalised(site: Site) -> tuple[int, ...]:
    return tuple(range(site.axis(-1), len(site.shapes[0])))


def _channels(site: Site) -> tuple[int, ...]:
    return (1,)


def _tie_blocks(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
    """GroupNormalization: as many blocks of channels, each of the same width."""
    count = site.node.integer("num_groups", 1)
    for parameter in axes[1:]:
        ties.same(parameter[0], axes[0][1], site.where)
    sizes = (count, ties.width(axes[0][1]) // count)
    if ties.whole:
        ties.split(axes[0][1], sizes, free=0)
    else:
        evenly(ties.split(axes[0][1], sizes, free=1)[1:], ties)
    return axes[0]


def _averaged(site: Site, part: Part) -> bool:
    """Whether a mean is taken over the channels of a group: where it lies inside the blocks."""
    return part.outer % site.node.integer("num_groups", 1) == 0


def _block_signature(site: Site) -> tuple[tuple[str, Attribute], ...]:
    return (("block", site.shapes[0][1] // site.node.integer("num_groups", 1)),)


def _rewrite_blocks(site: Site, widths: Widths) -> Rewritten:
    """The number of blocks, where these keep their width."""
    count = site.node.integer("num_groups", 1)
    if all(_averaged(site, part) for part in widths.inputs[0][1] if part.group is not None):
        return Rewritten()
    return Rewritten({"num_groups": widths.of(widths.inputs[0][1]) * count // site.shapes[0][1]})


def _identity(site: Site, arriving: Interval) -> bool:
    """Scale sqrt(variance + epsilon) and shift mean undo it, with the statistics of the data that arrive."""
    return True


_CHANNEL = (Role.PRODUCE,)
_AFFINE = {1: Slot(Kind.SCALE, _CHANNEL), 2: Slot(Kind.SHIFT, _CHANNEL)}

BATCH_NORMALIZATION = Rule(
    tie=_tie,
    slots={**_AFFINE, 3: Slot(Kind.MEAN, _CHANNEL), 4: Slot(Kind.VARIANCE, _CHANNEL)},
    follows={"epsilon": 1e-5},
    identity=_identity,
    cost=output_cost,
    linear=True,
    doc="inserted with scale and shift calibrated on data",
)
INSTANCE_NORMALIZATION = Rule(
    tie=_tie, slots=_AFFINE, follows={"epsilon": 1e-5}, cost=output_cost, linear=True, doc="each channel by itself"
)
LAYER_NORMALIZATION = Rule(
    tie=_tie_layer,
    slots=_AFFINE,
    follows={"epsilon": 1e-5},
    matching={"axis": -1},
    cost=output_cost,
    linear=True,
    mixes=True,
    even=_normalised,
    doc="a multiple of the mother's width, or more where channels at the mean can be made",
)
GROUP_NORMALIZATION = Rule(
    tie=_tie_blocks,
    slots=_AFFINE,
    follows={"epsilon": 1e-5},
    matching={"num_groups": 1},
    whole_signature=_block_signature,
    counts=("num_groups",),
    rewrite=_rewrite_blocks,
    averaged=_averaged,
    cost=output_cost,
    linear=True,
    mixes=True,
    even=_channels,
    doc="as many groups, each a multiple of the mother's",
)
