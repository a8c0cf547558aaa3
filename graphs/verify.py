"""The one numeric comparison of mnx, and the certificate that a hatched member computes its mother's function."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mnx.graphs.errors import GraphError, NotPreserved
from mnx.graphs.growth.maps import GrowthMap
from mnx.graphs.model import Array, Model
from mnx.graphs.run import ALL, Batch, run

TOLERANCE = 1e-5
"""Float32: two outputs agree when max|a - b| <= TOLERANCE * max(1, max|a|)."""

ROUNDING = 8.0
"""With batch statistics, a channel that is nearly constant magnifies rounding by 1 / sqrt(variance + epsilon). There,
and only where `TOLERANCE` is not met, the member may differ by so many times what the mother differs from herself with
her channels in another order, which is the same function up to the order of sums."""


@dataclass(frozen=True)
class Difference:
    """How far two outputs are apart: the largest absolute difference, the reference's largest value, the bound."""

    largest: float
    scale: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether they agree. Values that are not finite never do."""
        return math.isfinite(self.largest) and self.largest <= self.tolerance


@dataclass(frozen=True)
class Check:
    """One comparison of a certificate: on which inputs, in which mode, how many examples.

    `binding` is False for what is only reported. `rounding` is how far the mother is from herself with her channels in
    another order, measured only where it decided.
    """

    inputs: str
    mode: str
    examples: int
    difference: Difference
    binding: bool = True
    rounding: float | None = None


@dataclass(frozen=True)
class Same:
    """A value of the member that must repeat a value of the mother.

    member[i, j, k] = mother[maps[0][i], maps[1][j], maps[2][k]]: one map for every axis, None where it stays as it is.
    Where a map leads beyond the mother's axis, the member's channel is fresh and repeats nothing.
    """

    node: str
    op: str
    member: str
    mother: str
    maps: tuple[GrowthMap | None, ...]


@dataclass(frozen=True)
class Certificate:
    """The measured proof that a hatched member computes its mother's function."""

    mother: str
    member: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every binding check passed."""
        return all(check.difference.passed for check in self.checks if check.binding)

    @property
    def largest(self) -> float:
        """The largest difference over the binding checks."""
        return max(check.difference.largest for check in self.checks if check.binding)

    def to_json(self) -> dict[str, Any]:
        """Plain data for certificate.json."""
        checks = [{**asdict(check), "passed": check.difference.passed} for check in self.checks]
        return {"mother": self.mother, "member": self.member, "passed": self.passed, "checks": checks}


def difference(reference: Array, other: Array) -> Difference:
    """Compare two arrays; those of different shapes are infinitely far apart, never broadcast."""
    scale = float(np.max(np.abs(reference), initial=0.0))
    largest = math.inf
    if reference.shape == other.shape:
        with np.errstate(invalid="ignore"):
            largest = float(np.max(np.abs(reference.astype(np.float64) - other), initial=0.0))
    return Difference(largest, scale, TOLERANCE * max(1.0, scale))


def examples_of(batch: Batch) -> int:
    """The number of examples in a batch."""
    return len(batch[0]) if isinstance(batch, tuple) else len(batch)


def certify(
    mother: Model,
    member: Model,
    inputs: Mapping[str, Batch],
    calibration: str,
    exact_modes: bool,
    same: Sequence[Same],
    reordered: Callable[[], Model] | None = None,
) -> Certificate:
    """Compare a member with its mother in eval mode and with batch statistics.

    Args:
        mother: the trained mother.
        member: the hatched member.
        inputs: named batches, each (n, *input shape), or a tuple of such arrays, one for every input.
        calibration: the name of the batch on which inserted normalisation was calibrated.
        exact_modes: whether batch statistics must agree on every batch, as they do where no BatchNormalization was
            inserted; otherwise they must on the calibration batch and the drift on the others is only reported.
        same: which values must repeat which, in execution order, to name the op that broke the function.
        reordered: gives the mother with her channels in another order, to measure rounding.

    Raises:
        GraphError: there is nothing to compare on: a batch without examples, or no batch.
        NotPreserved: a binding check fails; the message names the first op that differs.
    """
    empty = [name for name, batch in inputs.items() if examples_of(batch) == 0]
    if empty or not inputs:
        raise GraphError(
            f"{member.name} cannot be compared with {mother.name}: "
            f"{f'the {empty[0]} inputs hold no example' if empty else 'no inputs are given'}; give at least one example"
        )
    normalised = any(node.op == "BatchNormalization" for model in (mother, member) for node in model.nodes)
    checks = []
    for name, batch in inputs.items():
        for mode in ("eval", "batch statistics") if normalised else ("eval",):
            in_batch = mode != "eval"
            a, b = (next(iter(run(model, batch, batch_statistics=in_batch).values())) for model in (mother, member))
            binding = not in_batch or exact_modes or name == calibration
            check = Check(name, mode, examples_of(batch), difference(a, b), binding)
            if in_batch and binding and not check.difference.passed and reordered is not None:
                check = _allowing_rounding(
                    check, a, next(iter(run(reordered(), batch, batch_statistics=True).values()))
                )
            checks.append(check)
            if binding and not check.difference.passed:
                raise NotPreserved(_complaint(mother, member, batch, check, same))
    return Certificate(mother.name, member.name, tuple(checks))


def _allowing_rounding(check: Check, mother: Array, reordered: Array) -> Check:
    rounding = difference(mother, reordered).largest
    far = check.difference
    tolerance = max(far.tolerance, ROUNDING * rounding) if math.isfinite(rounding) else far.tolerance
    return replace(check, difference=replace(far, tolerance=tolerance), rounding=rounding)


def _complaint(mother: Model, member: Model, batch: Batch, check: Check, same: Sequence[Same]) -> str:
    far = check.difference
    return (
        f"{member.name} does not compute the function of {mother.name}: on {check.inputs} inputs ({check.mode}) they "
        f"differ by {far.largest:.2e}, more than {far.tolerance:.2e}; "
        f"{first_broken(mother, member, batch, check.mode != 'eval', same)}; nothing was written"
    )


def first_broken(mother: Model, member: Model, batch: Batch, batch_statistics: bool, same: Sequence[Same]) -> str:
    """In words, the first op of the member whose output does not repeat the mother's."""
    arrays = batch if isinstance(batch, tuple) else (batch,)
    ours = run(mother, batch, ALL, batch_statistics=batch_statistics)
    ours |= {port.name: array for port, array in zip(mother.inputs, arrays, strict=True)}
    theirs = run(member, batch, ALL, batch_statistics=batch_statistics)
    for pair in same:
        expected, found = ours[pair.mother], theirs[pair.member]
        for axis, growth in enumerate(pair.maps):
            if growth is not None:
                known = growth < expected.shape[axis]
                expected = np.take(expected, growth[known], axis=axis)
                found = np.compress(known, found, axis=axis)
        if not difference(expected, found).passed:
            return f"the first that differs is node '{pair.node}' ({pair.op})"
    return "no single op differs by more than the tolerance: rounding adds up over the depth of the network"
