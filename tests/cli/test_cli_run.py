"""`mnx run` from members to the table, again, and after an interrupt."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from calling import Call, contents

from mnx.graphs import onnx_file
from mnx.graphs.model import Precision
from mnx.train import checkpoint

RUN = ("--data", "digits", "--epochs", "3", "--threads", "1")


def models(folder: Path) -> dict[str, str]:
    """The models of a run with their hashes."""
    return {name: digest for name, digest in contents(folder).items() if name.endswith(".onnx")}


def test_everything_in_one_command_and_again(call: Call, tmp_path: Path) -> None:
    assert call("zoo", "mlp", "--output", "members").code == 0
    members = sorted((tmp_path / "members").glob("*.onnx"))
    begin = ("run", *members, *RUN, "--compare", "independent")
    first = call(*begin)
    assert first.code == 0
    for words in ("cluster1", "└ P64-64", "from", "hatched", "scratch", "NLL", "of the multiply-adds"):
        assert words in first.out
    assert "members P96: trained, 3 epochs" in first.err
    written = contents(tmp_path)
    for name in (
        "plan.json",
        "settings.json",
        "events.jsonl",
        "ensemble.onnx",
        "mothers/cluster1/mother.onnx",
        "mothers/cluster1/trained.onnx",
        "members/P96/hatched.onnx",
        "members/P96/certificate.json",
        "members/P96/trained.onnx",
    ):
        assert f"mnx-run/{name}" in written

    again = call(*begin)
    assert again.code == 0
    assert again.out == first.out
    assert not again.err
    assert contents(tmp_path) == written
    short = call("run", *members)  # data, recipe and baseline are those of the run
    assert short.out == first.out

    document = json.loads(call(*begin, "--json").out)
    member = document["members"]["networks"]["P96"]
    assert member["cluster"] == "cluster1"
    assert member["epochs"] == 3
    assert member["accuracy_at_start"] == pytest.approx(document["mothers"]["networks"]["cluster1"]["accuracy"])
    assert document["independent"]["networks"]["P96"]["accuracy_at_start"] < 0.5
    assert set(document["cost_against"]) == {"seconds", "multiply_adds"}
    assert 0.5 < document["members"]["ensemble"]["averaged"]["accuracy"] <= 1


def test_force_replaces_the_run(call: Call, members: list[Path], tmp_path: Path) -> None:
    assert call("run", *members[:2], *RUN).code == 0
    assert call("run", *members[:2], *RUN[:2], "--epochs", "2", "--seed", "1", "--force").code == 0
    plan = json.loads((tmp_path / "mnx-run" / "plan.json").read_text())
    assert plan["seed"] == 1
    assert json.loads((tmp_path / "mnx-run" / "settings.json").read_text())["recipe"]["epochs"] == 2


@pytest.mark.parametrize("stop", [2, 5, 9])
def test_an_interrupted_run_ends_with_the_same_bytes(
    stop: int, call: Call, members: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("run", *members, *RUN, "-o", "whole", "-q").code == 0
    save, saved = checkpoint.save, []

    def interrupted(path: Path, *arguments: Any) -> None:
        save(path, *arguments)
        saved.extend([path] if path.stem == "checkpoint" else [])
        if len(saved) == stop and path == saved[-1]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", interrupted)
        found = call("run", *members, *RUN, "-o", "parts", "-q")
    assert found.code == 130
    assert "interrupted" in found.err
    assert "the same command goes on from there" in found.err
    assert not (tmp_path / "parts" / "ensemble.onnx").exists()
    assert list((tmp_path / "parts").rglob("checkpoint.npz"))

    assert call("run", *members, *RUN, "-o", "parts", "-q").code == 0
    assert models(tmp_path / "parts") == models(tmp_path / "whole")
    assert not list((tmp_path / "parts").rglob("checkpoint.npz"))


def test_an_interrupted_forced_run_goes_on_without_force(
    call: Call, members: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", interrupted)
    found = call("run", *members, *RUN, "--force", "--json")
    assert found.code == 130
    assert "the same command without --force goes on" in json.loads(found.out)["error"]


def hears_ctrl_c() -> None:
    """Shells start what runs in the background deaf to Ctrl-C, and its children inherit that: the tests, say."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
def test_ctrl_c_ends_quietly_and_leaves_a_checkpoint(members: list[Path], tmp_path: Path) -> None:
    program = [sys.executable, "-c", "from mnx.cli.main import main; main()"]
    recipe = ["--set", "epochs=100000", "--set", "patience=100000", "--data", "digits"]
    command = [*program, "run", *map(str, members), *recipe]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hears_ctrl_c,
    )
    try:
        place = tmp_path / "mnx-run" / "mothers" / "cluster1" / "checkpoint.npz"
        end = time.monotonic() + 60
        while not place.exists() and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "Error: interrupted" in err
    assert not out
    assert place.exists()
    assert not list(place.parent.glob(".*"))


def test_a_reader_that_leaves_early_is_no_error() -> None:
    program = [sys.executable, "-c", "from mnx.cli.main import main; main()", "ops", "--json"]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr as stderr:
        err = stderr.read()
    process.wait(timeout=60)
    assert "Traceback" not in err
    assert "Exception ignored" not in err


def test_networks_in_other_float_types_are_named_at_the_end(call: Call, members: list[Path], tmp_path: Path) -> None:
    for path in members[:2]:
        model = onnx_file.read(path).replace(precision=Precision("float16", "float32", "float32"))
        onnx_file.write(model, tmp_path / "half" / path.name, form="original")
    files = sorted((tmp_path / "half").glob("*.onnx"), key=lambda path: path.stem)
    done = call("run", *files, *RUN)
    assert done.code == 0
    originals = {path.stem: f"mnx-run/members/{path.stem}/trained.original.onnx" for path in files}
    assert done.out.splitlines()[-1] == f"in their own float types: {', '.join(originals.values())}"
    assert json.loads(call("run", *files, *RUN, "--json").out)["original_files"] == originals
    trained = call("train")
    assert f"in their own float types: {', '.join(originals.values())}" in trained.out
    assert json.loads(call("train", "--json").out)["original_files"] == originals
