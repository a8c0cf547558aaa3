"""The whole training step as one ONNX model: forward, loss, gradients, optimiser.

Everything that training changes is an input and an output of the graph: parameters, BatchNormalization's statistics,
and what the optimiser remembers of them. Nothing of it is held in the graph itself.
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
from mnx.train.losses import LOSS, MIX, SCORE, target_port, with_loss
from mnx.train.lowering import Lowered, Mask, lowered
from mnx.train.optimiser import LAST, input_of, new, optimiser, parts_of, rates, sum_of
from mnx.train.settings import AVERAGE, WEIGHT, StepSettings

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
        targets: the input that takes what is to be predicted.
        width: the number of the model's outputs an example.
        masks: the inputs that take Dropout's masks.
        state: what training changes: weights and statistics under `WEIGHT`, what the optimiser remembers of them under
            `MOMENTUM`, `SQUARE` and `AVERAGE`.
        sums: sums of gradients over the parts of a batch, zeros between steps; empty without accumulation.
    """

    proto: bytes
    x: tuple[Port, ...]
    targets: Port
    width: int
    masks: tuple[Mask, ...]
    state: tuple[Slot, ...]
    sums: tuple[Slot, ...]


def step_graph(model: Model, settings: StepSettings, differentiate: Differentiate) -> StepGraph:
    """Build the training step of a model.

    Args:
        model: a canonical model with one output, shape (batch, width).
        settings: of loss and optimiser.
        differentiate: what builds gradients.

    Raises:
        MnxError: the model has other outputs than the task wants, no parameters, or nodes without right gradients.
        GraphError: an op has no rule, or a shape is not known.
    """
    require_differentiable(model)
    kinds = parameters(model)
    trained = [name for name, kind in kinds.items() if kind.trained]
    if not trained:
        raise MnxError(f"{model.name} holds no parameters: there is nothing to train")
    body = lowered(model, settings.frozen_norm)
    forward = to_proto(with_loss(body.model, settings), [*kinds, *([MIX] if settings.mixup else [])])
    proto = onnx.ModelProto()
    proto.ParseFromString(differentiate(forward.SerializeToString(), trained, LOSS))
    state, sums = _state(model, body, kinds, settings)
    gradients = {name: f"{name}_grad" for name in trained}
    _append(proto.graph, optimiser(gradients, kinds, body.statistics, settings), settings, (*state, *sums))
    width = model.outputs[0].shape[0]
    targets = target_port(settings.task, width)
    return StepGraph(proto.SerializeToString(), model.inputs, targets, width, body.masks, state, sums)


def initial_state(model: Model, graph: StepGraph) -> dict[str, Array]:
    """The state before the first step: the model's weights, averages that are equal to them, and zeros."""

    def first(slot: Slot) -> Array:
        for part in (WEIGHT, AVERAGE):
            if slot.key.startswith(part):
                return model.weights[slot.key.removeprefix(part)]
        return np.zeros(slot.shape, np.float32)

    return {slot.key: first(slot) for slot in graph.state}


def _state(
    model: Model, body: Lowered, kinds: Mapping[str, Kind], settings: StepSettings
) -> tuple[tuple[Slot, ...], tuple[Slot, ...]]:
    state, sums = [], []
    for name, kind in kinds.items():
        shape = model.weights[name].shape
        state.append(Slot(WEIGHT + name, name, new(name) if kind.trained else body.statistics[name], shape))
        for part in parts_of(settings, kind):
            state.append(Slot(part + name, input_of(part, name), new(input_of(part, name)), shape))
        if kind.trained and settings.accumulate > 1:
            sums.append(Slot(sum_of(name), sum_of(name), new(sum_of(name)), shape))
    return tuple(state), tuple(sums)


def _append(graph: onnx.GraphProto, update: Builder, settings: StepSettings, state: Sequence[Slot]) -> None:
    """Append the update's nodes in place; the gradients cease to be outputs, loss and new state become them."""
    nodes = Model("optimiser", (), (), tuple(update.nodes), update.weights)
    appended = to_proto(nodes).graph
    graph.node.extend(appended.node)
    graph.initializer.extend(appended.initializer)
    known = {value.name for value in graph.input}
    inputs: list[tuple[str, int, Shape]] = [(name, TensorProto.FLOAT, ()) for name in rates(settings, 0.0, 0)]
    inputs += [(LAST, TensorProto.BOOL, ())] if settings.accumulate > 1 else []
    inputs += [(slot.input, TensorProto.FLOAT, slot.shape) for slot in state if slot.input not in known]
    graph.input.extend(helper.make_tensor_value_info(name, kind, list(shape)) for name, kind, shape in inputs)
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in (LOSS, SCORE))
    graph.output.extend(
        helper.make_tensor_value_info(slot.output, TensorProto.FLOAT, list(slot.shape)) for slot in state
    )
