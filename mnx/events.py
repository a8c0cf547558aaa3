"""What happens in a run, as records: written to `events.jsonl`, and shown to whoever listens."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

Event: TypeAlias = Mapping[str, Any]
Listener: TypeAlias = Callable[[Event], None]


class Events:
    """A run's records. `record` writes and shows; `tick` only shows (every step of training, say)."""

    def __init__(self, path: Path | None = None, listeners: Sequence[Listener] = ()) -> None:
        self._path = path
        self._listeners = tuple(listeners)

    def to(self, path: Path) -> Events:
        """The same listeners, writing to another file."""
        return Events(path, self._listeners)

    def beside(self, *listeners: Listener) -> Events:
        """The same file, and further listeners, which hear an event first."""
        return Events(self._path, (*listeners, *self._listeners))

    def record(self, kind: str, **fields: Any) -> None:
        """Append one line and show it. A line is written in one go, so that a kill tears at most the last."""
        self.relay({"time": round(time.time(), 3), "event": kind, **fields})

    def tick(self, kind: str, **fields: Any) -> None:
        """Show an event without writing it."""
        self.relay({"event": kind, **fields})

    def relay(self, event: Event) -> None:
        """Write and show an event of another process as if it were one's own; without a time it was a tick."""
        if self._path is not None and "time" in event:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(_missing_newline(self._path) + json.dumps(event).encode() + b"\n")
        self._show(event)

    def _show(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)


def records_in(data: bytes) -> list[Event]:
    """The records in a part of an events file that begins with a line; lines that a kill has torn are left out."""
    found: list[Event] = []
    for line in data.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and {"event", "time"} <= record.keys():
            found.append(record)
    return found


def _missing_newline(path: Path) -> bytes:
    """What ends a line that a kill has torn, so that the next one stays whole."""
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return b""
        file.seek(-1, os.SEEK_END)
        return b"" if file.read(1) == b"\n" else b"\n"
