"""Steps of one or several networks in one session, which take one batch from the device's memory, made once for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mnx.errors import MnxError
from mnx.graphs.model import Array
from mnx.graphs.run import Batch
from mnx.train.batch_inputs import examples, predicted
from mnx.train.feed import Fed
from mnx.train.fused_graph import fused
from mnx.train.losses import LOSS, MIX, SCORE
from mnx.train.lowering import draw_masks
from mnx.train.on_device import OnDevice
from mnx.train.onnxruntime_sessions import bind, buffer, run, session
from mnx.train.optimiser import LAST, rates
from mnx.train.settings import Diverged, Outcome


class Fused:
    """Trains networks that have the same settings. What a network computes does not depend on the others."""

    def __init__(self, networks: Sequence[OnDevice], threads: int) -> None:
        """Build the session.

        Raises:
            MnxError: the networks do not take the same batches.
        """
        self._networks, self._settings = tuple(networks), networks[0].settings
        graph = fused([network.graph for network in networks])
        self._names = graph.names
        self._session = session(graph.proto, networks[0].device, threads)
        self._losses, self._scores = ([buffer((), np.float32, "cpu") for _ in networks] for _ in range(2))
        self._bindings: dict[tuple[int, ...], Any] = {}

    def step(
        self,
        x: Batch | Fed,
        y: Array,
        lrs: Sequence[float],
        teacher: Array | None = None,
        mix: tuple[Array, float] | None = None,
    ) -> list[Outcome]:
        """Train every network on one batch; arguments and outcomes as those of `Engine.step`, `lrs` by network.

        Where a network's loss is not finite its outcome is the error, and it stays as it was before the step; the
        others go on.

        Raises:
            MnxError: examples or targets do not fit, or the batch cannot be divided into equal parts.
        """
        first, parts = self._networks[0], self._settings.accumulate
        feeds, count = examples(first.name, first.graph, x)
        feeds |= predicted(first.name, first.graph, self._settings, count, y, teacher, mix)
        feeds = {self._names[0](name): value for name, value in feeds.items()}
        if count % parts:
            raise MnxError(f"a batch of {count} cannot be taken in {parts} equal parts")
        if mix is not None:
            feeds[MIX] = np.array(mix[1], np.float32)
        sums = [(0.0, 0.0) for _ in self._networks]
        diverged: dict[int, Diverged] = {}
        for part in range(parts):
            self._run(feeds, count // parts, part, lrs)
            for place, network in enumerate(self._networks):
                loss, score = (float(each[place].numpy()) for each in (self._losses, self._scores))
                if not np.isfinite(loss):
                    what = f"the loss of step {network.steps + 1} is {loss}"
                    diverged.setdefault(place, Diverged(network.name, what))
                if place not in diverged:
                    network.advance()
                    sums[place] = (sums[place][0] + loss / parts, sums[place][1] + score)
            if len(diverged) == len(self._networks):
                break
        for place, network in enumerate(self._networks):
            if place in diverged:
                network.empty_sums()
            else:
                network.steps += 1
        return [diverged.get(place, each) for place, each in enumerate(sums)]

    def _run(self, feeds: Mapping[str, Any], count: int, part: int, lrs: Sequence[float]) -> None:
        """Run the graph on a part of a batch, of `count` examples."""
        parts, given = self._settings.accumulate, dict(feeds)
        if parts > 1:
            chosen = slice(part * count, (part + 1) * count)
            given = {name: value if name == MIX else _array(value)[chosen] for name, value in feeds.items()}
            given[LAST] = np.array(part == parts - 1)
        for network, name, lr in zip(self._networks, self._names, lrs, strict=True):
            own = rates(self._settings, lr, network.steps)
            own |= draw_masks(network.graph.masks, count, network.seed, network.steps * parts + part)
            given |= {name(key): value for key, value in own.items()}
        binding = self._binding()
        bind(binding, given)
        run(self._session, binding)

    def _binding(self) -> Any:
        """The binding of what every network reads and writes now; there are two while all go on together."""
        key = tuple(network.current for network in self._networks)
        if key not in self._bindings:
            binding = self._bindings[key] = self._session.io_binding()
            for place, (network, name) in enumerate(zip(self._networks, self._names, strict=True)):
                for slot in (*network.graph.state, *network.graph.sums):
                    binding.bind_ortvalue_input(name(slot.input), network.values[slot.key])
                    binding.bind_ortvalue_output(name(slot.output), network.next_values[slot.key])
                binding.bind_ortvalue_output(name(LOSS), self._losses[place])
                binding.bind_ortvalue_output(name(SCORE), self._scores[place])
        return self._bindings[key]


def _array(value: Any) -> Array:
    """An array, or a copy of a value on the device."""
    return value if isinstance(value, np.ndarray) else np.asarray(value.numpy())
