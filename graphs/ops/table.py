"""The one table of ops: SUPPORT A NEW OP = one entry here, its rule in the file of its family, one test row."""

from __future__ import annotations

from collections.abc import Mapping

from mnx.graphs.errors import UnsupportedOp
from mnx.graphs.model import Model, Node
from mnx.graphs.ops.convolution import CONV
from mnx.graphs.ops.elementwise import ADD, CLIP, DROPOUT, LEAKY_RELU, MUL, RELU, SIGMOID, TANH
from mnx.graphs.ops.linear import GEMM
from mnx.graphs.ops.normalisation import BATCH_NORMALIZATION
from mnx.graphs.ops.pooling import AVERAGE_POOL, GLOBAL_AVERAGE_POOL, MAX_POOL
from mnx.graphs.ops.reshaping import CONCAT, FLATTEN
from mnx.graphs.ops.rule import Rule

RULES: Mapping[str, Rule] = {
    "Add": ADD,
    "AveragePool": AVERAGE_POOL,
    "BatchNormalization": BATCH_NORMALIZATION,
    "Clip": CLIP,
    "Concat": CONCAT,
    "Conv": CONV,
    "Dropout": DROPOUT,
    "Flatten": FLATTEN,
    "Gemm": GEMM,
    "GlobalAveragePool": GLOBAL_AVERAGE_POOL,
    "LeakyRelu": LEAKY_RELU,
    "MaxPool": MAX_POOL,
    "Mul": MUL,
    "Relu": RELU,
    "Sigmoid": SIGMOID,
    "Tanh": TANH,
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
