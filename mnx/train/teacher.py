"""A teacher: a trained network whose logits others learn from beside the labels (distillation; Hinton et al. 2015)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mnx.data.scaling import Scaling
from mnx.data.task import SUM
from mnx.errors import MnxError
from mnx.graphs import onnx_file
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Array, Model
from mnx.graphs.proto import to_proto
from mnx.graphs.run import Batch, arrays_of
from mnx.train.feed import Fed
from mnx.train.onnxruntime_sessions import bind, run, session

LEAST = np.float32(1e-7)
"""Probabilities are taken as no less."""


class Teacher:
    """A network on a device that answers batches in eval mode."""

    def __init__(self, model: Model, device: str, threads: int) -> None:
        """Start it.

        Args:
            model: a canonical model.
            device: 'cpu' or 'cuda'.
            threads: of the CPU.
        """
        self._model = model
        self._session = session(to_proto(model).SerializeToString(), device, threads)

    def logits(self, x: Batch | Fed) -> Array:
        """What it says of a batch, arrays or values on its device: float32, shape (batch, classes).

        An ensemble's graph ends in the mean of probabilities: of rows that are such, these are the logarithms.
        """
        binding, output = self._session.io_binding(), self._model.outputs[0].name
        given: Mapping[str, Any] = dict(zip([port.name for port in self._model.inputs], arrays_of(x), strict=True))
        bind(binding, given)
        binding.bind_output(output, "cpu")
        run(self._session, binding)
        said = np.asarray(binding.get_outputs()[0].numpy())
        shares = (said >= 0).all() and (np.abs(said.sum(axis=1) - 1) <= SUM).all()
        return np.log(np.maximum(said, LEAST)) if shares else said


def read_teacher(path: str, scalings: Sequence[Scaling], width: int) -> Model:
    """The network in a file, that takes and gives what the learners do.

    Args:
        path: of an .onnx file.
        scalings: what makes the learners' inputs.
        width: how many classes they tell apart.

    Raises:
        MnxError: it cannot be read, or does not take these inputs, or tells other classes apart.
    """
    try:
        model = onnx_file.read(Path(path))
    except (GraphError, OSError) as error:
        raise MnxError(f"recipe: teacher = {path}: {error}") from None
    takes = [(port.dtype, port.shape) for port in model.inputs]
    wanted = [(scaling.dtype, scaling.shape) for scaling in scalings]
    gives = [port.shape for port in model.outputs]
    if takes != wanted or gives != [(width,)]:
        raise MnxError(
            f"recipe: teacher = {path}: it takes {_said(takes)} and gives {', '.join(map(str, gives))} an example, the "
            f"networks that are to learn from it {_said(wanted)} and ({width},)"
        )
    return model


def _said(ports: Sequence[tuple[str, tuple[int, ...]]]) -> str:
    return ", ".join(f"{dtype} {shape}" for dtype, shape in ports)
