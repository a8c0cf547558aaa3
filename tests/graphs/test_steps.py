"""The steps of a growth: what stands after each hatches exactly, and a broken rule is found at the step that has it."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from growing import NETWORKS, asked, batches
from hypothesis import given
from strategies import examples, families, outline, planned, trained

from mnx.graphs.errors import GraphError, NotPreserved
from mnx.graphs.growth import growing
from mnx.graphs.growth.growing import Style
from mnx.graphs.growth.grown import grown, hatched
from mnx.graphs.growth.hatch import hatch
from mnx.graphs.growth.steps import Step, after, broken_step, steps_of
from mnx.graphs.growth.target import target
from mnx.graphs.model import Array, Model
from mnx.graphs.proto import to_proto
from mnx.graphs.trees.describe import describe
from mnx.graphs.verify import difference
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import vgg

MANNER = "as the identity, its normalisation calibrated on data"


def steps_between(mother: Model, member: Model) -> tuple[Step, ...]:
    return steps_of(describe(mother), describe(member))


def texts(network: str, widths: str = "", depths: str = "", kernels: str = "") -> list[str]:
    model = NETWORKS[network]
    return [step.text for step in steps_between(model, target(model, asked(widths, depths, kernels)))]


def test_steps_say_what_is_done_in_the_order_in_which_it_may_be_done() -> None:
    assert texts("vgg with norms", "all=x1.5", "conv1_1+1 fc1+1", "conv2_1=5x3") == [
        "enlarge the kernel of conv2_1 from 3x3 to 5x3",
        f"insert conv1_1_copy1, norm1_1_copy1, relu1_1_copy1 behind relu1_1 {MANNER}",
        f"insert fc1_copy1, fc1_norm_copy1, fc1_relu_copy1 behind fc1_relu {MANNER}",
        "widen conv1_1 from 4 to 6 channels",
        "widen conv1_1_copy1 from 4 to 6 channels",
        "widen conv2_1 from 6 to 9 channels",
        "widen fc1 from 5 to 8 channels",
        "widen fc1_copy1 from 5 to 8 channels",
    ]


def test_steps_name_sections_what_is_tied_and_blocks() -> None:
    assert texts("resnet", "stem=6", "block2_2+1") == [
        "insert block2_2.first_copy1 to block2_2.relu_copy1 (7 ops) behind block2_2.relu as a section that adds zero",
        "widen stem, block1_1.second, tied together, from 4 to 6 channels",
    ]
    assert texts("attention", "matmul_1=36") == ["widen matmul_1 from 2 to 3 blocks of 12 channels"]


def test_steps_are_plain_data() -> None:
    model = NETWORKS["vgg with norms"]
    steps = steps_between(model, target(model, asked("fc1=7", "conv1_1+1", "conv2_1=5")))
    document = json.loads(json.dumps([step.to_json() for step in steps]))
    assert [(each["kind"], each["nodes"], each["old"], each["new"]) for each in document] == [
        ("kernel", ["conv2_1"], [3, 3], [5, 5]),
        ("insert", ["conv1_1_copy1", "norm1_1_copy1", "relu1_1_copy1"], [], []),
        ("widen", ["fc1", "fc1_norm"], [5], [7]),
    ]
    assert document[1]["calibrated"] == ["norm1_1_copy1"]


def test_before_all_steps_stands_the_mother_and_behind_them_the_member() -> None:
    mother = NETWORKS["vgg with norms"]
    member = target(mother, asked("all=x2", "conv1_1+2", "conv2_1=5"))
    structure = describe(member)
    steps = steps_of(describe(mother), structure)
    assert outline(describe(after(member, structure, steps, 0))) == outline(describe(mother))
    whole = after(member, structure, steps, len(steps))
    assert whole.nodes == member.nodes
    assert all(difference(member.weights[name], whole.weights[name]).largest == 0 for name in member.weights)


def test_a_member_that_is_no_growth_has_no_steps() -> None:
    model = NETWORKS["mlp"]
    assert not steps_between(model, model)
    with pytest.raises(GraphError, match="cannot be grown from"):
        steps_between(target(model, asked("all=x2")), model)


def check_intermediates(members: list[Model]) -> None:
    """After any number of steps stands a valid network that hatches exactly from the mother by the steps before."""
    mother = trained(planned(members)[0])
    given = batches(mother)
    for member in members:
        structure = describe(member)
        steps = steps_of(describe(mother), structure)
        sizes = []
        for count in range(len(steps) + 1):
            network = after(member, structure, steps, count)
            onnx.checker.check_model(to_proto(network), full_check=True)
            assert hatch(mother, network, given, "real", 0).certificate.passed
            sizes.append(describe(network).parameter_count)
        assert sizes[0] == describe(mother).parameter_count
        assert sizes[-1] == structure.parameter_count


@given(members=families(3))
@examples(8)
def test_every_intermediate_is_a_network_that_hatches_exactly(members: list[Model]) -> None:
    check_intermediates(members)


@pytest.mark.slow
@given(members=families(4))
@examples(60)
def test_many_intermediates_are_networks_that_hatch_exactly(members: list[Model]) -> None:
    check_intermediates(members)


def whole_columns(rule: Any) -> Any:
    return lambda weight, axis, growth, fresh: np.take(weight, growth, axis=axis)


def kernel_in_the_corner(rule: Any) -> Any:
    def broken(weight: Array, axes: tuple[int, ...], sizes: tuple[int, ...], offsets: tuple[int, ...]) -> Array:
        grown: Array = rule(weight, axes, sizes, (0,) * len(offsets) if weight.shape[axes[0]] > 1 else offsets)
        return grown

    return broken


def open_branch(rule: Any) -> Any:
    return lambda op: {p.slot: np.ones(p.shape, np.float32) for p in op.parameters}


def no_identity(rule: Any) -> Any:
    return lambda op, width, arriving: {slot: 2 * array for slot, array in rule(op, width, arriving).items()}


PLAIN = (
    vgg("plain", [[(3, 3)], [(3, 4)]], 3, (2, 8, 8), (5,)),
    vgg("larger", [[(5, 6), (3, 7), (3, 6)], [(5, 9)]], 3, (2, 8, 8), (5, 6)),
)
RESIDUAL = (resnet("small", (1, 1), 4, 3, (2, 8, 8)), resnet("deeper", (2, 3), 6, 3, (2, 8, 8)))

BROKEN: dict[str, tuple[str, Callable[[Any], Any], tuple[Model, Model], str]] = {
    "shares": ("shared", whole_columns, PLAIN, "widen conv1_1 from 3 to 6 channels"),
    "shares behind blocks": ("shared", whole_columns, RESIDUAL, "widen stem, block1_1.second"),
    "kernels": ("placed", kernel_in_the_corner, PLAIN, "enlarge the kernel of conv1_1 from 3x3 to 5x5"),
    "identities": ("identity", no_identity, PLAIN, "insert conv1_2, relu1_2 behind relu1_1 as the identity"),
    "sections": ("zero", open_branch, RESIDUAL, r"insert block1_2.first to block1_2.relu \(7 ops\)"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_step_of_a_broken_rule_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    attribute, breaking, (small, member), words = BROKEN[name]
    mother = trained(small)
    assert hatched(mother, member, batches(mother), "real", Style()).certificate.passed
    monkeypatch.setattr(growing, attribute, breaking(getattr(growing, attribute)))
    with pytest.raises(NotPreserved, match=rf"does not compute the function of.*the step that breaks it: {words}"):
        hatched(mother, member, batches(mother), "real", Style())


def test_a_growth_by_request_names_the_step_too(monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained(NETWORKS["vgg"])
    monkeypatch.setattr(growing, "placed", kernel_in_the_corner(growing.placed))
    with pytest.raises(NotPreserved, match="the step that breaks it: enlarge the kernel of conv2_1 from 3x3 to 5x5"):
        grown(model, asked("all=x2", "conv1_1+1", "conv2_1=5"), batches(model), "real")


@pytest.mark.parametrize("first", range(1, 6))
def test_bisection_finds_the_first_step_after_which_it_fails(first: int) -> None:
    mother, member = PLAIN
    structure = describe(member)
    steps = steps_of(describe(mother), structure)
    sizes = [describe(after(member, structure, steps, count)).parameter_count for count in range(len(steps) + 1)]
    asked_about = []

    def fails(network: Model) -> bool:
        asked_about.append(sizes.index(describe(network).parameter_count))
        return asked_about[-1] >= first

    assert broken_step(mother, member, fails) == steps[first - 1]
    assert len(asked_about) <= 2 + len(steps).bit_length()


def test_no_step_is_named_where_all_fail_or_none_does() -> None:
    mother, member = PLAIN
    assert broken_step(mother, member, lambda network: True) is None
    assert broken_step(mother, member, lambda network: False) is None
    assert broken_step(mother, mother, lambda network: True) is None
