"""Networks of every kind that the tests of growth ask something of, and a growth measured on them."""

from collections.abc import Mapping

from hand_made import Net, inception, residual
from reading import network
from strategies import Array, batch_for, trained

from mnx.graphs.canonical.canonicalise import canonicalise
from mnx.graphs.growth.grown import grown
from mnx.graphs.growth.hatch import Hatched
from mnx.graphs.growth.request import Request, request
from mnx.graphs.model import Model
from mnx.graphs.run import run
from mnx.graphs.trees.describe import describe
from mnx.graphs.verify import difference
from mnx.graphs.zoo import layers
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import vgg


def separable() -> Model:
    """A depthwise convolution between two plain ones, then one in two groups."""
    net = Net("separable")
    x = net.conv_relu(layers.INPUT, 4)
    x = net.conv_relu(net.relu(net.blocks(x, 4, 4)), 6, 1)
    return net.finish(net.relu(net.blocks(x, 2, 6)))


SIGNAL = """
signal (float[batch, 3, 12] x, float[4, 3, 3] w, float[4] b, float[5, 4, 2] v, float[5] c, float[3, 5] h) =>
       (float[batch, 3] y) {
    a = Conv <dilations = [2], pads = [2, 2]> (x, w, b)
    r = Relu (a)
    s = Conv <pads = [0, 1], strides = [2]> (r, v, c)
    t = Relu (s)
    p = GlobalAveragePool (t)
    f = Flatten (p)
    y = Gemm <transB = 1> (f, h)
}"""

ATTENTION = """
attention (float[batch, 5, 6] x, float[6, 8] e, float[8] n, float[8] o, float[8, 24] w, float[24] b, float[8, 8] p,
           float[8] q, float[8] m, float[8] l, float[8, 12] u, float[12] c, float[12, 8] d, float[8] f, float[3, 8] h)
           => (float[batch, 3] y) <int64[5] sizes = {0, 5, 3, 2, 4}, int64[3] joined = {0, 5, 8}, int64[1] tokens = {1},
           int64 first = {0}, int64 second = {1}, int64 third = {2}> {
    z = MatMul (x, e)
    z1 = LayerNormalization <axis = -1> (z, n, o)
    z2 = MatMul (z1, w)
    z3 = Add (z2, b)
    z4 = Reshape (z3, sizes)
    z5 = Transpose <perm = [2, 0, 3, 1, 4]> (z4)
    query = Gather <axis = 0> (z5, first)
    key = Gather <axis = 0> (z5, second)
    value = Gather <axis = 0> (z5, third)
    turned = Transpose <perm = [0, 1, 3, 2]> (key)
    scores = MatMul (query, turned)
    shares = Softmax <axis = -1> (scores)
    mixed = MatMul (shares, value)
    z6 = Transpose <perm = [0, 2, 1, 3]> (mixed)
    z7 = Reshape (z6, joined)
    z8 = MatMul (z7, p)
    z9 = Add (z8, q)
    s = Add (z, z9)
    s1 = LayerNormalization <axis = -1> (s, m, l)
    s2 = MatMul (s1, u)
    s3 = Add (s2, c)
    s4 = Relu (s3)
    s5 = MatMul (s4, d)
    s6 = Add (s5, f)
    t = Add (s, s6)
    t1 = ReduceMean <keepdims = 0> (t, tokens)
    y = Gemm <transB = 1> (t1, h)
}"""


def written(text: str, name: str) -> Model:
    """The network of a text, in canonical form."""
    return canonicalise(network(text), name)


NETWORKS: Mapping[str, Model] = {
    "mlp": mlp("mlp", 4, (5, 6), 3),
    "mlp with norms": mlp("mlp", 4, (5,), 3, batch_norm=True),
    "vgg": vgg("vgg", [[(3, 4)], [(3, 6)]], 3, (2, 8, 8), (5,)),
    "vgg with norms": vgg("vgg", [[(3, 4)], [(3, 6)]], 3, (2, 8, 8), (5,), batch_norm=True),
    "resnet": resnet("resnet", (1, 2), 4, 3, (2, 8, 8)),
    "projected": residual("projected", 4, [(4, False), (6, True)]),
    "inception": inception("inception", 3, 2, 4),
    "separable": separable(),
    "signal": written(SIGNAL, "signal"),
    "attention": written(ATTENTION, "attention"),
}


def shapes_of(model: Model) -> dict[str, tuple[int, ...]]:
    """The shape of every weight that is multiplied with, by node."""
    return {
        op.name: p.shape for op in describe(model).ops() for p in op.parameters if p.kind.value in ("weight", "table")
    }


def batches(model: Model, seed: int = 0) -> dict[str, Array]:
    """Two named batches."""
    return {"random": batch_for(model, seed + 1), "real": batch_for(model, seed + 2, 24)}


def grow(
    model: Model, widths: str = "", depths: str = "", kernels: str = "", like: Model | None = None
) -> tuple[Model, Hatched]:
    """A trained network and what it has grown to; what is asked is written with spaces between."""
    mother = trained(model)
    return mother, grown(mother, asked(widths, depths, kernels, like), batches(mother), "real")


def asked(widths: str = "", depths: str = "", kernels: str = "", like: Model | None = None) -> Request:
    """A request, its texts with spaces between."""
    return request(widths.split(), depths.split(), kernels.split(), like)


def equal(mother: Model, member: Model, seed: int = 9) -> bool:
    """Whether two networks give the same on inputs that no certificate has seen."""
    x = batch_for(mother, seed)
    left, right = (next(iter(run(model, x).values())) for model in (mother, member))
    return difference(left, right).passed
