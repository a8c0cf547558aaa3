"""Where networks in training stand between two epochs: a small file for those that look on from outside."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from mnx.events import Event
from mnx.graphs.files import write_text

EVERY_SECONDS: Final = 2.0
"""Between two writings of the file."""


class Heartbeat:
    """A listener that keeps the last step of every network in training, and writes them down now and then."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._steps: dict[str, Event] = {}
        self._written = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Hear an event."""
        if event["event"] == "step":
            self._steps[event["network"]] = event
        elif event["event"] in ("epoch", "trained"):
            self._steps.pop(event["network"], None)
        if time.monotonic() - self._written >= EVERY_SECONDS:
            self._written = time.monotonic()
            with suppress(OSError):  # no training ends because nobody can look on
                write_text(self._path, json.dumps({"time": time.time(), "steps": list(self._steps.values())}) + "\n")

    def end(self) -> None:
        """Remove the file: no network is in training any more."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def steps_of(path: Path) -> tuple[float, list[dict[str, Any]]]:
    """When a heartbeat was written, and the last step of every network that was in training; (0, []) without one."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return float(document["time"]), list(document["steps"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0, []
