"""The parameters of channels at the mean (see `graphs.trees.centred`), and of the normalisations that read them."""

from __future__ import annotations

from math import prod, sqrt

import numpy as np

from mnx.graphs.model import Array, Attribute, Model
from mnx.graphs.mothers.alignment import Alignment
from mnx.graphs.mothers.correspondence import Correspondence
from mnx.graphs.ops.axes import Axis
from mnx.graphs.ops.rule import Kind
from mnx.graphs.trees.centred import ZERO, Centred, centred
from mnx.graphs.trees.structure import Op, Parameter, Structure


class Means:
    """Which groups of a member have channels at the mean, and what that makes of its parameters.

    `shares`: group -> r, the share of its channels that repeat the mother's.
    """

    def __init__(self, mother: Model, member: Structure, alignment: Alignment, found: Correspondence) -> None:
        self._mother, self._alignment = mother, alignment
        self._names = {
            theirs.name: mine.name
            for left, right in alignment.matches
            for mine in left.parameters
            for theirs in right.parameters
            if mine.slot == theirs.slot
        }
        self.shares: dict[int, float] = {}
        for group in member.even & found.carried.keys():
            old, new = found.carried[group], member.groups[group]
            if new % old:
                self.shares[group] = new // old * old / new
        self.centred = centred(member) if self.shares else Centred()

    def group_of(self, axis: Axis) -> int | None:
        """The group of an axis that has channels at the mean, None where it has none."""
        return next((part.group for part in axis if part.group in self.shares), None)

    def scaled(self, op: Op, parameter: Parameter, value: Array, group: int) -> Array:
        """A normalisation's scale, times sqrt(r); other parameters as they are."""
        layer = op.op == "LayerNormalization" and parameter.kind is Kind.SCALE
        if layer or parameter.name in self.centred.root_scales:
            return np.asarray(value * sqrt(self.shares[group]), value.dtype)
        return value

    def row(self, op: Op, parameter: Parameter, value: Array, axis: int) -> Array | float:
        """The entry of a parameter in a channel at the mean, from the mother's entries along `axis`."""
        demand = self.centred.rows.get((op.name, parameter.name))
        if demand == ZERO:
            return 0.0
        if demand is not None and parameter.kind is not Kind.MEAN:
            scales = [self._mother.weights[self._names[name]] for name in demand if name in self._names]
            factors = prod((scale.astype(np.float64).reshape(-1) for scale in scales), start=np.ones(value.shape[axis]))
            shape = [1] * value.ndim
            shape[axis] = -1
            return np.asarray(np.mean(value * factors.reshape(shape), axis=axis, keepdims=True))
        return 1.0 if parameter.kind is Kind.SCALE else 0.0

    def epsilons(self) -> dict[str, Array]:
        """Member's node -> the epsilon that it adds to a mean of squares, times r."""
        found: dict[str, Array] = {}
        for _, right in self._alignment.matches:
            group = self.centred.roots.get(right.name)
            if group in self.shares:
                (number,) = (constant for constant in right.site.constants if constant is not None)
                found[right.name] = np.asarray(number * self.shares[group], number.dtype)
        return found

    def attributes(self) -> dict[str, dict[str, Attribute]]:
        """Member's node -> attributes that it takes over from the mother's: epsilon, times r where r is not 1."""
        changed: dict[str, dict[str, Attribute]] = {}
        for left, right in self._alignment.matches:
            for name, default in right.rule.follows.items():
                wanted = left.site.node.real(name, default)
                group = self.group_of(right.output[-1]) if right.op == "LayerNormalization" else None
                wanted *= 1.0 if group is None else self.shares[group]
                if np.float32(wanted) != np.float32(right.site.node.real(name, default)):
                    changed[right.name] = {name: float(np.float32(wanted))}
        return changed
