"""The MotherNets method, stage by stage: members start as good as their mother, and no stage is taken out of order."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_runs import EXAMPLES, NAMES, RECIPE, SETTINGS, contents, opened, planned, write_members

from mnx.errors import MnxError
from mnx.events import Event, Events
from mnx.graphs import onnx_file
from mnx.graphs.errors import NotPreserved
from mnx.graphs.growth import hatch as growing
from mnx.graphs.model import Model
from mnx.graphs.run import run_file
from mnx.graphs.verify import difference
from mnx.graphs.zoo.mlp import mlp
from mnx.methods.independent import train_independent
from mnx.methods.mothernets import hatch_members, train_members, train_mothers
from mnx.session import Session, job_seed, open_session
from mnx.train.recipe_files import recipe
from mnx.workspace import file_hash


def accuracy(path: Path, session: Session) -> float:
    return float((run_file(path, session.dataset.test.x()).argmax(axis=1) == session.dataset.test.y).mean())


def test_hatched_members_are_as_good_as_their_mother(hatched: Session) -> None:
    run, data = hatched.run, hatched.dataset
    mother = run.trained_file("mothers", "cluster1")
    assert accuracy(mother, hatched) > 0.7
    logits = run_file(mother, data.test.x())
    for name in NAMES:
        found = run_file(run.start_file("members", name), data.test.x())
        assert difference(logits, found).passed
        assert abs(accuracy(run.start_file("members", name), hatched) - accuracy(mother, hatched)) <= 1 / len(
            data.test.y
        )


def test_the_certificate_says_what_was_compared(hatched: Session) -> None:
    for name in NAMES:
        document = json.loads(hatched.run.certificate_file(name).read_text())
        assert document["passed"] is True
        assert (document["mother"], document["member"]) == ("cluster1", name)
        assert document["sha256"] == {
            "mother": file_hash(hatched.run.trained_file("mothers", "cluster1")),
            "member": {m.name: m.sha256 for m in hatched.plan.members}[name],
            "hatched": file_hash(hatched.run.start_file("members", name)),
        }
        assert set(document["versions"]) == {"mnx", "onnx", "onnxruntime", "numpy"}
        assert (document["seed"], document["split"]) == (hatched.plan.seed, "random")
        assert [each["name"] for each in document["inputs"]] == ["random", "training", "validation", "extreme"]
        assert all(each["made"] for each in document["inputs"])
        assert [check["inputs"] for check in document["checks"]] == ["random", "training", "validation", "extreme"]
        assert all(check["passed"] and check["relative"] < 1e-5 for check in document["checks"])
        assert all(check["same_class"] == 1 for check in document["checks"] if check["inputs"] != "extreme")


def test_a_hatched_member_has_its_own_architecture(hatched: Session) -> None:
    for member in hatched.plan.members:
        own, grown = (
            onnx_file.read(path) for path in (Path(member.path), hatched.run.start_file("members", member.name))
        )
        assert [(node.op, node.attributes) for node in own.nodes] == [
            (node.op, node.attributes) for node in grown.nodes
        ]
        assert {key: array.shape for key, array in own.weights.items()} == {
            key: array.shape for key, array in grown.weights.items()
        }


def test_members_learn_on_from_their_mother(hatched: Session) -> None:
    heard: list[Event] = []
    session = opened(hatched.run, Events(None, [heard.append]))
    examples = len(session.dataset.train)
    size = RECIPE.batch_of(examples)
    assert train_members(session) == [member.name for member in session.plan.members]
    for name in NAMES:
        training = session.run.training("members", name)
        assert training is not None
        assert training.samples == len(training.epochs) * (examples // size * size)
        assert training.epochs[0].lr == RECIPE.lr  # hatched networks have no warm-up
        assert training.epochs[0].train_score > 0.7
        grown, trained = (path("members", name) for path in (session.run.start_file, session.run.trained_file))
        assert accuracy(trained, session) > accuracy(grown, session) - 0.05
        assert not difference(*(run_file(path, session.dataset.test.x()) for path in (grown, trained))).passed
    starts = [event for event in heard if event["event"] == "start"]
    assert [(event["number"], event["total"], event["limit"]) for event in starts] == [(n, 3, 3) for n in (1, 2, 3)]
    assert [event["network"] for event in heard if event["event"] == "trained"] == [e["network"] for e in starts]


def test_a_mother_warms_up_and_does_not_anneal(tmp_path: Path) -> None:
    falling = recipe({**SETTINGS, "epochs": "5", "patience": "5", "members.anneal": "2"})
    session = opened(planned(tmp_path), recipe=falling)
    train_mothers(session)
    training = session.run.training("mothers", "cluster1")
    assert training is not None
    assert [epoch.lr for epoch in training.epochs] == [0.0, *[RECIPE.lr] * 4]
    hatch_members(session)
    train_members(session)
    member = session.run.training("members", "P64")
    assert member is not None
    assert [epoch.lr for epoch in member.epochs] == [*[RECIPE.lr] * 4, RECIPE.lr / 2]


def test_networks_with_fresh_weights_alone_may_hand_their_input_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mothers and independent networks; a hatched member begins as her mother ends."""
    begun: list[str] = []

    def handing_on(model: Model) -> Model:
        begun.append(model.name)
        return model

    monkeypatch.setattr("mnx.session.identity_like", handing_on)
    session = opened(planned(tmp_path, ("P64", "P96")), recipe=recipe({**SETTINGS, "identity": "true", "epochs": "1"}))
    train_mothers(session)
    hatch_members(session)
    train_members(session)
    assert begun == ["cluster1"]
    train_independent(session)
    assert begun == ["cluster1", "P64", "P96"]


