"""Alignment of two networks: what matches, what only one has, and where no alignment exists."""

import numpy as np
import pytest
from hand_made import Net, inception, residual
from hypothesis import given
from strategies import ensembles, examples

from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model
from mnx.graphs.mothers.align import align, embedding
from mnx.graphs.mothers.alignment import Alignment
from mnx.graphs.mothers.correspondence import correspond
from mnx.graphs.mothers.kernels import Window, common_window, offsets
from mnx.graphs.mothers.matching import How
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.structure import Op
from mnx.graphs.zoo import layers
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import vgg


def aligned(left: Model, right: Model, *, keep_left: bool = False) -> Alignment:
    return align(describe(left), describe(right), keep_left)


def inserted(found: Alignment) -> list[tuple[str, How]]:
    return [(op.name, how) for insertion in found.only_right for op, how in insertion.ops]


def perceptron(name: str, *hidden: int, activation: str = "Relu") -> Model:
    return mlp(name, 4, hidden, 3, activation)


def images(name: str, *blocks: list[tuple[int, int]], batch_norm: bool = False) -> Model:
    return vgg(name, blocks, 3, (2, 8, 8), (6,), batch_norm)


@given(ensembles(1))
@examples(20)
def test_a_network_matches_itself_op_by_op(members: list[Model]) -> None:
    structure = describe(members[0])
    found = align(structure, structure)
    assert [(a.name, b.name) for a, b in found.matches] == [(op.name, op.name) for op in structure.ops()]
    assert (found.only_left, found.only_right) == ((), ())
    assert found.shared == structure.parameter_count


@given(ensembles(2))
@examples(30)
def test_an_alignment_accounts_for_every_op_of_both_sides_once(members: list[Model]) -> None:
    left, right = describe(members[0]), describe(members[-1])
    found = align(left, right)
    for side, structure, only in ((0, left, found.only_left), (1, right, found.only_right)):
        seen = [pair[side].name for pair in found.matches]
        seen += [op.name for insertion in only for op, _ in insertion.ops]
        assert sorted(seen) == sorted(op.name for op in structure.ops())


@given(ensembles(2))
@examples(30)
def test_matched_ops_stand_in_the_same_order_on_both_sides(members: list[Model]) -> None:
    left, right = (describe(members[0]), describe(members[-1]))
    found = align(left, right)
    order = {op.name: index for index, op in enumerate(right.ops())}
    if not any(op.op == "Add" for op in left.ops()):
        places = [order[theirs.name] for _, theirs in found.matches]
        assert places == sorted(places)
    for mine, theirs in found.matches:
        assert (mine.op, mine.matching, mine.shape[1:]) == (theirs.op, theirs.matching, theirs.shape[1:])


@given(ensembles(2))
@examples(20)
def test_both_directions_share_the_same_parameters(members: list[Model]) -> None:
    left, right = describe(members[0]), describe(members[-1])
    assert align(left, right).shared == align(right, left).shared


def test_layers_match_block_by_block() -> None:
    found = aligned(images("a", [(3, 4)], [(3, 4), (3, 4)]), images("b", [(3, 4), (3, 4)], [(3, 4)]))
    names = [(a.name, b.name) for a, b in found.matches if a.op == "Conv"]
    assert names == [("conv1_1", "conv1_1"), ("conv2_1", "conv2_1")]
    assert [insertion.unit.value for insertion in found.only_left] == ["conv2_2", "relu2_2"]
    assert [name for name, _ in inserted(found)] == ["conv1_2", "relu1_2"]


def test_ties_go_to_equal_positions() -> None:
    found = aligned(perceptron("a", 5, 5), perceptron("b", 5, 5, 5, 5))
    assert [b.name for _, b in found.matches] == ["fc1", "fc1_relu", "fc2", "fc2_relu", "head"]


def test_most_shared_parameters_win_over_equal_positions() -> None:
    found = aligned(images("a", [(3, 4), (5, 4)]), images("b", [(3, 4), (1, 4), (5, 4)]))
    assert [b.name for _, b in found.matches if b.op == "Conv"] == ["conv1_1", "conv1_3"]


def test_layers_that_are_passed_over_narrow_what_is_shared() -> None:
    found = aligned(perceptron("a", 2, 8), perceptron("b", 2, 2, 8))
    assert [b.name for _, b in found.matches if b.op == "Gemm"] == ["fc1", "fc3", "head"]
    assert found.shared == (4 * 2 + 2) + (2 * 8 + 8) + (8 * 3 + 3)
    assert aligned(perceptron("a", 5), perceptron("b", 6, 2, 7)).shared == (4 * 2 + 2) + (2 * 3 + 3)


