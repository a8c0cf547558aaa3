"""Growth by request: every kind of it on every kind of network is exact, and what is no growth is refused by name."""

from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import Any

import onnx
import pytest
from growing import NETWORKS, asked, batches, equal, grow, shapes_of, written
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples, families, outline, trained

from mnx.graphs.errors import GraphError, NotPreserved
from mnx.graphs.growth import deeper, further, larger
from mnx.graphs.growth.grown import grown
from mnx.graphs.growth.places import named
from mnx.graphs.growth.request import Request, Times, request
from mnx.graphs.growth.target import architecture, target
from mnx.graphs.model import Model, Node
from mnx.graphs.proto import to_proto
from mnx.graphs.trees.describe import describe
from mnx.graphs.verify import difference
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import vgg


@dataclass(frozen=True)
class Case:
    """What is asked of a network, and the weights that are other then."""

    network: str
    shapes: dict[str, tuple[int, ...]]
    widths: str = ""
    depths: str = ""
    kernels: str = ""


CASES = [
    Case("mlp", {"fc1": (9, 4), "fc2": (6, 9)}, widths="fc1=9"),
    Case("mlp", {"fc1": (8, 4), "fc2": (9, 8), "head": (3, 9)}, widths="all=x1.5"),
    Case("mlp", {"fc1_copy1": (5, 5), "fc1_copy2": (5, 5)}, depths="fc1+2"),
    Case("mlp", {"fc1": (7, 4), "fc1_copy1": (5, 7)}, widths="fc1=7", depths="fc1+1"),
    Case("mlp with norms", {"fc1": (7, 4), "head": (3, 7)}, widths="fc1_norm=7"),
    Case("mlp with norms", {"fc1_copy1": (5, 5)}, depths="fc1+1"),
    Case("vgg", {"conv1_1": (4, 2, 5, 5), "conv2_1": (6, 4, 3, 4)}, kernels="conv1_1=5 conv2_1=3x4"),
    Case("vgg", {"conv2_1": (9, 4, 3, 3), "fc1": (5, 36)}, widths="g1=9"),
    Case("vgg", {"conv1_1_copy1": (4, 4, 3, 3)}, depths="conv1_1+1"),
    Case("vgg with norms", {"conv1_1_copy1": (4, 4, 3, 3)}, depths="norm1_1+1"),
    Case(
        "vgg with norms",
        {
            "conv1_1": (8, 2, 5, 5),
            "conv1_1_copy1": (8, 8, 5, 5),
            "conv2_1": (20, 8, 3, 3),
            "fc1": (10, 80),
            "head": (3, 10),
        },
        widths="all=x2 conv2_1=20",
        depths="conv1_1+1",
        kernels="conv1_1=5",
    ),
    Case(
        "resnet",
        {
            "stem": (6, 2, 3, 3),
            "block1_1.first": (4, 6, 3, 3),
            "block1_1.second": (6, 4, 3, 3),
            "block2_1.first": (8, 6, 3, 3),
            "block2_1.shortcut": (8, 6, 1, 1),
        },
        widths="stem=6",
    ),
    Case("resnet", {"block2_2.first_copy1": (8, 8, 3, 3), "block2_2.second_copy1": (8, 8, 3, 3)}, depths="block2_2+1"),
    Case(
        "resnet",
        {f"block2_2.{layer}_copy{n}": (8, 8, 3, 3) for layer in ("first", "second") for n in (1, 2)},
        depths="block2_2.add+2",
    ),
    Case(
        "resnet",
        {"block2_1.first_copy1": (8, 8, 3, 3), "block2_1.second_copy1": (8, 8, 3, 3)},
        depths="block2_1+1",
    ),
    Case("resnet", {"block2_1.first_copy1": (8, 8, 3, 3)}, depths="block2_1.first+1"),
    Case(
        "resnet",
        {"block2_1.shortcut": (8, 4, 3, 3), "block2_1.first": (8, 4, 5, 5)},
        kernels="block2_1.shortcut=3 block2_1.first=5",
    ),
    Case("projected", {"conv_3_copy1": (6, 6, 3, 3), "conv_4_copy1": (6, 6, 3, 3)}, depths="add_1+1"),
    Case("inception", {"conv_1": (5, 3, 1, 1), "head": (3, 9)}, widths="conv_1=5"),
    Case("inception", {"conv_1": (2, 3, 3, 3), "conv_2": (4, 3, 5, 5)}, kernels="conv_1=3 conv_2=5"),
    Case("inception", {"conv_2_copy1": (4, 4, 3, 3)}, depths="conv_2+1"),
    Case("separable", {"conv": (6, 2, 3, 3), "conv_1": (6, 1, 3, 3), "conv_2": (6, 6, 1, 1)}, widths="conv=6"),
    Case("separable", {"conv": (6, 2, 3, 3), "conv_1": (6, 1, 3, 3), "conv_2": (6, 6, 1, 1)}, widths="conv_1=x1.5"),
    Case("separable", {"conv_2": (8, 4, 1, 1), "conv_3": (6, 4, 3, 3)}, widths="conv_2=8"),
    Case("separable", {"conv_1": (4, 1, 5, 5), "conv_3": (6, 3, 4, 3)}, kernels="conv_1=5 conv_3=4x3"),
    Case("separable", {"conv_1_copy1": (4, 1, 3, 3), "conv_3_copy1": (6, 3, 3, 3)}, depths="conv_1+1 conv_3+1"),
    Case("signal", {"conv": (4, 3, 5), "conv_1": (5, 4, 3)}, kernels="conv=5 conv_1=3"),
    Case("signal", {"conv": (4, 3, 4)}, kernels="conv=4"),
    Case("signal", {"conv_copy1": (4, 4, 3), "conv_1_copy1": (5, 5, 2)}, depths="conv+1 conv_1+1"),
    Case("signal", {"conv": (6, 3, 3), "conv_1": (8, 6, 2), "gemm": (3, 8)}, widths="all=x1.5"),
    Case("attention", {"matmul_1": (8, 36), "matmul_4": (12, 8)}, widths="matmul_1=36"),
    Case("attention", {"matmul_5": (8, 20), "matmul_6": (20, 8)}, widths="matmul_5=20"),
    Case(
        "attention",
        {
            "matmul": (6, 16),
            "matmul_1": (16, 48),
            "matmul_4": (16, 16),
            "matmul_5": (16, 24),
            "matmul_6": (24, 16),
            "gemm": (3, 16),
        },
        widths="all=x2",
    ),
    Case("attention", {"matmul_5_copy1": (8, 12), "matmul_6_copy1": (12, 8)}, depths="add_5+1"),
    Case("attention", {"matmul_1_copy1": (8, 24), "matmul_4_copy1": (8, 8)}, depths="add_2+1"),
    Case("attention", {"matmul_5_copy1": (12, 12)}, depths="matmul_5+1"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.network} {case.widths}{case.depths}{case.kernels}")
def test_what_is_asked_is_grown_exactly(case: Case) -> None:
    before = shapes_of(NETWORKS[case.network])
    mother, found = grow(NETWORKS[case.network], case.widths, case.depths, case.kernels)
    assert found.certificate.passed
    assert shapes_of(found.model) == {**before, **case.shapes}
    assert equal(mother, found.model)
    onnx.checker.check_model(to_proto(found.model), full_check=True)


def test_growing_like_another_network_gives_that_ones_architecture() -> None:
    small, large = vgg("small", [[(3, 4)]], 3, (2, 6, 6), (5,)), vgg("large", [[(5, 7), (3, 6)]], 3, (2, 6, 6), (8,))
    mother, found = grow(small, like=large)
    assert found.model.name == "large"
    assert outline(describe(found.model)) == outline(describe(large))
    assert equal(mother, found.model)
    _, wider = grow(small, "fc1=11", like=large)
    assert shapes_of(wider.model) == {**shapes_of(large), "fc1": (11, 54), "head": (3, 11)}


def test_a_network_that_is_only_to_be_like_another_keeps_that_ones_weights_in_new_branches() -> None:
    small, large = resnet("small", (1,), 4, 3, (2, 4, 4)), trained(resnet("large", (2,), 4, 3, (2, 4, 4)))
    _, found = grow(small, like=large)
    name = "block1_2.first.weight"
    assert difference(large.weights[name], found.model.weights[name]).largest == 0


@given(members=families(1), factor=st.sampled_from([Fraction(5, 4), Fraction(3, 2), 2]))
@examples(15)
def test_all_widths_of_random_networks_grow_by_any_factor(members: list[Model], factor: Fraction | int) -> None:
    model = trained(members[0])
    groups = describe(model).groups
    found = grown(model, Request({"all": Times(factor)}), batches(model), "real")
    assert describe(found.model).groups == {group: ceil(width * factor) for group, width in groups.items()}
    assert equal(model, found.model)


@given(members=families(1), data=st.data())
@examples(40)
def test_any_request_is_exact_or_refused(members: list[Model], data: st.DataObject) -> None:
    model = trained(members[0])
    ops = list(describe(model).ops())[:-1]
    layers = st.sampled_from([op.name for op in ops if op.parameters])
    units = st.sampled_from([op.name for op in ops if op.parameters or op.op == "Add"])
    kernels = st.sampled_from([op.name for op in ops if op.op == "Conv"] or ["none"])
    wanted = Request(
        data.draw(st.dictionaries(layers, st.integers(6, 12) | st.just(Times(2)), min_size=1, max_size=2)),
        data.draw(st.dictionaries(units, st.integers(1, 2), max_size=1)),
        data.draw(st.dictionaries(kernels, st.integers(3, 5), max_size=1))
        if any(op.op == "Conv" for op in ops)
        else {},
    )
    try:
        found = grown(model, wanted, batches(model), "real")
    except NotPreserved:
        raise
    except GraphError as error:
        assert str(error)
    else:
        assert equal(model, found.model)


REFUSED = {
    "nothing is asked of": ("mlp", "", "", ""),
    "'head' makes the output of mlp, whose width never changes": ("mlp", "head=9", "", ""),
    "mlp has no layer 'fc3', as 'mnx show' lists them; did you mean 'fc2' or 'fc1'?": ("mlp", "fc3=9", "", ""),
    "'fc' begins the names of 2 layers of mlp .fc1, fc2.: give the whole name": ("mlp", "fc=9", "", ""),
    "'fc1' of mlp has 5 channels, and a growth never narrows": ("mlp", "fc1=4", "", ""),
    "mlp has no channel group 'g7': its groups are g0 to g1": ("mlp", "g7=9", "", ""),
    "give a width or a factor of 1 or more": ("mlp", "fc1=x0.5", "", ""),
    "all widths at once grow by a factor": ("mlp", "all=9", "", ""),
    "'fc1' is given twice": ("mlp", "fc1=9 fc1=8", "", ""),
    "width fc1=9 and width fc1_norm=8 contradict: both set the channels of g0": (
        "mlp with norms",
        "fc1=9 fc1_norm=8",
        "",
        "",
    ),
    "g0 of mlp has 5 channels already, and a growth never narrows": ("mlp", "g0=4", "", ""),
    "'relu' of attention has no weights that make channels": ("attention", "relu=9", "", ""),
    "the 24 channels of 'matmul_1' of attention come in blocks of 12 .*: give 24 or 36": (
        "attention",
        "matmul_1=30",
        "",
        "",
    ),
    "the 6 channels of 'conv_3' of separable come in blocks of 2 .*: give 6 or 8": ("separable", "conv_3=7", "", ""),
    "write for example conv1=64": ("mlp", "fc1", "", ""),
    "width fc1=2x: write for example": ("mlp", "fc1=2x", "", ""),
    "write for example layer1.0.2": ("mlp", "", "fc1=2", ""),
    "write for example conv2=5": ("mlp", "", "", "fc1=a"),
    "give 1 or more copies": ("mlp", "", "fc1+0", ""),
    "'head' of mlp makes the output of the network": ("mlp", "", "head+1", ""),
    "'pool1' of vgg has no layer with weights that could be repeated": ("vgg", "", "pool1+1", ""),
    "takes 3x4x4 and gives 6x4x4, so that a copy does not fit behind it": ("inception", "", "concat+1", ""),
    "'conv1_1' of vgg, whose kernel is 3x3, cannot shrink": ("vgg", "", "", "conv1_1=1"),
    "'conv1_1' of vgg, whose kernel is 3x3, takes 2 numbers": ("vgg", "", "", "conv1_1=5x5x5"),
    "does not take 9 taps: on 4 pixels some meet only padding": ("vgg", "", "", "conv2_1=9"),
    "'fc1' of vgg is Gemm: it has no kernel": ("vgg", "", "", "fc1=3"),
}
"""What is said -> network, widths, depths, kernels."""


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_no_growth_is_refused_by_name(words: str) -> None:
    network, widths, depths, kernels = REFUSED[words]
    with pytest.raises(GraphError, match=words):
        architecture(NETWORKS[network], asked(widths, depths, kernels))


def test_hatching_says_why_a_copy_cannot_be_the_identity() -> None:
    with pytest.raises(GraphError, match=r"'fc1_sigmoid_copy1' \(Sigmoid\).*Sigmoid cannot be the identity"):
        grow(mlp("mlp", 4, (5,), 3, activation="Sigmoid"), depths="fc1+1")


def test_a_width_of_one_layer_counts_more_than_that_of_many() -> None:
    model = NETWORKS["resnet"]
    found = shapes_of(architecture(model, asked("all=x2 block2_1=x3 block2_1.first=30")))
    assert (found["stem"][0], found["block2_1.first"][0], found["block2_1.second"][0]) == (8, 30, 24)


def test_groups_have_the_numbers_that_they_had_before() -> None:
    """A copy of the first layer makes a group of its own, behind which the others would have other numbers."""
    found = shapes_of(architecture(NETWORKS["mlp"], asked("g1=11", "fc1+1")))
    assert found == {"fc1": (5, 4), "fc1_copy1": (5, 5), "fc2": (11, 5), "head": (3, 11)}


def test_layers_that_share_a_kernel_are_enlarged_together() -> None:
    text = """
    tied (float[batch, 2, 6, 6] x, float[2, 2, 3, 3] w, float[3, 2] h) => (float[batch, 3] y) {
        a = Conv <pads = [1, 1, 1, 1]> (x, w)
        b = Relu (a)
        c = Conv <pads = [1, 1, 1, 1]> (b, w)
        d = GlobalAveragePool (c)
        e = Flatten (d)
        y = Gemm <transB = 1> (e, h)
    }"""
    mother, found = grow(written(text, "tied"), kernels="conv=5")
    assert shapes_of(found.model) == {"conv": (2, 2, 5, 5), "conv_1": (2, 2, 5, 5), "gemm": (3, 2)}
    assert equal(mother, found.model)


def test_a_layer_is_found_by_its_node_its_module_and_its_beginning() -> None:
    model = NETWORKS["resnet"]
    structure = describe(model)
    first = [op.name for op in structure.ops() if op.name.startswith("block2_1.")]
    assert [op.name for op in named(structure, "block2_1")] == first
    assert [op.name for op in named(structure, "block2_1.")] == first
    assert [op.name for op in named(structure, "ste")] == ["stem"]
    scoped = {"stem": "/features/features.0/conv/Conv", "block1_1.add": "/layer1/layer1.0/Add"}
    nodes = tuple(replace(node, name=scoped.get(node.name, node.name)) for node in model.nodes)
    structure = describe(model.replace(nodes=nodes))
    assert [op.name for op in named(structure, "features.0.conv")] == [scoped["stem"]]
    assert [op.name for op in named(structure, "features")] == [scoped["stem"]]
    assert [op.name for op in named(structure, "layer1.0")] == [scoped["block1_1.add"]]


def test_requests_are_read_as_they_are_written() -> None:
    found = request(["a=3", "b.c=x1.5", "d=e=4"], ["f+2"], ["g=5", "h=3x5"])
    assert found == Request({"a": 3, "b.c": Times(Fraction(3, 2)), "d=e": 4}, {"f": 2}, {"g": 5, "h": (3, 5)})
    assert [str(width) for width in found.widths.values()] == ["3", "x1.5", "4"]


def pads_as_they_were(rule: Any) -> Any:
    return lambda pads, more: pads


def pads_one_too_large(rule: Any) -> Any:
    return lambda pads, more: rule(pads, tuple(added + 1 for added in more))


def copies_that_read_what_the_original_reads(rule: Any) -> Any:
    def broken(model: Model, run: Any, count: int, found: Any) -> Model:
        made: Model = rule(model, run, count, found)
        old = {node.name for node in model.nodes}

        def reading(node: Node) -> Node:
            inputs = tuple(run.entering if name == run.leaving else name for name in node.inputs)
            return node if node.name in old else replace(node, inputs=inputs)

        return made.replace(nodes=tuple(map(reading, made.nodes)))

    return broken


def copies_that_nobody_reads(rule: Any) -> Any:
    return lambda node, names: node


def copies_as_wide_as_the_input(rule: Any) -> Any:
    return lambda op: further.Further()


TWINS = {
    "a kernel without pads": (larger, "_sum", pads_as_they_were, "", "conv1_1=5"),
    "pads that are one too large": (larger, "_sum", pads_one_too_large, "", "conv1_1=5"),
    "a copy beside the original": (deeper, "_with_copies", copies_that_read_what_the_original_reads, "fc1+1", ""),
    "a copy that is read by nobody": (deeper, "_reading", copies_that_nobody_reads, "conv1_1+1", ""),
    "a copy with the channels of the original": (deeper, "squared", copies_as_wide_as_the_input, "conv2_1+1", ""),
}


@pytest.mark.parametrize("name", TWINS)
def test_a_broken_architecture_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, rule, breaking, depths, kernels = TWINS[name]
    model = NETWORKS["vgg"]
    assert grow(model, depths=depths, kernels=kernels)[1].certificate.passed
    monkeypatch.setattr(owner, rule, breaking(getattr(owner, rule)))
    with pytest.raises(GraphError):
        grow(model, depths=depths, kernels=kernels)


def test_fresh_weights_come_from_the_seed() -> None:
    model, wanted = NETWORKS["resnet"], asked("all=x2")
    first, again, other = (target(model, wanted, seed).weights["stem.weight"] for seed in (0, 0, 1))
    assert difference(first, again).largest == 0
    assert not difference(first, other).passed
