"""The door: reading and writing ONNX files."""

from __future__ import annotations

from mnx.graphs.proto import to_proto

__all__ = ["to_proto"]
