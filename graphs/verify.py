"""The one numeric comparison of mnx, and the certificate that a hatched member computes its mother's function.

Extreme inputs (`graphs.probes`) bind as others do, with two differences. In eval mode every example is measured by its
own scale, or large numbers would hide what happens to zeros. And rounding is allowed for in either mode, as far as the
mother differs from herself in float64: GroupNormalization divides what is left of a constant image by nearly nothing
(her own error 1.2e-5, a member's 1.0e-5), gates of deep networks compound (EfficientNets differ by 1.0e-5); all other
families, and 770 members of random ensembles, were exact to 2.6e-6. With batch statistics a batch of extremes is a
batch: its variance is large, not zero, since its examples differ, and exact growth was exact to 3e-6. Behind inserted
BatchNormalization it is reported as drift, like every batch that is not the calibration's (up to twice the scale).
Where the mother herself is not finite on extreme inputs there is nothing to compare, and the check is only reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from mnx.graphs.certificate import EVAL, STATISTICS, Certificate, Check, Difference, versions
from mnx.graphs.errors import GraphError, NotPreserved
from mnx.graphs.growth.maps import GrowthMap
from mnx.graphs.model import Array, Model
from mnx.graphs.probes import EXTREME
from mnx.graphs.run import ALL, Batch, run

TOLERANCE = 1e-5
"""Float32: two outputs agree when max|a - b| <= TOLERANCE * max(1, max|a|)."""

TOLERANCE_FLOAT64 = 1e-12
"""The same where both are computed in float64."""

ROUNDING = 8.0
"""With batch statistics, a channel that is nearly constant magnifies rounding by 1 / sqrt(variance + epsilon). There,
and only where `TOLERANCE` is not met, the member may differ by so many times what the mother differs from herself with
her channels in another order, which is the same function up to the order of sums; on extreme inputs, from herself in
float64."""


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


class Answers:
    """What a model computes on named batches, each computed when it is first asked for.

    Members of one mother are compared with the same answers of hers.
    """

    def __init__(self, model: Model, inputs: Mapping[str, Batch], precision: str = "float32") -> None:
        self._model, self._inputs, self._precision = model, inputs, precision
        self._known: dict[tuple[str, str], Array] = {}
        self._rounded: dict[tuple[str, str], Array] = {}

    def logits(self, inputs: str, mode: str) -> Array:
        """As `logits`, of a batch by name."""
        if (inputs, mode) not in self._known:
            self._known[inputs, mode] = logits(self._model, self._inputs[inputs], mode, self._precision)
        return self._known[inputs, mode]

    def in_float64(self, inputs: str, mode: str) -> Array:
        """As `in_float64`, of a batch by name."""
        if (inputs, mode) not in self._rounded:
            self._rounded[inputs, mode] = in_float64(self._model, self._inputs[inputs], mode)()
        return self._rounded[inputs, mode]


def difference(reference: Array, other: Array, tolerance: float | None = None) -> Difference:
    """Compare two arrays; those of different shapes are infinitely far apart, never broadcast.

    The bound is `tolerance`, by default `TOLERANCE`, times the reference's largest value or 1.
    """
    scale = float(np.max(np.abs(reference), initial=0.0))
    largest = math.inf
    if reference.shape == other.shape:
        with np.errstate(invalid="ignore"):
            largest = float(np.max(np.abs(reference.astype(np.float64) - other), initial=0.0))
    return Difference(largest, scale, (TOLERANCE if tolerance is None else tolerance) * max(1.0, scale))


def examples_of(batch: Batch) -> int:
    """The number of examples in a batch."""
    return len(batch[0]) if isinstance(batch, tuple) else len(batch)


def compared(
    inputs: str,
    mode: str,
    reference: Array,
    other: Array,
    binding: bool = True,
    again: Callable[[], Array] | None = None,
    tolerance: float | None = None,
) -> Check:
    """Compare two models' outputs on one batch in one mode.

    Args:
        inputs: the batch's name.
        mode: `EVAL` or `STATISTICS`.
        reference: outputs (n, ...).
        other: likewise.
        binding: whether a failure counts.
        again: gives the reference computed otherwise, to measure rounding where it may be allowed for.
        tolerance: in place of `TOLERANCE`.
    """
    by_example = inputs == EXTREME and mode == EVAL and reference.shape == other.shape
    found = [difference(a, b, tolerance) for a, b in _parts(reference, other, by_example)]
    excess = [_excess(apart) for apart in found]
    rounding: list[float | None] = [None] * len(found)
    may_round = binding and (mode == STATISTICS or inputs == EXTREME)
    if may_round and again is not None and not all(apart.passed for apart in found):
        noise = [difference(a, b).largest for a, b in _parts(reference, again(), by_example)]
        rounding = [
            None if apart.passed or not math.isfinite(size) else size for apart, size in zip(found, noise, strict=True)
        ]
        found = [_allowing(apart, size) for apart, size in zip(found, rounding, strict=True)]
    worst = max(range(len(found)), key=lambda place: (not found[place].passed, excess[place], found[place].scale))
    if inputs == EXTREME and not np.isfinite(reference).all():
        binding = False
    same = same_class(reference, other)
    return Check(inputs, mode, len(reference), found[worst], binding, rounding[worst], same)


def _parts(reference: Array, other: Array, by_example: bool) -> list[tuple[Array, Array]]:
    return list(zip(reference, other, strict=True)) if by_example else [(reference, other)]


def _allowing(apart: Difference, rounding: float | None) -> Difference:
    return apart if rounding is None else replace(apart, tolerance=max(apart.tolerance, ROUNDING * rounding))


def _excess(apart: Difference) -> float:
    """A difference as a share of its bound; infinite for values that are not finite."""
    if not math.isfinite(apart.largest) or (apart.largest and not apart.tolerance):
        return math.inf
    return apart.largest / apart.tolerance if apart.tolerance else 0.0


def same_class(reference: Array, other: Array) -> float | None:
    """The share of examples whose largest score is that of one class in both; None where there are no classes."""
    if reference.shape != other.shape or reference.ndim != 2 or reference.shape[1] < 2 or not len(reference):
        return None
    return float(np.mean(reference.argmax(axis=1) == other.argmax(axis=1)))


def certify(
    mother: Model,
    member: Model,
    inputs: Mapping[str, Batch],
    calibration: str,
    exact_modes: bool,
    same: Sequence[Same],
    reordered: Callable[[], Model] | None = None,
    answers: Answers | None = None,
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
        answers: the mother's on these inputs, where they are kept for further members.

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
    answers = answers or Answers(mother, inputs)
    checks = []
    for name, batch in inputs.items():
        for mode in (EVAL, STATISTICS) if normalised else (EVAL,):
            binding = mode == EVAL or exact_modes or name == calibration
            rounded = partial(answers.in_float64, name, mode)
            again = rounded if name == EXTREME else _in_order(reordered, batch, mode)
            a, b = answers.logits(name, mode), logits(member, batch, mode)
            checks.append(compared(name, mode, a, b, binding, again))
            if checks[-1].binding and not checks[-1].difference.passed:
                raise NotPreserved(_complaint(mother, member, batch, checks[-1], same))
    return Certificate(mother.name, member.name, tuple(checks), versions=versions())


def logits(model: Model, batch: Batch, mode: str, precision: str = "float32") -> Array:
    """The output of a model's body in one mode."""
    return next(iter(run(model, batch, batch_statistics=mode == STATISTICS, precision=precision).values()))


