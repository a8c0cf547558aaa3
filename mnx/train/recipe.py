"""How networks are trained: loss, optimiser, schedule, stopping rule, augmentation, for every stage of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mnx.errors import MnxError
from mnx.train import augment, settings
from mnx.train.augment import Augmentation
from mnx.train.losses import LOSSES
from mnx.train.settings import StepSettings

STAGES = ("mothers", "members", "independent")
"""The stages that a recipe may have keys of their own for; independent networks are trained from scratch."""

AUTO = "auto"


SCHEDULES = ("plateau", "constant", "linear", "cosine", "one-cycle", "step", "cycles", "triangles")
"""What `schedule` may be; see `schedule.SHAPES`."""
CYCLIC = ("cycles", "triangles")
"""The schedules that have cycles."""
CLASS_WEIGHTS = ("none", "balanced")
WATCHED = ("validation", "training")


SIZES = (32, 64, 128)
"""The batches that a recipe without one chooses from."""
STEPS = 64
"""So many steps an epoch of the chosen batch has at least, where `SIZES` allow; see benchmarks/results/ablation.md."""

_NOT_OF = {"snapshots": "mothers", "identity": "members"}
"""Keys that are off in a stage: a mother is no member of the ensemble, a hatched member has no fresh weights."""


def of_stages() -> dict[str, dict[str, Any]]:
    """The default's keys of single stages: a mother is watched longer and not annealed, members begin in the middle."""
    return {"mothers": {"patience": 8, "anneal": 0}, "members": {"warmup": 0.0, "grace": 0}}


