"""Optimiser state grows by the maps that weights grow by, and is what the hatched member's own gradients would be."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from activated import gated
from hand_made import inception
from hypothesis import given
from kinds import KINDS
from strategies import Array, batch_for, trained
from test_growth_everywhere import mother_of, styles, tried

from mnx.graphs.growth import growing as weights
from mnx.graphs.growth import moments as rules
from mnx.graphs.growth.growing import Growing, Style
from mnx.graphs.growth.hatch import begun
from mnx.graphs.growth.maps import GrowthMap
from mnx.graphs.growth.moments import equal_shares, moments
from mnx.graphs.model import Model
from mnx.graphs.mothers.kernels import offsets, window
from mnx.graphs.ops.rule import Role
from mnx.graphs.parameters import parameters
from mnx.graphs.run import run
from mnx.graphs.trees.structure import Op, Parameter
from mnx.graphs.verify import difference
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import vgg
from mnx.train.engines import engine
from mnx.train.settings import MOMENTUM, StepSettings

EQUAL, RANDOM = Style(3, "equal"), Style(3, "random")
PLAIN = StepSettings(momentum=0.9)
"""With no momentum before it and no decay, the momentum after a step is the gradient."""

PAIRS: Mapping[str, tuple[Model, Model]] = {
    "wider": (mlp("m", 4, (3, 5), 3), mlp("n", 4, (7, 11), 3)),
    "wider with norms": (mlp("m", 4, (3,), 3, batch_norm=True), mlp("n", 4, (7,), 3, batch_norm=True)),
    "wider images": (vgg("m", [[(3, 3)]], 3, (2, 6, 6), (5,)), vgg("n", [[(3, 7)]], 3, (2, 6, 6), (8,))),
    "larger kernel": (vgg("m", [[(3, 3)]], 3, (2, 6, 6), (5,)), vgg("n", [[(5, 4)]], 3, (2, 6, 6), (5,))),
    "deeper": (mlp("m", 4, (5,), 3), mlp("n", 4, (8, 6), 3)),
    "residual": (resnet("m", (1,), 3, 3, (2, 4, 4)), resnet("n", (2,), 4, 3, (2, 4, 4))),
    "gate before": (gated("m", [(3, "")]), gated("n", [(4, "before")])),
    "gate behind": (gated("m", [(3, "")]), gated("n", [(5, "behind")])),
    "concat": (inception("m", 3, 2, 3), inception("n", 3, 5, 4)),
}
"""Mothers and members, of which only the inserted layers have nothing of hers."""


def growth_of(mother: Model, member: Model, style: Style) -> Growing:
    return begun(mother, member, batch_for(mother, 5), style)


def kept_of(growing: Growing, seed: int = 0) -> dict[str, Array]:
    """A mother's state, as an optimiser might have left it: no number is 0."""
    random = np.random.default_rng(seed)
    kinds = parameters(growing.mother)
    shapes = {name: growing.mother.weights[name].shape for name, kind in kinds.items() if kind.trained}
    return {name: random.uniform(1, 2, shape).astype(np.float32) for name, shape in shapes.items()}


def matched(growing: Growing) -> list[tuple[Op, Parameter, Parameter]]:
    """Every trained parameter of the member that the mother has too, with hers and its op."""
    found = []
    for left, right in growing.alignment.matches:
        theirs = {parameter.slot: parameter for parameter in right.parameters}
        found += [(right, mine, theirs[mine.slot]) for mine in left.parameters if mine.slot in theirs]
    return [each for each in found if each[1].kind.trained]


def old_taps(growing: Growing, op: Op, value: Array) -> Array:
    """A member's kernel, cut to where the mother's lies in it."""
    small = next(window(left) for left, right in growing.alignment.matches if right.name == op.name)
    full = window(op)
    if small is None or full is None or value.ndim < 2:
        return value
    start = offsets(small, full)
    assert start is not None
    return value[(..., *(slice(at, at + size) for at, size in zip(start, small.size, strict=True)))]


def folded(growing: Growing, op: Op, parameter: Parameter, value: Array) -> Array:
    """A member's gradient in the mother's shape: copies of a row added up, the mean of those of a column."""
    value = old_taps(growing, op, value)
    for axis, role in enumerate(parameter.roles):
        if role in (Role.PRODUCE, Role.CONTRACT):
            growth = growing.axis(parameter.axes[axis])
            front, old = np.moveaxis(value, axis, 0), growing.old_width(parameter, axis)
            total = np.stack([front[growth == channel].sum(axis=0) for channel in range(old)])
            counts = np.bincount(growth)[:old] if role is Role.CONTRACT else np.ones(old)
            value = np.moveaxis(total / counts.reshape(-1, *[1] * (total.ndim - 1)), 0, axis)
    return value


