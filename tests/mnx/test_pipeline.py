"""From members to scores: every stage in order and once; what does not fit is refused before anything is written."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import EXAMPLES, NAMES, RECIPE, SETTINGS, contents, opened, planned, write_members

from mnx.ensemble import combine, is_combined
from mnx.errors import MnxError
from mnx.events import Event, Events
from mnx.graphs import onnx_file
from mnx.graphs.run import run_file
from mnx.graphs.verify import difference
from mnx.graphs.zoo.ensembles import PERCEPTRONS
from mnx.graphs.zoo.mlp import mlp
from mnx.metrics import scores
from mnx.pipeline import begin, hatch_next, next_step, open_training, run_all, score_run, train_next
from mnx.session import Session
from mnx.workspace import RunFolder, file_hash

STAGES: dict[str, Callable[[Session], object]] = {"train": train_next, "hatch": hatch_next, "combine": combine}


@pytest.fixture(scope="module")
def whole_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of three perceptrons that is done."""
    folder = tmp_path_factory.mktemp("whole")
    run_all(opened(planned(folder)))
    return folder


@pytest.fixture
def whole(whole_once: Path, tmp_path: Path) -> Session:
    """The same run, for a test of its own."""
    shutil.copytree(whole_once / "run", tmp_path / "run")
    return opened(RunFolder(tmp_path / "run"))


def networks(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): file_hash(path) for path in sorted(folder.rglob("*.onnx"))}


def begun(paths: Sequence[Path], run: RunFolder, **settings: Any) -> Session:
    given: dict[str, Any] = {"data": "digits", "train_limit": EXAMPLES, "recipe": SETTINGS, "threads": 1} | settings
    return begin(paths, run, Events(), **given)


def test_the_sample_perceptrons_from_members_to_scores(tmp_path: Path) -> None:
    heard: list[Event] = []
    session = opened(planned(tmp_path, tuple(PERCEPTRONS)), Events(None, [heard.append]))
    found = run_all(session, "independent")
    run, data = session.run, session.dataset
    mothers = found["mothers"]["networks"]
    assert set(mothers) == {cluster.name for cluster in session.plan.clusters}
    assert all(mother["accuracy"] > 0.7 for mother in mothers.values())
    assert set(found["members"]["networks"]) == set(PERCEPTRONS)
    for network in found["members"]["networks"].values():
        mother = mothers[network["cluster"]]
        assert abs(network["accuracy_at_start"] - mother["accuracy"]) <= 1 / len(data.test)
        assert network["accuracy"] > mother["accuracy"] - 0.05
        assert network["share"] == mother["parameters"] / network["parameters"] >= 0.5
    members = [run_file(run.trained_file("members", name), data.test.x()) for name in PERCEPTRONS]
    together = scores(run_file(run.ensemble_file, data.test.x()), data.test.y)
    ensemble = found["members"]["ensemble"]
    assert ensemble["averaged"] == pytest.approx(vars(together), abs=1e-5)
    each = [float((logits.argmax(axis=1) == data.test.y).mean()) for logits in members]
    assert ensemble["mean_member"] == pytest.approx(np.mean(each))
    assert max(each) <= ensemble["oracle"] <= 1
    assert 0 < ensemble["disagreement"] < 0.5
    assert found["cost"]["multiply_adds"] == sum(found[stage]["multiply_adds"] for stage in ("mothers", "members"))
    assert found["cost_against"]["multiply_adds"] == pytest.approx(
        found["cost"]["multiply_adds"] / found["independent"]["multiply_adds"]
    )
    assert (found["compare"], found["test_examples"]) == ("independent", len(data.test))
    kinds = [event["event"] for event in heard if event["event"] not in ("step", "epoch", "score", "hatch")]
    trained = ["start", "trained"]
    method = ["stage", *trained * len(mothers), *["hatched"] * 5, "stage", *trained * 5, "combined"]
    assert kinds == [*method, "stage", *trained * 5, "combined", "scored"]


def test_again_does_nothing(whole: Session) -> None:
    before = contents(whole.run.path)
    first = whole.run.read_json(whole.run.scores_file)
    heard: list[Event] = []
    assert run_all(opened(whole.run, Events(None, [heard.append]))) == first
    assert contents(whole.run.path) == before
    assert {event["event"] for event in heard} <= {"hatch"}


