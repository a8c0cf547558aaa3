"""Growth for its own sake: a network grown as is wanted, with the proof that it computes what it did."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mnx.graphs.errors import GraphError, NotPreserved
from mnx.graphs.growth.growing import Style
from mnx.graphs.growth.hatch import Hatched, hatch
from mnx.graphs.growth.request import Request
from mnx.graphs.growth.steps import Step, broken_step
from mnx.graphs.growth.target import target
from mnx.graphs.model import Model
from mnx.graphs.probes import RANDOM, batches_of, probes
from mnx.graphs.run import Batch
from mnx.graphs.verify import Answers


def grown(
    model: Model,
    wanted: Request,
    inputs: Mapping[str, Batch] | None = None,
    calibration: str | None = None,
    style: Style | None = None,
) -> Hatched:
    """Grow a network to what is wanted, exactly.

    Args:
        model: the network, trained or not.
        wanted: what is to grow.
        inputs: named batches (n, *input shape), or tuples of one such array for every input, that the certificate is
            measured on; random and extreme ones where none are given.
        calibration: which of them inserted BatchNormalizations are calibrated on; the first where none is named.
        style: how; its seed is that of fresh weights and random inputs too.

    Raises:
        GraphError: what is wanted is no growth of this network, or cannot be made exactly; the message says why.
        NotPreserved: the certificate fails; the message names the op and the step.
    """
    style = style or Style()
    given = inputs or batches_of(probes(model, style.seed))
    first = calibration or (RANDOM if RANDOM in given else next(iter(given)))
    return hatched(model, target(model, wanted, style.seed), given, first, style)


def hatched(
    mother: Model,
    member: Model,
    inputs: Mapping[str, Batch],
    calibration: str,
    style: Style,
    answers: Answers | None = None,
) -> Hatched:
    """As `hatch`, but where the certificate fails the message also names the step of the growth that broke it."""
    try:
        return hatch(mother, member, inputs, calibration, style.seed, style.split, style.fresh, answers)
    except NotPreserved as error:

        def again(one: Model, other: Model) -> Hatched:
            return hatch(one, other, inputs, calibration, style.seed, style.split, style.fresh)

        step = _broken(mother, member, again)
        raise NotPreserved(f"{error}; the step that breaks it: {step.text}" if step else str(error)) from error


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
