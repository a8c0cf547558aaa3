"""Following a run from outside: what is written, what is torn, what was replaced, and how it ended."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from small_runs import planned

from mnx import heartbeat, watching
from mnx.board import STOPPED, TRAINING
from mnx.heartbeat import Heartbeat, steps_of
from mnx.lock import is_worked_in, working_in
from mnx.watching import FAILED, FINISHED, IDLE, INTERRUPTED, KILLED, NOT_BEGUN, RUNNING, Tail, Watched, follow
from mnx.workspace import RunFolder

STAGE = {"event": "stage", "stage": "mothers", "networks": {"cluster1": 9}, "trained": [], "limit": 4, "jobs": 1}
EPOCH = {"event": "epoch", "stage": "mothers", "network": "cluster1", "epoch": 2, "loss": 0.5, "seconds": 1.0}
SCORES = {"train_score": 0.5, "validation_score": 0.75}
BEGUN = (STAGE | {"threads": 1}, EPOCH | SCORES)
STEP = {"event": "step", "stage": "mothers", "network": "cluster1", "epoch": 3, "step": 1, "steps": 2}


def write(path: Path, *events: dict[str, Any], at: float = 100.0) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps({"time": at, **event}) + "\n" for event in events)


def test_records_are_read_once_and_torn_lines_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = Tail(path)
    assert tail.read() == (False, [])
    write(path, {"event": "one"})
    with path.open("a") as file:
        file.write('{"event": "torn", "ti\n[1]\n{"event": "two", "ti')
    assert [record["event"] for record in tail.read()[1]] == ["one"]
    with path.open("a") as file:
        file.write('me": 1}\n')
    assert tail.read() == (False, [{"event": "two", "time": 1}])
    assert tail.read() == (False, [])


@pytest.mark.parametrize("how", ["renamed over", "shortened", "removed"])
def test_a_file_that_is_replaced_is_read_anew(how: str, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = Tail(path)
    write(path, {"event": "old"}, {"event": "older"})
    tail.read()
    if how == "renamed over":
        write(tmp_path / "new", *({"event": "new"} for _ in range(4)))
        (tmp_path / "new").replace(path)
        assert [record["event"] for record in tail.read()[1]] == ["new"] * 4
        return
    if how == "shortened":
        path.write_text("")
    else:
        path.unlink()
        assert tail.read() == (True, [])
    write(path, {"event": "new"})
    assert tail.read() == (True, [{"event": "new", "time": 100.0}])


def test_a_run_that_nobody_works_in_says_how_it_ended(tmp_path: Path) -> None:
    run = planned(tmp_path)
    path = run.events_file
    for events, state in (
        ([], IDLE),
        (BEGUN, KILLED),
        ([{"event": "stopped", "stage": "mothers", "reason": "interrupted"}], INTERRUPTED),
        ([*BEGUN, {"event": "failed", "stage": "mothers", "network": "cluster1", "reason": "memory"}], FAILED),
        ([{"event": "scored"}], FINISHED),
    ):
        write(path, *events)
        watched = Watched(run)
        assert len(list(follow(watched))) == 1
        assert watched.state == state
        assert watched.next() == ("" if state == FINISHED else f"mnx train -o {run.path} --data D")
    watched = Watched(run)
    write(path, *BEGUN)
    watched.look()
    [row] = watched.board.rows.values()
    assert (row.state, row.position, row.validation) == (STOPPED, 2.0, 0.75)
    assert json.loads(json.dumps(watched.to_json()))["training"]["networks"]["cluster1"]["state"] == STOPPED


def test_a_run_in_training_is_followed_between_two_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, watched = RunFolder(tmp_path), Watched(RunFolder(tmp_path))
    monkeypatch.setattr(heartbeat, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(watching, "is_worked_in", lambda _: True)
    write(run.events_file, *BEGUN)
    beats = Heartbeat(run.heartbeat_file)
    beats({**STEP, "loss": 0.4, "accuracy": 0.6})
    assert steps_of(run.heartbeat_file)[0] > 0
    watched.look()
    [row] = watched.board.rows.values()
    assert (watched.state, row.state, row.position, row.loss) == (RUNNING, TRAINING, 2.5, 0.4)
    write(run.events_file, {**EPOCH, **SCORES, "epoch": 3}, at=time.time() + 1)  # the heartbeat is older than this
    watched.look()
    [row] = watched.board.rows.values()
    assert row.position == 3.0
    beats.end()
    assert steps_of(run.heartbeat_file) == (0.0, [])


def test_a_heartbeat_that_cannot_be_written_hinders_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "EVERY_SECONDS", 0.0)
    (tmp_path / "file").write_text("")
    Heartbeat(tmp_path / "file" / "heartbeat.json")(STEP)


def test_a_run_that_has_not_begun_is_waited_for(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    watched, looks = Watched(run), 0
    for _ in follow(watched, 0.0):
        looks += 1
        assert watched.state == (NOT_BEGUN if looks < 4 else IDLE)
        if looks == 3:
            planned(tmp_path)
    assert looks == 4


def test_whether_somebody_works_is_asked_without_hindering_him(tmp_path: Path) -> None:
    assert not is_worked_in(tmp_path)
    program = "import sys, pathlib, mnx.lock; print(mnx.lock.is_worked_in(pathlib.Path(sys.argv[1])))"
    command = [sys.executable, "-c", program, str(tmp_path)]
    with working_in(tmp_path):
        assert subprocess.run(command, capture_output=True, text=True, env=os.environ).stdout == "True\n"
    assert subprocess.run(command, capture_output=True, text=True, env=os.environ).stdout == "False\n"
    assert not is_worked_in(tmp_path)
