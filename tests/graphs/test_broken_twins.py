"""Broken twins of every rule of growth: the certificate must catch each and name the op that it broke."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pytest
from hand_made import inception
from strategies import Array, batch_for, trained

from mnx.graphs.errors import NotPreserved
from mnx.graphs.growth import growing
from mnx.graphs.growth.hatch import hatch
from mnx.graphs.growth.maps import GrowthMap
from mnx.graphs.model import Model
from mnx.graphs.ops.axes import Axis
from mnx.graphs.ops.rule import Kind
from mnx.graphs.trees.structure import Op, Parameter
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import vgg

Rule: TypeAlias = Callable[..., Any]
Breaking: TypeAlias = Callable[[Rule], Rule]

PAIRS: Mapping[str, tuple[Model, Model]] = {
    "wider": (mlp("m", 4, (3, 5), 3), mlp("n", 4, (7, 11), 3)),
    "wider with norms": (mlp("m", 4, (3,), 3, batch_norm=True), mlp("n", 4, (7,), 3, batch_norm=True)),
    "wider images": (vgg("m", [[(3, 3)]], 3, (2, 6, 6), (5,)), vgg("n", [[(3, 7)]], 3, (2, 6, 6), (5,))),
    "larger kernel": (vgg("m", [[(3, 3)]], 3, (2, 6, 6), (5,)), vgg("n", [[(5, 3)]], 3, (2, 6, 6), (5,))),
    "deeper": (mlp("m", 4, (5,), 3), mlp("n", 4, (5, 5), 3)),
    "deeper images": (vgg("m", [[(3, 4)]], 3, (2, 6, 6), (5,)), vgg("n", [[(3, 4), (3, 4)]], 3, (2, 6, 6), (5,))),
    "deeper with norms": (mlp("m", 4, (5,), 3, batch_norm=True), mlp("n", 4, (5, 5), 3, batch_norm=True)),
    "more residual blocks": (resnet("m", (1,), 4, 3, (2, 4, 4)), resnet("n", (2,), 4, 3, (2, 4, 4))),
    "concat": (inception("m", 3, 2, 3), inception("n", 3, 5, 4)),
}


@dataclass(frozen=True)
class Twin:
    """A rule of `mnx.graphs.growth.growing` and how it is broken, where this shows first, and for which split."""

    rule: str
    breaking: Breaking
    pair: str
    node: str
    split: str = "random"


def at_call(number: int, change: Callable[[Any], Any]) -> Breaking:
    """A rule that goes wrong the one time that it is asked for the `number`-th answer."""

    def breaking(rule: Rule) -> Rule:
        count = iter(range(10**6))

        def broken(*arguments: Any) -> Any:
            answer = rule(*arguments)
            return change(answer) if next(count) == number else answer

        return broken

    return breaking


def rolled(growth: GrowthMap) -> GrowthMap:
    return np.roll(growth, 1)


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


GROW = "Growing._parameter"

TWINS: Mapping[str, Twin] = {
    "every copy of a column gets all of it": Twin("shared", whole_columns, "wider", "fc2"),
    "every copy gets all, equal split": Twin("shared", whole_columns, "wider", "fc2", "equal"),
    "shares add up to a thousandth too much": Twin("shared", sums_too_large(1.001), "wider", "fc2"),
    "draws that add up to nothing": Twin("shared", draws_as_they_are, "wider", "fc2"),
    "shares by the average number of copies": Twin("shared", shares_by_average_count, "wider", "fc2", "equal"),
    "rows by another map": Twin("axis_map", at_call(0, rolled), "wider", "fc1"),
    "columns by another map": Twin("axis_map", at_call(4, rolled), "wider", "fc2"),
    "biases by another map": Twin("axis_map", at_call(2, rolled), "wider", "fc1"),
    "scales by another map": Twin("axis_map", at_call(2, rolled), "wider with norms", "fc1_norm"),
    "means by another map": Twin("axis_map", at_call(4, rolled), "wider with norms", "fc1_norm"),
    "flattened channels innermost": Twin("axis_map", channels_innermost, "wider images", "flatten"),
    "branches that all begin at 0": Twin("axis_map", parts_without_offset, "concat", "concat"),
    "biases not repeated": Twin(GROW, only_first_copies(Kind.BIAS, 0.0), "wider", "fc1"),
    "scales not repeated": Twin(GROW, only_first_copies(Kind.SCALE, 1.0), "wider with norms", "fc1_norm"),
    "shifts not repeated": Twin(GROW, only_first_copies(Kind.SHIFT, 0.0), "wider with norms", "fc1_norm"),
    "means not repeated": Twin(GROW, only_first_copies(Kind.MEAN, 0.0), "wider with norms", "fc1_norm"),
    "variances not repeated": Twin(GROW, only_first_copies(Kind.VARIANCE, 1.0), "wider with norms", "fc1_norm"),
    "a kernel in the corner": Twin("placed", kernel_in_the_corner, "larger kernel", "conv1_1"),
    "a kernel one row off": Twin("placed", kernel_one_row_off, "larger kernel", "conv1_1"),
    "a single tap in the corner": Twin("placed", kernel_in_the_corner, "deeper images", "conv1_2"),
    "an inserted linear layer off by one": Twin("identity", unit_off_by_one, "deeper", "fc2"),
    "an inserted convolution off by one": Twin("identity", unit_off_by_one, "deeper images", "conv1_2"),
    "an inserted norm not calibrated": Twin("identity", norm_as_it_starts, "deeper with norms", "fc2_norm"),
    "an inserted norm without its shift": Twin("identity", norm_without(Kind.SHIFT), "deeper with norms", "fc2_norm"),
    "an inserted norm without its mean": Twin("identity", norm_without(Kind.MEAN), "deeper with norms", "fc2_norm"),
    "an inserted norm without its scale": Twin("identity", norm_without(Kind.SCALE), "deeper with norms", "fc2_norm"),
    "calibration by the unbiased variance": Twin(
        "channel_statistics", unbiased_variance, "deeper with norms", "fc2_norm"
    ),
    "a new residual branch not zeroed": Twin(
        "zero", branch_left_open(Kind.SCALE), "more residual blocks", "block1_2.add"
    ),
    "a new residual branch with a shift": Twin(
        "zero", branch_left_open(Kind.SHIFT), "more residual blocks", "block1_2.add"
    ),
}


def hatched(pair: str, split: str) -> bool:
    small, large = PAIRS[pair]
    mother = trained(small)
    inputs = {"random": batch_for(mother, 1), "real": batch_for(mother, 2, 24)}
    return hatch(mother, large, inputs, "real", 0, split).certificate.passed


@pytest.mark.parametrize("split", ["random", "equal"])
@pytest.mark.parametrize("pair", PAIRS)
def test_unbroken_rules_pass(pair: str, split: str) -> None:
    assert hatched(pair, split)


@pytest.mark.parametrize("name", TWINS)
def test_a_broken_twin_is_caught_and_its_op_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    twin = TWINS[name]
    owner: Any = growing
    *path, attribute = twin.rule.split(".")
    for step in path:
        owner = getattr(owner, step)
    monkeypatch.setattr(owner, attribute, twin.breaking(getattr(owner, attribute)))
    with pytest.raises(NotPreserved, match=rf"n does not compute the function of m: .*node '{twin.node}' \("):
        hatched(twin.pair, twin.split)


def test_a_twin_that_is_never_asked_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "placed", kernel_in_the_corner(growing.placed))
    assert hatched("wider", "random")
