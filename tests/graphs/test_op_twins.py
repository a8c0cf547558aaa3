"""Broken twins of the rule of every op: axes tied otherwise, or widths that are not rewritten, and the growth fails.

What a rule claims beside its ties is tested in `test_op_claims`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pytest
from op_networks import NETWORKS, hatches, network_of, op_of, widened

from mnx.graphs.errors import GraphError, NotPreserved
from mnx.graphs.ops.axes import Axes, Axis, Ties, fixed, is_fixed
from mnx.graphs.ops.rule import Rewritten, Role, Rule, Site, Widths, no_axes, plain, space, unsigned
from mnx.graphs.ops.table import RULES
from mnx.graphs.trees.describe import describe

UNTIED = {
    "GRU": "its hidden size never changes",
    "LRN": "its width never changes",
    "LSTM": "its hidden size never changes",
    "RNN": "its hidden size never changes",
}
"""Why what an op gives cannot be tied to another group: it is tied to none."""

VALUES = ("Add", "Mul", "MatMul, heads", "Expand")
"""Networks in which no parameter stands where one could."""

LOOSE = [
    (name, index)
    for name in NETWORKS
    for index, slot in RULES[op_of(name)].slots.items()
    if name not in VALUES and {Role.PRODUCE, Role.CONTRACT} & set(slot.roles)
]
"""Every parameter of every op that has channels."""


def wider(old: int) -> int:
    return 2 * old + 4


def tied_by(rule: Rule, monkeypatch: pytest.MonkeyPatch, op: str) -> None:
    monkeypatch.setitem(RULES, op, rule)  # type: ignore[arg-type]


def test_every_op_has_a_network_in_which_it_grows() -> None:
    assert {op_of(name) for name in NETWORKS} == set(RULES)


@pytest.mark.parametrize("name", NETWORKS)
def test_an_op_between_two_layers_that_grow_hatches(name: str) -> None:
    mother = network_of(name)
    assert any(op.op == op_of(name) for op in describe(mother).ops())
    assert hatches(mother, widened(mother, wider))


def loose_output(rule: Rule) -> Rule:
    """What an op gives has nothing to do with what it reads."""

    def tie(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
        found = rule.tie(site, axes, ties)
        return tuple(axis if is_fixed(ties.resolve(axis)) else ties.group(ties.width(axis)) for axis in found)

    return replace(rule, tie=tie)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in UNTIED])
def test_channels_that_an_op_does_not_tie_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mother = network_of(name)
    member = widened(mother, wider)
    tied_by(loose_output(RULES[op_of(name)]), monkeypatch, op_of(name))
    with pytest.raises(NotPreserved, match="n does not compute the function of m"):
        hatches(mother, member)


def loose_parameter(rule: Rule, index: int) -> Rule:
    """A parameter's channels have nothing to do with those of what arrives, nor with those that are made."""

    def tie(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
        own = tuple(axis if is_fixed(axis) else ties.group(ties.width(axis)) for axis in axes[index])
        return rule.tie(site, [own if place == index else given for place, given in enumerate(axes)], ties)

    return replace(rule, tie=tie)


@pytest.mark.parametrize(("name", "index"), LOOSE, ids=[f"input {index} of {name}" for name, index in LOOSE])
def test_a_parameter_that_an_op_does_not_tie_is_caught(name: str, index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    mother = network_of(name)
    member = widened(mother, wider)
    tied_by(loose_parameter(RULES[op_of(name)], index), monkeypatch, op_of(name))
    with pytest.raises(NotPreserved, match="n does not compute the function of m"):
        hatches(mother, member)


class Unfixed:
    """The same ties for a rule that makes nothing fixed."""

    def __init__(self, ties: Ties) -> None:
        self.ties = ties

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ties, name)

    def fix(self, axis: Axis) -> Axis:
        return axis


def unfixed(rule: Rule) -> Rule:
    """An op whose widths never change says that they do."""

    def tie(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
        return rule.tie(site, axes, cast("Ties", Unfixed(ties)))

    return replace(rule, tie=tie)


def cut_anywhere(rule: Rule) -> Rule:
    """A Slice of channels that grow, though it takes no whole part of them."""

    def tie(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
        return (axes[0][0], fixed(site.outputs[0][1]), *axes[0][2:])

    return replace(rule, tie=tie, signature=unsigned)


def uneven(rule: Rule) -> Rule:
    """A mean that bears channels that repeat unevenly."""
    return replace(rule, even=no_axes)


def unrewritten(rule: Rule) -> Rule:
    """Attributes and constants stay at the old widths."""
    return replace(rule, rewrite=plain)


def as_if(**attributes: Any) -> Callable[[Rule], Rule]:
    """The ties of an op with other attributes."""

    def breaking(rule: Rule) -> Rule:
        def tie(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
            node = replace(site.node, attributes={**site.node.attributes, **attributes})
            return rule.tie(replace(site, node=node), axes, ties)

        return replace(rule, tie=tie)

    return breaking


def innermost(rule: Rule) -> Rule:
    """Flattened channels are the last axis."""

    def tie(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
        return (axes[0][0], ties.merged([*axes[0][2:], axes[0][1]]))

    return replace(rule, tie=tie)


def places_innermost(rule: Rule) -> Rule:
    """The places of a block lie behind the channels, not before them."""

    def tie(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
        return (axes[0][0], ties.merged([axes[0][1], fixed(4)]), *space(site, axes, ties))

    return replace(rule, tie=tie)


def last_first(rule: Rule) -> Rule:
    """The branches of a Concat the other way round."""
    return replace(rule, tie=lambda site, axes, ties: rule.tie(site, axes[::-1], ties))


def from_the_front(rule: Rule) -> Rule:
    """A Slice of the right length that begins at channel 0."""

    def rewrite(site: Site, widths: Widths) -> Rewritten:
        found = rule.rewrite(site, widths).constants
        return Rewritten(constants={1: found[1] - found[1], 2: found[2] - found[1]})

    return replace(rule, rewrite=rewrite, signature=unsigned)


def on_the_other_side(rule: Rule) -> Rule:
    """As many zeros behind the channels as are before them, and the other way round."""

    def tie(site: Site, axes: Sequence[Axes], ties: Ties) -> Axes:
        value, pads, *rest = site.constants
        return rule.tie(replace(site, constants=(value, np.roll(pads, len(pads) // 2), *rest)), axes, ties)

    return replace(rule, tie=tie)


@dataclass(frozen=True)
class Twin:
    """A network, how its op's rule is broken, what catches it, and where it needs them: another body and width.

    `believed`: the member is made by the broken rule too, else by the right one.
    """

    name: str
    breaking: Callable[[Rule], Rule]
    caught: type[GraphError] = NotPreserved
    body: str | None = None
    taken: int = 0
    width: Callable[[int], int] = wider
    believed: bool = False


def over_channels(op: str) -> Twin:
    return Twin(op, unfixed, body=f"c = {op} (a, channels)", taken=1, believed=True)


def half_more(old: int) -> int:
    return old + old // 2


PRODUCT = """queries = MatMul (a, v) keys = Transpose <perm = [0, 2, 1]> (a) scores = MatMul (queries, keys)
    shares = Softmax <axis = -1> (scores) c = MatMul (shares, a)"""
JOINED = """b = MatMul (a, narrow) b2 = Add (b, nb) b3 = Concat <axis = 2> (a, b2)
    c = LayerNormalization <axis = -1> (b3, long, row)"""

TWINS: Mapping[str, Twin] = {
    **{f"{op} over channels whose number grows": over_channels(op) for op in ("ReduceL1", "ReduceL2", "ReduceProd")},
    **{f"{op} over channels whose number grows": over_channels(op) for op in ("ReduceSum", "ReduceSumSquare")},
    **{
        f"{op} over channels whose number grows": Twin(op, unfixed, body=f"c = {op} <axis = -1> (a)", believed=True)
        for op in ("Softmax", "LogSoftmax")
    },
    "neighbours whose number grows": Twin("LRN", unfixed, believed=True),
    "heads whose width grows unscaled": Twin("MatMul, heads", unfixed, body=PRODUCT, believed=True),
    "a cut across channels that grow": Twin(
        "Slice", cut_anywhere, body="c = Slice (a, channels, from, channels)", taken=3, believed=True
    ),
    "a mean over two groups that grow differently": Twin(
        "LayerNormalization", unfixed, body=JOINED, taken=12, width=lambda old: {8: 16, 4: 12}[old], believed=True
    ),
    "a naive GroupNormalization": Twin("GroupNormalization", uneven, width=half_more),
    "a mean over channels that repeat unevenly": Twin(
        "ReduceMean", uneven, body="b = ReduceMean (a, channels) c = Sub (a, b)", width=half_more
    ),
    "flattened channels innermost": Twin("Flatten", innermost),
    "branches the other way round": Twin("Concat", last_first),
    "places of a block innermost": Twin("SpaceToDepth", places_innermost),
    "channels of a block innermost": Twin("DepthToSpace", as_if(mode="CRD")),
    "a target that stays": Twin("Reshape", unrewritten, GraphError, believed=True),
    "a target of heads that stays": Twin("Reshape, heads", unrewritten, GraphError, believed=True),
    "ends that stay": Twin("Slice", unrewritten, GraphError, believed=True),
    "a part from elsewhere": Twin("Slice", from_the_front, believed=True),
    "pads that stay": Twin("Pad", unrewritten, GraphError, believed=True),
    "pads on the wrong sides": Twin("Pad", on_the_other_side),
    "blocks that stay": Twin("Conv, depthwise", unrewritten, GraphError, believed=True),
}


@pytest.mark.parametrize("name", TWINS)
def test_a_broken_twin_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    twin = TWINS[name]
    op = op_of(twin.name)
    mother, member = network_of(twin.name, twin.body, twin.taken), None
    if not twin.believed:
        member = widened(mother, twin.width)
    tied_by(twin.breaking(RULES[op]), monkeypatch, op)
    with pytest.raises(twin.caught) as error:
        hatches(mother, member or widened(mother, twin.width))
    if twin.caught is GraphError:
        assert "shapes of " in str(error.value) or "ties axes of widths" in str(error.value)
