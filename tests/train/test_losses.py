"""Every loss is torch's, with its gradient, for every task that it is for."""

from dataclasses import replace

import numpy as np
import pytest

from mnx.errors import MnxError
from mnx.graphs.model import Array
from mnx.graphs.zoo.mlp import mlp
from mnx.train.losses import LOSSES, TASKS
from mnx.train.ort import Engine
from mnx.train.settings import StepSettings

pytest.importorskip("torch")

from torch_twin import Twin

TOLERANCE = 2e-6
LR = 0.02
WEIGHTS = (0.5, 2.0, 0.0, 1.0)
WIDTH = 4

CASES = {
    "classes": StepSettings(),
    "classes, smoothed": StepSettings(label_smoothing=0.2),
    "classes with weights": StepSettings(class_weights=WEIGHTS),
    "classes with weights, smoothed": StepSettings(class_weights=WEIGHTS, label_smoothing=0.2),
    "classes, mixed": StepSettings(mixup=True, label_smoothing=0.1),
    "shares": StepSettings(task="distribution"),
    "shares, smoothed": StepSettings(task="distribution", label_smoothing=0.2),
    "shares with weights": StepSettings(task="distribution", class_weights=WEIGHTS),
    "shares, mixed": StepSettings(task="distribution", mixup=True),
    "yes or no": StepSettings(task="binary", loss="binary"),
    "yes or no, mixed": StepSettings(task="binary", loss="binary", mixup=True),
    "several labels": StepSettings(task="labels", loss="binary"),
    "several labels with weights": StepSettings(task="labels", loss="binary", class_weights=WEIGHTS),
    "several labels, mixed": StepSettings(task="labels", loss="binary", mixup=True),
    "squares": StepSettings(task="numbers", loss="mse"),
    "squares, mixed": StepSettings(task="numbers", loss="mse", mixup=True),
    "distances": StepSettings(task="numbers", loss="mae"),
    "a teacher": StepSettings(loss="distillation"),
    "a cold teacher, smoothed": StepSettings(loss="distillation", temperature=1, distillation=0.3, label_smoothing=0.1),
    "a teacher alone": StepSettings(loss="distillation", distillation=1.0),
    "a teacher of shares": StepSettings(task="distribution", loss="distillation", temperature=2.0),
}


def drawn(task: str, n: int, seed: int) -> Array:
    """Targets of a task."""
    random = np.random.default_rng(seed)
    if task == "classes":
        return random.integers(0, WIDTH, n)
    if task == "binary":
        return random.integers(0, 2, n)
    if task == "labels":
        return random.integers(0, 2, (n, WIDTH)).astype(np.float32)
    rows = random.standard_normal((n, WIDTH), np.float32)
    return np.exp(rows) / np.exp(rows).sum(1, keepdims=True) if task == "distribution" else rows


def trained(settings: StepSettings, twin_settings: StepSettings, steps: int = 8) -> tuple[float, float]:
    """Train a perceptron here and in torch: the largest difference of losses and scores, and that of weights."""
    model = mlp("mlp", 12, (16,), 1 if settings.task == "binary" else WIDTH)
    engine, twin = Engine(model, settings, threads=1), Twin(model, twin_settings, LR)
    random, worst = np.random.default_rng(0), 0.0
    for step in range(steps):
        x, y = 3 * random.standard_normal((10, 12), np.float32), drawn(settings.task, 10, step)
        teacher = drawn("numbers", 10, step) * 3 if settings.loss == "distillation" else None
        mix = (np.roll(y, 1, 0), 0.3) if settings.mixup else None
        loss, score = engine.step(x, y, LR, teacher, mix)
        expected, expected_score = twin.step(x, y, LR, teacher=teacher, mix=mix)
        worst = max(worst, abs(loss - expected) / max(1, abs(expected)), abs(score - expected_score) / 10)
    theirs = twin.weights()
    return worst, max(float(np.abs(engine.model().weights[name] - array).max()) for name, array in theirs.items())


