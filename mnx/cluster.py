"""Which members share a mother.

`by_tau`: the fewest clusters in which the mother has at least tau of every member's parameters (first version of the
paper). `by_count`: g clusters that minimise the sum of |N| - |M| (final version). Both go through the members by size:
to drop a member only ever enlarges the mother, so that a cluster stays feasible when it shrinks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from mnx.errors import MnxError
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model
from mnx.graphs.mother import common, mother_of
from mnx.graphs.structure import Structure

Member = tuple[Model, Structure]
"""A stand-in without weights' values, and its structure."""


@dataclass(frozen=True)
class Cluster:
    """Members that share a mother; she is a stand-in whose weights have shapes only."""

    name: str
    members: tuple[Structure, ...]
    mother: Model
    structure: Structure

    def share(self, member: Structure) -> float:
        """How much of a member's trained parameters its mother has."""
        return self.structure.parameter_count / member.parameter_count


def by_tau(members: Sequence[Member], tau: float) -> list[Cluster]:
    """The fewest clusters in which |mother| >= tau * |member| for every member.

    Raises:
        MnxError: tau is not in (0, 1], or there are no members.
    """
    if not 0 < tau <= 1:
        raise MnxError(f"tau = {tau}: give a number above 0, at most 1")
    return _clusters(_first_fit(_by_size(members), tau))


def by_count(members: Sequence[Member], count: int) -> list[Cluster]:
    """`count` clusters with the least sum of |member| - |mother| among those of consecutive sizes.

    Raises:
        MnxError: there are fewer members than clusters, or more kinds of members that share no mother.
    """
    if not 1 <= count <= len(members):
        raise MnxError(f"{count} clusters of {len(members)} members: give a number from 1 to {len(members)}")
    kinds = _first_fit(_by_size(members), 0.0)
    if len(kinds) > count:
        names = "; ".join(", ".join(structure.name for _, structure in kind) for kind in kinds)
        raise MnxError(
            f"the members are of {len(kinds)} kinds that share no mother ({names}): ask for at least so many"
        )
    ordered = [member for kind in kinds for member in kind]
    return _clusters(_best_partition(ordered, _kind_of(kinds), count))


def _by_size(members: Sequence[Member]) -> list[Member]:
    if not members:
        raise MnxError("no members: give at least one .onnx file")
    return sorted(members, key=lambda member: (member[1].parameter_count, member[1].name))


def _first_fit(ordered: Sequence[Member], tau: float) -> list[list[Member]]:
    """Each member joins the latest cluster that stays feasible with it, or opens one."""
    groups: list[tuple[list[Member], Member]] = []
    for member in ordered:
        for index in reversed(range(len(groups))):
            inside, mother = groups[index]
            wider = _extended(mother, member)
            largest = max(structure.parameter_count for _, structure in (*inside, member))
            if wider is not None and wider[1].parameter_count >= tau * largest:
                groups[index] = ([*inside, member], wider)
                break
        else:
            groups.append(([member], member))
    return [inside for inside, _ in groups]


def _extended(mother: Member, member: Member) -> Member | None:
    try:
        return common(mother, member[1])
    except GraphError:
        return None


def _kind_of(kinds: Sequence[Sequence[Member]]) -> Mapping[str, int]:
    return {structure.name: index for index, kind in enumerate(kinds) for _, structure in kind}


def _best_partition(ordered: Sequence[Member], kind: Mapping[str, int], count: int) -> list[list[Member]]:
    cost = _waste(ordered, kind)
    size = len(ordered)
    best = {(0, 0): (0.0, 0)}
    for groups in range(1, count + 1):
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
    for groups in range(count, 0, -1):
        start = best[groups, end][1]
        parts.append(list(ordered[start:end]))
        end = start
    return parts[::-1]


def _waste(ordered: Sequence[Member], kind: Mapping[str, int]) -> dict[tuple[int, int], float]:
    """(start, end) -> sum of |member| - |mother| over ordered[start:end], where they have one."""
    cost: dict[tuple[int, int], float] = {}
    for start in range(len(ordered)):
        mother: Member | None = ordered[start]
        total = 0
        for end in range(start + 1, len(ordered) + 1):
            member = ordered[end - 1]
            mother = _extended(mother, member) if mother is not None else None
            if mother is None or kind[member[1].name] != kind[ordered[start][1].name]:
                break
            total += member[1].parameter_count
            cost[start, end] = total - (end - start) * mother[1].parameter_count
    return cost


def _clusters(groups: Sequence[Sequence[Member]]) -> list[Cluster]:
    found = []
    for number, group in enumerate(groups, start=1):
        name = f"cluster{number}"
        mother, structure = mother_of(group, name)
        found.append(Cluster(name, tuple(member for _, member in group), mother, structure))
    return found
