"""Follow a run from outside: its events as they are written, its heartbeat, and whether anybody works in it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnx.board import Board
from mnx.events import Event, records_in
from mnx.heartbeat import steps_of
from mnx.lock import is_worked_in
from mnx.pipeline import next_step
from mnx.workspace import RunFolder

NOT_BEGUN, RUNNING, FAILED, INTERRUPTED, KILLED, IDLE, FINISHED = (
    "not begun",
    "running",
    "failed",
    "interrupted",
    "killed",
    "idle",
    "finished",
)
"""How a run is: nobody works in one that is idle, but nothing went wrong either."""


class Tail:
    """Reads the records that were added to a file since the last look, and begins anew where it was replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: tuple[int, int] | None = None
        self._offset = 0

    def read(self) -> tuple[bool, list[Event]]:
        """Whether the file is another one than at the last look, and its new records; torn lines are left out."""
        try:
            with self._path.open("rb") as file:
                found = os.fstat(file.fileno())
                replaced = self._file != (found.st_dev, found.st_ino) or found.st_size < self._offset
                if replaced:
                    self._file, self._offset = (found.st_dev, found.st_ino), 0
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            replaced = self._file is not None
            self._file, self._offset = None, 0
            return replaced, []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return replaced, records_in(whole)


@dataclass
class Watched:
    """A run that is followed. `state` is one of the words above; `last` is the newest record of all."""

    run: RunFolder
    board: Board = field(default_factory=Board)
    state: str = NOT_BEGUN
    last: Event | None = None

    def __post_init__(self) -> None:
        self._tail = Tail(self.run.events_file)

    def look(self) -> list[Event]:
        """Look again; returns the records that are new."""
        alive = is_worked_in(self.run.path)  # before the records: what it wrote last is among them
        replaced, records = self._tail.read()
        if replaced:
            self.board, self.last = Board(), None
        self.board.heard(records)
        self.last = records[-1] if records else self.last
        written, steps = steps_of(self.run.heartbeat_file)
        if alive and written >= (self.last["time"] if self.last else 0.0):
            for step in steps:
                self.board.hear(step, written)
        if not alive:
            self.board.stop()
        self.state = self._state(alive)
        return records

    def next(self) -> str:
        """The command that goes on from here; '' while somebody works."""
        return "" if self.state in (RUNNING, FINISHED) else next_step(self.run)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        found = {"run": str(self.run.path), "state": self.state, "next": self.next() or None}
        training = self.board.to_json(time.time()) if self.board.rows else None
        return {**found, "training": training, "last": self.last}

    def _state(self, alive: bool) -> str:
        if alive:
            return RUNNING
        if not self.run.plan_file.exists():
            return NOT_BEGUN
        if self.last is not None and self.last["event"] == "scored":
            return FINISHED
        if self.board.count("failed"):
            return FAILED
        if self.board.ended:
            return INTERRUPTED
        return KILLED if self.board.rows and self.board.count("trained") < len(self.board.rows) else IDLE


def follow(watched: Watched, every: float = 0.5) -> Iterator[list[Event]]:
    """Look at a run again and again, until nobody works in it any more; wait for one that has not begun.

    Args:
        watched: the run.
        every: seconds between two looks.

    Yields:
        The records that are new at each look.
    """
    while True:
        yield watched.look()
        if watched.state not in (RUNNING, NOT_BEGUN):
            return
        time.sleep(every)
