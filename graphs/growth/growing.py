"""The parameters of a member, from her mother's: every axis by its growth map, every op by how it is aligned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from mnx.graphs.errors import GraphError
from mnx.graphs.growth.codes import Code, code_of, coded_rows, constant_behind, decoded_columns, doubled
from mnx.graphs.growth.draws import blocks, draw_size, matching, uniform
from mnx.graphs.growth.insert import Statistics, channel_statistics, identity, zero
from mnx.graphs.growth.maps import (
    GrowthMap,
    axis_map,
    growth_map,
    is_same,
    map_with_means,
    random_of,
    run_length,
    taken,
)
from mnx.graphs.growth.means import Means
from mnx.graphs.growth.queries import Queries
from mnx.graphs.growth.shares import copied, placed, shared
from mnx.graphs.model import Array, Model
from mnx.graphs.mothers.alignment import Alignment, Place
from mnx.graphs.mothers.carve import fresh
from mnx.graphs.mothers.correspondence import Correspondence
from mnx.graphs.mothers.kernels import Window, offsets, window
from mnx.graphs.mothers.matching import How
from mnx.graphs.mothers.passages import SMALL
from mnx.graphs.ops.axes import Axis, is_fixed, width_of
from mnx.graphs.ops.rule import Kind, Role
from mnx.graphs.run import Batch, run
from mnx.graphs.trees.structure import Op, Parameter, Structure

_ROWS = (Kind.WEIGHT, Kind.BIAS, Kind.SCALE, Kind.SHIFT)
"""What a linear op's result is made of: multiplied together, the result is."""

SPLITS = ("random", "equal")
"""How the copies of a column share it: by random draws that add up exactly, or equally."""


@dataclass(frozen=True)
class Style:
    """How a network is grown.

    Attributes:
        seed: of maps, shares and fresh weights, with the member's name.
        split: one of `SPLITS`.
        fresh: the share of further channels that are fresh instead of repeating an old one, from 0 to 1.

    Raises:
        GraphError: the split is unknown, or the share is none.
    """

    seed: int = 0
    split: str = "random"
    fresh: float = 0.0

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise GraphError(f"unknown split '{self.split}': use one of {', '.join(SPLITS)}")
        if not 0 <= self.fresh <= 1:
            raise GraphError(f"fresh = {self.fresh}: give the share of further channels, from 0 to 1")


