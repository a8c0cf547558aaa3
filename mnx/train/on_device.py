"""One network on a device: its step graph, and all that training changes, in two sets of buffers.

A step reads one set and writes the other, then they change places: one buffer as input and output of the same step
gives wrong weights, because gradients are read after the first new weights are written (DESIGN.md section 6).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mnx.errors import MnxError
from mnx.graphs.model import Array, Model
from mnx.train.onnxruntime_sessions import buffer
from mnx.train.settings import STEP, StepSettings
from mnx.train.step_graph import StepGraph, initial_state


class OnDevice:
    """A network's step graph, state, steps done, and seed of Dropout's masks; begins with the model's weights."""

    def __init__(self, model: Model, graph: StepGraph, settings: StepSettings, device: str, seed: int) -> None:
        self.name, self.graph, self.settings = model.name, graph, settings
        self.device, self.seed, self.steps = device, seed, 0
        slots = (*graph.state, *graph.sums)
        self._sets = [{slot.key: buffer(slot.shape, np.float32, device) for slot in slots} for _ in range(2)]
        self.current = 0
        self.fill(initial_state(model, graph))
        self.empty_sums()

    @property
    def values(self) -> Mapping[str, Any]:
        """The state as it stands: what the next step reads, on the device, by key."""
        return self._sets[self.current]

    @property
    def next_values(self) -> Mapping[str, Any]:
        """What the next step writes."""
        return self._sets[1 - self.current]

    def advance(self) -> None:
        """What was written last becomes the state."""
        self.current = 1 - self.current

    def state(self) -> dict[str, Array]:
        """Copies of all that training changes by 'weight/NAME', 'momentum/NAME' and so on; the steps done as 'step'."""
        arrays = {slot.key: np.array(self.values[slot.key].numpy()) for slot in self.graph.state}
        return {**arrays, STEP: np.array(self.steps, np.int64)}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Go on from a state.

        Raises:
            MnxError: the state is not one of this model and these settings.
        """
        expected = {STEP, *(slot.key for slot in self.graph.state)}
        if set(state) != expected:
            missing, unknown = sorted(expected - set(state)), sorted(set(state) - expected)
            raise MnxError(
                f"the state is not one of {self.name} under these settings: "
                f"missing {', '.join(missing) or 'nothing'}; unknown {', '.join(unknown) or 'nothing'}"
            )
        self.fill({key: array for key, array in state.items() if key != STEP})
        self.steps = int(state[STEP])

    def fill(self, arrays: Mapping[str, Array]) -> None:
        """Put numbers in place of a part of the state.

        Raises:
            MnxError: a key is unknown, or its shape another.
        """
        values = {key: self.checked(key, array) for key, array in arrays.items()}
        for key, array in values.items():
            self.values[key].update_inplace(array)

    def empty_sums(self) -> None:
        """Forget the gradients of the parts of a batch."""
        for values in self._sets:
            for slot in self.graph.sums:
                values[slot.key].update_inplace(np.zeros(slot.shape, np.float32))

    def value(self, key: str, array: Array) -> Any:
        """Numbers that could stand in the state, on the device."""
        made = buffer(np.shape(array), np.float32, self.device)
        made.update_inplace(self.checked(key, array))
        return made

    def checked(self, key: str, array: Array) -> Array:
        """Numbers for a part of the state, as the device takes them.

        Raises:
            MnxError: the key is unknown, or its shape another.
        """
        shapes = {slot.key: slot.shape for slot in self.graph.state}
        if key not in shapes or np.shape(array) != shapes[key]:
            raise MnxError(
                f"{key} of {self.name} has shape {shapes.get(key, 'none: it is unknown')}, not {np.shape(array)}"
            )
        return np.array(array, np.float32, order="C")
