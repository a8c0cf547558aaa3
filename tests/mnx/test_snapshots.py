"""Runs whose members keep the ends of their cycles: all of them are the ensemble, and count as one member."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from small_runs import EXAMPLES, NAMES, contents, opened, planned

from mnx.ensemble import is_combined
from mnx.graphs import onnx_file
from mnx.graphs.model import Array
from mnx.graphs.run import run_file
from mnx.graphs.verify import difference
from mnx.metrics import scores, softmax
from mnx.pipeline import run_all
from mnx.session import FORWARD_AND_BACKWARD, Session
from mnx.train.recipe import Recipe
from mnx.train.recipe_files import recipe
from mnx.workspace import RunFolder, file_hash

CYCLES = {
    "lr": "0.1",
    "epochs": "6",
    "mothers.epochs": "2",
    "cycle": "2",
    "members.schedule": "cycles",
    "members.snapshots": "true",
}


def within(session: Session, epochs: int) -> Recipe:
    """A recipe whose budget is so many epochs of the smallest member, and fewer of larger ones."""
    examples = len(session.dataset.train)
    size = Recipe().batch_of(examples)
    least = min(member.multiply_adds for member in session.plan.members)
    budget = FORWARD_AND_BACKWARD * least * (examples // size * size) * epochs
    return recipe({**CYCLES, "members.multiply_adds": str(float(budget))})


@pytest.fixture(scope="module")
def whole_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that is done; its members stopped after different numbers of cycles."""
    folder = tmp_path_factory.mktemp("whole")
    run = planned(folder)
    shutil.copytree(run.path, folder / "plan")
    session = opened(RunFolder(folder / "plan"))
    run_all(opened(run, recipe=within(session, 6)))
    return folder


@pytest.fixture
def whole(whole_once: Path, tmp_path: Path) -> Session:
    """The same run, for a test of its own."""
    shutil.copytree(whole_once / "run", tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    return opened(run, recipe=within(opened(run, recipe=None), 6))


def said(run: RunFolder, name: str, x: Array) -> list[Array]:
    """Probabilities of a member's networks, its own first."""
    return [softmax(run_file(path, x)) for path in run.network_files("members", name).values()]


def test_the_ensemble_is_of_all_snapshots_and_each_member_counts_once(whole: Session) -> None:
    run, x = whole.run, whole.dataset.test.x()
    counts = {name: len(run.network_files("members", name)) for name in NAMES}
    assert counts["P64"] == 3
    assert 1 <= counts["P64-64"] < 3
    expected = np.mean([np.mean(said(run, name, x), axis=0) for name in NAMES], axis=0)
    session = onnxruntime.InferenceSession(str(run.ensemble_file), providers=["CPUExecutionProvider"])
    [found] = session.run(None, {session.get_inputs()[0].name: x})
    assert difference(expected, found).passed
    every = [each for name in NAMES for each in said(run, name, x)]
    assert not difference(np.mean(every, axis=0), found).passed
    assert not difference(np.mean([said(run, name, x)[0] for name in NAMES], axis=0), found).passed
    onnx.checker.check_model(onnx.load(run.ensemble_file), full_check=True)
    document, test = run.read_json(run.scores_file)["members"], whole.dataset.test
    assert document["ensemble"]["averaged"] == pytest.approx(vars(scores(expected, test.y)), abs=1e-5)
    assert document["ensemble"]["networks"] == sum(counts.values())
    for name in NAMES:
        network, (own, *earlier) = document["networks"][name], said(run, name, x)
        assert network["accuracy"] == pytest.approx(scores(own, test.y).accuracy)  # type: ignore[union-attr]
        assert network["snapshots"] == [pytest.approx(vars(scores(each, test.y)), abs=1e-5) for each in earlier]


def test_the_last_cycle_is_the_network_and_cycles_differ(whole: Session) -> None:
    run = whole.run
    for name in NAMES:
        files = run.network_files("members", name)
        training = run.training("members", name)
        assert training is not None
        assert len(files) == -(-len(training.epochs) // 2)
        assert len({file_hash(path) for path in files.values()}) == len(files)
        assert not list(run.folder("mothers", "cluster1").glob("snapshot-*"))
        assert all(onnx_file.read(path).nodes == onnx_file.read(files[name]).nodes for path in files.values())


def test_again_does_nothing(whole: Session) -> None:
    before = contents(whole.run.path)
    assert run_all(whole) == json.loads(before["scores.json"][0])
    assert contents(whole.run.path) == before


@pytest.mark.parametrize("harm", ["gone", "changed"])
def test_a_member_of_which_a_snapshot_is_not_the_recorded_one_is_trained_again(harm: str, whole: Session) -> None:
    run = whole.run
    path, ensemble = run.snapshot_file("members", "P64", 2), file_hash(run.ensemble_file)
    before = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(run.snapshot_file("members", "P64", 1).read_bytes())
    assert not is_combined(run, whole.plan)
    run_all(whole)
    assert path.read_bytes() == before
    assert file_hash(run.ensemble_file) == ensemble


def test_without_the_key_nothing_of_it_is_kept(tmp_path: Path) -> None:
    run = planned(tmp_path, NAMES[:2])
    keys = {key: value for key, value in CYCLES.items() if key != "members.snapshots"}
    found = run_all(opened(run, recipe=recipe(keys)), "independent")
    assert not list(run.path.rglob("snapshot-*"))
    assert [found[stage]["ensemble"]["networks"] for stage in ("members", "independent")] == [2, 2]


def test_a_baseline_may_have_snapshots_as_well(tmp_path: Path) -> None:
    run = planned(tmp_path, NAMES[:2])
    keys = {key.replace("members", "independent"): value for key, value in CYCLES.items()}
    session = opened(run, recipe=recipe(keys | {"members.epochs": "1"}), train_limit=EXAMPLES)
    found = run_all(session, "independent")
    assert [found[stage]["ensemble"]["networks"] for stage in ("members", "independent")] == [2, 6]
    assert is_combined(run, session.plan, "independent")
    assert [path.name for path in sorted(run.folder("independent", "P64").glob("snapshot-*"))] == [
        "snapshot-1.onnx",
        "snapshot-2.onnx",
    ]
