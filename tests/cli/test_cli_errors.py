"""The contract of errors: one clear message, the right exit code, nothing written, no traceback."""

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calling import Call, contents

from mnx.graphs import onnx_file
from mnx.graphs.zoo.mlp import mlp
from mnx.train import checkpoint

RUN = ("--data", "digits", "--epochs", "2", "-q")


def archive(path: Path, shape: tuple[int, ...], labels: int = 10) -> Path:
    """Data with examples of a shape, and labels from 0 to labels - 1."""
    y = np.arange(80) % labels
    np.savez(path, x=np.zeros((80, *shape), np.uint8), y=y)
    return path


def other(folder: Path, **changes: Any) -> Path:
    """A member that differs from the samples."""
    settings: dict[str, Any] = {"inputs": (1, 8, 8), "hidden": (64,), "classes": 10, **changes}
    path = folder / "other.onnx"
    onnx_file.write(mlp("other", **settings, seed=0), path)
    return path


def refused(call: Call, folder: Path, arguments: tuple[Any, ...], words: str, code: int = 1) -> None:
    """Calling is refused with these words, once plain and once with --json, and leaves everything as it was."""
    before = contents(folder)
    plain = call(*arguments)
    assert plain.code == code
    assert plain.err.startswith("Error: ")
    assert words in plain.err
    assert "Traceback" not in plain.err
    assert not plain.out
    spoken = call(*arguments, "--json")
    assert spoken.code == code
    document = json.loads(spoken.out)
    assert words in document["error"]
    assert document["exit_code"] == code
    assert contents(folder) == before


@pytest.mark.parametrize("stage", ["mother", "run"])
def test_members_that_cannot_be_read_or_do_not_fit(stage: str, call: Call, members: list[Path], tmp_path: Path) -> None:
    options = RUN if stage == "run" else ()
    refused(call, tmp_path, (stage, members[0].with_name("P65.onnx"), *options), "did you mean 'P")
    text = tmp_path / "notes.onnx"
    text.write_text("no model")
    refused(call, tmp_path, (stage, text, *options), "is not an ONNX model")
    refused(call, tmp_path, (stage, tmp_path, *options), "is a folder")
    wider = other(tmp_path, inputs=(3, 8, 8))
    refused(call, tmp_path, (stage, *members, wider, *options), "different inputs: other has")
    finer = other(tmp_path, classes=12)
    refused(call, tmp_path, (stage, *members, finer, *options), "different classes: other has 12 classes")
    twin = tmp_path / "twin" / members[0].name
    twin.parent.mkdir()
    twin.write_bytes(members[0].read_bytes())
    said = f"two members are called '{twin.stem}': {members[0]} and {twin}"
    refused(call, tmp_path, (stage, members[0], twin, *options), said)


def test_data_that_do_not_fit(call: Call, members: list[Path], tmp_path: Path) -> None:
    begin = ("run", *members, "--epochs", "2", "-q")
    refused(call, tmp_path, begin, "no data: say --data digits")
    refused(call, tmp_path, (*begin, "--data", "digit"), "did you mean digits?")
    wrong_shape = archive(tmp_path / "wrong_shape.npz", (9, 9))
    refused(call, tmp_path, (*begin, "--data", wrong_shape), "do not fit the members' input (1, 8, 8)")
    many_labels = archive(tmp_path / "many_labels.npz", (8, 8), labels=11)
    refused(call, tmp_path, (*begin, "--data", many_labels), "label 10 of example")


def test_data_are_checked_by_every_stage_that_trains(call: Call, members: list[Path], tmp_path: Path) -> None:
    assert call("mother", *members, "-q").code == 0
    refused(call, tmp_path, ("train",), "no data: say --data digits")
    many_labels = archive(tmp_path / "many_labels.npz", (8, 8), labels=11)
    refused(call, tmp_path, ("train", "--data", many_labels), "is out of range")
    refused(call, tmp_path, ("train", "--data", "digits", "--set", "lr=fast"), "recipe: lr = fast")


def test_settings_out_of_range(call: Call, members: list[Path], tmp_path: Path) -> None:
    begin = ("run", *members, *RUN)
    refused(call, tmp_path, (*begin, "--clusters", "4"), "4 clusters of 3 members")
    refused(call, tmp_path, (*begin, "--set", "moment=0.9"), "unknown key 'moment'")
    refused(call, tmp_path, (*begin, "--set", "momentum=1"), "momentum = 1")


@pytest.mark.parametrize("option", [("--tau", "1.5"), ("--tau", "0"), ("--clusters", "0")])
@pytest.mark.parametrize("stage", ["mother", "run"])
def test_shares_and_numbers_that_cannot_be_are_wrong_usage(
    stage: str, option: tuple[str, str], call: Call, members: list[Path], tmp_path: Path
) -> None:
    found = call(stage, *members, *option, "--json")
    assert found.code == 2
    assert "is not in the range" in json.loads(found.out)["error"]
    assert not list(tmp_path.iterdir())


def test_a_dry_run_is_not_refused_where_another_run_stands(call: Call, members: list[Path], tmp_path: Path) -> None:
    assert call("mother", *members[:2], "-q").code == 0
    before = contents(tmp_path)
    other_members = call("mother", *members, "--dry-run", "-q")
    other_tau = call("mother", *members[:2], "--tau", "1", "--dry-run", "-q")
    for found in (other_members, other_tau):
        assert found.code == 0
        assert "mnx-run holds another run: choose another folder with -o" in " ".join(found.out.split())
    assert "3 members in" in other_members.out and "tau = 1.0" in other_tau.out
    assert "another run" not in call("mother", *members[:2], "--dry-run", "-q").out
    assert contents(tmp_path) == before


