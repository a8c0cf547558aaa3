"""Independent training: every member from scratch on all data, with the recipe and stopping rule of every method."""

from __future__ import annotations

from mnx.graphs import onnx_file
from mnx.graphs.mothers.carve import drawn
from mnx.graphs.trees.describe import describe
from mnx.norms import read_member
from mnx.session import Session
from mnx.stages import train_stage


def train_independent(session: Session) -> list[str]:
    """Train every member from fresh weights, drawn as a mother's are; returns the names of those that were not yet."""
    for member in session.plan.members:
        start = session.run.start_file("independent", member.name)
        if not start.exists():
            model = read_member(member)
            onnx_file.write(drawn(model, describe(model), session.plan.seed), start, form="working")
    return train_stage(session, "independent", {each.name: each.multiply_adds for each in session.plan.members})
