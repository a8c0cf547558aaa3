"""From a model to its structure: the channel groups that the op rules give, counts, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from hand_made import Net, gated, inception, residual, two_heads
from hypothesis import given
from reading import network
from strategies import ensembles, examples, planned

from mnx.graphs.builder import Builder
from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.errors import GraphError, UnsupportedOp
from mnx.graphs.model import Model, Port
from mnx.graphs.mothers.align import align
from mnx.graphs.ops.axes import Part, fixed
from mnx.graphs.ops.rule import Kind
from mnx.graphs.parameters import parameter_count, parameters
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.structure import Op, Structure, axis_text
from mnx.graphs.zoo import layers
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import vgg


def op_called(structure: Structure, name: str) -> Op:
    return next(op for op in structure.ops() if op.name == name)


def weight_axes(model: Model) -> dict[str, list[str]]:
    """Name of a linear op -> its weight's axes in words."""
    return {
        op.name: [axis_text(axis) for axis in op.parameters[0].axes]
        for op in describe(model).ops()
        if op.op in ("Conv", "Gemm")
    }


def test_a_perceptron_has_a_group_for_every_hidden_layer() -> None:
    assert weight_axes(mlp("p", 6, (5, 4), 3)) == {"fc1": ["g0", "6"], "fc2": ["g1", "g0"], "head": ["3", "g1"]}
    assert describe(mlp("p", 6, (5, 4), 3)).groups == {0: 5, 1: 4}


def test_flatten_gives_a_product_of_channels_and_space() -> None:
    assert weight_axes(vgg("v", [[(3, 4), (1, 5)]], 3, (2, 6, 6), (7,))) == {
        "conv1_1": ["g0", "2", "3", "3"],
        "conv1_2": ["g1", "g0", "1", "1"],
        "fc1": ["g2", "g1*9"],
        "head": ["3", "g2"],
    }


def test_batch_normalization_lies_in_the_group_that_it_normalises() -> None:
    structure = describe(vgg("v", [[(3, 4)]], 3, (1, 4, 4), (5,), batch_norm=True))
    for norm, made in (("norm1_1", "conv1_1"), ("fc1_norm", "fc1")):
        axes = {parameter.axes for parameter in op_called(structure, norm).parameters}
        assert axes == {(op_called(structure, made).output[1],)}
    assert structure.groups == {0: 4, 1: 5}


def test_the_blocks_of_a_stage_share_the_group_of_their_sum() -> None:
    axes = weight_axes(resnet("r", (2, 1), 4, 3, (1, 8, 8)))
    assert axes["stem"][0] == axes["block1_1.second"][0] == axes["block1_2.second"][0] == axes["block2_1.first"][1]
    assert axes["block2_1.second"][0] == axes["block2_1.shortcut"][0] == axes["head"][1]
    inner = {axes[f"block{place}.first"][0] for place in ("1_1", "1_2", "2_1")}
    assert len(inner | {axes["stem"][0], axes["head"][1]}) == 5


def test_concat_gives_an_ordered_sum() -> None:
    axes = weight_axes(inception("i", 3, 2, 4))
    assert axes["head"] == ["3", f"{axes['conv_1'][0]}+{axes['conv_2'][0]}"]


def test_a_gate_of_one_channel_ties_nothing_and_a_full_one_does() -> None:
    assert len(describe(gated("one", 4, 1)).groups) == 2
    assert len(describe(gated("full", 4, 4)).groups) == 1


def test_parts_of_the_output_are_fixed() -> None:
    assert describe(two_heads("h", 4)).groups == {0: 4}


def test_flattened_channels_at_the_output_are_fixed() -> None:
    net = Net("flat")
    x = net.builder.add("Flatten", net.conv(layers.INPUT, 2), axis=1)
    assert describe(net.done(x, (32,))).groups == {}


def test_groups_are_numbered_by_appearance() -> None:
    assert list(describe(resnet("r", (2, 2), 4, 3, (1, 8, 8))).groups) == [0, 1, 2, 3, 4, 5]


def test_cost_counts_multiply_adds() -> None:
    assert describe(vgg("v", [[(3, 4)]], 3, (2, 4, 4), (5,))).cost == 4 * 2 * 9 * 16 + 5 * 16 + 3 * 5


