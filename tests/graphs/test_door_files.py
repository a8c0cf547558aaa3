"""Weights in files of their own, files of any size, and float types that come back as they came."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from reading import Array, network, original, preserved, same

from mnx.graphs import wire
from mnx.graphs.builder import Builder
from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model, Port, Precision
from mnx.graphs.onnx_file import read, write
from mnx.graphs.run import run

NET = """g (float[N,3,4,4] x, float[4,3,3,3] w, float[5,16] f) => (float[N,5] p) {
    c = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w) h = Flatten(c) l = Gemm<transB = 1>(h, f)
    p = Softmax<axis = -1>(l) }"""


def wide(width: int, depth: int = 2) -> Model:
    """A network of `depth` square layers."""
    build, random, value = Builder(), np.random.default_rng(0), "x"
    for index in range(depth):
        weight = build.weight(f"w{index}", random.standard_normal((width, width), dtype=np.float32) / np.float32(width))
        bias = build.weight(f"b{index}", np.zeros(width, np.float32))
        value = build.add("Gemm", value, weight, bias, name=f"layer{index}", transB=1)
    return build.model("wide", [Port("x", "float32", (width,))], [Port(value, "float32", (width,))])


def is_mapped(array: Array) -> bool:
    """Whether the array lies in a file that is mapped into memory."""
    owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    return isinstance(owner, np.memmap) or (owner.base is not None and "mmap" in type(owner.base).__name__)


@pytest.fixture
def all_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every weight counts as large."""
    monkeypatch.setattr(wire, "LARGE", 1)
    monkeypatch.setattr("mnx.graphs.onnx_file.LARGE", 1)


def equal(left: Mapping[str, Array], right: Mapping[str, Array]) -> bool:
    return set(left) == set(right) and all(np.array_equal(left[name], right[name]) for name in left)


@pytest.mark.usefixtures("all_large")
def test_a_file_is_the_same_however_it_is_written(tmp_path: Path) -> None:
    model = canonicalise(network(NET), "net")
    write(model, tmp_path / "net.onnx")
    write(model, tmp_path / "apart.onnx", largest=10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["apart.onnx", "apart.onnx.data", "net.onnx"]
    x = np.random.default_rng(0).standard_normal((3, 3, 4, 4)).astype(np.float32)
    results = [original(str(tmp_path / name), {"x": x})[0] for name in ("net.onnx", "apart.onnx")]
    assert np.array_equal(*results)
    whole, apart = read(tmp_path / "net.onnx"), read(tmp_path / "apart.onnx")
    assert equal(whole.weights, apart.weights)
    assert (whole.nodes, whole.external, apart.external) == (apart.nodes, False, True)
    for name in ("net.onnx", "apart.onnx"):
        onnx.checker.check_model(str(tmp_path / name), full_check=True)


@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.int8]),
        hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6),
        elements=st.integers(-100, 100),
    ),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_tensors_pass_through_files_unchanged(array: Array, apart: bool) -> None:
    array = array.T
    proto = network(NET)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "LARGE", 1)
        path, data = Path(folder) / "net.onnx", Path(folder) / "net.data"
        if apart:
            wire.write_apart(proto, {"more": array}, path, data, data.name)
        else:
            wire.write_whole(proto, {"more": array}, path)
        found = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
        light = {tensor.name: tensor for tensor in wire.load_light(path).graph.initializer}
        entries = {entry.key: entry.value for entry in light["more"].external_data}
        if array.size:
            where = Path(folder) / entries["location"]
            again = wire.mapped(where, array.dtype, array.shape, int(entries["offset"]), own=not apart)
            assert np.array_equal(again, array)
            assert int(entries["length"]) == array.nbytes
            del again
    assert np.array_equal(found["more"], array)
    assert found["more"].dtype == array.dtype
    assert set(found) == {"w", "f", "more"}


def test_external_weights_are_mapped_and_written_apart_again(tmp_path: Path) -> None:
    model = wide(128)
    write(model.replace(external=True), tmp_path / "net.onnx")
    back = read(tmp_path / "net.onnx")
    assert back.external
    assert is_mapped(back.weights["w0"]) and not back.weights["w0"].flags.writeable
    write(back, tmp_path / "net.onnx")
    again = read(tmp_path / "net.onnx")
    assert equal(again.weights, model.weights)
    assert equal(back.weights, model.weights), "what was mapped from the old file stays"