def test_a_residual_stream_is_as_narrow_as_the_narrowest_layer_passed_over_on_it() -> None:
    found = aligned(residual("a", 6, [(6, False)]), residual("b", 6, [(6, True), (6, False)]))
    assert [b.name for _, b in found.matches if b.op == "Conv"] == ["conv", "conv_1", "conv_2"]
    wide, narrow = (inception(name, 5, 3, 4, deeper=deeper) for name, deeper in (("a", False), ("b", True)))
    assert aligned(wide, narrow).shared == describe(wide).parameter_count


def test_large_kernels_go_before_wide_layers() -> None:
    found = aligned(images("a", [(3, 4), (3, 8)]), images("b", [(3, 4), (3, 4), (1, 8)]))
    assert [b.name for _, b in found.matches if b.op == "Conv"] == ["conv1_1", "conv1_2"]


def test_an_inserted_layer_is_the_identity_with_its_activation_and_norm() -> None:
    found = aligned(
        images("a", [(3, 4)], batch_norm=True), images("b", [(3, 4), (3, 4)], batch_norm=True), keep_left=True
    )
    names = ("conv1_2", "norm1_2", "relu1_2")
    assert inserted(found) == [(name, How.IDENTITY) for name in names]
    assert {insertion.arriving.value for insertion in found.only_right} == {"relu1_1"}


def test_an_inserted_residual_block_has_its_last_norm_zeroed() -> None:
    found = aligned(resnet("a", (1,), 4, 3, (1, 4, 4)), resnet("b", (2,), 4, 3, (1, 4, 4)), keep_left=True)
    assert inserted(found) == [
        ("block1_2.first", How.FREE),
        ("block1_2.first_norm", How.FREE),
        ("block1_2.first_relu", How.FREE),
        ("block1_2.second", How.FREE),
        ("block1_2.second_norm", How.ZERO),
        ("block1_2.add", How.JOIN),
        ("block1_2.relu", How.IDENTITY),
    ]


def test_branches_of_a_commutative_join_match_in_either_order() -> None:
    found = aligned(residual("a", 4, [(4, False)]), residual("b", 4, [(4, False)], shortcut_first=True))
    assert (found.only_left, found.only_right) == ((), ())


def test_branches_of_concat_match_in_their_order_only() -> None:
    net = Net("swapped")
    x = net.conv_relu(layers.INPUT, 3)
    large, small = net.conv_relu(x, 4), net.conv_relu(net.conv_relu(x, 2, 1), 2, 1)
    model = net.finish(net.concat(large, small))
    found = aligned(inception("i", 3, 2, 4), model)
    pairs = [(a.parameters[0].shape[0], b.parameters[0].shape[0]) for a, b in found.matches if a.op == "Conv"]
    assert pairs == [(3, 3), (2, 4), (4, 2)]


def test_a_shortcut_with_weights_passes_where_the_other_has_none() -> None:
    found = aligned(residual("a", 4, [(4, False)]), residual("b", 4, [(4, True)]), keep_left=True)
    assert [how for _, how in inserted(found)] == [How.IDENTITY, How.IDENTITY]
    back = aligned(residual("b", 4, [(4, True)]), residual("a", 4, [(4, False)]))
    assert [op.op for insertion in back.only_left for op, _ in insertion.ops] == ["Conv", "BatchNormalization"]


NO_ALIGNMENT = {
    "a layer of Sigmoid cannot be the identity": (
        perceptron("a", 5, activation="Sigmoid"),
        perceptron("b", 5, 5, activation="Sigmoid"),
    ),
    "activations": (perceptron("a", 5), perceptron("b", 5, activation="Tanh")),
    "a perceptron and a VGG": (mlp("a", (2, 8, 8), (5,), 3), images("b", [(3, 4)])),
    "poolings": (images("a", [(3, 4)]), images("b", [(3, 4)], [(3, 4)])),
    "a VGG and a residual network": (images("a", [(3, 4)]), resnet("b", (1,), 4, 3, (2, 8, 8))),
    "stages": (resnet("a", (1,), 4, 3, (1, 8, 8)), resnet("b", (1, 1), 4, 3, (1, 8, 8))),
}


@pytest.mark.parametrize("difference", NO_ALIGNMENT)
def test_networks_that_differ_where_neither_can_be_the_identity_are_refused(difference: str) -> None:
    pair = NO_ALIGNMENT[difference]
    for one, other in (pair, pair[::-1]):
        with pytest.raises(GraphError, match=rf"^{one.name} and {other.name} share no mother"):
            aligned(one, other)


