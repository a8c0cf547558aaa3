"""Members go on with their mother's momentum: what is kept, for which network, and how to begin without."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_runs import EXAMPLES, NAMES, RECIPE, contents, opened, planned
from small_training import make, same_bits, train_in, with_norm
from test_loop import agree, at_tick

from mnx.errors import MnxError
from mnx.events import Event, Events
from mnx.graphs import onnx_file
from mnx.graphs.model import Array, Model
from mnx.graphs.parameters import parameters
from mnx.graphs.verify import difference
from mnx.methods.mothernets import train_members
from mnx.pipeline import begin, hatch_next, open_training, run_all, train_next
from mnx.session import Session, settings
from mnx.train import checkpoint
from mnx.workspace import RunFolder, file_hash

WITHOUT = dataclasses.replace(RECIPE, carry=False)


def momentum(run: RunFolder, stage: str, name: str) -> dict[str, Array]:
    network = run.trained_file(stage, name) if stage == "mothers" else run.start_file(stage, name)
    return run.momentum(stage, name, file_hash(network))


def trained_members(session: Session) -> dict[str, dict[str, Array]]:
    """The members' weights after training."""
    train_members(session)
    return {name: dict(onnx_file.read(session.run.trained_file("members", name)).weights) for name in NAMES}


def alike(one: dict[str, dict[str, Array]], other: dict[str, dict[str, Array]]) -> list[bool]:
    return [same_bits(one[name], other[name]) for name in NAMES]


def shapes(model: Model) -> dict[str, tuple[int, ...]]:
    return {name: model.weights[name].shape for name, kind in parameters(model).items() if kind.trained}


def test_mothers_and_members_have_one_of_every_parameter_that_she_has_trained(hatched: Session) -> None:
    run = hatched.run
    mother = onnx_file.read(run.trained_file("mothers", "cluster1"))
    hers = momentum(run, "mothers", "cluster1")
    assert {key: array.shape for key, array in hers.items()} == shapes(mother)
    for name in NAMES:
        found, own = momentum(run, "members", name), shapes(onnx_file.read(run.start_file("members", name)))
        assert {key: array.shape for key, array in found.items()} == {key: own[key] for key in hers}
        assert difference(hers["head.bias"], found["head.bias"]).passed
        assert all(array.any() for array in found.values())


def test_a_momentum_is_that_of_one_network(hatched: Session) -> None:
    run = hatched.run
    assert run.momentum("members", "P96", "another hash") == {}
    assert run.momentum("members", "nobody", "") == {}
    run.write_momentum("members", "P96", {}, "")
    assert not run.momentum_file("members", "P96").exists()


def test_members_begin_with_it(hatched: Session, tmp_path: Path) -> None:
    shutil.copytree(hatched.run.path, tmp_path / "none")
    carried = trained_members(hatched)
    assert not any(alike(carried, trained_members(opened(RunFolder(tmp_path / "none"), recipe=WITHOUT))))


def test_its_first_step_is_the_momentum_s_and_not_that_of_zeros(hatched: Session) -> None:
    """After one step b = momentum * before + gradient: what differs from beginning with zeros is momentum * before."""
    run, data = hatched.run, hatched.dataset
    model, before = onnx_file.read(run.start_file("members", "P96")), momentum(run, "members", "P96")
    after = []
    for carried in (before, {}):
        engine = make(model, RECIPE.step(), 0)
        state = engine.state()
        engine.load_state({**state, **{f"momentum/{name}": array for name, array in carried.items()}})
        engine.step(data.train.x(slice(32)), data.train.y[:32], 0.1)
        after.append(engine.state())
    for name, array in before.items():
        rest = after[0][f"momentum/{name}"] - after[1][f"momentum/{name}"]
        assert difference(np.float32(RECIPE.momentum) * array, rest).passed


