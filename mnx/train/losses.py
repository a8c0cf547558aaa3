"""Losses as nodes of the step graph: task -> targets, loss -> the mean over a batch.

cross-entropy   - sum over classes of weight * target * log_softmax(logits); the target of a label's class is
                1 - s + s / classes, that of the others s / classes, with s the label smoothing. Divided by the number
                of examples, or by the sum of their labels' class weights (torch.nn.CrossEntropyLoss).
binary          - target * log(sigmoid) - (1 - target) * log(1 - sigmoid), mean over outputs; both logarithms through
                log_softmax of (logit, 0), which is stable and has the right slope at 0.
mse, mae        mean over outputs of (output - target)^2, |output - target|.
distillation    (1 - d) cross-entropy + d T^2 KL(softmax(teacher / T) | softmax(logits / T)) (Hinton et al. 2015).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from onnx import TensorProto

from mnx.errors import MnxError
from mnx.graphs.builder import Builder
from mnx.graphs.model import Model, Port
from mnx.train.settings import StepSettings

TARGETS = "mnx:targets"
"""The input that takes what is to be predicted; see `target_port`."""
TEACHER = "mnx:teacher"
"""The input that takes a teacher's logits, float32, shape (batch, classes)."""
OTHERS = "mnx:others"
"""The input that takes the targets of the examples that those of the batch are mixed with, as `TARGETS`."""
MIX = "mnx:mix"
"""The weight that holds the share of the example itself in a mixture, a float32 scalar."""
LOSS = "mnx:loss"
"""The output with the mean loss of the batch, a float32 scalar."""
SCORE = "mnx:score"
"""The output with a float32 scalar, added up over the batch: predictions that are right (of several outputs, the share
that is), or for numbers the mean squared error of each."""


@dataclass(frozen=True)
class TaskForm:
    """The targets of a task: numpy dtype, whether there is one for every output, the loss where none is named."""

    dtype: str
    wide: bool
    default: str


TASKS: Mapping[str, TaskForm] = {
    "classes": TaskForm("int64", False, "cross-entropy"),
    "distribution": TaskForm("float32", True, "cross-entropy"),
    "binary": TaskForm("int64", False, "binary"),
    "labels": TaskForm("float32", True, "binary"),
    "numbers": TaskForm("float32", True, "mse"),
}
"""What is predicted: a class of several; shares of classes; yes or no (one logit); several of these; numbers."""


def target_port(task: str, width: int) -> Port:
    """The dtype and shape, without the batch, of the targets of a model with so many outputs."""
    form = TASKS[task]
    return Port(TARGETS, form.dtype, (width,) if form.wide else ())


def with_loss(model: Model, settings: StepSettings) -> Model:
    """The model with its targets as further inputs, and `LOSS` and `SCORE` as its outputs.

    Args:
        model: with one output (batch, width).
        settings: name task and loss.

    Raises:
        MnxError: the loss is unknown, or none of this task; the model has too few or too many outputs for the task.
    """
    width = _width(model, settings)
    loss = LOSSES[settings.loss]
    builder, outputs = Builder("mnx:loss:"), model.outputs[0].name
    given = [target_port(settings.task, width)]
    scored = targets = _targets(builder, TARGETS, settings, width)
    if settings.mixup:
        given.append(replace(given[0], name=OTHERS))
        targets = _mixed(builder, targets, _targets(builder, OTHERS, settings, width))
    if settings.loss == "distillation":
        given.append(Port(TEACHER, "float32", (width,)))
    builder.add("Identity", loss.build(builder, outputs, targets, width, settings), outputs=[LOSS])
    _score(builder, outputs, scored, settings)
    return model.replace(
        inputs=(*model.inputs, *given),
        outputs=(),
        nodes=(*model.nodes, *builder.nodes),
        weights={**model.weights, **builder.weights},
    )


def _width(model: Model, settings: StepSettings) -> int:
    if len(model.outputs) != 1 or len(model.outputs[0].shape) != 1:
        ends = [f"{port.name}{['batch', *port.shape]}" for port in model.outputs]
        raise MnxError(
            f"{model.name} has outputs {', '.join(ends)}; training takes networks with one output of shape "
            "(batch, width)"
        )
    width = model.outputs[0].shape[0]
    require_loss(settings, width)
    if settings.task in ("classes", "distribution") and width < 2:
        raise MnxError(
            f"{model.name} has one logit; training takes classifiers with a logit for each of 2 or more classes, or "
            "one logit and labels that are 0 or 1"
        )
    if settings.task == "binary" and width != 1:
        raise MnxError(f"{model.name} has {width} outputs; labels that are 0 or 1 take one logit")
    return width


