"""A full disk: the error says so, what was written before is whole, and the run goes on to the same bytes."""

import errno
import json
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from small_runs import NAMES, opened, planned
from test_killed import networks

from mnx.graphs import onnx_file
from mnx.methods.mothernets import train_mothers
from mnx.pipeline import run_all
from mnx.train import checkpoint
from mnx.workspace import RunFolder


class Disk:
    """A disk with room for so many files; every file and folder that is flushed takes some, appended lines none."""

    def __init__(self, patch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        fsync, opener = os.fsync, Path.open

        def flushed(descriptor: int) -> None:
            self.room -= 1
            self.check()
            fsync(descriptor)

        def opened(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if "a" in mode:
                self.check()
            return opener(path, mode, *arguments, **options)

        patch.setattr(os, "fsync", flushed)
        patch.setattr(Path, "open", opened)

    def check(self) -> None:
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def require_whole(folder: Path) -> None:
    """Nothing in a run is half written, and nothing is left beside it."""
    assert not [path for path in folder.rglob(".*") if path.is_file()]
    for path in folder.rglob("*.npz"):
        checkpoint.load(path)
    for path in folder.rglob("*.onnx"):
        onnx_file.read(path)
    for path in folder.rglob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_run_on_a_disk_that_is_full_again_and_again_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, rooms, filled = planned(tmp_path, NAMES[:2]), random.Random(0), 0
    for name in ("whole", "parts"):
        shutil.copytree(run.path, tmp_path / name)
    run_all(opened(RunFolder(tmp_path / "whole")))
    while True:
        try:
            with monkeypatch.context() as patch:
                Disk(patch, rooms.randrange(6))
                run_all(opened(RunFolder(tmp_path / "parts")))
            break
        except OSError as error:
            assert error.errno == errno.ENOSPC
            filled += 1
        require_whole(tmp_path / "parts")
    assert filled > 15
    assert networks(tmp_path / "parts") == networks(tmp_path / "whole")


def test_a_checkpoint_that_has_no_room_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = planned(tmp_path, NAMES[:2])
    session = opened(run)
    path = run.folder("mothers", "cluster1") / "checkpoint.npz"
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        Disk(patch, 2)  # a checkpoint and its folder
        train_mothers(session)
    assert len(checkpoint.load(path)[1]["history"]) == 1
    require_whole(run.path)
    assert train_mothers(session) == ["cluster1"]


@pytest.mark.slow
def test_a_small_disk_fills_and_grows(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a small disk here")
    try:
        run, size, filled = planned(tmp_path, NAMES[:2]), 64, 0
        shutil.copytree(run.path, tmp_path / "whole")
        run_all(opened(RunFolder(tmp_path / "whole")))
        while True:
            try:
                if not (place / "run").exists():
                    shutil.copytree(run.path, place / "run")
                run_all(opened(RunFolder(place / "run")))
                break
            except shutil.Error:
                shutil.rmtree(place / "run")
            except OSError as error:
                assert error.errno == errno.ENOSPC
                filled += 1
                require_whole(place / "run")
            size += 12
            subprocess.run(["mount", "-o", f"remount,size={size}k", str(place)], check=True)
        assert filled > 5
        assert networks(place / "run") == networks(tmp_path / "whole")
    finally:
        subprocess.run(["umount", str(place)], check=True)