@pytest.mark.parametrize("gone", ["the members'", "everybody's", "of another network"])
def test_members_hatched_before_there_was_momentum_train_on_as_without(
    gone: str, hatched: Session, tmp_path: Path
) -> None:
    run = hatched.run
    shutil.copytree(run.path, tmp_path / "none")
    for path in run.path.rglob("momentum.npz"):
        if gone == "of another network":
            checkpoint.save(path, checkpoint.load(path)[0], {"network": "other"})
        elif gone == "everybody's" or path.parent.parent.name == "members":
            path.unlink()
    assert all(alike(trained_members(hatched), trained_members(opened(RunFolder(tmp_path / "none"), recipe=WITHOUT))))


def test_a_mother_trained_before_there_was_momentum_hatches(hatched: Session) -> None:
    hatched.run.momentum_file("mothers", "cluster1").unlink()
    hatch_next(hatched, force=True)
    assert not list((hatched.run.path / "members").rglob("momentum.npz"))
    assert len(train_members(hatched)) == 3


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize(("stage", "name"), [("mothers", "cluster1"), ("members", "P64")])
def test_a_broken_one_is_refused_with_the_cure(stage: str, name: str, share: float, hatched: Session) -> None:
    path = hatched.run.momentum_file(stage, name)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    cure = "train" if stage == "mothers" else "hatch"
    with pytest.raises(MnxError, match=rf"momentum\.npz cannot be read: delete it, .* 'mnx {cure} --force"):
        if stage == "mothers":
            hatch_next(hatched, force=True)
        else:
            train_members(hatched)
    path.unlink()
    hatch_next(hatched)
    assert len(train_members(hatched)) == 3


def test_what_does_not_fit_the_network_is_refused(hatched: Session) -> None:
    run = hatched.run
    bad = {"head.bias": np.zeros(3, np.float32), "unknown": np.ones(2, np.float32)}
    run.write_momentum("members", "P64", bad, file_hash(run.start_file("members", "P64")))
    with pytest.raises(MnxError, match=r"momentum/head\.bias of P64 has shape \(10,\), not \(3,\)"):
        train_members(hatched)


def test_without_momentum_in_the_recipe_there_is_none(tmp_path: Path) -> None:
    session = opened(planned(tmp_path, NAMES[:2]), recipe=dataclasses.replace(RECIPE, momentum=0.0, nesterov=False))
    run_all(session)
    assert not list(session.run.path.rglob("momentum.npz"))


def test_untrained_members_have_none(hatched: Session) -> None:
    hatch_next(hatched, untrained=True, force=True)
    assert not list((hatched.run.path / "members").rglob("momentum.npz"))


def test_it_goes_with_what_it_belongs_to(hatched: Session) -> None:
    run = hatched.run
    train_members(hatched)
    run.forget_training("members", "P64")
    assert run.momentum_file("members", "P64").exists()
    run.forget_training("mothers", "cluster1")
    assert not run.momentum_file("mothers", "cluster1").exists()
    run.clear()
    assert not list(run.path.rglob("momentum.npz"))


def test_hatching_again_writes_the_same_bytes(hatched: Session) -> None:
    before = {path: each[0] for path, each in contents(hatched.run.path / "members").items()}
    hatch_next(hatched, force=True)
    after = {path: each[0] for path, each in contents(hatched.run.path / "members").items()}
    assert {path: before[path] for path in before if "certificate" not in path} == {
        path: after[path] for path in after if "certificate" not in path
    }
    assert "P64/momentum.npz" in after


@pytest.mark.parametrize("tick", [0, 3, 5, 11])
def test_an_interrupt_changes_no_bit_of_a_training_with_momentum(tick: int, tmp_path: Path) -> None:
    whole = train_in(tmp_path / "whole", with_norm(), momentum=0.1)
    with pytest.raises(KeyboardInterrupt):
        train_in(tmp_path / "parts", with_norm(), events=at_tick(tick), momentum=0.1)
    parts = train_in(tmp_path / "parts", with_norm(), momentum=0.1)
    assert agree(whole, parts)
    assert same_bits(dict(whole.momentum), dict(parts.momentum))
    assert not agree(whole, train_in(tmp_path / "other", with_norm(), momentum=0.2))