def test_a_refusal_names_the_first_two_places_that_differ() -> None:
    with pytest.raises(GraphError, match=r"'fc1_relu' \(Relu\) of a and node 'fc1_tanh' .* of b: Relu is not Tanh"):
        aligned(perceptron("a", 5), perceptron("b", 5, activation="Tanh"))


def test_a_finished_mother_is_embedded_whole_where_she_fits() -> None:
    mother, wide, narrow = (describe(perceptron(n, *w)) for n, w in (("m", (2, 8)), ("w", (2, 2, 8)), ("n", (2, 2, 7))))
    found = embedding(mother, wide)
    assert found is not None
    assert [a.name for a, _ in found.matches] == [op.name for op in mother.ops()]
    assert embedding(mother, narrow) is None


def test_different_inputs_are_refused_with_their_sizes() -> None:
    with pytest.raises(GraphError, match=r"^a and b take different inputs: 4 of float32 and 1 x 2 x 2 of"):
        aligned(perceptron("a", 5), mlp("b", (1, 2, 2), (5,), 3))


def test_different_classes_are_refused_with_their_numbers() -> None:
    with pytest.raises(GraphError, match=r"^a and b give different outputs: 3 and 7"):
        aligned(perceptron("a", 5), mlp("b", 4, (5,), 7))


def test_a_mother_that_must_stay_whole_is_refused_where_she_has_more() -> None:
    with pytest.raises(GraphError, match="b cannot be grown from a: it lacks her layer 'fc2'"):
        aligned(perceptron("a", 5, 5), perceptron("b", 5), keep_left=True)


def test_the_least_width_counts_inserted_layers() -> None:
    left, right = describe(perceptron("a", 5)), describe(perceptron("b", 6, 2, 7))
    found = correspond(align(left, right), left, right)
    assert found.width == {0: 2}
    assert found.carried == {0: 2, 1: 2, 2: 2}


def test_a_residual_branch_that_only_one_has_carries_nothing() -> None:
    left, right = (describe(resnet(name, (n,), 4, 3, (1, 4, 4))) for name, n in (("a", 1), ("b", 2)))
    found = correspond(align(left, right), left, right)
    first = next(op for op in right.ops() if op.name == "block1_2.first")
    assert first.output[1][0].group not in found.carried


def plain(size: int, begin: int, end: int, dilation: int = 1) -> Window:
    return Window((size,), (begin,), (end,), (dilation,))


@pytest.mark.parametrize(
    "small, large, start",
    [
        (plain(1, 0, 0), plain(3, 1, 1), (1,)),
        (plain(3, 1, 1), plain(5, 2, 2), (1,)),
        (plain(1, 0, 0), plain(5, 2, 2), (2,)),
        (plain(3, 1, 1), plain(3, 1, 1), (0,)),
        (plain(1, 0, 0), plain(2, 0, 1), (0,)),
        (plain(1, 0, 0), plain(2, 1, 0), (1,)),
        (plain(1, 0, 0), plain(3, 2, 2, 2), None),
        (plain(1, 0, 0, 2), plain(3, 2, 2, 2), (1,)),
        (plain(1, 0, 0, 2), plain(3, 1, 3, 2), None),
        (plain(3, 1, 1), plain(3, 0, 2), None),
        (plain(3, 0, 0), plain(5, 0, 0), None),
    ],
)
def test_a_small_kernel_has_its_place_where_the_pads_say(small: Window, large: Window, start: object) -> None:
    assert offsets(small, large) == start


def conv_of(kernel: tuple[int, int], pads: tuple[int, ...]) -> Op:
    net = Net("one")
    shape = (3, 2, *kernel)
    weight = net.builder.weight("w", np.zeros(shape, np.float32))
    x = net.builder.add("Conv", layers.INPUT, weight, kernel_shape=kernel, pads=pads)
    net.widths[x] = 3
    return next(describe(net.finish(x)).ops())


def test_the_common_window_takes_the_smaller_kernel_on_each_axis() -> None:
    tall, wide = conv_of((5, 1), (2, 0, 2, 0)), conv_of((3, 3), (1, 1, 1, 1))
    assert common_window(tall, wide) == Window((3, 1), (1, 0), (1, 0), (1, 1))
    assert common_window(conv_of((3, 3), (0, 0, 2, 2)), conv_of((3, 3), (1, 1, 1, 1))) is None
