"""The series-parallel tree: chains, parallel sections, nested ones, and networks that have no such tree."""

from dataclasses import replace

import pytest
from hand_made import Net, gated, inception, ladder, residual
from strategies import batch_for, trained

from mnx.graphs.errors import GraphError
from mnx.graphs.growth.hatch import hatch
from mnx.graphs.model import Model, Node
from mnx.graphs.mothers.align import align
from mnx.graphs.mothers.mother import mother_of, stand_in
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.structure import Op, Parallel, Series, Tangle
from mnx.graphs.zoo import layers
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import vgg


def words(series: Series) -> list[object]:
    """The tree as nested lists: an op is its name, a parallel section its branches and then its join."""
    return [
        [*(words(branch) for branch in unit.branches), unit.join.op] if isinstance(unit, Parallel) else word(unit)
        for unit in series
    ]


def word(unit: Op | Tangle) -> object:
    return unit.op if isinstance(unit, Op) else tuple(op.op for op in unit.ops)


def tree(model: Model) -> list[object]:
    return words(describe(model).series)


def test_a_chain_is_a_series_of_its_nodes() -> None:
    model = vgg("v", [[(3, 4), (1, 4)], [(3, 4)]], 3, (1, 4, 4), (5,))
    assert tree(model) == [node.op for node in model.nodes]


def test_an_identity_shortcut_is_an_empty_branch() -> None:
    body = ["Conv", "BatchNormalization", "Relu", "Conv", "BatchNormalization"]
    assert tree(residual("r", 4, [(4, False)]))[3:5] == [[body, [], "Add"], "Relu"]


def test_branches_are_in_the_order_of_the_join() -> None:
    unit = describe(residual("r", 4, [(4, False)], shortcut_first=True)).series[3]
    assert isinstance(unit, Parallel)
    assert [len(branch) for branch in unit.branches] == [0, 5]


def test_a_projected_shortcut_is_a_branch() -> None:
    body = ["Conv", "BatchNormalization", "Relu", "Conv", "BatchNormalization"]
    unit = tree(resnet("r", (1, 1), 4, 3, (1, 8, 8)))[5]
    assert unit == [body, ["Conv", "BatchNormalization"], "Add"]


def test_concat_joins_branches() -> None:
    assert tree(inception("i", 3, 2, 4)) == [
        "Conv",
        "Relu",
        [["Conv", "Relu"], ["Conv", "Relu"], "Concat"],
        "GlobalAveragePool",
        "Flatten",
        "Gemm",
    ]


def test_parallel_sections_nest() -> None:
    net = Net("nested")
    x = net.conv_relu(layers.INPUT, 3)
    inner = net.op("Add", net.conv(x, 3), x)
    outer = net.op("Add", net.op("Mul", net.relu(inner), net.op("Sigmoid", inner)), x)
    assert tree(net.finish(outer))[2] == [
        [[["Conv"], [], "Add"], [["Relu"], ["Sigmoid"], "Mul"]],
        [],
        "Add",
    ]


def test_three_ways_from_one_value_fall_into_two_joins() -> None:
    net = Net("three")
    x = net.conv_relu(layers.INPUT, 3)
    first = net.op("Add", net.conv(x, 3), net.conv(x, 3, 1))
    assert tree(net.finish(net.op("Add", first, x)))[2] == [[[["Conv"], ["Conv"], "Add"]], [], "Add"]


def test_a_value_joined_with_itself_has_two_empty_branches() -> None:
    net = Net("squared")
    x = net.conv(layers.INPUT, 3)
    assert tree(net.finish(net.op("Mul", x, x)))[1] == [[], [], "Mul"]


def test_a_gate_is_a_parallel_section() -> None:
    assert tree(gated("g", 3, 3))[2] == [[], ["Conv", "Sigmoid"], "Mul"]


def test_a_network_that_starts_with_a_fork() -> None:
    net = Net("fork")
    joined = net.op("Add", net.conv(layers.INPUT, 3), net.conv(layers.INPUT, 3, 1))
    assert tree(net.finish(joined))[0] == [["Conv"], ["Conv"], "Add"]


def test_what_is_no_tree_is_a_tangle() -> None:
    structure = describe(ladder("bridge"))
    (tangle,) = [unit for unit in structure.series if isinstance(unit, Tangle)]
    assert [op.op for op in tangle.ops] == ["Conv", "Conv", "Add", "Conv", "Conv", "Add"]
    assert tangle.wiring == ((-1,), (-1,), (1, 0), (0,), (2,), (3, 4))


def test_a_tangle_grows_wider_op_by_op() -> None:
    members = [stand_in(ladder("a")), stand_in(ladder("wide", 5))]
    mother, structure = mother_of(members, "m")
    assert structure.parameter_count == members[0][1].parameter_count
    real = trained(mother)
    assert hatch(real, ladder("wide", 5), {"random": batch_for(real, 1)}, "random", 0).certificate.passed


def test_a_tangle_matches_only_one_like_it() -> None:
    tangled, other = ladder("a"), ladder("b")
    assert len(align(describe(tangled), describe(other)).matches) == len(tangled.nodes)
    twisted = other.replace(
        nodes=tuple(replace(node, inputs=node.inputs[::-1]) if node.op == "Add" else node for node in other.nodes)
    )
    with pytest.raises(GraphError, match="share no mother"):
        align(describe(tangled), describe(twisted))


def test_a_node_off_the_way_to_the_output_is_refused_by_name() -> None:
    model = vgg("v", [[(3, 4)]], 3, (1, 4, 4), (5,))
    idle = Node("idle", "Relu", ("conv1_1",), ("nothing",))
    with pytest.raises(
        GraphError, match=r"v: node 'idle' \(Relu\) does not lie between the input and the output 'logits'"
    ):
        describe(model.replace(nodes=(*model.nodes, idle)))
