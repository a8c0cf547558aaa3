"""The rows of queries where scores are scaled by another number or heads grow wider (see `graphs.trees.attention`).

scale' (q' k'^T) = scale (q k^T)        q' = q scale / scale' in old channels; k' as it comes

New channels of a head are 0 in the queries; those of a new head are as they come.
"""

from __future__ import annotations

import numpy as np

from mnx.graphs.growth.maps import GrowthMap
from mnx.graphs.model import Array
from mnx.graphs.mothers.alignment import Alignment
from mnx.graphs.trees.attention import Mask, attention_of
from mnx.graphs.trees.structure import Op, Parameter, Structure


class Queries:
    """Which channels of a member's parameters make queries, and what they are multiplied by."""

    def __init__(self, mother: Structure, member: Structure, alignment: Alignment) -> None:
        self._rows: dict[tuple[str, str], tuple[Mask, float, float]] = {}
        if not member.attentions:
            return
        ours, theirs = list(mother.ops()), list(member.ops())
        for left, right in alignment.matches:
            if right.name not in member.attentions:
                continue
            old, new = attention_of(left, ours), attention_of(right, theirs)
            if old is not None and new is not None:
                factor, fresh = old.scale / new.scale, 0.0 if right.name in member.products else 1.0
                if (factor, fresh) != (1.0, 1.0):
                    self._rows |= {key: (mask, factor, fresh) for key, mask in new.rows.items()}

    def row(self, op: Op, parameter: Parameter, value: Array, axis: int, growth: GrowthMap, old: int) -> Array:
        """A parameter with the rows of queries as they must be, along an axis that grew; others as they are."""
        if (op.name, parameter.name) not in self._rows:
            return value
        mask, factor, fresh = self._rows[op.name, parameter.name]
        factors = np.where(mask, np.where(growth < old, factor, fresh), 1.0)
        return np.asarray(value * factors.reshape([-1 if place == axis else 1 for place in range(value.ndim)]))
