"""Hatch a member from its trained mother: every parameter by the growth maps of its axes, then the certificate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from math import sqrt

import numpy as np

from mnx.graphs.certificate import Certificate
from mnx.graphs.errors import GraphError
from mnx.graphs.growth.insert import Statistics, channel_statistics, identity, zero
from mnx.graphs.growth.maps import GrowthMap, axis_map, growth_map, random_of, reordering
from mnx.graphs.growth.shares import placed, shared
from mnx.graphs.model import Array, Model
from mnx.graphs.mothers.alignment import Alignment, Place
from mnx.graphs.mothers.carve import fan_in
from mnx.graphs.mothers.correspondence import Correspondence
from mnx.graphs.mothers.kernels import Window, offsets, window
from mnx.graphs.mothers.matching import How
from mnx.graphs.mothers.mother import embed
from mnx.graphs.ops.axes import Axis, is_fixed, width_of
from mnx.graphs.ops.rule import Kind, Role
from mnx.graphs.run import Batch, run
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.structure import BATCH, Op, Parameter, Structure
from mnx.graphs.verify import Same, certify

SPLITS = ("random", "equal")
"""How the copies of a column share it: by random draws that add up exactly, or equally."""


@dataclass(frozen=True)
class Hatched:
    """A member with its mother's function, and the proof."""

    model: Model
    certificate: Certificate


def hatch(
    mother: Model, member: Model, inputs: Mapping[str, Batch], calibration: str, seed: int, split: str = "random"
) -> Hatched:
    """Give a member's graph its mother's function.

    Args:
        mother: the trained mother.
        member: the member; its own weights stay only in residual branches that the mother does not have.
        inputs: named batches (n, *input shape), or tuples of one such array for every input, that the certificate is
            measured on.
        calibration: which of them inserted BatchNormalizations are calibrated on.
        seed: of the growth maps and shares, with the member's name.
        split: one of `SPLITS`.

    Raises:
        GraphError: the member cannot be grown from this mother, or `split` is unknown.
        NotPreserved: the certificate fails.
    """
    grown, same, exact_modes = grow(mother, member, inputs[calibration], seed, split)
    again = partial(reordered, mother, inputs[calibration], seed)
    return Hatched(grown, certify(mother, grown, inputs, calibration, exact_modes, same, again))


def reordered(mother: Model, calibration: Batch, seed: int) -> Model:
    """The mother with the channels of every group in another order: her own function up to the order of sums."""
    structure = describe(mother)
    alignment, found = embed(structure, structure)
    maps = {group: reordering(width, random_of(seed, f"order {group}")) for group, width in structure.groups.items()}
    growth = _Growth(mother, structure, found, calibration, seed, "random", maps)
    return mother.with_weights(growth.matched(alignment))


def grow(
    mother: Model, member: Model, calibration: Batch, seed: int, split: str = "random"
) -> tuple[Model, tuple[Same, ...], bool]:
    """The grown member without a certificate, which values repeat which, and whether batch statistics are exact."""
    if split not in SPLITS:
        raise GraphError(f"unknown split '{split}': use one of {', '.join(SPLITS)}")
    ours, theirs = describe(mother), describe(member)
    alignment, found = embed(ours, theirs)
    growth = _Growth(mother, theirs, found, calibration, seed, split)
    weights = growth.matched(alignment)
    for op, how, arriving in _inserted(alignment):
        if how is How.IDENTITY:
            width = width_of(arriving.axes[_channels(op)], ours.groups)
            values = dict(identity(op, width, partial(growth.statistics, arriving)))
            weights |= growth.parameters(op, values, _single_tap(op))
        elif how is How.ZERO:
            values = dict(zero(op))
            weights |= {p.name: values[p.slot] for p in op.parameters}
    weights |= _absorbed_biases(mother, member, alignment, growth, weights)
    exact = not any(op.op == "BatchNormalization" and how is How.IDENTITY for op, how, _ in _inserted(alignment))
    return member.with_weights(weights), tuple(_repeats(alignment, growth, theirs)), exact


def _absorbed_biases(
    mother: Model, member: Model, alignment: Alignment, growth: _Growth, weights: Mapping[str, Array]
) -> dict[str, Array]:
    """Means that take up biases which the member has no place for: it normalises there, BN(u) with u = v - b.

    (v - m) / sqrt(s) = (u - (m - b)) / sqrt(s), in eval mode and, by itself, with batch statistics.
    """
    consumers = member.consumers()
    found: dict[str, Array] = {}
    for left, right in alignment.matches:
        if bias := _missing_bias(left, right):
            behind = consumers.get(right.value, [])
            if [node.op for node in behind] != ["BatchNormalization"]:
                raise GraphError(f"'{right.name}' of {member.name} has no bias, nor a normalisation behind to take one")
            mean = behind[0].inputs[3]
            grown = np.take(mother.weights[bias].astype(np.float64), growth.axis(right.output[1]))
            found[mean] = (weights[mean] - grown).astype(np.float32)
    return found


def _missing_bias(left: Op, right: Op) -> str:
    """The name of the mother's bias where the member has none, else ''."""
    slots = {parameter.slot for parameter in right.parameters}
    return next((p.name for p in left.parameters if p.kind is Kind.BIAS and p.slot not in slots), "")


