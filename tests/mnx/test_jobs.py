"""How many networks at once, and with how many threads."""

from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import NAMES, opened, planned
from small_training import plain

from mnx import jobs
from mnx.errors import MnxError
from mnx.jobs import jobs_at_once, process_bytes, threads_each
from mnx.methods.mothernets import train_mothers
from mnx.session import settings
from mnx.stages import _jobs


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "cores", lambda: 8)
    monkeypatch.setattr(jobs, "free_memory", lambda: 10**10)


@pytest.mark.parametrize(("networks", "threads"), [(1, 8), (2, 4), (3, 2), (5, 1), (8, 1), (30, 1)])
def test_cores_are_shared_out_among_the_networks_of_a_stage(networks: int, threads: int) -> None:
    assert threads_each(networks) == threads


@pytest.mark.parametrize(
    ("networks", "threads", "size", "work", "device", "expected"),
    [
        (30, 1, 1e8, 1e15, "cpu", 8),
        (3, 2, 1e8, 1e15, "cpu", 3),
        (3, 8, 1e8, 1e15, "cpu", 1),
        (30, 1, 2e9, 1e15, "cpu", 3),
        (30, 1, 1e12, 1e15, "cpu", 1),
        (30, 1, 1e8, 1e9, "cpu", 1),
        (30, 1, 1e8, 1e15, "cuda", 1),
    ],
)
def test_as_many_are_trained_at_once_as_cores_memory_and_work_allow(
    networks: int, threads: int, size: float, work: float, device: str, expected: int
) -> None:
    assert jobs_at_once(networks, threads, size, 0, work, device) == expected


def test_memory_that_is_not_known_limits_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "free_memory", lambda: None)
    assert jobs_at_once(30, 1, 1e12, 0, 1e15) == 8


def test_the_memory_of_a_process_grows_with_batch_and_data() -> None:
    small, large = (process_bytes([plain()], batch, 0) for batch in (16, 16_000))
    assert small < large
    assert process_bytes([plain()], 16, 10**6) == small + 1.5e6
    assert small < process_bytes([plain()] * 2, 16, 0) < 2 * small


def test_this_machine_says_how_much_memory_is_free() -> None:
    free = jobs._meminfo()
    assert free is None or free > 10**6


def test_threads_are_kept_with_the_run_and_jobs_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = planned(tmp_path)
    monkeypatch.setattr("mnx.session.threads_each", threads_each)
    first = opened(run, threads=None)
    assert first.threads == {"mothers": 8, "members": 2, "independent": 2}
    assert settings(run)["threads"] == first.threads
    monkeypatch.setattr(jobs, "cores", lambda: 1)
    assert opened(run, threads=None).threads == first.threads
    assert opened(run, threads=None, jobs=3).threads == first.threads
    other = opened(run, threads=1)
    assert set(other.threads.values()) == {1}
    assert settings(run)["threads"] == other.threads  # nothing has begun
    opened(run, threads=8)
    train_mothers(other)
    assert settings(run)["threads"] == other.threads
    train_mothers(replace(opened(run), threads=first.threads))  # there is nothing to train
    assert settings(run)["threads"] == other.threads
    with pytest.raises(MnxError, match="threads = 1000"):
        opened(run, threads=1000)


def test_jobs_are_those_asked_for_or_those_that_pay(tmp_path: Path) -> None:
    run = planned(tmp_path)
    session = opened(run, threads=1)
    waiting = {member.name: member.multiply_adds for member in session.plan.members}
    alone = [(name,) for name in waiting]
    assert _jobs(replace(session, jobs=2), "members", alone, waiting) == 2
    assert _jobs(replace(session, jobs=9), "members", alone, waiting) == len(NAMES)
    assert _jobs(replace(session, jobs=9), "members", [NAMES[:2], NAMES[2:]], waiting) == 2
    assert _jobs(replace(session, jobs=9), "members", [NAMES], waiting) == 1
    assert _jobs(replace(session, jobs=9, spec=None), "members", alone, waiting) == 1
    mothers = {"cluster1": 1, "cluster2": 1}
    assert _jobs(replace(session, jobs=None), "mothers", [(name,) for name in mothers], mothers) == 1
