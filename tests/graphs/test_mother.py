"""The mother of several members: what she holds, and properties over random members."""

from collections.abc import Sequence
from itertools import combinations

import pytest
from brute_force import largest
from hand_made import ended_by_dropout, gated, inception, linear, residual, two_heads
from hypothesis import given
from hypothesis import strategies as st
from strategies import Outline, examples, families, outline, planned

from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model, Node
from mnx.graphs.mothers.align import align
from mnx.graphs.mothers.carve import carve
from mnx.graphs.mothers.correspondence import correspond
from mnx.graphs.mothers.mother import common, embed, size, stand_in
from mnx.graphs.ops.rule import Kind, Role
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.structure import Op, Structure
from mnx.graphs.zoo.ensembles import ENSEMBLES, ensemble
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import vgg


def mother_outline(*members: Model) -> Outline:
    return outline(planned(members)[1])


def linear_shapes(structure: Structure) -> list[tuple[int, ...]]:
    """Shapes of the weights of Conv and Gemm in order."""
    return [op.parameters[0].shape for op in structure.ops() if op.op in ("Conv", "Gemm")]


def hidden_widths(*members: Model) -> list[int]:
    """Output widths of the mother's linear layers but the last."""
    return [shape[0] for shape in linear_shapes(planned(members)[1])[:-1]]


def check_that_a_mother_of_equals_is_their_equal(members: Sequence[Model]) -> None:
    for member in members:
        assert mother_outline(member) == outline(describe(member))
        assert mother_outline(member, member.replace(name="twin")) == outline(describe(member))


def check_that_the_order_of_members_does_not_matter(members: Sequence[Model], order: Sequence[Model]) -> None:
    assert mother_outline(*members) == mother_outline(*order)


def check_that_every_member_embeds(members: Sequence[Model]) -> None:
    _, mother = planned(members)
    for member in members:
        alignment, _ = embed(mother, describe(member))
        assert [left.name for left, _ in alignment.matches] == [op.name for op in mother.ops()]
        assert mother.parameter_count <= describe(member).parameter_count


def check_that_a_mother_among_the_members_stays_the_mother(members: Sequence[Model]) -> None:
    mother, structure = planned(members)
    twin = mother.replace(name="a member like the mother")
    assert mother_outline(*members, twin) == outline(structure)


def check_that_a_further_member_never_enlarges_the_mother(members: Sequence[Model]) -> None:
    """Up to three members. Beyond, it holds almost always: see `graphs.mothers.mother.largest`."""
    whole = size(planned(members)[1])
    for place in range(len(members) if len(members) > 1 else 0):
        assert whole <= size(planned([*members[:place], *members[place + 1 :]])[1])


SMALL = 11
"""More ops than this, and there are too many alignments to try them all."""


def check_that_no_alignment_leads_to_a_larger_mother(members: Sequence[Model]) -> None:
    pair = sorted((stand_in(member) for member in members), key=lambda each: each[1].parameter_count)
    if max(len(list(structure.ops())) for _, structure in pair) > SMALL:
        return
    by_force = largest(pair[0], pair[-1][1])
    assert by_force is not None
    _, mother = planned(members)
    assert size(mother) == size(by_force)
    assert align(pair[0][1], pair[-1][1]).shared == mother.parameter_count


@given(families(1))
@examples(30)
def test_a_mother_of_equals_is_their_equal(members: list[Model]) -> None:
    check_that_a_mother_of_equals_is_their_equal(members)


@given(families(4), st.data())
@examples(30)
def test_the_order_of_members_does_not_matter(members: list[Model], data: st.DataObject) -> None:
    check_that_the_order_of_members_does_not_matter(members, data.draw(st.permutations(members)))


@given(families(4))
@examples(40)
def test_every_member_embeds(members: list[Model]) -> None:
    check_that_every_member_embeds(members)


@given(families(3))
@examples(30)
def test_a_further_member_never_enlarges_the_mother(members: list[Model]) -> None:
    check_that_a_further_member_never_enlarges_the_mother(members)


@given(families(2))
@examples(40)
def test_no_alignment_of_two_members_leads_to_a_larger_mother(members: list[Model]) -> None:
    check_that_no_alignment_leads_to_a_larger_mother(members)


@given(families(3))
@examples(30)
def test_a_mother_among_the_members_stays_the_mother(members: list[Model]) -> None:
    check_that_a_mother_among_the_members_stays_the_mother(members)


