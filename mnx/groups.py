"""Which networks of a stage train together: those of one cluster, up to so many at a time, in the plan's order.

A group is a matter of the plan and of `fuse` alone, never of who is left to train, for its seed decides what its
networks see.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from mnx.plan import Plan

Group: TypeAlias = tuple[str, ...]
"""The names of networks that train together."""


def groups(plan: Plan, stage: str, fuse: int) -> list[Group]:
    """The groups of a stage, in the order of their first networks; a mother has her cluster to herself."""
    if stage == "mothers":
        return [(cluster.name,) for cluster in plan.clusters]
    found: list[Group] = []
    for cluster in {member.cluster: None for member in plan.members}:
        names = [member.name for member in plan.members if member.cluster == cluster]
        found += [tuple(names[start : start + fuse]) for start in range(0, len(names), fuse)]
    places = {member.name: place for place, member in enumerate(plan.members)}
    return sorted(found, key=lambda group: places[group[0]])


def cost_of(group: Group, waiting: Mapping[str, int]) -> int:
    """The multiply-adds of a group's networks that are not trained yet."""
    return sum(waiting.get(name, 0) for name in group)


def named(group: Group, error: Exception) -> Group:
    """The network of a group that an error speaks of; all of them where it speaks of none."""
    found = [name for name in group if name in str(error)]
    return (max(found, key=len),) if found else group
