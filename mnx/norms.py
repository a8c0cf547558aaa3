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
"""In all members without any normalisation if one of them is `DEEP`; in none; in every member."""

DEEP = 6
"""Of so many layers that could be normalised, networks train better when they are; see the benchmark norm_restore."""


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
    bare = [not normalised(model) for model, _ in members]
    if norm == AUTO and not any(without and len(at.layers) >= DEEP for without, at in zip(bare, found, strict=True)):
        return list(members)
    result = []
    for member, without, at in zip(members, bare, found, strict=True):
        if norm == RESTORE and without and not at.layers:
            raise MnxError(
                f"{member[0].name} has no place for BatchNormalization ({at.reasons}): leave it out, or say --norm auto"
            )
        wanted = at.layers and (norm == RESTORE or without)
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
