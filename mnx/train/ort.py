"""The engine on ONNX Runtime training: runs the step graph, with everything that training changes on the device.

The state lives in two sets of buffers. A step reads one set and writes the other, then they change places: one buffer
as input and output of the same step gives wrong weights, because gradients are read after the first new weights are
written (DESIGN.md section 6).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from mnx.data.rows import Raw
from mnx.data.scaling import Scaling
from mnx.errors import MnxError
from mnx.graphs.model import Array, Model, Shape
from mnx.graphs.proto import to_proto
from mnx.graphs.run import Batch, arrays_of
from mnx.graphs.shapes import shapes
from mnx.train.augment import Augmentation
from mnx.train.feed import Fed, Feed
from mnx.train.kernels import with_quick_kernels
from mnx.train.losses import LOSS, MIX, OTHERS, SCORE, TARGETS, TEACHER
from mnx.train.lowering import draw_masks
from mnx.train.onnxruntime_sessions import bind, buffer, differentiate, require_device, run, session
from mnx.train.optimiser import LAST, rates
from mnx.train.settings import AVERAGE, WEIGHT, Diverged, StepSettings
from mnx.train.step_graph import initial_state, step_graph

STEP: Final = "step"
"""The name of the number of steps done in an engine's state."""


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
        self._model, self._device, self._seed, self._steps = model, device, seed, 0
        self._settings = settings
        threads = threads or os.cpu_count() or 1
        quick = partial(_quick_gradients, shapes=shapes(model, 1), threads=threads)
        self._graph = step_graph(model, settings, quick if device == "cpu" else differentiate)
        weights = [slot.input for slot in self._graph.state if slot.key.startswith(WEIGHT)]
        self._trainer = session(self._graph.proto, device, threads)
        self._evaluator = session(to_proto(model, weights).SerializeToString(), device, threads)
        slots = (*self._graph.state, *self._graph.sums)
        self._buffers = [{slot.key: buffer(slot.shape, np.float32, device) for slot in slots} for _ in range(2)]
        self._loss, self._score = (buffer((), np.float32, "cpu") for _ in range(2))
        self._bindings = [self._step_binding(source, target) for source, target in ((0, 1), (1, 0))]
        self._current = 0
        self._fill(initial_state(model, self._graph))
        self._empty_sums()

    def feed(self, raw: Sequence[Raw], scalings: Sequence[Scaling], augmentation: Augmentation) -> Feed:
        """What makes batches of raw examples on this engine's device, with draws by this engine's seed; see `Feed`."""
        return Feed(raw, scalings, augmentation, self._device, seed=self._seed)

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
        feeds, count = self._examples(x)
        feeds |= self._predicted(y, count, teacher, mix)
        parts = self._settings.accumulate
        if count % parts:
            raise MnxError(f"a batch of {count} cannot be taken in {parts} equal parts")
        done, loss, score = self._current, 0.0, 0.0
        for part in range(parts):
            chosen = slice(part * count // parts, (part + 1) * count // parts)
            of_part, scored = self._part(self._bindings[done], feeds, chosen, part, lr, mix)
            done, loss, score = 1 - done, loss + of_part / parts, score + scored
            if not np.isfinite(of_part):
                self._empty_sums()
                raise Diverged(self._model.name, f"the loss of step {self._steps} is {of_part}")
        self._current, self._steps = done, self._steps + 1
        return loss, score

    def _part(
        self,
        binding: Any,
        feeds: Mapping[str, Any],
        chosen: slice,
        part: int,
        lr: float,
        mix: tuple[Array, float] | None,
    ) -> tuple[float, float]:
        """Run the graph on a part of a batch: its mean loss and the sum of its scores."""
        parts = self._settings.accumulate
        whole = {name: value if parts == 1 else _array(value)[chosen] for name, value in feeds.items()}
        given = whole | rates(self._settings, lr, self._steps)
        given |= draw_masks(self._graph.masks, chosen.stop - chosen.start, self._seed, self._steps * parts + part)
        if parts > 1:
            given[LAST] = np.array(part == parts - 1)
        if mix is not None:
            given[MIX] = np.array(mix[1], np.float32)
        bind(binding, given)
        run(self._trainer, binding)
        return float(self._loss.numpy()), float(self._score.numpy())

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
        feeds, count = self._examples(x)
        binding = self._evaluator.io_binding()
        values = self._weights()
        for name, array in (weights or {}).items():
            values[name] = self._value(WEIGHT + name, array)
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        outputs = np.empty((count, self._graph.width), np.float32)
        for start in range(0, count, batch):
            for name, array in feeds.items():
                binding.bind_cpu_input(name, array[start : start + batch])
            binding.bind_output(self._model.outputs[0].name, "cpu")
            run(self._evaluator, binding)
            outputs[start : start + batch] = binding.get_outputs()[0].numpy()
        return outputs

    def state(self) -> dict[str, Array]:
        """Copies of all that training changes by 'weight/NAME', 'momentum/NAME' and so on; the steps done as 'step'."""
        values = self._buffers[self._current]
        arrays = {slot.key: np.array(values[slot.key].numpy()) for slot in self._graph.state}
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
        """The model as it was given, with the current weights and statistics, or their moving average."""
        return self._model.with_weights({name: np.array(value.numpy()) for name, value in self._weights().items()})

    def _weights(self) -> dict[str, Any]:
        """What the model is evaluated with, by name, on the device."""
        part, current = AVERAGE if self._settings.average else WEIGHT, self._buffers[self._current]
        return {key.removeprefix(part): value for key, value in current.items() if key.startswith(part)}

    def _empty_sums(self) -> None:
        for values in self._buffers:
            for slot in self._graph.sums:
                values[slot.key].update_inplace(np.zeros(slot.shape, np.float32))

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
        for slot in (*self._graph.state, *self._graph.sums):
            binding.bind_ortvalue_input(slot.input, self._buffers[source][slot.key])
            binding.bind_ortvalue_output(slot.output, self._buffers[target][slot.key])
        binding.bind_ortvalue_output(LOSS, self._loss)
        binding.bind_ortvalue_output(SCORE, self._score)
        return binding

    def _examples(self, x: Batch | Fed) -> tuple[dict[str, Any], int]:
        """The arrays, or values on the device, by input name, and how many examples they hold."""
        ports, arrays = self._graph.x, arrays_of(x)
        if arrays and not isinstance(arrays[0], np.ndarray):
            named = {port.name: value for port, value in zip(ports, arrays, strict=True)}
            return named, int(arrays[0].shape()[0])
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

    def _predicted(
        self, y: Array, batch: int, teacher: Array | None, mix: tuple[Array, float] | None
    ) -> dict[str, Array]:
        """What is to be predicted, by input name."""
        settings, logits = self._settings, (self._graph.width,)
        if (settings.loss == "distillation") != (teacher is not None) or settings.mixup != (mix is not None):
            raise MnxError("a teacher's logits come with the loss 'distillation' only, and partners with mixup only")
        feeds = {TARGETS: self._target(y, batch)}
        if teacher is not None:
            if teacher.shape != (batch, *logits):
                raise MnxError(f"the teacher's logits are {teacher.shape}, not {(batch, *logits)}")
            feeds[TEACHER] = np.ascontiguousarray(teacher, np.float32)
        if mix is not None:
            feeds[OTHERS] = self._target(mix[0], batch)
        return feeds

    def _target(self, y: Array, batch: int) -> Array:
        port, width = self._graph.targets, self._graph.width
        kinds = "iu" if port.dtype == "int64" else "iuf"
        if y.shape != (batch, *port.shape) or y.dtype.kind not in kinds:
            wanted = "integer classes" if port.dtype == "int64" else "numbers"
            raise MnxError(
                f"a batch of {batch} takes {wanted} of shape {(batch, *port.shape)}, not {y.dtype} and {y.shape}"
            )
        most = 2 if self._settings.task == "binary" else width
        if port.dtype == "int64" and (y.min() < 0 or y.max() >= most):
            raise MnxError(
                f"classes reach from {y.min()} to {y.max()}; "
                f"{self._model.name} has {width} logit{'s' if width > 1 else ''}, for 0 to {most - 1}"
            )
        return np.ascontiguousarray(y, port.dtype)


def _array(value: Any) -> Array:
    """An array, or a copy of a value on the device."""
    return value if isinstance(value, np.ndarray) else np.asarray(value.numpy())


def _quick_gradients(proto: bytes, names: Sequence[str], loss: str, shapes: Mapping[str, Shape], threads: int) -> bytes:
    return with_quick_kernels(differentiate(proto, names, loss), shapes, threads)
