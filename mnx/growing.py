"""Growth of one file for its own sake: what would be done, and doing it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mnx.data import dataset
from mnx.data.examples import TRAINING, named_batches
from mnx.errors import MnxError
from mnx.graphs import onnx_file
from mnx.graphs.growth import grown
from mnx.graphs.growth.growing import Style
from mnx.graphs.growth.hatch import Hatched
from mnx.graphs.growth.request import Request
from mnx.graphs.growth.steps import Step, steps_of
from mnx.graphs.growth.target import architecture
from mnx.graphs.interface import taking
from mnx.graphs.model import Model
from mnx.graphs.mothers.carve import drawn
from mnx.graphs.probes import RANDOM, Probe, batches_of, made_of
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.structure import Structure

WORK = 2e10
"""Multiply-adds that a network may take for its random examples: of large networks there are fewer than `EXAMPLES`."""

EXAMPLES = (8, 64)
"""How many random examples there are, at least and at most."""

REAL = 8
"""How many times as many real ones there are at most."""


@dataclass(frozen=True)
class Growth:
    """A network, the network that it is to become, still without weights, and the steps between."""

    model: Model
    member: Model
    wanted: Request
    before: Structure
    after: Structure
    steps: tuple[Step, ...]

    @property
    def calibrated(self) -> tuple[str, ...]:
        """The inserted normalisations whose scale and shift are measured on data."""
        return tuple(name for step in self.steps for name in step.calibrated)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "steps": [step.to_json() for step in self.steps],
            "parameters": [self.before.parameter_count, self.after.parameter_count],
            "multiply_adds": [self.before.cost, self.after.cost],
        }


def planned(path: Path, wanted: Request) -> Growth:
    """What growing the network in a file takes.

    Raises:
        GraphError: the file cannot be read, or what is wanted is no growth of it.
        MnxError: it has all that is wanted already.
    """
    model = onnx_file.read(path)
    member = architecture(model, wanted)
    before, after = describe(model), describe(member)
    steps = steps_of(before, after)
    if not steps:
        raise MnxError(f"nothing to grow: {path} has all that is asked for already")
    return Growth(model, member, wanted, before, after, steps)


def grow(growth: Growth, name: str, data: str | None = None, style: Style | None = None) -> Hatched:
    """Do what is planned.

    Args:
        growth: the plan.
        name: of the grown network.
        data: a data set's name or path, to calibrate inserted normalisation and to measure the certificate on;
            random inputs where there is none.
        style: how; its seed is that of fresh weights and random inputs too.

    Raises:
        MnxError: the data do not fit the network.
        NotPreserved: the certificate fails; the message names the op and the step.
    """
    style = style or Style()
    inputs, calibration = _inputs(growth, data, style.seed)
    member = growth.member.replace(name=name)
    if growth.wanted.changes:
        member = drawn(member, growth.after, style.seed)
    hatched = grown.hatched(growth.model, member, batches_of(inputs), calibration, style)
    proof = replace(
        hatched.certificate,
        made=made_of(inputs),
        seed=style.seed,
        split=style.split,
        fresh=style.fresh,
        changes=hatched.model.changes,
    )
    return replace(hatched, certificate=proof)


def _inputs(growth: Growth, data: str | None, seed: int) -> tuple[dict[str, Probe], str]:
    model = growth.model
    count = int(min(EXAMPLES[1], max(EXAMPLES[0], WORK // max(1, growth.after.cost))))
    if data is None:
        return named_batches(model, None, seed, 0, count), RANDOM
    loaded = dataset.load(data, taking([model]), seed)
    return named_batches(model, loaded, seed, REAL * count, count), TRAINING