def test_a_baseline_is_added_to_a_run_that_is_done(whole: Session) -> None:
    before = contents(whole.run.path)
    found = run_all(whole, "independent")
    assert "independent" in found
    after = contents(whole.run.path)
    new = {name.split("/")[0] for name in after if after[name] != before.get(name)}
    assert new == {"independent", "scores.json", "events.jsonl"}
    assert score_run(whole) == found


def test_stage_by_stage_is_the_same_as_at_once(whole: Session, whole_once: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "stages")
    members = sorted((whole_once / "members").glob("*.onnx"))
    steps: list[str] = []

    def step() -> str:
        steps.append(next_step(run).removesuffix(f" -o {run.path}").removesuffix(f" -o {run.path} --data D"))
        return steps[-1]

    assert step() == "mnx mother members/*.onnx"
    begun(members, run)
    while (name := step().split()[1]) != "score":
        session = open_training(run, Events(), "digits", EXAMPLES, SETTINGS, threads=1)
        STAGES[name](session)
    assert steps == [f"mnx {name}" for name in ("mother members/*.onnx", "train", "hatch", "train", "combine", "score")]
    assert networks(run.path) == networks(whole.run.path)


def test_networks_do_not_depend_on_each_other(whole: Session, tmp_path: Path) -> None:
    """Of two members the one that is hatched and trained alone has the same bytes."""
    run = RunFolder(tmp_path / "parts")
    shutil.copytree(whole.run.path, run.path)
    for stage in ("members", "mothers"):
        for folder in (run.path / stage).iterdir():
            if folder.name == "P96":
                shutil.rmtree(folder)
    run_all(opened(run))
    assert networks(run.path) == networks(whole.run.path)


def test_a_changed_member_is_refused_with_the_cure(tmp_path: Path) -> None:
    run = planned(tmp_path)
    onnx_file.write(mlp("P96", (1, 8, 8), (96,), 10, seed=9), tmp_path / "members" / "P96.onnx")
    with pytest.raises(MnxError, match=r"P96\.onnx has changed since it was planned"):
        run_all(opened(run))
    assert not (run.path / "members").exists()
    with pytest.raises(MnxError, match=r"holds a run of other members \(changed: P96\)"):
        begun(sorted((tmp_path / "members").glob("*.onnx")), run)


def test_a_hatched_file_that_is_not_the_certified_one_is_hatched_again(whole: Session) -> None:
    run = whole.run
    hatched, ensemble = file_hash(run.start_file("members", "P96")), file_hash(run.ensemble_file)
    model = onnx_file.read(run.start_file("members", "P96"))
    changed = model.with_weights({"head.bias": model.weights["head.bias"] + np.float32(0.1)})
    onnx_file.write(changed, run.start_file("members", "P96"))
    assert run.hatched_from("P96") == ""
    assert run.training("members", "P96") is None
    run_all(whole)
    assert (file_hash(run.start_file("members", "P96")), file_hash(run.ensemble_file)) == (hatched, ensemble)


@pytest.mark.parametrize("stage, name", [("members", "P96"), ("mothers", "cluster1")])
def test_a_trained_file_that_is_not_the_recorded_one_is_trained_again(whole: Session, stage: str, name: str) -> None:
    run = whole.run
    trained, ensemble = file_hash(run.trained_file(stage, name)), file_hash(run.ensemble_file)
    run.trained_file(stage, name).write_bytes(run.trained_file(stage, name).read_bytes()[:-40])
    assert run.training(stage, name) is None
    run_all(whole)
    assert (file_hash(run.trained_file(stage, name)), file_hash(run.ensemble_file)) == (trained, ensemble)


@pytest.mark.parametrize("kept", [0, 40])
def test_a_damaged_ensemble_is_made_again(whole: Session, kept: int) -> None:
    run = whole.run
    ensemble = file_hash(run.ensemble_file)
    run.ensemble_file.write_bytes(run.ensemble_file.read_bytes()[:kept])
    assert not is_combined(run, whole.plan)
    run_all(whole)
    assert file_hash(run.ensemble_file) == ensemble