@dataclass
class Growing:
    """One member in growth.

    Attributes:
        mother: the trained mother; her weights' float type is the result's.
        ours: her structure.
        model: the member.
        member: its structure.
        alignment: how it contains her.
        found: which groups carry how many of her channels.
        calibration: a batch that statistics are measured on.
        style: how it grows.
        maps: member's group -> growth map; those not given are drawn.
    """

    mother: Model
    ours: Structure
    model: Model
    member: Structure
    alignment: Alignment
    found: Correspondence
    calibration: Batch
    style: Style
    maps: dict[int, GrowthMap] = field(default_factory=dict)
    old: dict[int, int] = field(default_factory=dict)
    codes: dict[int, Code] = field(default_factory=dict)
    _known: dict[str, Statistics] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.precision = next((a.dtype for a in self.mother.weights.values() if a.dtype.kind == "f"), np.dtype("f4"))
        passages = self.alignment.passages[1]
        arriving = {each.passage.group: each.arriving for each in self.alignment.only_right if each.passage}
        for group, passage in passages.items():
            largest = self._largest(arriving[group]) if passage.kind == "small" else 1.0
            self.codes[group] = code_of(passage, largest, SMALL)
        self.means = Means(self.mother, self.member, self.alignment, self.found)
        self.queries = Queries(self.ours, self.member, self.alignment)
        self._dotted = self.member.dotted
        for group, width in self.found.carried.items():
            self.old[group] = width * (passages[group].copies if group in passages else 1)
            if group not in self.maps:
                self.maps[group] = self._drawn_map(group)

    def _drawn_map(self, group: int) -> GrowthMap:
        old, new = self.old[group], self.member.groups[group]
        random = random_of(self.style.seed, self.member.name, f"group {group}")
        if group in self.means.shares:
            return map_with_means(old, new, random)
        if group in self._dotted:
            return np.arange(new, dtype=np.int64)
        return growth_map(old, new, random, 0.0 if group in self.member.even else self.style.fresh)

    def axis(self, axis: Axis) -> GrowthMap:
        """The growth map of a member's axis."""
        return axis_map(axis, self.maps, self.old)

    def changed(self, axis: Axis) -> GrowthMap | None:
        """The growth map of a member's axis, None where its width never changes."""
        return None if is_fixed(axis) else self.axis(axis)

    def is_coded(self, op: Op) -> bool:
        """Whether the op's output is in code, so that it repeats no value of the mother."""
        return any(part.group in self.codes for axis in op.output for part in axis)

    def weights(self) -> dict[str, Array]:
        """The parameters of every op but those of the member's own."""
        found = self.matched()
        for op, how, arriving in inserted(self.alignment):
            if how is How.IDENTITY:
                width = width_of(arriving.axes[_channels(op)], self.ours.groups)
                unit = identity(op, width, partial(self.statistics, arriving))
                values = {slot: array.astype(self.precision) for slot, array in unit.items()}
                found |= self.parameters(op, values, _single_tap(op))
            elif how is How.ZERO:
                values = dict(zero(op))
                found |= {p.name: values[p.slot].astype(self.precision) for p in op.parameters}
        found |= self._behind(found)
        return found | self.exchanged(found)

    @property
    def veiled(self) -> frozenset[str]:
        """The member's nodes whose values are not those of the mother, for a neighbour takes something over."""
        exchanges = [insertion.exchange for insertion in self.alignment.only_right if insertion.exchange]
        return frozenset().union(*(exchange.veiled for exchange in exchanges))

    def exchanged(self, values: Mapping[str, Array], power: int = 1, plain: float = 1.0) -> dict[str, Array]:
        """What neighbours of inserted gates and normalisations take over, in order of insertion.

        Args:
            values: by the member's parameter; where some are missing, they are left out.
            power: of the factor that a neighbour's parameters are multiplied by.
            plain: the scale of a normalisation that has handed on its own.
        """
        ops = {op.name: op for op in self.member.ops()}
        known = dict(values)
        for insertion in self.alignment.only_right:
            exchange = insertion.exchange
            if exchange is None:
                continue
            for name in (exchange.rows, *exchange.columns):
                kinds = _ROWS if name == exchange.rows else (Kind.WEIGHT,)
                for parameter in ops[name].parameters if name else ():
                    if parameter.kind in kinds and parameter.name in known:
                        known[parameter.name] = known[parameter.name] * self.precision.type(exchange.factor**power)
            if exchange.source and isinstance(insertion.unit, Op):
                old = {parameter.slot: parameter for parameter in ops[exchange.source].parameters}
                for parameter in insertion.unit.parameters:
                    source = old[parameter.slot].name
                    if source in known:
                        known[parameter.name] = known[source]
                        value = plain if parameter.kind is Kind.SCALE else 0.0
                        known[source] = np.full(parameter.shape, value, self.precision)
        return known

    def matched(self) -> dict[str, Array]:
        """The parameters of every op that the mother has too."""
        found: dict[str, Array] = {}
        for left, right in self.alignment.matches:
            values = {p.slot: self.mother.weights[p.name] for p in left.parameters}
            found |= self.parameters(right, values, window(left))
        return found

    def in_kernel(self, op: Op, parameter: Parameter, value: Array, small: Window | None) -> Array:
        """What the mother has for a parameter, where its op's kernel holds hers; zeros around."""
        full = window(op)
        if full is None or small is None or value.ndim < 2:
            return value
        start = offsets(small, full)
        if start is None:
            raise GraphError(f"the kernel of '{op.name}' of {self.member.name} does not hold the mother's")
        spatial = tuple(axis for axis, role in enumerate(parameter.roles) if role is Role.KERNEL)
        return placed(value, spatial, full.size, start)

    def parameters(self, op: Op, values: Mapping[int, Array], small: Window | None) -> dict[str, Array]:
        """The parameters of a member's op, given those of the mother's op by slot."""
        values = self._decoding(op, values)
        return {p.name: self._parameter(op, p, values.get(p.slot), small) for p in op.parameters}

    def statistics(self, place: Place) -> Statistics:
        """Statistics of what arrives at a place of the mother on the calibration batch, by its own statistics."""
        if place.value not in self._known:
            self._known[place.value] = channel_statistics(self._value(place))
        return self._known[place.value]

    def _largest(self, place: Place) -> float:
        return float(np.max(np.abs(self._value(place)), initial=0.0))

    def _value(self, place: Place) -> Array:
        precision = "float64" if self.precision == np.float64 else "float32"
        wanted = [place.value]
        return run(self.mother, self.calibration, wanted, batch_statistics=True, precision=precision)[place.value]

    def _parameter(self, op: Op, parameter: Parameter, value: Array | None, small: Window | None) -> Array:
        if value is None:
            return np.zeros(parameter.shape, dtype=self.precision)
        value = self.in_kernel(op, parameter, value, small)
        for axis, role in enumerate(parameter.roles):
            if role is Role.PRODUCE:
                value = self._rows(op, parameter, value, axis)
        for axis, role in enumerate(parameter.roles):
            if role is Role.CONTRACT:
                value = self._columns(op, parameter, value, axis)
        return np.ascontiguousarray(value, dtype=self.precision)

    def _rows(self, op: Op, parameter: Parameter, value: Array, axis: int) -> Array:
        for group in self.coded(parameter.axes[axis]):
            code = self.codes[group]
            if op.name in (code.passage.linear, *code.passage.coding) or value.shape[axis] < self.old_width(
                parameter, axis
            ):
                entries, marks = self._doubled(parameter.axes[axis], group)
                front = coded_rows(op, parameter, np.moveaxis(value, axis, 0), code, entries, marks)
                value = np.moveaxis(front, 0, axis)
        growth, old = self.axis(parameter.axes[axis]), value.shape[axis]
        return self.queries.row(op, parameter, self._repeated(op, parameter, value, axis, growth), axis, growth, old)

    def _repeated(self, op: Op, parameter: Parameter, value: Array, axis: int, growth: GrowthMap) -> Array:
        """Rows by their map: those of old channels repeated, means, and fresh ones."""
        if (growth < value.shape[axis]).all():
            return taken(value, axis, growth)
        made = len(np.unique(growth[growth >= value.shape[axis]]))
        if (mean := self.means.group_of(parameter.axes[axis])) is not None:
            scaled, row = self.means.scaled(op, parameter, value, mean), self.means.row(op, parameter, value, axis)
            return taken(scaled, axis, growth, row if isinstance(row, float) else np.repeat(row, made, axis))
        return taken(value, axis, growth, self._fresh(op, parameter, value, axis, made))

    def _columns(self, op: Op, parameter: Parameter, value: Array, axis: int) -> Array:
        for group in self.coded(parameter.axes[axis]):
            entries, marks = self._doubled(parameter.axes[axis], group)
            front = decoded_columns(np.moveaxis(value, axis, 0), self.codes[group], entries, marks)
            value = np.moveaxis(front, 0, axis)
        growth = self.axis(parameter.axes[axis])
        if is_same(growth, value.shape[axis]):
            return value
        result = self._shares(op, parameter, value, axis, growth)
        if self.means.group_of(parameter.axes[axis]) is not None and op.name in self.means.centred.settled:
            made = np.flatnonzero(growth >= value.shape[axis])
            result[(slice(None),) * axis + (made,)] = self._fresh(op, parameter, result, axis, len(made))
        return result

    def _shares(self, op: Op, parameter: Parameter, value: Array, axis: int, growth: GrowthMap) -> Array:
        """The columns split among their copies, part by part, where neighbours go together as runs."""
        run = run_length(growth, value.shape[axis]) if axis else 1
        inside = (run,) if run > 1 else ()
        before, old, behind = value.shape[:axis], value.shape[axis], value.shape[axis + 1 :]
        runs, parts = growth[::run] // run, value.reshape(*before, old // run, *inside, *behind)
        result = np.empty((*before, len(runs), *inside, *behind), value.dtype)
        random = random_of(self.style.seed, self.member.name, parameter.name)
        equal = self.style.split == "equal" or parameter.kind is not Kind.WEIGHT
        scale = None if equal else draw_size(op, parameter, value)
        if scale is not None and inside:
            scale = np.expand_dims(scale, axis)
        sharing = len(copied(runs))
        for block in blocks(parts, axis):
            part = parts[block]
            draws = None if scale is None else uniform(random, part, axis, sharing, scale[matching(scale, block)])
            result[block] = shared(part, axis, runs, draws)
        return result.reshape(*before, len(growth), *behind)

    def coded(self, axis: Axis) -> list[int]:
        """The groups of an axis that are in code."""
        return [group for group in self.codes if any(part.group == group for part in axis)]

    def old_width(self, parameter: Parameter, axis: int) -> int:
        """How wide an axis of a member's parameter is in the mother."""
        return width_of(parameter.axes[axis], self.old)

    def _doubled(self, axis: Axis, group: int) -> tuple[GrowthMap, GrowthMap]:
        return doubled(axis, group, self.found.carried[group], self.codes[group].passage.copies, self.old)

    def _fresh(self, op: Op, parameter: Parameter, value: Array, axis: int, count: int) -> Array:
        """So many fresh rows along `axis`, drawn as for a new network, in the shape that the value has so far."""
        shape = (*value.shape[:axis], count, *value.shape[axis + 1 :])
        return fresh(op, parameter, self.style.seed, self.member.name, shape)

    def _decoding(self, op: Op, values: Mapping[int, Array]) -> Mapping[int, Array]:
        """The mother's parameters where a shift is undone in a bias, or in a mean."""
        for code in self.codes.values():
            if not code.shift or op.name not in code.passage.settling:
                continue
            group = code.passage.group
            if op.op == "BatchNormalization":
                moved = {
                    p.slot: values[p.slot] + code.shift * self._is_of(p.axes[0], group)
                    for p in op.parameters
                    if p.kind is Kind.MEAN
                }
                values = {**values, **moved}
                continue
            bias = next((p for p in op.parameters if p.kind is Kind.BIAS), None)
            if bias is not None:
                known = values.get(bias.slot, 0.0)
                values = {**values, bias.slot: known + self._constant(op, values, code)}
        return values

    def _constant(self, op: Op, values: Mapping[int, Array], code: Code) -> Array:
        weight = next(p for p in op.parameters if p.kind is Kind.WEIGHT)
        axis = weight.axes[weight.roles.index(Role.CONTRACT)]
        coded = np.flatnonzero(self._is_of(axis, code.passage.group))
        return constant_behind(op, weight, values[weight.slot], code, coded)

    def _is_of(self, axis: Axis, group: int) -> Array:
        """Of every old entry of an axis whether it belongs to a group."""
        sizes = [width_of((part,), self.found.carried) for part in axis]
        return np.repeat([part.group == group for part in axis], sizes)

    def _behind(self, weights: Mapping[str, Array]) -> dict[str, Array]:
        """Means that take up biases which the member has no place for: it normalises there, BN(u) with u = v - b.

        (v - m) / sqrt(s) = (u - (m - b)) / sqrt(s), in eval mode and, by itself, with batch statistics.
        """
        consumers = self.model.consumers()
        found: dict[str, Array] = {}
        for left, right in self.alignment.matches:
            bias = missing_bias(left, right)
            values = {p.slot: self.mother.weights[p.name] for p in left.parameters}
            shifts = [
                self._constant(right, values, code)
                for code in self.codes.values()
                if code.shift and right.name in code.passage.settling and right.op != "BatchNormalization"
                if not any(p.kind is Kind.BIAS for p in right.parameters)
            ]
            if not bias and not shifts:
                continue
            behind = consumers.get(right.value, [])
            if [node.op for node in behind] != ["BatchNormalization"]:
                raise GraphError(
                    f"'{right.name}' of {self.model.name} has no bias, nor a normalisation behind to take one"
                )
            mean = behind[0].inputs[3]
            missing: Array = sum(shifts, self.mother.weights[bias].astype(np.float64) if bias else np.zeros(1))
            grown = taken(missing, 0, self.axis(right.output[1]))
            found[mean] = (weights[mean] - grown).astype(self.precision)
        return found


def missing_bias(left: Op, right: Op) -> str:
    """The name of the mother's bias where the member has none, else ''."""
    slots = {parameter.slot for parameter in right.parameters}
    return next((p.name for p in left.parameters if p.kind is Kind.BIAS and p.slot not in slots), "")


def inserted(alignment: Alignment) -> list[tuple[Op, How, Place]]:
    """The ops that the member has alone, how each is set, and what arrives."""
    return [(op, how, insertion.arriving) for insertion in alignment.only_right for op, how in insertion.ops]


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
