"""Promised widths: what may be promised of channel groups that meet, and which paths are kept."""

from mnx.graphs.mothers.best_path import Path, Score, bounded, keep
from mnx.graphs.mothers.promises import Offers, Promises, narrowings, reach
from mnx.graphs.ops.axes import Part
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.structure import Structure
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import vgg


def perceptron(*hidden: int) -> Structure:
    return describe(mlp("p", 4, hidden, 3))


def test_what_is_worth_promising_are_the_least_widths_of_the_layers_behind() -> None:
    assert narrowings(perceptron(8, 5, 6, 2)) == {0: {5, 2}, 1: {2}, 2: {2}, 3: set()}
    assert narrowings(perceptron(2, 5, 8)) == {0: set(), 1: set(), 2: set()}


def test_layers_that_cannot_be_passed_over_end_what_is_worth_promising() -> None:
    stages = describe(resnet("r", (1, 1), 4, 3, (1, 8, 8)))
    assert not any(narrowings(stages).values()), "a stride cannot be the identity, and a stage has one width"


def offered(promises: Promises, left: int | None, right: int | None, *, whole: bool = False) -> list[Promises]:
    offers = Offers(perceptron(8, 5), perceptron(6, 2), whole)
    pair = (
        Part(left) if left is not None else Part(None, 1, 3),
        Part(right) if right is not None else Part(None, 1, 3),
    )
    return offers.tied(promises, [pair], ask=False)


def test_new_channels_promise_the_lesser_width_or_one_that_is_worth_it() -> None:
    found = offered(Promises(), 0, 0)
    assert [dict(promises.left)[0] for promises in found] == [6, 5, 2]
    assert all(dict(promises.left)[0] == dict(promises.right)[0] for promises in found)


def test_who_meets_a_promise_must_keep_it() -> None:
    assert offered(Promises(((0, 5),)), 0, 0) == [Promises(((0, 5),), ((0, 5),))]
    assert offered(Promises(((0, 5),)), 0, 1) == []
    assert offered(Promises(((0, 5),), ((0, 5),)), 0, 0) == [Promises(((0, 5),), ((0, 5),))]
    assert offered(Promises(((0, 5),), ((0, 2),)), 0, 0) == []


def test_a_fixed_width_is_promised_where_it_is_met() -> None:
    assert offered(Promises(), 0, None) == [Promises(((0, 3),))]
    assert offered(Promises(), None, 1) == [], "three channels do not pass through two"


def test_a_finished_mother_promises_her_own_widths() -> None:
    assert offered(Promises(), 0, 0, whole=True) == []
    assert offered(Promises(), 1, 0, whole=True) == [Promises(((1, 5),), ((0, 5),))]


def test_promises_of_groups_that_are_met_no_more_are_forgotten() -> None:
    assert Promises(((0, 5), (1, 3)), ((2, 5),)).among({1}, set()) == Promises(((1, 3),))


def test_reach_counts_what_kernels_read_beside_their_centres() -> None:
    assert reach(describe(vgg("v", [[(3, 4), (1, 4)], [(5, 4)]], 3, (2, 8, 8), (6,)))) == 2 * (2 + 0 + 4)
    assert reach(perceptron(8, 5)) == 0


def test_the_better_path_to_a_state_is_kept_and_of_equals_the_first() -> None:
    first, equal, better = (
        Path[str](Score(0, shared), name) for shared, name in ((1, "first"), (1, "equal"), (2, "b"))
    )
    cell: dict[int, Path[str]] = {}
    for path, expected in ((first, first), (equal, first), (better, better)):
        keep(cell, 0, path)
        assert cell[0] is expected


def test_of_many_states_those_that_score_most_and_those_that_demand_least_are_kept() -> None:
    cell = {width: Path[str](Score(0, width)) for width in range(10)}
    assert set(bounded(cell, 4, lambda width: width)) == {9, 8, 0, 1}
    assert bounded(cell, 10, lambda width: width) is cell
