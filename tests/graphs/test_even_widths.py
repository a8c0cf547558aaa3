"""Widths over which an op takes a mean: the mother's divides the members', so that every channel repeats equally often.

A mean over channels x_1 .. x_w is that over x_g(1) .. x_g(v) only where g takes every channel v / w times; or where
the channels that are left over can be made equal to the mean.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from averaged import affine, bare_layer_norm, blocks, layer_norm, rms_blocks, with_epsilon
from hand_made import Net
from strategies import batch_for, doubled, planned, trained

from mnx.graphs.errors import NotPreserved
from mnx.graphs.growth.growing import Style
from mnx.graphs.growth.hatch import grow, hatch
from mnx.graphs.model import Model
from mnx.graphs.mothers.mother import embed
from mnx.graphs.run import run
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.structure import Structure
from mnx.graphs.verify import difference
from mnx.graphs.zoo import layers


def group_norm(name: str, width: int) -> Model:
    """A convolution with a GroupNormalization of two groups."""
    net = Net(name)
    x = net.conv(layers.INPUT, width)
    norm = net.builder.add("GroupNormalization", x, *affine(net, width), num_groups=2)
    return net.finish(net.relu(net.same(x, norm)))


def centred(name: str, width: int) -> Model:
    """Channels from which their mean at each place is taken."""
    net = Net(name)
    x = net.conv_relu(layers.INPUT, width)
    mean = net.builder.add("ReduceMean", x, net.builder.weight("axes", np.array([1], np.int64)), keepdims=1)
    return net.finish(net.op("Sub", x, mean))


@dataclass(frozen=True)
class Case:
    """Networks of one op by their width, the members' widths, and the width of what is even in their mother."""

    net: Callable[[str, int], Model]
    widths: tuple[int, ...]
    even: int


CASES: Mapping[str, Case] = {
    "LayerNormalization": Case(layer_norm, (16, 24), 8),
    "LayerNormalization, multiples": Case(layer_norm, (8, 24, 16), 8),
    "LayerNormalization, little in common": Case(layer_norm, (6, 9), 3),
    "LayerNormalization behind a linear layer": Case(bare_layer_norm, (16, 24, 41), 16),
    "LayerNormalization of residual blocks": Case(blocks, (5, 7, 13), 5),
    "RMSNorm of residual blocks": Case(rms_blocks, (5, 7, 13), 5),
    "GroupNormalization": Case(group_norm, (8, 12), 2),
    "GroupNormalization, multiples": Case(group_norm, (12, 6), 3),
    "ReduceMean over channels": Case(centred, (4, 6), 2),
}
UNEVEN = [name for name, case in CASES.items() if case.even < min(case.widths) and "multiples" not in name]
AT_THE_MEAN = [name for name, case in CASES.items() if case.even == min(case.widths) and "multiples" not in name]


def members_of(case: Case) -> list[Model]:
    return [case.net(f"w{width}", width) for width in case.widths]


def check_that_members_hatch(members: Sequence[Model]) -> None:
    """Every member embeds and computes its mother's function on a batch that the certificate has not seen."""
    mother = trained(planned(members)[0])
    batches, fresh = {"random": batch_for(mother, 1), "real": batch_for(mother, 2)}, batch_for(mother, 3)
    (expected,) = run(mother, fresh).values()
    for member in members:
        embed(describe(mother), describe(member))
        found = hatch(mother, member, batches, "real", 0)
        (result,) = run(found.model, fresh).values()
        assert found.certificate.passed
        assert difference(expected, result).passed


@pytest.mark.parametrize("name", CASES)
def test_the_mothers_width_divides_those_of_her_members_which_hatch(name: str) -> None:
    members = members_of(CASES[name])
    for order in (members, members[::-1]):
        _, mother = planned(order)
        assert {mother.groups[group] for group in mother.even} == {CASES[name].even}
    check_that_members_hatch(members)


@pytest.mark.parametrize("name", UNEVEN)
def test_where_channels_repeat_unevenly_the_certificate_fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    members = members_of(CASES[name])
    monkeypatch.setattr(Structure, "even", frozenset())
    with pytest.raises(NotPreserved):
        check_that_members_hatch(members)


@pytest.mark.parametrize("name", AT_THE_MEAN)
def test_in_double_precision_only_rounding_is_left(name: str) -> None:
    members = members_of(CASES[name])
    mother = doubled(trained(planned(members)[0]))
    batch = batch_for(mother, 3)
    (expected,) = run(mother, batch, precision="float64").values()
    for member in members:
        (found,) = run(grow(mother, member, batch, Style())[0], batch, precision="float64").values()
        assert float(np.abs(found - expected).max()) < 1e-8, "epsilon is stored in float32"


def test_a_member_takes_over_the_epsilon_of_her_mother_and_says_so() -> None:
    small, large = (with_epsilon(bare_layer_norm(f"w{width}", width), width / 16) for width in (8, 16))
    mother = trained(planned([small, large])[0])
    check_that_members_hatch([small, large])
    found = hatch(mother, large, {"real": batch_for(mother, 2)}, "real", 0).model
    assert [node.real("epsilon", 0) for node in found.nodes if node.op == "LayerNormalization"] == [0.5]
    assert "epsilon of node 'layernormalization' (LayerNormalization) is 0.5" in found.changes[-1]