@pytest.mark.parametrize("name", CASES)
def test_a_loss_as_in_torch(name: str) -> None:
    settings = CASES[name]
    losses, weights = trained(settings, settings)
    assert losses < TOLERANCE
    assert weights < TOLERANCE


def test_every_loss_of_every_task_is_compared() -> None:
    compared = {(case.task, case.loss) for case in CASES.values()}
    assert compared == {(task, name) for name, loss in LOSSES.items() for task in loss.tasks}
    assert all(form.default in LOSSES for form in TASKS.values())


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("classes, smoothed", {"label_smoothing": 0.19}),
        ("classes with weights", {"class_weights": (0.5, 2.0, 0.1, 1.0)}),
        ("a teacher", {"temperature": 3.9}),
        ("a teacher", {"distillation": 0.89}),
        ("distances", {"loss": "mse"}),
    ],
)
def test_a_loss_that_is_not_quite_it_is_caught(name: str, change: dict[str, object]) -> None:
    losses, weights = trained(CASES[name], replace(CASES[name], **change))
    assert losses > 100 * TOLERANCE
    assert weights > 100 * TOLERANCE


@pytest.mark.parametrize("logit", [0.0, 1e-3, -50.0, 50.0, 1e4, -1e4])
@pytest.mark.parametrize("label", [0, 1])
def test_the_binary_loss_is_stable_and_slopes_at_zero(logit: float, label: int) -> None:
    model = mlp("one", 1, (), 1)
    first = next(name for name in model.weights if name.endswith("weight"))
    model = model.with_weights({name: np.zeros_like(array) for name, array in model.weights.items()})
    model = model.with_weights({first: np.full((1, 1), logit, np.float32)})
    engine = Engine(model, StepSettings(task="binary", loss="binary", momentum=0.0), threads=1)
    loss, _ = engine.step(np.ones((1, 1), np.float32), np.array([label]), 1.0)
    sign = 1 if label else -1
    assert loss == pytest.approx(np.logaddexp(0, -sign * logit), rel=1e-6)
    slope = logit - float(engine.model().weights[first][0, 0])
    expected = 1 / (1 + np.exp(np.clip(-np.float64(logit), -700, 700))) - label
    assert slope == pytest.approx(expected, abs=2e-3 if abs(logit) > 100 else 1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (StepSettings(loss="hinge"), "there is no task 'classes' with the loss 'hinge'"),
        (StepSettings(loss="mse"), "the loss 'mse' is none for targets that are classes: give cross-entropy$"),
        (StepSettings(task="binary", loss="binary"), "has 4 outputs; labels that are 0 or 1 take one logit"),
        (
            StepSettings(task="labels", loss="binary", label_smoothing=0.1),
            "label_smoothing = 0.1 spreads .* the loss 'binary' of targets that are labels has no classes",
        ),
        (StepSettings(class_weights=(1.0, 2.0)), "class_weights are 2; the networks tell 4 classes apart"),
    ],
)
def test_a_loss_that_does_not_fit_is_refused(settings: StepSettings, message: str) -> None:
    with pytest.raises(MnxError, match=message):
        Engine(mlp("mlp", 12, (16,), WIDTH), settings)


def test_targets_that_do_not_fit_are_refused() -> None:
    model, x = mlp("mlp", 12, (16,), WIDTH), np.zeros((4, 12), np.float32)
    engine = Engine(model, StepSettings(task="numbers", loss="mse"), threads=1)
    with pytest.raises(MnxError, match=r"takes numbers of shape \(4, 4\), not float32 and \(4,\)"):
        engine.step(x, np.zeros(4, np.float32), LR)
    with pytest.raises(MnxError, match="a teacher's logits come with the loss 'distillation' only"):
        engine.step(x, np.zeros((4, 4), np.float32), LR, teacher=np.zeros((4, 4), np.float32))
    engine = Engine(model, StepSettings(accumulate=3), threads=1)
    with pytest.raises(MnxError, match="a batch of 4 cannot be taken in 3 equal parts"):
        engine.step(x, np.zeros(4, int), LR)