def test_a_shared_weight_is_counted_once() -> None:
    build = Builder()
    weight, bias = build.weight("w", np.ones((4, 4), np.float32)), build.weight("b", np.ones(4, np.float32))
    x = build.add("Gemm", "x", weight, bias, transB=1)
    x = build.add("Gemm", build.add("Relu", x), weight, bias, transB=1)
    model = build.model("tied", [Port("x", "float32", (4,))], [Port(x, "float32", (4,))])
    assert describe(model).parameter_count == parameter_count(model) == 20


@given(ensembles(2))
@examples(20)
def test_the_structure_counts_what_the_model_holds(members: list[Model]) -> None:
    for model in (*members, planned(members)[0]):
        assert describe(model).parameter_count == parameter_count(model)


@given(ensembles(1))
@examples(20)
def test_every_axis_of_every_parameter_has_the_width_of_its_expression(members: list[Model]) -> None:
    structure = describe(members[0])
    for op in structure.ops():
        for parameter in op.parameters:
            for size, axis in zip(parameter.shape, parameter.axes, strict=True):
                groups = [1 if part.group is None else structure.groups[part.group] for part in axis]
                products = zip(axis, groups, strict=True)
                assert size == sum(part.outer * part.inner * width for part, width in products)


def changed(model: Model, op: str, new_op: str = "", **attributes: int) -> Model:
    """The model with the first node of an op made another op, or given other attributes."""
    nodes = list(model.nodes)
    index = next(i for i, node in enumerate(nodes) if node.op == op)
    old = nodes[index]
    nodes[index] = type(old)(old.name, new_op or op, old.inputs, old.outputs, {**old.attributes, **attributes})
    return model.replace(nodes=tuple(nodes))


def test_an_op_without_a_rule_is_refused_by_op_node_and_file() -> None:
    model = changed(mlp("p", 4, (5,), 3), "Relu", "Acosh").replace(source=Path("folder") / "net.onnx")
    with pytest.raises(UnsupportedOp, match=r"Acosh \(node 'fc1_relu' of net.onnx\) has no rule; 'mnx ops' lists"):
        describe(model)


def test_an_op_of_another_domain_is_refused() -> None:
    model = mlp("p", 4, (5,), 3)
    nodes = tuple(
        type(n)(n.name, n.op, n.inputs, n.outputs, n.attributes, "com.other") if n.op == "Relu" else n
        for n in model.nodes
    )
    # Shapes of foreign ops are not known, so that either refusal will do: both name the node.
    with pytest.raises(GraphError, match="fc1_relu"):
        describe(model.replace(nodes=nodes))


