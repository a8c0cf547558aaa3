"""A batch as inputs of a step graph, by name; refused where it does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np

from mnx.errors import MnxError
from mnx.graphs.model import Array
from mnx.graphs.run import Batch, arrays_of
from mnx.train.feed import Fed
from mnx.train.losses import OTHERS, TARGETS, TEACHER
from mnx.train.settings import StepSettings
from mnx.train.step_graph import StepGraph


def examples(name: str, graph: StepGraph, x: Batch | Fed) -> tuple[dict[str, Any], int]:
    """Arrays, or values on the device, by input of the network `name`, and how many examples they hold.

    Raises:
        MnxError: they do not fit the network.
    """
    ports, arrays = graph.x, arrays_of(x)
    if arrays and not isinstance(arrays[0], np.ndarray):
        named = {port.name: value for port, value in zip(ports, arrays, strict=True)}
        return named, int(arrays[0].shape()[0])
    if len(ports) != len(arrays):
        raise MnxError(f"{name} has {len(ports)} inputs, not {len(arrays)}")
    for port, array in zip(ports, arrays, strict=True):
        alike = array.dtype == np.dtype(port.dtype) and array.shape[1:] == port.shape
        if not alike or not len(array) or len(array) != len(arrays[0]):
            raise MnxError(
                f"{name} takes examples of {port.dtype} and shape "
                f"(batch, {', '.join(map(str, port.shape))}) as {port.name}, not {array.dtype} and {array.shape}"
            )
    feeds = {port.name: np.ascontiguousarray(array) for port, array in zip(ports, arrays, strict=True)}
    return feeds, len(arrays[0])


def predicted(
    name: str,
    graph: StepGraph,
    settings: StepSettings,
    batch: int,
    y: Array,
    teacher: Array | None,
    mix: tuple[Array, float] | None,
) -> dict[str, Array]:
    """What the network `name` is to predict of a batch, by input; arguments as those of `Engine.step`.

    Raises:
        MnxError: they do not fit the network or the loss.
    """
    logits = (graph.width,)
    if (settings.loss == "distillation") != (teacher is not None) or settings.mixup != (mix is not None):
        raise MnxError("a teacher's logits come with the loss 'distillation' only, and partners with mixup only")
    feeds = {TARGETS: _target(name, graph, settings, y, batch)}
    if teacher is not None:
        if teacher.shape != (batch, *logits):
            raise MnxError(f"the teacher's logits are {teacher.shape}, not {(batch, *logits)}")
        feeds[TEACHER] = np.ascontiguousarray(teacher, np.float32)
    if mix is not None:
        feeds[OTHERS] = _target(name, graph, settings, mix[0], batch)
    return feeds


def _target(name: str, graph: StepGraph, settings: StepSettings, y: Array, batch: int) -> Array:
    port, width = graph.targets, graph.width
    kinds = "iu" if port.dtype == "int64" else "iuf"
    if y.shape != (batch, *port.shape) or y.dtype.kind not in kinds:
        wanted = "integer classes" if port.dtype == "int64" else "numbers"
        raise MnxError(
            f"a batch of {batch} takes {wanted} of shape {(batch, *port.shape)}, not {y.dtype} and {y.shape}"
        )
    most = 2 if settings.task == "binary" else width
    if port.dtype == "int64" and (y.min() < 0 or y.max() >= most):
        raise MnxError(
            f"classes reach from {y.min()} to {y.max()}; "
            f"{name} has {width} logit{'s' if width > 1 else ''}, for 0 to {most - 1}"
        )
    return np.ascontiguousarray(y, port.dtype)
