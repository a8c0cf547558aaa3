"""Clusters: the paper's golden ensemble, feasible final mothers, and the best partition there is."""

from collections.abc import Callable, Sequence
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_training import examples

from mnx.cluster import Cluster, by_count, by_tau, sweep
from mnx.errors import MnxError
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model
from mnx.graphs.mothers.mother import common, embed, mother_of, stand_in
from mnx.graphs.trees.counting import COUNTS, count
from mnx.graphs.trees.structure import Structure
from mnx.graphs.zoo.ensembles import ensemble
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import v5, vgg
from mnx.mothers import Member, Mothers

SHAPE = (1, 4, 4)
SHARES = {"V13": 0.58, "V16": 0.58, "V16A": 0.60, "V16B": 0.56, "V19": 0.54}
WIDTHS = st.lists(st.integers(1, 12), min_size=1, max_size=3)
LAYER = st.tuples(st.sampled_from([1, 3, 5]), st.integers(1, 6))
BLOCK = st.lists(LAYER, min_size=1, max_size=3)


def members_of(models: Sequence[Model]) -> list[Member]:
    return [stand_in(model) for model in models]


def perceptrons(hidden: Sequence[Sequence[int]]) -> list[Model]:
    return [mlp(f"p{number}", SHAPE, widths, 3) for number, widths in enumerate(hidden)]


def names(clusters: Sequence[Cluster]) -> list[list[str]]:
    return [[member.name for member in cluster.members] for cluster in clusters]


def waste(clusters: Sequence[Cluster]) -> int:
    return sum(
        member.parameter_count - cluster.structure.parameter_count for cluster in clusters for member in cluster.members
    )


@st.composite
def mixtures(draw: st.DrawFn) -> list[Model]:
    """Two to five members of one or several kinds on one input."""
    builders: dict[str, Callable[[str], Model]] = {
        "mlp": lambda name: mlp(name, SHAPE, draw(WIDTHS), 3, batch_norm=draw(st.booleans())),
        "vgg": lambda name: vgg(name, [draw(BLOCK), draw(BLOCK)], 3, SHAPE, [draw(st.integers(1, 6))]),
        "resnet": lambda name: resnet(name, [draw(st.integers(1, 3)), 1], draw(st.integers(1, 4)), 3, SHAPE),
    }
    kinds = draw(st.lists(st.sampled_from(sorted(builders)), min_size=2, max_size=5))
    return [builders[kind](f"{kind}{number}") for number, kind in enumerate(kinds)]


def test_v5_is_one_cluster_at_tau_one_half() -> None:
    [cluster] = by_tau(members_of(v5(hollow=True)), 0.5)
    assert cluster.name == "cluster1"
    assert {member.name: round(cluster.share(member), 2) for member in cluster.members} == SHARES


def test_v5_falls_apart_as_tau_grows() -> None:
    members = members_of(v5(hollow=True))
    counts = [len(by_tau(members, tau)) for tau in (0.3, 0.53, 0.55, 1.0)]
    assert counts[:3] == [1, 1, 2]
    assert counts == sorted(counts)
    assert counts[-1] == 5


def test_at_tau_one_every_architecture_has_its_own_cluster() -> None:
    models = [*perceptrons([[4], [8], [4], [4, 4], [8], [8, 4], [4, 8]])]
    clusters = by_tau(members_of(models), 1.0)
    assert sorted(names(clusters)) == [["p0", "p2"], ["p1", "p4"], ["p3"], ["p5"], ["p6"]]
    assert waste(clusters) == 0


@pytest.mark.parametrize(("mothers", "sizes"), [(1, [5]), (2, [3, 2]), (3, [3, 2]), (100, [3, 2])])
def test_a_cluster_is_divided_among_mothers_as_far_as_each_has_two(mothers: int, sizes: list[int]) -> None:
    members = members_of(v5(hollow=True))
    (whole,) = by_tau(members, 0.5)
    clusters = by_tau(members, 0.5, mothers=mothers)
    assert [len(cluster.members) for cluster in clusters] == sizes
    assert [cluster.name for cluster in clusters] == [f"cluster{number + 1}" for number in range(len(sizes))]
    assert sorted(name for each in names(clusters) for name in each) == sorted(SHARES)
    for cluster in clusters:
        assert cluster.mother.weights.keys() == whole.mother.weights.keys()
        assert cluster.structure.parameter_count == whole.structure.parameter_count
        assert all(round(cluster.share(member), 2) == SHARES[member.name] for member in cluster.members)


