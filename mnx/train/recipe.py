"""How one network is trained: optimiser, schedule and stopping rule, the same for every way to train an ensemble."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mnx.errors import MnxError
from mnx.train.settings import StepSettings


@dataclass(frozen=True)
class Recipe:
    """Train at a constant learning rate until validation accuracy is flat, then let the rate fall to zero and stop.

    Attributes:
        lr: learning rate of the constant phase.
        batch: examples a step.
        epochs: the most epochs a network may take, the falling phase included.
        grace: epochs before a freshly drawn network is judged at all; a hatched one begins where learning is even.
        patience: the least number of epochs without a better validation accuracy that ends the constant phase.
        patience_share: that number as a share of the epochs so far, where this is more: a network that still learns
            after many epochs is given more time, one that began well is not kept.
        mother_patience: `patience` of a mother: her epochs are cheap, and every member goes on from them.
        anneal: epochs of the falling phase; a mother has none, she is hatched from the constant phase.
        warmup: epochs over which a freshly drawn network's learning rate rises from zero; hatched ones have none.
        momentum: of the moving sum of gradients.
        nesterov: look ahead by one step of momentum.
        weight_decay: on weights only, never on biases and normalisation.
        clip_norm: the largest norm of all gradients together; 0 for any.
        label_smoothing: the share of the target spread over all classes.
        carry: whether hatched members go on with their mother's momentum.
    """

    lr: float = 0.05
    batch: int = 128
    epochs: int = 60
    grace: int = 6
    patience: int = 1
    patience_share: float = 0.3
    mother_patience: int = 4
    anneal: int = 4
    warmup: int = 1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    clip_norm: float = 2.0
    label_smoothing: float = 0.0
    carry: bool = True

    def __post_init__(self) -> None:
        for key, (legal, words) in RANGES.items():
            if not legal(getattr(self, key)):
                raise MnxError(f"recipe: {key} = {getattr(self, key)}: give {words}")
        if self.anneal >= self.epochs:
            raise MnxError(f"recipe: anneal = {self.anneal} must be less than epochs = {self.epochs}")
        if self.nesterov and not self.momentum:
            raise MnxError("recipe: momentum = 0 leaves nesterov nothing to look ahead with: give nesterov = false too")

    def step(self) -> StepSettings:
        """What the training step must know."""
        return StepSettings(
            label_smoothing=self.label_smoothing,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm or None,
        )

    def to_json(self) -> dict[str, Any]:
        """The fields as plain data."""
        return dataclasses.asdict(self)


RANGES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "lr": (lambda value: 0 < value < 100, "a number above 0 and below 100"),
    "batch": (lambda value: value >= 1, "a whole number, 1 or more"),
    "epochs": (lambda value: value >= 1, "a whole number, 1 or more"),
    "grace": (lambda value: value >= 0, "a whole number, 0 or more"),
    "patience": (lambda value: value >= 1, "a whole number, 1 or more"),
    "patience_share": (lambda value: 0 <= value < 1, "a number in [0, 1)"),
    "mother_patience": (lambda value: value >= 1, "a whole number, 1 or more"),
    "anneal": (lambda value: value >= 0, "a whole number, 0 or more"),
    "warmup": (lambda value: value >= 0, "a whole number, 0 or more"),
    "momentum": (lambda value: 0 <= value < 1, "a number in [0, 1)"),
    "weight_decay": (lambda value: 0 <= value < 1, "a number in [0, 1)"),
    "clip_norm": (lambda value: 0 <= value < float("inf"), "a finite number, 0 for no clipping"),
    "label_smoothing": (lambda value: 0 <= value < 1, "a number in [0, 1)"),
}
"""Legal values of a recipe's keys, and how to say so."""


def recipe(settings: Mapping[str, str] | None = None) -> Recipe:
    """The default recipe with some keys set from text, as given on a command line.

    Raises:
        MnxError: a key is unknown, or a value is not of its type or range.
    """
    types = {field.name: type(field.default) for field in dataclasses.fields(Recipe)}
    values: dict[str, Any] = {}
    for key, text in (settings or {}).items():
        if key not in types:
            raise MnxError(f"recipe: unknown key '{key}'; there are {', '.join(types)}")
        values[key] = _parsed(key, text, types[key])
    if "epochs" in values and "anneal" not in values:
        values["anneal"] = min(Recipe.anneal, values["epochs"] // 2)
    return Recipe(**values)


def _parsed(key: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise MnxError(f"recipe: {key} = {text}: give true or false")
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError:
        raise MnxError(f"recipe: {key} = {text}: give {RANGES[key][1]}") from None
