"""Freeing the batch axis, and the shapes of all values: found by shape inference at two batch sizes, 7 and 11.

A value that is the same at both sizes is a constant. In the target of a Reshape an entry that changes with the batch
becomes 0 (copy the input's axis) in front and -1 elsewhere. A model written for one batch size b has b baked into its
Reshape targets: target[0] = b over an input whose axis 0 is b becomes 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, shape_inference

from mnx.graphs.canonical.batch_indices import plain_indices
from mnx.graphs.canonical.batch_only import batch_only, spread
from mnx.graphs.canonical.draft import SMALL, Draft, Extent
from mnx.graphs.canonical.folding import computable, computed, measured
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Array, Shape
from mnx.graphs.proto import BATCH, inferable
from mnx.graphs.suggest import one_line

_SIZES = (7, 11)


@dataclass(frozen=True)
class Trace:
    """What shape inference finds at one batch size: shapes and element types, and the small values they decide."""

    shapes: dict[str, Shape]
    types: dict[str, int]
    values: dict[str, Array]


def free_batch(draft: Draft) -> None:
    """Give every input an open batch axis, resolve shape arithmetic, and note the shapes of all values, in place.

    Raises:
        GraphError: inputs differ in their batch size, a batch size is built in where it cannot be freed, or an output
            does not have the batch as axis 0.
    """
    baked = _baked_batch(draft)
    if baked is not None:
        _unbake(draft, baked)
    try:
        first, second = (trace(draft, size) for size in _SIZES)
    except shape_inference.InferenceError as error:
        if baked is None:
            raise GraphError(f"shapes of {draft.name} do not fit together: {one_line(error)}") from error
        raise GraphError(
            f"{draft.name} only works for batches of {baked}: its batch size is built into it ({one_line(error)}); "
            "export it with a dynamic batch axis"
        ) from error
    _resolve(draft, first, second)
    draft.shapes = {
        name: tuple(_extent(one, other) for one, other in zip(shape, second.shapes[name], strict=True))
        for name, shape in first.shapes.items()
        if len(second.shapes.get(name, ())) == len(shape)
    }
    draft.types = dict(first.types)
    alone = batch_only(draft, first.values, first.shapes)
    plain_indices(draft, alone, first.shapes, _SIZES[0])
    spread(draft, alone, first.shapes, _SIZES[0])
    for value in draft.outputs:
        _check_output(draft, value.name)


def trace(draft: Draft, batch: int) -> Trace:
    """Shapes at one batch size; shapes and what is computed from them become known in turns until nothing new does."""
    small = {name: array for name, array in draft.constants.items() if array.size <= SMALL}
    values: dict[str, Array] = {}
    while True:
        proto = inferable(draft.proto(values, batch))
        inferred = shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True).graph
        tensors = {
            value.name: value.type.tensor_type for value in (*inferred.input, *inferred.value_info, *inferred.output)
        }
        shapes = {name: array.shape for name, array in {**draft.constants, **values}.items()}
        shapes |= {
            name: tuple(axis.dim_value for axis in tensor.shape.dim)
            for name, tensor in tensors.items()
            if tensor.HasField("shape") and all(axis.HasField("dim_value") for axis in tensor.shape.dim)
        }
        found: dict[str, Array] = {}
        for node in draft.nodes:
            if any(name in values for name in node.output):
                continue
            known = {**small, **values, **found}
            if node.op_type in ("Shape", "Size") and node.input[0] in shapes:
                found[node.output[0]] = measured(node, shapes[node.input[0]])
            elif node.op_type == "CastLike" and node.input[0] in known and node.input[1] in tensors:
                element_type = tensors[node.input[1]].elem_type
                found[node.output[0]] = known[node.input[0]].astype(helper.tensor_dtype_to_np_dtype(element_type))
            elif computable(node, known) and all(np.prod(shapes.get(name, (1,))) <= SMALL for name in node.output):
                found |= computed(node, known)
        if not found:
            return Trace(shapes, {name: tensor.elem_type for name, tensor in tensors.items()}, values)
        values |= found


def _baked_batch(draft: Draft) -> int | None:
    sizes = {value.name: value.type.tensor_type.shape.dim[0] for value in draft.inputs}
    fixed = {name: size.dim_value for name, size in sizes.items() if size.HasField("dim_value")}
    if fixed and len(fixed) < len(sizes):
        raise GraphError(
            f"the batch of {draft.name} is open in {', '.join(map(repr, sizes.keys() - fixed.keys()))} but fixed in "
            f"{', '.join(map(repr, fixed))}: where those are constants that the exporter left as inputs, store their "
            "values as initializers (or export with another exporter); else export with a dynamic batch axis throughout"
        )
    if len(set(fixed.values())) > 1:
        listed = ", ".join(f"{name!r}: {size}" for name, size in fixed.items())
        raise GraphError(f"the inputs of {draft.name} have different batch sizes ({listed}): axis 0 must be the batch")
    return next(iter(fixed.values()), None)


def _unbake(draft: Draft, batch: int) -> None:
    try:
        found = trace(draft, batch)
    except shape_inference.InferenceError as error:
        raise GraphError(f"shapes of {draft.name} do not fit together: {one_line(error)}") from error
    known = {**draft.constants, **found.values}
    for node in draft.nodes:
        if node.op_type != "Reshape" or node.input[1] not in known or node.input[0] not in found.shapes:
            continue
        target, given = known[node.input[1]], found.shapes[node.input[0]]
        if target.size and given and target[0] == batch == given[0]:
            _retarget(draft, node, [0, *target.tolist()[1:]])


def _resolve(draft: Draft, first: Trace, second: Trace) -> None:
    for node in draft.nodes:
        if node.op_type != "Reshape" or not all(node.input[1] in found.values for found in (first, second)):
            continue
        if np.array_equal(first.values[node.input[1]], second.values[node.input[1]]):
            continue
        source, result = (
            [found.shapes.get(name) for found in (first, second)] for name in (node.input[0], node.output[0])
        )
        one, other = result
        if one is None or other is None or len(one) != len(other):
            raise draft.error(node, "has a target that changes with the batch and a result whose shape is not known")
        target = [a if a == b else -1 for a, b in zip(one, other, strict=True)]
        if target.count(-1) > 1:
            raise draft.error(node, f"has a target that changes with the batch in several places: {list(one)} at 7")
        if target[0] == -1 and [shape[0] if shape else None for shape in source] == [one[0], other[0]]:
            target[0] = 0
        _retarget(draft, node, target)
    for name, value in first.values.items():
        if name in second.values and np.array_equal(value, second.values[name]):
            draft.constants[name] = value
    outputs = {value.name for value in draft.outputs}
    draft.nodes = [
        node
        for node in draft.nodes
        if outputs.intersection(node.output) or not all(name in draft.constants for name in node.output if name)
    ]
    draft.drop_dead()


def _retarget(draft: Draft, node: onnx.NodeProto, target: list[int]) -> None:
    name = f"{node.output[0]}.target"
    draft.constants[name] = np.array(target, dtype=np.int64)
    node.input[1] = name
    kept = [attribute for attribute in node.attribute if attribute.name != "allowzero"]
    del node.attribute[:]
    node.attribute.extend(kept)


def _extent(one: int, other: int) -> Extent:
    if one == other:
        return one
    count, rest = divmod(one, _SIZES[0])
    if rest or count * _SIZES[1] != other:
        return "unknown"
    return BATCH if count == 1 else f"{count}*{BATCH}"


def _check_output(draft: Draft, name: str) -> None:
    shape = draft.shapes.get(name)
    if shape is None:
        raise GraphError(f"the shape of output {name!r} of {draft.name} is not known before the model runs")
    if not shape or shape[0] != BATCH or not all(isinstance(size, int) for size in shape[1:]):
        raise GraphError(
            f"output {name!r} of {draft.name} has shape {shape}: its axis 0 must be the batch, and only that; "
            "if the batch size was fixed at export, export with a dynamic batch axis"
        )
