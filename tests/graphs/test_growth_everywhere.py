"""Random members of every kind compute their mother's function, and in double precision only rounding is left."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kinds import KINDS, attending
from strategies import Array, batch_for, doubled, planned, trained

from mnx.graphs.errors import GraphError
from mnx.graphs.growth.growing import Style
from mnx.graphs.growth.hatch import grow
from mnx.graphs.model import Model
from mnx.graphs.run import run
from mnx.graphs.verify import difference
from mnx.graphs.zoo.mlp import mlp

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


def hardly_varies(mother: Model, batch: Array, mode: bool) -> bool:
    """Whether a normalisation of the mother divides by so little that rounding of float32 before it shows behind it.

    So it is where ReLU lets one example of a batch pass, or where few channels of a token happen to be nearly equal.
    """
    averaged = {
        "LayerNormalization": lambda value: (-1,),
        "BatchNormalization": lambda value: (0, *range(2, value.ndim)),
    }
    nodes = [node for node in mother.nodes if node.op in averaged and (mode or node.op == "LayerNormalization")]
    wanted = [node.inputs[0] for node in nodes]
    values = run(doubled(mother), batch, wanted, batch_statistics=mode, precision="float64") if wanted else {}
    for node, name in zip(nodes, wanted, strict=True):
        axes = averaged[node.op](values[name])
        mean, spread = np.abs(values[name].mean(axis=axes)), values[name].std(axis=axes)
        if (spread < 0.05 * np.maximum(1.0, mean)).any():
            return True
    return False


def exact_in_double_precision(
    mother: Model, member: Model, calibration: Array, batch: Array, mode: bool, style: Style, bound: float = 1e-6
) -> bool:
    """Whether the member of a mother in double precision gives what she gives, relative to her largest result."""
    mother = doubled(mother)
    expected = logits(mother, batch, mode, "float64")
    found = logits(grow(mother, member, calibration, style)[0], batch, mode, "float64")
    return bool(np.abs(found - expected).max() < bound * max(1.0, float(np.abs(expected).max())))


def check(members: list[Model], style: Style) -> int:
    """Members are their mother's function in eval mode, and by batch statistics where they can; how many they are.

    Where the mother asks of float32 more than it has, this holds in double precision.
    """
    mother = mother_of(members)
    if mother is None:
        return 0
    batch, other = batch_for(mother, style.seed), batch_for(mother, style.seed + 1)
    for member in members:
        grown, _, exact = grow(mother, member, batch, style)
        for mode in (False, True):
            for x in (batch, other) if exact or not mode else (batch,):
                found = difference(logits(mother, x, mode), logits(grown, x, mode))
                assert found.passed or hardly_varies(mother, x, mode), found
                assert found.passed or exact_in_double_precision(mother, member, batch, x, mode, style)
    return len(members)


def check_doubled(kind: str, members: list[Model], style: Style) -> None:
    mother = mother_of(members)
    if mother is None:
        return
    batch, bound = batch_for(mother, style.seed), 1e-6 if kind in SINGLE else 1e-12
    for member in members:
        assert exact_in_double_precision(mother, member, batch, batch, False, style, bound)


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


@pytest.mark.parametrize(
    ("members", "style", "mode"),
    [
        (
            [mlp(f"p{i}", 3, (width, 1, 1), 3, batch_norm=True, seed=i) for i, width in enumerate((1, 4, 1))],
            Style(21, "random", 0.5),
            True,
        ),
        ([attending(f"m{i}", width, 1, 1, 6) for i, width in enumerate((6, 4))], Style(), False),
    ],
    ids=["examples", "channels"],
)
def test_what_hardly_varies_is_compared_in_double_precision(members: list[Model], style: Style, mode: bool) -> None:
    mother = mother_of(members)
    assert mother is not None
    calibration, batch = batch_for(mother, style.seed), batch_for(mother, style.seed + 1)
    grown = [grow(mother, member, calibration, style)[0] for member in members]
    expected = logits(mother, batch, mode)
    assert not all(difference(expected, logits(member, batch, mode)).passed for member in grown), "in float32"
    assert hardly_varies(mother, batch, mode)
    assert check(members, style) == len(members)
