"""What may be done to a hatched member behind its certificate, so that members part: shrink and perturb, and noise.

    w <- lambda w + gamma fresh        shrink and perturb (Ash and Adams, NeurIPS 2020)
    w <- w + noise s(w) n              Gaussian noise (Wasay et al., 2020), s(w) the standard deviation of a weight

with fresh drawn as for a new network and n standard normal; only weights change, never biases and normalisations.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import numpy as np

from mnx.graphs.errors import GraphError
from mnx.graphs.growth.maps import random_of
from mnx.graphs.model import Array, Model
from mnx.graphs.mothers.carve import fresh
from mnx.graphs.ops.rule import Kind
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.structure import Op, Parameter

LAYERS = ("all", "upper")
"""Which weights are changed: all, or those of the half of the layers that is nearer to the output."""


@dataclass(frozen=True)
class Perturbation:
    """How a member is changed behind its certificate; by default not at all.

    Attributes:
        shrink: lambda, from 0 to 1.
        fresh: gamma, 0 or more.
        noise: in standard deviations of each weight, 0 or more.
        layers: one of `LAYERS`, for shrink and fresh; noise is for all.

    Raises:
        GraphError: a number is out of its range.
    """

    shrink: float = 1.0
    fresh: float = 0.0
    noise: float = 0.0
    layers: str = "all"

    def __post_init__(self) -> None:
        legal = 0 <= self.shrink <= 1 and all(isfinite(number) and number >= 0 for number in (self.fresh, self.noise))
        if not legal:
            raise GraphError(
                f"perturb = {self.shrink},{self.fresh}, noise = {self.noise}: give lambda from 0 to 1, and gamma and "
                "noise of 0 or more"
            )
        if self.layers not in LAYERS:
            raise GraphError(f"perturb layers '{self.layers}': use one of {', '.join(LAYERS)}")

    @property
    def changes(self) -> bool:
        """Whether anything is changed."""
        return (self.shrink, self.fresh, self.noise) != (1.0, 0.0, 0.0)

    @property
    def text(self) -> str:
        """In words."""
        shrunk = f"{self.shrink:g} of the old and {self.fresh:g} of fresh weights in {self.layers} layers"
        noise = f"noise of {self.noise:g} standard deviations"
        said = [shrunk] * ((self.shrink, self.fresh) != (1.0, 0.0)) + [noise] * (self.noise > 0)
        return ", ".join(said) or "no change"


def perturbed(model: Model, how: Perturbation, seed: int) -> Model:
    """The model with its weights changed; the same for the same seed and names. Its function is another."""
    if not how.changes:
        return model
    structure = describe(model)
    layers: dict[str, tuple[Op, Parameter]] = {}
    for op in structure.ops():
        for parameter in op.parameters:
            if parameter.kind is Kind.WEIGHT:
                layers.setdefault(parameter.name, (op, parameter))
    first = len(layers) // 2 if how.layers == "upper" else 0
    return model.with_weights(
        {
            name: _changed(model.weights[name], how, number >= first, op, parameter, seed, structure.name)
            for number, (name, (op, parameter)) in enumerate(layers.items())
        }
    )


def _changed(
    weight: Array, how: Perturbation, shrunk: bool, op: Op, parameter: Parameter, seed: int, name: str
) -> Array:
    random = random_of(seed, name, parameter.name, "perturb")
    result: Array = np.array(weight, np.float32)
    deviation = float(np.std(weight, dtype=np.float64))
    if shrunk and (how.shrink, how.fresh) != (1.0, 0.0):
        own = int(random.integers(2**31))
        result = np.float32(how.shrink) * result + np.float32(how.fresh) * fresh(op, parameter, own)
    if how.noise:
        result += np.float32(how.noise * deviation) * random.standard_normal(weight.shape, dtype=np.float32)
    return np.asarray(result, np.float32)
