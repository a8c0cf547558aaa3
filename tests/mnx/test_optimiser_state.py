"""Members go on with what their mother's optimiser kept: what that is, of which network, and how to begin without."""

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
from mnx.train.optimiser_state import begun
from mnx.workspace import RunFolder, file_hash

WITHOUT = dataclasses.replace(RECIPE, carry=False)


def kept(run: RunFolder, stage: str, name: str) -> dict[str, Array]:
    network = run.trained_file(stage, name) if stage == "mothers" else run.start_file(stage, name)
    return run.optimiser_state(stage, name, file_hash(network))


def trained_members(session: Session) -> dict[str, dict[str, Array]]:
    """The members' weights after training."""
    train_members(session)
    return {name: dict(onnx_file.read(session.run.trained_file("members", name)).weights) for name in NAMES}


def alike(one: dict[str, dict[str, Array]], other: dict[str, dict[str, Array]]) -> list[bool]:
    return [same_bits(one[name], other[name]) for name in NAMES]


def shapes(model: Model) -> dict[str, tuple[int, ...]]:
    return {name: model.weights[name].shape for name, kind in parameters(model).items() if kind.trained}


def moved(found: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {f"momentum/{name}": shape for name, shape in found.items()}


def test_mothers_and_members_have_one_of_every_parameter_that_she_has_trained(hatched: Session) -> None:
    run = hatched.run
    mother = onnx_file.read(run.trained_file("mothers", "cluster1"))
    hers = kept(run, "mothers", "cluster1")
    assert {key: array.shape for key, array in hers.items()} == moved(shapes(mother))
    for name in NAMES:
        found, own = kept(run, "members", name), moved(shapes(onnx_file.read(run.start_file("members", name))))
        assert {key: array.shape for key, array in found.items()} == {key: own[key] for key in hers}
        assert difference(hers["momentum/head.bias"], found["momentum/head.bias"]).passed
        assert all(array.any() for array in found.values())


def test_a_momentum_is_that_of_one_network(hatched: Session) -> None:
    run = hatched.run
    assert run.optimiser_state("members", "P96", "another hash") == {}
    assert run.optimiser_state("members", "nobody", "") == {}
    run.write_optimiser_state("members", "P96", {}, "")
    assert not run.optimiser_file("members", "P96").exists()


def test_members_begin_with_it(hatched: Session, tmp_path: Path) -> None:
    shutil.copytree(hatched.run.path, tmp_path / "none")
    carried = trained_members(hatched)
    assert not any(alike(carried, trained_members(opened(RunFolder(tmp_path / "none"), recipe=WITHOUT))))


def test_its_first_step_is_the_momentum_s_and_not_that_of_zeros(hatched: Session) -> None:
    """After one step b = momentum * before + gradient: what differs from beginning with zeros is momentum * before."""
    run, data = hatched.run, hatched.dataset
    model, before = onnx_file.read(run.start_file("members", "P96")), kept(run, "members", "P96")
    after = []
    for carried in (before, {}):
        engine = make(model, RECIPE.step(), 0)
        state = engine.state()
        engine.load_state({**state, **carried})
        engine.step(data.train.x(slice(32)), data.train.y[:32], 0.1)
        after.append(engine.state())
    for name, array in before.items():
        rest = after[0][name] - after[1][name]
        assert difference(np.float32(RECIPE.momentum) * array, rest).passed


@pytest.mark.parametrize("gone", ["the members'", "everybody's", "of another network"])
def test_members_hatched_before_there_was_momentum_train_on_as_without(
    gone: str, hatched: Session, tmp_path: Path
) -> None:
    run = hatched.run
    shutil.copytree(run.path, tmp_path / "none")
    for path in run.path.rglob("optimiser.npz"):
        if gone == "of another network":
            checkpoint.save(path, checkpoint.load(path)[0], {"network": "other"})
        elif gone == "everybody's" or path.parent.parent.name == "members":
            path.unlink()
    assert all(alike(trained_members(hatched), trained_members(opened(RunFolder(tmp_path / "none"), recipe=WITHOUT))))


def test_a_mother_trained_before_there_was_momentum_hatches(hatched: Session) -> None:
    hatched.run.optimiser_file("mothers", "cluster1").unlink()
    hatch_next(hatched, force=True)
    assert not list((hatched.run.path / "members").rglob("optimiser.npz"))
    assert len(train_members(hatched)) == 3


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize(("stage", "name"), [("mothers", "cluster1"), ("members", "P64")])
def test_a_broken_one_is_refused_with_the_cure(stage: str, name: str, share: float, hatched: Session) -> None:
    path = hatched.run.optimiser_file(stage, name)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    cure = "train" if stage == "mothers" else "hatch"
    with pytest.raises(MnxError, match=rf"optimiser\.npz cannot be read: delete it, .* 'mnx {cure} --force"):
        if stage == "mothers":
            hatch_next(hatched, force=True)
        else:
            train_members(hatched)
    path.unlink()
    hatch_next(hatched)
    assert len(train_members(hatched)) == 3


def test_what_does_not_fit_the_network_is_refused(hatched: Session) -> None:
    run = hatched.run
    bad = {"momentum/head.bias": np.zeros(3, np.float32), "unknown": np.ones(2, np.float32)}
    run.write_optimiser_state("members", "P64", bad, file_hash(run.start_file("members", "P64")))
    with pytest.raises(MnxError, match=r"momentum/head\.bias of P64 has shape \(10,\), not \(3,\)"):
        train_members(hatched)


def test_without_momentum_in_the_recipe_there_is_none(tmp_path: Path) -> None:
    session = opened(planned(tmp_path, NAMES[:2]), recipe=dataclasses.replace(RECIPE, momentum=0.0, nesterov=False))
    run_all(session)
    assert not list(session.run.path.rglob("optimiser.npz"))


def test_untrained_members_have_none(hatched: Session) -> None:
    hatch_next(hatched, untrained=True, force=True)
    assert not list((hatched.run.path / "members").rglob("optimiser.npz"))


def test_it_goes_with_what_it_belongs_to(hatched: Session) -> None:
    run = hatched.run
    train_members(hatched)
    run.forget_training("members", "P64")
    assert run.optimiser_file("members", "P64").exists()
    run.forget_training("mothers", "cluster1")
    assert not run.optimiser_file("mothers", "cluster1").exists()
    run.clear()
    assert not list(run.path.rglob("optimiser.npz"))


def test_hatching_again_writes_the_same_bytes(hatched: Session) -> None:
    before = {path: each[0] for path, each in contents(hatched.run.path / "members").items()}
    hatch_next(hatched, force=True)
    after = {path: each[0] for path, each in contents(hatched.run.path / "members").items()}
    assert {path: before[path] for path in before if "certificate" not in path} == {
        path: after[path] for path in after if "certificate" not in path
    }
    assert "P64/optimiser.npz" in after


@pytest.mark.parametrize("tick", [0, 3, 5, 11])
def test_an_interrupt_changes_no_bit_of_a_training_with_momentum(tick: int, tmp_path: Path) -> None:
    whole = train_in(tmp_path / "whole", with_norm(), momentum=0.1)
    with pytest.raises(KeyboardInterrupt):
        train_in(tmp_path / "parts", with_norm(), events=at_tick(tick), momentum=0.1)
    parts = train_in(tmp_path / "parts", with_norm(), momentum=0.1)
    assert agree(whole, parts)
    assert same_bits(dict(whole.kept), dict(parts.kept))
    assert not agree(whole, train_in(tmp_path / "other", with_norm(), momentum=0.2))


@pytest.mark.parametrize("momentum", [0.2, 0.0])
def test_a_checkpoint_is_of_one_momentum(momentum: float, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_in(tmp_path, with_norm(), events=at_tick(6), momentum=0.1)
    with pytest.raises(MnxError, match=r"checkpoint\.npz was written for another optimiser state; .*--force"):
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


def test_what_was_dropped_comes_back_until_members_are_in_training(hatched: Session, tmp_path: Path) -> None:
    shutil.copytree(hatched.run.path, tmp_path / "other")
    opened(hatched.run, recipe=WITHOUT)
    session = open_training(hatched.run, Events(), recipe={"carry": "true"}, threads=1)
    assert all(alike(trained_members(session), trained_members(opened(RunFolder(tmp_path / "other")))))


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


ADAMW = dataclasses.replace(RECIPE, optimiser="adamw", lr=0.002, nesterov=False)


@pytest.fixture(scope="module")
def with_adamw(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A run whose members are hatched from a mother that AdamW has trained; not to be trained on."""
    session = opened(planned(tmp_path_factory.mktemp("adamw")), recipe=ADAMW)
    train_next(session)
    hatch_next(session)
    return session


def test_adamw_s_moments_and_steps_are_kept(with_adamw: Session) -> None:
    run = with_adamw.run
    hers, mother = kept(run, "mothers", "cluster1"), onnx_file.read(run.trained_file("mothers", "cluster1"))
    trained = run.training("mothers", "cluster1")
    assert trained is not None
    examples = len(with_adamw.dataset.train)
    steps = len(trained.epochs) * (examples // RECIPE.batch_of(examples))
    assert hers.keys() == {"step", *(f"{part}/{name}" for part in ("momentum", "square") for name in shapes(mother))}
    for name in NAMES:
        found = kept(run, "members", name)
        assert found.keys() == hers.keys()
        assert found["step"] == hers["step"] == steps
        assert difference(hers["square/head.bias"], found["square/head.bias"]).passed
        assert all((found[key] >= 0).all() for key in found if key.startswith("square/"))


def moves(session: Session, before: dict[str, Array]) -> dict[str, Array]:
    """What the first step of P96 subtracts from its weights, in units of the learning rate."""
    data, model = session.dataset, onnx_file.read(session.run.start_file("members", "P96"))
    network = make(model, dataclasses.replace(ADAMW, weight_decay=0.0).step(), 0)
    network.load_state(begun(network.state(), before))
    network.step(data.train.x(slice(32)), data.train.y[:32], ADAMW.lr)
    after = network.state()
    return {
        name: (model.weights[name] - after[f"weight/{name}"]) / ADAMW.lr
        for name, kind in parameters(model).items()
        if kind.trained
    }


def test_a_first_step_is_as_long_as_a_later_one(with_adamw: Session) -> None:
    """AdamW without a past moves every weight by its whole rate; where the counter alone goes on, by three times it."""
    carried = kept(with_adamw.run, "members", "P96")
    squares = {key: np.zeros_like(array) for key, array in carried.items() if key != "step"}
    fresh, torn, found = (moves(with_adamw, each) for each in ({}, {**squares, "step": np.array(9999)}, carried))
    for name, move in found.items():
        alive = np.abs(fresh[name]) > 0.5
        assert np.abs(fresh[name][alive]).mean() > 0.95
        assert np.abs(torn[name][alive]).mean() > 2.5
        assert np.abs(move).mean() < 0.75
        assert np.abs(move).max() < 3


def test_a_member_that_is_its_mother_goes_on_as_she_would(with_adamw: Session) -> None:
    """Where nothing grows, what begins is to the bit what was kept; squares of 0, of weights that never had a gradient,
    are made up."""
    run = with_adamw.run
    mother, hers = onnx_file.read(run.trained_file("mothers", "cluster1")), kept(run, "mothers", "cluster1")
    network = make(mother, ADAMW.step(), 0)
    state = begun(network.state(), hers)
    alive = {key: array for key, array in hers.items() if np.all(array)}
    assert len(alive) > 2
    assert same_bits(alive, {key: state[key] for key in alive})
    assert all(same_bits({key: array}, {key: state[key]}) for key, array in hers.items() if "momentum/" in key)


@pytest.mark.parametrize("kept_square", [np.array([4.0, 0.0, 2.0], np.float32), np.zeros(3, np.float32)])
def test_squares_that_nobody_kept_begin_with_the_usual(kept_square: Array) -> None:
    state = {f"square/{name}": np.zeros(3, np.float32) for name in "abc"} | {"momentum/b": np.zeros(3, np.float32)}
    found = begun(
        state, {"square/a": np.full(3, 9, np.float32), "square/b": kept_square, "square/unknown": kept_square}
    )
    everywhere = 9 if not kept_square.any() else (27 + 6) / 5
    assert found.keys() == state.keys()
    assert found["square/b"].tolist() == ([4, 3, 2] if kept_square.any() else [9, 9, 9])
    assert np.allclose(found["square/c"], everywhere)
    assert not found["momentum/b"].any()
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}


def test_where_no_square_was_kept_none_is_made_up() -> None:
    state = {"square/a": np.zeros(3, np.float32), "weight/a": np.ones(3, np.float32)}
    assert same_bits(begun(state, {}), state)


def test_members_begin_with_adamw_s_and_resume_to_the_same_bits(tmp_path: Path) -> None:
    session = opened(planned(tmp_path / "run"), recipe=ADAMW)
    train_next(session)
    hatch_next(session)
    shutil.copytree(session.run.path, tmp_path / "whole")
    shutil.copytree(session.run.path, tmp_path / "none")
    interrupted(session)
    carried = trained_members(session)
    assert all(alike(carried, trained_members(opened(RunFolder(tmp_path / "whole"), recipe=ADAMW))))
    without = dataclasses.replace(ADAMW, carry=False)
    assert not any(alike(carried, trained_members(opened(RunFolder(tmp_path / "none"), recipe=without))))


def test_another_optimiser_s_state_is_left_behind(hatched: Session, tmp_path: Path) -> None:
    """SGD's momentum is a sum, AdamW's a mean: ten times as much."""
    shutil.copytree(hatched.run.path, tmp_path / "none")
    other = dataclasses.replace(RECIPE, stages={**RECIPE.stages, "members": {"optimiser": "adamw", "nesterov": False}})
    without = dataclasses.replace(other, carry=False)
    found = trained_members(opened(hatched.run, recipe=other))
    assert all(alike(found, trained_members(opened(RunFolder(tmp_path / "none"), recipe=without))))
