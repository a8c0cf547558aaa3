"""The one table of lowerings: op -> what is differentiated in its place. Others are differentiated as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import shape_inference

from mnx.graphs.model import Model, Port
from mnx.graphs.proto import inferable, to_proto
from mnx.graphs.shapes import shapes
from mnx.train.lowering import (
    activations,
    convolution,
    elementwise,
    normalisation,
    pooling,
    recurrent,
    reductions,
    reshaping,
)
from mnx.train.lowering.draft import Draft, Lowering, Mask

_SMALL = 8
"""Float constants of up to this many elements may decide a shape (the scales of a Resize)."""
_BATCH = 7919
"""A batch size that no other extent is: what depends on it can be told from what does not."""

LOWERINGS: Mapping[str, Lowering] = {
    "AveragePool": pooling.average_pool,
    "BatchNormalization": normalisation.batch_normalization,
    "Ceil": elementwise.rounding,
    "Celu": activations.celu,
    "Conv": convolution.conv,
    "ConvTranspose": convolution.conv_transpose,
    "DepthToSpace": reshaping.depth_to_space,
    "Dropout": activations.dropout,
    "Elu": activations.elu,
    "Floor": elementwise.rounding,
    "GRU": recurrent.recurrent,
    "Gelu": activations.gelu,
    "GlobalLpPool": pooling.global_lp_pool,
    "GlobalMaxPool": pooling.global_max_pool,
    "GroupNormalization": normalisation.group_normalization,
    "HardSigmoid": activations.hard_sigmoid,
    "HardSwish": activations.hard_swish,
    "InstanceNormalization": normalisation.instance_normalization,
    "LRN": normalisation.local_response_normalization,
    "LSTM": recurrent.recurrent,
    "LayerNormalization": normalisation.layer_normalization,
    "LpPool": pooling.lp_pool,
    "MaxPool": pooling.max_pool,
    "Mish": activations.mish,
    "PRelu": activations.prelu,
    "Pad": reshaping.pad,
    "Pow": elementwise.power,
    "RNN": recurrent.recurrent,
    "ReduceL1": reductions.reduce_l1,
    "ReduceL2": reductions.reduce_l2,
    "ReduceMax": reductions.reduce_extreme,
    "ReduceMin": reductions.reduce_extreme,
    "ReduceProd": reductions.reduce_prod,
    "ReduceSumSquare": reductions.reduce_sum_square,
    "Resize": reshaping.resize,
    "Round": elementwise.rounding,
    "Selu": activations.selu,
    "Sign": elementwise.rounding,
    "Slice": reshaping.cut,
    "Softplus": activations.softplus,
    "Softsign": activations.softsign,
    "SpaceToDepth": reshaping.space_to_depth,
    "ThresholdedRelu": activations.thresholded_relu,
    "Where": elementwise.where,
}
FROZEN: Mapping[str, Lowering] = {**LOWERINGS, "BatchNormalization": normalisation.frozen_batch_normalization}
"""The same where BatchNormalization keeps its running statistics and normalises by them."""


@dataclass(frozen=True)
class Lowered:
    """A model that can be differentiated.

    `statistics` says for every running statistic which value of the graph is the new one; `masks` are the inputs that
    were added to the model's own, in node order.
    """

    model: Model
    statistics: Mapping[str, str]
    masks: tuple[Mask, ...]


def lowered(model: Model, frozen: bool = False) -> Lowered:
    """The model as it is differentiated; the argument is not changed.

    Args:
        model: a canonical model.
        frozen: normalise by the running statistics in every BatchNormalization, and leave them as they are.

    Raises:
        GraphError: a shape is not known.
    """
    table = FROZEN if frozen else LOWERINGS
    draft = Draft(shapes(model, _BATCH), _open_shapes(model), table, weights=dict(model.weights))
    for node in model.nodes:
        draft.lower(node)
    inputs = (*model.inputs, *(Port(mask.name, "float32", mask.shape) for mask in draft.masks))
    body = model.replace(inputs=inputs, nodes=tuple(draft.nodes), weights=draft.weights, head=())
    return Lowered(body, draft.statistics, tuple(draft.masks))


def _open_shapes(model: Model) -> frozenset[str]:
    """The values whose shape beside the batch ONNX Runtime may not know, which does not compute with sizes."""
    by_shape = [name for name, array in model.weights.items() if array.dtype.kind == "f" and array.size > _SMALL]
    proto = inferable(to_proto(model, by_shape))
    found = shape_inference.infer_shapes(proto).graph.value_info
    known = {value.name for value in found if _is_known(value)} | {port.name for port in model.inputs}
    return frozenset(name for node in model.nodes for name in node.outputs if name and name not in known)


def _is_known(value: onnx.ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    return tensor.HasField("shape") and all(axis.HasField("dim_value") for axis in tensor.shape.dim[1:])