def _inserted(alignment: Alignment) -> list[tuple[Op, How, Place]]:
    return [(op, how, insertion.arriving) for insertion in alignment.only_right for op, how in insertion.ops]


def _repeats(alignment: Alignment, growth: _Growth, member: Structure) -> list[Same]:
    pairs = {right.name: left.value for left, right in alignment.matches if not _missing_bias(left, right)}
    pairs |= {op.name: place.value for op, how, place in _inserted(alignment) if how in (How.IDENTITY, How.JOIN)}
    return [
        Same(op.name, op.op, op.value, pairs[op.name], tuple(map(growth.changed, op.output)))
        for op in member.ops()
        if op.name in pairs and not any(map(_joins_batch, op.output))
    ]


def _joins_batch(axis: Axis) -> bool:
    """Whether an axis joins the batch with channels, so that it has no map of its own."""
    return any(part.group is not None and part.outer * part.inner % BATCH == 0 for part in axis)


def _channels(op: Op) -> int:
    """The axis of an inserted op's output along which its channels lie: the last on tokens, else the one behind the
    batch.
    """
    growing = [place for place, axis in enumerate(op.output) if not is_fixed(axis)]
    return growing[0] if growing else 1


def _single_tap(op: Op) -> Window | None:
    """The window of a 1x1 kernel that reads, unpadded, what the op's kernel reads at its centre."""
    full = window(op)
    if full is None:
        return None
    ones = (1,) * len(full.size)
    none = (0,) * len(full.size)
    return Window(ones, none, none, full.dilations)


@dataclass
class _Growth:
    mother: Model
    member: Structure
    found: Correspondence
    calibration: Batch
    seed: int
    split: str
    maps: dict[int, GrowthMap] = field(default_factory=dict)
    known: dict[str, Statistics] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for group, width in self.found.carried.items():
            if group in self.maps:
                continue
            random = random_of(self.seed, self.member.name, f"group {group}")
            self.maps[group] = growth_map(width, self.member.groups[group], random)

    def axis(self, axis: Axis) -> GrowthMap:
        """The growth map of a member's axis."""
        return axis_map(axis, self.maps, self.found.carried)

    def changed(self, axis: Axis) -> GrowthMap | None:
        """The growth map of a member's axis, None where its width never changes."""
        return None if is_fixed(axis) else self.axis(axis)

    def statistics(self, place: Place) -> Statistics:
        """Statistics of what arrives at a place of the mother on the calibration batch, by its own statistics."""
        if place.value not in self.known:
            value = run(self.mother, self.calibration, [place.value], batch_statistics=True)[place.value]
            self.known[place.value] = channel_statistics(value)
        return self.known[place.value]

    def matched(self, alignment: Alignment) -> dict[str, Array]:
        """The parameters of every op that the mother has too."""
        found: dict[str, Array] = {}
        for left, right in alignment.matches:
            values = {p.slot: self.mother.weights[p.name] for p in left.parameters}
            found |= self.parameters(right, values, window(left))
        return found

    def parameters(self, op: Op, values: Mapping[int, Array], small: Window | None) -> dict[str, Array]:
        """The parameters of a member's op, given those of the mother's op by slot."""
        return {p.name: self._parameter(op, p, values.get(p.slot), small) for p in op.parameters}

    def _parameter(self, op: Op, parameter: Parameter, value: Array | None, small: Window | None) -> Array:
        if value is None:
            return np.zeros(parameter.shape, dtype=np.float32)
        full = window(op)
        if full is not None and small is not None and value.ndim > 1:
            start = offsets(small, full)
            if start is None:
                raise GraphError(f"the kernel of '{op.name}' of {self.member.name} does not hold the mother's")
            spatial = tuple(axis for axis, role in enumerate(parameter.roles) if role is Role.KERNEL)
            value = placed(value, spatial, full.size, start)
        for axis, role in enumerate(parameter.roles):
            if role is Role.PRODUCE:
                value = np.take(value, self.axis(parameter.axes[axis]), axis=axis)
        for axis, role in enumerate(parameter.roles):
            if role is Role.CONTRACT:
                value = shared(value, axis, self.axis(parameter.axes[axis]), self._draws(op, parameter, value, axis))
        return np.ascontiguousarray(value, dtype=np.float32)

    def _draws(self, op: Op, parameter: Parameter, value: Array, axis: int) -> Array | None:
        if self.split == "equal" or parameter.kind is not Kind.WEIGHT:
            return None
        shape = list(value.shape)
        shape[axis] = parameter.shape[axis]
        random = random_of(self.seed, self.member.name, parameter.name)
        return np.asarray(random.standard_normal(shape, dtype=np.float32) * self._scale(op, parameter, value))

    def _scale(self, op: Op, parameter: Parameter, value: Array) -> Array:
        """The size of draws: that of the mother's row, so that shares that cancel do not drown it in rounding.

        Weight decay makes the rows before a normalisation far smaller than a fresh initialisation. Rows of nearly
        nothing get a thousandth of a fresh one's size, so that copies differ even there.
        """
        fresh = sqrt(2.0 / fan_in(op, parameter))
        rows = tuple(axis for axis, role in enumerate(parameter.roles) if role is not Role.PRODUCE)
        size = np.sqrt(np.mean(np.square(value, dtype=np.float64), axis=rows, keepdims=True))
        return np.asarray(np.clip(size, 1e-3 * fresh, fresh), dtype=np.float32)