def test_a_member_trained_on_makes_ensemble_and_scores_anew(whole: Session) -> None:
    run = whole.run
    ensemble, document = file_hash(run.ensemble_file), run.read_json(run.scores_file)
    record = run.folder("members", "P96") / "training.json"
    model = onnx_file.read(run.trained_file("members", "P96"))
    changed = model.with_weights({"head.bias": model.weights["head.bias"] + np.float32(0.1)})
    onnx_file.write(changed, run.trained_file("members", "P96"))
    run.write_json(record, {**run.read_json(record), "trained": file_hash(run.trained_file("members", "P96"))})
    assert not is_combined(run, whole.plan)
    run_all(whole)
    assert is_combined(run, whole.plan)
    assert file_hash(run.ensemble_file) != ensemble
    assert run.read_json(run.scores_file)["made_of"] != document["made_of"]


def test_the_ensemble_is_the_average_of_the_members_that_stand_there(whole: Session) -> None:
    run, x = whole.run, whole.dataset.test.x()
    logits = np.stack([run_file(run.trained_file("members", name), x) for name in NAMES]).astype(np.float64)
    odds = np.exp(logits - logits.max(axis=2, keepdims=True))
    average = (odds / odds.sum(axis=2, keepdims=True)).mean(axis=0)
    assert difference(average, run_file(run.ensemble_file, x)).passed
    assert onnx_file.read(run.ensemble_file).metadata["mnx.scaling"]


def test_scores_before_training_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MnxError, match="not trained yet: cluster1; run 'mnx train"):
        score_run(opened(planned(tmp_path)))


def test_an_unknown_baseline_is_refused(whole: Session) -> None:
    with pytest.raises(MnxError, match="no baseline 'bagging'; there are independent"):
        run_all(whole, "bagging")


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "tau": ({"tau": 2.0}, "tau = 2.0"),
    "clusters": ({"clusters": 9}, "9 clusters of 3 members"),
    "recipe": ({"recipe": {"lr": "fast"}}, "lr = fast"),
    "recipe key": ({"recipe": {"speed": "1"}}, "unknown key 'speed'"),
    "momentum": ({"recipe": {"momentum": "0"}}, "nesterov = false"),
    "no data": ({"data": None}, "no data"),
    "data": ({"data": "no/such/file.npz"}, "no such file"),
    "limit": ({"train_limit": 1}, "limit of 1"),
    "device": ({"device": "tpu"}, "device 'tpu' is unknown"),
    "baseline": ({"compare": "bagging"}, "no baseline 'bagging'"),
    "seed": ({"seed": -1}, "seed -1 is negative"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_does_not_fit_is_refused_before_anything_is_written(what: str, tmp_path: Path) -> None:
    members, run = write_members(tmp_path / "members"), RunFolder(tmp_path / "run")
    settings, words = REFUSALS[what]
    with pytest.raises(MnxError, match=words):
        begun(members, run, **settings)
    assert not run.path.exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"recipe": {"lr": "0.2"}}, "trained with lr = 0.1, not 0.2"),
        ({"train_limit": 500}, "is other data"),
        ({"seed": 1}, "--seed"),
    ],
)
def test_a_run_that_is_done_keeps_its_settings(settings: dict[str, Any], words: str, whole: Session) -> None:
    members = [Path(member.path) for member in whole.plan.members]
    before = contents(whole.run.path)
    with pytest.raises(MnxError, match=words):
        begun(members, whole.run, **settings)
    assert contents(whole.run.path) == before


def test_recipe_and_data_of_a_run_need_not_be_given_again(whole: Session) -> None:
    session = begin([Path(member.path) for member in whole.plan.members], whole.run, Events())
    assert session.recipe == RECIPE
    assert session.dataset.fingerprint == whole.dataset.fingerprint
    assert run_all(session)["data"] == "digits"


def test_forced_training_is_the_same_training(whole: Session) -> None:
    before = networks(whole.run.path)
    session = open_training(whole.run, Events(), force=True, threads=1)
    assert whole.run.training("members", "P64") is None
    assert whole.run.training("mothers", "cluster1") is not None
    assert train_next(session)[0] == "members"
    assert networks(whole.run.path) == before


def test_untrained_members_do_not_replace_trained_ones_without_force(whole: Session) -> None:
    before = networks(whole.run.path)
    with pytest.raises(MnxError, match="hatched from trained mothers: replace them with --force"):
        hatch_next(whole, untrained=True)
    assert networks(whole.run.path) == before
    assert len(hatch_next(whole, untrained=True, force=True)) == 3
    assert next_step(whole.run).startswith("mnx hatch")
    assert len(hatch_next(whole)) == 3
    assert networks(whole.run.path) == before
    assert next_step(whole.run).startswith("mnx score")
