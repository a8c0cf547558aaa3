"""Members with the BatchNormalization that their exports folded away: which get it back, and reading them with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mnx.errors import MnxError
from mnx.graphs import onnx_file
from mnx.graphs.model import Model
from mnx.graphs.mothers.mother import Member, stand_in
from mnx.graphs.norms.places import normalised, places
from mnx.graphs.norms.restore import put_in, restored
from mnx.plan import PlannedMember

AUTO, KEEP, RESTORE = NORMS = ("auto", "keep", "restore")
"""In convolutional members without any normalisation if one of them is `DEEP`; in none; in every member."""

DEEP = 4
"""Convolutions with a place for normalisation: from so many on no network measured trains worse with it than as it
came, in the mean; perceptrons of 2 to 8 layers mostly do (benchmarks/results/norm-restore.md)."""


def with_norms(members: Sequence[Member], norm: str) -> list[Member]:
    """The members, as stand-ins, in the form that they are trained in.

    Args:
        members: as they came.
        norm: one of `NORMS`.

    Raises:
        MnxError: it is to be restored in a member that has no normalisation and no place for any.
    """
    if norm == KEEP:
        return list(members)
    found = [places(model, structure) for model, structure in members]
    convolutions = [
        0 if normalised(model) else sum(model.node(name).op == "Conv" for name in at.layers)
        for (model, _), at in zip(members, found, strict=True)
    ]
    if norm == AUTO and max(convolutions, default=0) < DEEP:
        return list(members)
    result = []
    for member, at, count in zip(members, found, convolutions, strict=True):
        if norm == RESTORE and not at.layers and not normalised(member[0]):
            raise MnxError(
                f"{member[0].name} has no place for BatchNormalization ({at.reasons}): leave it out, or say --norm auto"
            )
        wanted = at.layers if norm == RESTORE else count
        result.append(stand_in(restored(member[0], at=at)) if wanted else member)
    return result


def restored_layers(model: Model) -> int:
    """Behind how many layers BatchNormalization was put back."""
    return len(put_in(model))


def read_member(member: PlannedMember) -> Model:
    """A member's network in the form that it is planned and trained in.

    Raises:
        GraphError: its file cannot be read.
    """
    model = onnx_file.read(Path(member.path))
    return restored(model) if member.restored else model
