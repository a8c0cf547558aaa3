"""A file in its user's form: what it says of itself, its ends, where its weights lie, and what reading changed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from reading import network, original, same

from mnx.graphs.errors import GraphError
from mnx.graphs.model import Precision, model_hash
from mnx.graphs.onnx_file import DATA, as_loaded, read, write
from mnx.graphs.run import run, run_file

TEXT = """g (float[N,3,4,4] x, float[4,3,3,3] w, float[4] k, float[4] s, float[4] b, float[4] m, float[4] v,
    float[5,16] f, float[5] e) => (float[N,5] p) { c = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w, k)
    n = BatchNormalization(c, s, b, m, v) r = Relu(n) h = Flatten(r) l = Gemm<transB = 1>(h, f, e)
    p = Softmax<axis = 1>(l) }"""


def user_file(folder: Path, opset: int = 13, ir_version: int = 7) -> Path:
    proto = network(TEXT, opset)
    proto.ir_version, proto.doc_string, proto.model_version, proto.domain = ir_version, "what it is", 3, "org.mine"
    proto.producer_name, proto.producer_version = "pytorch", "2.0"
    proto.graph.name, proto.graph.doc_string = "main_graph", "the graph"
    helper.set_model_props(proto, {"key": "value"})
    for place, node in enumerate(proto.graph.node):
        node.name = f"/layer/{place}"
    path = folder / "net.onnx"
    onnx.save(proto, path)
    return path


def header(path: Path) -> list[Any]:
    proto = onnx.load(path, load_external_data=False)
    says = [proto.ir_version, proto.opset_import[0].version, proto.doc_string, proto.model_version, proto.domain]
    return [*says, proto.producer_name, proto.producer_version, proto.graph.name, proto.graph.doc_string]


def metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}


def batch_axes(path: Path) -> list[Any]:
    graph = onnx.load(path, load_external_data=False).graph
    axes = [value.type.tensor_type.shape.dim[0] for value in (*graph.input, *graph.output)]
    return [axis.dim_value if axis.HasField("dim_value") else axis.dim_param for axis in axes]


@pytest.mark.parametrize("form", ["original", "working"])
@pytest.mark.parametrize(("opset", "ir_version"), [(9, 4), (13, 7), (17, 8), (21, 10), (23, 11)])
def test_a_file_says_of_itself_what_it_said(form: str, opset: int, ir_version: int, tmp_path: Path) -> None:
    path = user_file(tmp_path, opset, ir_version)
    model = read(path)
    assert write(model, tmp_path / "back.onnx", form=form) == ()
    assert header(tmp_path / "back.onnx") == header(path)
    assert metadata(tmp_path / "back.onnx").pop("mnx.changes")
    assert {k: v for k, v in metadata(tmp_path / "back.onnx").items() if k != "mnx.changes"} == {"key": "value"}
    assert batch_axes(tmp_path / "back.onnx") == ["N", "N"]
    back = read(tmp_path / "back.onnx")
    assert model_hash(back) == model_hash(model)
    assert (back.metadata, back.changes, back.origin) == (model.metadata, model.changes, model.origin)
    assert [node.name for node in (*back.nodes, *back.head)] == [f"/layer/{place}" for place in range(6)]
    assert set(back.weights) == set("wsbmvfe")


def test_the_canonical_form_is_the_dialect(tmp_path: Path) -> None:
    write(read(user_file(tmp_path)), tmp_path / "back.onnx")
    assert header(tmp_path / "back.onnx")[:2] == [10, 21]
    assert metadata(tmp_path / "back.onnx") == {"key": "value", "doc": "what it is", "exporter": "pytorch 2.0"}


def test_the_oldest_files_name_their_weights_among_the_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proto = network(TEXT, 9)
    proto.ir_version = 3
    for tensor in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    onnx.save(proto, tmp_path / "net.onnx")
    for large in (1 << 16, 0):
        monkeypatch.setattr("mnx.graphs.onnx_file.LARGE", large)
        model = read(tmp_path / "net.onnx")
        write(model, tmp_path / "back.onnx", form="original")
        back = onnx.load(tmp_path / "back.onnx")
        onnx.checker.check_model(back, full_check=True)
        assert back.ir_version == 3
        assert {tensor.name for tensor in back.graph.initializer} == {value.name for value in back.graph.input} - {"x"}
        x = np.random.default_rng(0).standard_normal((3, 3, 4, 4)).astype(np.float32)
        assert same(original(back, {"x": x})[0], original(proto, {"x": x})[0])
        assert model_hash(read(tmp_path / "back.onnx")) == model_hash(model)


def test_external_data_stay_external(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnx.graphs.onnx_file.LARGE", 0)
    proto = onnx.load(user_file(tmp_path))
    onnx.save(proto, tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    model = read(tmp_path / "net.onnx")
    write(model, tmp_path / "back.onnx", form="original")
    assert (tmp_path / f"back.onnx{DATA}").exists()
    assert model_hash(read(tmp_path / "back.onnx")) == model_hash(model)
    assert header(tmp_path / "back.onnx") == header(tmp_path / "net.onnx")


@pytest.mark.parametrize("size", [2, "examples", None])
def test_the_batch_is_called_as_it_was(size: int | str | None, tmp_path: Path) -> None:
    proto = onnx.load(user_file(tmp_path))
    for value in (*proto.graph.input, *proto.graph.output):
        axis = value.type.tensor_type.shape.dim[0]
        axis.Clear()
        if isinstance(size, int):
            axis.dim_value = size
        elif size:
            axis.dim_param = size
    onnx.save(proto, tmp_path / "net.onnx")
    model = read(tmp_path / "net.onnx")
    write(model, tmp_path / "back.onnx", form="original")
    assert batch_axes(tmp_path / "back.onnx") == [size or ""] * 2
    assert model_hash(read(tmp_path / "back.onnx")) == model_hash(model)
    assert (as_loaded(model) is None) == (size != 2)


def test_what_reading_changed_is_listed_once(tmp_path: Path) -> None:
    model = read(user_file(tmp_path))
    assert model.changes
    path = tmp_path / "back.onnx"
    for _ in range(3):
        write(model, path, form="working")
        assert json.loads(metadata(path)["mnx.changes"]) == list(model.changes)
        again = read(path)
        assert again.changes == model.changes
        model = again


def test_what_could_not_be_written_is_listed_once(tmp_path: Path) -> None:
    text = """g (float[N,4,6,6] x, float[3,4] f) => (float[N,3] y) { c = Celu<alpha = 2.0>(x) p = GlobalAveragePool(c)
        h = Flatten(p) y = Gemm<transB = 1>(h, f) }"""
    onnx.save(network(text, 12), tmp_path / "net.onnx")
    model = read(tmp_path / "net.onnx")
    older = model.replace(origin=onnx_origin(model.origin, 9))
    path = tmp_path / "back.onnx"
    (note,) = write(older, path, form="working")
    for _ in range(3):
        again = read(path)
        assert again.origin.opset == 12
        assert again.changes == (*model.changes, note)
        assert write(again, path, form="working") == ()


def onnx_origin(origin: Any, opset: int) -> Any:
    return type(origin)(**{**vars(origin), "opset": opset})


@pytest.mark.parametrize("text", ["no list", "{}", "[1]", "[]"])
def test_what_others_wrote_under_our_key_is_no_change(text: str, tmp_path: Path) -> None:
    path = user_file(tmp_path)
    expected = read(path).changes
    proto = onnx.load(path)
    helper.set_model_props(proto, {"mnx.changes": text})
    onnx.save(proto, path)
    assert read(path).changes == expected


def test_an_unknown_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="form 'mine' is none of canonical, working, original"):
        write(read(user_file(tmp_path)), tmp_path / "back.onnx", form="mine")


def half(folder: Path, opset: int = 17) -> Path:
    """The user's file in half precision."""
    proto = network(TEXT, opset)
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(proto, folder / "half.onnx")
    return folder / "half.onnx"


