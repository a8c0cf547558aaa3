"""Sections that only a member has: each one that may be passed over really is exact when the member is hatched."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from hand_made import Net
from hypothesis import given
from hypothesis import strategies as st
from strategies import batch_for, bottlenecks, examples, inceptions, planned, separables, trained

from mnx.graphs.builder import Builder
from mnx.graphs.errors import GraphError
from mnx.graphs.growth.hatch import hatch
from mnx.graphs.model import Model, Port
from mnx.graphs.mothers.matching import insertable, mismatch
from mnx.graphs.mothers.mother import embed
from mnx.graphs.ops.axes import Axes
from mnx.graphs.ops.rule import Interval
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.structure import Parallel
from mnx.graphs.zoo import layers

WIDTH = 4


@dataclass(frozen=True)
class Branch:
    """A residual branch, and whether it can be set to zero."""

    write: Callable[[Net, str], str]
    zeroed: bool


def number(net: Net, x: str, op: str, value: float, *, first: bool = False) -> str:
    constant = net.builder.weight("number", np.array(value, np.float32))
    return net.same(x, net.builder.add(op, *((constant, x) if first else (x, constant))))


def clip(net: Net, x: str, low: float, high: float) -> str:
    bounds = [net.builder.weight("bound", np.array(bound, np.float32)) for bound in (low, high)]
    return net.same(x, net.builder.add("Clip", x, *bounds))


def scaled(net: Net, x: str, op: str) -> str:
    """A constant of one number a channel behind a layer: a trained scale or shift."""
    constant = net.builder.weight("scale", np.full((WIDTH, 1, 1), 0.5, np.float32))
    return net.same(x, net.builder.add(op, x, constant))


def padded(net: Net, x: str, value: float) -> str:
    """What stands around the image is averaged into it."""
    pads = net.builder.weight("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    wide = net.builder.add("Pad", x, pads, net.builder.weight("value", np.array(value, np.float32)))
    return net.same(x, net.builder.add("AveragePool", wide, kernel_shape=(3, 3)))


def squeezed(net: Net, x: str) -> str:
    """A gate a channel, computed from the means over space of what it multiplies."""
    mean = net.same(x, net.builder.add("GlobalAveragePool", x))
    return net.op("Mul", x, net.op("Sigmoid", net.conv(net.relu(net.conv(mean, 2, 1)), WIDTH, 1)))


BRANCHES: Mapping[str, Branch] = {
    "a convolution": Branch(lambda net, x: net.conv(x, WIDTH), True),
    "a norm": Branch(lambda net, x: net.conv_norm(x, WIDTH), True),
    "an activation last": Branch(lambda net, x: net.conv_relu(x, WIDTH), True),
    "Tanh last": Branch(lambda net, x: net.op("Tanh", net.conv(x, WIDTH)), True),
    "Sigmoid last, which is 0.5 at 0": Branch(lambda net, x: net.op("Sigmoid", net.conv(x, WIDTH)), False),
    "a wider layer inside": Branch(lambda net, x: net.conv(net.conv_relu(x, 9), WIDTH), True),
    "a layer scale": Branch(lambda net, x: scaled(net, net.conv(x, WIDTH), "Mul"), True),
    "a shift a channel": Branch(lambda net, x: scaled(net, net.conv(x, WIDTH), "Add"), True),
    "a factor": Branch(lambda net, x: number(net, net.conv(x, WIDTH), "Mul", 0.3), True),
    "a number added": Branch(lambda net, x: number(net, net.conv(x, WIDTH), "Add", 0.5), False),
    "a number taken off": Branch(lambda net, x: number(net, net.conv(x, WIDTH), "Sub", 0.5), False),
    "taken off a number": Branch(lambda net, x: number(net, net.conv(x, WIDTH), "Sub", 0.5, first=True), False),
    "a number added before the last layer": Branch(
        lambda net, x: net.conv(number(net, net.conv(x, WIDTH), "Add", 0.5), WIDTH), True
    ),
    "a clip that holds 0": Branch(lambda net, x: clip(net, net.conv(x, WIDTH), 0.0, 6.0), False),
    "a clip that does not": Branch(lambda net, x: clip(net, net.conv(x, WIDTH), 1.0, 6.0), False),
    "zeros around": Branch(lambda net, x: padded(net, net.conv(x, WIDTH), 0.0), True),
    "ones around": Branch(lambda net, x: padded(net, net.conv(x, WIDTH), 1.0), False),
    "a gate": Branch(lambda net, x: net.op("Mul", net.conv(x, WIDTH), net.op("Sigmoid", net.conv(x, WIDTH))), True),
    "a gate first": Branch(
        lambda net, x: net.op("Mul", net.op("Sigmoid", net.conv(x, WIDTH)), net.conv(x, WIDTH)), True
    ),
    "a gate on the last layer's own means": Branch(
        lambda net, x: squeezed(net, net.conv(net.conv_relu(x, WIDTH), WIDTH)), True
    ),
    "two gates": Branch(
        lambda net, x: net.op("Mul", net.op("Sigmoid", net.conv(x, WIDTH)), net.op("Sigmoid", net.conv(x, WIDTH))),
        False,
    ),
    "branches joined by Concat, which part the channels they are added to": Branch(
        lambda net, x: net.concat(net.conv(x, 1), net.conv(x, WIDTH - 1)), False
    ),
    "a product of a Concat with zeros": Branch(
        lambda net, x: net.op(
            "Mul", net.op("Sigmoid", net.conv(net.concat(x, net.conv(x, 3)), WIDTH)), net.conv(x, WIDTH)
        ),
        True,
    ),
    "a Concat with a shortcut": Branch(lambda net, x: net.conv(net.concat(x, net.conv(x, 3)), WIDTH), True),
    "a sum of two": Branch(lambda net, x: net.op("Add", net.conv(x, WIDTH), net.conv_norm(x, WIDTH)), True),
    "a sum with what arrives": Branch(lambda net, x: net.op("Add", net.relu(x), net.conv(x, WIDTH)), False),
}


def with_branch(name: str, branch: Branch | None) -> Model:
    net = Net(name)
    x = net.conv_relu(layers.INPUT, WIDTH)
    if branch is not None:
        x = net.op("Add", x, branch.write(net, x))
    return net.finish(x)


def check_that_it_hatches(mother: Model, member: Model) -> None:
    mother = trained(mother)
    batches = {"random": batch_for(mother, 1), "real": batch_for(mother, 2)}
    assert hatch(mother, member, batches, "real", 0).certificate.passed


@pytest.mark.parametrize("name", BRANCHES)
def test_a_section_is_passed_over_where_its_branch_is_zero_and_then_exactly(name: str) -> None:
    branch = BRANCHES[name]
    mother, member = with_branch("mother", None), with_branch("member", branch)
    if branch.zeroed:
        check_that_it_hatches(mother, member)
    else:
        with pytest.raises(GraphError, match="share no mother"):
            embed(describe(mother), describe(member))


def tokens(name: str, features: int, branch: bool) -> Model:
    """A linear layer on tokens, and a residual branch of one whose bias is an Add of its own."""
    builder = Builder()

    def linear(x: str, width: int, wide: int) -> str:
        product = builder.add("MatMul", x, builder.weight("w", np.zeros((width, wide), np.float32)))
        return builder.add("Add", product, builder.weight("b", np.zeros(wide, np.float32)))

    x = builder.add("Relu", linear(layers.INPUT, 3, features))
    if branch:
        x = builder.add("Add", x, linear(builder.add("Relu", linear(x, features, 7)), 7, features))
    y = linear(x, features, 2)
    return builder.model(name, [Port(layers.INPUT, "float32", (5, 3))], [Port(y, "float32", (5, 2))])


@pytest.mark.parametrize("features", [4, 6])
def test_a_branch_on_tokens_that_ends_in_its_bias_is_zeroed(features: int) -> None:
    check_that_it_hatches(tokens("mother", 4, False), tokens("member", features, True))


@given(st.one_of(bottlenecks(3), inceptions(3), separables(3)))
@examples(15)
def test_members_with_branches_and_blocks_of_channels_hatch(members: list[Model]) -> None:
    mother, _ = planned(members)
    for member in members:
        check_that_it_hatches(mother, member)


def test_a_trained_scale_is_no_number() -> None:
    found = []
    for scale in (lambda net, x: scaled(net, x, "Mul"), lambda net, x: number(net, x, "Mul", 0.5)):
        net = Net("scaled")
        structure = describe(net.finish(scale(net, net.conv(layers.INPUT, WIDTH))))
        found.append(next(op for op in structure.ops() if op.op == "Mul"))
    trained_scale, plain = found
    assert mismatch(trained_scale, trained_scale) == "" and mismatch(plain, plain) == ""
    assert "one has a parameter" in mismatch(trained_scale, plain)
    assert "one has a parameter" in mismatch(plain, trained_scale)


def test_a_sum_that_repeats_what_arrives_over_space_does_not_pass_it_on() -> None:
    net = Net("wide")
    x = net.same(layers.INPUT, net.builder.add("GlobalAveragePool", layers.INPUT))
    sizes = net.builder.weight("sizes", np.array([1, 2, 4, 4], np.int64))
    spread = net.conv(net.same(x, net.builder.add("Expand", x, sizes)), 2)
    structure = describe(net.finish(net.op("Add", x, spread)))
    (section,) = (unit for unit in structure.series if isinstance(unit, Parallel))
    arriving: Axes = section.input
    anything: Interval = (float("-inf"), float("inf"))
    assert insertable(section, anything, arriving) is None
