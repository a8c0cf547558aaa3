"""What the tests of the command line share: calling a command in an empty folder, and sample members."""

from pathlib import Path
from typing import Any

import pytest
from calling import Call, Called

from mnx.cli.main import mnx
from mnx.graphs import onnx_file
from mnx.graphs.zoo.ensembles import ensemble


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls a command as the shell would, in an empty folder; output that is piped is as wide as it is everywhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)

    def called(*arguments: Any) -> Called:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            mnx.main([str(argument) for argument in arguments], prog_name="mnx")
        captured = capsys.readouterr()
        code = end.value.code
        return Called(code if isinstance(code, int) else 0, captured.out, captured.err)

    return called


@pytest.fixture(scope="session")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three small perceptrons that share a mother."""
    folder = tmp_path_factory.mktemp("members")
    models = [model for model in ensemble("mlp") if model.name in ("P64", "P96", "P64-64")]
    for model in models:
        onnx_file.write(model, folder / f"{model.name}.onnx")
    return sorted(folder.glob("*.onnx"))
