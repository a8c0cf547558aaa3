"""The table of engines: what runs training steps. A new engine is one file and one entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mnx.errors import MnxError
from mnx.graphs.model import Model
from mnx.train import ort
from mnx.train.engine import Engine
from mnx.train.settings import StepSettings

ENGINES: Mapping[str, Callable[[Model, StepSettings, str, int | None, int], Engine]] = {"ort": ort.Engine}
"""Name -> (model, settings, device, threads, seed) -> engine."""


def engine(name: str, device: str, threads: int | None, model: Model, settings: StepSettings, seed: int) -> Engine:
    """An engine by name.

    Raises:
        MnxError: there is no such engine, or it cannot run here; see the engine's file.
    """
    if name not in ENGINES:
        raise MnxError(f"no engine '{name}'; there are {', '.join(ENGINES)}")
    return ENGINES[name](model, settings, device, threads, seed)
