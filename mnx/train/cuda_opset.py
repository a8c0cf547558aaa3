"""Graphs in the opset that ONNX Runtime's CUDA provider runs on the GPU whole.

ONNX Runtime 1.19 has CUDA kernels of Reshape, Transpose, Shape, Cast, Flatten, Squeeze, Unsqueeze and others for the
versions before opsets 19 to 21 only. Of a graph in opset 21 it runs these on the CPU, between copies from the GPU and
to it. What they mean in float32 has not changed, so that the same graph in opset 18 is the same function.
"""

from __future__ import annotations

from typing import Final

import onnx
from onnx import helper

from mnx.graphs.canonical.fused import MICROSOFT

OPSET: Final = 18
_ONNX: Final = frozenset({"", "ai.onnx"})
_OTHER_MEANING: Final = frozenset({"GroupNormalization"})
"""Ops of opset 18 that mean something else in opset 21: its scale is one for every group there."""
_NEW_VALUES: Final = frozenset(
    {("Pad", b"wrap"), ("Resize", b"half_pixel_symmetric"), ("GridSample", b"linear"), ("GridSample", b"cubic")}
)
"""Ops and values of their attributes that came with opsets 19 and 20."""
_OF_FLOAT8: Final = frozenset({"saturate", "round_mode"})
"""Attributes of Cast and CastLike that came with opset 19 and later, and speak of float8 alone."""
_GELU: Final = {b"none": "Gelu", b"tanh": "FastGelu"}
"""How Gelu approximates -> the op of ONNX Runtime's own that does."""


def for_cuda(proto: bytes) -> bytes:
    """The same graph, of float32 and without subgraphs, in opset 18; as it was where an op is another there."""
    model = onnx.ModelProto.FromString(proto)
    for node in [each for each in model.graph.node if each.domain in _ONNX]:
        if node.op_type in ("Cast", "CastLike"):
            kept = [each for each in node.attribute if each.name not in _OF_FLOAT8]
            del node.attribute[:]
            node.attribute.extend(kept)
        if node.op_type == "Gelu":
            how = next((each.s for each in node.attribute if each.name == "approximate"), b"none")
            node.op_type, node.domain = _GELU[how], MICROSOFT
            del node.attribute[:]
    if not all(_the_same(node) for node in model.graph.node):
        return proto
    domains = {each.domain: each for each in model.opset_import}
    for domain in _ONNX & domains.keys():
        domains[domain].version = min(domains[domain].version, OPSET)
    if MICROSOFT not in domains:
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    return bytes(model.SerializeToString())


def _the_same(node: onnx.NodeProto) -> bool:
    """Whether a node is one of opset 18 with the same meaning; ONNX Runtime's own ops are, in ONNX's domain too."""
    if node.domain not in _ONNX or not onnx.defs.has(node.op_type):
        return True
    if not onnx.defs.has(node.op_type, OPSET):
        return False
    schema = onnx.defs.get_schema(node.op_type, OPSET)
    known = all(
        each.name in schema.attributes
        and (node.op_type, each.s) not in _NEW_VALUES
        and each.type not in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
        for each in node.attribute
    )
    return known and len(node.input) <= schema.max_input and node.op_type not in _OTHER_MEANING
