"""Heads that grow in width: new channels of keys meet zeros in the queries, and queries make up for another scale."""

import numpy as np
import pytest
from growing import ATTENTION, written
from kinds import attending, rescaled
from strategies import batch_for, doubled, planned, trained

from mnx.graphs.growth.growing import Growing, Style
from mnx.graphs.growth.hatch import grow, hatch
from mnx.graphs.model import Model
from mnx.graphs.mothers.mother import embedded
from mnx.graphs.run import run
from mnx.graphs.trees.attention import attention_of
from mnx.graphs.trees.describe import describe

MIXED = """both = Add (mixed, query)
    z6 = Transpose <perm = [0, 2, 1, 3]> (both)"""
"""Queries that are read again behind the attention."""


def pair(joined: bool) -> tuple[Model, Model]:
    small, large = attending("m", 6, 2, 1, 3, joined), attending("n", 8, 2, 2, 5, joined)
    return trained(small), large


@pytest.mark.parametrize("joined", [False, True])
def test_heads_of_the_lesser_width_are_the_mothers(joined: bool) -> None:
    members = [
        attending("a", 6, 2, 1, 3, joined),
        attending("b", 8, 2, 2, 5, joined),
        attending("c", 6, 2, 1, 4, joined),
    ]
    mother, structure = planned(members)
    wide = structure.wide
    assert wide is not None
    assert {wide.groups[group] for group in wide.dotted} == {3}
    real = trained(mother)
    batches = {"random": batch_for(real, 1), "real": batch_for(real, 2)}
    for member in members:
        assert hatch(real, member, batches, "real", 0).certificate.passed


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize(
    "sizes", [[(6, 1, 4), (6, 2, 2), (6, 1, 4)], [(8, 1, 5), (8, 2, 5), (4, 1, 6)], [(6, 1, 4), (6, 2, 2)]]
)
def test_a_mother_scales_as_any_of_her_members_does(sizes: list[tuple[int, int, int]], joined: bool) -> None:
    members = [attending(f"m{i}", width, 2, depth, size, joined) for i, (width, depth, size) in enumerate(sizes)]
    mother, structure = planned(members)
    assert structure.wide is not None, "her heads are as wide as the narrowest"
    assert {structure.wide.groups[group] for group in structure.wide.dotted} == {min(size for *_, size in sizes)}
    real = trained(mother)
    batches = {"random": batch_for(real, 1), "real": batch_for(real, 2)}
    for member in members:
        assert hatch(real, member, batches, "real", 0).certificate.passed


def test_blocks_with_heads_of_the_same_widths_in_another_order_share_the_lesser_of_each() -> None:
    wide = planned([attending("a", 6, 2, 2, (3, 5)), attending("b", 6, 2, 2, (5, 3))])[1].wide
    assert wide is not None
    assert [wide.groups[group] for group in wide.dotted] == [3, 3]


@pytest.mark.parametrize("joined", [False, True])
def test_networks_that_differ_in_the_scale_of_scores_alone_share_all(joined: bool) -> None:
    members = [attending("a", 6, 2, 1, 3, joined), rescaled(attending("b", 6, 2, 1, 3, joined), 2.0)]
    assert planned(members)[1].parameter_count == describe(members[0]).parameter_count


@pytest.mark.parametrize(
    ("known", "line", "other"),
    [
        (True, "scores = MatMul (query, turned)", "all = MatMul (query, turned)\n    scores = Mul (all, half)"),
        (True, "turned = Transpose", "small = Mul (key, half)\n    turned = Transpose"),
        (False, "z4 = Reshape (z3,", "small = Mul (z3, half)\n    z4 = Reshape (small,"),
        (False, "z6 = Transpose <perm = [0, 2, 1, 3]> (mixed)", MIXED),
        (False, "turned = Transpose <perm = [0, 1, 3, 2]> (key)", "turned = Transpose <perm = [0, 1, 3, 2]> (query)"),
    ],
)
def test_queries_make_up_for_a_scale_where_nothing_else_reads_them(known: bool, line: str, other: str) -> None:
    assert line in ATTENTION
    text = ATTENTION.replace(line, other).replace("int64 first", "float half = {0.5}, int64 first")
    assert len(describe(written(text, "attention")).attentions) == known


def test_heads_of_one_width_grow_in_number() -> None:
    members = [attending("a", 6, 2, 1), attending("b", 6, 3, 1)]
    assert planned(members)[1].parameter_count == describe(members[0]).parameter_count


@pytest.mark.parametrize("joined", [False, True])
def test_the_rows_of_queries_are_told_from_those_of_keys_and_values(joined: bool) -> None:
    wide = describe(attending("a", 6, 2, 1, 3, joined)).wide
    assert wide is not None
    ops = list(wide.ops())
    (product,) = (op for op in ops if op.name in wide.products)
    found = attention_of(product, ops)
    assert found is not None
    assert found.scale == pytest.approx(3**-0.5)
    assert [int(mask.sum()) for mask in found.rows.values()] == [6, 6], "the weight's columns and the bias"
    assert [mask.size for mask in found.rows.values()] == ([18, 18] if joined else [6, 6])


@pytest.mark.parametrize("joined", [False, True])
def test_in_double_precision_only_rounding_is_left(joined: bool) -> None:
    small, large = pair(joined)
    mother, batch = doubled(small), batch_for(small, 3)
    (expected,) = run(mother, batch, precision="float64").values()
    (found,) = run(grow(mother, large, batch, Style())[0], batch, precision="float64").values()
    assert float(np.abs(found - expected).max()) < 1e-6, "scale and epsilon are stored in float32"


def test_nearly_equal_channels_before_a_norm_grow_as_exactly() -> None:
    members = [attending("a", 6, 1, 1, 6), attending("b", 4, 1, 1, 6)]
    mother, batch = doubled(trained(planned(members)[0], 2)), batch_for(members[0], 1)
    before = run(mother, batch, ["add_5"], precision="float64")["add_5"]
    assert (before.std(axis=-1) < 0.04 * np.abs(before.mean(axis=-1))).any(), "float32 keeps 3 digits of the variance"
    (expected,) = run(mother, batch, precision="float64").values()
    grown = grow(mother, members[0], batch_for(mother, 0), Style())[0]
    (found,) = run(grown, batch, precision="float64").values()
    assert float(np.abs(found - expected).max()) < 1e-10, "epsilon is stored in float32"


def test_new_channels_learn_though_they_do_nothing_yet() -> None:
    small, large = pair(False)
    grown, _, _ = grow(small, large, batch_for(small, 3), Style())
    known = embedded(describe(small), describe(large))
    growing = Growing(
        small, known.mother, large, known.member, known.alignment, known.found, batch_for(small, 3), Style()
    )
    ops = {op.value: op for op in known.member.ops()}
    (product, *_) = (op for op in ops.values() if op.name in known.member.products)
    keys = ops[ops[product.site.node.inputs[1]].site.node.inputs[0]]
    while not keys.parameters or keys.op != "MatMul":
        keys = ops[keys.site.node.inputs[0]]
    (weight,) = keys.parameters
    fresh = growing.axis(weight.axes[1]) >= 6
    assert fresh.sum() == 4
    assert np.abs(grown.weights[weight.name][:, fresh]).min() > 0
