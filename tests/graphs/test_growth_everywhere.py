"""Random members of every kind compute their mother's function, and in double precision only rounding is left."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kinds import KINDS
from strategies import Array, batch_for, doubled, planned, trained

from mnx.graphs.errors import GraphError
from mnx.graphs.growth.growing import Style
from mnx.graphs.growth.hatch import grow
from mnx.graphs.model import Model
from mnx.graphs.run import run
from mnx.graphs.verify import difference

styles = st.builds(Style, st.integers(0, 99), st.sampled_from(["random", "equal"]), st.sampled_from([0.0, 0.5, 1.0]))
SINGLE = ("averaged", "attention", "wider heads", "post-norm", "coded")
"""Kinds where an epsilon is scaled or left over, which float32 holds, or a function is straight in float32 only."""


def tried(count: int) -> settings:
    return settings(
        max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )


def logits(model: Model, batch: Array, mode: bool, precision: str = "float32") -> Array:
    (result,) = run(model, batch, batch_statistics=mode, precision=precision).values()
    return result


def mother_of(members: list[Model]) -> Model | None:
    try:
        return trained(planned(members)[0], len(members))
    except GraphError:
        return None


def check(members: list[Model], style: Style) -> int:
    """Members are their mother's function in eval mode, and by batch statistics where they can; how many they are."""
    mother = mother_of(members)
    if mother is None:
        return 0
    batch, other = batch_for(mother, style.seed), batch_for(mother, style.seed + 1)
    for member in members:
        grown, _, exact = grow(mother, member, batch, style)
        for mode in (False, True):
            for x in (batch, other) if exact or not mode else (batch,):
                assert difference(logits(mother, x, mode), logits(grown, x, mode)).passed
    return len(members)


def check_doubled(kind: str, members: list[Model], style: Style) -> None:
    mother = mother_of(members)
    if mother is None:
        return
    mother = doubled(mother)
    batch = batch_for(mother, style.seed)
    expected = logits(mother, batch, False, "float64")
    for member in members:
        found = logits(grow(mother, member, batch, style)[0], batch, False, "float64")
        bound = 1e-6 if kind in SINGLE else 1e-12
        assert float(np.abs(found - expected).max()) < bound * max(1.0, float(np.abs(expected).max()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "count",
    [10, pytest.param(50, marks=pytest.mark.slow), pytest.param(150, marks=[pytest.mark.slow, pytest.mark.exhaustive])],
)
def test_members_compute_their_mothers_function(kind: str, count: int) -> None:
    grown: list[int] = []

    @given(KINDS[kind], styles)
    @tried(count)
    def members(drawn: list[Model], style: Style) -> None:
        grown.append(check(drawn, style))

    members()
    assert sum(grown) > count


@pytest.mark.parametrize("kind", KINDS)
def test_in_double_precision_only_rounding_is_left(kind: str) -> None:
    @given(KINDS[kind], styles)
    @tried(5)
    def members(drawn: list[Model], style: Style) -> None:
        check_doubled(kind, drawn, style)

    members()
