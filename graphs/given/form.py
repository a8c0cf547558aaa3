"""A canonical model as its user's file: opset, file format, names and words of the file, and its float types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

import onnx
from onnx import helper

from mnx.graphs.given.opsets import in_opset
from mnx.graphs.given.place import NeedsOpset
from mnx.graphs.given.types import BFLOAT16_OPSET, in_types
from mnx.graphs.model import OPSET, Array, Model, Origin, Precision
from mnx.graphs.validity import problem

PRECISION = "precision"
"""The metadata key under which a float32 file notes the float types of the model it came from."""
CHANGES = "mnx.changes"
"""The metadata key under which a file in its user's form lists what reading had to change."""
_INPUTS_APART = 4
"""The first file format in which constants need not be inputs as well."""


class Given(NamedTuple):
    """A model without its large weights, these, and in words what could not be written as the user has it."""

    proto: onnx.ModelProto
    arrays: dict[str, Array]
    notes: tuple[str, ...]


def as_given(proto: onnx.ModelProto, arrays: Mapping[str, Array], model: Model, with_types: bool) -> Given:
    """The file that the user gave, with the model's network.

    Where the user's opset cannot say an op, the oldest one that can is taken.

    Args:
        proto: the model in the dialect with its ends, without its large weights; not changed.
        arrays: its large weights.
        model: the model.
        with_types: whether to write the user's float types, too; else float32, with a note in the metadata.

    Raises:
        GraphError: a weight is too large for the user's float type.
    """
    origin, reasons = model.origin, []
    precision = model.precision if with_types else Precision()
    newest = BFLOAT16_OPSET if "bfloat16" in precision else OPSET
    opset = origin.opset
    while True:
        try:
            made, large = in_opset(proto, arrays, opset, model.name)
        except NeedsOpset as need:
            reasons.append(need.why)
            opset = max(need.opset, opset + 1)
            continue
        if precision != Precision():
            in_types(made, large, precision)
        _name_file(made, origin)
        _name_batch(made.graph, origin)
        if made.ir_version < _INPUTS_APART:
            _declare(made, large)
        wrong = problem(made, large)
        if not wrong or opset == newest:
            break
        reasons.append(wrong)
        opset = newest if opset > newest else opset + 1
    notes = (f"written in opset {opset}, not {origin.opset}: {'; '.join(reasons)}",) if reasons else ()
    helper.set_model_props(made, _metadata(model, precision, notes))
    return Given(made, large, notes)


def _name_file(proto: onnx.ModelProto, origin: Origin) -> None:
    """What the file says of itself; a newer opset than the user's may ask for a newer file format."""
    proto.ir_version = origin.ir_version
    if proto.opset_import[0].version != origin.opset:
        proto.ir_version = max(origin.ir_version, helper.find_min_ir_version_for(list(proto.opset_import)))
    proto.producer_name, proto.producer_version = origin.producer, origin.producer_version
    proto.domain, proto.model_version, proto.doc_string = origin.domain, origin.model_version, origin.doc
    proto.graph.name, proto.graph.doc_string = origin.graph or proto.graph.name, origin.graph_doc


def _name_batch(graph: onnx.GraphProto, origin: Origin) -> None:
    """Axis 0 of inputs and outputs as the user has it; where the file did not say, as that of the first input."""
    if not origin.batch:
        return
    first = next(iter(origin.batch.values()))
    for value in (*graph.input, *graph.output):
        axis = value.type.tensor_type.shape.dim[0]
        size = origin.batch.get(value.name, first)
        axis.Clear()
        if isinstance(size, int):
            axis.dim_value = size
        elif size:
            axis.dim_param = size


def _declare(proto: onnx.ModelProto, arrays: Mapping[str, Array]) -> None:
    """Name every weight among the inputs."""
    for tensor in proto.graph.initializer:
        value = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        proto.graph.input.append(value)
    for name, array in arrays.items():
        element_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        proto.graph.input.append(helper.make_tensor_value_info(name, element_type, list(array.shape)))


def _metadata(model: Model, precision: Precision, notes: tuple[str, ...]) -> dict[str, str]:
    origin = model.origin
    stands_elsewhere = {"doc": origin.doc, "exporter": origin.exporter}
    found = {key: text for key, text in model.metadata.items() if stands_elsewhere.get(key) != text}
    if precision != model.precision:
        found[PRECISION] = str(model.precision)
    changes = list(dict.fromkeys([*model.changes, *notes]))
    return {**found, CHANGES: json.dumps(changes)} if changes else found
