"""The door: reading and writing ONNX files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.errors import GraphError
from mnx.graphs.files import replacing
from mnx.graphs.given.form import CHANGES, PRECISION, as_given
from mnx.graphs.model import IR_VERSION, OPSET, Array, Model, Origin, Precision
from mnx.graphs.proto import PRODUCER, to_proto
from mnx.graphs.suggest import did_you_mean, one_line
from mnx.graphs.validity import problem
from mnx.graphs.wire import LARGE, load_light, write_apart, write_whole

__all__ = ["read", "to_proto", "write"]

SUFFIX = ".onnx"
DATA = ".data"
"""What a file of weights has behind the name of its model."""
_NUMBERS = "fiub"
LARGEST = 2**31 - 1 - (1 << 20)
"""Weights of more bytes do not fit into one ONNX file, with room for the graph."""
FORMS = ("canonical", "working", "original")
"""What a file can be: opset 21 in float32; the user's own file but for float32; the user's own file."""


def read(path: Path | str) -> Model:
    """The model in a file, in canonical form, named after the file.

    Weights in files of their own are mapped into memory and read when they are used. `Model.metadata` holds the
    file's metadata, its documentation under 'doc' and its exporter under 'exporter'; `Model.changes` begins with what
    reading changed before this file was written.

    Raises:
        GraphError: there is no such file, it is not an ONNX model, its data are missing, or the canonical dialect
            cannot hold it.
    """
    path = Path(path)
    loaded = _load(path)
    metadata, origin = _metadata(loaded), _origin(loaded)
    model = canonicalise(loaded, path.stem, path.parent)
    noted = metadata.pop(PRECISION, None)
    if noted and model.precision == Precision():
        model = model.replace(precision=Precision.parse(noted))
    changes = tuple(dict.fromkeys([*_noted_changes(metadata.pop(CHANGES, "")), *model.changes]))
    external = _is_external(loaded, path)
    return model.replace(source=path, metadata=metadata, external=external, origin=origin, changes=changes)


def write(
    model: Model, path: Path | str, force: bool = True, form: str = "canonical", largest: int = LARGEST
) -> tuple[str, ...]:
    """Write the model with its entry and head to a file, whole or not at all, after ONNX's own check.

    Where the model came with its weights in a file of their own, or has more than fit into one file, they go to
    `path` + '.data' beside it. Readers see the old model, the new one, or for a moment none, never a mixture.

    Args:
        model: the model.
        path: where to.
        force: whether to overwrite a file.
        form: 'canonical' for opset 21 and float32; 'original' for the opset, file format, names, metadata and float
            types of the file that the model came from; 'working' for all of these but the float types, which mnx
            cannot train in.
        largest: the most bytes of weights in one file.

    Returns:
        in words what could not be written as the user's file has it.

    Raises:
        GraphError: the file exists and `force` is False, the model is no valid ONNX, or a weight is too large for the
            original float type.
    """
    path = Path(path)
    if form not in FORMS:
        raise GraphError(f"form {form!r} is none of {', '.join(FORMS)}")
    if path.is_dir():
        raise GraphError(f"{path} is a folder: give the name of the file to write")
    if path.exists() and not force:
        raise GraphError(f"{path} exists: choose another name, or overwrite it with --force")
    proto, arrays = _light(model)
    notes: tuple[str, ...] = ()
    if form != "canonical":
        proto, arrays, notes = as_given(proto, arrays, model, with_types=form == "original")
    elif model.precision != Precision():
        proto.metadata_props.add(key=PRECISION, value=str(model.precision))
    if wrong := problem(proto, arrays):
        raise GraphError(f"{model.name} is not valid ONNX and was not written to {path}: {wrong}")
    if model.external or sum(array.nbytes for array in arrays.values()) > largest:
        _write_apart(proto, arrays, path)
    else:
        with replacing(path) as temporary:
            write_whole(proto, arrays, temporary)
    return notes


def as_loaded(model: Model) -> bytes | None:
    """A network as a runtime loads it in place of its own file; None where that one does as it is.

    It does not where it is in an opset or file format newer than the dialect's, whose runtime mnx runs on, in bfloat16,
    which numpy cannot give, or takes a fixed number of examples.
    """
    origin = model.origin
    newer = origin.opset > OPSET or origin.ir_version > IR_VERSION
    few = any(isinstance(size, int) for size in origin.batch.values())
    if not (newer or few or "bfloat16" in model.precision):
        return None
    return bytes(to_proto(model, include_ends=True).SerializeToString())


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
        metadata.setdefault("exporter", _origin(loaded).exporter)
    return metadata


def _origin(loaded: onnx.ModelProto) -> Origin:
    weights = {tensor.name for tensor in loaded.graph.initializer}
    ends = [value for value in (*loaded.graph.input, *loaded.graph.output) if value.name not in weights]
    return Origin(
        opset=next((opset.version for opset in loaded.opset_import if opset.domain in ("", "ai.onnx")), OPSET),
        ir_version=loaded.ir_version,
        graph=loaded.graph.name,
        graph_doc=loaded.graph.doc_string,
        doc=loaded.doc_string,
        producer=loaded.producer_name,
        producer_version=loaded.producer_version,
        domain=loaded.domain,
        model_version=loaded.model_version,
        batch={value.name: _first_axis(value) for value in ends if value.type.tensor_type.shape.dim},
    )


def _first_axis(value: onnx.ValueInfoProto) -> str | int | None:
    axis = value.type.tensor_type.shape.dim[0]
    return axis.dim_value if axis.HasField("dim_value") else axis.dim_param or None


def _noted_changes(text: str) -> list[str]:
    """The changes that a file's metadata list; none where somebody else wrote there."""
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return []
    return [change for change in found if isinstance(change, str)] if isinstance(found, list) else []
