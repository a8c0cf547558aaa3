"""From any ONNX model to a `Draft`: functions inlined, constants gathered, foreign ops refused, the opset converted."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import PassError
from onnx_ir.passes import common as steps

from mnx.graphs.canonical.branches import resolve_branches
from mnx.graphs.canonical.classical import expand_classical
from mnx.graphs.canonical.draft import SMALL, Draft, live
from mnx.graphs.canonical.fused import MICROSOFT, expand_fused
from mnx.graphs.canonical.precision import in_float32
from mnx.graphs.canonical.refusals import refuse_foreign, refuse_inputs
from mnx.graphs.canonical.sequences import resolve_sequences
from mnx.graphs.canonical.stochastic_depth import stochastic_depth
from mnx.graphs.canonical.versions import converted
from mnx.graphs.errors import GraphError
from mnx.graphs.model import OPSET, Array
from mnx.graphs.suggest import one_line
from mnx.graphs.wire import mapped

_ALIKE = 13
"""From this opset on an op that stays valid under another version stays the same op (Softmax changed before)."""

_ANY_CONSTANT = 0
_INPUTS_APART = 4
"""The first file format in which constants need not be inputs as well."""
_LAYER_NORM = 17
_BYTE = 8
SUFFIX = ".onnx"


def opened(model: ir.Model, name: str) -> Draft:
    """A draft of the model, which is used up.

    Raises:
        GraphError: external data cannot be read, functions cannot be inlined, an op cannot be held by the dialect, or
            the opset cannot be converted.
    """
    version = model.opset_imports.get("", model.opset_imports.get("ai.onnx", OPSET))
    try:
        _inline(model, version, name)
        arrays = _take_large(model, name)
        proto = ir.to_proto(model)
        proto.ir_version = max(proto.ir_version, _INPUTS_APART)
    except PassError as error:
        raise GraphError(f"the functions of {name} cannot be inlined: {one_line(error)}") from error
    except ir.serde.SerdeError as error:
        raise GraphError(f"{name} is damaged ({one_line(error)}): export or copy it again") from error
    changes = [*_drop_statistics(proto.graph), *_name_by_domain(proto, version), *resolve_branches(proto)]
    graph = proto.graph
    resolve_sequences(graph)
    kept = live(graph.node, [value.name for value in graph.output])
    del graph.node[:]
    graph.node.extend(kept)
    del graph.value_info[:]
    refuse_foreign(graph, name)
    refuse_inputs([value for value in graph.input if value.name not in arrays], name)
    _check(proto, name)
    proto = converted(proto, version, name)
    graph = proto.graph
    expand_classical(graph)
    expand_fused(proto, arrays, name)
    precision, change = in_float32(graph, arrays)
    lifted = _lift(graph)
    small = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    constants = {**arrays, **small, **lifted}
    inputs = [value for value in graph.input if value.name not in constants]
    draft = Draft(name, list(graph.node), inputs, list(graph.output), constants, precision=precision)
    draft.changes = (*changes, *change)
    draft.drop_dead()
    stochastic_depth(draft)
    return draft


def _name_by_domain(proto: onnx.ModelProto, version: int) -> tuple[str, ...]:
    """Give the ops that onnxruntime writes under ONNX's name the domain that is theirs, in place."""
    for node in proto.graph.node:
        older = node.op_type == "LayerNormalization" and version < _LAYER_NORM
        if node.domain in ("", "ai.onnx") and (older or node.op_type == "SimplifiedLayerNormalization"):
            node.domain = MICROSOFT
    if any(node.domain == MICROSOFT for node in proto.graph.node):
        domains = {opset.domain for opset in proto.opset_import}
        if MICROSOFT not in domains:
            proto.opset_import.append(onnx.helper.make_opsetid(MICROSOFT, 1))
        return (f"fused ops of {MICROSOFT} written in ONNX's own",)
    return ()


def _check(proto: onnx.ModelProto, name: str) -> None:
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        raise GraphError(f"{name} is not valid ONNX: {one_line(error)}; export it again") from error


def _inline(model: ir.Model, version: int, name: str) -> None:
    for function in model.functions.values():
        own = function.opset_imports.get("", version)
        if own != version and min(own, version) < _ALIKE:
            raise GraphError(
                f"function {function.name!r} of {name} is in opset {own}, the model in {version}: "
                f"export both in one opset"
            )
        for domain in function.opset_imports:
            model.opset_imports.setdefault(domain, function.opset_imports[domain])
            function.opset_imports[domain] = model.opset_imports[domain]
    for step in (
        steps.InlinePass(),
        steps.TopologicalSortPass(),
        steps.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=_ANY_CONSTANT),
        steps.RemoveInitializersFromInputsPass(),
    ):
        step(model)


def _drop_statistics(graph: onnx.GraphProto) -> tuple[str, ...]:
    """Training exports may give out the updated statistics of a BatchNormalization: they are no results."""
    statistics = {name for node in graph.node if node.op_type == "BatchNormalization" for name in node.output[1:]}
    dropped = [value.name for value in graph.output if value.name in statistics]
    kept = [value for value in graph.output if value.name not in statistics]
    del graph.output[:]
    graph.output.extend(kept)
    return (f"outputs that give running statistics dropped: {', '.join(dropped)}",) if dropped else ()


def _take_large(model: ir.Model, name: str) -> dict[str, Array]:
    """Constants above `SMALL` elements or in other files; they become inputs, so that the model stays light."""
    taken: dict[str, Array] = {}
    for value in list(model.graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or value.name is None or _stays(tensor):
            continue
        taken[value.name] = _array(tensor, name)
        value.type = ir.TensorType(tensor.dtype)
        value.shape = ir.Shape(int(size) for size in tensor.shape.numpy())
        model.graph.initializers.pop(value.name)
        value.const_value = None
        model.graph.inputs.append(value)
    return taken


def _lift(graph: onnx.GraphProto) -> dict[str, Array]:
    """The tensors of Constant nodes (the version converter writes some), which are taken out."""
    made = {node.output[0]: node for node in graph.node if node.op_type == "Constant"}
    kept = [node for node in graph.node if node.op_type != "Constant"]
    del graph.node[:]
    graph.node.extend(kept)
    return {name: onnx.numpy_helper.to_array(node.attribute[0].t) for name, node in made.items()}


def _stays(tensor: ir.TensorProtocol) -> bool:
    return tensor.size <= SMALL and not isinstance(tensor, ir.ExternalTensor)


def _array(tensor: ir.TensorProtocol, name: str) -> Array:
    """The numbers of a tensor; those of another file stay there until they are used."""
    if not isinstance(tensor, ir.ExternalTensor):
        return tensor.numpy()
    try:
        path, dtype = Path(tensor.path), tensor.dtype.numpy()
        if not Path(os.path.abspath(path)).is_relative_to(os.path.abspath(tensor.base_dir)):  # noqa: PTH100 - links stay
            raise ValueError("it lies outside of the model's folder")
        if tensor.dtype.bitwidth != dtype.itemsize * _BYTE:
            return np.array(tensor.numpy())
        shape = tuple(int(size) for size in tensor.shape.numpy())
        return mapped(path, dtype, shape, tensor.offset or 0, own=path.suffix == SUFFIX)
    except (OSError, ValueError) as error:
        raise GraphError(
            f"weight {tensor.name!r} of {name} in the file {str(tensor.location)!r} cannot be read "
            f"({one_line(error)}): put the data file that belongs to the model beside it, or export the model again"
        ) from error