def require_loss(settings: StepSettings, width: int) -> None:
    """Refuse a loss that is none for the task, or that a setting does not go with.

    Args:
        settings: name task and loss.
        width: how many numbers the networks give for an example.

    Raises:
        MnxError: the loss is unknown, or none of this task; class weights are not one a class; label smoothing is asked
            for where there are no classes.
    """
    if settings.task not in TASKS or settings.loss not in LOSSES:
        raise MnxError(
            f"there is no task '{settings.task}' with the loss '{settings.loss}'; tasks are {', '.join(TASKS)}, losses "
            f"{', '.join(LOSSES)}"
        )
    if settings.task not in LOSSES[settings.loss].tasks:
        if settings.loss == "distillation":
            raise MnxError(f"a teacher tells classes apart, and targets are {settings.task}: train without teacher")
        fitting = [name for name, loss in LOSSES.items() if settings.task in loss.tasks and name != "distillation"]
        raise MnxError(
            f"the loss '{settings.loss}' is none for targets that are {settings.task}: give {' or '.join(fitting)}"
        )
    if settings.class_weights and len(settings.class_weights) != width:
        raise MnxError(f"class_weights are {len(settings.class_weights)}; the networks tell {width} classes apart")
    if settings.label_smoothing and settings.loss not in ("cross-entropy", "distillation"):
        raise MnxError(
            f"label_smoothing = {settings.label_smoothing} spreads the share of a class over the others; the loss "
            f"'{settings.loss}' of targets that are {settings.task} has no classes: leave it at 0"
        )


def _targets(builder: Builder, given: str, settings: StepSettings, width: int) -> str:
    """The targets as floats, (batch, width)."""
    low = settings.label_smoothing / width
    if settings.task == "classes":
        off_on = builder.weight("off_on", np.array([low, 1 - settings.label_smoothing + low], np.float32))
        return builder.add("OneHot", given, builder.weight("classes", np.array(width, np.int64)), off_on)
    if settings.task == "distribution" and settings.label_smoothing:
        kept = builder.weight("kept", np.array(1 - settings.label_smoothing, np.float32))
        return builder.add("Add", builder.add("Mul", given, kept), builder.weight("low", np.array(low, np.float32)))
    if settings.task == "binary":
        axis = builder.weight("last", np.array([1], np.int64))
        return builder.add("Unsqueeze", builder.add("Cast", given, to=int(TensorProto.FLOAT)), axis)
    return given


def _mixed(builder: Builder, targets: str, others: str) -> str:
    """Targets of examples that are mixed as mix * x + (1 - mix) * other (Zhang et al. 2018)."""
    builder.weights[MIX] = np.array(1, np.float32)
    rest = builder.add("Sub", builder.weight("one", np.array(1, np.float32)), MIX)
    return builder.add("Add", builder.add("Mul", targets, MIX), builder.add("Mul", others, rest))


def _score(builder: Builder, outputs: str, targets: str, settings: StepSettings) -> None:
    if settings.task in ("classes", "distribution"):
        label = TARGETS if settings.task == "classes" else builder.add("ArgMax", targets, axis=1, keepdims=0)
        right = builder.add("Equal", builder.add("ArgMax", outputs, axis=1, keepdims=0), label)
        each = builder.add("Cast", right, to=int(TensorProto.FLOAT))
    else:
        if settings.task == "numbers":
            difference = builder.add("Sub", outputs, targets)
            of_outputs = builder.add("Mul", difference, difference)
        else:
            said = builder.add("Greater", outputs, builder.weight("zero", np.array(0, np.float32)))
            meant = builder.add("Greater", targets, builder.weight("half", np.array(0.5, np.float32)))
            of_outputs = builder.add("Cast", builder.add("Equal", said, meant), to=int(TensorProto.FLOAT))
        each = builder.add("ReduceMean", of_outputs, builder.weight("outputs", np.array([1], np.int64)), keepdims=0)
    builder.add("ReduceSum", each, keepdims=0, outputs=[SCORE])


