"""`mnx grow`: what is planned, what is written with its certificate, what is refused and how."""

import json
from pathlib import Path

import numpy as np
import pytest
from calling import Call, contents

from mnx.graphs import onnx_file
from mnx.graphs.growth import growing
from mnx.graphs.model import Model
from mnx.graphs.run import run
from mnx.graphs.trees.describe import describe
from mnx.graphs.verify import difference
from mnx.graphs.zoo.ensembles import ensemble


def sample(kind: str, name: str) -> Model:
    return next(model for model in ensemble(kind) if model.name == name)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A small residual network in the working folder."""
    path = tmp_path / "small.onnx"
    onnx_file.write(sample("resnet", "R8"), path)
    return path


@pytest.fixture
def normal(tmp_path: Path) -> Path:
    """A network of plain layers with BatchNormalization in the working folder."""
    path = tmp_path / "normal.onnx"
    onnx_file.write(sample("v5-bn", "V13-BN"), path)
    return path


def same(left: Path, right: Path) -> bool:
    x = np.random.default_rng(7).standard_normal((9, 1, 8, 8), np.float32)
    ours, theirs = (next(iter(run(onnx_file.read(path), x).values())) for path in (left, right))
    return difference(ours, theirs).passed


def test_a_grown_file_computes_what_the_file_did(call: Call, small: Path, tmp_path: Path) -> None:
    asked = ("--width", "all=x1.5", "--depth", "block1_1+1", "--kernel", "stem=5")
    done = call("grow", "small.onnx", "-o", "out/big.onnx", *asked)
    assert done.code == 0
    assert "R8" not in done.out
    lines = done.out.splitlines()
    assert lines[0] == "small has grown in 8 steps: out/big.onnx"
    assert lines[1].startswith("19,810 parameters become ")
    rows = [line.split() for line in lines]
    assert ["64", "eval"] in [row[1:3] for row in rows]
    assert [row[-1] for row in rows if "random" in row] == ["equal", "equal"]
    assert same(small, tmp_path / "out" / "big.onnx")
    structure = describe(onnx_file.read(tmp_path / "out" / "big.onnx"))
    assert structure.groups[0] == 12
    assert "block1_1.add_copy1" in [op.name for op in structure.ops()]


def test_a_plan_shows_the_steps_and_writes_nothing(call: Call, small: Path, tmp_path: Path) -> None:
    before = contents(tmp_path)
    done = call("grow", "small.onnx", "--width", "stem=12", "--kernel", "stem=5", "--plan", "-o", "big.onnx")
    assert done.code == 0
    assert "small grows in 2 steps" in done.out
    assert "1  enlarge the kernel of stem from 3x3 to 5x5" in done.out
    assert "2  widen stem, block1_1.second, tied together, from 8 to 12 channels" in done.out
    assert contents(tmp_path) == before


def test_json_is_one_document(call: Call, normal: Path, tmp_path: Path) -> None:
    asked = ("grow", "normal.onnx", "--depth", "conv1_1+1", "--json")
    plan = json.loads(call(*asked, "--plan").out)
    assert plan["certificate"] is None
    assert plan["output"] is None
    assert [step["kind"] for step in plan["steps"]] == ["insert"]
    done = json.loads(call(*asked, "-o", "big.onnx").out)
    assert done["steps"] == plan["steps"]
    assert done["parameters"] == plan["parameters"] == [44174, 44326]
    assert done["multiply_adds"][0] < done["multiply_adds"][1]
    assert done["certificate"]["passed"]
    assert done["certificate"]["member"] == "big"
    assert len(done["warnings"]) == 1


def test_inserted_normalisation_is_calibrated_on_data(call: Call, normal: Path) -> None:
    asked = ("grow", "normal.onnx", "-o", "big.onnx", "--depth", "conv1_1+1", "--force")
    without = call(*asked)
    assert "warning: 1 inserted BatchNormalization calibrated on random inputs" in " ".join(without.out.split())
    done = call(*asked, "--data", "digits")
    assert done.code == 0
    assert "warning" not in done.out
    assert "drift: by statistics" in done.out
    rows = [line.split() for line in done.out.splitlines()]
    assert ["training", "512", "batch"] in [row[:3] for row in rows if row[-1:] == ["equal"]]
    wider = call("grow", "normal.onnx", "-o", "wide.onnx", "--width", "all=x2")
    assert "warning" not in wider.out


def test_a_file_grows_like_another(call: Call, normal: Path, tmp_path: Path) -> None:
    onnx_file.write(sample("v5-bn", "V19-BN"), tmp_path / "V19.onnx")
    done = call("grow", "normal.onnx", "--like", "V19.onnx", "-o", "big.onnx", "-q")
    assert done.code == 0
    assert same(normal, tmp_path / "big.onnx")
    names = [[op.name for op in describe(onnx_file.read(tmp_path / f"{n}.onnx")).ops()] for n in ("big", "V19")]
    assert names[0] == names[1]
    onnx_file.write(sample("v5-bn", "V16A-BN"), tmp_path / "V16A.onnx")
    refused = call("grow", "normal.onnx", "--like", "V16A.onnx", "--plan")
    assert refused.code == 1
    assert "V16A cannot be grown from normal" in refused.err


def test_the_seed_and_the_split_decide_the_weights(call: Call, small: Path, tmp_path: Path) -> None:
    def grown(*options: str) -> str:
        assert call("grow", "small.onnx", "-o", "big.onnx", "--width", "all=x2", "--force", *options).code == 0
        return contents(tmp_path)["big.onnx"]

    assert grown() == grown("--seed", "0") == grown("--split", "random")
    assert len({grown(), grown("--seed", "1"), grown("--split", "equal")}) == 3


def test_a_failing_certificate_is_code_3_and_nothing_is_written(
    call: Call, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(tmp_path)
    monkeypatch.setattr(growing, "shared", lambda weight, axis, growth, fresh: np.take(weight, growth, axis=axis))
    done = call("grow", "small.onnx", "-o", "big.onnx", "--width", "stem=12", "--kernel", "stem=5", "--json")
    assert done.code == 3
    assert json.loads(done.out)["exit_code"] == 3
    assert "the step that breaks it: widen stem" in done.err
    assert contents(tmp_path) == before


def test_nothing_is_overwritten_without_force(call: Call, small: Path, tmp_path: Path) -> None:
    (tmp_path / "big.onnx").write_bytes(b"mine")
    asked = ("grow", "small.onnx", "-o", "big.onnx", "--width", "stem=12")
    refused = call(*asked)
    assert refused.code == 1
    assert "big.onnx exists: choose another name, or overwrite it with --force" in refused.err
    assert (tmp_path / "big.onnx").read_bytes() == b"mine"
    assert call(*asked, "--force").code == 0
    assert same(small, tmp_path / "big.onnx")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--width", "stem=12"], 2, "say where to write with -o FILE.onnx"),
        (["-o", "big.onnx"], 2, "say what is to grow"),
        (["--plan", "--width", "stm=12"], 1, "did you mean 'stem'"),
        (["--plan", "--width", "stem"], 1, "width stem: write for example conv1=64"),
        (["--plan", "--width", "stem=4"], 1, "'stem' of small has 8 channels, and a growth never narrows"),
        (["--plan", "--width", "stem=8"], 1, "nothing to grow: small.onnx has all that is asked for already"),
        (["--plan", "--depth", "head+1"], 1, "makes the output of the network"),
        (["--plan", "--kernel", "head=3"], 1, "it has no kernel"),
        (["--plan", "--like", "none.onnx"], 1, "there is no file none.onnx"),
        (["-o", "b.onnx", "--width", "stem=9", "--data", "nowhere"], 1, "nowhere"),
        (["-o", "b.onnx", "--width", "stem=9", "--split", "half"], 2, "'half'"),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: list[str], code: int, words: str, call: Call, small: Path, tmp_path: Path
) -> None:
    before = contents(tmp_path)
    found = call("grow", "small.onnx", *arguments)
    assert found.code == code
    assert words in found.err
    assert not found.out
    assert contents(tmp_path) == before
