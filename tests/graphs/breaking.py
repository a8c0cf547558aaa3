"""How the rules of growth are broken: each takes a rule and gives one that is wrong."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from strategies import Array

from mnx.graphs.growth.codes import Code
from mnx.graphs.growth.maps import GrowthMap, taken
from mnx.graphs.mothers.kernels import Window
from mnx.graphs.mothers.passages import Bend
from mnx.graphs.ops.axes import Axis
from mnx.graphs.ops.rule import Kind
from mnx.graphs.trees.structure import Op, Parameter

Rule: TypeAlias = Callable[..., Any]
Breaking: TypeAlias = Callable[[Rule], Rule]


def always(answer: Any) -> Breaking:
    """A rule that gives the same whatever it is asked."""
    return lambda rule: lambda *_: answer


def then(change: Callable[[Any], Any]) -> Breaking:
    """A rule whose every answer is changed."""
    return lambda rule: lambda *arguments: change(rule(*arguments))


def at_call(number: int, change: Callable[[Any], Any]) -> Breaking:
    """A rule that goes wrong the one time that it is asked for the `number`-th answer."""

    def breaking(rule: Rule) -> Rule:
        count = iter(range(10**6))

        def broken(*arguments: Any) -> Any:
            answer = rule(*arguments)
            return change(answer) if next(count) == number else answer

        return broken

    return breaking


def rolled(value: Array) -> Array:
    return np.roll(value, 1)


def flipped(value: Array) -> Array:
    """Kernels, or what else has as many axes, mirrored."""
    return value[..., ::-1] if value.ndim > 2 else value


def off(value: Any) -> Any:
    """A thousandth too much."""
    return value * value.dtype.type(1.001)


def each(change: Callable[[Array], Array]) -> Callable[[Mapping[Any, Array]], dict[Any, Array]]:
    return lambda values: {key: np.asarray(change(array)) for key, array in values.items()}


def without_first(growth: GrowthMap) -> GrowthMap:
    """A map that has no place for the first channel."""
    return np.where(growth == 0, 1, growth)


def whole_columns(rule: Rule) -> Rule:
    def broken(weight: Array, axis: int, growth: GrowthMap, fresh: Array | None) -> Array:
        return np.take(weight, growth, axis=axis)

    return broken


def sums_too_large(factor: float) -> Breaking:
    def breaking(rule: Rule) -> Rule:
        def broken(weight: Array, axis: int, growth: GrowthMap, fresh: Array | None) -> Array:
            copied = len(growth) > weight.shape[axis]
            return np.asarray(rule(weight, axis, growth, fresh) * (factor if copied else 1.0), weight.dtype)

        return broken

    return breaking


def draws_as_they_are(rule: Rule) -> Rule:
    def broken(weight: Array, axis: int, growth: GrowthMap, fresh: Array | None) -> Array:
        if fresh is None or not fresh.shape[axis]:
            return np.asarray(rule(weight, axis, growth, fresh))
        return np.asarray(
            np.resize(fresh, [*weight.shape[:axis], len(growth), *weight.shape[axis + 1 :]]), weight.dtype
        )

    return broken


def shares_by_average_count(rule: Rule) -> Rule:
    def broken(weight: Array, axis: int, growth: GrowthMap, fresh: Array | None) -> Array:
        return np.take(weight, growth, axis=axis) * np.float32(weight.shape[axis] / len(growth))

    return broken


def channels_innermost(rule: Rule) -> Rule:
    """Flatten([C, H, W]) read as if the channels were the last axis."""

    def broken(axis: Axis, maps: Mapping[int, GrowthMap], widths: Mapping[int, int]) -> GrowthMap:
        (*_, part) = axis
        if part.group is None or part.inner == 1:
            return np.asarray(rule(axis, maps, widths))
        old = widths[part.group]
        return (np.arange(part.inner)[:, None] * old + maps[part.group]).reshape(-1)

    return broken


def parts_without_offset(rule: Rule) -> Rule:
    """The branches of a Concat read as if each began at channel 0."""

    def broken(axis: Axis, maps: Mapping[int, GrowthMap], widths: Mapping[int, int]) -> GrowthMap:
        return np.concatenate([rule((part,), maps, widths) for part in axis])

    return broken


def kernel_in_the_corner(rule: Rule) -> Rule:
    def broken(weight: Array, axes: tuple[int, ...], sizes: tuple[int, ...], offsets: tuple[int, ...]) -> Array:
        return np.asarray(rule(weight, axes, sizes, (0,) * len(offsets)))

    return broken


def kernel_one_row_off(rule: Rule) -> Rule:
    def broken(weight: Array, axes: tuple[int, ...], sizes: tuple[int, ...], offsets: tuple[int, ...]) -> Array:
        return np.asarray(rule(weight, axes, sizes, (offsets[0] + 1, *offsets[1:])))

    return broken


def unit_off_by_one(rule: Rule) -> Rule:
    def broken(op: Op, width: int, arriving: Rule) -> Mapping[int, Array]:
        answer = dict(rule(op, width, arriving))
        return {**answer, 1: np.roll(answer[1], 1, axis=0)} if op.op in ("Conv", "Gemm") else answer

    return broken


def norm_as_it_starts(rule: Rule) -> Rule:
    def broken(op: Op, width: int, arriving: Rule) -> Mapping[int, Array]:
        if op.op != "BatchNormalization":
            return dict(rule(op, width, arriving))
        starts = {Kind.SCALE: 1.0, Kind.SHIFT: 0.0, Kind.MEAN: 0.0, Kind.VARIANCE: 1.0}
        return {p.slot: np.full(width, starts[p.kind], np.float32) for p in op.parameters}

    return broken


def norm_without(kind: Kind) -> Breaking:
    """An inserted norm of which one parameter is not calibrated."""

    def breaking(rule: Rule) -> Rule:
        def broken(op: Op, width: int, arriving: Rule) -> Mapping[int, Array]:
            answer = dict(rule(op, width, arriving))
            ones = {p.slot: np.ones(width, np.float32) for p in op.parameters if p.kind is kind}
            return {**answer, **ones} if op.op == "BatchNormalization" else answer

        return broken

    return breaking


def unbiased_variance(rule: Rule) -> Rule:
    def broken(value: Array) -> tuple[Array, Array]:
        mean, variance = rule(value)
        count = value.size // value.shape[1]
        return mean, variance * count / (count - 1)

    return broken


def branch_left_open(kind: Kind) -> Breaking:
    """An inserted residual branch whose last norm keeps one parameter at 1."""

    def breaking(rule: Rule) -> Rule:
        def broken(op: Op) -> Mapping[int, Array]:
            answer = dict(rule(op))
            return {**answer, **{p.slot: np.ones(p.shape, np.float32) for p in op.parameters if p.kind is kind}}

        return broken

    return breaking


def only_first_copies(kind: Kind, rest: float) -> Breaking:
    """A parameter that the copies of a channel do not get."""

    def breaking(rule: Rule) -> Rule:
        def broken(self: Any, op: Op, parameter: Parameter, value: Array | None, small: Any) -> Array:
            answer = np.array(rule(self, op, parameter, value, small))
            if parameter.kind is kind and value is not None:
                answer[len(value) :] = rest
            return answer

        return broken

    return breaking


def own_fresh_rows(rule: Rule) -> Rule:
    """Of fresh channels that should repeat one another the last has a row of its own."""

    def broken(value: Array, axis: int, growth: GrowthMap, fresh: Array | float = 0.0) -> Array:
        result = np.array(rule(value, axis, growth, fresh))
        if not isinstance(fresh, float):
            np.moveaxis(result, axis, 0)[np.flatnonzero(growth >= value.shape[axis])[-1]] += 1.0
        return result

    return broken


def fresh_columns_of(number: float) -> Breaking:
    """Columns of fresh channels that add up to something."""
    return lambda rule: lambda weight, axis, growth: taken(weight, axis, growth, number)


def half_signs(code: Code) -> Code:
    """A code without signs and shift."""
    return Code(code.passage, tuple(abs(sign) for sign in code.signs), code.gain)


def gain_off(code: Code) -> Code:
    return replace(code, gain=1.001 * code.gain)


def marks_rolled(answer: tuple[GrowthMap, GrowthMap]) -> tuple[GrowthMap, GrowthMap]:
    """Copies are taken for one another."""
    entries, marks = answer
    return entries, np.where(marks < 0, marks, 1 - marks)


def without_shift(rule: Rule) -> Rule:
    """Rows in code whose bias is not moved."""

    def broken(op: Op, parameter: Parameter, value: Array, code: Code, *maps: GrowthMap) -> Array:
        return np.asarray(rule(op, parameter, value, replace(code, passage=replace(code.passage, shift=0.0)), *maps))

    return broken


def ungained(rule: Rule) -> Rule:
    """Columns that take back signs alone."""
    return lambda value, code, *maps: rule(value, replace(code, gain=1.0), *maps)


def without_scale(rule: Rule) -> Rule:
    """A naive LayerNormalization: its scale does not know of the channels at the mean."""
    return lambda means, op, parameter, value, group: value


def tap_in_the_corner(answer: Window | None) -> Window | None:
    """An inserted layer that reads its neighbour's position."""
    if answer is None:
        return None
    ones = (1,) * len(answer.size)
    return replace(answer, begins=ones, ends=tuple(-one for one in ones))