def test_a_working_file_is_in_float32_and_says_what_it_was(tmp_path: Path) -> None:
    model = read(half(tmp_path))
    write(model, tmp_path / "work.onnx", form="working")
    proto = onnx.load(tmp_path / "work.onnx")
    assert {tensor.data_type for tensor in proto.graph.initializer} == {TensorProto.FLOAT}
    assert (proto.opset_import[0].version, metadata(tmp_path / "work.onnx")["precision"]) == (17, "float16")
    again = read(tmp_path / "work.onnx")
    assert again.precision == Precision("float16", "float16", "float16")
    assert model_hash(again) == model_hash(model)
    write(again, tmp_path / "back.onnx", form="original")
    back = onnx.load(tmp_path / "back.onnx")
    assert {tensor.data_type for tensor in back.graph.initializer} == {TensorProto.FLOAT16}
    assert back.opset_import[0].version == 17
    assert "precision" not in metadata(tmp_path / "back.onnx")


def test_a_file_in_half_precision_is_run_on_the_numbers_of_float32(tmp_path: Path) -> None:
    path = half(tmp_path)
    x = np.random.default_rng(0).standard_normal((3, 3, 4, 4)).astype(np.float32)
    found = run_file(path, x)
    assert found.dtype == np.float32
    (expected,) = run(read(path), x, include_ends=True).values()
    assert np.allclose(found, expected, atol=5e-3)


def test_a_file_newer_than_the_runtime_is_run_as_the_dialect(tmp_path: Path) -> None:
    model = read(user_file(tmp_path, 23, 11))
    x = np.random.default_rng(0).standard_normal((3, 3, 4, 4)).astype(np.float32)
    (expected,) = run(model, x, include_ends=True).values()
    assert same(run_file(tmp_path / "net.onnx", x, loaded=as_loaded(model)), expected)