def apart(growing: Growing) -> frozenset[str]:
    """The member's ops that have no channel-by-channel likeness: in code, at the mean, or with a factor of others."""
    exchanges = [each.exchange for each in growing.alignment.only_right if each.exchange]
    names = {name for each in exchanges for name in (each.rows, each.source, *each.columns)}
    coded = {op.name for op, _, p in matched(growing) if any(map(growing.coded, p.axes))}
    return frozenset(names | coded)


def check(growing: Growing) -> int:
    """Shapes fit; copies have their share of the old one's; all else is 0. Returns how many parameters were seen."""
    kept = kept_of(growing)
    found = moments(growing, kept)
    squares = moments(growing, {name: value**2 for name, value in kept.items()}, 2)
    shapes = {name: array.shape for name, array in growing.model.weights.items()}
    assert {name: value.shape for name, value in found.items()} == {name: shapes[name] for name in found}
    hers = {theirs.name: (op, mine, theirs) for op, mine, theirs in matched(growing)}
    seen = 0
    for name, value in found.items():
        assert difference(value**2, squares[name]).passed
        if name not in hers:  # a scale or shift that an inserted normalisation has taken over
            continue
        op, mine, parameter = hers[name]
        if any(map(growing.coded, parameter.axes)):
            assert not value.any()
        if op.name in apart(growing):
            continue
        assert difference(kept[mine.name], folded(growing, op, parameter, value)).passed
        inside = np.ones(old_taps(growing, op, value).shape, bool)
        for axis, role in enumerate(parameter.roles):
            if role in (Role.PRODUCE, Role.CONTRACT):
                known = growing.axis(parameter.axes[axis]) < growing.old_width(parameter, axis)
                inside &= known.reshape([-1 if each == axis else 1 for each in range(value.ndim)])
        old = old_taps(growing, op, value)
        assert np.count_nonzero(value) == np.count_nonzero(old) == np.count_nonzero(old[inside]) == inside.sum()
        for axis, role in enumerate(parameter.roles):
            if role in (Role.PRODUCE, Role.CONTRACT):
                growth = growing.axis(parameter.axes[axis])
                first = [int(np.flatnonzero(growth == channel)[0]) for channel in growth]
                assert np.array_equal(value, np.take(value, first, axis=axis))
        seen += 1
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_copies_share_their_channels_state_and_all_else_begins_with_zero(kind: str) -> None:
    seen: list[int] = []

    @given(KINDS[kind], styles)
    @tried(8)
    def members(drawn: list[Model], style: Style) -> None:
        mother = mother_of(drawn)
        for member in drawn if mother else ():
            assert mother is not None
            seen.append(check(growth_of(mother, member, style)))

    members()
    assert sum(seen) > 20


def gradients(model: Model, x: Array, y: Array) -> dict[str, Array]:
    """The gradient of the loss by every parameter, in training mode."""
    one = engine("ort", "cpu", 1, model, PLAIN, 0)
    one.step(x, y, 0.0)
    return {key.removeprefix(MOMENTUM): array for key, array in one.state().items() if key.startswith(MOMENTUM)}


def grown_and_own(pair: str, style: Style) -> tuple[Growing, dict[str, Array], dict[str, Array], dict[str, Array]]:
    """A growth, the mother's gradients, the same grown, and those of the hatched member on the same examples."""
    mother, member = trained(PAIRS[pair][0]), PAIRS[pair][1]
    growing = growth_of(mother, member, style)
    x, y = batch_for(mother, 7), np.arange(16) % 3
    hers = gradients(mother, x, y)
    return growing, hers, moments(growing, hers), gradients(member.with_weights(growing.weights()), x, y)


def own_agree(pair: str) -> bool:
    growing, _, found, own = grown_and_own(pair, EQUAL)
    return all(
        difference(old_taps(growing, op, own[theirs.name]), old_taps(growing, op, found[theirs.name])).passed
        for op, _, theirs in matched(growing)
    )


@pytest.mark.parametrize("pair", PAIRS)
def test_with_equal_shares_they_are_the_members_own(pair: str) -> None:
    assert own_agree(pair)


@pytest.mark.parametrize("style", [EQUAL, RANDOM, replace(RANDOM, fresh=0.5)], ids=["equal", "random", "fresh"])
@pytest.mark.parametrize("pair", PAIRS)
def test_the_sums_over_copies_are_the_mothers_for_every_split(pair: str, style: Style) -> None:
    growing, hers, found, own = grown_and_own(pair, style)
    for op, mine, theirs in matched(growing):
        summed = folded(growing, op, theirs, own[theirs.name])
        assert difference(summed, folded(growing, op, theirs, found[theirs.name])).passed
        assert op.name in apart(growing) or difference(hers[mine.name], summed).passed


