"""For every op that carries channels, a small network in which it stands between two layers whose widths grow."""

from collections.abc import Callable, Mapping

import numpy as np
from reading import network
from strategies import trained

from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.growth.hatch import hatch
from mnx.graphs.model import Array, Model
from mnx.graphs.mothers.carve import drawn, resized
from mnx.graphs.trees.describe import describe

IMAGES = """
net (float[batch, 3, 4, 4] x, float[8, 3, 1, 1] w, float[8] wb, float[8, 3, 1, 1] s, float[8] sb, float[6, 8, 3, 3] v,
     float[6] vb, float[8] p, float[8] q, float[8] m, float[8] variance, float[8, 1, 1] r, float[8, 5, 2, 2] t,
     float[5] u, float[8, 1, 3, 3] z, float[8, 4, 3, 3] g,
     float[8, 8] f, float[3, {taken}] k, float[3] kb) => (float[batch, 3] y)
    <float zero = {{0.0}}, float half = {{0.5}}, float tenth = {{0.1}}, float two = {{2.0}}, float less = {{-1.0}},
     int64[1] rows = {{2}}, int64[1] channels = {{1}}, int64[1] begin = {{0}}, int64[1] from = {{4}},
     int64[1] to = {{8}}, int64[3] target = {{0, 8, 16}}, int64[8] around = {{0, 0, 1, 1, 0, 0, 1, 1}},
     int64[4] sizes = {{1, 8, 4, 4}}, int64[8] pads = {{0, 1, 0, 0, 0, 2, 0, 0}}, float[4] scales = {{1, 1, 2, 2}}> {{
    a = Conv (x, w, wb)
    {body}
    d = GlobalAveragePool (c)
    e = Flatten (d)
    y = Gemm <transB = 1> (e, k, kb)
}}"""
"""Images of 4 x 4: a layer that makes 8 channels a, an op that makes c of them, a layer that reads `taken` channels."""

FLAT = IMAGES.replace("d = GlobalAveragePool (c)\n    e = Flatten (d)", "e = Flatten (c)")
"""The same with a Flatten alone between the op and the layer behind it."""

TOKENS = """
net (float[batch, 5, 6] x, float[6, 8] w, float[8] wb, float[8, 8] v, float[8] vb, float[8, 4] narrow, float[4] nb,
     float[8] p, float[8] q, float[12] long, float[12] row, float[1, 1, 8] token, float[1, 16, 8] lw,
     float[1, 16, 4] lr, float[1, 32] lb, float[1, 12, 8] gw, float[1, 12, 4] gr, float[1, 24] gb, float[1, 4, 8] rw,
     float[1, 4, 4] rr, float[1, 8] rb, float[3, {taken}] k, float[3] kb) => (float[batch, 3] y)
    <int64[1] tokens = {{1}}, int64[4] heads = {{0, 5, 2, 4}}, int64[3] joined = {{0, 5, 8}}, int64[2] rest = {{1, 8}}>
    {{
    o = MatMul (x, w)
    a = Add (o, wb)
    {body}
    e = ReduceMean <keepdims = 0> (c, tokens)
    y = Gemm <transB = 1> (e, k, kb)
}}"""
"""The same for five tokens."""

WORDS = """
net (int64[batch, 5] xids, float[7, 8] table, float[8, 8] w, float[8] wb, float[3, 8] k, float[3] kb)
    => (float[batch, 3] y) <int64[1] tokens = {1}> {
    a = Gather (table, xids)
    b = MatMul (a, w)
    b2 = Add (b, wb)
    c = Tanh (b2)
    e = ReduceMean <keepdims = 0> (c, tokens)
    y = Gemm <transB = 1> (e, k, kb)
}"""
"""The same for five words, looked up in a table."""

