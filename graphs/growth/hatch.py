"""Hatch a member from its trained mother: every parameter by the growth maps of its axes, then the certificate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from mnx.graphs.certificate import Certificate
from mnx.graphs.growth.growing import Growing, Style, inserted, missing_bias
from mnx.graphs.growth.maps import random_of, reordering
from mnx.graphs.model import Array, Attribute, Model, free_name, without_unused_weights
from mnx.graphs.mothers.matching import How
from mnx.graphs.mothers.mother import embed, embedded
from mnx.graphs.ops.axes import Axis
from mnx.graphs.run import Batch
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.structure import BATCH
from mnx.graphs.verify import Answers, Same, certify

_REPEATING = (How.IDENTITY, How.JOIN, How.VEILED, How.HANDED)


@dataclass(frozen=True)
class Hatched:
    """A member with its mother's function, the proof, and how it grew."""

    model: Model
    certificate: Certificate
    growing: Growing


def hatch(
    mother: Model,
    member: Model,
    inputs: Mapping[str, Batch],
    calibration: str,
    seed: int,
    split: str = "random",
    fresh: float = 0.0,
    answers: Answers | None = None,
) -> Hatched:
    """Give a member's graph its mother's function.

    Args:
        mother: the trained mother.
        member: the member; its own weights stay only in branches that the mother does not have.
        inputs: named batches (n, *input shape), or tuples of one such array for every input, that the certificate is
            measured on.
        calibration: which of them inserted BatchNormalizations are calibrated on.
        seed: of the growth maps and shares, with the member's name.
        split: one of `growing.SPLITS`.
        fresh: see `growing.Style`.
        answers: the mother's on these inputs, where they are kept for further members.

    Raises:
        GraphError: the member cannot be grown from this mother, or `split` or `fresh` are no legal ones.
        NotPreserved: the certificate fails.
    """
    growing = begun(mother, member, inputs[calibration], Style(seed, split, fresh))
    grown, same, exact_modes = result(growing)
    again = partial(reordered, mother, inputs[calibration], seed)
    certificate = certify(mother, grown, inputs, calibration, exact_modes, same, again, answers)
    return Hatched(grown, certificate, growing)


def reordered(mother: Model, calibration: Batch, seed: int) -> Model:
    """The mother with the channels of every group in another order: her own function up to the order of sums."""
    structure = describe(mother)
    alignment, found = embed(structure, structure)
    maps = {group: reordering(width, random_of(seed, f"order {group}")) for group, width in structure.groups.items()}
    growing = Growing(mother, structure, mother, structure, alignment, found, calibration, Style(seed), maps)
    return mother.with_weights(growing.matched())


def grow(mother: Model, member: Model, calibration: Batch, style: Style) -> tuple[Model, tuple[Same, ...], bool]:
    """The grown member without a certificate, which values repeat which, and whether batch statistics are exact."""
    return result(begun(mother, member, calibration, style))


def result(growing: Growing) -> tuple[Model, tuple[Same, ...], bool]:
    """What `grow` gives, of a growth that has begun."""
    exact = not any(op.op == "BatchNormalization" and how is How.IDENTITY for op, how, _ in inserted(growing.alignment))
    means = growing.means
    grown = with_epsilons(with_attributes(growing.model, means.attributes()), means.epsilons())
    grown = grown.with_weights(growing.weights())
    return grown, tuple(repeats(growing)), exact


def with_attributes(model: Model, attributes: Mapping[str, Mapping[str, Attribute]]) -> Model:
    """The model with attributes of some nodes changed, which its `changes` name."""
    if not attributes:
        return model
    nodes = tuple(
        replace(node, attributes={**node.attributes, **attributes[node.name]}) if node.name in attributes else node
        for node in model.nodes
    )
    said = tuple(
        f"{name} of node '{node.name}' ({node.op}) is {value:g}, to compute what its mother does"
        for node in model.nodes
        for name, value in attributes.get(node.name, {}).items()
    )
    return model.replace(nodes=nodes, changes=(*model.changes, *said))


def begun(mother: Model, member: Model, calibration: Batch, style: Style) -> Growing:
    """The growth of a member, before any parameter is made.

    Raises:
        GraphError: the member cannot be grown from this mother.
    """
    known = embedded(describe(_single(mother)), describe(member))
    return Growing(mother, known.mother, member, known.member, known.alignment, known.found, calibration, style)


def with_epsilons(model: Model, epsilons: Mapping[str, Array]) -> Model:
    """The model in which some nodes add another number, each its own, which its `changes` name."""
    if not epsilons:
        return model
    nodes, weights, said = [], dict(model.weights), []
    for node in model.nodes:
        if node.name in epsilons:
            place = next(index for index, value in enumerate(node.inputs) if value in model.weights)
            name = free_name(f"{node.name}.epsilon", weights)
            weights[name] = epsilons[node.name]
            node = replace(node, inputs=(*node.inputs[:place], name, *node.inputs[place + 1 :]))
            number = float(epsilons[node.name].reshape(-1)[0])
            said.append(f"node '{node.name}' ({node.op}) adds {number:g}, to compute what its mother does")
        nodes.append(node)
    changed = model.replace(nodes=tuple(nodes), weights=weights, changes=(*model.changes, *said))
    return without_unused_weights(changed)


def _single(model: Model) -> Model:
    """A model in double precision as one in float32, which its structure is read from."""
    doubles = {name: array.astype(np.float32) for name, array in model.weights.items() if array.dtype == np.float64}
    return model.with_weights(doubles) if doubles else model


def repeats(growing: Growing) -> list[Same]:
    """Which values of the member must repeat which of the mother, in execution order; those in code repeat none."""
    alignment = growing.alignment
    pairs = {right.name: left.value for left, right in alignment.matches if not missing_bias(left, right)}
    pairs |= {op.name: place.value for op, how, place in inserted(alignment) if how in _REPEATING}
    return [
        Same(op.name, op.op, op.value, pairs[op.name], tuple(map(growing.changed, op.output)))
        for op in growing.member.ops()
        if op.name in pairs
        and op.name not in growing.veiled
        and not growing.is_coded(op)
        and not any(map(_joins_batch, op.output))
    ]


def _joins_batch(axis: Axis) -> bool:
    """Whether an axis joins the batch with channels, so that it has no map of its own."""
    return any(part.group is not None and part.outer * part.inner % BATCH == 0 for part in axis)
