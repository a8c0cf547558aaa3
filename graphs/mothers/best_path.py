"""The best path to every state of a dynamic program, as linked lists: scores, steps, and how many states are kept."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

State = TypeVar("State", bound=Hashable)
Step = TypeVar("Step")


class Score(NamedTuple):
    """What paths are compared by: the mother's reach, her parameters, ops, those of one name, how early they stand."""

    reach: int = 0
    shared: int = 0
    ops: int = 0
    named: int = 0
    early: int = 0

    def plus(self, other: Score, early: int = 0) -> Score:
        """The sum."""
        return Score(
            self.reach + other.reach,
            self.shared + other.shared,
            self.ops + other.ops,
            self.named + other.named,
            self.early + other.early + early,
        )


@dataclass(frozen=True)
class Path(Generic[Step]):
    """A path: its score, its last step, the path inside that step's branches, and the path before it."""

    score: Score
    step: Step | None = None
    inside: Path[Step] | None = None
    before: Path[Step] | None = None

    def steps(self) -> Iterator[Step]:
        """All steps up to here, those inside branches before their join."""
        parts: list[Path[Step]] = []
        path: Path[Step] | None = self
        while path is not None:
            parts.append(path)
            path = path.before
        for part in reversed(parts):
            if part.inside is not None:
                yield from part.inside.steps()
            if part.step is not None:
                yield part.step


def keep(cell: dict[State, Path[Step]], state: State, path: Path[Step]) -> None:
    """Keep a path to a state where it is better than the one known; of equals the first."""
    known = cell.get(state)
    if known is None or path.score > known.score:
        cell[state] = path


def thinned(
    cell: dict[State, Path[Step]], most: int, alike: Callable[[State], Hashable | None]
) -> dict[State, Path[Step]]:
    """At most so many states of a cell that are alike, the best by score; those that are like no other all stay."""
    if len(cell) <= most:
        return cell
    seen: dict[Hashable, int] = {}
    kept: dict[State, Path[Step]] = {}
    for state in sorted(cell, key=lambda state: cell[state].score, reverse=True):
        key = alike(state)
        if key is not None:
            seen[key] = seen.get(key, 0) + 1
        if key is None or seen[key] <= most:
            kept[state] = cell[state]
    return kept


def bounded(cell: dict[State, Path[Step]], most: int, demand: Callable[[State], int]) -> dict[State, Path[Step]]:
    """At most so many states of a cell: the better half by score, the other half by what they demand, the least first.

    What demands little leads on where what scores high may not.
    """
    if len(cell) <= most:
        return cell
    best = sorted(cell, key=lambda state: cell[state].score, reverse=True)[: most // 2]
    modest = sorted((state for state in cell if state not in best), key=demand)[: most - most // 2]
    return {state: cell[state] for state in (*best, *modest)}
