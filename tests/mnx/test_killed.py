"""Killed at any moment: the same call goes on from there and ends with the same bytes as one that was never killed."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from small_runs import NAMES, SETTINGS, contents, opened, planned
from small_training import DeadlyWrites, same_bits, train_in, with_norm

from mnx.graphs import onnx_file
from mnx.pipeline import run_all
from mnx.train import checkpoint
from mnx.train.recipe import Recipe
from mnx.train.recipe_files import recipe
from mnx.workspace import RunFolder, file_hash

EPOCHS = 150
LONG = Recipe(lr=0.1, batch=16, epochs=EPOCHS, patience=EPOCHS)

TRAINING = """
import os, signal, sys
from pathlib import Path

import small_training
from mnx.graphs import onnx_file
from mnx.train import checkpoint
from mnx.train.recipe import Recipe

folder, epochs, deadly = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
fsync, calls = os.fsync, 0

def counted(descriptor):
    global calls
    calls += 1
    if calls == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(descriptor)

os.fsync = counted
print("ready", flush=True)
recipe = Recipe(lr=0.1, batch=16, epochs=epochs, patience=epochs)
trained = small_training.train_in(folder, small_training.with_norm(), recipe, momentum=float(sys.argv[4]))
onnx_file.write(trained.model, folder / "trained.onnx")
checkpoint.save(folder / "optimiser.npz", trained.kept, {})
"""
"""A training that kills itself when it flushes a file or folder for the n-th time; 0 for never. It begins with momentum
that deviates by the last argument."""

RUN = """
import sys
from dataclasses import replace
from pathlib import Path

import small_runs
from mnx.pipeline import run_all
from mnx.workspace import RunFolder