def test_a_failed_write_leaves_both_files_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(wide(128).replace(external=True), tmp_path / "net.onnx")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(wire, "_write", full)
    with pytest.raises(OSError, match="no space"):
        write(wide(130).replace(external=True), tmp_path / "net.onnx")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_data_outside_of_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    write(wide(128).replace(external=True), tmp_path / "net.onnx")
    proto = onnx.load(tmp_path / "net.onnx", load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = f"../{entry.value}"
    (tmp_path / "inner" / "net.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(GraphError, match=r"weight 'w.' of net .* outside of the model's folder"):
        read(tmp_path / "inner" / "net.onnx")


def test_a_model_with_external_data_need_not_be_aligned(tmp_path: Path) -> None:
    onnx.save(network(NET), tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    proto = onnx.load(tmp_path / "net.onnx", load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "offset":
                entry.value = str(int(entry.value) + 1)
    (tmp_path / "net.data").write_bytes(b"-" + (tmp_path / "net.data").read_bytes())
    onnx.save(proto, tmp_path / "net.onnx")
    assert preserved(read(tmp_path / "net.onnx"), network(NET))


PEAK = """
import resource, sys
from mnx.graphs.onnx_file import read, write
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = read(sys.argv[1])
total = sum(float(array.sum()) for array in model.weights.values())
write(model, sys.argv[2])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(peak * 1024 / sum(array.nbytes for array in model.weights.values()))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts memory on Linux")
@pytest.mark.parametrize("external", [False, True])
def test_reading_and_writing_takes_little_more_memory_than_the_weights(external: bool, tmp_path: Path) -> None:
    write(wide(4096, 6).replace(external=external), tmp_path / "net.onnx")
    command = [sys.executable, "-c", PEAK, str(tmp_path / "net.onnx"), str(tmp_path / "out.onnx")]
    share = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert share < 1.5


@pytest.mark.slow
def test_a_model_of_more_than_two_gigabytes_goes_out_and_comes_back(tmp_path: Path) -> None:
    width, rows = 1024, 2**19 + 512
    build = Builder()
    table = build.weight("table", np.broadcast_to(np.arange(width, dtype=np.float32), (rows, width)))
    build.add("Gather", table, "x", name="y", axis=0)
    model = build.model("table", [Port("x", "int64", ())], [Port("y", "float32", (width,))])
    write(model, tmp_path / "table.onnx")
    assert (tmp_path / "table.onnx.data").stat().st_size > 2**31
    back = read(tmp_path / "table.onnx")
    assert is_mapped(back.weights["table"])
    (y,) = run(back, np.array([0, rows - 1])).values()
    assert np.array_equal(y, np.tile(np.arange(width, dtype=np.float32), (2, 1)))


def test_large_weights_are_fed_to_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = wide(160), np.ones((2, 160), np.float32)
    (expected,) = run(model, x).values()
    monkeypatch.setattr("mnx.graphs.run._FED", 0)
    (found,) = run(model, x).values()
    assert same(found, expected)


# Float types


def in_type(name: str, proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with all floats, its inputs and outputs included, in another type."""
    wanted = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16, "float64": TensorProto.DOUBLE}[name]
    proto = onnx.ModelProto.FromString(proto.SerializeToString())
    for tensor in proto.graph.initializer:
        array = (0.2 * numpy_helper.to_array(tensor)).astype(helper.tensor_dtype_to_np_dtype(wanted))
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = wanted
    return proto


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float64"])
def test_a_model_in_another_float_type_is_read_and_returned(name: str, tmp_path: Path) -> None:
    proto = in_type(name, network(NET))
    onnx.save(proto, tmp_path / "net.onnx")
    model = read(tmp_path / "net.onnx")
    assert model.precision == Precision(name, name, name)
    assert {array.dtype.name for array in model.weights.values()} == {"float32"}
    assert [port.dtype for port in (*model.inputs, *model.outputs)] == ["float32", "float32"]
    assert any(name in change and "write(" not in change for change in model.changes)
    x = np.random.default_rng(0).standard_normal((3, 3, 4, 4))
    given = x.astype(helper.tensor_dtype_to_np_dtype(proto.graph.input[0].type.tensor_type.elem_type))
    expected = ReferenceEvaluator(proto).run(None, {"x": given})[0].astype(np.float32)
    (found,) = run(model, given.astype(np.float32), include_ends=True).values()
    assert np.allclose(found, expected, atol=0.05 if name == "bfloat16" else 2e-3)
    write(model, tmp_path / "back.onnx", form="original")
    back = onnx.load(tmp_path / "back.onnx")
    assert {tensor.data_type for tensor in back.graph.initializer} == {proto.graph.input[0].type.tensor_type.elem_type}
    assert back.graph.input[0].type.tensor_type.elem_type == proto.graph.input[0].type.tensor_type.elem_type
    returned = ReferenceEvaluator(back).run(None, {"x": given})[0].astype(np.float32)
    assert np.allclose(returned, expected, atol=0.05 if name == "bfloat16" else 2e-3)
    assert {name: array.tobytes() for name, array in read(tmp_path / "back.onnx").weights.items()} == {
        name: array.tobytes() for name, array in model.weights.items()
    }


MIXED = """g (float[N,6] x, float[6,3] w) => (float[N,3] y)
    { h = Cast<to = 10>(x) m = MatMul(h, w) s = Sigmoid(m) y = Cast<to = 1>(s) }"""


def mixed() -> onnx.ModelProto:
    """A model whose inputs and outputs are float32 and whose weights are float16."""
    proto = network(MIXED)
    weight = numpy_helper.to_array(proto.graph.initializer[0]).astype(np.float16)
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))
    return proto


def test_a_mixed_model_has_its_own_types_again(tmp_path: Path) -> None:
    proto = mixed()
    onnx.save(proto, tmp_path / "net.onnx")
    model = read(tmp_path / "net.onnx")
    assert [node.op for node in (*model.nodes, *model.head)] == ["Gemm", "Sigmoid"]
    assert model.precision == Precision("float16", "float32", "float32")
    write(model, tmp_path / "single.onnx")
    single = read(tmp_path / "single.onnx")
    assert (single.precision, single.metadata) == (model.precision, {})
    write(single, tmp_path / "back.onnx", form="original")
    x = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)
    (expected,) = original(proto, {"x": x})
    (found,) = original(str(tmp_path / "back.onnx"), {"x": x})
    assert found.dtype == np.float32
    assert np.allclose(found, expected, atol=2e-3)


