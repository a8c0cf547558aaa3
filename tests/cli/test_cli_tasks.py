"""`mnx run` and what follows it for members that say yes or no, predict numbers, or take several inputs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from calling import Call

from mnx.graphs import onnx_file
from mnx.graphs.builder import Builder
from mnx.graphs.model import Array, Model, Node, Port
from mnx.graphs.verify import difference
from mnx.graphs.zoo.mlp import mlp
from mnx.metrics import sigmoid

FEATURES, N = 6, 240
TRAINED = ("--epochs", "8", "--threads", "1", "--set", "lr=0.05", "--set", "batch=16")
WIDTHS = {"a": (12,), "b": (16, 12)}


def rows(n: int = N, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((n, FEATURES), np.float32)


def targets(kind: str, x: Array) -> Array:
    """Something that a perceptron learns of rows within a few epochs."""
    if kind == "labels":
        return (x[:, :3] > 0).astype(np.uint8)
    if kind == "binary":
        return (x[:, 0] > 0).astype(np.int64)
    if kind == "distribution":
        share = sigmoid(3 * x[:, :1])
        return np.concatenate([share, 1 - share], axis=1).astype(np.float32)
    return np.stack([x[:, 0] + x[:, 1], 3 - x[:, 2]], axis=1)


def write(folder: Path, kind: str, width: int, head: str = "") -> list[Path]:
    """Two perceptrons that share a mother, with what stands behind their outputs."""
    folder.mkdir()
    for name, hidden in WIDTHS.items():
        model = mlp(name, FEATURES, hidden, width)
        end = (Node("end", head, (model.outputs[0].name,), ("said",)),) if head else ()
        onnx_file.write(model.replace(head=end), folder / f"{name}.onnx")
    x = rows()
    np.savez(folder / "data.npz", x=x, y=targets(kind, x))
    return sorted(folder.glob("*.onnx"))


def output(path: Path, *arrays: Array) -> Array:
    """What a file gives anybody who runs it."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {port.name: array for port, array in zip(session.get_inputs(), arrays, strict=True)}
    return np.asarray(session.run(None, feed)[0])


@pytest.mark.parametrize(
    ("kind", "width", "head", "shown", "scored"),
    [
        ("labels", 3, "", ("accuracy", "NLL", "mean average"), {"accuracy", "nll", "average_precision"}),
        ("labels", 3, "Sigmoid", ("accuracy", "NLL"), {"accuracy", "nll", "average_precision"}),
        ("binary", 1, "", ("accuracy", "NLL"), {"accuracy", "nll", "average_precision"}),
        ("numbers", 2, "", ("R2", "RMSE", "MAE"), {"r2", "rmse", "mae"}),
        ("distribution", 2, "Softmax", ("accuracy", "NLL", "ECE"), {"accuracy", "nll", "ece"}),
    ],
)
def test_members_of_every_task_are_trained_combined_and_scored(
    call: Call, tmp_path: Path, kind: str, width: int, head: str, shown: tuple[str, ...], scored: set[str]
) -> None:
    members = write(tmp_path / "members", kind, width, head)
    data = ("--data", tmp_path / "members" / "data.npz")
    done = call("run", *members, *data, *TRAINED)
    assert done.code == 0, done.err
    assert all(word in done.out for word in shown)
    run = tmp_path / "mnx-run"
    scores: dict[str, Any] = json.loads((run / "scores.json").read_text())
    ensemble = scores["members"]["ensemble"]
    assert (scores["task"], set(ensemble["averaged"])) == (kind, scored)
    key = shown[0].lower()
    assert ensemble["averaged"][key] > 0.8
    assert f"{key}_at_start" in scores["members"]["networks"]["a"]

    x = rows(9, seed=1)
    each = np.stack([output(run / "members" / name / "trained.onnx", x) for name in WIDTHS]).astype(np.float64)
    if kind in ("labels", "binary") and not head:
        each = sigmoid(each)
    assert difference(each.mean(axis=0), output(run / "ensemble.onnx", x)).passed
    proto = onnx.load(run / "ensemble.onnx")
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    assert metadata["mnx.task"] == kind
    assert json.loads(metadata["mnx.scaling"])["shape"] == [FEATURES]
    assert proto.graph.output[0].name == ("predictions" if kind == "numbers" else "probabilities")

    files = (run / "ensemble.onnx", *(run / "members" / name / "trained.onnx" for name in WIDTHS))
    found = json.loads(call("score", *files, *data, "--json").out)
    assert found["task"] == kind
    assert found["files"][str(files[0])] == pytest.approx(ensemble["averaged"], abs=1e-5)
    assert found["files"][str(files[1])][key] == pytest.approx(scores["members"]["networks"]["a"][key], abs=1e-5)


