"""Reading and writing files: what went in comes out, whole or not at all, and what is no model is refused by name."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from reading import check_dialect, network, original, preserved, same

from mnx.graphs.builder import Builder
from mnx.graphs.errors import GraphError
from mnx.graphs.files import replacing, write_bytes, write_text
from mnx.graphs.model import Model, Node, Port, model_hash
from mnx.graphs.onnx_file import read, to_proto, write
from mnx.graphs.run import run
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import v5

NET = """g (float[N,3,4,4] x, float[4,3,3,3] w, float[5,16] f) => (float[N,5] p) {
    c = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w) h = Flatten(c) l = Gemm<transB = 1>(h, f)
    p = Softmax<axis = -1>(l) }"""


def samples() -> list[Model]:
    return [
        mlp("mlp", (3, 4, 4), (16, 8), 5, batch_norm=True),
        mlp("leaky", 6, (7,), 3, activation="LeakyRelu"),
        *v5(classes=4, input_shape=(3, 32, 32), hidden=(8,), width=0.05, batch_norm=True)[:2],
        *v5(classes=4, input_shape=(3, 32, 32), hidden=(8, 8), width=0.05)[:1],
        resnet("resnet", (1, 2), input_shape=(3, 16, 16), width=4, classes=4),
    ]


@pytest.mark.parametrize("model", samples(), ids=lambda model: model.name)
def test_our_own_models_come_back_as_they_went_out(model: Model, tmp_path: Path) -> None:
    path = tmp_path / f"{model.name}.onnx"
    write(model.replace(metadata={"author": "me"}), path)
    back = read(path)
    assert (back.name, back.source) == (model.name, path)
    assert back.nodes == model.nodes
    assert (back.inputs, back.outputs, back.head) == (model.inputs, model.outputs, model.head)
    assert back.metadata == {"author": "me"}
    assert back.changes == ()
    assert model_hash(back) == model_hash(model)
    check_dialect(back)


def test_a_file_has_the_users_names_and_the_head(tmp_path: Path) -> None:
    proto = network(NET)
    onnx.save(proto, tmp_path / "net.onnx")
    model = read(tmp_path / "net.onnx")
    assert model.outputs == (Port("l", "float32", (5,)),)
    write(model, tmp_path / "out.onnx")
    written = onnx.load(tmp_path / "out.onnx")
    assert [value.name for value in written.graph.input] == ["x"]
    assert [value.name for value in written.graph.output] == ["p"]
    assert (written.ir_version, written.opset_import[0].version, written.producer_name) == (10, 21, "mnx")
    assert written.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    x = np.random.default_rng(0).standard_normal((3, 3, 4, 4)).astype(np.float32)
    (probabilities,) = original(str(tmp_path / "out.onnx"), {"x": x})
    assert same(probabilities, original(proto, {"x": x})[0])


def test_documentation_and_exporter_are_kept(tmp_path: Path) -> None:
    proto = network(NET)
    proto.doc_string, proto.producer_name, proto.producer_version = "what it is", "pytorch", "2.0"
    onnx.helper.set_model_props(proto, {"key": "value"})
    onnx.save(proto, tmp_path / "net.onnx")
    kept = {"key": "value", "doc": "what it is", "exporter": "pytorch 2.0"}
    model = read(tmp_path / "net.onnx")
    assert model.metadata == kept
    write(model, tmp_path / "out.onnx")
    assert read(tmp_path / "out.onnx").metadata == kept


def test_external_data_are_read(tmp_path: Path) -> None:
    onnx.save(network(NET), tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    assert preserved(read(tmp_path / "net.onnx"), network(NET))


def test_missing_external_data_are_named(tmp_path: Path) -> None:
    onnx.save(network(NET), tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    (tmp_path / "net.data").unlink()
    with pytest.raises(GraphError, match=r"weight '.' of net in the file .*net\.data.* cannot be read.*beside it"):
        read(tmp_path / "net.onnx")


def test_shortened_external_data_are_named(tmp_path: Path) -> None:
    onnx.save(network(NET), tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    data = (tmp_path / "net.data").read_bytes()
    (tmp_path / "net.data").write_bytes(data[:100])
    with pytest.raises(GraphError, match=r"weight '.' of net in the file .*net\.data.* cannot be read"):
        read(tmp_path / "net.onnx")


def test_a_missing_file_is_named_with_its_likely_siblings(tmp_path: Path) -> None:
    onnx.save(network(NET), tmp_path / "resnet20.onnx")
    with pytest.raises(GraphError, match=r"there is no file .*resnet_20\.onnx; did you mean 'resnet20\.onnx'\?"):
        read(tmp_path / "resnet_20.onnx")
    with pytest.raises(GraphError, match="there is no file"):
        read(tmp_path / "nowhere" / "net.onnx")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"is a folder: give one \.onnx file"):
        read(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"hello, this is a text", bytes(range(256)), b"\x80\x02}q\x00."],
    ids=["empty", "newline", "text", "bytes", "pickle"],
)
def test_what_is_no_onnx_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(GraphError, match=r"net\.onnx is not an ONNX model"):
        read(tmp_path / "net.onnx")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_refused(share: float, tmp_path: Path) -> None:
    data = network(NET).SerializeToString()
    (tmp_path / "net.onnx").write_bytes(data[: int(share * len(data))])
    with pytest.raises(GraphError, match=r"net\.onnx is not an ONNX model"):
        read(tmp_path / "net.onnx")


def test_a_model_without_outputs_is_refused(tmp_path: Path) -> None:
    proto = network(NET)
    del proto.graph.output[:]
    onnx.save(proto, tmp_path / "net.onnx")
    with pytest.raises(GraphError, match=r"net\.onnx has no outputs"):
        read(tmp_path / "net.onnx")


def test_an_existing_file_is_only_overwritten_by_force(tmp_path: Path) -> None:
    model = samples()[0]
    path = tmp_path / "net.onnx"
    path.write_text("mine")
    with pytest.raises(GraphError, match="exists: choose another name, or overwrite it with --force"):
        write(model, path, force=False)
    assert path.read_text() == "mine"
    write(model, path)
    assert read(path).nodes == model.nodes


def test_an_invalid_model_is_not_written(tmp_path: Path) -> None:
    model = samples()[0]
    path = tmp_path / "net.onnx"
    path.write_text("mine")
    wrong = model.replace(nodes=(*model.nodes[:-1], Node("last", "Gemm", ("nowhere", "w"), model.nodes[-1].outputs)))
    with pytest.raises(GraphError, match="mlp is not valid ONNX and was not written to"):
        write(wrong, path)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def test_shapes_that_do_not_fit_are_not_written(tmp_path: Path) -> None:
    model = samples()[0]
    weight = next(name for name, array in model.weights.items() if array.ndim == 2)
    with pytest.raises(GraphError, match="not valid ONNX"):
        write(model.with_weights({weight: np.zeros((2, 2), np.float32)}), tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_weights_can_be_inputs_and_values_outputs() -> None:
    model = samples()[1]
    given = [name for name in model.weights if name.endswith(".weight")]
    value = model.nodes[0].outputs[0]
    proto = to_proto(model, weights_as_inputs=given, extra_outputs=[value])
    assert [value.name for value in proto.graph.input] == [model.inputs[0].name, *given]
    assert not {tensor.name for tensor in proto.graph.initializer} & set(given)
    x = np.ones((2, *model.inputs[0].shape), np.float32)
    feeds = {model.inputs[0].name: x} | {name: model.weights[name] for name in given}
    results = original(proto, feeds)
    expected = run(model, x, [model.outputs[0].name, value])
    assert all(same(one, other) for one, other in zip(results, expected.values(), strict=True))


def test_attributes_of_every_kind_are_written() -> None:
    build = Builder()
    build.add("Conv", "x", build.weight("w", np.ones((1, 1, 1), np.float32)), name="c", kernel_shape=(1,), pads=(0, 0))
    build.add("LeakyRelu", "c", name="y", alpha=0.25)
    proto = to_proto(build.model("net", [Port("x", "float32", (1, 4))], [Port("y", "float32", (1, 4))]))
    onnx.checker.check_model(proto, full_check=True)
    found = {a.name: onnx.helper.get_attribute_value(a) for node in proto.graph.node for a in node.attribute}
    assert found == {"kernel_shape": [1], "pads": [0, 0], "alpha": 0.25}


def test_files_are_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "made" / "a.txt"
    write_text(path, "äöü\n")
    assert path.read_bytes() == "äöü\n".encode()
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    with pytest.raises(KeyError), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]
