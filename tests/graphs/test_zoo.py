"""The sample members: sizes known from elsewhere, seeds, and the same results as torch on the same weights."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from mnx.graphs.errors import GraphError
from mnx.graphs.model import Model, model_hash
from mnx.graphs.proto import to_proto
from mnx.graphs.run import run
from mnx.graphs.zoo.ensembles import ENSEMBLES, ensemble
from mnx.graphs.zoo.layers import GAINS, first_weights
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import V5, narrowed, parse_blocks, v5, vgg


def parameters(model: Model) -> int:
    """All numbers but the running statistics."""
    return sum(array.size for name, array in model.weights.items() if not name.endswith((".mean", ".variance")))


def images(count: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal((count, *shape), np.float32)


def disturbed(model: Model, seed: int = 1) -> Model:
    """All weights moved, so that biases and statistics are not what they start as."""
    random = np.random.default_rng(seed)
    return model.with_weights(
        {
            name: array + (np.float32(0.1) * random.random(array.shape, np.float32))
            for name, array in model.weights.items()
        }
    )


# Torchvision gives 133,047,848 for vgg13, 138,357,544 for vgg16 and 143,667,240 for vgg19. V16 is vgg13 with one 1x1
# convolution of 256 filters and two of 512; V16A is added up by hand, weights and biases layer by layer.
V16A = (
    (3 * 9 + 1) * 128
    + 4 * (128 * 9 + 1) * 128
    + (128 * 9 + 1) * 128
    + (128 + 1) * 256
    + (256 * 9 + 1) * 512
    + (512 * 9 + 1) * 512
    + (512 + 1) * 512
    + (512 * 9 + 1) * 256
    + (256 * 9 + 1) * 256
    + (256 + 1) * 512
    + (512 * 7 * 7 + 1) * 4096
    + (4096 + 1) * 4096
    + (4096 + 1) * 1000
)
SIZES = {
    "V13": 133_047_848,
    "V16": 133_047_848 + (256 + 1) * 256 + 2 * (512 + 1) * 512,
    "V16A": V16A,
    "V16B": 138_357_544,
    "V19": 143_667_240,
}


def test_full_size_v5_has_the_known_numbers_of_parameters() -> None:
    assert {member.name: parameters(member) for member in v5(hollow=True)} == SIZES


def test_resnet_56_has_the_size_in_the_paper() -> None:
    # He et al. give 0.85M for ResNet-56; their shortcuts have no parameters, ours add two 1x1 convolutions and norms.
    size = parameters(resnet("R56", (9, 9, 9), hollow=True))
    assert size == 855_770


@pytest.mark.parametrize(
    "model",
    [
        vgg("v", parse_blocks(V5["V19"]), 1000, batch_norm=True, hollow=True),
        mlp("m", 784, (4096, 4096), 10, hollow=True),
        resnet("r", (9, 9, 9), 64, hollow=True),
    ],
    ids=lambda model: model.name,
)
def test_hollow_weights_hold_one_number(model: Model) -> None:
    assert all(array.strides == (0,) * array.ndim for array in model.weights.values())
    assert all(array.dtype == np.float32 for array in model.weights.values())
    variances = [array for name, array in model.weights.items() if name.endswith(".variance")]
    assert all(array.flat[0] == 1 for array in variances)


def test_hollow_and_drawn_networks_are_the_same_graph() -> None:
    drawn, hollow = (vgg("v", [[(3, 8)], [(5, 8)]], 10, (1, 8, 8), (16,), True, 0, empty) for empty in (False, True))
    assert drawn.nodes == hollow.nodes
    assert {k: v.shape for k, v in drawn.weights.items()} == {k: v.shape for k, v in hollow.weights.items()}


def test_notation_is_read() -> None:
    assert parse_blocks("(3:64)x2 | (3:256)x2 (1:256)|(5:8)") == [
        [(3, 64), (3, 64)],
        [(3, 256), (3, 256), (1, 256)],
        [(5, 8)],
    ]


@pytest.mark.parametrize("text", ["", "(3:64)x2 |", "3:64", "(3:64)x0", "(3:64)x2,(3:64)", "(0:64)"])
def test_notation_that_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(GraphError, match=r"write \(kernel:filters\)"):
        parse_blocks(text)


def test_narrowing_keeps_kernels_and_some_filters() -> None:
    assert narrowed([[(3, 64), (1, 512)], [(5, 2)]], 1 / 32) == [[(3, 4), (1, 16)], [(5, 2)]]


def test_weights_depend_on_seed_and_name_alone() -> None:
    def build(name: str, seed: int) -> Model:
        return mlp(name, 8, (16, 16), 4, seed=seed)

    assert model_hash(build("a", 0)) == model_hash(build("a", 0))
    weights = [build(name, seed).weights["fc1.weight"] for name, seed in (("a", 0), ("b", 0), ("a", 1), ("b", 1))]
    assert len({array.tobytes() for array in weights}) == 4


def test_weights_are_kaiming_normal_over_the_fan_in() -> None:
    model = mlp("m", 400, (600,), 100)
    for name, gain, fan_in in (("fc1.weight", 2, 400), ("head.weight", 1, 600)):
        array = model.weights[name]
        assert array.dtype == np.float32
        assert abs(array.mean()) < 0.001
        assert array.std() == pytest.approx((gain / fan_in) ** 0.5, rel=0.02)
    assert not model.weights["fc1.bias"].any()


def test_fan_in_counts_only_taps_that_meet_the_image() -> None:
    blocks = [[(3, 64), (3, 64)], [(3, 64)]]
    weights = vgg("v", blocks, 10, (1, 2, 2), (8,)).weights
    assert weights["conv1_2.weight"].std() == pytest.approx((2 / (64 * 2 * 2)) ** 0.5, rel=0.02)
    assert weights["conv2_1.weight"].std() == pytest.approx((2 / 64) ** 0.5, rel=0.02)


def test_a_signal_passes_the_deepest_sample_network() -> None:
    deepest = next(member for member in ensemble("v5") if member.name == "V19")
    assert 0.05 < run(deepest, images(64, (1, 8, 8)))["logits"].std() < 50


def test_small_images_lose_later_poolings() -> None:
    def poolings(shape: tuple[int, int, int]) -> list[str]:
        model = vgg("v", parse_blocks(V5["V13"]), 10, shape, (64,), hollow=True)
        return [node.name for node in model.nodes if node.op == "MaxPool"]

    assert poolings((1, 8, 8)) == ["pool1", "pool2", "pool3"]
    assert poolings((1, 9, 4)) == ["pool1", "pool2"]
    assert len(poolings((3, 32, 32))) == 5


def test_v5_sample_asks_for_every_kind_of_growth() -> None:
    members = ensemble("v5")
    layers = [[node for node in member.nodes if node.op == "Conv"] for member in members]
    first = [nodes[0].integers("kernel_shape", ()) for nodes in layers]
    widths = [member.weights["conv3_1.weight"].shape[0] for member in members]
    assert len(set(first)) > 1
    assert len(set(widths)) > 1
    assert len({len(nodes) for nodes in layers}) > 1


@pytest.mark.parametrize("name", ENSEMBLES)
@pytest.mark.parametrize(("classes", "shape"), [(10, (1, 8, 8)), (3, (3, 12, 10))])
def test_samples_are_valid_and_run(name: str, classes: int, shape: tuple[int, int, int]) -> None:
    members = ensemble(name, classes, shape, seed=3)
    assert len({member.name for member in members}) == len(members) >= 5
    assert len({parameters(member) for member in members}) == len(members)
    for member in members:
        onnx.checker.check_model(to_proto(member), full_check=True)
        logits = run(member, images(5, shape))["logits"]
        assert logits.shape == (5, classes)
        assert np.isfinite(logits).all()


@pytest.mark.parametrize("activation", GAINS)
def test_perceptrons_have_any_activation(activation: str) -> None:
    model = mlp("m", (2, 3), (5,), 4, activation, batch_norm=True)
    onnx.checker.check_model(to_proto(model), full_check=True)
    assert [node.op for node in model.nodes] == ["Flatten", "Gemm", "BatchNormalization", activation, "Gemm"]


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: ensemble("v6"), "no sample ensemble 'v6'"),
        (lambda: mlp("m", 8, (4,), 2, "Gelu"), "no activation 'Gelu'"),
        (lambda: mlp("m", 0, (4,), 2), "holds nothing"),
        (lambda: mlp("m", 8, (4, 0), 2), "hidden layer 2 has 0 units"),
        (lambda: mlp("m", 8, (4,), 0), "0 classes"),
        (lambda: first_weights("m", -1), "seed -1"),
        (lambda: vgg("v", [[(2, 8)]], 10, (1, 8, 8)), "kernel size 2 is even"),
        (lambda: vgg("v", [[(3, 8)]], 10, (8, 8)), "is no image"),
        (lambda: resnet("r", (1, 0, 1)), "must be 1 or more"),
    ],
)
def test_mistakes_are_refused_by_name(build: Callable[[], object], says: str) -> None:
    with pytest.raises(GraphError, match=says):
        build()


@pytest.mark.torch
@pytest.mark.parametrize("batch_norm", [False, True])
def test_vgg_equals_torch(batch_norm: bool) -> None:
    torch = pytest.importorskip("torch")
    blocks = [[(3, 6), (1, 5)], [(5, 7)]]
    model = disturbed(vgg("v", blocks, 10, (2, 8, 8), (9,), batch_norm))
    modules: list[Any] = []
    channels = 2
    for block in blocks:
        for kernel, filters in block:
            modules.append(torch.nn.Conv2d(channels, filters, kernel, padding="same", bias=not batch_norm))
            modules += [torch.nn.BatchNorm2d(filters)] if batch_norm else []
            modules.append(torch.nn.ReLU())
            channels = filters
        modules.append(torch.nn.MaxPool2d(2))
    modules += [torch.nn.Flatten(), torch.nn.Linear(7 * 2 * 2, 9, bias=not batch_norm)]
    modules += [torch.nn.BatchNorm1d(9)] if batch_norm else []
    modules += [torch.nn.ReLU(), torch.nn.Linear(9, 10)]
    assert_same(torch, model, torch.nn.Sequential(*modules))


@pytest.mark.torch
@pytest.mark.parametrize(("activation", "module"), [("LeakyRelu", "LeakyReLU"), ("Tanh", "Tanh")])
def test_mlp_equals_torch(activation: str, module: str) -> None:
    torch = pytest.importorskip("torch")
    model = disturbed(mlp("m", (3, 4), (9, 8), 5, activation))
    act = getattr(torch.nn, module)
    sizes = torch.nn.Linear(12, 9), act(), torch.nn.Linear(9, 8), act(), torch.nn.Linear(8, 5)
    assert_same(torch, model, torch.nn.Sequential(torch.nn.Flatten(), *sizes))


@pytest.mark.torch
def test_resnet_equals_torch() -> None:
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Block(nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self, channels: int, filters: int, stride: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(channels, filters, 3, stride, 1, bias=False),
                nn.BatchNorm2d(filters),
                nn.ReLU(),
                nn.Conv2d(filters, filters, 3, 1, 1, bias=False),
                nn.BatchNorm2d(filters),
            )
            self.shortcut = nn.Identity()
            if stride > 1:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters)
                )

        def forward(self, x: Any) -> Any:
            return torch.relu(self.body(x) + self.shortcut(x))

    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, 1, 1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        Block(4, 4, 1),
        Block(4, 8, 2),
        Block(8, 8, 1),
        Block(8, 16, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )
    assert_same(torch, disturbed(resnet("r", (1, 2, 1), 4, 10, (2, 9, 9))), network)


def assert_same(torch: Any, model: Model, network: Any) -> None:
    """The torch network takes the model's weights in their order and gives the same logits."""
    state = network.state_dict()
    keys = [key for key in state if not key.endswith("num_batches_tracked")]
    assert len(keys) == len(model.weights)
    network.load_state_dict(
        {key: torch.tensor(array) for key, array in zip(keys, model.weights.values(), strict=True)}, strict=False
    )
    x = images(4, model.inputs[0].shape)
    with torch.no_grad():
        wanted = network.eval()(torch.tensor(x)).numpy()
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_allclose(run(model, x)["logits"], wanted, rtol=1e-4, atol=1e-5)
