"""Random ensembles of every kind of network that grows, for properties that must hold of all of them."""

from collections.abc import Mapping, Sequence

import numpy as np
from activated import branched, convolutional, dense, gated, perceptron, post_norm
from hand_made import Net
from hypothesis import strategies as st
from strategies import bottlenecks, inceptions, mlps, resnets, separables, vggs

from mnx.graphs.model import Model
from mnx.graphs.zoo import layers

Ensembles = st.SearchStrategy[list[Model]]

NORMED = range(7, 14)
"""Channels before a LayerNormalization. Fewer are, in one of some thousand tokens, nearly equal: then their variance is
small beside their squared mean, and ONNX Runtime, which takes it as the mean of squares less the square of the mean,
loses in float32 what the certificate asks for. In double precision narrower ones grow as exactly (see `test_heads`)."""


def named(nets: st.SearchStrategy[Model]) -> Ensembles:
    """Two or three networks under names of their own."""
    return st.lists(nets, min_size=2, max_size=3).map(
        lambda members: [member.replace(name=f"m{number}") for number, member in enumerate(members)]
    )


def _branches() -> st.SearchStrategy[list[tuple[int, int]]]:
    return st.lists(st.tuples(st.integers(1, 4), st.sampled_from([1, 3])), min_size=2, max_size=3)


@st.composite
def coded(draw: st.DrawFn) -> list[Model]:
    """Perceptrons and convolutions whose activation is no identity, the deeper ones with room for pairs."""
    activation = draw(st.sampled_from(["Gelu", "Silu", "HardSwish", "Softplus", "LeakyRelu"]))
    wide = st.integers(8, 11)
    if draw(st.booleans()):
        nets = st.lists(wide, max_size=2).map(lambda rest: perceptron("p", [*rest, 4], activation))
    else:
        norm = draw(st.booleans())
        nets = st.lists(wide, max_size=2).map(lambda rest: convolutional("c", [[*rest, 4], [3]], activation, norm=norm))
    return draw(named(nets))


@st.composite
def averaged(draw: st.DrawFn) -> list[Model]:
    """Residual perceptrons that normalise over their channels, and convolutions that normalise over blocks of them."""
    if draw(st.booleans()):
        plain = st.tuples(st.sampled_from(NORMED), st.integers(1, 2), st.booleans())
        return draw(named(plain.map(lambda drew: pre_norm("t", *drew))))
    groups = draw(st.integers(1, 3))
    return draw(named(st.integers(1, 4).map(lambda times: group_normed("g", groups, 2 * times * groups))))


def pre_norm(name: str, width: int, depth: int, scaled: bool) -> Model:
    """Perceptron blocks with LayerNormalization before them, with or without layer scale."""
    net = Net(name)

    def one(value: float) -> str:
        return net.builder.weight("affine", np.full(width, value, np.float32))

    def norm(x: str) -> str:
        return net.builder.add("LayerNormalization", x, one(1.0), one(0.0), axis=-1)

    flat = net.builder.add("Flatten", layers.INPUT, axis=1)
    x = layers.gemm(net.builder, net.fill, flat, 32, width, name="stem")
    for number in range(depth):
        y = layers.gemm(net.builder, net.fill, norm(x), width, 2 * width, name=f"up{number}")
        y = layers.gemm(net.builder, net.fill, net.builder.add("Gelu", y), 2 * width, width, name=f"down{number}")
        x = net.builder.add("Add", x, net.builder.add("Mul", y, one(0.5)) if scaled else y)
    return net.done(layers.gemm(net.builder, net.fill, norm(x), width, 3, name="head", output=layers.LOGITS), (3,))


def group_normed(name: str, groups: int, width: int) -> Model:
    """Two convolutions with GroupNormalization."""
    net = Net(name)
    x = layers.INPUT
    for _ in range(2):
        x = net.conv(x, width)
        scale, shift = (net.builder.weight("affine", np.full(width, value, np.float32)) for value in (1, 0))
        x = net.relu(net.same(x, net.builder.add("GroupNormalization", x, scale, shift, num_groups=groups)))
    return net.finish(x)


def rescaled(model: Model, number: float) -> Model:
    """Attention that multiplies its scores by another number."""
    scales = {name: array for name, array in model.weights.items() if name.startswith("scale")}
    return model.with_weights({name: np.full(array.shape, number, array.dtype) for name, array in scales.items()})


