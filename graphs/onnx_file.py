"""The door: reading and writing ONNX files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.errors import GraphError
from mnx.graphs.files import replacing
from mnx.graphs.model import Model
from mnx.graphs.proto import PRODUCER, to_proto
from mnx.graphs.suggest import did_you_mean, one_line

__all__ = ["read", "to_proto", "write"]

SUFFIX = ".onnx"
_LARGEST = 2**31 - 1


def read(path: Path | str) -> Model:
    """The model in a file, in canonical form, named after the file.

    External data are read from beside the file. `Model.metadata` holds the file's metadata, its documentation under
    'doc' and its exporter under 'exporter'.

    Raises:
        GraphError: there is no such file, it is not an ONNX model, its data are missing, or the canonical dialect
            cannot hold it.
    """
    path = Path(path)
    loaded = _load(path)
    metadata = _metadata(loaded)
    return canonicalise(loaded, path.stem).replace(source=path, metadata=metadata)


def write(model: Model, path: Path | str, force: bool = True) -> None:
    """Write the model with its head to a file, whole or not at all, after ONNX's own check.

    Raises:
        GraphError: the file exists and `force` is False, or the model is no valid ONNX or larger than 2 GB.
    """
    path = Path(path)
    if path.is_dir():
        raise GraphError(f"{path} is a folder: give the name of the file to write")
    if path.exists() and not force:
        raise GraphError(f"{path} exists: choose another name, or overwrite it with --force")
    size = sum(array.nbytes for array in model.weights.values())
    if size >= _LARGEST:
        raise GraphError(f"{model.name} holds {size / 1e9:.1f} GB of weights; an ONNX file holds up to 2 GB")
    proto = to_proto(model, include_head=True)
    with replacing(path) as temporary:
        temporary.write_bytes(proto.SerializeToString())
        try:
            onnx.checker.check_model(str(temporary))
            onnx.shape_inference.infer_shapes(_light(model), check_type=True, strict_mode=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise GraphError(
                f"{model.name} is not valid ONNX and was not written to {path}: {one_line(error)}"
            ) from error


def _light(model: Model) -> onnx.ModelProto:
    """The model with weights by shape, for a check of types and shapes that takes no time."""
    floats = [name for name, array in model.weights.items() if array.dtype.kind == "f"]
    return to_proto(model, floats, include_head=True)


def _load(path: Path) -> ir.Model:
    if path.is_dir():
        raise GraphError(f"{path} is a folder: give one .onnx file")
    if not path.exists():
        raise GraphError(f"there is no file {path}{did_you_mean(path.name, _siblings(path))}")
    try:
        loaded = ir.load(path)
    except DecodeError as error:
        raise GraphError(f"{path} is not an ONNX model, or only part of one: export or copy it again") from error
    except ir.serde.SerdeError as error:
        raise GraphError(
            f"{path} holds what mnx cannot read ({one_line(error)}): export tensors only (zipmap=False in skl2onnx)"
        ) from error
    except OSError as error:
        raise GraphError(f"{path} cannot be read: {one_line(error)}") from error
    if not loaded.opset_imports or not len(loaded.graph):
        raise GraphError(f"{path} is not an ONNX model: it is empty or holds no nodes; export or copy it again")
    if not loaded.graph.outputs:
        raise GraphError(f"{path} has no outputs: name the model's output when exporting it")
    return loaded


def _siblings(path: Path) -> list[str]:
    return [file.name for file in path.parent.glob(f"*{SUFFIX}")] if path.parent.is_dir() else []


def _metadata(loaded: ir.Model) -> Mapping[str, str]:
    metadata = dict(loaded.metadata_props)
    if loaded.doc_string:
        metadata.setdefault("doc", loaded.doc_string)
    if loaded.producer_name and loaded.producer_name != PRODUCER:
        metadata.setdefault("exporter", f"{loaded.producer_name} {loaded.producer_version or ''}".strip())
    return metadata
