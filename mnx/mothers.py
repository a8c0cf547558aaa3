"""Mothers of groups of members, for planning: what was aligned once is never aligned again.

The mother of a group is that of `graphs.mother.mother_of`; groups that begin alike share the work on what they begin
with, so that one more member costs one more alignment as long as the mother stays as she is.
"""

from __future__ import annotations

from collections.abc import Sequence

from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model
from mnx.graphs.mother import common
from mnx.graphs.structure import Structure

Member = tuple[Model, Structure]
"""A stand-in without weights' values, and its structure."""


class Mothers:
    """The mothers that were asked for so far. Members are known by identity: pass the same objects again."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[Member, Member, Member | GraphError]] = {}

    def of(self, group: Sequence[Member]) -> Member:
        """The mother of a group; she keeps the name of its smallest member.

        Raises:
            GraphError: two of them share no mother.
        """
        ordered = sorted(group, key=lambda member: (member[1].parameter_count, member[1].name))
        mother = ordered[0]
        while True:
            before = mother
            for member in ordered:
                mother = self._common(mother, member)
            if mother is before:
                return mother

    def found(self, group: Sequence[Member]) -> Member | None:
        """The mother of a group, None where it has none."""
        try:
            return self.of(group)
        except GraphError:
            return None

    @property
    def alignments(self) -> int:
        """How many pairs were aligned."""
        return len(self._known)

    def _common(self, mother: Member, member: Member) -> Member:
        if mother[1] is member[1]:
            return mother
        key = (id(mother[1]), id(member[1]))
        if key not in self._known:
            self._known[key] = (mother, member, _common_or_error(mother, member))  # held, so that no id comes again
        found = self._known[key][2]
        if isinstance(found, GraphError):
            raise found
        return found


def _common_or_error(mother: Member, member: Member) -> Member | GraphError:
    try:
        return common(mother, member[1])
    except GraphError as error:
        return error