def test_with_random_shares_copies_part() -> None:
    growing, _, found, own = grown_and_own("wider", RANDOM)
    assert not all(difference(own[p.name], found[p.name]).passed for _, _, p in matched(growing))


Moment = Callable[..., Any]


def rows_repeat(rule: Moment) -> Moment:
    return lambda growth: np.ones(len(growth))


def rows_share_twice(rule: Moment) -> Moment:
    return lambda growth: rule(growth) ** 2


def maps_off_by_one(rule: Moment) -> Moment:
    def broken(value: Array, axis: int, growth: GrowthMap) -> Array:
        return np.asarray(rule(value, axis, np.roll(growth, 1)))

    return broken


TWINS: Mapping[str, tuple[str, Callable[[Moment], Moment]]] = {
    "rows repeat": ("equal_shares", rows_repeat),
    "rows share twice": ("equal_shares", rows_share_twice),
    "maps off by one": ("taken", maps_off_by_one),
}


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("pair", ["wider", "wider images", "residual"])
def test_a_broken_twin_is_not_the_members_own(pair: str, twin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rule, breaking = TWINS[twin]
    monkeypatch.setattr(rules, rule, breaking(getattr(rules, rule)))
    assert not own_agree(pair)
    with pytest.raises(AssertionError):
        check(growth_of(trained(PAIRS[pair][0]), PAIRS[pair][1], EQUAL))


@pytest.mark.parametrize("pair", ["gate before", "gate behind"])
def test_a_factor_not_taken_over_is_caught(pair: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = Growing.exchanged

    def weights_only(
        self: Growing, values: Mapping[str, Array], power: int = 1, plain: float = 1.0
    ) -> dict[str, Array]:
        return rule(self, values) if power == 1 else dict(values)

    monkeypatch.setattr(Growing, "exchanged", weights_only)
    assert not own_agree(pair)


def test_a_kernel_in_the_corner_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    growing = growth_of(trained(PAIRS["larger kernel"][0]), PAIRS["larger kernel"][1], EQUAL)
    assert check(growing)
    rule = weights.placed
    monkeypatch.setattr(weights, "placed", lambda value, axes, sizes, at: rule(value, axes, sizes, (0,) * len(at)))
    with pytest.raises(AssertionError):
        check(growing)


DOUBLED = (mlp("m", 4, (3,), 3), mlp("n", 4, (6,), 3))


@pytest.mark.parametrize("style", [EQUAL, RANDOM], ids=["equal", "random"])
@pytest.mark.parametrize(("layer", "pace"), [("head", 2.0), ("fc1", 0.5)])
def test_a_step_moves_what_a_layer_gives_by_copies_in_times_share_out(layer: str, pace: float, style: Style) -> None:
    """Twice as many inputs, each with the whole gradient: twice the pace; half of it in each of two outputs: half."""
    mother, member = trained(DOUBLED[0]), DOUBLED[1]
    growing = growth_of(mother, member, style)
    kept = kept_of(growing)
    x = batch_for(mother, 8)

    def moved(model: Model, momentum: Mapping[str, Array], value: str) -> Array:
        name = f"{layer}.weight"
        stepped = model.with_weights({name: model.weights[name] - np.float32(0.1) * momentum[name]})
        after, before = (run(each, x, [value])[value] for each in (stepped, model))
        return np.asarray(after - before)

    left, right = next(
        pair for pair in growing.alignment.matches if any(p.name == f"{layer}.weight" for p in pair[0].parameters)
    )
    hatched = member.with_weights(growing.weights())
    expected = np.take(moved(mother, kept, left.value), growing.axis(right.output[1]), axis=1)
    assert difference(pace * expected, moved(hatched, moments(growing, kept), right.value)).passed


def test_equal_shares_count_those_that_repeat_the_same() -> None:
    assert difference(
        np.array([1 / 2, 1, 1 / 3, 1 / 3, 1 / 2, 1 / 3]), equal_shares(np.array([0, 1, 2, 2, 0, 2]))
    ).passed


def test_what_the_mother_does_not_name_is_left_out() -> None:
    growing = growth_of(trained(DOUBLED[0]), DOUBLED[1], EQUAL)
    kept = kept_of(growing)
    assert moments(growing, {}) == {}
    assert set(moments(growing, {"head.bias": kept["head.bias"]})) == {"head.bias"}