HEADS = """b = Reshape (a, heads) queries = Transpose <perm = [0, 2, 1, 3]> (b)
    keys = Transpose <perm = [0, 2, 3, 1]> (b) scores = MatMul (queries, keys) shares = Softmax <axis = -1> (scores)
    mixed = MatMul (shares, queries) turned = Transpose <perm = [0, 2, 1, 3]> (mixed) c = Reshape (turned, joined)"""


GEMM = "b = GlobalAveragePool (a) b2 = Flatten (b) b3 = Gemm <transB = 1> (b2, f, p) c = Relu (b3)"


def recurrent(call: str) -> str:
    return f"""b = Transpose <perm = [1, 0, 2]> (a) b2 = {call} b3 = Squeeze (b2, tokens)
    c = Transpose <perm = [1, 0, 2]> (b3)"""


# fmt: off
ELEMENTWISE = (
    "Abs", "Ceil", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu",
    "Mish", "Neg", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Tanh",
    "ThresholdedRelu",
)
REDUCED = (
    "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
)
# fmt: on

BODIES: Mapping[str, str] = {
    **{op: f"c = {op} (a)" for op in (*ELEMENTWISE, "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")},
    **{op: f"b = Softplus (a) c = {op} (b)" for op in ("Log", "Reciprocal", "Sqrt")},
    **{op: f"b = {op} (a, tenth) c = Cast <to = 1> (b)" for op in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")},
    **{op: f"b = Conv (x, s, sb) c = {op} (a, b)" for op in ("Add", "Sub", "Mul", "Max", "Min")},
    **{op: f"c = {op} <kernel_shape = [2, 2]> (a)" for op in ("MaxPool", "AveragePool", "LpPool")},
    **{op: f"c = {op} (a, rows)" for op in REDUCED},
    "Add, of a parameter": "b = Relu (a) b2 = Add (b, r) c = Tanh (b2)",
    "And": "b = Greater (a, tenth) b2 = Less (a, two) b3 = And (b, b2) c = Cast <to = 1> (b3)",
    "BatchNormalization": "c = BatchNormalization (a, p, q, m, variance)",
    "Cast": "b = Greater (a, tenth) c = Cast <to = 1> (b)",
    "Celu": "c = Celu <alpha = 2.0> (a)",
    "Clip": "c = Clip (a, zero, half)",
    "Concat": "b = Conv (x, s, sb) c = Concat <axis = 1> (a, b)",
    "Conv": "c = Conv <pads = [1, 1, 1, 1]> (a, v, vb)",
    "Conv, depthwise": "b = Conv <pads = [1, 1, 1, 1], group = 8> (a, z, p) c = Relu (b)",
    "Conv, grouped": "c = Conv <pads = [1, 1, 1, 1], group = 2> (a, g, p)",
    "ConvTranspose": "c = ConvTranspose <strides = [2, 2]> (a, t, u)",
    "DepthToSpace": "c = DepthToSpace <blocksize = 2> (a)",
    "Div": "b = Exp (a) b2 = Conv (x, s, sb) c = Div (b2, b)",
    "Dropout": "b = Dropout (a, half) c = Relu (b)",
    "Equal": "b = Floor (a) b2 = Equal (b, zero) c = Cast <to = 1> (b2)",
    "Expand": "b = GlobalAveragePool (a) b2 = Expand (b, sizes) c = Tanh (b2)",
    "GroupNormalization": "b = GroupNormalization <num_groups = 2> (a, p, q) c = Relu (b)",
    "InstanceNormalization": "b = InstanceNormalization (a, p, q) c = Relu (b)",
    "IsNaN": "b = Sqrt (a) b2 = IsNaN (b) c = Cast <to = 1> (b2)",
    "LRN": "c = LRN <size = 3, alpha = 1.0> (a)",
    "Not": "b = Greater (a, tenth) b2 = Not (b) c = Cast <to = 1> (b2)",
    "Or": "b = Less (a, tenth) b2 = Greater (a, two) b3 = Or (b, b2) c = Cast <to = 1> (b3)",
    "PRelu": "c = PRelu (a, r)",
    "Pad": "c = Pad (a, pads)",
    "Pow": "b = Softplus (a) b2 = Conv (x, s, sb) b3 = Tanh (b2) c = Pow (b, b3)",
    "Reshape": "b = Reshape (a, target) c = Tanh (b)",
    "Resize": "c = Resize (a, , scales)",
    "Slice": "b = Slice (a, from, to, channels) c = Tanh (b)",
    "SpaceToDepth": "c = SpaceToDepth <blocksize = 2> (a)",
    "Where": "b = Greater (a, tenth) b2 = Conv (x, s, sb) c = Where (b, b2, a)",
}
FLATTENED: Mapping[str, str] = {"Flatten": "c = Relu (a)", "Gemm": GEMM}
ON_TOKENS: Mapping[str, str] = {
    "GRU": recurrent("GRU <hidden_size = 4> (b, gw, gr, gb)"),
    "LSTM": recurrent("LSTM <hidden_size = 4> (b, lw, lr, lb)"),
    "LayerNormalization": "c = LayerNormalization <axis = -1> (a, p, q)",
    "LogSoftmax": "c = LogSoftmax <axis = 1> (a)",
    "MatMul": "b = Relu (a) b2 = MatMul (b, v) c = Add (b2, vb)",
    "Mul, by a parameter": "b = Tanh (a) b2 = Mul (b, p) c = Tanh (b2)",
    "RNN": recurrent("RNN <hidden_size = 4> (b, rw, rr, rb)"),
    "Expand, of a parameter": """size = Shape <start = 0, end = 1> (x) whole = Concat <axis = 0> (size, rest)
        b = Expand (token, whole) b2 = Concat <axis = 1> (b, a) c = Relu (b2)""",
    "MatMul, heads": HEADS,
    "Reshape, heads": HEADS,
    "Softmax": "b = Softmax <axis = 1> (a) c = Sqrt (b)",
    "Transpose": HEADS,
}
TAKEN = {"Concat": 16, "Conv": 6, "ConvTranspose": 5, "DepthToSpace": 2, "Pad": 11, "Slice": 4, "SpaceToDepth": 32}
TAKEN |= {"Flatten": 128, "GRU": 4, "LSTM": 4, "RNN": 4}


NETWORKS = (*BODIES, *FLATTENED, *ON_TOKENS, "Gather")
"""Their names: an op, and what of it where there are several."""


def op_of(name: str) -> str:
    return name.partition(",")[0]


def network_of(name: str, body: str | None = None, taken: int = 0) -> Model:
    """The trained network of a name, called m; with another body, of so many channels, where one is given."""
    frame = WORDS if name == "Gather" else FLAT if name in FLATTENED else TOKENS if name in ON_TOKENS else IMAGES
    given = {**BODIES, **FLATTENED, **ON_TOKENS}.get(name, "") if body is None else body
    text = frame if name == "Gather" else frame.format(body=given, taken=taken or TAKEN.get(name, 8))
    return trained(canonicalise(network(text), "m"))


def widened(model: Model, width: Callable[[int], int]) -> Model:
    """The network with every channel group at another width and fresh weights, called n."""
    structure = describe(model)
    wide = resized(model, structure, {group: width(old) for group, old in structure.groups.items()})
    return drawn(wide, describe(wide), 0).replace(name="n")


def batch_of(model: Model, seed: int = 1, examples: int = 12) -> Array:
    """A batch of normal inputs, or of words."""
    (port,) = model.inputs
    random = np.random.default_rng(seed)
    if np.dtype(port.dtype).kind == "f":
        return random.standard_normal((examples, *port.shape), np.float32)
    return random.integers(0, 7, (examples, *port.shape)).astype(port.dtype)


def hatches(mother: Model, member: Model) -> bool:
    batch = batch_of(mother)
    return hatch(mother, member, {"real": batch}, "real", 0).certificate.passed
