"""Runs whose members train in groups: who shares a group, what is kept of it, and that nothing else changes a byte."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_runs import NAMES, RECIPE, contents, opened, planned
from test_workers import children

from mnx.errors import MnxError
from mnx.events import Event, Events
from mnx.graphs import onnx_file
from mnx.groups import groups, named
from mnx.methods.mothernets import train_members, train_mothers
from mnx.pipeline import open_training
from mnx.plan import Plan
from mnx.session import Session, keep_settings, settings, train_group
from mnx.stages import train_stage
from mnx.train import checkpoint
from mnx.train.recipe_files import recipe
from mnx.workspace import RunFolder, file_hash


def fused(run: RunFolder, fuse: int, hear: Callable[[Event], None] | None = None, jobs: int = 1) -> Session:
    """A call on a hatched run, whose members train in groups."""
    session = opened(run, Events(None, [hear] if hear else []))
    return replace(session, fuse=fuse, jobs=jobs)


def weights(run: RunFolder) -> dict[str, str]:
    return {name: file_hash(run.trained_file("members", name)) for name in NAMES}


@pytest.fixture(scope="module")
def paired(hatched_once: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Hashes of the members that are trained two by two, without any interruption."""
    run = RunFolder(tmp_path_factory.mktemp("paired") / "run")
    shutil.copytree(hatched_once / "run", run.path)
    train_members(fused(run, 2))
    return weights(run)


def test_networks_of_a_cluster_share_groups_in_the_order_of_the_plan(hatched: Session) -> None:
    plan = hatched.plan
    order = tuple(member.name for member in plan.members)
    assert groups(plan, "members", 1) == [(name,) for name in order]
    assert groups(plan, "members", 2) == [order[:2], order[2:]]
    assert groups(plan, "independent", 3) == groups(plan, "members", 9) == [order]
    assert groups(plan, "mothers", 3) == [("cluster1",)]
    apart = tuple(replace(member, cluster=f"cluster{place % 2 + 1}") for place, member in enumerate(plan.members))
    clusters = tuple(replace(plan.clusters[0], name=f"cluster{number}") for number in (1, 2))
    split: Plan = replace(plan, members=apart, clusters=clusters)
    assert groups(split, "members", 2) == [(order[0], order[2]), (order[1],)]


def test_an_error_is_of_the_network_that_it_names() -> None:
    assert named(("P64", "P64-64"), MnxError("P64-64 diverged")) == ("P64-64",)
    assert named(("P64", "P96"), MnxError("the disk is full")) == ("P64", "P96")


def test_a_group_s_batches_have_a_seed_of_its_own_and_are_those_of_each(
    hatched: Session, paired: dict[str, str]
) -> None:
    """Each network of a group alone, told of the whole group, ends with the bytes of all together."""
    session = fused(hatched.run, 2)
    costs = {member.name: member.multiply_adds for member in session.plan.members}
    first, second = groups(session.plan, "members", 2)[0]
    train_group(session, "members", (first, second), costs)
    assert {name: file_hash(hatched.run.trained_file("members", name)) for name in (first, second)} == {
        name: paired[name] for name in (first, second)
    }
    hatched.run.forget_training("members", second)
    train_group(session, "members", (first, second), costs)  # the first is trained already
    assert file_hash(hatched.run.trained_file("members", second)) == paired[second]
    hatched.run.forget_training("members", second)
    train_group(session, "members", (second,), costs)
    assert file_hash(hatched.run.trained_file("members", second)) != paired[second]


def test_groups_at_once_are_those_in_turn(hatched: Session, paired: dict[str, str]) -> None:
    heard: list[Event] = []
    assert set(train_members(fused(hatched.run, 2, heard.append, jobs=2))) == set(NAMES)
    assert weights(hatched.run) == paired
    records = [json.loads(line) for line in hatched.run.events_file.read_text(encoding="utf-8").splitlines()]
    for name in NAMES:
        own = [event["event"] for event in records if event.get("stage") == "members" and event.get("network") == name]
        assert own == ["start", "epoch", "epoch", "epoch", "trained"]
    stage = next(event for event in records if event["event"] == "stage" and event["stage"] == "members")
    assert (stage["jobs"], stage["fuse"]) == (2, 2)
    assert {event["network"] for event in heard if event["event"] == "step"} == set(NAMES)
    assert not children()
    assert settings(hatched.run)["fuse"] == 2


