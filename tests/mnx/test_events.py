"""Records of a run: one JSON document a line, whatever happened to the line before, and listeners that hear all."""

import json
from pathlib import Path

import pytest

from mnx.events import Event, Events


def kinds(path: Path) -> list[str]:
    return [json.loads(line)["event"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_records_are_written_and_heard_ticks_only_heard(tmp_path: Path) -> None:
    path, heard = tmp_path / "new" / "events.jsonl", list[Event]()
    events = Events(path, [heard.append])
    events.record("start", network="größer", lr=0.1)
    events.tick("step", loss=1.0)
    events.record("trained")
    assert kinds(path) == ["start", "trained"]
    assert [event["event"] for event in heard] == ["start", "step", "trained"]
    assert json.loads(path.read_text(encoding="utf-8").splitlines()[0]) == heard[0]
    assert set(heard[0]) == {"time", "event", "network", "lr"}
    assert heard[1] == {"event": "step", "loss": 1.0}


def test_another_file_has_the_same_listeners(tmp_path: Path) -> None:
    heard: list[Event] = []
    events = Events(tmp_path / "one.jsonl", [heard.append])
    events.to(tmp_path / "two.jsonl").record("start")
    assert kinds(tmp_path / "two.jsonl") == ["start"]
    assert not (tmp_path / "one.jsonl").exists()
    assert len(heard) == 1


def test_without_a_file_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Events().record("start")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("torn", ['{"time": 1, "ev', '{"time": 1, "event": "epoch"}', "\n"])
def test_a_torn_line_does_not_take_the_next_one_with_it(torn: str, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    Events(path).record("start")
    with path.open("a", encoding="utf-8") as file:
        file.write(torn)
    for _ in range(2):
        Events(path).record("epoch")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["event"] for line in (lines[0], *lines[-2:])] == ["start", "epoch", "epoch"]
    assert lines[1:-2] == [torn.strip()]