def in_float64(model: Model, batch: Batch, mode: str) -> Callable[[], Array]:
    """Gives a model's output computed in float64, which shows its rounding wherever it is; slow."""
    return lambda: logits(model, batch, mode, "float64")


def _in_order(reordered: Callable[[], Model] | None, batch: Batch, mode: str) -> Callable[[], Array] | None:
    return None if reordered is None else lambda: logits(reordered(), batch, mode)


def _complaint(mother: Model, member: Model, batch: Batch, check: Check, same: Sequence[Same]) -> str:
    far = check.difference
    return (
        f"{member.name} does not compute the function of {mother.name}: on {check.inputs} inputs ({check.mode}) they "
        f"differ by {far.largest:.2e}, more than {far.tolerance:.2e}; "
        f"{first_broken(mother, member, batch, check.mode == STATISTICS, same)}; nothing was written"
    )


def first_broken(
    mother: Model,
    member: Model,
    batch: Batch,
    batch_statistics: bool,
    same: Sequence[Same],
    tolerance: float | None = None,
    precision: str = "float32",
) -> str:
    """In words, the first op of the member whose output does not repeat the mother's."""
    ours, theirs = (
        run(model, batch, ALL, batch_statistics=batch_statistics, precision=precision) for model in (mother, member)
    )
    arrays = batch if isinstance(batch, tuple) else (batch,)
    ours |= {port.name: array for port, array in zip(mother.inputs, arrays, strict=True)}
    for pair in same:
        expected, found = ours[pair.mother], theirs[pair.member]
        for axis, growth in enumerate(pair.maps):
            if growth is not None:
                known = growth < expected.shape[axis]
                expected = np.take(expected, growth[known], axis=axis)
                found = np.compress(known, found, axis=axis)
        if not difference(expected, found, tolerance).passed:
            return f"the first that differs is node '{pair.node}' ({pair.op})"
    return "no single op differs by more than the tolerance: rounding adds up over the depth of the network"