def test_a_stage_that_is_stopped_in_its_groups_ends_with_the_same_bytes(
    hatched: Session, paired: dict[str, str]
) -> None:
    stops = 0
    for event_name in ("epoch", "epoch", "step", "trained", "epoch"):
        seen: list[str] = []

        def stop(event: Event, name: str = event_name, seen: list[str] = seen) -> None:
            seen += [event["event"]] if event["event"] == name else []
            if len(seen) == 2 - (name == "trained"):
                raise KeyboardInterrupt

        try:
            train_members(fused(hatched.run, 2, stop))
        except KeyboardInterrupt:
            stops += 1
    train_members(fused(hatched.run, 2))
    assert stops > 3
    assert weights(hatched.run) == paired


KILLED = """
import sys
from dataclasses import replace
from pathlib import Path

import small_runs
from mnx.methods.mothernets import train_members
from mnx.workspace import RunFolder

train_members(replace(small_runs.opened(RunFolder(Path(sys.argv[1]))), fuse=int(sys.argv[2]), jobs=int(sys.argv[3])))
"""


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_groups_killed_at_any_time_end_with_the_same_bytes(jobs: int, hatched: Session, paired: dict[str, str]) -> None:
    code = [sys.executable, "-c", KILLED, str(hatched.run.path), "2", str(jobs)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    killed = 0
    for wait in (1.5, 1.7, 1.9, 2.1, 2.3, 2.5, 2.7, 60):
        process = subprocess.Popen(code, env=environment)
        try:
            assert process.wait(wait) == 0
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
            time.sleep(0.2)  # workers hear that their parent is gone
    assert killed
    assert weights(hatched.run) == paired


def test_a_group_in_which_one_network_cannot_be_trained_names_it(hatched: Session) -> None:
    _, second = groups(hatched.plan, "members", 2)[0]
    (hatched.run.folder("members", second) / "checkpoint.npz").write_bytes(b"no checkpoint")
    heard: list[Event] = []
    with pytest.raises(MnxError, match=rf"{second}.*is not a checkpoint of mnx"):
        train_members(fused(hatched.run, 2, heard.append))
    assert [event["network"] for event in heard if event["event"] == "failed"] == [second]


def trainable(run: RunFolder, **given: object) -> Session:
    return open_training(run, Events(), "digits", 600, {}, threads=1, **given)  # type: ignore[arg-type]


def test_the_number_is_kept_and_may_change_until_a_member_is_trained(tmp_path: Path) -> None:
    run = planned(tmp_path)
    first = opened(run)
    assert first.fuse == 1
    train_mothers(first)
    assert trainable(run).fuse == 1
    assert trainable(run, fuse=3).fuse == 3  # mothers train alone
    settings_of = settings(run)
    run.write_json(run.settings_file, {key: value for key, value in settings_of.items() if key != "fuse"})
    assert trainable(run).fuse == 1


def test_another_number_is_refused_once_members_train(hatched: Session) -> None:
    def stop(event: Event) -> None:
        if event["event"] == "epoch":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_members(fused(hatched.run, 2, stop))
    before = contents(hatched.run.path)
    for other in (1, 3):
        with pytest.raises(MnxError, match=rf"trained with --fuse 2, not {other}.*--force"):
            trainable(hatched.run, fuse=other)
    assert contents(hatched.run.path) == before
    assert trainable(hatched.run).fuse == trainable(hatched.run, fuse=2).fuse == 2
    session = trainable(hatched.run, fuse=3, force=True)
    assert session.fuse == 3
    keep_settings(session)
    train_members(replace(session, recipe=RECIPE))
    assert settings(hatched.run)["fuse"] == 3


def test_a_network_that_diverges_ends_the_stage_and_the_others_keep_their_epoch(hatched: Session) -> None:
    first, second = groups(hatched.plan, "members", 2)[0]
    path = hatched.run.start_file("members", first)
    model = onnx_file.read(path)
    wild = model.with_weights(
        {name: array * np.float32(1e19) for name, array in model.weights.items() if array.ndim == 2}
    )
    onnx_file.write(wild, path, form="working")
    session = replace(fused(hatched.run, 2), recipe=recipe({"retries": "0", "members.carry": "false", "lr": "1"}))
    with pytest.raises(MnxError, match=rf"training {first} diverged"):
        train_stage(session, "members", {each.name: each.multiply_adds for each in session.plan.members})
    assert checkpoint.load(hatched.run.folder("members", second) / "checkpoint.npz")[1]["history"]
