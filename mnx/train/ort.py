"""The engine on ONNX Runtime training: one network on a device, its steps, alone or with others, and its outputs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from mnx.data.rows import Raw
from mnx.data.scaling import Scaling
from mnx.errors import MnxError
from mnx.graphs.model import Array, Model, Shape
from mnx.graphs.proto import to_proto
from mnx.graphs.run import Batch
from mnx.graphs.shapes import shapes
from mnx.train.augment import Augmentation
from mnx.train.batch_inputs import examples
from mnx.train.feed import Fed, Feed
from mnx.train.fused import Fused
from mnx.train.kernels import with_cuda_kernels, with_quick_kernels
from mnx.train.on_device import OnDevice
from mnx.train.onnxruntime_sessions import differentiate, require_device, run, session
from mnx.train.settings import AVERAGE, WEIGHT, Diverged, StepSettings
from mnx.train.step_graph import Differentiate, step_graph
from mnx.train.teacher import Teacher


class Engine:
    """Trains one model on one device. Two engines with equal arguments and batches do equal steps, bit for bit."""

    def __init__(
        self, model: Model, settings: StepSettings, device: str = "cpu", threads: int | None = None, seed: int = 0
    ) -> None:
        """Build the step and load the model's weights onto the device.

        Args:
            model: a canonical model.
            settings: of loss and optimiser.
            device: 'cpu' or 'cuda'.
            threads: of the CPU; None for as many as there are cores.
            seed: of Dropout's masks, which depend on it and the number of the step alone.

        Raises:
            MnxError: ONNX Runtime training or the device is missing, or the model cannot be trained.
            GraphError: an op has no rule, or a shape is not known.
        """
        most = 8 * (os.cpu_count() or 1)
        if threads is not None and not 1 <= threads <= most:
            raise MnxError(f"threads = {threads}: give 1 to {most} on this machine, or none for all cores")
        require_device(device)
        self._model, self._threads = model, threads or os.cpu_count() or 1
        gradients: Differentiate = _gradients_on_cuda
        if device == "cpu":
            gradients = partial(_quick_gradients, shapes=shapes(model, 1), threads=self._threads)
        graph = step_graph(model, settings, gradients)
        weights = [slot.input for slot in graph.state if slot.key.startswith(WEIGHT)]
        self._evaluator = session(to_proto(model, weights).SerializeToString(), device, self._threads)
        self._network = OnDevice(model, graph, settings, device, seed)

    @cached_property
    def _alone(self) -> Fused:
        return Fused([self._network], self._threads)

    def feed(self, raw: Sequence[Raw], scalings: Sequence[Scaling], augmentation: Augmentation, seed: int) -> Feed:
        """What makes batches of raw examples on this engine's device, with draws by a seed; see `Feed`."""
        return Feed(raw, scalings, augmentation, self._network.device, seed=seed)

    def teacher(self, model: Model) -> Teacher:
        """A network that answers batches on this engine's device; see `Teacher`."""
        return Teacher(model, self._network.device, self._threads)

    def together(self, others: Sequence[Engine]) -> Fused:
        """Steps of this network and of others on the same batches, in one session.

        Every network computes what it would alone, and each engine's state goes along.

        Args:
            others: engines with the same settings, on the same device.

        Raises:
            MnxError: the networks do not take the same batches.
        """
        networks = [self._network, *(other._network for other in others)]
        return Fused(networks, self._threads) if others else self._alone

    def step(
        self, x: Batch | Fed, y: Array, lr: float, teacher: Array | None = None, mix: tuple[Array, float] | None = None
    ) -> tuple[float, float]:
        """Train on one batch.

        Args:
            x: examples, shape (batch, ...), one array for every input, or what a feed has made of them; the batch may
                have another size at every step.
            y: what is to be predicted, as the task has it: classes (batch,), 0 or 1 (batch,), or rows (batch, width).
            lr: the learning rate.
            teacher: a teacher's logits (batch, width), for distillation.
            mix: with mixup, the targets of the examples' partners and the share that an example keeps; x is mixed.

        Returns:
            The mean loss of the batch, and the sum over its examples of their scores (see `losses.SCORE`), both with
            the weights before the step.

        Raises:
            MnxError: examples or targets do not fit the model, or the batch cannot be divided into equal parts.
            Diverged: the loss is not finite; the weights stay as they were before the step.
        """
        (outcome,) = self._alone.step(x, y, [lr], teacher, mix)
        if isinstance(outcome, Diverged):
            raise outcome
        return outcome

    def evaluate(self, x: Batch, batch: int = 256, weights: Mapping[str, Array] | None = None) -> Array:
        """The outputs for examples in eval mode (running statistics, no Dropout), float32, shape (n, width).

        With a moving average these are the outputs of the averaged weights.

        Args:
            x: examples, one array for every input.
            batch: how many go through the network at a time.
            weights: numbers to use in place of the current ones, by weight name; the others stay.

        Raises:
            MnxError: the examples do not fit the model, `batch` is not positive, or a weight is unknown or misshapen.
        """
        if batch < 1:
            raise MnxError(f"batch = {batch}: give 1 or more")
        graph = self._network.graph
        feeds, count = examples(self._model.name, graph, x)
        binding, values = self._evaluator.io_binding(), self._weights()
        for name, array in (weights or {}).items():
            values[name] = self._network.value(WEIGHT + name, array)
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        outputs = np.empty((count, graph.width), np.float32)
        for start in range(0, count, batch):
            for name, array in feeds.items():
                binding.bind_cpu_input(name, array[start : start + batch])
            binding.bind_output(self._model.outputs[0].name, "cpu")
            run(self._evaluator, binding)
            outputs[start : start + batch] = binding.get_outputs()[0].numpy()
        return outputs

    def state(self) -> dict[str, Array]:
        """Copies of all that training changes by 'weight/NAME', 'momentum/NAME' and so on; the steps done as 'step'."""
        return self._network.state()

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Go on from a state: training continues bit for bit as where it was taken.

        Raises:
            MnxError: the state is not one of this model and these settings.
        """
        self._network.load_state(state)

    def model(self) -> Model:
        """The model as it was given, with the current weights and statistics, or their moving average."""
        return self._model.with_weights({name: np.array(value.numpy()) for name, value in self._weights().items()})

    def _weights(self) -> dict[str, Any]:
        """What the model is evaluated with, by name, on the device."""
        part = AVERAGE if self._network.settings.average else WEIGHT
        values = self._network.values
        return {key.removeprefix(part): value for key, value in values.items() if key.startswith(part)}


def _quick_gradients(proto: bytes, names: Sequence[str], loss: str, shapes: Mapping[str, Shape], threads: int) -> bytes:
    return with_quick_kernels(differentiate(proto, names, loss), shapes, threads)


def _gradients_on_cuda(proto: bytes, names: Sequence[str], loss: str) -> bytes:
    return with_cuda_kernels(differentiate(proto, names, loss))