@pytest.mark.parametrize("momentum", [0.2, 0.0])
def test_a_checkpoint_is_of_one_momentum(momentum: float, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_in(tmp_path, with_norm(), events=at_tick(6), momentum=0.1)
    with pytest.raises(MnxError, match=r"checkpoint\.npz was written for another momentum; .*--force"):
        train_in(tmp_path, with_norm(), momentum=momentum)


def interrupted(session: Session) -> None:
    """Train members until the first step of the second epoch of the second one."""

    def listen(event: Event) -> None:
        if event["event"] == "step" and (event["network"], event["epoch"]) == (NAMES[2], 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_members(dataclasses.replace(session, events=Events(None, [listen])))


def test_members_that_are_interrupted_end_with_the_same_bits(hatched: Session, tmp_path: Path) -> None:
    shutil.copytree(hatched.run.path, tmp_path / "whole")
    interrupted(hatched)
    assert all(alike(trained_members(hatched), trained_members(opened(RunFolder(tmp_path / "whole")))))


GIVEN = {"data": "digits", "train_limit": EXAMPLES, "threads": 1}
FRESH = {"carry": "false"}


def test_it_can_be_dropped_until_members_are_in_training(hatched: Session, tmp_path: Path) -> None:
    run = hatched.run
    shutil.copytree(run.path, tmp_path / "none")
    session = open_training(run, Events(), recipe=FRESH, threads=1)
    assert not session.recipe.carry
    train_next(session)
    assert settings(run)["recipe"]["carry"] is False
    assert not open_training(run, Events(), threads=1).recipe.carry
    weights = {name: dict(onnx_file.read(run.trained_file("members", name)).weights) for name in NAMES}
    assert all(alike(weights, trained_members(opened(RunFolder(tmp_path / "none"), recipe=WITHOUT))))


def test_dropping_it_is_kept_for_a_training_that_goes_on(hatched: Session) -> None:
    run = hatched.run

    def listen(event: Event) -> None:
        if event["event"] == "epoch":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_next(open_training(run, Events(None, [listen]), recipe=FRESH, threads=1))
    train_next(open_training(run, Events(), threads=1))
    assert [run.training("members", name) is not None for name in NAMES] == [True] * 3


REFUSED = r"trained with carry = true, not false: choose a new folder"


def test_once_members_are_in_training_it_is_as_it_is(hatched: Session) -> None:
    interrupted(hatched)
    with pytest.raises(MnxError, match=REFUSED):
        open_training(hatched.run, Events(), recipe=FRESH)
    assert not open_training(hatched.run, Events(), recipe=FRESH, force=True, threads=1).recipe.carry


def test_while_mothers_are_in_training_it_is_as_it_is(tmp_path: Path) -> None:
    run = planned(tmp_path)
    opened(run)
    with pytest.raises(MnxError, match=REFUSED):
        open_training(run, Events(), recipe=FRESH)


def test_what_was_dropped_does_not_come_back(hatched: Session) -> None:
    opened(hatched.run, recipe=WITHOUT)
    with pytest.raises(MnxError, match="trained with carry = false, not true"):
        open_training(hatched.run, Events(), recipe={"carry": "true"})


@pytest.mark.parametrize("key", ["lr", "momentum"])
def test_nothing_else_may_change(key: str, hatched: Session) -> None:
    with pytest.raises(MnxError, match=f"trained with {key} = "):
        open_training(hatched.run, Events(), recipe={**FRESH, key: "0.5"})


def test_a_whole_run_drops_it_too(hatched_once: Path, hatched: Session) -> None:
    members = sorted((hatched_once / "members").glob("*.onnx"))
    run_all(begin(members, hatched.run, Events(), recipe=FRESH, threads=1))
    assert settings(hatched.run)["recipe"]["carry"] is False
    with pytest.raises(MnxError, match="not true"):
        begin(members, hatched.run, Events(), recipe={"carry": "true"})


def test_settings_of_before_there_was_momentum_are_left_alone(hatched: Session) -> None:
    run = hatched.run
    old = settings(run)
    del old["recipe"]["carry"]
    run.write_json(run.settings_file, old)
    before = run.settings_file.read_bytes()
    train_next(open_training(run, Events(), threads=1))
    assert run.settings_file.read_bytes() == before
    assert json.loads(before)["recipe"].keys() >= {"lr", "epochs"}
