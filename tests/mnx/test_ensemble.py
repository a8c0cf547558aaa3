"""Scores of files as their users run them, and how an ensemble relates to its members."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from small_runs import EXAMPLES, NAMES, opened, planned, write_members
from small_training import CLASSES, SHAPE, plain, separable

from mnx.ensemble import combine, ensemble_scores, predicted_by, score_files, score_models
from mnx.errors import MnxError
from mnx.events import Event, Events
from mnx.graphs import onnx_file
from mnx.graphs.errors import GraphError
from mnx.graphs.run import run
from mnx.graphs.verify import difference
from mnx.graphs.zoo.mlp import mlp
from mnx.metrics import softmax
from mnx.workspace import RunFolder


def ending(folder: Path, op: str) -> Path:
    """The file of `plain` with another op behind its logits."""
    proto = onnx_file.to_proto(plain())
    proto.graph.node.append(helper.make_node(op, ["logits"], ["p"]))
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info("p", TensorProto.FLOAT, ["N", CLASSES]))
    onnx.save(proto, folder / f"{op}.onnx")
    return folder / f"{op}.onnx"


@pytest.mark.parametrize("head", ["Identity", "Softmax", "LogSoftmax"])
def test_probabilities_are_the_same_whatever_a_file_ends_with(head: str, tmp_path: Path) -> None:
    x = separable().test.x()
    expected = softmax(run(plain(), x)["logits"])
    path = ending(tmp_path, head)
    found = predicted_by(path, onnx_file.read(path), x)
    assert found.dtype == np.float64
    assert difference(expected, found).passed


def test_an_output_that_is_no_row_of_classes_is_refused(tmp_path: Path) -> None:
    proto = onnx_file.to_proto(plain())
    proto.graph.node.append(helper.make_node("Flatten", ["logits"], ["p"], axis=0))
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info("p", TensorProto.FLOAT, [1, "M"]))
    onnx.save(proto, tmp_path / "row.onnx")
    with pytest.raises(MnxError, match=r"row\.onnx gives an output of shape \(1, 120\) for 40 examples, not"):
        predicted_by(tmp_path / "row.onnx", plain(), separable().test.x())


def test_a_file_that_cannot_be_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "torn.onnx").write_bytes(b"\x08\x07")
    with pytest.raises(GraphError, match=r"torn\.onnx"):
        predicted_by(tmp_path / "torn.onnx", plain(), separable().test.x())


def test_files_of_other_classes_are_refused(tmp_path: Path) -> None:
    data = separable()
    onnx_file.write(mlp("more", SHAPE, (4,), CLASSES + 1), tmp_path / "more.onnx")
    with pytest.raises(MnxError, match=r"more\.onnx tells 4 classes apart, the data have 3"):
        score_files({"more": tmp_path / "more.onnx"}, data.test, data.task, Events())


def test_every_file_is_heard_of(tmp_path: Path) -> None:
    data, heard = separable(), list[Event]()
    onnx_file.write(plain(), tmp_path / "plain.onnx")
    files = {"a": tmp_path / "plain.onnx", "b": tmp_path / "plain.onnx"}
    found = score_files(files, data.test, data.task, Events(None, [heard.append]))
    assert list(found) == ["a", "b"]
    assert [(event["network"], event["done"], event["total"]) for event in heard] == [("a", 1, 2), ("b", 2, 2)]


def test_an_ensemble_s_scores_by_hand() -> None:
    one = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    two = np.array([[0.2, 0.8], [0.1, 0.9], [0.3, 0.7]])
    found = ensemble_scores([one, two], np.array([0, 1, 0]))
    assert found.mean_member == pytest.approx((1 / 3 + 1 / 3) / 2)
    assert found.averaged.accuracy == pytest.approx(2 / 3)  # .55 .45, .35 .65, .25 .75
    assert found.averaged.nll == pytest.approx(-np.log([0.55, 0.65, 0.25]).mean())
    assert [found.disagreement, found.oracle] == pytest.approx([2 / 3, 2 / 3])


def test_members_count_once_however_many_snapshots_they_have() -> None:
    one, two = np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([[0.2, 0.8], [0.1, 0.9]])
    first, second = np.array([[0.5, 0.5], [0.3, 0.7]]), np.array([[0.1, 0.9], [0.6, 0.4]])
    y = np.array([0, 0])
    found = ensemble_scores([one, two], y, snapshots=[[first, second], []])
    assert found.averaged.nll == pytest.approx(-np.log([0.35, 0.3]).mean())  # (.5 + .2) / 2, (.5 + .1) / 2
    assert found.networks == 4
    assert found.mean_member == pytest.approx((1 + 0) / 2)
    assert [found.disagreement, found.oracle] == pytest.approx([(1 + 0.5 + 0.5 + 0.5 + 0.5 + 1) / 6, 1.0])
    every = ensemble_scores([one, first, second, two], y)
    assert not difference(np.array(found.averaged.nll), np.array(every.averaged.nll)).passed
    assert ensemble_scores([one, two], y).networks == 2


def test_a_file_that_takes_images_channels_last_scores_the_same(tmp_path: Path) -> None:
    data, first = separable(), plain()
    proto = onnx_file.to_proto(first)
    name, last = first.inputs[0].name, [*SHAPE[1:], SHAPE[0]]
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *last]))
    proto.graph.node.insert(0, helper.make_node("Transpose", ["image"], [name], "turn", perm=[0, 3, 1, 2]))
    files = {"first": tmp_path / "first.onnx", "last": tmp_path / "last.onnx"}
    onnx_file.write(first, files["first"])
    onnx.save(proto, files["last"])
    found = score_files(files, data.test, data.task, Events())
    assert difference(found["first"][1], found["last"][1]).passed


@pytest.mark.parametrize("count", [1, 3])
def test_files_are_scored_without_a_run(count: int, tmp_path: Path) -> None:
    paths = write_members(tmp_path)[:count]
    found = score_models(paths, Events(), "digits", train_limit=EXAMPLES)
    assert list(found["files"]) == [str(path) for path in paths]
    assert all(0 <= score["accuracy"] < 0.5 for score in found["files"].values())
    assert (found["ensemble"] is None) == (count == 1)


def test_files_of_a_run_are_scored_on_its_data(tmp_path: Path) -> None:
    run_folder = planned(tmp_path, NAMES, seed=3)
    session = opened(run_folder)
    paths = sorted((tmp_path / "members").glob("*.onnx"))

    def scored(**settings: Any) -> dict[str, Any]:
        return score_models(paths, Events(), **({"data": None, "run": run_folder} | settings))

    own = scored()
    assert own["test_examples"] == len(session.dataset.test)
    assert own == scored(data="digits", run=None, seed=3, train_limit=EXAMPLES)
    assert own != scored(seed=4)
    with pytest.raises(MnxError, match="no data: say --data"):
        scored(run=RunFolder(tmp_path / "none"))


def test_combining_before_training_is_refused(tmp_path: Path) -> None:
    session = opened(planned(tmp_path))
    with pytest.raises(MnxError, match="not trained yet: P64, P64-64, P96; run 'mnx train"):
        combine(session)
    assert not session.run.ensemble_file.exists()
