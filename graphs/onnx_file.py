"""The door: reading and writing ONNX files."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.errors import GraphError
from mnx.graphs.files import replacing
from mnx.graphs.model import Array, Model, Precision
from mnx.graphs.original import in_original
from mnx.graphs.proto import PRODUCER, to_proto
from mnx.graphs.suggest import did_you_mean, one_line
from mnx.graphs.wire import LARGE, load_light, write_apart, write_whole

__all__ = ["read", "to_proto", "write"]

SUFFIX = ".onnx"
DATA = ".data"
"""What a file of weights has behind the name of its model."""
PRECISION = "precision"
"""The metadata key under which a float32 file notes the float types of the model it came from."""
_NUMBERS = "fiub"
LARGEST = 2**31 - 1 - (1 << 20)
"""Weights of more bytes do not fit into one ONNX file, with room for the graph."""
PRECISIONS = ("float32", "original")


def read(path: Path | str) -> Model:
    """The model in a file, in canonical form, named after the file.

    Weights in files of their own are mapped into memory and read when they are used. `Model.metadata` holds the
    file's metadata, its documentation under 'doc' and its exporter under 'exporter'.

    Raises:
        GraphError: there is no such file, it is not an ONNX model, its data are missing, or the canonical dialect
            cannot hold it.
    """
    path = Path(path)
    loaded = _load(path)
    metadata = _metadata(loaded)
    model = canonicalise(loaded, path.stem, path.parent)
    noted = metadata.pop(PRECISION, None)
    if noted and model.precision == Precision():
        model = model.replace(precision=Precision.parse(noted))
    return model.replace(source=path, metadata=metadata, external=_is_external(loaded, path))


def write(
    model: Model, path: Path | str, force: bool = True, precision: str = "float32", largest: int = LARGEST
) -> None:
    """Write the model with its entry and head to a file, whole or not at all, after ONNX's own check.

    Where the model came with its weights in a file of their own, or has more than fit into one file, they go to
    `path` + '.data' beside it. Readers see the old model, the new one, or for a moment none, never a mixture.

    Args:
        model: the model.
        path: where to.
        force: whether to overwrite a file.
        precision: 'float32', or 'original' for the float types that the model came in.
        largest: the most bytes of weights in one file.

    Raises:
        GraphError: the file exists and `force` is False, the model is no valid ONNX, or a weight is too large for the
            original float type.
    """
    path = Path(path)
    if precision not in PRECISIONS:
        raise GraphError(f"precision {precision!r} is none of {', '.join(PRECISIONS)}")
    if path.is_dir():
        raise GraphError(f"{path} is a folder: give the name of the file to write")
    if path.exists() and not force:
        raise GraphError(f"{path} exists: choose another name, or overwrite it with --force")
    proto, arrays = _light(model)
    if precision == "original":
        in_original(proto, arrays, model.precision)
    elif model.precision != Precision():
        proto.metadata_props.add(key=PRECISION, value=str(model.precision))
    _check(model, path, proto, arrays)
    if model.external or sum(array.nbytes for array in arrays.values()) > largest:
        _write_apart(proto, arrays, path)
    else:
        with replacing(path) as temporary:
            write_whole(proto, arrays, temporary)


def _light(model: Model) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """The model without its large weights, and these."""
    numbers = {name: array for name, array in model.weights.items() if array.dtype.kind in _NUMBERS}
    arrays = {name: array for name, array in numbers.items() if array.nbytes >= LARGE}
    proto = to_proto(model, arrays, include_ends=True)
    inputs = [value for value in proto.graph.input if value.name not in arrays]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    return proto, arrays


def files_of(path: Path) -> list[Path]:
    """A model's file and those that hold its weights, whether they are there or not; a broken file stands alone."""
    try:
        places = _places(load_light(path))
    except DecodeError:
        return [path]
    return [path, *(path.parent / place for place in sorted(places - {path.name}))]


def _check(model: Model, path: Path, proto: onnx.ModelProto, arrays: Mapping[str, Array]) -> None:
    """ONNX's checks, with the large weights as inputs, by their shapes."""
    whole = onnx.ModelProto()
    whole.CopyFrom(proto)
    for name, array in arrays.items():
        element_type = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        whole.graph.input.append(onnx.helper.make_tensor_value_info(name, element_type, list(array.shape)))
    try:
        onnx.checker.check_model(whole)
        onnx.shape_inference.infer_shapes(whole, check_type=True, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise GraphError(f"{model.name} is not valid ONNX and was not written to {path}: {one_line(error)}") from error


def _write_apart(proto: onnx.ModelProto, arrays: Mapping[str, Array], path: Path) -> None:
    """Both files under temporary names; the old model goes before its weights are replaced."""
    data = path.with_name(path.name + DATA)
    with ExitStack() as stack:
        temporary = stack.enter_context(replacing(path))
        temporary_data = stack.enter_context(replacing(data))
        write_apart(proto, arrays, temporary, temporary_data, data.name)
        path.unlink(missing_ok=True)


def _load(path: Path) -> onnx.ModelProto:
    if path.is_dir():
        raise GraphError(f"{path} is a folder: give one .onnx file")
    if not path.exists():
        raise GraphError(f"there is no file {path}{did_you_mean(path.name, _siblings(path))}")
    try:
        loaded = load_light(path)
    except DecodeError as error:
        raise GraphError(f"{path} is not an ONNX model, or only part of one: export or copy it again") from error
    except OSError as error:
        raise GraphError(f"{path} cannot be read: {one_line(error)}") from error
    if not loaded.opset_import or not loaded.graph.node:
        raise GraphError(f"{path} is not an ONNX model: it is empty or holds no nodes; export or copy it again")
    if not loaded.graph.output:
        raise GraphError(f"{path} has no outputs: name the model's output when exporting it")
    return loaded


def _siblings(path: Path) -> list[str]:
    return [file.name for file in path.parent.glob(f"*{SUFFIX}")] if path.parent.is_dir() else []


def _is_external(loaded: onnx.ModelProto, path: Path) -> bool:
    return bool(_places(loaded) - {path.name})


def _places(loaded: onnx.ModelProto) -> set[str]:
    """The names of the files in which weights lie."""
    return {
        entry.value for tensor in loaded.graph.initializer for entry in tensor.external_data if entry.key == "location"
    }


def _metadata(loaded: onnx.ModelProto) -> dict[str, str]:
    metadata = {entry.key: entry.value for entry in loaded.metadata_props}
    if loaded.doc_string:
        metadata.setdefault("doc", loaded.doc_string)
    if loaded.producer_name and loaded.producer_name != PRODUCER:
        metadata.setdefault("exporter", f"{loaded.producer_name} {loaded.producer_version or ''}".strip())
    return metadata
