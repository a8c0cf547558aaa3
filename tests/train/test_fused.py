"""Networks fused into one session: each computes, to the last bit, what it computes alone on the same batches."""

from collections.abc import Sequence

import numpy as np
import pytest
from test_ort import MODELS, RESNET, same_bits

from mnx.data.layout import AS_IS, Arrangement
from mnx.data.scaling import fitted
from mnx.errors import MnxError
from mnx.graphs.model import Array, Model
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.vgg import parse_blocks, vgg
from mnx.train import fused_graph
from mnx.train.augment import Augmentation
from mnx.train.feed import Feed
from mnx.train.ort import Engine
from mnx.train.settings import Diverged, Outcome, StepSettings

SGD = StepSettings(momentum=0.9, nesterov=True, weight_decay=5e-4, label_smoothing=0.1)
SETTINGS = {
    "sgd": SGD,
    "clipped": StepSettings(momentum=0.9, clip_norm=0.05),
    "adamw": StepSettings(optimiser="adamw", weight_decay=0.1, average=0.9),
    "accumulated": StepSettings(momentum=0.9, accumulate=2),
    "mixed": StepSettings(mixup=True),
    "distilled": StepSettings(loss="distillation"),
}
RATES = (0.05, 0.01, 0.1)

DROPOUT = MODELS["dropout"]
PERCEPTRONS = [mlp("small", 12, (8,), 5), DROPOUT, mlp("normed", 12, (16, 8), 5, batch_norm=True)]
CONVOLUTIONS = [
    RESNET,
    vgg("wide", parse_blocks("(3:16)x2 | (3:16)x2"), 5, (3, 8, 8), (), batch_norm=True),
    vgg("narrow", parse_blocks("(3:4)x2 | (3:6)"), 5, (3, 8, 8), (16,)),
]
GROUPS = {"perceptrons": PERCEPTRONS, "convolutions": CONVOLUTIONS}


def engines(models: Sequence[Model], settings: StepSettings, threads: int = 1) -> list[Engine]:
    return [Engine(model, settings, threads=threads, seed=seed) for seed, model in enumerate(models)]


def batch(model: Model, number: int, settings: StepSettings) -> dict[str, object]:
    random = np.random.default_rng(number)
    size = 12 + 2 * number
    x = random.standard_normal((size, *model.inputs[0].shape), np.float32)
    y, others = random.integers(0, 5, (2, size))
    given: dict[str, object] = {"x": x, "y": y}
    if settings.mixup:
        given["mix"] = others, 0.3
    if settings.loss == "distillation":
        given["teacher"] = random.standard_normal((size, 5), np.float32)
    return given


def alone(each: Sequence[Engine], settings: StepSettings, steps: range) -> list[list[Outcome]]:
    model = each[0].model()
    return [
        [engine.step(lr=lr, **batch(model, number, settings)) for engine, lr in zip(each, RATES, strict=False)]  # type: ignore[arg-type]
        for number in steps
    ]


def together(each: Sequence[Engine], settings: StepSettings, steps: range) -> list[list[Outcome]]:
    model, fused = each[0].model(), each[0].together(each[1:])
    return [fused.step(lrs=RATES[: len(each)], **batch(model, number, settings)) for number in steps]  # type: ignore[arg-type]


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("models", GROUPS.values(), ids=GROUPS)
def test_fused_networks_do_the_bits_that_each_does_alone(models: list[Model], settings: StepSettings) -> None:
    one, other = engines(models, settings), engines(models, settings)
    assert together(one, settings, range(4)) == alone(other, settings, range(4))
    assert all(same_bits(a.state(), b.state()) for a, b in zip(one, other, strict=True))


def test_two_threads_change_nothing_of_that() -> None:
    one, other = engines(CONVOLUTIONS, SGD, 2), engines(CONVOLUTIONS, SGD, 2)
    assert together(one, SGD, range(3)) == alone(other, SGD, range(3))
    assert all(same_bits(a.state(), b.state()) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("models", GROUPS.values(), ids=GROUPS)
def test_networks_come_and_go_without_a_difference_to_the_others(models: list[Model]) -> None:
    settings, sittings = SETTINGS["adamw"], {(0, 1, 2): (0, 5), (0,): (1,), (1, 2): (1, 2), (2, 0): (3,), (1,): (3,)}
    one, other = engines(models, settings), engines(models, settings)
    for number in range(6):
        for places in [places for places, steps in sittings.items() if number in steps]:
            fused = one[places[0]].together([one[place] for place in places[1:]])
            fused.step(lrs=[RATES[place] for place in places], **batch(models[0], number, settings))  # type: ignore[arg-type]
    steps_of = [
        [number for places, steps in sittings.items() if place in places for number in steps] for place in range(3)
    ]
    for place, engine in enumerate(other):
        for number in sorted(steps_of[place]):
            engine.step(lr=RATES[place], **batch(models[0], number, settings))  # type: ignore[arg-type]
    assert all(same_bits(a.state(), b.state()) for a, b in zip(one, other, strict=True))


def test_a_rate_for_all_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_graph, "_SHARED", (*fused_graph._SHARED, "mnx:lr"))
    one, other = engines(PERCEPTRONS, SGD), engines(PERCEPTRONS, SGD)
    together(one, SGD, range(2))
    alone(other, SGD, range(2))
    assert not any(same_bits(a.state(), b.state()) for a, b in list(zip(one, other, strict=True))[:2])


@pytest.mark.parametrize("settings", [SGD, SETTINGS["accumulated"]], ids=["whole", "in parts"])
def test_a_network_that_diverges_stays_as_it_was_and_the_others_go_on(settings: StepSettings) -> None:
    hopeless = PERCEPTRONS[0].with_weights(
        {name: array * np.float32(1e30) for name, array in PERCEPTRONS[0].weights.items() if array.ndim == 2}
    )
    models = [PERCEPTRONS[2], hopeless, DROPOUT]
    one, other = engines(models, settings), engines(models, settings)
    outcomes = together(one, settings, range(3))
    for first, wrong, last in outcomes:
        assert isinstance(first, tuple) and isinstance(last, tuple)
        assert isinstance(wrong, Diverged) and wrong.model == "small"
    assert same_bits(one[1].state(), other[1].state())
    for place in (0, 2):
        for number in range(3):
            other[place].step(lr=RATES[place], **batch(models[0], number, settings))  # type: ignore[arg-type]
        assert same_bits(one[place].state(), other[place].state())


def test_one_augmented_batch_of_a_feed_serves_all() -> None:
    one, other = engines(CONVOLUTIONS, SGD), engines(CONVOLUTIONS, SGD)
    feed, fused = _images(), one[0].together(one[1:])
    for step in range(3):
        indices = np.arange(step, step + 16)
        x, y = feed.batch(indices, 0, step), indices % 5
        fused.step(x, y, RATES)
        for engine, lr in zip(other, RATES, strict=True):
            engine.step(x, y, lr)
    assert all(same_bits(a.state(), b.state()) for a, b in zip(one, other, strict=True))


def test_networks_of_other_inputs_cannot_be_fused() -> None:
    one, other = engines([RESNET, DROPOUT], SGD)
    with pytest.raises(MnxError, match="cannot train on one batch"):
        one.together([other])


def _images() -> Feed:
    raw: Array = np.random.default_rng(0).integers(0, 256, (32, 3, 8, 8), np.uint8)
    scaling = fitted(raw, Arrangement(AS_IS, 0), (3, 8, 8), 255)
    return Feed((raw,), (scaling,), Augmentation(crop=1, mirror="alternating"))
