"""Mothers of groups of members, for planning: what was aligned once is never aligned again.

The mother of a group is that of `mother_of`; groups that begin alike share the work on what they begin
with, so that one more member costs one more alignment as long as the mother stays as she is.
"""

from __future__ import annotations

from collections.abc import Sequence

from mnx.graphs.errors import GraphError
from mnx.graphs.mothers.mother import Member, common, largest
from mnx.graphs.trees.structure import Structure


class Mothers:
    """The mothers that were asked for so far. Members are known by identity: pass the same objects again."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[Member, Structure, Member | GraphError]] = {}

    def of(self, group: Sequence[Member]) -> Member:
        """The mother of a group; she keeps the name of its smallest member.

        Raises:
            GraphError: two of them share no mother.
        """
        return largest(group, self._common)

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

    def _common(self, mother: Member, member: Structure) -> Member:
        if mother[1] is member:
            return mother
        key = (id(mother[1]), id(member))
        if key not in self._known:
            self._known[key] = (mother, member, _common_or_error(mother, member))  # held, so that no id comes again
        found = self._known[key][2]
        if isinstance(found, GraphError):
            raise found
        return found


def _common_or_error(mother: Member, member: Structure) -> Member | GraphError:
    try:
        return common(mother, member)
    except GraphError as error:
        return error