def _cross_entropy(builder: Builder, outputs: str, targets: str, width: int, settings: StepSettings) -> str:
    likelihood = builder.add("Mul", builder.add("LogSoftmax", outputs, axis=1), targets)
    axis = builder.weight("axis", np.array([1], np.int64))
    if not settings.class_weights:
        each = builder.add("ReduceSum", likelihood, axis, keepdims=0)
        return builder.add("Neg", builder.add("ReduceMean", each, keepdims=0))
    weights = builder.weight("class_weights", np.array(settings.class_weights, np.float32))
    each = builder.add("ReduceSum", builder.add("Mul", likelihood, weights), axis, keepdims=0)
    if settings.task == "classes" and not settings.mixup:
        total = builder.add("ReduceSum", builder.add("Gather", weights, TARGETS, axis=0), keepdims=0)
        return builder.add("Neg", builder.add("Div", builder.add("ReduceSum", each, keepdims=0), total))
    return builder.add("Neg", builder.add("ReduceMean", each, keepdims=0))


def _binary(builder: Builder, outputs: str, targets: str, width: int, settings: StepSettings) -> str:
    last = builder.weight("pair", np.array([-1], np.int64))
    pair = builder.add(
        "Mul", builder.add("Unsqueeze", outputs, last), builder.weight("yes", np.array([1, 0], np.float32))
    )
    yes = builder.add("Unsqueeze", targets, last)
    no = builder.add("Sub", builder.weight("whole", np.array(1, np.float32)), yes)
    shares = builder.add("Concat", yes, no, axis=-1)
    each = builder.add(
        "ReduceSum", builder.add("Mul", builder.add("LogSoftmax", pair, axis=-1), shares), last, keepdims=0
    )
    if settings.class_weights:
        each = builder.add("Mul", each, builder.weight("class_weights", np.array(settings.class_weights, np.float32)))
    return builder.add("Neg", builder.add("ReduceMean", each, keepdims=0))


def _mse(builder: Builder, outputs: str, targets: str, width: int, settings: StepSettings) -> str:
    difference = builder.add("Sub", outputs, targets)
    square = builder.add("Mul", difference, builder.add("Identity", difference))
    return builder.add("ReduceMean", square, keepdims=0)


def _mae(builder: Builder, outputs: str, targets: str, width: int, settings: StepSettings) -> str:
    above = builder.add("Relu", builder.add("Sub", outputs, targets))
    below = builder.add("Relu", builder.add("Sub", targets, outputs))
    return builder.add("ReduceMean", builder.add("Add", above, below), keepdims=0)


def _distillation(builder: Builder, outputs: str, targets: str, width: int, settings: StepSettings) -> str:
    labelled = _cross_entropy(builder, outputs, targets, width, settings)
    cold = builder.weight("cold", np.array(1 / settings.temperature, np.float32))
    axis = builder.weight("classes_axis", np.array([1], np.int64))
    teacher = builder.add("Mul", TEACHER, cold)
    shares = builder.add("Softmax", teacher, axis=1)
    ours = builder.add("LogSoftmax", builder.add("Mul", outputs, cold), axis=1)
    gap = builder.add("Sub", builder.add("LogSoftmax", teacher, axis=1), ours)
    each = builder.add("ReduceSum", builder.add("Mul", shares, gap), axis, keepdims=0)
    parts = {
        labelled: 1 - settings.distillation,
        builder.add("ReduceMean", each, keepdims=0): settings.distillation * settings.temperature**2,
    }
    weighted = [
        builder.add("Mul", part, builder.weight("share", np.array(share, np.float32))) for part, share in parts.items()
    ]
    return builder.add("Add", *weighted)


@dataclass(frozen=True)
class Loss:
    """A loss: the tasks it is for, and what builds it from (builder, outputs, targets, width, settings)."""

    tasks: tuple[str, ...]
    build: Callable[[Builder, str, str, int, StepSettings], str]


LOSSES: Mapping[str, Loss] = {
    "cross-entropy": Loss(("classes", "distribution"), _cross_entropy),
    "binary": Loss(("binary", "labels"), _binary),
    "mse": Loss(("numbers",), _mse),
    "mae": Loss(("numbers",), _mae),
    "distillation": Loss(("classes", "distribution"), _distillation),
}
"""The losses by name. A new one is one entry."""
