"""The whole training step as one ONNX model: forward, mean cross-entropy, gradients, optimiser.

Everything that training changes is an input and an output of the graph: parameters, their momenta, BatchNormalization's
statistics. Nothing of it is held in the graph itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from mnx.errors import MnxError
from mnx.graphs.builder import Builder
from mnx.graphs.model import Array, Model, Port, Shape
from mnx.graphs.ops.rule import Kind
from mnx.graphs.parameters import parameters
from mnx.graphs.proto import to_proto
from mnx.train.lint import require_differentiable
from mnx.train.lowering import Lowered, Mask, lowered
from mnx.train.optimiser import LR, momentum_of, new, optimiser
from mnx.train.settings import MOMENTUM, StepSettings

LABELS = "mnx:labels"
"""The input that takes the class of every example, int64, shape (batch,)."""
LOSS = "mnx:loss"
"""The output with the mean loss of the batch, a float32 scalar."""
CORRECT = "mnx:correct"
"""The output with the number of examples whose largest logit is that of their class, an int64 scalar."""

WEIGHT = "weight/"

Differentiate = Callable[[bytes, Sequence[str], str], bytes]
"""(forward graph, names to differentiate by, loss) -> a graph that also makes NAME_grad for every name."""


@dataclass(frozen=True)
class Slot:
    """One piece of the training state: its name in checkpoints, its input and output in the graph, its shape."""

    key: str
    input: str
    output: str
    shape: Shape


@dataclass(frozen=True)
class StepGraph:
    """The step of one model.

    Attributes:
        proto: the serialised ONNX model.
        x: the inputs that take the examples, each with a symbolic batch axis.
        classes: the number of logits.
        masks: the inputs that take Dropout's masks.
        state: what training changes: weights and statistics under `WEIGHT`, momenta under `MOMENTUM`.
    """

    proto: bytes
    x: tuple[Port, ...]
    classes: int
    masks: tuple[Mask, ...]
    state: tuple[Slot, ...]


def step_graph(model: Model, settings: StepSettings, differentiate: Differentiate) -> StepGraph:
    """Build the training step of a model.

    Args:
        model: a canonical model with one output of logits, shape (batch, classes).
        settings: of loss and optimiser.
        differentiate: what builds gradients.

    Raises:
        MnxError: the model has other outputs, no parameters, or nodes without right gradients.
        GraphError: an op has no rule, or a shape is not known.
    """
    classes = _classes(model)
    require_differentiable(model)
    kinds = parameters(model)
    trained = [name for name, kind in kinds.items() if kind.trained]
    if not trained:
        raise MnxError(f"{model.name} holds no parameters: there is nothing to train")
    body = lowered(model)
    forward = to_proto(with_loss(body.model, classes, settings.label_smoothing), list(kinds))
    proto = onnx.ModelProto()
    proto.ParseFromString(differentiate(forward.SerializeToString(), trained, LOSS))
    state = _state(model, body, kinds, settings)
    _append_optimiser(proto.graph, optimiser({name: f"{name}_grad" for name in trained}, kinds, settings), state)
    return StepGraph(proto.SerializeToString(), model.inputs, classes, body.masks, state)


def with_loss(model: Model, classes: int, label_smoothing: float) -> Model:
    """The model with labels as a further input, and the loss and the number of correct predictions as its outputs.

    The loss is -mean over the batch of sum over classes of target * log_softmax(logits), where the target is
    1 - s + s / classes for the label's class and s / classes for the others.
    """
    logits = model.outputs[0].name
    builder = Builder("mnx:loss:")
    low = label_smoothing / classes
    off_on = builder.weight("off_on", np.array([low, 1 - label_smoothing + low], np.float32))
    depth = builder.weight("classes", np.array(classes, np.int64))
    axis = builder.weight("axis", np.array([1], np.int64))
    target = builder.add("OneHot", LABELS, depth, off_on)
    likelihood = builder.add("Mul", builder.add("LogSoftmax", logits, axis=1), target)
    each = builder.add("ReduceSum", likelihood, axis, keepdims=0)
    builder.add("Neg", builder.add("ReduceMean", each, keepdims=0), outputs=[LOSS])
    hit = builder.add("Equal", builder.add("ArgMax", logits, axis=1, keepdims=0), LABELS)
    hits = builder.add("Cast", hit, to=int(TensorProto.INT64))
    builder.add("ReduceSum", hits, keepdims=0, outputs=[CORRECT])
    return model.replace(
        inputs=(*model.inputs, Port(LABELS, "int64", ())),
        outputs=(),
        nodes=(*model.nodes, *builder.nodes),
        weights={**model.weights, **builder.weights},
    )


def initial_state(model: Model, graph: StepGraph) -> dict[str, Array]:
    """The state before the first step: the model's weights, and momenta of 0."""
    return {
        slot.key: model.weights[slot.input] if slot.key.startswith(WEIGHT) else np.zeros(slot.shape, np.float32)
        for slot in graph.state
    }


def _classes(model: Model) -> int:
    if len(model.outputs) != 1 or len(model.outputs[0].shape) != 1:
        ends = [f"{port.name}{['batch', *port.shape]}" for port in model.outputs]
        raise MnxError(
            f"{model.name} has outputs {', '.join(ends)}; training takes classifiers with one output of logits, shape "
            "(batch, classes)"
        )
    classes = model.outputs[0].shape[0]
    if classes < 2:
        raise MnxError(
            f"{model.name} has one logit; training takes classifiers with a logit for each of 2 or more classes"
        )
    return classes


def _state(model: Model, body: Lowered, kinds: Mapping[str, Kind], settings: StepSettings) -> tuple[Slot, ...]:
    slots = []
    for name, kind in kinds.items():
        shape = model.weights[name].shape
        slots.append(Slot(WEIGHT + name, name, new(name) if kind.trained else body.statistics[name], shape))
        if kind.trained and settings.momentum:
            momentum = momentum_of(name)
            slots.append(Slot(MOMENTUM + name, momentum, new(momentum), shape))
    return tuple(slots)


def _append_optimiser(graph: onnx.GraphProto, update: Builder, state: Sequence[Slot]) -> None:
    """Append the update's nodes in place; the gradients cease to be outputs, loss and new state become them."""
    nodes = Model("optimiser", (), (), tuple(update.nodes), update.weights)
    appended = to_proto(nodes).graph
    graph.node.extend(appended.node)
    graph.initializer.extend(appended.initializer)
    known = {value.name for value in graph.input}
    graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
        for name, shape in [(LR, ()), *((slot.input, slot.shape) for slot in state)]
        if name not in known
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(LOSS, TensorProto.FLOAT, []))
    graph.output.append(helper.make_tensor_value_info(CORRECT, TensorProto.INT64, []))
    graph.output.extend(
        helper.make_tensor_value_info(slot.output, TensorProto.FLOAT, list(slot.shape)) for slot in state
    )