def test_every_cluster_is_divided_by_itself() -> None:
    members = members_of(perceptrons([[4], [4], [5], [5], [40], [40], [44], [80]]))
    assert names(by_tau(members, 0.6)) == [["p0", "p1", "p2", "p3"], ["p4", "p5", "p6"], ["p7"]]
    divided = [["p0", "p2"], ["p1", "p3"], ["p4", "p5", "p6"], ["p7"]]
    assert names(by_tau(members, 0.6, mothers=2)) == divided


@pytest.mark.parametrize("mothers", [-1, 0])
def test_a_number_of_mothers_out_of_range_is_refused(mothers: int) -> None:
    with pytest.raises(MnxError, match=f"mothers = {mothers}: give 1 or more"):
        by_tau(members_of(perceptrons([[4], [6]])), 0.5, mothers=mothers)


def test_clusters_do_not_depend_on_the_order_of_the_members() -> None:
    members = members_of(perceptrons([[4], [9, 9], [6], [12, 3], [4, 4]]))
    assert names(by_tau(members, 0.6)) == names(by_tau(members[::-1], 0.6))
    assert names(by_count(members, 2)) == names(by_count(members[::-1], 2))


@pytest.mark.parametrize("tau", [0.0, -0.1, 1.0000001, 2.0, float("nan"), float("inf")])
def test_a_tau_out_of_range_is_refused(tau: float) -> None:
    with pytest.raises(MnxError, match=rf"tau = {tau}: give a number above 0, at most 1"):
        by_tau(members_of(perceptrons([[4]])), tau)


@pytest.mark.parametrize("count", [-1, 0, 3])
def test_a_count_of_clusters_out_of_range_is_refused(count: int) -> None:
    with pytest.raises(MnxError, match=f"{count} clusters of 2 members: give a number from 1 to 2"):
        by_count(members_of(perceptrons([[4], [6]])), count)


def test_no_members_are_refused() -> None:
    with pytest.raises(MnxError, match="no members"):
        by_tau([], 0.5)


@pytest.mark.parametrize(
    "other",
    [
        vgg("other", [[(3, 4)]], 3, SHAPE, [4]),
        resnet("other", [1], 4, 3, SHAPE),
        mlp("other", SHAPE, [4], 3, activation="Tanh"),
    ],
    ids=["vgg", "resnet", "tanh"],
)
def test_members_of_different_kinds_never_share(other: Model) -> None:
    members = members_of([*perceptrons([[4], [6]]), other])
    with pytest.raises(GraphError):
        mother_of(members, "mother")
    assert sorted(names(by_tau(members, 1e-9))) == [["other"], ["p0", "p1"]]
    assert sorted(names(by_count(members, 2))) == [["other"], ["p0", "p1"]]
    with pytest.raises(MnxError, match=r"2 kinds that share no mother \(.*other.*\): ask for at least so many"):
        by_count(members, 1)


def test_basic_and_wider_residual_networks_share() -> None:
    [cluster] = by_tau(members_of(ensemble("resnet")), 0.2)
    assert len(cluster.members) == 5


@examples(15)
@given(mixtures(), st.sampled_from([0.2, 0.4, 0.6, 0.8, 0.95]))
def test_every_final_mother_has_her_share_and_is_in_every_member(models: list[Model], tau: float) -> None:
    clusters = by_tau(members_of(models), tau)
    assert sorted(name for each in names(clusters) for name in each) == sorted(model.name for model in models)
    assert [cluster.name for cluster in clusters] == [f"cluster{n}" for n in range(1, len(clusters) + 1)]
    for cluster in clusters:
        for member in cluster.members:
            assert cluster.structure.parameter_count >= tau * member.parameter_count
            assert cluster.share(member) == cluster.structure.parameter_count / member.parameter_count
            embed(cluster.structure, member)


@examples(8)
@given(st.lists(WIDTHS, min_size=2, max_size=5))
def test_clusters_are_the_best_contiguous_ones(hidden: list[list[int]]) -> None:
    members = members_of(perceptrons(hidden))
    ordered = sorted(members, key=lambda member: (member[1].parameter_count, member[1].name))
    size = len(ordered)
    mothers = {
        (start, end): mother_of(ordered[start:end], "mother")[1].parameter_count
        for start, end in combinations(range(size + 1), 2)
    }

    def cost(cuts: tuple[int, ...]) -> int:
        return sum(
            ordered[member][1].parameter_count - mothers[start, end]
            for start, end in pairwise(cuts)
            for member in range(start, end)
        )

    def feasible(cuts: tuple[int, ...], tau: float) -> bool:
        pairs = pairwise(cuts)
        return all(mothers[start, end] >= tau * ordered[end - 1][1].parameter_count for start, end in pairs)

    partitions = [(0, *cuts, size) for n in range(size) for cuts in combinations(range(1, size), n)]
    for number in range(1, size + 1):
        clusters = by_count(members, number)
        assert len(clusters) == number
        assert waste(clusters) == min(cost(cuts) for cuts in partitions if len(cuts) == number + 1)
    for tau in (0.3, 0.6, 0.9):
        fewest = min(len(cuts) - 1 for cuts in partitions if feasible(cuts, tau))
        assert len(by_tau(members, tau)) <= fewest