def attending(
    name: str, width: int, heads: int, depth: int, size: int | Sequence[int] = 4, joined: bool = False
) -> Model:
    """Self-attention over the four rows of an image, normalised before each block.

    Heads have `size` channels, in all blocks or in each its own, and scores are scaled by its root; queries, keys and
    values come from one layer if `joined`.
    """
    net = Net(name)
    build = net.builder

    def constant(*sizes: int) -> str:
        return build.weight("shape", np.array(sizes, np.int64))

    def norm(x: str) -> str:
        scale, shift = (build.weight("affine", np.full(width, value, np.float32)) for value in (1, 0))
        return build.add("LayerNormalization", x, scale, shift, axis=-1)

    def linear(x: str, given: int, made: int) -> str:
        weight = build.weight("linear.weight", net.fill.normal((given, made), given))
        return build.add("Add", build.add("MatMul", x, weight), build.weight("linear.bias", np.ones(made, np.float32)))

    def split(x: str, size: int, order: tuple[int, ...]) -> str:
        return build.add("Transpose", build.add("Reshape", x, constant(0, 4, heads, size)), perm=order)

    def parts(y: str, size: int) -> tuple[str, str, str]:
        orders = ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3))
        if not joined:
            queries, keys, values = (split(linear(y, width, size * heads), size, order) for order in orders)
            return queries, keys, values
        every = build.add("Reshape", linear(y, width, 3 * size * heads), constant(0, 4, 3, heads, size))
        every = build.add("Transpose", every, perm=(2, 0, 3, 1, 4))
        queries, keys, values = (
            build.add("Gather", every, build.weight("place", np.array(place, np.int64)), axis=0) for place in range(3)
        )
        return queries, build.add("Transpose", keys, perm=(0, 1, 3, 2)), values

    x = build.add("Reshape", layers.INPUT, constant(0, 4, 8))
    x = linear(x, 8, width)
    for own in (size,) * depth if isinstance(size, int) else size:
        queries, keys, values = parts(norm(x), own)
        root = build.weight("scale", np.array(own**-0.5, np.float32))
        scores = build.add("Mul", build.add("MatMul", queries, keys), root)
        mixed = build.add("MatMul", build.add("Softmax", scores, axis=-1), values)
        mixed = build.add("Reshape", build.add("Transpose", mixed, perm=(0, 2, 1, 3)), constant(0, 4, own * heads))
        x = build.add("Add", x, linear(mixed, own * heads, width))
    x = build.add("ReduceMean", norm(x), build.weight("axes", np.array([1], np.int64)), keepdims=0)
    return net.done(layers.gemm(build, net.fill, x, width, 3, name="head", output=layers.LOGITS), (3,))


_PLAN = st.lists(st.tuples(st.integers(2, 5), st.sampled_from(["", "before", "behind"])), min_size=1, max_size=2)
_DENSE = st.tuples(st.integers(1, 5), st.lists(st.integers(1, 4), min_size=1, max_size=3))

KINDS: Mapping[str, Ensembles] = {
    "perceptrons": mlps(3),
    "VGG": vggs(3),
    "residual": resnets(3),
    "bottlenecks": bottlenecks(3),
    "branches": inceptions(3),
    "depthwise and grouped": separables(3),
    "dense": named(_DENSE.map(lambda drew: dense("d", *drew))),
    "further branches": named(st.tuples(st.integers(1, 5), _branches()).map(lambda d: branched("c", d[0], [d[1]]))),
    "gates": named(_PLAN.map(lambda plan: gated("g", plan))),
    "coded": coded(),
    "averaged": averaged(),
    "post-norm": named(st.tuples(st.sampled_from([8, 16, 32]), st.integers(1, 3)).map(lambda d: post_norm("n", *d))),
    "attention": named(
        st.tuples(st.sampled_from(NORMED), st.integers(1, 3), st.integers(1, 2)).map(lambda d: attending("a", *d))
    ),
    "wider heads": st.tuples(st.integers(1, 3), st.booleans()).flatmap(
        lambda fixed: named(
            st.tuples(st.sampled_from(NORMED), st.integers(1, 2), st.integers(2, 6)).map(
                lambda d: attending("w", d[0], fixed[0], d[1], d[2], fixed[1])
            )
        )
    ),
}
"""Kind -> ensembles of it; nearly all have a mother."""
