"""Growth for its own sake: a network grown as is wanted, with the proof that it computes what it did."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from mnx.graphs.errors import GraphError, NotPreserved
from mnx.graphs.growth.hatch import Hatched, hatch
from mnx.graphs.growth.request import Request
from mnx.graphs.growth.steps import Step, broken_step
from mnx.graphs.growth.target import target
from mnx.graphs.model import Array, Model, Port
from mnx.graphs.run import Batch

RANDOM = "random"
"""What `random_inputs` are called among the inputs of a certificate."""


def grown(
    model: Model,
    wanted: Request,
    inputs: Mapping[str, Batch] | None = None,
    calibration: str | None = None,
    seed: int = 0,
    split: str = "random",
) -> Hatched:
    """Grow a network to what is wanted, exactly.

    Args:
        model: the network, trained or not.
        wanted: what is to grow.
        inputs: named batches (n, *input shape), or tuples of one such array for every input, that the certificate is
            measured on; 64 random examples where none are given.
        calibration: which of them inserted BatchNormalizations are calibrated on; the first where none is named.
        seed: of fresh weights, growth maps and shares.
        split: see `graphs.growth.hatch`.

    Raises:
        GraphError: what is wanted is no growth of this network, or cannot be made exactly; the message says why.
        NotPreserved: the certificate fails; the message names the op and the step.
    """
    given = inputs or {RANDOM: random_inputs(model, 64, seed)}
    return hatched(model, target(model, wanted, seed), given, calibration or next(iter(given)), seed, split)


def hatched(
    mother: Model, member: Model, inputs: Mapping[str, Batch], calibration: str, seed: int, split: str = "random"
) -> Hatched:
    """As `hatch`, but where the certificate fails the message also names the step of the growth that broke it."""
    try:
        return hatch(mother, member, inputs, calibration, seed, split)
    except NotPreserved as error:
        step = _broken(mother, member, partial(hatch, inputs=inputs, calibration=calibration, seed=seed, split=split))
        raise NotPreserved(f"{error}; the step that breaks it: {step.text}" if step else str(error)) from error


def random_inputs(model: Model, count: int, seed: int) -> Batch:
    """Random examples for every input: standard normal numbers, ids within the table that they look up, masks.

    A mask lets the first place through.
    """
    random = np.random.default_rng((seed, count))
    arrays = tuple(_random(model, port, count, random) for port in model.inputs)
    return arrays if len(arrays) > 1 else arrays[0]


def _random(model: Model, port: Port, count: int, random: np.random.Generator) -> Array:
    shape = (count, *port.shape)
    if np.dtype(port.dtype).kind == "f":
        return random.standard_normal(shape, dtype=np.float32).astype(port.dtype, copy=False)
    rows = [
        len(model.weights[node.inputs[0]])
        for node in model.nodes
        if node.op == "Gather" and node.input(1) == port.name and node.inputs[0] in model.weights
    ]
    ids = random.integers(0, min(rows, default=2), shape)
    if not rows and len(shape) > 1:
        ids[..., 0] = 1
    return np.asarray(ids.astype(port.dtype))


def _broken(mother: Model, member: Model, again: Callable[[Model, Model], Hatched]) -> Step | None:
    def fails(network: Model) -> bool:
        try:
            again(mother, network)
        except NotPreserved:
            return True
        return False

    try:
        return broken_step(mother, member, fails)
    except GraphError:
        return None
