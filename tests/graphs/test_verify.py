"""The one numeric comparison, and the certificate: what it measures, what binds, what it says."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Array, batch_for, examples, trained

from mnx.graphs.errors import GraphError, NotPreserved
from mnx.graphs.growth.growing import Style
from mnx.graphs.growth.hatch import grow, hatch
from mnx.graphs.model import Model
from mnx.graphs.run import run
from mnx.graphs.verify import ROUNDING, TOLERANCE, Certificate, Check, Difference, Same, certify, difference
from mnx.graphs.zoo.mlp import mlp

NAN, INF = float("nan"), float("inf")


def row(*values: float) -> Array:
    return np.array([values], dtype=np.float32)


def test_equal_outputs_agree_with_nothing_between_them() -> None:
    assert difference(row(1, -2), row(1, -2)) == Difference(0.0, 2.0, 2 * TOLERANCE)
    assert difference(row(1, -2), row(1, -2)).passed


def test_the_tolerance_is_that_of_the_certificate_in_the_documents() -> None:
    assert TOLERANCE == 1e-5


@pytest.mark.parametrize("scale, tolerance", [(0.0, 1e-5), (0.5, 1e-5), (1.0, 1e-5), (200.0, 2e-3)])
def test_the_bound_grows_with_the_reference_but_not_below_one(scale: float, tolerance: float) -> None:
    reference = row(-scale, 0)
    found = difference(reference, reference)
    assert (found.scale, found.tolerance) == (scale, pytest.approx(tolerance))
    assert difference(reference.astype(np.float64), reference + 0.9 * tolerance).passed
    assert not difference(reference.astype(np.float64), reference + 1.1 * tolerance).passed


def test_the_bound_does_not_grow_with_the_other_output() -> None:
    assert not difference(row(1), row(1e9)).passed


def test_one_far_value_among_many_fails() -> None:
    reference = np.zeros((100, 10), np.float32)
    other = reference.copy()
    other[77, 3] = 2e-5
    assert difference(reference, other).largest == pytest.approx(2e-5)
    assert not difference(reference, other).passed


def test_differences_are_measured_in_double_precision() -> None:
    assert difference(row(2**24), row(2**24 + 2)).largest == 2.0
    assert difference(np.array([3e38], np.float32), np.array([-3e38], np.float32)).largest == pytest.approx(6e38)


@pytest.mark.parametrize(
    "reference, other",
    [
        (row(0, 1), row(NAN, 1)),
        (row(NAN, 1), row(0, 1)),
        (row(NAN, 1), row(NAN, 1)),
        (row(0, 1), row(INF, 1)),
        (row(INF, 1), row(0, 1)),
        (row(INF, 1), row(INF, 1)),
        (row(-INF, 1), row(INF, 1)),
        (row(INF, NAN), row(INF, 0)),
    ],
)
def test_outputs_that_are_not_finite_never_agree(reference: Array, other: Array) -> None:
    assert not difference(reference, other).passed


def test_arrays_of_different_shapes_never_agree() -> None:
    assert not difference(np.zeros((2, 3)), np.zeros((2, 1))).passed
    assert not difference(np.zeros((2, 3)), np.zeros((3, 2))).passed


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=5), st.floats(0, 0.01), st.integers(0, 4))
@examples(60)
def test_passing_is_the_bound_on_the_largest_difference(values: list[int], shift: float, place: int) -> None:
    reference = np.array(values, np.float64)
    other = reference.copy()
    other[place % len(other)] += shift
    largest = float(np.abs(other - reference).max())
    assert difference(reference, other).passed == (largest <= TOLERANCE * max(1.0, float(np.abs(reference).max())))


def grown(*, norms: bool) -> tuple[Model, Model, Sequence[Same], bool]:
    """A mother, a wider member, which values repeat which, and whether batch statistics agree on every batch."""
    mother = trained(mlp("m", 4, (3,), 3, batch_norm=norms))
    member = mlp("n", 4, (5, 3) if norms else (5,), 3, batch_norm=norms)
    return mother, *grow(mother, member, batch_for(mother, 0), Style())


def certified(mother: Model, member: Model, same: Sequence[Same], exact: bool, *names: str) -> Certificate:
    inputs = {name: batch_for(mother, seed) for seed, name in enumerate(names)}
    return certify(mother, member, inputs, "real", exact, same)


def test_without_norms_only_the_eval_mode_is_measured() -> None:
    mother, member, same, exact = grown(norms=False)
    certificate = certified(mother, member, same, exact, "real", "random")
    assert [(c.inputs, c.mode, c.examples, c.binding) for c in certificate.checks] == [
        ("real", "eval", 16, True),
        ("random", "eval", 16, True),
    ]


def test_with_inserted_norms_batch_statistics_bind_on_the_calibration_batch_only() -> None:
    mother, member, same, exact = grown(norms=True)
    assert not exact
    certificate = certified(mother, member, same, exact, "real", "random")
    assert [(c.inputs, c.mode, c.binding) for c in certificate.checks] == [
        ("real", "eval", True),
        ("real", "batch statistics", True),
        ("random", "eval", True),
        ("random", "batch statistics", False),
    ]
    assert certificate.passed
    assert certificate.largest < certificate.checks[3].difference.largest


def test_certificates_are_written_as_plain_json() -> None:
    mother = trained(mlp("m", 4, (3,), 3))
    certificate = hatch(mother, mlp("n", 4, (5,), 3), {"real": batch_for(mother, 0)}, "real", 0).certificate
    written = json.loads(json.dumps(certificate.to_json(), allow_nan=False))
    (check,) = certificate.checks
    assert written == {
        "mother": "m",
        "member": "n",
        "passed": True,
        "checks": [
            {
                "inputs": "real",
                "mode": "eval",
                "examples": 16,
                "difference": {
                    "largest": check.difference.largest,
                    "scale": check.difference.scale,
                    "tolerance": check.difference.tolerance,
                },
                "binding": True,
                "rounding": None,
                "passed": True,
            }
        ],
    }


def test_a_certificate_passes_when_every_binding_check_does() -> None:
    good, bad = Difference(0.0, 1.0, 1e-5), Difference(1.0, 1.0, 1e-5)

    def holds(*checks: tuple[Difference, bool]) -> bool:
        return Certificate("m", "n", tuple(Check("real", "eval", 1, d, b) for d, b in checks)).passed

    assert holds((good, True), (bad, False))
    assert not holds((good, True), (bad, True))


def test_a_member_of_another_function_is_refused_with_the_numbers_and_the_first_op() -> None:
    mother, member, same, exact = grown(norms=False)
    bias = member.weights["fc1.bias"] + np.float32(0.5)
    expected = (
        r"^n does not compute the function of m: on real inputs \(eval\) they differ by \d\.\d\de[-+]\d\d, more than "
        r"\d\.\d\de-0\d; the first that differs is node 'fc1' \(Gemm\); nothing was written$"
    )
    with pytest.raises(NotPreserved, match=expected):
        certified(mother, member.with_weights({"fc1.bias": bias}), same, exact, "real")


@pytest.mark.parametrize("value", [NAN, INF])
def test_a_member_whose_outputs_are_not_finite_is_refused(value: float) -> None:
    mother, member, same, exact = grown(norms=False)
    broken = np.full(3, value, np.float32)
    with pytest.raises(NotPreserved, match="node 'head'"):
        certified(mother, member.with_weights({"head.bias": broken}), same, exact, "real")


def test_a_mother_whose_outputs_are_not_finite_has_no_certificate() -> None:
    mother, member, same, exact = grown(norms=False)
    broken = {"head.bias": np.full(3, INF, np.float32)}
    with pytest.raises(NotPreserved):
        certified(mother.with_weights(broken), member.with_weights(broken), same, exact, "real")


def test_a_certificate_needs_something_to_compare_on() -> None:
    mother, member, same, exact = grown(norms=False)
    with pytest.raises(GraphError, match="n cannot be compared with m: no inputs are given"):
        certify(mother, member, {}, "real", exact, same)
    with pytest.raises(GraphError, match="the real inputs hold no example; give at least one example"):
        certify(mother, member, {"real": np.zeros((0, 4), np.float32)}, "real", exact, same)


def normalised(seed: int = 0) -> Model:
    return trained(mlp("m", 4, (3,), 3, batch_norm=True), seed)


def moved(model: Model, by: float) -> Model:
    """The model with its logits moved: a stand-in for rounding of a known size."""
    name = model.nodes[-1].inputs[2]
    return model.with_weights({name: model.weights[name] + np.float32(by)})


def certified_with_rounding(by: float, rounding: float) -> Certificate:
    mother = normalised()
    inputs = {"real": batch_for(mother, 0)}

    def in_batches(model: Model) -> Model:
        return moved(model, rounding)

    return certify(mother, moved(mother, by), inputs, "real", True, (), lambda: in_batches(mother))


def test_rounding_never_excuses_eval_mode() -> None:
    with pytest.raises(NotPreserved, match="eval"):
        certified_with_rounding(by=1e-2, rounding=1e-2)


@pytest.mark.parametrize("rounding, passes", [(1e-3, False), (2e-3, True)])
def test_batch_statistics_may_differ_by_measured_rounding(
    rounding: float, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def eval_agrees(model: Model, batch: Array, batch_statistics: bool = False, **kwargs: object) -> dict[str, Array]:
        return run(model if batch_statistics else normalised(), batch, batch_statistics=batch_statistics)

    monkeypatch.setattr("mnx.graphs.verify.run", eval_agrees)
    monkeypatch.setattr("mnx.graphs.verify.first_broken", lambda *_: "not looked for")
    if not passes:
        with pytest.raises(NotPreserved, match="batch statistics"):
            certified_with_rounding(by=1e-2, rounding=rounding)
        return
    checks = {check.mode: check for check in certified_with_rounding(by=1e-2, rounding=rounding).checks}
    assert checks["eval"].rounding is None
    assert checks["batch statistics"].rounding == pytest.approx(rounding, rel=1e-3)
    assert checks["batch statistics"].difference.tolerance == pytest.approx(ROUNDING * rounding, rel=1e-3)
