"""Channels beside what passes: further layers of a dense block, further branches of a Concat."""

from collections.abc import Sequence

from activated import branched, dense
from hypothesis import given
from hypothesis import strategies as st
from strategies import batch_for, examples, outline, planned, trained

from mnx.graphs.growth.hatch import hatch
from mnx.graphs.model import Model
from mnx.graphs.mothers.matching import How
from mnx.graphs.mothers.mother import embed
from mnx.graphs.trees.describe import describe

branches = st.lists(st.tuples(st.integers(1, 4), st.sampled_from([1, 3])), min_size=2, max_size=3)


def check_that_members_hatch(members: Sequence[Model], seed: int = 0) -> Model:
    mother = trained(planned(members)[0], seed)
    batches = {"random": batch_for(mother, 1), "real": batch_for(mother, 2, 24)}
    for member in members:
        for split, fresh in (("random", 0.0), ("equal", 0.5)):
            assert hatch(mother, member, batches, "real", seed, split, fresh).certificate.passed
    return mother


def test_a_further_layer_of_a_dense_block_makes_channels_of_its_own() -> None:
    members = [dense("a", 4, (3, 3)), dense("b", 6, (3, 4, 3))]
    mother = check_that_members_hatch(members)
    assert outline(describe(mother)) == outline(describe(members[0]))
    alignment, found = embed(describe(mother), describe(members[1]))
    (insertion,) = alignment.only_right
    assert [how for _, how in insertion.ops] == [How.FREE, How.FREE, How.FREE, How.JOIN]
    assert {found.carried[group] for group in insertion.beside} == {0}


@given(
    st.lists(st.tuples(st.integers(1, 5), st.lists(st.integers(1, 4), min_size=1, max_size=4)), min_size=2, max_size=3),
    st.booleans(),
)
@examples(8)
def test_dense_blocks_of_any_depth_share_a_mother(nets: list[tuple[int, list[int]]], new_first: bool) -> None:
    members = [dense(f"d{i}", stem, growth, new_first) for i, (stem, growth) in enumerate(nets)]
    mother = check_that_members_hatch(members)
    layers = [sum(op.op == "Concat" for op in describe(model).ops()) for model in (mother, *members)]
    assert layers[0] == min(layers[1:])


@given(st.lists(st.tuples(st.integers(1, 5), st.lists(branches, min_size=1, max_size=2)), min_size=2, max_size=2))
@examples(8)
def test_concats_of_any_branches_share_a_mother(nets: list[tuple[int, list[list[tuple[int, int]]]]]) -> None:
    count = min(len(blocks) for _, blocks in nets)
    check_that_members_hatch([branched(f"c{i}", stem, blocks[:count]) for i, (stem, blocks) in enumerate(nets)])


def test_a_concat_keeps_as_many_branches_as_both_have() -> None:
    members = [
        branched("a", 4, [[(3, 1), (4, 3)]]),
        branched("b", 5, [[(3, 1), (4, 3), (5, 3)]]),
        branched("c", 4, [[(2, 1), (4, 3), (5, 3), (6, 5)]]),
    ]
    mother = check_that_members_hatch(members)
    (concat,) = (node for node in mother.nodes if node.op == "Concat")
    assert len(concat.inputs) == 2
    alignment, _ = embed(describe(mother), describe(members[2]))
    assert len(alignment.branches_right) == 2
    assert {how for op, how in alignment.inserted} == {How.FREE}


def test_a_whole_block_of_branches_is_inserted_where_one_passes() -> None:
    members = [branched("a", 4, [[(4, 1), (4, 3)]]), branched("b", 5, [[(8, 1), (4, 3)], [(8, 1), (4, 3), (5, 3)]])]
    mother = check_that_members_hatch(members)
    alignment, _ = embed(describe(mother), describe(members[1]))
    assert len(alignment.only_right) == 1
