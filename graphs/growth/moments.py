"""What an optimiser keeps of a mother's parameters, grown with a member: as if the member had been there all along.

With the function kept, what is propagated back to a channel is shared by its copies: d'_j = s_j d_k, where the shares
s_j of channel k add up to 1. Of a linear layer with gradient G = d h^T, whose inputs h repeat,

    G'[j, l] = s_j G[k, m]        row j repeats k, column l repeats m: rows are shared, columns repeated

and so of every bias, scale and shift, behind normalisation by the batch too. A moving sum of gradients grows alike; one
of their squares by s_j^2. Weights grow the other way round (rows repeat, columns are shared), so that a step along what
is grown here moves the sum in front of channel j by (copies of m) * s_j of what it moved in the mother: a member learns
at a pace of its own, which is that of its gradients from now on.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mnx.graphs.growth.growing import Growing
from mnx.graphs.growth.maps import GrowthMap, taken
from mnx.graphs.model import Array
from mnx.graphs.mothers.kernels import Window, window
from mnx.graphs.ops.rule import Role
from mnx.graphs.trees.structure import Op, Parameter


def moments(growing: Growing, values: Mapping[str, Array], power: int = 1) -> dict[str, Array]:
    """What an optimiser keeps of every parameter, grown with a member, in the member's shapes.

    Rows are shared equally by the copies of a channel, columns repeat. Fresh channels, new taps of kernels, inserted
    layers and what stands in code begin with 0. Where a neighbour of an inserted unit takes something over (see
    `mothers.exchanges`), what is multiplied by f has 1 / f of the gradient.

    Exact, against the gradients that the hatched member has on the same examples: with equal split and as many channels
    as a LayerNormalization or GroupNormalization can repeat evenly, every number of a layer that has its mother's
    kernel, and the old taps of one that has grown. With random split the sums over the copies of a channel are exact,
    and single ones are their mean. Not exact: the part of a momentum that comes from weight decay, which follows the
    weights; clipping, for the norm of all gradients is another; layers in front of an inserted BatchNormalization, in
    training; neighbours of channels at the mean; a parameter that several ops read.

    Args:
        growing: the member's growth.
        values: by the mother's parameter, in its shape; those she does not name are left out.
        power: 1 for moving sums of gradients, 2 for those of their squares.
    """
    found: dict[str, Array] = {}
    for left, right in growing.alignment.matches:
        theirs = {parameter.slot: parameter for parameter in right.parameters}
        for mine in left.parameters:
            if mine.name in values and mine.slot in theirs:
                parameter = theirs[mine.slot]
                found[parameter.name] = _moment(growing, right, parameter, values[mine.name], window(left), power)
    return growing.exchanged(found, -power, 0.0)


def _moment(growing: Growing, op: Op, parameter: Parameter, value: Array, small: Window | None, power: int) -> Array:
    if any(growing.coded(axis) for axis in parameter.axes):
        return np.zeros(parameter.shape, growing.precision)
    value = growing.in_kernel(op, parameter, value, small)
    for axis, role in enumerate(parameter.roles):
        if role in (Role.PRODUCE, Role.CONTRACT):
            growth = growing.axis(parameter.axes[axis])
            value = taken(value, axis, growth)
            if role is Role.PRODUCE:
                shape = [1] * value.ndim
                shape[axis] = -1
                value = value * equal_shares(growth).astype(value.dtype).reshape(shape) ** power
    return np.ascontiguousarray(value, dtype=growing.precision)


def equal_shares(growth: GrowthMap) -> Array:
    """The share that every channel has of what reaches all that repeat the same one. Shape of the map."""
    return np.asarray(1 / np.bincount(growth)[growth])
