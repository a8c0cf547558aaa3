"""The engine on ONNX Runtime training: runs the step graph, with everything that training changes on the device.

The state lives in two sets of buffers. A step reads one set and writes the other, then they change places: one buffer
as input and output of the same step gives wrong weights, because gradients are read after the first new weights are
written (DESIGN.md section 6).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from mnx.errors import MnxError
from mnx.graphs.model import Array, Model
from mnx.graphs.proto import to_proto
from mnx.graphs.run import Batch, arrays_of
from mnx.train.kernels import with_quick_kernels
from mnx.train.lowering import draw_masks
from mnx.train.onnxruntime_sessions import buffer, differentiate, require_device, run, session
from mnx.train.optimiser import LR
from mnx.train.settings import Diverged, StepSettings
from mnx.train.step_graph import CORRECT, LABELS, LOSS, WEIGHT, initial_state, step_graph

STEP: Final = "step"
"""The name of the number of steps done in an engine's state."""


class Engine:
    """Trains one model on one device. Two engines with equal arguments and batches do equal steps, bit for bit."""

    def __init__(
        self, model: Model, settings: StepSettings, device: str = "cpu", threads: int | None = None, seed: int = 0
    ) -> None:
        """Build the step and load the model's weights onto the device.

        Args:
            model: a canonical classifier.
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
        self._model, self._device, self._seed, self._steps = model, device, seed, 0
        self._graph = step_graph(model, settings, _quick_gradients if device == "cpu" else differentiate)
        weights = [slot.input for slot in self._graph.state if slot.key.startswith(WEIGHT)]
        threads = threads or os.cpu_count() or 1
        self._trainer = session(self._graph.proto, device, threads)
        self._evaluator = session(to_proto(model, weights).SerializeToString(), device, threads)
        self._buffers = [
            {slot.key: buffer(slot.shape, np.float32, device) for slot in self._graph.state} for _ in range(2)
        ]
        self._loss, self._correct = (buffer((), dtype, "cpu") for dtype in (np.float32, np.int64))
        self._bindings = [self._step_binding(source, target) for source, target in ((0, 1), (1, 0))]
        self._current = 0
        self._fill(initial_state(model, self._graph))

    def step(self, x: Batch, y: Array, lr: float) -> tuple[float, int]:
        """Train on one batch.

        Args:
            x: examples, shape (batch, ...), one array for every input; the batch may have another size at every step.
            y: their classes, integers of shape (batch,).
            lr: the learning rate.

        Returns:
            The mean loss of the batch and the number of correct predictions, both with the weights before the step.

        Raises:
            MnxError: examples or classes do not fit the model.
            Diverged: the loss is not finite; the state stays as it was before the step.
        """
        feeds, count = self._examples(x)
        feeds |= {LABELS: self._classes(y, count), LR: np.array(lr, np.float32)}
        feeds |= draw_masks(self._graph.masks, count, self._seed, self._steps)
        binding = self._bindings[self._current]
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        run(self._trainer, binding)
        loss = float(self._loss.numpy())
        if not np.isfinite(loss):
            raise Diverged(self._model.name, self._steps, loss)
        self._current, self._steps = 1 - self._current, self._steps + 1
        return loss, int(self._correct.numpy())

    def evaluate(self, x: Batch, batch: int = 256, weights: Mapping[str, Array] | None = None) -> Array:
        """The logits of examples in eval mode (running statistics, no Dropout), float32, shape (n, classes).

        Args:
            x: examples, one array for every input.
            batch: how many go through the network at a time.
            weights: numbers to use in place of the current ones, by weight name; the others stay.

        Raises:
            MnxError: the examples do not fit the model, `batch` is not positive, or a weight is unknown or misshapen.
        """
        if batch < 1:
            raise MnxError(f"batch = {batch}: give 1 or more")
        feeds, count = self._examples(x)
        binding = self._evaluator.io_binding()
        values = dict(self._buffers[self._current])
        for name, array in (weights or {}).items():
            values[WEIGHT + name] = self._value(WEIGHT + name, array)
        for slot in self._graph.state:
            if slot.key.startswith(WEIGHT):
                binding.bind_ortvalue_input(slot.input, values[slot.key])
        logits = np.empty((count, self._graph.classes), np.float32)
        for start in range(0, count, batch):
            for name, array in feeds.items():
                binding.bind_cpu_input(name, array[start : start + batch])
            binding.bind_output(self._model.outputs[0].name, "cpu")
            run(self._evaluator, binding)
            logits[start : start + batch] = binding.get_outputs()[0].numpy()
        return logits

    def state(self) -> dict[str, Array]:
        """Copies of all that training changes: 'weight/NAME', 'momentum/NAME', and the number of steps as 'step'."""
        arrays = {key: np.array(value.numpy()) for key, value in self._buffers[self._current].items()}
        return {**arrays, STEP: np.array(self._steps, np.int64)}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Go on from a state: training continues bit for bit as where it was taken.

        Raises:
            MnxError: the state is not one of this model and these settings.
        """
        expected = {STEP, *(slot.key for slot in self._graph.state)}
        if set(state) != expected:
            missing, unknown = sorted(expected - set(state)), sorted(set(state) - expected)
            raise MnxError(
                f"the state is not one of {self._model.name} under these settings: "
                f"missing {', '.join(missing) or 'nothing'}; unknown {', '.join(unknown) or 'nothing'}"
            )
        self._fill({key: array for key, array in state.items() if key != STEP})
        self._steps = int(state[STEP])

    def model(self) -> Model:
        """The model as it was given, with the current weights and statistics."""
        current = self._buffers[self._current]
        return self._model.with_weights(
            {
                slot.input: np.array(current[slot.key].numpy())
                for slot in self._graph.state
                if slot.key.startswith(WEIGHT)
            }
        )

    def _fill(self, arrays: Mapping[str, Array]) -> None:
        values = {key: self._checked(key, array) for key, array in arrays.items()}
        for key, array in values.items():
            self._buffers[self._current][key].update_inplace(array)

    def _checked(self, key: str, array: Array) -> Array:
        shapes = {slot.key: slot.shape for slot in self._graph.state}
        if key not in shapes or np.shape(array) != shapes[key]:
            raise MnxError(
                f"{key} of {self._model.name} has shape {shapes.get(key, 'none: it is unknown')}, not {np.shape(array)}"
            )
        return np.array(array, np.float32, order="C")

    def _value(self, key: str, array: Array) -> Any:
        value = buffer(np.shape(array), np.float32, self._device)
        value.update_inplace(self._checked(key, array))
        return value

    def _step_binding(self, source: int, target: int) -> Any:
        binding = self._trainer.io_binding()
        for slot in self._graph.state:
            binding.bind_ortvalue_input(slot.input, self._buffers[source][slot.key])
            binding.bind_ortvalue_output(slot.output, self._buffers[target][slot.key])
        binding.bind_ortvalue_output(LOSS, self._loss)
        binding.bind_ortvalue_output(CORRECT, self._correct)
        return binding

    def _examples(self, x: Batch) -> tuple[dict[str, Array], int]:
        """The arrays by input name, and how many examples they hold."""
        ports, arrays = self._graph.x, arrays_of(x)
        if len(ports) != len(arrays):
            raise MnxError(f"{self._model.name} has {len(ports)} inputs, not {len(arrays)}")
        for port, array in zip(ports, arrays, strict=True):
            alike = array.dtype == np.dtype(port.dtype) and array.shape[1:] == port.shape
            if not alike or not len(array) or len(array) != len(arrays[0]):
                raise MnxError(
                    f"{self._model.name} takes examples of {port.dtype} and shape "
                    f"(batch, {', '.join(map(str, port.shape))}) as {port.name}, not {array.dtype} and {array.shape}"
                )
        feeds = {port.name: np.ascontiguousarray(array) for port, array in zip(ports, arrays, strict=True)}
        return feeds, len(arrays[0])

    def _classes(self, y: Array, batch: int) -> Array:
        classes = self._graph.classes
        if y.shape != (batch,) or y.dtype.kind not in "iu":
            raise MnxError(f"a batch of {batch} takes integer classes of shape ({batch},), not {y.dtype} and {y.shape}")
        if y.min() < 0 or y.max() >= classes:
            raise MnxError(
                f"classes reach from {y.min()} to {y.max()}; "
                f"{self._model.name} has {classes} logits, for 0 to {classes - 1}"
            )
        return np.ascontiguousarray(y, np.int64)


def _quick_gradients(proto: bytes, names: Sequence[str], loss: str) -> bytes:
    return with_quick_kernels(differentiate(proto, names, loss))