def plain_mirror(answer: Bend | None) -> Bend | None:
    return answer and replace(answer, mirror=1.0 if answer.mirror else 0.0)


def less_shifted(rule: Rule) -> Rule:
    """A shift that does not reach the straight part."""

    def broken(*arguments: Any) -> Any:
        for passage in rule(*arguments):
            yield replace(passage, shift=passage.shift / 4)

    return broken


def past_everything(rule: Rule) -> Rule:
    """What has no parameter keeps all that is done before it."""

    def broken(passage: Any, series: Any, keeps: Any) -> Any:
        return rule(passage, tuple(unit for unit in series if isinstance(unit, Op) and unit.parameters), keeps)

    return broken


def not_taken_over(answer: Any) -> Any:
    """A gate whose factor nobody takes back."""
    if answer is None:
        return None
    ops, exchange = answer
    return ops, replace(exchange, factor=1.0)


def not_handed_over(answer: Any) -> Any:
    if answer is None:
        return None
    ops, exchange = answer
    return ops, replace(exchange, source="")


def every_op_settled(rule: Rule) -> Rule:
    """Channels at the mean are read as if they were zero, also where no normalisation stands before."""

    def broken(search: Any) -> None:
        rule(search)
        search.settled |= {op.name for op in search.ops}

    return broken