@dataclass(frozen=True)
class Recipe:
    """How one network is trained, and in `stages` what is different in some stages of a run; see `of`.

    Attributes:
        lr: the highest learning rate.
        batch: examples a step; 0 for as many as make an epoch 64 steps, if not fewer than 32 nor more than 128 (see
            `batch_of`).
        accumulate: in so many parts is a batch taken, to save memory.
        optimiser: sgd or adamw.
        momentum: of the moving sum of gradients; AdamW's first beta.
        nesterov: look ahead by one step of momentum; SGD only.
        beta2: of AdamW's moving mean of squares.
        epsilon: that AdamW adds to its root.
        weight_decay: on weights only, never on biases and normalisation.
        clip_norm: the largest norm of all gradients together; 0 for any.
        average: the most by which a moving average of the weights keeps its old value; 0 trains without one. The
            average is what is validated and kept.
        frozen_norm: leave the statistics of BatchNormalization as they are, and normalise with them.
        loss: auto (cross-entropy for classes, binary for labels that are 0 or 1, mse for numbers), or its name.
        label_smoothing: the share of the target spread over all classes.
        teacher: an .onnx file of a trained network that takes and gives what the members do: they learn from its logits
            too (Hinton et al. 2015). An ensemble's graph will do.
        distillation: the teacher's share of the loss.
        temperature: that its logits and theirs are divided by.
        class_weights: none; balanced (examples / (classes * examples of the class)); or one number a class, by commas.
        schedule: plateau (the highest rate until the score is flat, then down to 0), or a function of the step:
            constant, linear, cosine, one-cycle, step, cycles, triangles; see `schedule.SHAPES`.
        warmup: epochs over which the rate rises from zero.
        epochs: the most epochs a network may take.
        seconds: the most time it may take; 0 for any.
        multiply_adds: the most multiply-adds it may take; 0 for any.
        watch: the score whose plateau counts: validation or training.
        grace: epochs before a network is judged at all; a hatched one begins where learning is even.
        patience: the least number of epochs without a better score that is a plateau.
        patience_share: that number as a share of the epochs so far, where this is more: a network that still learns
            after many epochs is given more time, one that began well is not kept.
        anneal: epochs in which the rate falls behind the plateau, at most half of all; 0 for none.
        peak: one-cycle: the share of all epochs after which the rate is highest.
        milestones: step: the shares of all epochs after which the rate is multiplied by `gamma`.
        gamma: step: what it is multiplied by.
        cycle: cycles, triangles: epochs of a cycle.
        settle: triangles: the share of all epochs before the first cycle.
        average_cycles: cycles, triangles: keep the mean of the weights at the ends of all cycles (with statistics of
            its own), not the last ones.
        snapshots: cycles, triangles: the networks at the ends of all cycles are members of the ensemble, not the last
            ones alone (Huang et al. 2017). A mother, who is no member, has none.
        crop: images are shifted by up to so many pixels, the border reflected; below 1, by up to that share of their
            shorter side, rounded, and by none where images of several sizes come together.
        mirror: images are mirrored: off, random, or alternating (every image in one way in even epochs, in the other in
            odd ones; Jordan 2024).
        cutout: the side of a square that is blanked out of every image (DeVries and Taylor 2017); 0 for none.
        mixup: alpha of the beta distribution that says in which shares two examples are mixed (Zhang et al. 2018); 0
            for none.
        identity: convolutions of networks that begin with fresh weights, mothers and independent ones, hand their input
            on at first; see `graphs.mothers.identity`. A hatched member computes what her mother does.
        retries: how often a network whose loss is not finite goes on from its last epoch at a lower rate.
        retry_rate: what the rate is multiplied by then.
        carry: whether hatched members go on with what their mother's optimiser kept, grown with them: momentum, or
            AdamW's moments and number of steps.
        stages: for `STAGES`, keys with other values.
    """

    lr: float = 0.05
    batch: int = 0
    accumulate: int = 1
    optimiser: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = True
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 5e-4
    clip_norm: float = 2.0
    average: float = 0.0
    frozen_norm: bool = False
    loss: str = AUTO
    label_smoothing: float = 0.0
    teacher: str = ""
    distillation: float = 0.9
    temperature: float = 4.0
    class_weights: str = "none"
    schedule: str = "plateau"
    warmup: float = 1.0
    epochs: int = 60
    seconds: float = 0.0
    multiply_adds: float = 0.0
    watch: str = "validation"
    grace: int = 6
    patience: int = 1
    patience_share: float = 0.3
    anneal: int = 4
    peak: float = 0.25
    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: float = 0.1
    cycle: int = 4
    settle: float = 0.5
    average_cycles: bool = False
    snapshots: bool = False
    crop: float = 0.0625
    mirror: str = "off"
    cutout: int = 0
    mixup: float = 0.0
    identity: bool = True
    retries: int = 1
    retry_rate: float = 0.3
    carry: bool = True
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=of_stages)

    def __post_init__(self) -> None:
        for key, (legal, words) in RANGES.items():
            if not legal(getattr(self, key)):
                raise MnxError(f"recipe: {key} = {in_words(getattr(self, key))}: give {words}")
        if (self.batch or SIZES[0]) % self.accumulate:
            chosen = self.batch or f"0 (one of {', '.join(map(str, SIZES))})"
            raise MnxError(f"recipe: batch = {chosen} cannot be taken in accumulate = {self.accumulate} equal parts")
        if self.teacher and self.loss not in (AUTO, "cross-entropy"):
            raise MnxError(f"recipe: loss = {self.loss} learns from no teacher: leave out one of the two")
        if self.nesterov and not self.momentum and self.optimiser == "sgd":
            raise MnxError("recipe: momentum = 0 leaves nesterov nothing to look ahead with: give nesterov = false too")
        for key in ("average_cycles", "snapshots"):
            if getattr(self, key) and self.schedule not in CYCLIC:
                raise MnxError(f"recipe: {key} = true needs the schedule {' or '.join(CYCLIC)}")
        if self.snapshots and self.average_cycles:
            raise MnxError(
                "recipe: snapshots = true keeps the ends of cycles, average_cycles = true only their mean: give one of "
                "the two"
            )
        if self.stages.get("mothers", {}).get("snapshots"):
            raise MnxError(
                "recipe: mothers.snapshots = true: a mother is no member of the ensemble; give members.snapshots or "
                "independent.snapshots"
            )
        if self.stages.get("members", {}).get("identity"):
            raise MnxError(
                "recipe: members.identity = true: a hatched member begins as her mother ends; give mothers.identity or "
                "independent.identity"
            )
        for stage in self.stages:
            if stage not in STAGES:
                raise MnxError(f"recipe: no stage '{stage}'; there are {', '.join(STAGES)}")
            try:
                self.of(stage)
            except MnxError as error:
                raise MnxError(f"{error}  (in stage {stage})") from None

    def of(self, stage: str) -> Recipe:
        """The recipe of one stage: its own keys in place of the common ones, and none that is not for the stage."""
        never = {key: False for key, place in _NOT_OF.items() if place == stage}
        return dataclasses.replace(self, **{**self.stages.get(stage, {}), **never}, stages={})

    def batch_of(self, examples: int) -> int:
        """The size of a batch where there are so many training examples."""
        fitting = [size for size in SIZES if size * STEPS <= examples]
        return min(self.batch or max(fitting, default=SIZES[0]), examples)

    def augmentation(self, sizes: Collection[tuple[int, ...]]) -> Augmentation:
        """What is done to training examples.

        Args:
            sizes: the sizes of the inputs that are images, each once; what concerns images is left out where there are
                none.
        """
        if not sizes:
            return Augmentation(mixup=self.mixup)
        crop = int(self.crop)
        if 0 < self.crop < 1 and len(sizes) == 1:
            crop = round(self.crop * min(next(iter(sizes))))
        return Augmentation(crop, "reflect", self.mirror, self.cutout, self.mixup)

    def step(
        self, task: str = "classes", default_loss: str = "cross-entropy", counts: Sequence[int] = ()
    ) -> StepSettings:
        """What the training step must know.

        Args:
            task: what is predicted, see `losses.TASKS`.
            default_loss: in place of auto.
            counts: training examples of each class, for balanced class weights.

        Raises:
            MnxError: class weights are asked for where there are no classes.
        """
        weights: tuple[float, ...] = ()
        if self.class_weights != "none" and not len(counts):
            raise MnxError(f"recipe: class_weights = {self.class_weights} needs labels that are classes: give none")
        if self.class_weights not in CLASS_WEIGHTS:
            weights = tuple(_numbers(self.class_weights))
        if self.class_weights == "balanced":
            total, present = sum(counts), sum(1 for count in counts if count)
            weights = tuple(float(total / (present * count)) if count else 0.0 for count in counts)
        return StepSettings(
            task=task,
            loss="distillation" if self.teacher else default_loss if self.loss == AUTO else self.loss,
            distillation=self.distillation,
            temperature=self.temperature,
            label_smoothing=self.label_smoothing,
            class_weights=weights,
            optimiser=self.optimiser,
            momentum=self.momentum,
            nesterov=self.nesterov and self.optimiser == "sgd",
            beta2=self.beta2,
            epsilon=self.epsilon,
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm or None,
            average=self.average,
            accumulate=self.accumulate,
            frozen_norm=self.frozen_norm,
            mixup=self.mixup > 0,
        )

    def to_json(self) -> dict[str, Any]:
        """The fields as plain data; see `recipe_files.from_document`."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()} | {
            "stages": {stage: dict(keys) for stage, keys in self.stages.items()}
        }


_OF_STEP = (
    "accumulate",
    "optimiser",
    "momentum",
    "beta2",
    "epsilon",
    "average",
    "label_smoothing",
    "distillation",
    "temperature",
)
_OF_IMAGES = ("mirror", "cutout", "mixup")

_Range = tuple[Callable[[Any], bool], str]
_SHARE: _Range = (lambda value: 0 <= value < 1, "a number in [0, 1)")
_COUNT: _Range = (lambda value: value >= 0, "a whole number, 0 or more")
_SOME: _Range = (lambda value: value >= 1, "a whole number, 1 or more")
_AMOUNT: _Range = (lambda value: 0 <= value < float("inf"), "a finite number, 0 or more")


def _one_of(values: tuple[str, ...]) -> _Range:
    return (lambda value: value in values, f"one of {', '.join(values)}")


def _numbers(text: str) -> list[float]:
    """Numbers between commas; a negative one where there is another text."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        return [-1.0]


