"""The corpus of real exports: what is read is written as its user's, computes the same and reads the same."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from reading import Array, original, same
from real_exports import FILES, corpus, name_of

from mnx.graphs.errors import GraphError
from mnx.graphs.model import OPSET, Model
from mnx.graphs.onnx_file import read, write
from mnx.graphs.proto import inputs_before_entry
from mnx.graphs.run import run
from mnx.graphs.trees.describe import describe

MAPS = {"skmlp_64_32", "skmlp_96_32"}
"""Files with a ZipMap, which is not given back: their second output is the probabilities themselves."""


def opset(proto: onnx.ModelProto) -> int:
    return next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))


def ends(proto: onnx.ModelProto) -> list[Any]:
    """Inputs and outputs by name, element type and shape."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    values = [value for value in (*proto.graph.input, *proto.graph.output) if value.name not in weights]
    return [
        (value.name, value.type.tensor_type.elem_type, [str(axis) for axis in value.type.tensor_type.shape.dim])
        for value in values
    ]


def words(proto: onnx.ModelProto) -> list[Any]:
    """What a file says of itself."""
    metadata = {entry.key: entry.value for entry in proto.metadata_props if entry.key != "mnx.changes"}
    says = [proto.producer_name, proto.producer_version, proto.doc_string, proto.domain, proto.model_version]
    return [opset(proto), proto.ir_version, *says, proto.graph.name, proto.graph.doc_string, metadata]


def content(model: Model) -> list[Any]:
    weights = {name: (array.dtype, array.shape, array.tobytes()) for name, array in model.weights.items()}
    ports = [model.inputs, model.outputs, model.results]
    return [model.entry, model.nodes, model.head, *ports, weights, model.precision, model.external, model.metadata]


def results(path: Path, feeds: dict[str, Array]) -> list[Array]:
    if opset(onnx.load(path, load_external_data=False)) <= OPSET:
        return original(str(path), feeds)
    return list(ReferenceEvaluator(onnx.load(path)).run(None, feeds))


@corpus
@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_comes_back_as_its_users(path: Path, tmp_path: Path) -> None:
    try:
        model = read(path)
    except GraphError as error:
        pytest.skip(f"not read: {error}")
    out = tmp_path / path.name
    assert write(model, out, form="original") == ()
    given, back = (onnx.load(file, load_external_data=False) for file in (path, out))
    onnx.checker.check_model(str(out), full_check=True)
    assert words(back) == words(given)
    kept = len(ends(given)) - (path.stem in MAPS)
    assert ends(back)[:kept] == ends(given)[:kept]
    again = read(out)
    assert content(again) == content(model)
    assert again.changes == model.changes
    with np.load(path.with_suffix(".npz")) as reference:
        arrays = [reference[name] for name in reference.files if name.startswith("arr_")]
    feeds = {port.name: array for port, array in zip(inputs_before_entry(model), arrays, strict=True)}
    expected = run(model, feeds, include_ends=True)
    for found, wanted in zip(results(out, feeds), expected.values(), strict=True):
        assert same(found, wanted)


@corpus
@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.0, 1.0], ids=["zeros", "random"])
@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_reading_a_trained_file_does_not_depend_on_its_weights(path: Path, scale: float, tmp_path: Path) -> None:
    """What training makes of a member is still the member."""
    try:
        model = read(path)
    except GraphError as error:
        pytest.skip(f"not read: {error}")
    random = np.random.default_rng(0)
    parameters = {parameter.name for op in describe(model).ops() for parameter in op.parameters}
    weights = {name: scale * (0.5 + random.random(model.weights[name].shape)) for name in sorted(parameters)}
    model = model.with_weights({name: array.astype(np.float32) for name, array in weights.items()})
    write(model, tmp_path / path.name, form="working")
    assert content(read(tmp_path / path.name)) == content(model)
