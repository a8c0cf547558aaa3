"""Whether any two models compute one function: the proof that hatching gives, without a growth between them.

Both are compared as their bodies compute (channels first, logits), in eval mode and, where one of them normalises, with
batch statistics; and as their users have them, with what stands behind the logits. Inputs and outputs are matched by
name where the names are the same, else by position; layouts may differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mnx.graphs.canonical.head import HEADS
from mnx.graphs.certificate import EVAL, LOGITS, STATISTICS, Certificate, Check, Difference, versions
from mnx.graphs.errors import GraphError
from mnx.graphs.model import Array, Model, Port
from mnx.graphs.mothers.mother import embed
from mnx.graphs.probes import EXTREME, Probe, made_of
from mnx.graphs.proto import as_user_gives, inputs_before_entry
from mnx.graphs.run import Batch, run
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.nameless import tree_of
from mnx.graphs.verify import (
    TOLERANCE,
    TOLERANCE_FLOAT64,
    Same,
    compared,
    difference,
    examples_of,
    first_broken,
    in_float64,
    logits,
    same_class,
)


def equivalence(
    left: Model,
    right: Model,
    probes: Mapping[str, Probe],
    tolerance: float | None = None,
    precision: str = "float32",
    ends: bool = True,
) -> Certificate:
    """Compare two models on named batches; the certificate tells whether they passed.

    Batch statistics bind where both have as many BatchNormalizations; where some were folded away in one of them, the
    functions must differ there, and the difference is only reported. What may be rounding is measured on extreme inputs
    in float64, with batch statistics by moving every number of the inputs to its neighbour.

    Args:
        left: the reference.
        right: the other.
        probes: batches as the body of `left` takes them.
        tolerance: in place of `TOLERANCE`, or of `TOLERANCE_FLOAT64` in float64.
        precision: 'float32' or 'float64'.
        ends: whether to compare what stands behind the logits too.

    Raises:
        GraphError: inputs or outputs are not the same, no examples are given, or a model cannot run.
    """
    bound = tolerance if tolerance is not None else TOLERANCE_FLOAT64 if precision == "float64" else TOLERANCE
    pair = _Pair(left, right, _places(left, right), bound, precision)
    _require_same_outputs(left, right, ends)
    if not probes or any(examples_of(probe.batch) == 0 for probe in probes.values()):
        raise GraphError(f"{left.name} and {right.name} cannot be compared without examples: give at least one")
    checks = [check for name, probe in probes.items() for check in pair.checks(name, probe.batch, ends)]
    return Certificate(left.name, right.name, tuple(checks), made_of(probes), precision=precision, versions=versions())


def first_difference(
    left: Model, right: Model, certificate: Certificate, probes: Mapping[str, Probe], tolerance: float | None = None
) -> str:
    """In words, the first op whose values differ in the first binding check that failed; '' where none can be named.

    Only two networks of one structure and of equal widths have ops that can be set side by side.
    """
    failed = [check for check in certificate.checks if check.binding and not check.difference.passed]
    if not failed or failed[0].outputs != LOGITS:
        return "they differ behind the logits only" if failed else ""
    same = _same(left, right)
    if same is None:
        return ""
    check, batch = failed[0], probes[failed[0].inputs].batch
    # `first_broken` hands one batch to both: the right model's inputs are put into the left's order
    right = right.replace(inputs=tuple(right.inputs[place] for place in _places(left, right)))
    statistics = check.mode == STATISTICS
    return first_broken(left, right, batch, statistics, same, tolerance, certificate.precision)


@dataclass(frozen=True)
class _Pair:
    """Two models, which input of the right one each input of the left is, and how they are compared."""

    left: Model
    right: Model
    places: tuple[int, ...]
    tolerance: float
    precision: str

    def checks(self, name: str, batch: Batch, ends: bool) -> Iterator[Check]:
        """All comparisons on one batch."""
        counts = [sum(node.op == "BatchNormalization" for node in model.nodes) for model in (self.left, self.right)]
        given = self._turned(batch)
        for mode in (EVAL, STATISTICS) if any(counts) else (EVAL,):
            binding = mode == EVAL or counts[0] == counts[1]
            a, b = (logits(model, x, mode, self.precision) for model, x in ((self.left, batch), (self.right, given)))
            yield (check := compared(name, mode, a, b, binding, self._again(name, batch, mode), self.tolerance))
            if ends and mode == EVAL and (self.left.head or self.right.head):
                bound = max(check.difference.tolerance, difference(a, b, self.tolerance).tolerance)
                yield from self._ends(name, batch, given, bound, _tied(a, bound))

    def _again(self, name: str, batch: Batch, mode: str) -> Callable[[], Array]:
        if name == EXTREME and self.precision == "float32":
            return in_float64(self.left, batch, mode)
        return lambda: logits(self.left, _nudged(batch, self.precision), mode, self.precision)

    def _turned(self, batch: Batch) -> Batch:
        """A batch for the left model in the order of the right one's inputs."""
        if not isinstance(batch, tuple):
            return batch
        return tuple(batch[self.places.index(place)] for place in range(len(batch)))

    def _ends(self, name: str, batch: Batch, given: Batch, bound: float, tied: Array) -> Iterator[Check]:
        """What stands behind the logits: labels as equal or not, probabilities as numbers.

        Their bound is the logits', if that is larger: what no bound forbids there moves the exponents here by as much.
        """
        ours, theirs = (_as_used(model, x, self.precision) for model, x in ((self.left, batch), (self.right, given)))
        for mine, yours in zip(ours, _matched(list(ours), list(theirs)), strict=True):
            a, b = ours[mine], theirs[yours]
            if a.dtype.kind == b.dtype.kind == "f":
                apart = difference(a, b, self.tolerance)
                apart = replace(apart, tolerance=max(bound, apart.tolerance))
                yield Check(name, EVAL, len(a), apart, same_class=same_class(a, b), outputs=mine)
            else:
                yield _labels(name, a, b, tied, mine)