session = small_runs.opened(RunFolder(Path(sys.argv[1])))
print("ready", flush=True)
run_all(replace(session, jobs=int(sys.argv[2])))
"""
"""All stages of a run, with so many networks at once."""


def started(program: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that runs a program and has got as far as its first line."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def seconds_of(program: str, *arguments: object) -> float:
    """How long a program takes that nobody kills."""
    process = started(program, *arguments)
    begin = time.monotonic()
    assert ended(process) == 0
    return time.monotonic() - begin


def ended(process: subprocess.Popen[str]) -> int:
    process.communicate(timeout=120)
    return process.returncode


def killed_until_done(kills: int, most: float, program: str, *arguments: object) -> int:
    """Start a program again and again, kill it after a random part of `most` seconds; returns how often it died."""
    moments, died = random.Random(0), 0
    for _ in range(kills):
        process = started(program, *arguments)
        time.sleep(moments.uniform(0, most))
        process.kill()
        died += ended(process) != 0
    assert ended(started(program, *arguments)) == 0
    return died


def networks(folder: Path) -> dict[str, str]:
    """Every network below a folder, and every momentum, by the hash of its file."""
    return {
        str(path.relative_to(folder)): file_hash(path)
        for path in [*folder.rglob("*.onnx"), *folder.rglob("optimiser.npz")]
        if not path.name.startswith(".")
    }


@pytest.mark.slow
@pytest.mark.parametrize("momentum", [0.0, 0.1])
def test_a_training_that_is_killed_at_random_moments_ends_with_the_same_bits(momentum: float, tmp_path: Path) -> None:
    most = seconds_of(TRAINING, tmp_path / "whole", EPOCHS, 0, momentum)
    assert killed_until_done(6, most / 3, TRAINING, tmp_path / "parts", EPOCHS, 0, momentum) > 0
    assert networks(tmp_path / "parts") == networks(tmp_path / "whole")
    parts = onnx_file.read(tmp_path / "parts" / "trained.onnx")
    assert same_bits(train_in(tmp_path / "here", with_norm(), LONG, momentum=momentum).model.weights, parts.weights)


@pytest.mark.slow
def test_a_kill_while_a_checkpoint_is_written_leaves_nothing_that_hinders(tmp_path: Path) -> None:
    assert ended(started(TRAINING, tmp_path / "whole", 6, 0, 0.1)) == 0
    folder = tmp_path / "parts"
    # a checkpoint is flushed, renamed, and its folder flushed: call 1 dies before the rename, call 2 after it
    for deadly, epochs_done in ((1, 0), (2, 1), (1, 1), (2, 2), (4, 4)):
        assert ended(started(TRAINING, folder, 6, deadly, 0.1)) == -signal.SIGKILL
        path = folder / "checkpoint.npz"
        assert epochs_done == (len(checkpoint.load(path)[1]["history"]) if path.exists() else 0)
    temporary = list(folder.glob(".checkpoint.*.npz"))
    assert len(temporary) == 2
    for path in temporary:
        path.write_bytes(path.read_bytes()[:50])
    assert ended(started(TRAINING, folder, 6, 0, 0.1)) == 0
    assert networks(folder) == networks(tmp_path / "whole")


@pytest.mark.slow
def test_a_run_that_is_killed_at_random_moments_ends_with_the_same_bytes(tmp_path: Path) -> None:
    run = planned(tmp_path)
    for name in ("whole", "parts"):
        shutil.copytree(run.path, tmp_path / name)
    most = seconds_of(RUN, tmp_path / "whole", 1)
    assert killed_until_done(6, most / 3, RUN, tmp_path / "parts", 1) > 0
    assert networks(tmp_path / "parts") == networks(tmp_path / "whole")
    assert len(list((tmp_path / "parts").rglob("optimiser.npz"))) == 1 + len(NAMES)
    before = contents(tmp_path / "parts")
    run_all(opened(RunFolder(tmp_path / "parts")))
    assert contents(tmp_path / "parts") == before


def workers_of(parent: int) -> list[int]:
    """Processes that train for this one."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, owner = (path / "stat").read_text().rpartition(")")[2].split()[:2]
            trains = b"spawn_main" in (path / "cmdline").read_bytes()
        except OSError:
            continue
        if int(owner) == parent and state != "Z" and trains:
            found.append(int(path.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["parent", "worker"])
def test_a_run_with_processes_that_are_killed_ends_with_the_same_bytes(victim: str, tmp_path: Path) -> None:
    run, moments, killed, longest = planned(tmp_path), random.Random(0), 0, 5.0
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        shutil.copytree(run.path, folder)
    assert ended(started(RUN, whole, 1)) == 0
    while killed < 3:
        process = started(RUN, parts, 2)
        while process.poll() is None and not (workers := workers_of(process.pid)):
            time.sleep(0.01)
        time.sleep(moments.uniform(0, longest))
        workers = workers_of(process.pid)
        if process.poll() is None and workers:
            killed += 1
            os.kill(process.pid if victim == "parent" else moments.choice(workers), signal.SIGKILL)
        else:  # it was quicker: once more from the start, with less time
            assert ended(process) == 0
            shutil.rmtree(parts)
            shutil.copytree(run.path, parts)
            longest *= 0.7
        ended(process)
        until = time.monotonic() + 20
        while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < until:
            time.sleep(0.01)
        assert time.monotonic() < until
    assert ended(started(RUN, parts, 2)) == 0
    assert networks(parts) == networks(whole)


@pytest.mark.slow
@pytest.mark.parametrize("snapshots", [False, True])
def test_a_run_that_dies_at_any_file_it_writes_ends_with_the_same_bytes(
    snapshots: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, unlink = planned(tmp_path, NAMES[:2]), Path.unlink
    members = {"members.schedule": "cycles", "members.cycle": "1", "members.snapshots": "true"} if snapshots else {}
    chosen = recipe({**SETTINGS, **members})
    shutil.copytree(run.path, tmp_path / "whole")
    run_all(opened(RunFolder(tmp_path / "whole"), recipe=chosen))
    assert len(list((tmp_path / "whole").rglob("snapshot-*.onnx"))) == 4 * snapshots
    writes = DeadlyWrites()

    def unless_dead(path: Path, **options: Any) -> None:
        if writes.calls < writes.deadly:  # the dead clean nothing up
            unlink(path, **options)

    def dies() -> bool:
        try:
            run_all(opened(RunFolder(tmp_path / "parts"), recipe=chosen))
        except KeyboardInterrupt:
            return True
        return False

    while True:
        writes.next()
        shutil.copytree(run.path, tmp_path / "parts")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", writes)
            patch.setattr(Path, "unlink", unless_dead)
            if not dies():
                break
        assert not dies()
        assert networks(tmp_path / "parts") == networks(tmp_path / "whole")
        shutil.rmtree(tmp_path / "parts")
    assert writes.deadly > 30