def test_what_the_original_type_cannot_hold_is_refused(tmp_path: Path) -> None:
    model = canonicalise(mixed(), "net")
    (name,) = (name for name, array in model.weights.items() if array.ndim == 2)
    grown = model.with_weights({name: np.full((3, 6), 1e5, np.float32)})
    with pytest.raises(GraphError, match="has become too large for float16"):
        write(grown, tmp_path / "net.onnx", form="original")
    assert not list(tmp_path.iterdir())


def test_numbers_too_large_for_float32_become_its_largest() -> None:
    text = "g (double[N,2] x) => (double[N,2] y) <double[2] w = {1e300, 2.}> { y = Min(x, w) }"
    model = canonicalise(network(text), "net")
    assert np.array_equal(next(iter(model.weights.values())), np.array([np.finfo(np.float32).max, 2], np.float32))


@pytest.mark.parametrize("external", [False, True])
def test_a_link_to_a_model_in_another_folder_is_read(external: bool, all_large: None, tmp_path: Path) -> None:
    """As caches of downloaded models keep them: one folder of links, another of files."""
    model = wide(8).replace(external=external)
    write(model, tmp_path / "files" / "a.onnx")
    (tmp_path / "links").mkdir()
    for file in (tmp_path / "files").iterdir():
        (tmp_path / "links" / file.name).symlink_to(file)
    assert equal(read(tmp_path / "links" / "a.onnx").weights, model.weights)