RANGES: Mapping[str, _Range] = {
    **{key: settings.RANGES[key] for key in _OF_STEP},
    **{key: augment.RANGES[key] for key in _OF_IMAGES},
    "crop": (
        lambda value: 0 <= value < 1 or (value < float("inf") and value == int(value) > 0),
        "a whole number of pixels, or a share in [0, 1) of the images' shorter side",
    ),
    "lr": (lambda value: 0 < value < 100, "a number above 0 and below 100"),
    "batch": (lambda value: value >= 0, "a whole number, 0 for one that the number of examples chooses"),
    "weight_decay": _SHARE,
    "clip_norm": (lambda value: 0 <= value < float("inf"), "a finite number, 0 for no clipping"),
    "loss": _one_of((AUTO, *(name for name in LOSSES if name != "distillation"))),
    "teacher": (lambda value: True, "the path of an .onnx file"),
    "class_weights": (
        lambda value: (
            value in CLASS_WEIGHTS or (max(_numbers(value)) > 0 and all(0 <= n < 1e6 for n in _numbers(value)))
        ),
        "none, balanced, or a number below 1e6 for every class, 0 or more, by commas",
    ),
    "schedule": _one_of(SCHEDULES),
    "warmup": _AMOUNT,
    "epochs": _SOME,
    "seconds": _AMOUNT,
    "multiply_adds": _AMOUNT,
    "watch": _one_of(WATCHED),
    "grace": _COUNT,
    "patience": _SOME,
    "patience_share": _SHARE,
    "anneal": _COUNT,
    "peak": (lambda value: 0 <= value <= 1, "a number in [0, 1]"),
    "milestones": (
        lambda value: all(0 < share < 1 for share in value) and list(value) == sorted(set(value)),
        "numbers in (0, 1) that rise",
    ),
    "gamma": (lambda value: 0 < value <= 1, "a number in (0, 1]"),
    "cycle": _SOME,
    "settle": _SHARE,
    "retries": _COUNT,
    "retry_rate": (lambda value: 0 < value < 1, "a number in (0, 1)"),
}
"""Legal values of a recipe's keys, and how to say so."""


def in_words(value: Any) -> str:
    """A value as a recipe's file has it."""
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
