"""Members whose BatchNormalization was folded away are planned and trained with it, and come back without."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import contents, opened

from mnx.errors import MnxError
from mnx.events import Event, Events
from mnx.graphs import onnx_file
from mnx.graphs.model import Model
from mnx.graphs.norms import restore
from mnx.graphs.run import run as run_model
from mnx.graphs.verify import difference
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.vgg import parse_blocks, vgg
from mnx.methods.mothernets import hatch_members, train_mothers
from mnx.norms import DEEP
from mnx.pipeline import run_all
from mnx.plan import Plan
from mnx.planning import plan_members, propose
from mnx.train.recipe import Recipe
from mnx.train.recipe_files import recipe
from mnx.workspace import RunFolder

INPUT = (1, 8, 8)
DEPTHS = {"A": "(3:4)x2 | (3:6)x3 | (3:8)x3", "B": "(3:4)x2 | (3:8)x3 | (3:8)x4"}
QUICK = {"train_limit": 200}


def written(folder: Path, *models: Model) -> list[Path]:
    for model in models:
        onnx_file.write(model, folder / f"{model.name}.onnx")
    return [folder / f"{model.name}.onnx" for model in models]


def deep(name: str, **settings: Any) -> Model:
    return vgg(name, parse_blocks(DEPTHS[name]), 10, INPUT, (), **settings)


def straight(name: str, layers: int) -> Model:
    """So many convolutions."""
    return vgg(name, parse_blocks(f"(3:4)x{layers}"), 10, INPUT, ())


def chain(name: str, layers: int) -> Model:
    """A perceptron with so many hidden layers."""
    return mlp(name, INPUT, (8,) * layers, 10)


def plan(paths: list[Path], run: RunFolder, norm: str | None = None, events: Events | None = None) -> Plan:
    return plan_members(paths, run, events or Events(), norm=norm)


def restored(found: Plan) -> dict[str, int]:
    return {member.name: member.restored for member in found.members}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def test_auto_restores_all_bare_members_where_one_of_them_is_deep(tmp_path: Path, run: RunFolder) -> None:
    heard: list[Event] = []
    paths = written(tmp_path, straight("shallow", DEEP - 1), straight("enough", DEEP), chain("perceptron", DEEP))
    assert restored(plan([paths[0], paths[2]], RunFolder(tmp_path / "few"))) == {"shallow": 0, "perceptron": 0}
    expected = {"shallow": DEEP - 1, "enough": DEEP, "perceptron": 0}
    assert restored(plan(paths, run, events=Events(None, [heard.append]))) == expected
    [told] = [event for event in heard if event["event"] == "restored"]
    assert (told["layers"], told["norm"]) == ({"enough": DEEP, "shallow": DEEP - 1}, "auto")


def test_auto_leaves_members_with_normalisation_alone(tmp_path: Path, run: RunFolder) -> None:
    paths = written(tmp_path, deep("A", batch_norm=True), deep("B", batch_norm=True))
    assert restored(plan(paths, run)) == {"A": 0, "B": 0}


def test_a_bare_member_is_hatched_from_one_with_normalisation_of_its_own(tmp_path: Path, run: RunFolder) -> None:
    found = plan(written(tmp_path, deep("A", batch_norm=True), deep("B")), run)
    assert restored(found) == {"A": 0, "B": 9}
    assert len(found.clusters) == 1
    certificates = hatch_members(opened(run, **QUICK), untrained=True)
    assert all(each.passed for each in certificates.values())


def test_keep_restores_none_and_restore_all(tmp_path: Path) -> None:
    paths = written(tmp_path, deep("A"), chain("shallow", 2))
    for norm, expected in {"keep": {"A": 0, "shallow": 0}, "restore": {"A": 8, "shallow": 2}}.items():
        assert restored(propose(paths, RunFolder(tmp_path / norm), Events(), norm=norm).plan) == expected


def test_restore_refuses_a_member_without_a_place(tmp_path: Path, run: RunFolder) -> None:
    with pytest.raises(MnxError, match=r"linear has no place for BatchNormalization \('head' makes the output\)"):
        plan(written(tmp_path, mlp("linear", INPUT, (), 10)), run, "restore")


def test_the_choice_stands_with_the_plan(tmp_path: Path, run: RunFolder) -> None:
    paths = written(tmp_path, deep("A"), deep("B"))
    found = plan(paths, run, "keep")
    assert found.norm == "keep"
    before = contents(run.path)
    assert plan(paths, run) == found == run.plan()
    assert contents(run.path) == before
    with pytest.raises(MnxError, match=r"was planned with .*--norm keep.*, not --norm restore"):
        plan(paths, run, "restore")


def test_mothers_have_it_and_members_come_back_without(tmp_path: Path, run: RunFolder) -> None:
    heard: list[Event] = []
    given = [deep("A"), deep("B")]
    found = plan(written(tmp_path, *given), run)
    assert restored(found) == {"A": 8, "B": 9}
    session = opened(run, Events(None, [heard.append]), **QUICK)
    run_all(session, "independent")
    mother = onnx_file.read(run.trained_file("mothers", "cluster1"))
    assert [node.op for node in mother.nodes].count("BatchNormalization") == 8
    for stage in ("members", "independent"):
        for model in given:
            start = onnx_file.read(run.start_file(stage, model.name))
            trained = onnx_file.read(run.trained_file(stage, model.name))
            assert len(restore.put_in(start)) == restored(found)[model.name]
            assert trained.nodes == model.nodes
            assert restore.RESTORED not in trained.metadata
            assert run.read_json(run.folding_file(stage, model.name))["passed"]
    folded = [(event["stage"], event["network"], event["layers"]) for event in heard if event["event"] == "folded"]
    assert sorted(folded) == [(stage, name, 8 + (name == "B")) for stage in ("independent", "members") for name in "AB"]
    x = session.dataset.test.x(np.arange(20))
    [together] = run_model(onnx_file.read(run.ensemble_file), x).values()
    alone = [
        next(iter(run_model(onnx_file.read(run.trained_file("members", name)), x, include_ends=True).values()))
        for name in "AB"
    ]
    shares = [np.exp(each) / np.exp(each).sum(axis=1, keepdims=True) for each in alone]
    assert difference(np.mean(shares, axis=0), together).passed
    assert run_all(session, "independent") == run.read_json(run.scores_file)


def test_hatched_members_are_their_mother_in_both_modes(tmp_path: Path, run: RunFolder) -> None:
    plan(written(tmp_path, deep("A"), deep("B")), run)
    session = opened(run, **QUICK)
    train_mothers(session)
    certificates = hatch_members(session)
    assert {check.mode for found in certificates.values() for check in found.checks} == {"eval", "batch statistics"}
    assert all(found.passed for found in certificates.values())


def snapshots() -> Recipe:
    """Two cycles of an epoch each; the end of the first is a snapshot."""
    keys = {"epochs": "2", "cycle": "1", "mothers.epochs": "1", "members.schedule": "cycles"}
    return recipe(keys | {"members.snapshots": "true"})


def test_snapshots_come_back_without_as_well(tmp_path: Path, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    given, networks = deep("A"), list[Model]()

    def kept(model: Model) -> Model:
        networks.append(model)
        return restore.folded(model)

    plan(written(tmp_path, given), run, "restore")
    session = opened(run, recipe=snapshots(), **QUICK)
    monkeypatch.setattr("mnx.session.folded", kept)
    run_all(session)
    x = session.dataset.test.x(np.arange(20))
    files = run.network_files("members", "A").values()
    assert len(files) == len(networks) == 2
    found = []
    for path, network in zip(files, networks, strict=True):
        model = onnx_file.read(path)
        assert model.nodes == given.nodes
        found.append(next(iter(run_model(model, x).values())))
        assert difference(next(iter(run_model(network, x).values())), found[-1]).passed
    assert not difference(*found).passed
    assert run.read_json(run.folding_file("members", "A"))["passed"]


def test_a_snapshot_whose_folding_changes_the_function_is_refused(
    tmp_path: Path, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Model] = []

    def once_right(model: Model) -> Model:
        calls.append(model)
        return restore.folded(calls[0])

    plan(written(tmp_path, deep("A")), run, "restore")
    session = opened(run, recipe=snapshots(), **QUICK)
    with monkeypatch.context() as patch:
        patch.setattr("mnx.session.folded", once_right)
        with pytest.raises(restore.NotPreserved, match="with BatchNormalization folded it computes another function"):
            run_all(session)
    assert len(calls) == 2
    assert not [*run.folder("members", "A").glob("snapshot-*"), *run.folder("members", "A").glob("trained.onnx")]
    run_all(session)
    assert len(run.network_files("members", "A")) == 2


def test_a_folding_that_changes_the_function_writes_nothing(
    tmp_path: Path, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_mean(layer: Any, norm: Any, weights: Any) -> Any:
        weight, bias = folding(layer, norm, weights)
        return weight, bias + np.float32(0.01)

    folding = restore._folding
    plan(written(tmp_path, deep("A"), deep("B")), run)
    session = opened(run, **QUICK)
    monkeypatch.setattr(restore, "_folding", without_mean)
    with pytest.raises(restore.NotPreserved, match="with BatchNormalization folded it computes another function"):
        run_all(session)
    assert not run.trained_file("members", "A").exists()
    monkeypatch.undo()
    run_all(session)
    assert run.training("members", "A") is not None
