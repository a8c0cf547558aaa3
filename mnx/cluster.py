"""Which members share a mother.

`by_tau`: the fewest clusters in which the mother has at least tau of what every member has (first version of the
paper); each is divided among several mothers of one structure. `by_count`: g clusters that minimise the sum of
|N| - |M| (final version). Both go through the members by size: to drop a member only ever enlarges the mother, so that
a cluster stays feasible when it shrinks. |N| counts trained parameters, or what else `graphs.trees.counting` can count.

`sweep`: what every tau gives. The clusters change only where tau passes a share that was too small before, so that
each clustering, from tau = 1 down, names the next tau to look at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from mnx.errors import MnxError
from mnx.graphs.model import Model
from mnx.graphs.mothers.mother import Member
from mnx.graphs.trees.counting import COUNTS, DEFAULT, count, share
from mnx.graphs.trees.structure import Structure
from mnx.mothers import Mothers


@dataclass(frozen=True)
class Cluster:
    """Members that share a mother; she is a stand-in whose weights have shapes only.

    `counted` says what shares are shares of: one of `graphs.trees.counting.COUNTS`.
    """

    name: str
    members: tuple[Structure, ...]
    mother: Model
    structure: Structure
    counted: str = DEFAULT

    def share(self, member: Structure) -> float:
        """How much of what is counted in a member its mother has."""
        return share(self.structure, member, self.counted)


@dataclass(frozen=True)
class Clustering:
    """The clusters that any tau gives which is greater than `above` and at most `tau`."""

    above: float
    tau: float
    clusters: tuple[Cluster, ...]

    @property
    def least_share(self) -> float:
        """The least share that a member has of its mother."""
        return min(cluster.share(member) for cluster in self.clusters for member in cluster.members)


def by_tau(members: Sequence[Member], tau: float, counted: str = DEFAULT, mothers: int = 1) -> list[Cluster]:
    """The fewest clusters in which |mother| >= tau * |member| for every member.

    Args:
        members: of the ensemble.
        tau: the least share of a member that its mother must have.
        counted: what shares are shares of.
        mothers: among so many are the members of each divided, as far as every mother has two. They have the structure
            that all of the cluster share, and first weights of their own: members that were hatched from one mother
            say the same more often than those of two.

    Raises:
        MnxError: tau is not in (0, 1], mothers is not positive, there are no members, or one has nothing of what is
            counted.
    """
    if not 0 < tau <= 1:
        raise MnxError(f"tau = {tau}: give a number above 0, at most 1")
    if mothers < 1:
        raise MnxError(f"mothers = {mothers}: give 1 or more")
    known = Mothers()
    groups, _ = _first_fit(_by_size(members, counted), tau, known, counted)
    return _clusters(groups, known, counted, mothers)


def by_count(members: Sequence[Member], number: int, counted: str = DEFAULT) -> list[Cluster]:
    """`number` clusters with the least sum of |member| - |mother| among those of consecutive sizes.

    Raises:
        MnxError: there are fewer members than clusters, or more kinds of members that share no mother.
    """
    if not 1 <= number <= len(members):
        raise MnxError(f"{number} clusters of {len(members)} members: give a number from 1 to {len(members)}")
    mothers = Mothers()
    kinds, _ = _first_fit(_by_size(members, counted), 0.0, mothers, counted)
    if len(kinds) > number:
        names = "; ".join(", ".join(structure.name for _, structure in kind) for kind in kinds)
        raise MnxError(
            f"the members are of {len(kinds)} kinds that share no mother ({names}): ask for at least so many; "
            "'mnx diff A.onnx B.onnx' says where two part"
        )
    ordered = [member for kind in kinds for member in kind]
    cost = _waste(ordered, _kind_of(kinds), mothers, counted)
    return _clusters(_best_partition(ordered, cost, number), mothers, counted)


def sweep(members: Sequence[Member], counted: str = DEFAULT) -> list[Clustering]:
    """What `by_tau` gives for every tau, from 1 down.

    Raises:
        MnxError: there are no members, or one has nothing of what is counted.
    """
    ordered, mothers = _by_size(members, counted), Mothers()
    found: list[Clustering] = []
    tau, known = 1.0, None
    while tau > 0:
        groups, below = _first_fit(ordered, tau, mothers, counted)
        names = [[structure.name for _, structure in group] for group in groups]
        if names == known:
            found[-1] = replace(found[-1], above=below)
        else:
            found.append(Clustering(below, tau, tuple(_clusters(groups, mothers, counted))))
        tau, known = below, names
    return found


def _by_size(members: Sequence[Member], counted: str) -> list[Member]:
    if not members:
        raise MnxError("no members: give at least one .onnx file")
    for _, structure in members:
        if not count(structure, counted):
            raise MnxError(
                f"{structure.name} has none of what shares are counted in ({COUNTS[counted].words}): plan without it, "
                "or choose another --count"
            )
    return sorted(members, key=lambda member: (count(member[1], counted), member[1].name))


def _first_fit(
    ordered: Sequence[Member], tau: float, mothers: Mothers, counted: str
) -> tuple[list[list[Member]], float]:
    """Each member joins the latest cluster that stays feasible with it, or opens one.

    A mother only shrinks: where that of the cluster has too little of the new member, no alignment is needed.

    Returns the clusters, and the largest share that was less than tau: down to it they stay as they are.
    """
    groups: list[list[Member]] = []
    below = 0.0
    for member in ordered:
        for group in reversed(groups):
            largest = max(count(structure, counted) for _, structure in (*group, member))
            most = count(mothers.of(group)[1], counted) / largest
            if most < tau:
                below = max(below, most)
                continue
            mother = mothers.found([*group, member])
            if mother is None:
                continue
            reached = count(mother[1], counted) / largest
            if reached >= tau:
                group.append(member)
                break
            below = max(below, reached)
        else:
            groups.append([member])
    return groups, below


def _kind_of(kinds: Sequence[Sequence[Member]]) -> Mapping[str, int]:
    return {structure.name: index for index, kind in enumerate(kinds) for _, structure in kind}


def _best_partition(
    ordered: Sequence[Member], cost: Mapping[tuple[int, int], float], number: int
) -> list[list[Member]]:
    size = len(ordered)
    best = {(0, 0): (0.0, 0)}
    for groups in range(1, number + 1):
        for end in range(groups, size + 1):
            options = [
                (best[groups - 1, start][0] + cost.get((start, end), inf), start)
                for start in range(groups - 1, end)
                if (groups - 1, start) in best
            ]
            if options:
                best[groups, end] = min(options)
    parts: list[list[Member]] = []
    end = size
    for groups in range(number, 0, -1):
        start = best[groups, end][1]
        parts.append(list(ordered[start:end]))
        end = start
    return parts[::-1]


def _waste(
    ordered: Sequence[Member], kind: Mapping[str, int], mothers: Mothers, counted: str
) -> dict[tuple[int, int], float]:
    """(start, end) -> sum of |member| - |mother| over ordered[start:end], where they have one."""
    cost: dict[tuple[int, int], float] = {}
    for start in range(len(ordered)):
        total = 0
        for end in range(start + 1, len(ordered) + 1):
            _, member = ordered[end - 1]
            mother = mothers.found(ordered[start:end])
            if mother is None or kind[member.name] != kind[ordered[start][1].name]:
                break
            total += count(member, counted)
            cost[start, end] = total - (end - start) * count(mother[1], counted)
    return cost


def _clusters(groups: Sequence[Sequence[Member]], known: Mothers, counted: str, mothers: int = 1) -> list[Cluster]:
    found: list[Cluster] = []
    for group in groups:
        model, structure = known.of(group)
        parts = max(1, min(mothers, len(group) // 2))
        for part in range(parts):
            name = f"cluster{len(found) + 1}"
            mother = model.replace(name=name, source=None, metadata={}, changes=())
            members = tuple(member for _, member in group[part::parts])
            found.append(Cluster(name, members, mother, replace(structure, name=name), counted))
    return found
