"""The wire format of ONNX files: large tensors go between disk and memory without a stay in protobuf.

A protobuf message is a sequence of fields (tag, content) in any order. A file is read as its message with every large
`raw_data` of an initializer left out and noted as external data that lie in the file itself; it is written as the
message without them, to whose graph the tensors are added one by one.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, helper

from mnx.graphs.model import Array

LARGE = 1 << 16
"""Initializers of so many bytes stay in the file until they are needed, and are written piece by piece."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
_ALIGNMENT = 4096


def load_light(path: Path) -> onnx.ModelProto:
    """The model in a file; initializers of at least `LARGE` bytes become external data at their place in the file.

    Raises:
        OSError: the file cannot be read.
        DecodeError: it is not a whole protobuf message.
    """
    with path.open("rb") as file:
        if not file.seek(0, 2):
            return onnx.ModelProto()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            model = onnx.ModelProto()
            model.ParseFromString(_without_tensors(data, path.name))
            return model


def mapped(path: Path, dtype: np.dtype[np.generic], shape: tuple[int, ...], offset: int, own: bool) -> Array:
    """An array in a file: mapped into memory, read when it is used; an `own` or unaligned one is read now.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is too short.
    """
    count = int(np.prod(shape))
    missing = offset + count * dtype.itemsize - path.stat().st_size
    if missing > 0:
        raise ValueError(f"{path.name} is {missing} bytes too short")
    if own or offset % dtype.itemsize or not count:
        return np.fromfile(path, dtype, count, offset=offset).reshape(shape)
    return np.asarray(np.memmap(path, dtype, "r", offset, shape))


def write_whole(proto: onnx.ModelProto, arrays: Mapping[str, Array], path: Path) -> None:
    """Write `proto` with `arrays` as further initializers, as one file of at most 2 GB."""
    rest = onnx.ModelProto()
    rest.CopyFrom(proto)
    rest.ClearField("graph")
    graph = proto.graph.SerializeToString()
    heads = {name: _head(name, array) for name, array in arrays.items()}
    inner = {
        name: len(head) + len(_key(_RAW_DATA, arrays[name].nbytes)) + arrays[name].nbytes
        for name, head in heads.items()
    }
    total = len(graph) + sum(len(_key(_INITIALIZER, size)) + size for size in inner.values())
    with path.open("wb") as file:
        file.write(rest.SerializeToString() + _key(_GRAPH, total) + graph)
        for name, array in arrays.items():
            file.write(_key(_INITIALIZER, inner[name]) + heads[name] + _key(_RAW_DATA, array.nbytes))
            _write(array, file)


def write_apart(proto: onnx.ModelProto, arrays: Mapping[str, Array], path: Path, data: Path, location: str) -> None:
    """Write `proto` to `path`, with `arrays` as further initializers that lie in the file `data`.

    Args:
        location: how the model names the data file.
    """
    whole = onnx.ModelProto()
    whole.CopyFrom(proto)
    with data.open("wb") as file:
        for name, array in arrays.items():
            file.write(bytes(-file.tell() % _ALIGNMENT))
            tensor = TensorProto.FromString(_head(name, array))
            _locate(tensor, location, file.tell(), array.nbytes)
            whole.graph.initializer.append(tensor)
            _write(array, file)
    path.write_bytes(whole.SerializeToString())


def _write(array: Array, file: BinaryIO) -> None:
    """The numbers in the order of a tensor, at most one slice of the first axis at a time in a copy."""
    if array.flags.c_contiguous:
        file.write(array.reshape(-1).view(np.uint8).data)
        return
    for part in array:
        file.write(np.ascontiguousarray(part).tobytes())


def _head(name: str, array: Array) -> bytes:
    tensor = TensorProto(name=name, dims=array.shape, data_type=helper.np_dtype_to_tensor_dtype(array.dtype))
    return bytes(tensor.SerializeToString())


def _locate(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def _without_tensors(data: mmap.mmap, location: str) -> bytes:
    parts = []
    for field, start, begin, end in _fields(data, 0, len(data)):
        if field == _GRAPH:
            graph = b"".join(_light_graph(data, begin, end, location))
            parts.append(_key(_GRAPH, len(graph)) + graph)
        else:
            parts.append(data[start:end])
    return b"".join(parts)


def _light_graph(data: mmap.mmap, begin: int, end: int, location: str) -> Iterator[bytes]:
    for field, start, first, last in _fields(data, begin, end):
        if field != _INITIALIZER or last - first < LARGE:
            yield data[start:last]
            continue
        tensor = _light_tensor(data, first, last, location)
        yield _key(_INITIALIZER, len(tensor)) + tensor


def _light_tensor(data: mmap.mmap, begin: int, end: int, location: str) -> bytes:
    kept, raw = [], None
    for field, start, first, last in _fields(data, begin, end):
        if field == _RAW_DATA and last - first >= LARGE:
            raw = first, last - first
        else:
            kept.append(data[start:last])
    if raw is None:
        return b"".join(kept)
    tensor = TensorProto.FromString(b"".join(kept))
    _locate(tensor, location, *raw)
    return bytes(tensor.SerializeToString())


def _fields(data: mmap.mmap, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Of each field its number, where it starts, and where its content begins and ends."""
    at = begin
    while at < end:
        start = at
        tag, at = _varint(data, at, end)
        kind = tag & 7
        if kind == _BYTES:
            size, at = _varint(data, at, end)
        elif kind == _VARINT:
            size = _varint(data, at, end)[1] - at
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise DecodeError(f"no protobuf field at byte {start}")
        if at + size > end:
            raise DecodeError(f"the field at byte {start} is cut off")
        yield tag >> 3, start, at, at + size
        at += size


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = data[at]
        value, at = value | (byte & 127) << shift, at + 1
        if byte < 128:
            return value, at
    raise DecodeError(f"no number at byte {at}")


def _key(field: int, size: int) -> bytes:
    """The start of a field whose content takes `size` bytes."""
    found = bytearray()
    for number in (field << 3 | _BYTES, size):
        while number >= 128:
            found.append(number & 127 | 128)
            number >>= 7
        found.append(number)
    return bytes(found)