@pytest.mark.slow
@pytest.mark.exhaustive
@given(families(5), st.data())
@examples(150)
def test_properties_of_mothers_at_length(members: list[Model], data: st.DataObject) -> None:
    check_that_a_mother_of_equals_is_their_equal(members[:1])
    check_that_the_order_of_members_does_not_matter(members, data.draw(st.permutations(members)))
    check_that_every_member_embeds(members)
    check_that_a_mother_among_the_members_stays_the_mother(members)
    check_that_a_further_member_never_enlarges_the_mother(members[:3])
    check_that_no_alignment_leads_to_a_larger_mother(members[:2])


@given(families(2))
@examples(40)
def test_a_carved_network_has_the_planned_widths_and_kernels(members: list[Model]) -> None:
    model, left = stand_in(members[0])
    alignment, right = align(left, describe(members[-1])), describe(members[-1])
    found = correspond(alignment, left, right)
    widths = {group: found.width[name] for group, name in found.left_class.items()}
    carved = describe(carve(model, left, alignment.only_left, widths, found.windows))

    old = {op.name: op for op in left.ops()}
    kept = [op.name for op, _ in alignment.matches]
    assert sorted(op.name for op in carved.ops()) == sorted(kept)
    for op in carved.ops():
        before = {parameter.slot: parameter for parameter in old[op.name].parameters}
        added = [parameter for parameter in op.parameters if parameter.slot not in before]
        assert set(before) <= {parameter.slot for parameter in op.parameters}
        for parameter in added:  # where a normalisation was left out, the canonical form has a bias
            assert parameter.kind is Kind.BIAS
            assert parameter.shape == op.parameters[0].shape[:1]
        for parameter in (parameter for parameter in op.parameters if parameter.slot in before):
            kernel = iter(found.windows[op.name].size if op.name in found.windows else ())
            expected = [
                next(kernel)
                if role is Role.KERNEL
                else sum(p.outer * p.inner * (1 if p.group is None else widths[p.group]) for p in axis)
                for axis, role in zip(before[parameter.slot].axes, parameter.roles, strict=True)
            ]
            assert list(parameter.shape) == expected


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if "v5" in name else []) for name in ENSEMBLES]
)
def test_a_further_member_never_enlarges_the_mother_of_a_sample_ensemble(name: str) -> None:
    members = [stand_in(member)[0] for member in ensemble(name)]
    sizes: dict[frozenset[str], int] = {}
    for count in range(1, 4):
        for some in combinations(members, count):
            names = frozenset(member.name for member in some)
            sizes[names] = planned(some)[1].parameter_count
            for member in names:
                if count > 1:
                    assert sizes[names] <= sizes[names - {member}]


def test_a_narrow_inserted_layer_narrows_the_mother() -> None:
    assert hidden_widths(mlp("a", 6, (5,), 3), mlp("b", 6, (8, 2, 8), 3)) == [2]


def test_of_three_members_the_order_of_alignment_that_leads_to_most_is_taken() -> None:
    members = [mlp("a", 4, (1, 4, 9, 6), 3), mlp("b", 4, (8, 6), 3), mlp("c", 4, (6, 1, 7, 5), 3)]
    assert hidden_widths(*members) == [1, 5]
    check_that_every_member_embeds(members)


def test_a_hidden_layer_narrower_than_the_input_is_no_obstacle() -> None:
    assert hidden_widths(mlp("a", 6, (5, 5), 3), mlp("b", 6, (2, 7), 3)) == [2, 5]


def test_layers_that_no_activation_follows_may_stand_at_the_input() -> None:
    assert hidden_widths(linear("a", (4,)), linear("b", (3, 4))) == [4]
    assert hidden_widths(linear("a", (4,)), linear("b", (1, 4))) == [1]


def test_least_layers_block_by_block_and_least_filters_and_kernel_by_position() -> None:
    _, mother = planned(
        [
            vgg("a", [[(3, 4), (5, 3)], [(3, 6)]], 3, (2, 8, 8), (6,)),
            vgg("b", [[(5, 3), (3, 4)], [(1, 8), (3, 5)]], 3, (2, 8, 8), (4, 9)),
        ]
    )
    assert linear_shapes(mother) == [(3, 2, 3, 3), (3, 3, 3, 3), (5, 3, 3, 3), (4, 20), (3, 4)]


def test_members_with_and_without_normalisation_share_a_mother_with_biases_and_no_norms() -> None:
    _, mother = planned(
        [
            vgg("plain", [[(3, 4)]], 3, (2, 4, 4), (5,)),
            vgg("normal", [[(3, 4)]], 3, (2, 4, 4), (5,), batch_norm=True),
        ]
    )
    assert [(op.op, len(op.parameters)) for op in mother.ops() if op.parameters] == [
        ("Conv", 2),
        ("Gemm", 2),
        ("Gemm", 2),
    ]