def no_demand(rule: Rule) -> Rule:
    """A layer scale that channels at the mean are not multiplied by."""

    def broken(search: Any, op: Op, parameter: Parameter, demand: Any, reads: list[str]) -> bool:
        if op.op != "Mul":
            return bool(rule(search, op, parameter, demand, reads))
        search.scales.add(parameter.name)
        return bool(search._want(reads[0], demand))

    return broken


def columns_repeated(rule: Rule) -> Rule:
    """Columns that all copies get whole."""

    def broken(self: Any, op: Op, parameter: Parameter, value: Array, axis: int) -> Array:
        return taken(value, axis, self.axis(parameter.axes[axis]))

    return broken


def rows_as_they_come(rule: Rule) -> Rule:
    """Heads whose width grows unscaled, with queries that see the new channels of keys."""
    return lambda self, op, parameter, value, axis, growth, old: value


def unscaled(answer: Any) -> Any:
    """Heads whose queries do not make up for another scale."""
    return answer and replace(answer, scales={})


def all_marked(mask: Array) -> Array:
    """Keys and values taken for queries."""
    return np.ones_like(mask)


def last_two_swapped(growth: GrowthMap) -> GrowthMap:
    """Blocks that are torn apart."""
    return np.concatenate([growth[:-2], growth[-2:][::-1]])
