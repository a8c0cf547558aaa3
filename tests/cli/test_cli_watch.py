"""`mnx watch`: what it says of a run that is not begun, planned, interrupted, finished."""

import json
from pathlib import Path

import pytest
from calling import Call, contents

from mnx.lock import working_in

SETTINGS = ("--data", "digits", "--train-limit", 300, "--epochs", 2, "--threads", 1)


def test_a_run_is_watched_from_before_its_beginning_to_its_end(call: Call, members: list[Path]) -> None:
    before = call("watch", "--once")
    assert (before.code, before.out) == (0, "mnx-run has not begun\nnext: mnx mother members/*.onnx\n")
    assert not Path("mnx-run").exists()
    call("mother", *members)
    assert "mnx-run is idle\nnext: mnx train --data D\n" in call("watch").out
    assert call("run", *members, *SETTINGS, "--jobs", 1).code == 0
    standing = contents(Path("mnx-run"))
    end = call("watch")
    assert "members 3/3 trained" in end.out
    assert "mnx-run is finished\n" in end.out
    assert "members P64: trained, 2 epochs" in end.err
    found = json.loads(call("watch", "mnx-run", "--once", "--json").out)
    assert (found["state"], found["next"]) == ("finished", None)
    assert {row["state"] for row in found["training"]["networks"].values()} == {"trained"}
    assert contents(Path("mnx-run")) == standing
    again = call("train")
    assert "nothing to do: all members are trained" in again.out
    assert contents(Path("mnx-run")) == standing


def test_the_run_of_another_process_is_running(call: Call, members: list[Path]) -> None:
    call("mother", *members)
    with working_in(Path("mnx-run")):
        found = call("watch", "--once")
    assert "mnx-run is running\n" in found.out
    assert "next" not in found.out


@pytest.mark.parametrize("option", ["--jobs", "--threads", "--fuse"])
def test_no_networks_at_once_and_no_threads_are_wrong_usage(option: str, call: Call) -> None:
    assert call("train", option, 0).code == 2


def test_networks_that_share_batches_keep_doing_so(call: Call, members: list[Path]) -> None:
    assert call("run", *members, *SETTINGS, "--fuse", 2).code == 0
    assert json.loads(Path("mnx-run/settings.json").read_text())["fuse"] == 2
    standing = contents(Path("mnx-run"))
    refused = call("run", *members, "--fuse", 3)
    assert refused.code == 1
    assert "trained with --fuse 2, not 3" in refused.err
    assert call("run", *members).code == call("run", *members, "--fuse", 2).code == 0
    assert contents(Path("mnx-run")) == standing