def grouped(name: str, channels: int, groups: int, filters: int) -> Model:
    build = Builder()
    weight = build.weight("w", np.ones((filters, channels // groups, 3, 3), np.float32))
    widen = build.weight("v", np.ones((channels, 2, 1, 1), np.float32))
    wide = build.add("Conv", "x", widen, name="widen", kernel_shape=(1, 1))
    x = build.add("Conv", wide, weight, name="grouped", kernel_shape=(3, 3), pads=(1, 1, 1, 1), group=groups)
    x = build.add("Flatten", build.add("GlobalAveragePool", x), axis=1)
    x = build.add("Gemm", x, build.weight("h", np.ones((3, filters), np.float32)), transB=1)
    return build.model(name, [Port("x", "float32", (2, 6, 6))], [Port(x, "float32", (3,))])


def test_a_depthwise_convolution_ties_what_it_makes_to_what_arrives() -> None:
    structure = describe(grouped("depthwise", 4, 4, 8))
    assert structure.groups == {0: 4}
    (op,) = [op for op in structure.ops() if op.name == "grouped"]
    assert op.output[1] == (Part(0, 1, 2),)
    assert op.parameters[0].axes[:2] == ((Part(0, 1, 2),), fixed(1))


def test_a_grouped_convolution_has_blocks_of_equal_width() -> None:
    structure = describe(grouped("grouped", 6, 2, 8))
    (op,) = [op for op in structure.ops() if op.name == "grouped"]
    (arriving,), (made,) = op.input[1], op.output[1]
    assert (structure.groups[arriving.group or 0], structure.groups[made.group or 0]) == (3, 4)
    assert (arriving.outer, made.outer) == (2, 2)
    assert op.parameters[0].axes[1] == (Part(arriving.group),)


def test_joining_along_the_batch_is_refused() -> None:
    net = Net("stacked")
    x = net.conv(layers.INPUT, 3)
    stacked = net.builder.add("Concat", x, x, axis=0)
    with pytest.raises(UnsupportedOp, match=r"stacked: node 'concat' \(Concat\) joins along axis 0"):
        describe(net.finish(net.same(x, stacked)))


def test_a_model_of_several_outputs_is_refused() -> None:
    model = mlp("p", 4, (5,), 3)
    with pytest.raises(GraphError, match="p has 2 outputs; mnx reads networks with one"):
        describe(model.replace(outputs=(*model.outputs, Port("fc1", "float32", (5,)))))


def text_network(name: str, width: int, *, negative: float = -1e4) -> Model:
    """Ids looked up in a table, a mask over the positions, a mean over those, a linear layer."""
    build = Builder()
    table = build.weight("table", np.ones((9, width), np.float32))
    words = build.add("Gather", table, "ids", name="words", axis=0)
    kept = build.add("Cast", "mask", name="cast", to=1)
    absent = build.add(
        "Mul", build.add("Sub", build.weight("one", np.float32(1)), kept), build.weight("low", np.float32(negative))
    )
    scores = build.add("MatMul", words, build.weight("score", np.ones((width, 1), np.float32)), name="score")
    flat = build.add("Reshape", scores, build.weight("flat", np.array([0, 5])), name="flat")
    weights = build.add("Softmax", build.add("Add", flat, absent, name="masked"), axis=1)
    row = build.add("Reshape", weights, build.weight("row", np.array([0, 1, 5])), name="row")
    mixed = build.add("Reshape", build.add("MatMul", row, words, name="mix"), build.weight("v", np.array([0, width])))
    x = build.add("Gemm", mixed, build.weight("h", np.ones((3, width), np.float32)), transB=1, name="head")
    ports = [Port("ids", "int64", (5,)), Port("mask", "int64", (5,))]
    return build.model(name, ports, [Port(x, "float32", (3,))])


def test_masks_are_context_and_ids_begin_the_flow() -> None:
    structure = describe(text_network("text", 7))
    assert structure.groups == {0: 7}
    assert next(op.name for op in structure.ops()) == "words"
    assert "cast" not in {op.name for op in structure.ops()}
    assert parameters(text_network("text", 7)) == {"table": Kind.TABLE, "score": Kind.WEIGHT, "h": Kind.WEIGHT}


def test_networks_of_other_masks_do_not_match() -> None:
    mine, theirs = describe(text_network("a", 7)), describe(text_network("b", 6))
    assert len(align(mine, theirs).matches) == len(list(mine.ops()))
    with pytest.raises(GraphError, match="share no mother"):
        align(mine, describe(text_network("c", 7, negative=-9.0)))


def test_a_computed_weight_is_refused() -> None:
    build = Builder()
    weight = build.weight("w", np.ones((4, 4), np.float32))
    made = build.add("Relu", weight, name="made")
    x = build.add("Gemm", "x", made, name="gemm", transB=1)
    model = build.model("computed", [Port("x", "float32", (4,))], [Port(x, "float32", (4,))])
    with pytest.raises(GraphError, match=r"computed: node 'made' \(Relu\) is computed from constants alone"):
        describe(model)
    gated = Builder()
    own = gated.add("Gemm", "x", gated.weight("w", np.ones((4, 4), np.float32)), name="own", transB=1)
    x = gated.add("Conv", "x", own, name="conv", kernel_shape=(1, 1))
    with pytest.raises(GraphError):
        describe(gated.model("gated", [Port("x", "float32", (4,))], [Port(x, "float32", (4,))]))


def test_branches_of_different_widths_do_not_add_up() -> None:
    build = residual("r", 4, [(4, False)])
    wrong = build.with_weights({"conv.weight": np.ones((5, 2, 3, 3), np.float32)})
    with pytest.raises(GraphError, match=r"^(r: |shapes of r )"):
        describe(wrong)


CHANNEL_ATTENTION = """
eca (float[batch, 3, 4, 4] x, float[6, 3, 1, 1] w, float[1, 1, 3] k, float[5, 6] h) => (float[batch, 5] y) {
    a = Conv (x, w)
    b = GlobalAveragePool (a)
    row = Constant <value = int64[3] {0, 1, 6}> ()
    c = Reshape (b, row)
    d = Conv <pads = [1, 1]> (c, k)
    e = Sigmoid (d)
    column = Constant <value = int64[4] {0, 6, 1, 1}> ()
    f = Reshape (e, column)
    g = Mul (a, f)
    i = GlobalAveragePool (g)
    j = Flatten (i)
    y = Gemm <transB = 1> (j, h)
}"""


def test_channels_that_a_convolution_runs_along_are_fixed() -> None:
    assert 6 not in describe(canonicalise(network(CHANNEL_ATTENTION), "eca")).groups.values()