def test_residual_networks_of_other_depth_and_width() -> None:
    members = [resnet("a", (3, 1), 4, 3, (1, 8, 8)), resnet("b", (1, 2), 3, 3, (1, 8, 8))]
    assert mother_outline(*members) == outline(describe(resnet("m", (1, 1), 3, 3, (1, 8, 8))))


def test_shortcuts_with_and_without_weights_in_the_same_place() -> None:
    members = [
        residual("a", 4, [(4, True), (4, False)]),
        residual("b", 5, [(5, False), (5, True)], shortcut_first=True),
        residual("c", 3, [(2, True), (4, True), (6, True)]),
    ]
    check_that_every_member_embeds(members)
    check_that_the_order_of_members_does_not_matter(members, members[::-1])


def test_concat_sums_narrow_part_by_part() -> None:
    _, mother = planned([inception("a", 4, 2, 3), inception("b", 3, 4, 2), inception("c", 5, 1, 6, deeper=True)])
    assert linear_shapes(mother) == [(3, 2, 3, 3), (1, 3, 1, 1), (2, 3, 3, 3), (3, 3)]


def test_gates_that_would_narrow_what_they_multiply_are_left_out() -> None:
    members = [gated("one", 5, 1), gated("full", 4, 4)]
    assert linear_shapes(planned(members)[1]) == [(4, 2, 3, 3), (3, 4)]
    check_that_every_member_embeds(members)


def test_parts_of_the_output_stay() -> None:
    assert hidden_widths(two_heads("a", 4), two_heads("b", 6)) == [4, 2]


def test_a_last_unit_that_only_one_member_has_leaves_the_output_in_place() -> None:
    members = [ended_by_dropout("a", 3), ended_by_dropout("b", 4, dropout=False)]
    softmax = Node("softmax", "Softmax", (members[0].outputs[0].name,), ("probabilities",))
    mother, structure = planned([members[0].replace(head=(softmax,)), members[1]])
    assert mother.outputs[0].name == list(structure.ops())[-1].value
    assert mother.outputs[0].shape == (3,)
    assert mother.head[0].inputs == (mother.outputs[0].name,)


def test_the_mother_is_carved_from_the_smallest_and_carries_her_own_name() -> None:
    small, large = mlp("small", 4, (5,), 3), mlp("large", 4, (6, 7), 3)
    mother, structure = planned([large, small.replace(metadata={"author": "nobody"})])
    assert (mother.name, structure.name) == ("mother", "mother")
    assert mother.metadata == {}
    assert [node.name for node in mother.nodes] == [node.name for node in small.nodes]


def test_planning_reads_no_weights() -> None:
    members = [vgg(n, [[(3, 512)] * 3], 1000, (3, 64, 64), (4096,), hollow=True) for n in ("a", "b")]
    mother, _ = planned(members)
    assert all(array.strides == (0,) * array.ndim for array in mother.weights.values())


def test_a_member_that_is_narrower_than_a_finished_mother_is_refused() -> None:
    with pytest.raises(
        GraphError, match="b cannot be grown from a: behind 'fc1' it has room for 4 of her 5 channels, too few"
    ):
        embed(describe(mlp("a", 4, (5,), 3)), describe(mlp("b", 4, (4,), 3)))
    with pytest.raises(GraphError, match="cannot be grown"):
        embed(*(describe(vgg("v", [[(k, 4)]], 3, (1, 4, 4), (5,))) for k in (3, 1)))


def test_a_member_whose_norms_take_up_the_biases_of_a_finished_mother_embeds() -> None:
    alignment, _ = embed(*(describe(vgg("v", [[(3, 4)]], 3, (1, 4, 4), (5,), batch_norm=bn)) for bn in (False, True)))
    assert [i.unit.op for i in alignment.only_right if isinstance(i.unit, Op)] == ["BatchNormalization"] * 2


def test_nothing_is_carved_where_the_mother_already_embeds() -> None:
    mother = stand_in(mlp("a", 4, (5,), 3))
    assert common(mother, describe(mlp("b", 4, (6, 6), 3))) is mother


@pytest.mark.parametrize(
    "other",
    [vgg("b", [[(3, 4)]], 3, (1, 4, 4), (5,)), mlp("b", (1, 4, 4), (5,), 4), mlp("b", (2, 4, 4), (5,), 3)],
    ids=["kind", "classes", "inputs"],
)
def test_members_without_a_mother_are_refused(other: Model) -> None:
    with pytest.raises(GraphError, match=r"share no mother|take different inputs|give different outputs"):
        planned([mlp("a", (1, 4, 4), (5,), 3), other])
