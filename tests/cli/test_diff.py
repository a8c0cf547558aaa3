"""`mnx diff`: two members side by side, in words and as JSON."""

import json
from pathlib import Path

import pytest
from calling import Call

from mnx.cli.diff import HOW
from mnx.graphs import onnx_file
from mnx.graphs.mothers.matching import How
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import vgg


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two networks with a mother: the second is deeper, and wider in one place."""
    for model in (
        vgg("small", [[(3, 4)], [(3, 6)]], 3, (1, 8, 8), [8]),
        vgg("large", [[(3, 4), (1, 5)], [(5, 9)]], 3, (1, 8, 8), [8]),
    ):
        onnx_file.write(model, tmp_path / f"{model.name}.onnx")
    return tmp_path / "small.onnx", tmp_path / "large.onnx"


def test_what_two_members_share_and_what_each_has_alone(
    call: Call, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    found = call("diff", *pair)
    assert found.code == 0
    assert all(len(line) <= 80 for line in found.out.splitlines())
    lines = [" ".join(line.split()) for line in found.out.splitlines()]
    assert lines[0].startswith("op small large mother")
    assert any(line.startswith("Conv 6 3x3 9 5x5 6 3x3") for line in lines)
    assert any(line.startswith("Conv - 5 1x1 - the identity") for line in lines)
    assert any(
        line.startswith("their mother would have 489 parameters: 100 % of small, 32 % of large") for line in lines
    )


def test_the_same_as_json(call: Call, pair: tuple[Path, Path]) -> None:
    document = json.loads(call("diff", *pair, "--json").out)
    assert (document["left"], document["right"]) == ("small", "large")
    assert document["mother"] == document["parameters"][0] == 489
    assert document["shares"][0] == 1
    alone = [row for row in document["rows"] if row["left"] is None]
    assert [(row["right"]["op"], row["how"]) for row in alone] == [("Conv", "identity"), ("Relu", "identity")]


def test_members_without_a_mother_are_told_where_they_part(
    call: Call, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    onnx_file.write(resnet("residual", [1, 1], 4, 3, (1, 8, 8)), tmp_path / "residual.onnx")
    found = call("diff", pair[0], tmp_path / "residual.onnx")
    assert found.code == 0
    assert all(len(line) <= 80 for line in found.out.splitlines())
    words = " ".join(found.out.split())
    assert "they share no mother: node 'pool1' (MaxPool) of small" in words
    document = json.loads(call("diff", pair[0], tmp_path / "residual.onnx", "--json").out)
    assert document["mother"] is None and document["shares"] is None
    assert document["reason"].startswith("node 'pool1' (MaxPool) of small")
    assert any(row["reason"] for row in document["rows"])


def test_files_of_one_name_are_told_apart_by_their_paths(call: Call, pair: tuple[Path, Path], tmp_path: Path) -> None:
    twin = tmp_path / "twin" / pair[0].name
    twin.parent.mkdir()
    twin.write_bytes(pair[0].read_bytes())
    document = json.loads(call("diff", pair[0], twin, "--json").out)
    assert document["left"] == str(pair[0]) and document["right"] == str(twin)
    assert document["shares"] == [1, 1]


def test_every_way_to_insert_an_op_has_words() -> None:
    assert {how.value for how in How} < set(HOW)


def test_a_file_that_cannot_be_read_is_an_error(call: Call, pair: tuple[Path, Path]) -> None:
    found = call("diff", pair[0], "nowhere.onnx", "--json")
    assert found.code == 1
    assert "nowhere.onnx" in json.loads(found.out)["error"]


def test_a_file_compared_with_itself_is_its_own_mother(call: Call, pair: tuple[Path, Path]) -> None:
    found = call("diff", pair[0], pair[0])
    assert (found.code, found.out.count("100 % of")) == (0, 2)
