"""First weights that hand on what a convolution sees."""

from collections.abc import Callable

import numpy as np
import pytest

from mnx.graphs.model import Model, Node, Port
from mnx.graphs.mothers.identity import identity_like
from mnx.graphs.run import run
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import parse_blocks, vgg


def changed(model: Model) -> set[str]:
    """The weights that are other numbers."""
    other = identity_like(model)
    return {name for name, array in model.weights.items() if not np.array_equal(array, other.weights[name])}


def test_channels_go_through_layers_as_they_came() -> None:
    """Positive ones, which no ReLU stops; others are drawn as before."""
    model = identity_like(vgg("net", parse_blocks("(3:4)x2 (5:6)"), 3, (3, 5, 7), (8,)))
    convolutions = [node for node in model.nodes if node.op == "Conv"]
    last = next(node for node in model.nodes if convolutions[-1].outputs[0] in node.inputs)
    model = model.with_weights({node.inputs[2]: np.zeros_like(model.weights[node.inputs[2]]) for node in convolutions})
    x = np.abs(np.random.default_rng(0).standard_normal((2, 3, 5, 7), np.float32))
    seen = run(model, x, last.outputs)[last.outputs[0]]
    np.testing.assert_array_equal(seen[:, :3], x)
    assert len(convolutions) == 3
    assert np.any(seen[:, 4:])


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            lambda: vgg("net", parse_blocks("(3:4) (3:4) | (3:2) (3:2)"), 3, (3, 8, 8), (8,)),
            {"conv1_1", "conv1_2", "conv2_2"},
        ),
        (lambda: resnet("net", (1, 1), 4, 3, (3, 8, 8)), {"stem"}),
    ],
    ids=["fewer filters", "residual blocks"],
)
def test_what_cannot_hand_on_or_is_passed_by_stays(make: Callable[[], Model], expected: set[str]) -> None:
    assert {name.removesuffix(".weight") for name in changed(make())} == expected


@pytest.mark.parametrize(("kernel", "groups"), [((2, 2), 1), ((3, 3), 2)])
def test_convolutions_without_a_centre_or_in_groups_stay(kernel: tuple[int, int], groups: int) -> None:
    port = Port("x", "float32", (4, 6, 6))
    weights = {"w": np.ones((4, 4 // groups, *kernel), np.float32), "b": np.zeros(4, np.float32)}
    node = Node("c", "Conv", ("x", "w", "b"), ("y",), {"kernel_shape": kernel, "group": groups})
    size = 7 - kernel[0]
    assert not changed(Model("net", (port,), (Port("y", "float32", (4, size, size)),), (node,), weights))