def test_the_cost_of_a_training_is_three_passes_an_example(hatched: Session) -> None:
    training = hatched.run.training("mothers", "cluster1")
    assert training is not None
    assert training.multiply_adds == 3 * hatched.plan.cluster("cluster1").multiply_adds * training.samples


def test_stages_that_are_done_are_left_alone(hatched: Session) -> None:
    train_members(hatched)
    before = contents(hatched.run.path)
    assert train_mothers(hatched) == []
    assert hatch_members(hatched) == {}
    assert train_members(hatched) == []
    assert contents(hatched.run.path) == before


def test_hatching_before_training_is_refused_with_the_command(tmp_path: Path) -> None:
    session = opened(planned(tmp_path))
    with pytest.raises(MnxError, match=r"the mother of cluster1 is not trained: run 'mnx train .*--untrained"):
        hatch_members(session)
    with pytest.raises(MnxError, match="P64 is not hatched"):
        train_mothers(session)
        train_members(session)
    assert not (session.run.path / "members").exists()


def test_untrained_members_are_stale_once_the_mother_is_trained(tmp_path: Path) -> None:
    session = opened(planned(tmp_path))
    assert set(hatch_members(session, untrained=True)) == set(NAMES)
    carved = file_hash(session.run.start_file("mothers", "cluster1"))
    assert {session.run.hatched_from(name) for name in NAMES} == {carved}
    before = {name: file_hash(session.run.start_file("members", name)) for name in NAMES}
    train_mothers(session)
    with pytest.raises(MnxError, match="P64 is not hatched from the trained mother: run 'mnx hatch"):
        train_members(session)
    assert set(hatch_members(session)) == set(NAMES)
    trained = file_hash(session.run.trained_file("mothers", "cluster1"))
    assert {session.run.hatched_from(name) for name in NAMES} == {trained}
    assert all(file_hash(session.run.start_file("members", name)) != before[name] for name in NAMES)
    assert len(train_members(session)) == 3


def test_untrained_members_compute_what_the_carved_mother_does(tmp_path: Path) -> None:
    run = planned(tmp_path)
    session = opened(run)
    hatch_members(session, untrained=True)
    x = session.dataset.test.x()
    logits = run_file(run.start_file("mothers", "cluster1"), x)
    assert all(difference(logits, run_file(run.start_file("members", name), x)).passed for name in NAMES)


@pytest.mark.parametrize("change", ["other", "gone"])
def test_a_member_s_file_must_be_the_planned_one(change: str, tmp_path: Path) -> None:
    session = opened(planned(tmp_path))
    file = tmp_path / "members" / "P96.onnx"
    if change == "gone":
        file.unlink()
        words = r"P96: its file .*P96\.onnx is gone; put it back, or plan again without it"
    else:
        onnx_file.write(mlp("P96", (1, 8, 8), (96,), 10, seed=9), file)
        words = r"P96\.onnx has changed since it was planned: plan again .*--force"
    with pytest.raises(MnxError, match=words):
        hatch_members(session, untrained=True)
    write_members(tmp_path / "members")
    assert len(hatch_members(session, untrained=True)) == 3


def test_a_member_that_is_hatched_needs_its_file_no_more(hatched: Session, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    files = [Path(member.path) for member in hatched.plan.members]
    shutil.move(files[0].parent, moved)
    try:
        assert hatch_members(hatched) == {}
        assert len(train_members(hatched)) == 3
    finally:
        shutil.move(moved, files[0].parent)


def test_a_member_that_is_not_preserved_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = opened(planned(tmp_path))
    result = growing.result

    def broken(*arguments: object) -> object:
        model, *rest = result(*arguments)  # type: ignore[arg-type]
        return model.with_weights({"head.bias": model.weights["head.bias"] + np.float32(0.01)}), *rest

    monkeypatch.setattr(growing, "result", broken)
    with pytest.raises(NotPreserved, match=r"P64 does not compute the function of cluster1.*nothing was written"):
        hatch_members(session, untrained=True)
    assert not (session.run.path / "members").exists()


def test_a_kill_between_two_files_does_not_pass_off_untrained_members_as_hatched(
    hatched: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def killed(source: Path, target: Path) -> Path:
        if Path(target).name == "certificate.json":
            raise KeyboardInterrupt
        return replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            hatch_members(hatched, untrained=True)
    assert hatched.run.hatched_from("P64") == ""


def test_hatching_without_data_calibrates_on_random_inputs(tmp_path: Path) -> None:
    run = planned(tmp_path)
    found = hatch_members(open_session(run, Events()), untrained=True)
    assert {check.inputs for certificate in found.values() for check in certificate.checks} == {"random", "extreme"}


def test_independent_members_start_afresh_as_a_mother_does(hatched: Session) -> None:
    assert len(train_independent(hatched)) == 3
    assert train_independent(hatched) == []
    for member in hatched.plan.members:
        training = hatched.run.training("independent", member.name)
        assert training is not None
        assert training.epochs[0].lr == 0
        start = onnx_file.read(hatched.run.start_file("independent", member.name))
        given = onnx_file.read(Path(member.path))
        assert start.weights["head.weight"].shape == given.weights["head.weight"].shape
        assert not np.array_equal(start.weights["head.weight"], given.weights["head.weight"])


def test_seeds_depend_on_the_network_and_not_on_the_order() -> None:
    seeds = {job_seed(seed, stage, name) for seed in (0, 1) for stage in ("mothers", "members") for name in ("a", "b")}
    assert len(seeds) == 8
    assert job_seed(0, "members", "a") == job_seed(0, "members", "a")


def test_the_limit_is_kept(hatched: Session) -> None:
    assert len(hatched.dataset.train) + len(hatched.dataset.validation) == EXAMPLES
