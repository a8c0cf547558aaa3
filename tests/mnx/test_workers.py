"""Several networks at once: the same bytes as one after the other, and what happens where a process ends."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import NAMES, opened
from test_killed import networks, workers_of

from mnx import workers
from mnx.errors import MnxError
from mnx.events import Event, Events
from mnx.methods.mothernets import train_members
from mnx.session import Session
from mnx.train import checkpoint
from mnx.train.recipe_files import recipe

LONG = recipe({"lr": "0.1", "epochs": "400", "patience": "400", "grace": "0", "members.anneal": "1"})
"""Nobody waits for the end of this."""


def at_once(hatched: Session, hear: Callable[[Event], None], jobs: int = 3) -> Session:
    """The call on a hatched run that trains its members at once, and whose events are heard."""
    return replace(opened(hatched.run, Events(None, [hear])), jobs=jobs)


def children() -> list[int]:
    """Processes that train for this one."""
    return workers_of(os.getpid())


def test_members_trained_at_once_are_those_trained_in_turn(hatched: Session, tmp_path: Path) -> None:
    heard: list[Event] = []
    assert set(train_members(at_once(hatched, heard.append, jobs=2))) == set(NAMES)
    together = networks(hatched.run.path)
    records = [json.loads(line) for line in hatched.run.events_file.read_text(encoding="utf-8").splitlines()]
    for name in NAMES:
        hatched.run.forget_training("members", name)
        own = [event["event"] for event in records if event.get("stage") == "members" and event.get("network") == name]
        assert own == ["start", "epoch", "epoch", "epoch", "trained"]
    stage = next(event for event in records if event["event"] == "stage" and event["stage"] == "members")
    assert (stage["jobs"], stage["threads"], set(stage["networks"])) == (2, 1, set(NAMES))
    assert any(event["event"] == "step" for event in heard)
    assert set(train_members(opened(hatched.run))) == set(NAMES)
    assert networks(hatched.run.path) == together
    assert not hatched.run.heartbeat_file.exists()
    assert not children()


@pytest.mark.slow
def test_a_process_that_is_killed_is_named_and_the_others_finish_their_epoch(hatched: Session) -> None:
    heard: list[Event] = []
    killed: list[int] = []

    def hear(event: Event) -> None:
        heard.append(event)
        begun = {each["network"] for each in heard if each["event"] == "epoch"}
        if len(begun) == 2 and event["event"] == "epoch" and not killed:
            killed.append(children()[0])
            os.kill(killed[0], signal.SIGKILL)

    session = replace(at_once(hatched, hear, jobs=2), recipe=LONG)
    with pytest.raises(MnxError, match=r"training members failed: P\S+: its process was ended by SIGKILL.*goes on"):
        train_members(session)
    [failed] = [event for event in heard if event["event"] == "failed"]
    [other] = failed["finishing"]
    assert failed["network"] != other
    history = checkpoint.load(hatched.run.folder("members", other) / "checkpoint.npz")[1]["history"]
    assert len(history) == max(event["epoch"] for event in heard if event.get("network") == other and "loss" in event)
    assert not children()
    assert not hatched.run.heartbeat_file.exists()


@pytest.mark.slow
def test_a_network_that_cannot_be_trained_is_named(hatched: Session) -> None:
    path = hatched.run.folder("members", "P96") / "checkpoint.npz"
    path.write_bytes(b"no checkpoint")
    with pytest.raises(MnxError, match=r"P96.*is not a checkpoint of mnx"):
        train_members(at_once(hatched, lambda _: None))
    assert not children()


@pytest.mark.slow
def test_an_interrupt_stops_all_processes(hatched: Session) -> None:
    def hear(event: Event) -> None:
        if event["event"] == "epoch" and event["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_members(replace(at_once(hatched, hear), recipe=LONG))
    assert not children()
    assert json.loads(hatched.run.events_file.read_text().splitlines()[-1])["event"] == "stopped"
    assert not [path for path in hatched.run.path.rglob(".*") if path.is_file()]


def test_data_without_a_name_are_trained_on_in_this_process(hatched: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_started", None)
    assert train_members(replace(at_once(hatched, lambda _: None), spec=None)) == sorted(NAMES)
