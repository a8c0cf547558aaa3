"""The one table of ops: SUPPORT A NEW OP = one entry here, its rule in the file of its family, one test row."""

from __future__ import annotations

from collections.abc import Mapping

from mnx.graphs.errors import UnsupportedOp
from mnx.graphs.model import Model, Node
from mnx.graphs.ops import elementwise, joins, mixing, normalisation, pooling, reshaping, selecting
from mnx.graphs.ops.convolution import CONV, CONV_TRANSPOSE
from mnx.graphs.ops.linear import GEMM, MAT_MUL
from mnx.graphs.ops.rule import Rule

RULES: Mapping[str, Rule] = {
    "Abs": elementwise.ABS,
    "Add": joins.ADD,
    "And": joins.COMPARISON,
    "AveragePool": pooling.AVERAGE_POOL,
    "BatchNormalization": normalisation.BATCH_NORMALIZATION,
    "Cast": elementwise.CAST,
    "Ceil": elementwise.ROUNDING,
    "Celu": elementwise.CELU,
    "Clip": elementwise.CLIP,
    "Concat": reshaping.CONCAT,
    "Conv": CONV,
    "ConvTranspose": CONV_TRANSPOSE,
    "Cos": elementwise.COS,
    "DepthToSpace": reshaping.DEPTH_TO_SPACE,
    "Div": joins.DIV,
    "Dropout": elementwise.DROPOUT,
    "Elu": elementwise.ELU,
    "Equal": joins.COMPARISON,
    "Erf": elementwise.ERF,
    "Exp": elementwise.EXP,
    "Expand": selecting.EXPAND,
    "Flatten": reshaping.FLATTEN,
    "Floor": elementwise.ROUNDING,
    "GRU": mixing.GRU,
    "Gather": selecting.GATHER,
    "Gelu": elementwise.GELU,
    "Gemm": GEMM,
    "GlobalAveragePool": pooling.GLOBAL_AVERAGE_POOL,
    "GlobalLpPool": pooling.GLOBAL_LP_POOL,
    "GlobalMaxPool": pooling.GLOBAL_MAX_POOL,
    "Greater": joins.COMPARISON,
    "GreaterOrEqual": joins.COMPARISON,
    "GroupNormalization": normalisation.GROUP_NORMALIZATION,
    "HardSigmoid": elementwise.HARD_SIGMOID,
    "HardSwish": elementwise.HARD_SWISH,
    "InstanceNormalization": normalisation.INSTANCE_NORMALIZATION,
    "IsNaN": elementwise.TRUTH,
    "LRN": pooling.LRN,
    "LSTM": mixing.LSTM,
    "LayerNormalization": normalisation.LAYER_NORMALIZATION,
    "LeakyRelu": elementwise.LEAKY_RELU,
    "Less": joins.COMPARISON,
    "LessOrEqual": joins.COMPARISON,
    "Log": elementwise.LOG,
    "LogSoftmax": mixing.LOG_SOFTMAX,
    "LpPool": pooling.LP_POOL,
    "MatMul": MAT_MUL,
    "Max": joins.MAX,
    "MaxPool": pooling.MAX_POOL,
    "Min": joins.MIN,
    "Mish": elementwise.MISH,
    "Mul": joins.MUL,
    "Neg": elementwise.NEG,
    "Not": elementwise.TRUTH,
    "Or": joins.COMPARISON,
    "PRelu": elementwise.PRELU,
    "Pad": selecting.PAD,
    "Pow": joins.POW,
    "RNN": mixing.RNN,
    "Reciprocal": elementwise.RECIPROCAL,
    "ReduceL1": pooling.REDUCE_SUM,
    "ReduceL2": pooling.REDUCE_SUM,
    "ReduceMax": pooling.REDUCE_EXTREME,
    "ReduceMean": pooling.REDUCE_MEAN,
    "ReduceMin": pooling.REDUCE_EXTREME,
    "ReduceProd": pooling.REDUCE_SUM,
    "ReduceSum": pooling.REDUCE_SUM,
    "ReduceSumSquare": pooling.REDUCE_SUM,
    "Relu": elementwise.RELU,
    "Reshape": reshaping.RESHAPE,
    "Resize": reshaping.RESIZE,
    "Round": elementwise.ROUNDING,
    "Selu": elementwise.SELU,
    "Sigmoid": elementwise.SIGMOID,
    "Sign": elementwise.ROUNDING,
    "Sin": elementwise.SIN,
    "Slice": selecting.SLICE,
    "Softmax": mixing.SOFTMAX,
    "Softplus": elementwise.SOFTPLUS,
    "Softsign": elementwise.SOFTSIGN,
    "SpaceToDepth": reshaping.SPACE_TO_DEPTH,
    "Sqrt": elementwise.SQRT,
    "Sub": joins.SUB,
    "Tanh": elementwise.TANH,
    "ThresholdedRelu": elementwise.THRESHOLDED_RELU,
    "Transpose": reshaping.TRANSPOSE,
    "Where": joins.WHERE,
}


def rule_of(node: Node, model: Model) -> Rule:
    """The rule of a node's op.

    Raises:
        UnsupportedOp: the table has none.
    """
    rule = RULES.get(node.op)
    if rule is None or node.domain:
        where = model.source.name if model.source else model.name
        op = f"{node.domain}.{node.op}" if node.domain else node.op
        raise UnsupportedOp(
            f"{op} (node '{node.name}' of {where}) has no rule; 'mnx ops' lists what has. To add one: graphs/ops/."
        )
    return rule
