"""Two members compared: what they share is what their mother has; where they have none, why and where they part."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from strategies import ensembles, examples

from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model
from mnx.graphs.mothers.difference import Difference, difference
from mnx.graphs.mothers.mother import embed, mother_of, stand_in
from mnx.graphs.mothers.parting import flat, pairs_of, parting
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.structure import Op
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import vgg

SHAPE = (1, 8, 8)


def compared(left: Model, right: Model) -> Difference:
    return difference(stand_in(left), stand_in(right))


def changed(model: Model, op: str, new: str) -> Model:
    """The first node of an op as another op."""
    place = next(index for index, node in enumerate(model.nodes) if node.op == op)
    node = replace(model.nodes[place], op=new)
    return model.replace(nodes=(*model.nodes[:place], node, *model.nodes[place + 1 :]))


def nodes(found: Difference, side: str) -> list[str]:
    return [getattr(row, side).node for row in found.rows if getattr(row, side)]


@examples(10)
@given(ensembles(2))
def test_rows_are_the_members_ops_and_their_mother(models: Sequence[Model]) -> None:
    left, right = models[0], models[-1].replace(name="other")
    found = compared(left, right)
    mother = mother_of([stand_in(left), stand_in(right)], "mother")[1]
    assert found.mother == mother.parameter_count
    assert found.reason == ""
    assert sorted(nodes(found, "left")) == sorted(op.name for op in describe(left).ops())
    assert sorted(nodes(found, "right")) == sorted(op.name for op in describe(right).ops())
    assert nodes(found, "common") == [op.name for op in mother.ops()]
    for member, side in ((left, "left"), (right, "right")):
        alignment, _ = embed(mother, describe(member))
        pairs = {(row.common.node, getattr(row, side).node) for row in found.rows if row.common}
        assert pairs == {(mine.name, theirs.name) for mine, theirs in alignment.matches}
    for row in found.rows:
        assert (row.common is None) == bool(row.how)
    assert json.loads(json.dumps(found.to_json()))["shares"] == list(found.shares or ())


def test_a_member_compared_with_itself_is_its_own_mother() -> None:
    model = resnet("net", [1, 2], 4, 3, SHAPE)
    found = compared(model, model.replace(name="twin"))
    assert found.shares == (1.0, 1.0)
    assert all(row.left and row.right and row.common for row in found.rows)


def test_what_is_alone_says_how_it_is_inserted() -> None:
    found = compared(vgg("a", [[(3, 4)]], 3, SHAPE, [4]), vgg("b", [[(3, 4), (3, 6)]], 3, SHAPE, [4]))
    alone = [(row.right.op, row.how) for row in found.rows if row.left is None and row.right]
    assert alone == [("Conv", "identity"), ("Relu", "identity")]
    found = compared(resnet("a", [1], 4, 3, SHAPE), resnet("b", [2], 4, 3, SHAPE))
    alone = [(row.right.op, row.how, row.depth) for row in found.rows if row.left is None and row.right]
    assert ("BatchNormalization", "zero", 1) in alone
    assert ("Add", "join", 0) in alone


def test_widths_and_kernels_of_both_and_the_common_ones() -> None:
    found = compared(vgg("a", [[(3, 8)]], 3, SHAPE, [4]), vgg("b", [[(5, 6)]], 3, SHAPE, [4]))
    row = found.rows[0]
    assert row.left and row.right and row.common
    assert [(side.widths, side.kernel) for side in (row.left, row.right, row.common)] == [
        ((8,), (3, 3)),
        ((6,), (5, 5)),
        ((6,), (3, 3)),
    ]


PARTED = {
    "another activation": (mlp("a", SHAPE, [6], 3), mlp("b", SHAPE, [6], 3, activation="Tanh"), "Relu is not Tanh"),
    "another number of poolings": (
        vgg("a", [[(3, 4)]], 3, SHAPE, [4]),
        vgg("b", [[(3, 4)], [(3, 4)]], 3, SHAPE, [4]),
        "node 'flatten' (Flatten) of a and node 'pool2' (MaxPool) of b: Flatten is not MaxPool",
    ),
    "a section against an op": (
        resnet("a", [1], 4, 3, SHAPE),
        changed(resnet("b", [1], 4, 3, SHAPE), "Add", "Mul"),
        "their joins differ: Add is not Mul",
    ),
    "other classes": (mlp("a", SHAPE, [6], 3), mlp("b", SHAPE, [6], 4), "sizes 3 and 4 differ, which never change"),
    "other inputs": (mlp("a", SHAPE, [6], 3), mlp("b", (2, 8, 8), [6], 3), "a takes float32 1x8x8, b float32 2x8x8"),
}


@pytest.mark.parametrize(("left", "right", "words"), PARTED.values(), ids=PARTED)
def test_members_without_a_mother_are_told_where_they_part(left: Model, right: Model, words: str) -> None:
    with pytest.raises(GraphError):
        mother_of([stand_in(left), stand_in(right)], "mother")
    found = compared(left, right)
    assert found.mother is None and found.shares is None
    assert words in found.reason
    assert sorted(nodes(found, "left")) == sorted(op.name for op in describe(left).ops()) or "section" in found.reason
    mirrored = compared(right, left)
    assert mirrored.mother is None and mirrored.reason


def test_the_longest_common_part_is_in_order_and_matches() -> None:
    left, right = describe(vgg("a", [[(3, 4)]] * 2, 3, SHAPE, [4])), describe(vgg("b", [[(3, 4)]] * 3, 3, SHAPE, [4]))
    pairs = [pair for pair in flat(pairs_of(left, right)) if pair.left and pair.right and not pair.reason]
    assert [pair.left.op for pair in pairs if isinstance(pair.left, Op)] == [
        *("Conv", "Relu", "MaxPool") * 2,
        *("Relu", "Gemm"),
    ]
    for structure, units in ((left, [p.left for p in pairs]), (right, [p.right for p in pairs])):
        names = [op.name for op in structure.ops()]
        places = [names.index(unit.name) for unit in units if isinstance(unit, Op)]
        assert places == sorted(places)


def test_branches_of_a_sum_are_compared_in_any_order() -> None:
    model = resnet("a", [1, 1], 4, 3, SHAPE)
    swapped = model.replace(
        name="b",
        nodes=tuple(replace(n, inputs=n.inputs[::-1]) if n.op == "Add" else n for n in model.nodes),
    )
    assert parting(describe(model), describe(swapped)) == ""
    assert compared(model, swapped).shares == (1.0, 1.0)