def joined(name: str, hidden: int, width: int = 2) -> Model:
    """Rows and a second input of two numbers, side by side in front of a perceptron."""
    build, random = Builder(), np.random.default_rng(hidden)
    ports = [Port("rows", "float32", (FEATURES,)), Port("place", "float32", (2,))]
    value = build.add("Concat", *(build.name(port.name) for port in ports), axis=1)
    for layer, (before, after) in enumerate([(FEATURES + 2, hidden), (hidden, width)]):
        weight = build.weight(f"w{layer}", random.normal(0, before**-0.5, (after, before)).astype(np.float32))
        value = build.add("Gemm", value, weight, build.weight(f"b{layer}", np.zeros(after, np.float32)), transB=1)
        value = value if layer else build.add("Relu", value)
    return build.model(name, ports, [Port(value, "float32", (width,))])


def test_members_of_two_inputs_are_trained_combined_and_scored(call: Call, tmp_path: Path) -> None:
    (tmp_path / "members").mkdir()
    for name, hidden in (("a", 12), ("b", 20)):
        onnx_file.write(joined(name, hidden), tmp_path / "members" / f"{name}.onnx")
    x, place = rows(), np.random.default_rng(3).integers(0, 255, (N, 2)).astype(np.uint8)
    y = (x[:, 0] + (place[:, 1] > 127) > 0.5).astype(np.int64)
    np.savez(tmp_path / "data.npz", place=place, rows=x, y=y)
    done = call("run", *sorted((tmp_path / "members").glob("*.onnx")), "--data", "data.npz", *TRAINED)
    assert done.code == 0, done.err
    run = tmp_path / "mnx-run"
    proto = onnx.load(run / "ensemble.onnx")
    assert [port.name for port in proto.graph.input] == ["rows", "place"]
    metadata = {entry.key: json.loads(entry.value) for entry in proto.metadata_props if "scaling" in entry.key}
    assert [metadata[f"mnx.scaling.{name}"]["levels"] for name in ("rows", "place")] == [None, 255]
    scores = json.loads((run / "scores.json").read_text())["members"]["ensemble"]["averaged"]
    assert scores["accuracy"] > 0.8
    first = rows(5, seed=1), np.random.default_rng(4).standard_normal((5, 2), np.float32)
    each = [output(run / "members" / name / "trained.onnx", *first).astype(np.float64) for name in "ab"]
    shares = [np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) for logits in each]
    assert difference(np.mean(shares, axis=0), output(run / "ensemble.onnx", *first)).passed
    assert not difference(shares[0], output(run / "ensemble.onnx", *first)).passed


def test_data_that_members_do_not_predict_leave_nothing_behind(call: Call, tmp_path: Path) -> None:
    members = write(tmp_path / "members", "numbers", 3)
    refused = call("run", *members, "--data", tmp_path / "members" / "data.npz")
    assert refused.code == 1
    assert "y has shape (192, 2), the members give 3 numbers" in " ".join(refused.err.split())
    assert not (tmp_path / "mnx-run").exists()


def test_a_folder_of_files_trains_the_networks_that_an_archive_does(call: Call, tmp_path: Path) -> None:
    members = write(tmp_path / "members", "numbers", 2)
    with np.load(tmp_path / "members" / "data.npz") as arrays:
        (tmp_path / "files").mkdir()
        for name in arrays.files:
            np.save(tmp_path / "files" / f"{name}.npy", arrays[name])
    trained = []
    for place, data in (("archive", tmp_path / "members" / "data.npz"), ("folder", tmp_path / "files")):
        assert call("run", *members, "--data", data, *TRAINED, "-o", place).code == 0
        trained.append((tmp_path / place / "ensemble.onnx").read_bytes())
    assert trained[0] == trained[1]
    found = json.loads(call("score", "-o", "folder", "--json").out)  # the folder stands in the run's settings
    assert found["task"] == "numbers"