@examples(6)
@given(mixtures())
def test_more_clusters_never_waste_more(models: list[Model]) -> None:
    members = members_of(models)
    least = len(by_tau(members, 1e-9))
    wastes = [waste(by_count(members, count)) for count in range(least, len(members) + 1)]
    assert wastes == sorted(wastes, reverse=True)
    assert wastes[-1] == 0


def test_shares_may_count_convolutions_only() -> None:
    members = members_of(v5(hollow=True))
    [cluster] = by_tau(members, 0.25, "conv")
    shares = {member.name: round(cluster.share(member), 2) for member in cluster.members}
    assert shares == {"V13": 0.56, "V16": 0.53, "V16A": 0.81, "V16B": 0.36, "V19": 0.26}
    assert len(by_tau(members, 0.5, "conv")) > 1


@examples(10)
@given(mixtures(), st.sampled_from(["all", "flops"]), st.sampled_from([0.3, 0.6, 0.9]))
def test_every_share_counts_what_was_asked_for(models: list[Model], counted: str, tau: float) -> None:
    for cluster in by_tau(members_of(models), tau, counted):
        for member in cluster.members:
            assert count(cluster.structure, counted) >= tau * count(member, counted)
            assert cluster.share(member) == count(cluster.structure, counted) / count(member, counted)


def test_members_without_what_is_counted_are_refused() -> None:
    with pytest.raises(MnxError, match=r"p0 has none of .* \(trained parameters of convolutions only\): .* --count"):
        by_tau(members_of(perceptrons([[4]])), 0.5, "conv")


@examples(12)
@given(mixtures(), st.sampled_from(["all", "flops"]))
def test_the_sweep_says_what_every_tau_gives(models: list[Model], counted: str) -> None:
    members = members_of(models)
    rows = sweep(members, counted)
    assert rows[0].tau == 1 and rows[-1].above == 0
    assert all(upper.above == lower.tau for upper, lower in pairwise(rows))
    assert all(names(upper.clusters) != names(lower.clusters) for upper, lower in pairwise(rows))
    for row in rows:
        for tau in (row.tau, row.above + (row.tau - row.above) / 2):
            assert names(by_tau(members, tau, counted)) == names(row.clusters)
        assert row.least_share >= row.tau
        assert all(cluster.counted == counted for cluster in row.clusters)


def test_mothers_of_groups_are_those_of_their_members_and_nothing_is_aligned_twice() -> None:
    members, mothers = members_of(ensemble("v5")[:5]), Mothers()
    for group in (members[:2], members[:3], members):
        found, expected = mothers.of(group)[1], mother_of(group, "mother")[1]
        assert (found.parameter_count, found.cost) == (expected.parameter_count, expected.cost)
        done = mothers.alignments
        assert mothers.of(group[::-1])[1] is found
        assert mothers.alignments == done
    assert mothers.found([*members, *members_of(perceptrons([[4]]))]) is None


def test_the_sweep_aligns_no_pair_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs: list[tuple[int, int]] = []
    held: list[object] = []

    def counted(mother: Member, member: Structure) -> Member:
        pairs.append((id(mother[1]), id(member)))
        held.extend((mother, member))
        return common(mother, member)

    monkeypatch.setattr("mnx.mothers.common", counted)
    sweep(members_of(ensemble("v5")))
    assert len(pairs) == len(set(pairs))


def test_every_count_has_words() -> None:
    structure = members_of(v5(hollow=True))[0][1]
    assert count(structure) == count(structure, "all") == structure.parameter_count
    assert count(structure, "flops") == structure.cost
    assert 0 < count(structure, "conv") < structure.parameter_count
    assert all(each.words for each in COUNTS.values())
    with pytest.raises(GraphError, match="unknown count 'layers': use one of all, conv, flops"):
        count(structure, "layers")
