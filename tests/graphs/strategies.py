"""Random small members for property tests, and what these tests compare."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from hand_made import Net
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from mnx.graphs.model import Model, Shape
from mnx.graphs.mothers.carve import drawn
from mnx.graphs.mothers.mother import mother_of, stand_in
from mnx.graphs.ops.rule import Kind
from mnx.graphs.parameters import parameters
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.structure import Structure
from mnx.graphs.zoo import layers
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import vgg

Array = npt.NDArray[Any]
Outline = list[tuple[str, tuple[tuple[int, ...], ...], tuple[tuple[str, Any], ...]]]

KINDS = ("mlp", "vgg", "resnet")


def examples(count: int) -> settings:
    """Settings of a property that is tried `count` times, always on the same examples."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def mlps(count: int = 3) -> st.SearchStrategy[list[Model]]:
    """Perceptrons of one input and one activation, which have a mother: 1 to `count` of them."""
    hidden = st.lists(st.integers(1, 7), min_size=1, max_size=4)
    return st.tuples(
        st.lists(hidden, min_size=1, max_size=count),
        st.sampled_from([3, 6, (1, 2, 2)]),
        st.booleans(),
    ).map(
        lambda drew: [mlp(f"p{i}", drew[1], widths, 3, batch_norm=drew[2], seed=i) for i, widths in enumerate(drew[0])]
    )


@st.composite
def vggs(draw: st.DrawFn, count: int = 3, mixed: bool = True) -> list[Model]:
    """VGG networks with and without BatchNormalization that have a mother: same poolings, at least one hidden layer."""
    shape: Shape = draw(st.sampled_from([(1, 4, 4), (2, 6, 6), (3, 5, 5)]))
    blocks = draw(st.integers(1, 3))
    layer = st.tuples(st.sampled_from([1, 3, 5]), st.integers(1, 5))
    net = st.tuples(
        st.lists(st.lists(layer, min_size=1, max_size=3), min_size=blocks, max_size=blocks),
        st.lists(st.integers(1, 6), min_size=1, max_size=2),
    )
    same = draw(st.booleans())
    members = []
    for i, (convolutions, hidden) in enumerate(draw(st.lists(net, min_size=1, max_size=count))):
        normal = draw(st.booleans()) if mixed else same
        members.append(vgg(f"v{i}", convolutions, 3, shape, hidden, batch_norm=normal, seed=i))
    return members


@st.composite
def resnets(draw: st.DrawFn, count: int = 3) -> list[Model]:
    """Residual networks of basic blocks with the same number of stages."""
    stages = draw(st.integers(1, 3))
    net = st.tuples(st.lists(st.integers(1, 3), min_size=stages, max_size=stages), st.integers(1, 4))
    return [
        resnet(f"r{i}", blocks, width, 3, (2, 8, 8), seed=i)
        for i, (blocks, width) in enumerate(draw(st.lists(net, min_size=1, max_size=count)))
    ]


@st.composite
def bottlenecks(draw: st.DrawFn, count: int = 3) -> list[Model]:
    """Residual networks whose blocks have one or two layers of any width before the one that is added."""
    layer = st.tuples(st.integers(1, 6), st.sampled_from([1, 3]))
    blocks = st.lists(st.lists(layer, min_size=1, max_size=2), min_size=1, max_size=2)
    net = st.tuples(st.integers(1, 6), blocks)
    members = []
    for i, (stem, found) in enumerate(draw(st.lists(net, min_size=1, max_size=count))):
        written = Net(f"b{i}")
        x = written.conv_relu(layers.INPUT, stem)
        for block in found:
            y = x
            for width, kernel in block:
                y = written.conv_relu(y, width, kernel)
            x = written.relu(written.op("Add", written.conv(y, stem, 1), x))
        members.append(written.finish(x))
    return members


@st.composite
def inceptions(draw: st.DrawFn, count: int = 3) -> list[Model]:
    """Networks of two branches of any depth, joined by Concat, behind a stem."""
    layer = st.tuples(st.integers(1, 5), st.sampled_from([1, 3]))
    branch = st.lists(layer, min_size=1, max_size=2)
    members = []
    for i, (stem, *branches) in enumerate(
        draw(st.lists(st.tuples(st.integers(1, 5), branch, branch), min_size=1, max_size=count))
    ):
        written = Net(f"i{i}")
        x = written.conv_relu(layers.INPUT, stem)
        ends = []
        for found in branches:
            y = x
            for width, kernel in found:
                y = written.conv_relu(y, width, kernel)
            ends.append(y)
        members.append(written.finish(written.concat(*ends)))
    return members


@st.composite
def separables(draw: st.DrawFn, count: int = 3) -> list[Model]:
    """Networks of depthwise and plain convolutions in turn, behind a stem; the last one is in two groups."""
    blocks = st.lists(st.tuples(st.sampled_from([3, 5]), st.integers(1, 6)), min_size=1, max_size=3)
    net = st.tuples(st.integers(2, 5), blocks, st.integers(2, 3))
    members = []
    for i, (stem, found, half) in enumerate(draw(st.lists(net, min_size=1, max_size=count))):
        written = Net(f"s{i}")
        x = written.conv_relu(layers.INPUT, stem)
        for kernel, width in found:
            width = max(2, width)
            x = written.relu(written.blocks(x, written.widths[x], written.widths[x], kernel))
            x = written.conv_relu(x, width, 1)
        x = written.conv_relu(x, 2 * half, 1)
        members.append(written.finish(written.relu(written.blocks(x, 2, 2 * half, 3))))
    return members


def families(count: int = 3) -> st.SearchStrategy[list[Model]]:
    """Members of one kind that have a mother, residual ones with bottlenecks, branches and blocks of channels too."""
    return st.one_of(ensembles(count), bottlenecks(count), inceptions(count), separables(count))


def ensembles(count: int = 3) -> st.SearchStrategy[list[Model]]:
    """Members of one kind that have a mother."""
    return st.one_of(mlps(count), vggs(count), resnets(count))


def planned(members: Sequence[Model]) -> tuple[Model, Structure]:
    """The mother of members, without weights."""
    return mother_of([stand_in(member) for member in members], "mother")


def trained(model: Model, seed: int = 0) -> Model:
    """The model with drawn weights, and biases and statistics as training might leave them."""
    random = np.random.default_rng(seed)
    result = drawn(model, describe(model), seed)
    moved: dict[str, Array] = {}
    for name, kind in parameters(result).items():
        shape = result.weights[name].shape
        if kind is Kind.VARIANCE or kind is Kind.SCALE:
            moved[name] = random.uniform(0.5, 2.0, shape).astype(np.float32)
        elif kind is not Kind.WEIGHT:
            moved[name] = random.normal(0.0, 0.3, shape).astype(np.float32)
    return result.with_weights(moved)


def doubled(model: Model) -> Model:
    """The model with its weights in double precision."""
    arrays = model.weights.items()
    return model.with_weights({name: a.astype(np.float64) for name, a in arrays if a.dtype == np.float32})


def batch_for(model: Model, seed: int, examples: int = 16) -> Array:
    """A batch of normal inputs, float32."""
    return np.random.default_rng(seed).standard_normal((examples, *model.inputs[0].shape), np.float32)


def outline(structure: Structure) -> Outline:
    """Every op with the shapes of its parameters and the attributes that matter."""
    return [(op.op, tuple(p.shape for p in op.parameters), op.matching) for op in structure.ops()]
