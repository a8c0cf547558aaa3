"""The ensemble graph: the average of its members' probabilities, valid, and plain for any ONNX runtime."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from mnx.graphs import onnx_file
from mnx.graphs.errors import GraphError
from mnx.graphs.join import PROBABILITIES, join
from mnx.graphs.model import Array, Model, Node, Port, model_hash
from mnx.graphs.run import run
from mnx.graphs.verify import difference
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import vgg
from mnx.metrics import softmax

SHAPE, CLASSES = (2, 8, 8), 5


def mixture() -> list[Model]:
    return [
        vgg("vgg", [[(3, 4), (5, 4)], [(1, 6)]], CLASSES, SHAPE, (8,)),
        vgg("vgg-bn", [[(3, 4)]], CLASSES, SHAPE, (), batch_norm=True),
        mlp("mlp", SHAPE, (9, 7), CLASSES, activation="LeakyRelu"),
        resnet("resnet", (1, 2), 4, CLASSES, SHAPE),
    ]


def batch(n: int = 7) -> Array:
    return np.random.default_rng(0).standard_normal((n, *SHAPE), np.float32)


def linear(name: str, x: str, value: str, node: str, scale: float = 1.0) -> Model:
    """A linear classifier whose input, output value and node are called as asked."""
    weights = {"w": np.eye(2, dtype=np.float32) * np.float32(scale), "b": np.zeros(2, np.float32)}
    gemm = Node(node, "Gemm", (x, "w", "b"), (value,), {"transB": 1})
    return Model(name, (Port(x, "float32", (2,)),), (Port(value, "float32", (2,)),), (gemm,), weights)


def average(models: list[Model], x: Array) -> Array:
    logits = [run(model, x)[model.outputs[0].name] for model in models]
    return np.asarray(np.mean([softmax(each) for each in logits], axis=0))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_it_averages_the_probabilities_of_its_members(count: int) -> None:
    models = mixture()[:count]
    joined = join(models, "ensemble")
    found = run(joined, batch())[PROBABILITIES]
    assert difference(average(models, batch()), found).passed
    assert found.sum(axis=1) == pytest.approx(np.ones(7), abs=1e-6)
    logits = [run(model, batch())[model.outputs[0].name] for model in models]
    if count > 1:  # to average the logits is another thing, and would be seen
        assert not difference(softmax(np.mean(logits, axis=0)), found).passed


def test_the_written_file_is_valid_and_runs_anywhere(tmp_path: Path) -> None:
    models, path = mixture(), tmp_path / "ensemble.onnx"
    onnx_file.write(join(models, "ensemble", {"mnx.scaling": "words"}), path)
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    assert {entry.domain for entry in proto.opset_import} == {""}
    assert {entry.key: entry.value for entry in proto.metadata_props}["mnx.scaling"] == "words"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["input"]
    assert [each.name for each in session.get_outputs()] == [PROBABILITIES]
    for n in (1, 7):
        [found] = session.run(None, {"input": batch(n)})
        assert difference(average(models, batch(n)), found).passed


def test_names_are_the_member_s_and_never_repeat() -> None:
    joined = join(mixture(), "ensemble")
    nodes = [node.name for node in joined.nodes]
    values = [value for node in joined.nodes for value in node.outputs]
    assert len(set(nodes)) == len(nodes)
    assert len({*values, *joined.weights, "input"}) == len(values) + len(joined.weights) + 1
    assert "mlp/fc1" in nodes
    assert "mlp/fc1.weight" in joined.weights


def test_a_softmax_that_a_member_ends_with_is_not_applied_twice(tmp_path: Path) -> None:
    [plain] = mixture()[2:3]
    text = onnx.load_from_string(onnx_file.to_proto(plain).SerializeToString())
    text.graph.node.append(onnx.helper.make_node("Softmax", ["logits"], ["p"], axis=1))
    del text.graph.output[:]
    text.graph.output.append(onnx.helper.make_tensor_value_info("p", onnx.TensorProto.FLOAT, ["N", CLASSES]))
    onnx.save(text, tmp_path / "ends.onnx")
    ending = onnx_file.read(tmp_path / "ends.onnx")
    assert [node.op for node in ending.head] == ["Softmax"]
    found = run(join([ending], "ensemble"), batch())[PROBABILITIES]
    assert difference(average([plain], batch()), found).passed


def test_members_count_once_however_many_networks_they_have() -> None:
    models, x = mixture(), batch()
    snapshot = mixture()[0].replace(name="vgg/snapshot-1").with_weights({"head.bias": np.arange(5, dtype=np.float32)})
    members = [*(model.name for model in models), "vgg"]
    found = run(join([*models, snapshot], "ensemble", members=members), x)[PROBABILITIES]
    expected = np.mean([average([models[0], snapshot], x), *(average([each], x) for each in models[1:])], axis=0)
    assert difference(expected, found).passed
    assert not difference(average([*models, snapshot], x), found).passed
    alike = [model.name for model in models]
    assert model_hash(join(models, "ensemble", members=alike)) == model_hash(join(models, "ensemble"))


@pytest.mark.parametrize(
    ("x", "value", "node"),
    [
        ("x", PROBABILITIES, "gemm"),
        (PROBABILITIES, "y", "gemm"),
        ("x", "y", PROBABILITIES),
        ("x", "b/probabilities", "b"),
        ("gemm", "gemm_1", "gemm"),
    ],
)
def test_members_may_use_the_ensemble_s_own_names(x: str, value: str, node: str, tmp_path: Path) -> None:
    models = [linear("a", x, value, node), linear("b", x, value, node, 2.0)]
    models.append(models[0].replace(name="a/b"))
    joined = join(models, "ensemble")
    onnx_file.write(joined, tmp_path / "ensemble.onnx")
    onnx.checker.check_model(str(tmp_path / "ensemble.onnx"), full_check=True)
    names = [node.name for node in joined.nodes]
    assert len(set(names)) == len(names)
    data = np.random.default_rng(0).standard_normal((5, 2), np.float32)
    found = run(joined, data)[joined.outputs[0].name]
    assert difference(average(models, data), found).passed


def test_inputs_of_other_names_become_one() -> None:
    models = [linear("a", "pixels", "y", "gemm"), linear("b", "x", "y", "gemm", 3.0)]
    joined = join(models, "ensemble")
    assert [port.name for port in joined.inputs] == ["pixels"]
    data = np.random.default_rng(0).standard_normal((5, 2), np.float32)
    assert difference(average(models, data), run(joined, data)[PROBABILITIES]).passed


def test_what_does_not_fit_is_refused_by_name() -> None:
    first = mlp("a", SHAPE, (4,), CLASSES)
    with pytest.raises(GraphError, match="needs at least one member"):
        join([], "ensemble")
    with pytest.raises(GraphError, match=r"b and a have different inputs.*\(2, 8, 9\)"):
        join([first, mlp("b", (2, 8, 9), (4,), CLASSES)], "ensemble")
    with pytest.raises(GraphError, match=r"b and a have different inputs or classes.*\(6,\)"):
        join([first, mlp("b", SHAPE, (4,), 6)], "ensemble")
    with pytest.raises(GraphError, match="the same name, 'a': rename one"):
        join([first, first], "ensemble")
