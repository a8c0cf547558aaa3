"""Widths over which an op takes a mean: the mother's divides the members', so that every channel repeats equally often.

A mean over channels x_1 .. x_w is that over x_g(1) .. x_g(v) only where g takes every channel v / w times; or where
the channels that are left over can be made equal to the mean.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hand_made import Net
from strategies import batch_for, doubled, planned, trained

from mnx.graphs.errors import NotPreserved
from mnx.graphs.growth.growing import Style
from mnx.graphs.growth.hatch import grow, hatch
from mnx.graphs.growth.means import Means
from mnx.graphs.model import Attribute, Model
from mnx.graphs.mothers.mother import embed
from mnx.graphs.run import run
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.structure import Op, Parameter, Structure
from mnx.graphs.verify import difference
from mnx.graphs.zoo import layers


def affine(net: Net, width: int) -> tuple[str, str]:
    """The scale and the shift of a normalisation."""
    scale, shift = np.ones(width, np.float32), np.zeros(width, np.float32)
    return net.builder.weight("scale", scale), net.builder.weight("shift", shift)


def layer_norm(name: str, width: int, activation: str = "Relu") -> Model:
    """Two linear layers with an activation and a LayerNormalization between them."""
    net = Net(name)
    flat = net.builder.add("Flatten", layers.INPUT, axis=1)
    x = layers.gemm(net.builder, net.fill, flat, 32, width, name="hidden")
    x = net.builder.add(activation, x) if activation else x
    x = net.builder.add("LayerNormalization", x, *affine(net, width), axis=-1)
    y = layers.gemm(net.builder, net.fill, x, width, 3, name="head", output=layers.LOGITS)
    return net.done(y, (3,))


def bare_layer_norm(name: str, width: int) -> Model:
    """Two linear layers with a LayerNormalization between them, and nothing else."""
    return layer_norm(name, width, "")


def blocks(name: str, width: int) -> Model:
    """Two normalised residual blocks with layer scale, as in a transformer, and a normalisation behind them."""
    net = Net(name)
    flat = net.builder.add("Flatten", layers.INPUT, axis=1)
    x = layers.gemm(net.builder, net.fill, flat, 32, width, name="stem")
    for number in range(2):
        y = net.builder.add("LayerNormalization", x, *affine(net, width), axis=-1)
        y = layers.gemm(net.builder, net.fill, y, width, 2 * width, name=f"up{number}")
        y = layers.gemm(net.builder, net.fill, net.builder.add("Gelu", y), 2 * width, width, name=f"down{number}")
        x = net.builder.add("Add", x, net.builder.add("Mul", y, affine(net, width)[0]))
    x = net.builder.add("LayerNormalization", x, *affine(net, width), axis=-1)
    return net.done(layers.gemm(net.builder, net.fill, x, width, 3, name="head", output=layers.LOGITS), (3,))


def rms_blocks(name: str, width: int) -> Model:
    """Two residual blocks with RMSNorm before them, written out as exporters do, and one behind."""
    net = Net(name)
    build = net.builder

    def norm(x: str) -> str:
        square = build.add("Pow", x, build.weight("two", np.array(2, np.float32)))
        mean = build.add("ReduceMean", square, build.weight("axes", np.array([-1], np.int64)), keepdims=1)
        root = build.add("Sqrt", build.add("Add", mean, build.weight("epsilon", np.array(0.01, np.float32))))
        return build.add("Mul", build.add("Div", x, root), affine(net, width)[0])

    flat = build.add("Flatten", layers.INPUT, axis=1)
    x = layers.gemm(build, net.fill, flat, 32, width, name="stem")
    for number in range(2):
        y = layers.gemm(build, net.fill, norm(x), width, 2 * width, name=f"up{number}")
        y = layers.gemm(build, net.fill, build.add("Gelu", y), 2 * width, width, name=f"down{number}")
        x = build.add("Add", x, y)
    return net.done(layers.gemm(build, net.fill, norm(x), width, 3, name="head", output=layers.LOGITS), (3,))


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


def without_scale(self: Means, op: Op, parameter: Parameter, value: np.ndarray, group: int) -> np.ndarray:
    return value


def zeros(self: Means, *_: object) -> float:
    return 0.0


def own_epsilon(self: Means) -> dict[str, dict[str, Attribute]]:
    return {}


def ones(self: Means, *_: object) -> float:
    return 1.0


BROKEN = {"scaled": without_scale, "row": zeros}
"""What breaks channels at the mean; of an RMSNorm they are zeros indeed, and ones break it."""


@pytest.mark.parametrize("name", AT_THE_MEAN)
@pytest.mark.parametrize("rule", BROKEN)
def test_without_the_scale_or_with_zeros_for_means_the_certificate_fails(
    name: str, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = members_of(CASES[name])
    monkeypatch.setattr(Means, rule, ones if (name, rule) == ("RMSNorm of residual blocks", "row") else BROKEN[rule])
    with pytest.raises(NotPreserved):
        check_that_members_hatch(members)


def test_with_an_epsilon_that_is_not_scaled_the_certificate_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    members = [with_epsilon(member, 0.5) for member in members_of(CASES["LayerNormalization of residual blocks"])]
    check_that_members_hatch(members)
    monkeypatch.setattr(Means, "attributes", own_epsilon)
    with pytest.raises(NotPreserved):
        check_that_members_hatch(members)


def test_a_member_takes_over_the_epsilon_of_her_mother_and_says_so() -> None:
    small, large = (with_epsilon(bare_layer_norm(f"w{width}", width), width / 16) for width in (8, 16))
    mother = trained(planned([small, large])[0])
    check_that_members_hatch([small, large])
    found = hatch(mother, large, {"real": batch_for(mother, 2)}, "real", 0).model
    assert [node.real("epsilon", 0) for node in found.nodes if node.op == "LayerNormalization"] == [0.5]
    assert "epsilon of node 'layernormalization' (LayerNormalization) is 0.5" in found.changes[-1]


def test_with_an_epsilon_of_squares_that_is_not_scaled_the_certificate_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    members = members_of(CASES["RMSNorm of residual blocks"])
    check_that_members_hatch(members)
    monkeypatch.setattr(Means, "epsilons", own_epsilon)
    with pytest.raises(NotPreserved):
        check_that_members_hatch(members)


def with_epsilon(model: Model, epsilon: float) -> Model:
    nodes = (
        replace(node, attributes={**node.attributes, "epsilon": epsilon}) if node.op == "LayerNormalization" else node
        for node in model.nodes
    )
    return model.replace(nodes=tuple(nodes))
