"""One stage's training: how many networks at once, who hears of it, and what is said of those that fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from mnx.curves import Curves
from mnx.errors import MnxError
from mnx.graphs import onnx_file
from mnx.graphs.errors import GraphError
from mnx.groups import Group, cost_of, groups, named
from mnx.heartbeat import Heartbeat
from mnx.jobs import jobs_at_once, process_bytes
from mnx.session import FORWARD_AND_BACKWARD, Session, keep_grouping, train_group
from mnx.workers import Failure, tell_failed, train_at_once


def train_stage(session: Session, stage: str, costs: Mapping[str, int]) -> list[str]:
    """Train the networks of a stage that are not trained yet, one after the other or several at once.

    Args:
        session: the call.
        stage: mothers, members or independent.
        costs: network -> multiply-adds of a forward pass.

    Returns:
        The names of those that were trained now.

    Raises:
        MnxError: a network cannot be trained, or its process was killed. Its last checkpoint is kept, as are those of
            the others, which first finish their epoch.
    """
    run = session.run
    waiting = {name: cost for name, cost in costs.items() if run.training(stage, name) is None}
    if not waiting:
        return []
    keep_grouping(session)
    together = [group for group in groups(session.plan, stage, session.fuse) if waiting.keys() & set(group)]
    at_once = _jobs(session, stage, together, waiting)
    listeners: list[Heartbeat | Curves] = [Heartbeat(run.heartbeat_file)]
    listeners += [Curves(run, {stage: list(costs)})] if session.curves else []
    heard = replace(session, events=session.events.beside(*listeners))
    heard.events.record(
        "stage",
        stage=stage,
        networks=dict(costs),
        trained=[name for name in costs if name not in waiting],
        limit=session.recipe.of(stage).epochs,
        jobs=at_once,
        threads=session.threads[stage],
        fuse=session.fuse,
    )
    try:
        failed = (train_at_once if at_once > 1 else _in_turn)(heard, stage, together, waiting, at_once)
    except KeyboardInterrupt:
        with suppress(OSError):
            session.events.record("stopped", stage=stage, reason="interrupted")
        raise
    finally:
        for listener in listeners:
            listener.end()
    if failed:
        _refuse(stage, failed)
    return list(waiting)


def _jobs(session: Session, stage: str, together: Sequence[Group], waiting: Mapping[str, int]) -> int:
    """How many groups are trained at once: as many as were asked for, or as pay."""
    asked = session.jobs
    if session.spec is None or len(together) == 1 or asked == 1:
        return 1
    if asked is not None:
        return min(asked, len(together))
    recipe, examples, threads = session.recipe.of(stage), len(session.dataset.train), session.threads[stage]
    largest = max(together, key=lambda group: cost_of(group, waiting))
    models = [onnx_file.read(session.run.start_file(stage, name)) for name in largest if name in waiting]
    batch = recipe.batch_of(examples)
    steps = len(together) * recipe.epochs * -(-examples // batch)
    work = FORWARD_AND_BACKWARD * sum(waiting.values()) * recipe.epochs * examples
    parts = (session.dataset.train, session.dataset.validation, session.dataset.test)
    arrays = [array for part in parts for array in part.raw if not isinstance(array, np.memmap)]
    each = process_bytes(models, batch, sum(array.nbytes for array in arrays))
    return jobs_at_once(len(together), threads, each, steps, work, session.device)


def _in_turn(
    session: Session, stage: str, together: Sequence[Group], waiting: Mapping[str, int], jobs: int = 1
) -> dict[str, Failure]:
    """Train groups in this process, up to the first that fails; see `train_at_once`."""
    for group in together:
        try:
            train_group(session, stage, group, waiting)
        except (MnxError, GraphError, OSError, MemoryError) as error:
            failed = named(group, error)
            tell_failed(session.events, stage, failed, error)
            return dict.fromkeys(failed, error)
    return {}


def _refuse(stage: str, failed: Mapping[str, Failure]) -> None:
    """Raise what networks failed of: the system's errors as they are, since they are everybody's."""
    errors: Sequence[Failure] = list({id(error): error for error in failed.values()}.values())
    for error in errors:
        if isinstance(error, OSError | MemoryError):
            raise error
    if len(failed) == 1 and next(iter(failed)) in str(errors[0]):
        raise errors[0]
    told = "; ".join(f"{name}: {error}" for name, error in failed.items())
    raise MnxError(f"training {stage} failed: {told}") from errors[0]
