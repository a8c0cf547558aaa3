"""Where the networks of a stage stand, from a run's events alone: for displays in the same process or another one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from mnx.events import Event

WAITING, PREPARING, TRAINING, TRAINED, FAILED, STOPPED = (
    "waiting",
    "preparing",
    "training",
    "trained",
    "failed",
    "stopped",
)
"""What a network is doing."""

AT_WORK: Final = (PREPARING, TRAINING)


@dataclass(frozen=True)
class Row:
    """One network.

    Attributes:
        network: its name.
        state: what it is doing.
        cost: multiply-adds of a forward pass.
        limit: the most epochs that it may take.
        position: epochs done, with the part of the one that it is in.
        loss: of the epoch so far.
        score: of the epoch so far, on training examples.
        validation: the score after the last whole epoch.
        begun: (when, at which position) it went on in this sitting.
        reason: why it failed.
    """

    network: str
    state: str = WAITING
    cost: int = 0
    limit: int = 1
    position: float = 0.0
    loss: float | None = None
    score: float | None = None
    validation: float | None = None
    begun: tuple[float, float] | None = None
    reason: str = ""

    def seconds_left(self, now: float) -> float | None:
        """The most time that it may still take; None before anything is known."""
        if self.state != TRAINING or self.begun is None:
            return None
        since, first = self.begun
        done = self.position - first
        return max(0.0, (now - since) / done * (self.limit - self.position)) if done > 0 else None


@dataclass
class Board:
    """The networks of the stage that is in training, or was last. It hears events; time is given with them."""

    stage: str = ""
    jobs: int = 1
    threads: int | None = None
    rows: dict[str, Row] = field(default_factory=dict)
    ended: str = ""

    def hear(self, event: Event, now: float) -> None:
        """Take an event in; `now` is when it happened, in seconds of any one clock."""
        match event["event"]:
            case "stage":
                self._open(event)
            case "start" | "step" | "epoch" | "trained" | "failed" as kind if event.get("stage"):
                row = self._row(event)
                self.rows = {**self.rows, row.network: _after(row, kind, event, now)}
                self.ended = self.ended if kind in ("step", "epoch") else ""
            case "stopped":
                self.ended = str(event["reason"])
                self.stop()

    def heard(self, events: Iterable[Event]) -> None:
        """Take records in, which have their own times."""
        for event in events:
            if {"event", "time"} <= event.keys():
                self.hear(event, event["time"])

    def stop(self) -> None:
        """Whoever trained is gone."""
        stopped = {n: replace(row, state=STOPPED) for n, row in self.rows.items() if row.state in AT_WORK}
        self.rows = {**self.rows, **stopped}

    def count(self, *states: str) -> int:
        """How many networks are in one of these states."""
        return sum(row.state in states for row in self.rows.values())

    def share(self) -> float:
        """The share of the stage's multiply-adds that is done, counting all epochs that a network may take."""
        work = sum(row.cost * row.limit for row in self.rows.values())
        return sum(row.cost * (row.limit - _left(row)) for row in self.rows.values()) / work if work else 0.0

    def seconds_left(self, now: float) -> float | None:
        """The most time that the stage may still take, at the pace of this sitting; None before anything is known."""
        begun = [(row, row.begun) for row in self.rows.values() if row.begun is not None]
        if not begun or not self.count(*AT_WORK, WAITING):
            return None
        done = sum(row.cost * (row.position - at) for row, (_, at) in begun)
        spent = now - min(since for _, (since, _) in begun)
        return spent / done * sum(row.cost * _left(row) for row in self.rows.values()) if done > 0 else None

    def to_json(self, now: float) -> dict[str, Any]:
        """Plain data."""
        left = {name: row.seconds_left(now) for name, row in self.rows.items()}
        rows = {name: {**asdict(row), "seconds_left": left[name]} for name, row in self.rows.items()}
        for row in rows.values():
            del row["network"], row["begun"]
        return {
            "stage": self.stage,
            "jobs": self.jobs,
            "threads": self.threads,
            "share": self.share(),
            "seconds_left": self.seconds_left(now),
            "networks": rows,
        }

    def _open(self, event: Event) -> None:
        trained, limit = set(event["trained"]), event["limit"]
        known = self.rows if event["stage"] == self.stage else {}
        self.stage, self.jobs, self.threads, self.ended = event["stage"], event["jobs"], event["threads"], ""
        self.rows = {}
        for name, cost in event["networks"].items():
            row = replace(known.get(name, Row(name)), cost=cost, limit=limit, begun=None, reason="")
            self.rows[name] = replace(row, state=TRAINED if name in trained else WAITING)

    def _row(self, event: Event) -> Row:
        if event["stage"] != self.stage:
            self.stage, self.rows = event["stage"], {}
        return self.rows.get(event["network"], Row(event["network"], cost=1))


def _left(row: Row) -> float:
    """Epochs that a network may still take."""
    return 0.0 if row.state == TRAINED else max(0.0, row.limit - row.position)


def _after(row: Row, kind: str, event: Event, now: float) -> Row:
    match kind:
        case "start":
            return replace(row, state=PREPARING, limit=event["limit"], begun=None, reason="")
        case "step":
            position = event["epoch"] - 1 + event["step"] / event["steps"]
            found = {"loss": event["loss"], "score": event["accuracy"], "begun": row.begun or (now, position)}
            return replace(row, state=TRAINING, position=position, **found)
        case "epoch":
            number = event["epoch"]
            begun = row.begun or (now - event["seconds"], number - 1)
            found = {"loss": event["loss"], "score": event["train_score"], "validation": event["validation_score"]}
            return replace(row, state=TRAINING, position=float(number), begun=begun, **found)
        case "trained":
            known = {"position": float(event["epochs"]), "validation": event["validation_score"]}
            return replace(row, state=TRAINED, **known)
    return replace(row, state=FAILED, reason=event["reason"])