@pytest.mark.parametrize("option", [(), ("--dry-run",), ("--sweep",)])
def test_an_interrupt_before_anything_is_written_promises_nothing(
    option: tuple[str, ...], call: Call, members: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*rest: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mnx.planning.stand_in", interrupted)
    found = call("mother", *members, *option, "-q", "--json")
    document = json.loads(found.out)
    assert found.code == document["exit_code"] == 130
    assert found.err == f"Error: {document['error']}\n"
    assert document["error"].startswith("interrupted")
    assert "kept" not in document["error"]
    assert not list(tmp_path.iterdir())


def test_an_interrupt_before_a_command_begins_is_a_message_too(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*rest: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mnx.cli.main.Commands.resolve_command", interrupted)
    found = call("zoo", "--json")
    assert found.code == 130
    assert found.err == "Error: interrupted\n"
    assert json.loads(found.out) == {"error": "interrupted", "exit_code": 130}


def test_a_device_that_is_not_there(
    call: Call, members: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    refused(call, tmp_path, ("run", *members, *RUN, "--device", "cuda"), "device 'cuda' needs CUDAExecutionProvider")


def test_a_run_of_other_members_or_settings(call: Call, members: list[Path], tmp_path: Path) -> None:
    assert call("run", *members[:2], *RUN).code == 0
    for stage, options in (("run", RUN), ("mother", ())):
        refused(call, tmp_path, (stage, *members, *options), "holds a run of other members (new: P96)")
        refused(call, tmp_path, (stage, *members[:1], *options), "holds a run of other members (not given: P64)")
        refused(call, tmp_path, (stage, *members[:2], *options, "--seed", "3"), "was planned with --tau 0.5 --seed 0")
        refused(call, tmp_path, (stage, *members[:2], *options, "--tau", "0.3"), "not --tau 0.3")
    refused(call, tmp_path, ("run", *members[:2], "--epochs", "9"), "trained with epochs = 2, not 9")
    refused(call, tmp_path, ("run", *members[:2], "--train-limit", "99"), "digits with --train-limit 99 is other data")
    small = archive(tmp_path / "small.npz", (8, 8))
    refused(call, tmp_path, ("train", "--data", small), "was trained on digits")


def test_a_changed_member_is_another_one(call: Call, members: list[Path], tmp_path: Path) -> None:
    mine = tmp_path / "other.onnx"
    other(tmp_path)
    assert call("mother", members[0], mine, "-q").code == 0
    other(tmp_path, hidden=(80,))
    refused(call, tmp_path, ("mother", members[0], mine), "(changed: other)")
    refused(call, tmp_path, ("hatch", "--untrained", "-q"), "has changed since it was planned")


def test_members_inside_the_run_folder_are_never_lost(call: Call, tmp_path: Path) -> None:
    (tmp_path / "members").mkdir()
    member = other(tmp_path / "members")
    for options in ((), ("--force",)):
        refused(call, tmp_path, ("mother", member, "-o", ".", *options), "keeps its own files")


def test_stages_out_of_order_name_the_command_to_run_first(call: Call, members: list[Path], tmp_path: Path) -> None:
    for stage in ("train", "hatch", "combine", "score"):
        refused(call, tmp_path, (stage,), "begin with 'mnx mother")
    assert call("mother", *members, "-q").code == 0
    refused(call, tmp_path, ("hatch",), "run 'mnx train --data D")
    refused(call, tmp_path, ("combine",), "run 'mnx train")
    refused(call, tmp_path, ("score", "--data", "digits"), "run 'mnx train")


def test_a_function_that_is_not_preserved_is_code_3(
    call: Call, members: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("mother", *members, "-q").code == 0
    monkeypatch.setattr("mnx.graphs.verify.TOLERANCE", 0.0)  # the wider member repeats its mother up to rounding only
    found = call("hatch", "--untrained", "-q", "--json")
    assert found.code == 3
    assert "does not compute the function of cluster1" in json.loads(found.out)["error"]
    assert not (tmp_path / "mnx-run" / "members" / "P96").exists()


def test_a_full_disk_keeps_what_is_done_and_says_how_to_go_on(
    call: Call, members: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *rest: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", full)
        found = call("run", *members, *RUN)
    assert found.code == 1
    assert "the disk is full" in found.err
    assert "the same command goes on from there" in found.err
    assert call("run", *members, *RUN).code == 0


def test_a_place_that_may_not_be_written(call: Call, members: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path, *rest: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("mnx.plan.write_text", forbidden)
    found = call("mother", *members)
    assert found.code == 1
    assert "plan.json may not be read or written" in found.err


def test_a_bug_shows_its_traceback(call: Call, members: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*rest: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("mnx.plan.write_text", broken)
    with pytest.raises(ZeroDivisionError):
        call("mother", *members)


def test_nothing_is_overwritten_without_force(call: Call, tmp_path: Path) -> None:
    assert call("zoo", "mlp", "--output", "members").code == 0
    refused(call, tmp_path, ("zoo", "mlp", "--output", "members"), "overwrite with --force")
    assert call("zoo", "mlp", "--output", "members", "--seed", "1", "--force").code == 0
