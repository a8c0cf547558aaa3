"""The run folder: what counts as done, and what is removed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_training import RECIPE, plain, same_bits, separable, train_in

from mnx.errors import MnxError
from mnx.graphs import onnx_file
from mnx.graphs.certificate import EVAL, Certificate, Check, Difference
from mnx.graphs.model import Model
from mnx.graphs.zoo.mlp import mlp
from mnx.train.loop import Trained
from mnx.workspace import STAGES, RunFolder, file_hash


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train_in(tmp_path_factory.mktemp("training"), plain())


@pytest.fixture(scope="module")
def with_snapshots(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    recipe = replace(RECIPE, schedule="cycles", cycle=1, epochs=3)
    return train_in(tmp_path_factory.mktemp("snapshots"), plain(), recipe)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def begin(run: RunFolder, stage: str, name: str, model: Model) -> None:
    onnx_file.write(model, run.start_file(stage, name))


def other_start() -> Model:
    return plain().with_weights({"head.bias": plain().weights["head.bias"] + 1})


@pytest.mark.parametrize("stage", STAGES)
def test_a_training_is_found_as_it_was_saved(stage: str, run: RunFolder, trained: Trained) -> None:
    begin(run, stage, "a", plain())
    assert run.training(stage, "a") is None
    run.save_training(stage, "a", trained, multiply_adds=77)
    found = run.training(stage, "a")
    assert found is not None
    assert found.epochs == trained.epochs
    assert (found.samples, found.seconds, found.multiply_adds) == (trained.samples, trained.seconds, 77)
    assert found.start == file_hash(run.start_file(stage, "a"))
    files = {path.name for path in run.folder(stage, "a").iterdir()} - {"optimiser.npz"}
    assert files == {STAGES[stage], "trained.onnx", "training.json"}


def test_a_training_from_another_start_does_not_count(run: RunFolder, trained: Trained) -> None:
    begin(run, "members", "a", plain())
    run.save_training("members", "a", trained, 1)
    begin(run, "members", "a", other_start())
    assert run.training("members", "a") is None
    begin(run, "members", "a", plain())
    assert run.training("members", "a") is not None


@pytest.mark.parametrize("file", ["trained.onnx", "training.json", "hatched.onnx"])
def test_a_training_of_which_a_file_is_gone_does_not_count(file: str, run: RunFolder, trained: Trained) -> None:
    begin(run, "members", "a", plain())
    run.save_training("members", "a", trained, 1)
    (run.folder("members", "a") / file).unlink()
    assert run.training("members", "a") is None


def test_snapshots_stand_beside_the_network(run: RunFolder, with_snapshots: Trained) -> None:
    begin(run, "members", "a", plain())
    run.save_training("members", "a", with_snapshots, 1)
    files = run.network_files("members", "a")
    assert {name: path.name for name, path in files.items()} == {
        "a": "trained.onnx",
        "a/snapshot-1": "snapshot-1.onnx",
        "a/snapshot-2": "snapshot-2.onnx",
    }
    ends = [with_snapshots.model.weights, *with_snapshots.snapshots]
    for path, weights in zip(files.values(), ends, strict=True):
        assert same_bits(onnx_file.read(path).weights, weights)
    assert len({file_hash(path) for path in files.values()}) == 3
    found = run.training("members", "a")
    assert found is not None
    assert found.snapshots == tuple(file_hash(files[f"a/snapshot-{number}"]) for number in (1, 2))


@pytest.mark.parametrize("number", [1, 2])
def test_a_training_of_which_a_snapshot_is_gone_or_another_does_not_count(
    number: int, run: RunFolder, with_snapshots: Trained
) -> None:
    begin(run, "members", "a", plain())
    run.save_training("members", "a", with_snapshots, 1)
    path = run.snapshot_file("members", "a", number)
    written = path.read_bytes()
    path.write_bytes(run.trained_file("members", "a").read_bytes())
    assert run.training("members", "a") is None
    path.unlink()
    assert run.training("members", "a") is None
    assert run.network_files("members", "a") == {"a": run.trained_file("members", "a")}
    path.write_bytes(written)
    assert run.training("members", "a") is not None


def test_snapshots_of_an_earlier_training_do_not_stay(
    run: RunFolder, trained: Trained, with_snapshots: Trained
) -> None:
    begin(run, "members", "a", plain())
    run.save_training("members", "a", with_snapshots, 1)
    run.save_training("members", "a", replace(with_snapshots, snapshots=with_snapshots.snapshots[:1]), 1)
    assert list(run.network_files("members", "a")) == ["a", "a/snapshot-1"]
    assert not run.snapshot_file("members", "a", 2).exists()
    run.save_training("members", "a", trained, 1)
    assert {path.name for path in run.folder("members", "a").iterdir()} == {
        "hatched.onnx",
        "trained.onnx",
        "training.json",
    }


def test_a_training_that_was_recorded_before_there_were_snapshots_counts(run: RunFolder, trained: Trained) -> None:
    begin(run, "members", "a", plain())
    run.save_training("members", "a", trained, 1)
    record = run.folder("members", "a") / "training.json"
    document = run.read_json(record)
    del document["snapshots"]
    run.write_json(record, document)
    found = run.training("members", "a")
    assert found is not None
    assert found.snapshots == ()


def test_saving_removes_the_checkpoint(run: RunFolder) -> None:
    folder = run.folder("members", "a")
    begin(run, "members", "a", plain())
    done = train_in(folder, plain())
    assert (folder / "checkpoint.npz").exists()
    run.save_training("members", "a", done, 1)
    assert not (folder / "checkpoint.npz").exists()


@pytest.mark.parametrize("file", ["trained.onnx", "snapshot-1.onnx", "snapshot-2.onnx", "training.json"])
def test_a_kill_between_two_files_does_not_pass_off_an_old_network_as_new(
    file: str, run: RunFolder, with_snapshots: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(run, "members", "a", plain())
    run.save_training("members", "a", with_snapshots, 1)
    begin(run, "members", "a", other_start())
    replace = Path.replace

    def killed(source: Path, target: Path) -> Path:
        if Path(target).name == file:
            raise KeyboardInterrupt
        return replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            run.save_training("members", "a", with_snapshots, 2)
    assert run.training("members", "a") is None


def test_forgetting_leaves_the_start(run: RunFolder, with_snapshots: Trained) -> None:
    begin(run, "members", "a", plain())
    run.save_training("members", "a", with_snapshots, 1)
    (run.folder("members", "a") / "checkpoint.npz").write_bytes(b"")
    run.forget_training("members", "a")
    assert [path.name for path in run.folder("members", "a").iterdir()] == ["hatched.onnx"]
    run.forget_training("members", "a")


def test_hatched_from_needs_certificate_and_network(run: RunFolder) -> None:
    assert run.hatched_from("a") == ""
    begin(run, "members", "a", plain())
    assert run.hatched_from("a") == ""
    check = Check("random", EVAL, 1, Difference(0.0, 1.0, 1e-5))
    hashes = {"mother": "f00", "hatched": file_hash(run.start_file("members", "a"))}
    certificate = Certificate("m", "a", (check,), sha256=hashes)
    run.write_json(run.certificate_file("a"), certificate.to_json())
    assert run.certificate("a") == certificate
    assert run.hatched_from("a") == "f00"
    failed = replace(check, difference=Difference(1.0, 1.0, 1e-5))
    run.write_json(run.certificate_file("a"), replace(certificate, checks=(failed,)).to_json())
    assert run.hatched_from("a") == ""
    another = replace(certificate, sha256={**hashes, "hatched": "another"})
    run.write_json(run.certificate_file("a"), another.to_json())
    assert run.hatched_from("a") == ""


def test_a_certificate_of_an_earlier_version_is_refused_with_the_cure(run: RunFolder) -> None:
    begin(run, "members", "a", plain())
    old = {"passed": True, "mother_sha256": "f00", "hatched_sha256": file_hash(run.start_file("members", "a"))}
    run.write_json(run.certificate_file("a"), old)
    with pytest.raises(MnxError, match=r"another version of mnx wrote it.*hatch again with 'mnx hatch --force -o .*'"):
        run.hatched_from("a")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"start": ',
        '"words"',
        "5",
        "null",
        "[1]",
    ],
)
def test_a_broken_document_is_refused_with_the_cure(text: str, run: RunFolder) -> None:
    run.path.mkdir()
    run.settings_file.write_text(text)
    with pytest.raises(MnxError, match=r"settings\.json is broken \(.*\); delete it to make it again"):
        run.read_json(run.settings_file)


def test_documents_are_written_whole(run: RunFolder) -> None:
    run.write_json(run.scores_file, {"x": [1, 2.5, None, "größer"]})
    assert run.read_json(run.scores_file) == {"x": [1, 2.5, None, "größer"]}
    assert list(run.path.iterdir()) == [run.scores_file]


def test_no_plan_is_refused_with_the_command_to_make_one(run: RunFolder) -> None:
    with pytest.raises(MnxError, match=r"there is no plan in .*begin with 'mnx mother"):
        run.plan()


def written_by(run: RunFolder, trained: Trained) -> None:
    """Every file that a run writes."""
    documents: dict[str, Any] = {"plan": {}, "settings": {}, "scores": {}, "ensemble": {}}
    for name, document in documents.items():
        run.write_json(run.path / f"{name}.json", document)
    run.events_file.write_text("{}\n")
    run.ensemble_file.write_bytes(b"")
    run.write_json(run.path / "independent" / "ensemble.json", {})
    (run.path / "independent" / "ensemble.onnx").write_bytes(b"")
    for stage in STAGES:
        begin(run, stage, "a", plain())
        run.save_training(stage, "a", trained, 1)
        (run.folder(stage, "a") / "checkpoint.npz").write_bytes(b"")
    run.write_json(run.certificate_file("a"), {})


def test_clearing_removes_snapshots(run: RunFolder, with_snapshots: Trained) -> None:
    written_by(run, with_snapshots)
    (run.folder("members", "a") / ".snapshot-3.0123abcd.onnx").write_bytes(b"half")
    run.clear()
    assert not [path for path in run.path.rglob("*") if path.is_file()]


def test_clearing_leaves_nothing_of_a_run(run: RunFolder, trained: Trained) -> None:
    written_by(run, trained)
    run.clear()
    assert not [path for path in run.path.rglob("*") if path.is_file()]


def test_clearing_removes_what_a_killed_writer_left(run: RunFolder, trained: Trained) -> None:
    written_by(run, trained)
    for name in (".plan.0123abcd.json", "members/a/.checkpoint.89abcdef.npz", "independent/.ensemble.00000000.onnx"):
        (run.path / name).write_bytes(b"half")
    run.clear()
    assert not [path for path in run.path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", ["notes.txt", "report.html", "members.onnx", "other/plan.json"])
def test_clearing_leaves_what_others_wrote(name: str, run: RunFolder, trained: Trained) -> None:
    written_by(run, trained)
    own = run.path / name
    own.parent.mkdir(exist_ok=True)
    own.write_text("mine")
    run.clear()
    assert own.read_text() == "mine"


@pytest.mark.parametrize("name", ["V13.onnx", "a/notes.txt", "a/snapshot-best.onnx", "other/V13.onnx"])
def test_clearing_leaves_what_others_wrote_among_the_members(name: str, run: RunFolder, trained: Trained) -> None:
    written_by(run, trained)
    own = run.path / "members" / name
    own.parent.mkdir(exist_ok=True)
    own.write_text("mine")
    run.clear()
    assert own.read_text() == "mine"


def test_clearing_the_current_folder(tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written_by(RunFolder(Path()), trained)
    RunFolder(Path()).clear()
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_plan_is_not_cleared(run: RunFolder, trained: Trained) -> None:
    written_by(run, trained)
    run.plan_file.unlink()
    before = sorted(run.path.rglob("*"))
    run.clear()
    assert sorted(run.path.rglob("*")) == before


def test_the_record_of_a_training_is_plain_data(run: RunFolder, trained: Trained) -> None:
    begin(run, "mothers", "a", plain())
    run.save_training("mothers", "a", trained, 1)
    document = json.loads((run.folder("mothers", "a") / "training.json").read_text())
    assert len(document["epochs"]) == RECIPE.epochs
    assert document["samples"] == RECIPE.epochs * len(separable().train)


def test_weights_beside_a_model_are_part_of_it(run: RunFolder) -> None:
    start = run.start_file("members", "a")
    onnx_file.write(mlp("big", 64, (256,), 3).replace(external=True), start)
    data = start.with_name(start.name + onnx_file.DATA)
    whole = file_hash(start)
    data.write_bytes(data.read_bytes()[:-1] + b"x")
    assert file_hash(start) != whole
    run.plan_file.write_text("{}")
    run.clear()
    assert not data.exists()
