"""ONNX Runtime trains as torch does: the same losses and the same weights, over 20 steps."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from mnx.graphs.builder import Builder
from mnx.graphs.model import Array, Model, Port, without_unused_weights
from mnx.graphs.ops.rule import Kind
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import parse_blocks, vgg
from mnx.train.lowering import draw_masks, lowered
from mnx.train.ort import Engine
from mnx.train.settings import StepSettings

pytest.importorskip("torch")

from torch_twin import Twin

TOLERANCE = 1e-6
LR = 0.05
STEPS = 20
SETTINGS = StepSettings(momentum=0.9, nesterov=True, weight_decay=5e-4, clip_norm=1.0)

MODELS = {
    "mlp": mlp("mlp", 12, (24, 16), 5),
    "mlp-bn": mlp("mlp-bn", 12, (24, 16), 5, batch_norm=True),
    "vgg-bn": vgg("vgg-bn", parse_blocks("(3:6)x2 | (3:8) (1:12)"), 5, (3, 8, 8), (16,), batch_norm=True),
    "resnet": resnet("resnet", (1, 1), 6, 5, (3, 8, 8)),
}


def data(model: Model, batches: Sequence[int], seed: int = 0) -> list[tuple[Array, Array]]:
    """Batches whose classes can be learnt."""
    random = np.random.default_rng(seed)
    shape = model.inputs[0].shape
    centres = random.standard_normal((5, *shape), np.float32)
    classes = [random.integers(0, 5, size) for size in batches]
    return [(centres[y] + random.standard_normal((len(y), *shape), np.float32), y) for y in classes]


def distance(ours: Model, twin: Twin) -> float:
    """The largest difference of weights and statistics, relative to max(1, |w|)."""
    return max(
        float(np.max(np.abs(ours.weights[name] - array) / np.maximum(1, np.abs(array))))
        for name, array in twin.weights().items()
    )


def compare(model: Model, settings: StepSettings, batches: Sequence[int] = (16,) * STEPS) -> float:
    """Train both; losses and correct predictions must agree at every step. Returns the distance of the weights."""
    engine, twin = Engine(model, settings, threads=1), Twin(model, settings, LR)
    for x, y in data(model, batches):
        loss, correct = engine.step(x, y, LR)
        expected, expected_correct = twin.step(x, y, LR)
        assert loss == pytest.approx(expected, abs=TOLERANCE)
        assert correct == expected_correct
    return distance(engine.model(), twin)


@pytest.mark.parametrize("name", MODELS)
def test_trains_as_torch_does(name: str) -> None:
    assert compare(MODELS[name], SETTINGS) < TOLERANCE


@pytest.mark.parametrize(
    "settings",
    [
        StepSettings(momentum=0.0),
        StepSettings(momentum=0.0, weight_decay=1e-2),
        StepSettings(momentum=0.9),
        StepSettings(momentum=0.5, nesterov=True),
        StepSettings(momentum=0.9, clip_norm=0.1),
        StepSettings(momentum=0.9, clip_norm=1e6),
        StepSettings(momentum=0.9, label_smoothing=0.1),
        StepSettings(momentum=0.9, class_weights=(1.0, 2.0, 0.5, 0.0, 3.0)),
        StepSettings(momentum=0.9, average=0.99),
        StepSettings(momentum=0.9, average=0.5, nesterov=True),
        StepSettings(momentum=0.9, accumulate=2, clip_norm=0.1, weight_decay=1e-2),
        StepSettings(momentum=0.9, accumulate=2, average=0.9),
    ],
    ids=str,
)
def test_every_setting_as_in_torch(settings: StepSettings) -> None:
    assert compare(MODELS["mlp-bn"], settings) < TOLERANCE


@pytest.mark.parametrize(
    "settings",
    [
        StepSettings(optimiser="adamw", weight_decay=0.1),
        StepSettings(optimiser="adamw", momentum=0.5, beta2=0.9, epsilon=1e-3, clip_norm=0.5),
        StepSettings(optimiser="adamw", epsilon=1e-3, average=0.9, accumulate=2, label_smoothing=0.1),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["mlp", "vgg-bn"])
def test_adamw_as_in_torch(name: str, settings: StepSettings) -> None:
    model = without_idle_biases(MODELS[name])
    engine, twin = Engine(model, settings, threads=1), Twin(model, settings, 1e-3)
    for x, y in data(model, [16] * STEPS):
        loss, _ = engine.step(x, y, 1e-3)
        assert loss == pytest.approx(twin.step(x, y, 1e-3)[0], abs=10 * TOLERANCE)
    assert distance(engine.model(), twin) < 20 * TOLERANCE


def without_idle_biases(model: Model) -> Model:
    """The model without biases in front of BatchNormalization.

    Their gradient is 0 but for rounding, which AdamW divides by its own size: they walk by the learning rate in a
    direction that is nobody's.
    """
    normed = {node.inputs[0] for node in model.nodes if node.op == "BatchNormalization"}
    nodes = [
        dataclasses.replace(node, inputs=node.inputs[:2]) if node.outputs[0] in normed else node for node in model.nodes
    ]
    return without_unused_weights(model.replace(nodes=tuple(nodes)))


def test_a_step_without_bias_correction_is_caught() -> None:
    settings, model = StepSettings(optimiser="adamw"), MODELS["mlp"]
    engine, twin = Engine(model, settings, threads=1), Twin(model, settings, 1e-3)
    for step, (x, y) in enumerate(data(model, [16] * 4)):
        engine.step(x, y, 1e-3 * (1 - 0.9 ** (step + 1)))
        twin.step(x, y, 1e-3)
    assert distance(engine.model(), twin) > 100 * TOLERANCE


def test_batches_of_many_sizes() -> None:
    assert compare(MODELS["vgg-bn"], SETTINGS, [16, 9, 16, 33, 8, 12, 16, 17, 24, 16]) < TOLERANCE


def test_learning_rates_that_change() -> None:
    model = MODELS["mlp"]
    engine, twin = Engine(model, SETTINGS, threads=1), Twin(model, SETTINGS, LR)
    for step, (x, y) in enumerate(data(model, [16] * 6)):
        engine.step(x, y, LR / (1 + step))
        twin.step(x, y, LR / (1 + step))
    assert distance(engine.model(), twin) < TOLERANCE


def every_op() -> Model:
    """One network with every op that may be trained, twice where an op has more than one way."""
    random = np.random.default_rng(3)
    builder = Builder()

    def weight(name: str, *shape: int) -> str:
        return builder.weight(name, random.standard_normal(shape, np.float32) * np.float32(np.prod(shape[1:]) ** -0.5))

    def conv(x: str, into: int, out: int, name: str, group: int = 1) -> str:
        w, b = weight(f"{name}.w", out, into // group, 3, 3), builder.weight(f"{name}.b", np.zeros(out, np.float32))
        kernel = {"kernel_shape": (3, 3), "strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1)}
        return builder.add("Conv", x, w, b, name=name, group=group, **kernel)

    low, high = builder.weight("low", np.array(0, np.float32)), builder.weight("high", np.array(6, np.float32))
    ratio = builder.weight("ratio", np.array(0.25, np.float32))
    left = builder.add("LeakyRelu", conv("x", 3, 4, "left"), alpha=0.1)
    right = builder.add("Clip", conv("x", 3, 4, "right"), low, high)
    x = builder.add("Concat", left, right, left, axis=1)
    x = builder.add("Tanh", conv(x, 12, 12, "depthwise", group=12))
    window = {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}
    pooled = builder.add("AveragePool", x, count_include_pad=0, ceil_mode=0, **window)
    x = builder.add("Add", pooled, builder.add("MaxPool", x, ceil_mode=0, **window))
    gate = builder.add("Sigmoid", conv(builder.add("GlobalAveragePool", x), 12, 12, "gate"))
    x = builder.add("Mul", x, gate)
    x = builder.add("Add", x, x)
    x = builder.add("AveragePool", x, kernel_shape=(2, 2), strides=(2, 2), pads=(0, 0, 0, 0), ceil_mode=1)
    x = builder.add("Flatten", builder.add("Dropout", x, ratio, name="drop"), axis=1)
    bias = builder.weight("fc.b", np.zeros(5, np.float32))
    builder.add("Gemm", x, weight("fc.w", 5, 48), bias, outputs=["logits"], transB=1)
    return builder.model("every_op", [Port("x", "float32", (3, 7, 7))], [Port("logits", "float32", (5,))])


def test_every_op_as_in_torch() -> None:
    model = every_op()
    engine, twin = Engine(model, SETTINGS, threads=1, seed=5), Twin(model, SETTINGS, LR)
    masks = lowered(model).masks
    for step, (x, y) in enumerate(data(model, [8, 8, 3, 8, 8, 8])):
        drawn = draw_masks(masks, len(x), seed=5, step=step)
        loss, _ = engine.step(x, y, LR)
        expected, _ = twin.step(x, y, LR, {"drop": drawn[masks[0].name]})
        assert loss == pytest.approx(expected, abs=TOLERANCE)
    assert distance(engine.model(), twin) < TOLERANCE


def test_a_decayed_bias_is_caught() -> None:
    model = MODELS["mlp"]
    engine = Engine(model, SETTINGS, threads=1)
    broken = Twin(model, SETTINGS, LR, decayed=frozenset({Kind.WEIGHT, Kind.BIAS}))
    for x, y in data(model, [16] * STEPS):
        engine.step(x, y, LR)
        broken.step(x, y, LR)
    assert distance(engine.model(), broken) > 5 * TOLERANCE


@pytest.mark.parametrize("change", [{"nesterov": False}, {"clip_norm": None}, {"weight_decay": 0.0}], ids=str)
def test_a_missing_part_of_the_update_is_caught(change: dict[str, float | None]) -> None:
    model = MODELS["mlp"]
    engine, broken = Engine(model, SETTINGS, threads=1), Twin(model, dataclasses.replace(SETTINGS, **change), LR)
    for x, y in data(model, [16] * STEPS):
        engine.step(x, y, LR)
        broken.step(x, y, LR)
    assert distance(engine.model(), broken) > 5 * TOLERANCE


def test_statistics_move_by_the_unbiased_variance() -> None:
    model = MODELS["mlp-bn"]
    engine = Engine(model, SETTINGS, threads=1)
    x, y = data(model, [4])[0]
    engine.step(x, y, LR)
    arriving = x @ model.weights["fc1.weight"].T
    moved = engine.model().weights
    np.testing.assert_allclose(moved["fc1_norm.mean"], 0.1 * arriving.mean(0), atol=TOLERANCE)
    np.testing.assert_allclose(moved["fc1_norm.variance"], 0.9 + 0.1 * arriving.var(0, ddof=1), atol=TOLERANCE)
    assert np.abs(moved["fc1_norm.variance"] - 0.9 - 0.1 * arriving.var(0)).max() > 100 * TOLERANCE