def _as_used(model: Model, batch: Batch, precision: str) -> dict[str, Array]:
    arrays = batch if isinstance(batch, tuple) else (batch,)
    feeds = tuple(as_user_gives(model, x, place) for place, x in enumerate(arrays))
    return run(model, feeds, include_ends=True, precision=precision)


def _labels(name: str, a: Array, b: Array, tied: Array, output: str) -> Check:
    """Labels agree or not; where two classes tie in the reference, rounding picks one, and either will do."""
    if a.shape != b.shape:
        return Check(name, EVAL, len(a), Difference(math.inf, 1.0, 0.0), outputs=output)
    equal = (a == b).reshape(len(a), -1).all(axis=1)
    apart = float(np.mean(~equal & ~tied))
    return Check(name, EVAL, len(a), Difference(apart, 1.0, 0.0), same_class=float(np.mean(equal)), outputs=output)


def _tied(scores: Array, bound: float) -> Array:
    """(n,): whether the two best scores of an example are one, where each may be off by the bound."""
    if scores.ndim != 2 or scores.shape[1] < 2:
        return np.zeros(len(scores), dtype=bool)
    best = np.sort(scores, axis=1)
    return np.asarray(best[:, -1] - best[:, -2] <= 2 * bound)


def _nudged(batch: Batch, precision: str) -> Batch:
    """The batch with every number moved to its neighbour, towards zero; ids and masks stay."""
    arrays = batch if isinstance(batch, tuple) else (batch,)
    wide = (x.astype(precision) if x.dtype.kind == "f" else x for x in arrays)
    moved = tuple(np.nextafter(x, np.zeros_like(x)) if x.dtype.kind == "f" else x for x in wide)
    return moved if isinstance(batch, tuple) else moved[0]


def _places(left: Model, right: Model) -> tuple[int, ...]:
    """Which input of the right model each input of the left one is.

    Raises:
        GraphError: they take different inputs.
    """
    ours, theirs = inputs_before_entry(left), inputs_before_entry(right)
    if len(ours) != len(theirs):
        raise GraphError(
            f"{left.name} has the inputs {_names(ours)}, {right.name} has {_names(theirs)}: two models are compared on "
            "the same inputs; export them with the same"
        )
    matched = _matched([port.name for port in ours], [port.name for port in theirs])
    places = tuple([port.name for port in theirs].index(name) for name in matched)
    for mine, place in enumerate(places):
        a, b = left.inputs[mine], right.inputs[place]
        if a.shape != b.shape or np.dtype(a.dtype).kind != np.dtype(b.dtype).kind:
            raise GraphError(
                f"input {_port(ours[mine])} of {left.name} is {_port(theirs[place])} in {right.name}: two models are "
                "compared on the same inputs; export them with the same shapes and types"
            )
    return places


def _matched(ours: Sequence[str], theirs: Sequence[str]) -> Sequence[str]:
    """The other side's name for each of ours: the same where the names are the same, else by position."""
    return ours if set(ours) == set(theirs) else theirs


def _names(ports: Sequence[Port]) -> str:
    return ", ".join(port.name for port in ports)


def _port(port: Port) -> str:
    return f"'{port.name}' ({', '.join(('batch', *map(str, port.shape)))}) {port.dtype}"


def _require_same_outputs(left: Model, right: Model, ends: bool) -> None:
    (a,), (b,) = left.outputs, right.outputs
    if a.shape != b.shape:
        raise GraphError(
            f"{left.name} gives {_port(a)} where {right.name} gives {_port(b)}: only models of the same outputs can "
            "compute one function"
        )
    if not ends:
        return
    heads = [_head(model) for model in (left, right)]
    if heads[0] != heads[1]:
        raise GraphError(
            f"{left.name} ends in {heads[0]}, {right.name} in {heads[1]}: their outputs are not the same thing; "
            "--logits compares what stands before"
        )


def _head(model: Model) -> str:
    """What stands behind the logits, in words."""
    ops = [node.op for node in model.head if node.op in HEADS | {"ArgMax"}]
    outputs = max(1, len(model.results))
    return f"{' and '.join(ops) or 'logits'}" + (f" with {outputs} outputs" if outputs > 1 else "")


def _same(left: Model, right: Model) -> list[Same] | None:
    """Which values of two networks of one structure are the same; None where the structures differ."""
    try:
        ours, theirs = describe(left), describe(right)
        if tree_of(ours) != tree_of(theirs):
            return None
        alignment, _ = embed(ours, theirs)
    except GraphError:
        return None
    pairs = {right.name: (left.value, right) for left, right in alignment.matches}
    found = []
    for op in theirs.ops():
        if op.name in pairs:
            value, match = pairs[op.name]
            found.append(Same(match.name, match.op, match.value, value, (None,) * len(match.output)))
    return found
