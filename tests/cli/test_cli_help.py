"""Help, the table of commands, start-up, wrong usage."""

import importlib
import json
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from calling import Call

from mnx import __version__
from mnx.cli.main import COMMANDS


def command(name: str) -> click.Command:
    found = importlib.import_module(COMMANDS[name][0]).command
    assert isinstance(found, click.Command)
    return found


def examples(name: str) -> list[list[str]]:
    """The arguments of the examples in a command's help, without `mnx`."""
    lines = [line.strip() for line in (command(name).help or "").splitlines()]
    after = lines[lines.index("Example:") + 1 :] if "Example:" in lines else []
    return [shlex.split(line)[1:] for line in after if line.startswith("mnx ")]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_its_line_of_the_table_and_an_example(name: str, call: Call) -> None:
    found = call(name, "--help")
    assert found.code == 0
    assert " ".join(COMMANDS[name][1].split()) in " ".join(found.out.split())
    assert (command(name).help or "").splitlines()[0] == COMMANDS[name][1]
    assert f"mnx {name}" in found.out.split("Example:")[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_use_options_that_exist(name: str) -> None:
    assert examples(name)
    for arguments in examples(name):
        assert arguments[0] == name
        context = command(name).make_context(name, arguments[1:])  # raises where an option is unknown
        assert context.params


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_speaks_json(name: str) -> None:
    assert "as_json" in [parameter.name for parameter in command(name).params]


def test_help_and_version_import_nothing_heavy() -> None:
    program = """
import sys
from mnx.cli.main import mnx
for arguments in (["--help"], ["--version"]):
    try:
        mnx.main(arguments, prog_name="mnx")
    except SystemExit as end:
        assert not end.code
heavy = {"numpy", "onnx", "onnx_ir", "onnxruntime", "rich", "torch"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)


def test_version(call: Call) -> None:
    assert call("--version").out.strip() == f"mnx, version {__version__}"


def test_main_is_the_entry_point(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from mnx.cli.main import main

    monkeypatch.setattr(sys, "argv", ["mnx", "--version"])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rnu"], "Did you mean 'run'?"),
        (["frobnicate"], "'mnx --help' lists all"),
        (["run"], "Missing argument"),
        (["run", "a.onnx", "--device", "tpu"], "'tpu'"),
        (["run", "a.onnx", "--set", "lr"], "give KEY=VALUE"),
        (["run", "a.onnx", "--set", "epochs=3", "--epochs", "4"], "'epochs' of the recipe is given twice"),
        (["run", "a.onnx", "--tau", "0.5", "--clusters", "2"], "--tau and --clusters exclude each other"),
        (["mother", "a.onnx", "--tau", "0.5", "--clusters", "2"], "--tau and --clusters exclude each other"),
        (["mother", "a.onnx", "--seed", "-1"], "-1"),
        (["train", "--train-limit", "1"], "--train-limit"),
        (["zoo", "mlp"], "--output DIR"),
        (["zoo", "--output", "members"], "name the ensemble"),
        (["zoo", "mlp", "--output", "members", "--input", "1,x"], "3,32,32"),
        (["score", "--seed", "1"], "--seed is for files"),
        (["mother", "a.onnx", "--count", "layers"], "'layers'"),
        (["mother", "a.onnx", "--sweep", "--tau", "0.5"], "--sweep shows every tau"),
        (["mother", "a.onnx", "--rate", "0"], "--rate"),
        (["diff", "a.onnx"], "Missing argument"),
        (["verify", "a.onnx"], "Missing argument"),
        (["verify", "a.onnx", "b.onnx", "--examples", "0"], "--examples"),
        (["verify", "a.onnx", "b.onnx", "--precision", "float16"], "'float16'"),
        (["--frobnicate"], "No such option"),
    ],
)
def test_wrong_usage_is_code_2(arguments: list[str], words: str, call: Call, tmp_path: Path) -> None:
    found = call(*arguments)
    assert found.code == 2
    assert words in found.err
    assert not found.out
    spoken = call(*arguments, "--json")
    document = json.loads(spoken.out)
    assert spoken.code == document["exit_code"] == 2
    assert words in document["error"]
    assert words in spoken.err
    assert not list(tmp_path.iterdir())
