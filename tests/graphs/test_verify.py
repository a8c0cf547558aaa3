"""The one numeric comparison, and the certificate: what it measures, what binds, what it says."""

import json
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Array, batch_for, examples, trained

from mnx.graphs.certificate import SCHEMA, Certificate, Check, Difference
from mnx.graphs.errors import GraphError, NotPreserved
from mnx.graphs.growth.growing import Style
from mnx.graphs.growth.hatch import grow, hatch
from mnx.graphs.model import Model
from mnx.graphs.probes import EXTREME, RANDOM, probes
from mnx.graphs.run import run
from mnx.graphs.verify import ROUNDING, TOLERANCE, Same, certify, compared, difference, same_class
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
        "schema": SCHEMA,
        "mother": "m",
        "member": "n",
        "passed": True,
        "precision": "float32",
        "seed": None,
        "split": "",
        "fresh": 0.0,
        "perturbed": {},
        "changes": [],
        "inputs": [{"name": "real", "examples": 16, "made": ""}],
        "modes": ["eval"],
        "checks": [
            {
                "inputs": "real",
                "mode": "eval",
                "outputs": "logits",
                "examples": 16,
                "largest": check.difference.largest,
                "scale": check.difference.scale,
                "relative": check.difference.relative,
                "tolerance": check.difference.tolerance,
                "binding": True,
                "rounding": None,
                "same_class": 1.0,
                "passed": True,
            }
        ],
        "sha256": {},
        "versions": dict(certificate.versions),
    }
    assert set(written["versions"]) == {"mnx", "onnx", "onnxruntime", "numpy"}


numbers = st.floats(0, 1e6) | st.just(INF)
checks = st.builds(
    Check,
    st.sampled_from(["random", "extreme", "real"]),
    st.sampled_from(["eval", "batch statistics"]),
    st.just(8),
    st.builds(Difference, numbers, numbers, st.floats(0, 1)),
    st.booleans(),
    st.none() | st.floats(0, 1),
    st.none() | st.floats(0, 1),
    st.sampled_from(["logits", "probabilities"]),
)
words = st.dictionaries(st.sampled_from(["mother", "member", "mnx"]), st.text(max_size=4))


@given(
    st.lists(checks, min_size=1, max_size=4), words, words, st.none() | st.integers(0, 9), st.sampled_from(["float64"])
)
@examples(60)
def test_certificates_are_read_as_they_were_written(
    found: list[Check], hashes: dict[str, str], versions: dict[str, str], seed: int | None, precision: str
) -> None:
    made = {check.inputs: f"{check.inputs}, drawn" for check in found}
    certificate = Certificate("m", "n", tuple(found), made, hashes, seed, "equal", precision, versions)
    written = json.loads(certificate.text())
    assert Certificate.from_json(written) == certificate
    assert written["passed"] == certificate.passed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": None}, "another version of mnx wrote it"),
        ({"schema": 1}, r"another version of mnx wrote it \(schema 1, not 2\)"),
        ({"checks": [{"inputs": "real"}]}, "it is no certificate: KeyError"),
        ({"checks": None}, "it is no certificate: TypeError"),
    ],
)
def test_what_is_no_certificate_of_this_schema_is_refused(change: dict[str, object], words: str) -> None:
    good = Certificate("m", "n", (Check("real", "eval", 1, Difference(0.0, 1.0, 1e-5)),)).to_json()
    with pytest.raises(GraphError, match=words):
        Certificate.from_json({**good, **change})


def test_the_relative_error_is_the_share_of_the_scale_or_of_one() -> None:
    assert Difference(2.0, 100.0, 1.0).relative == 0.02
    assert Difference(2.0, 0.5, 1.0).relative == 2.0
    assert Difference(1.0, INF, 1.0).relative == INF


@pytest.mark.parametrize(
    ("reference", "other", "share"),
    [
        ([[1, 2], [3, 0]], [[0, 9], [1, 0]], 1.0),
        ([[1, 2], [3, 0]], [[0, 9], [1, 2]], 0.5),
        ([[1], [3]], [[1], [3]], None),
        ([1, 3], [1, 3], None),
        ([[1, 2]], [[1, 2, 3]], None),
    ],
)
def test_classes_are_compared_where_there_are_some(
    reference: list[float], other: list[float], share: float | None
) -> None:
    assert same_class(np.array(reference), np.array(other)) == share


def test_on_extreme_inputs_an_example_is_measured_by_its_own_scale() -> None:
    reference = np.array([[0.0, 1.0], [1e4, 0.0]], np.float32)
    other = reference + np.array([[1e-3, 0], [0, 0]], np.float32)
    assert compared(RANDOM, "eval", reference, other).difference.passed
    found = compared(EXTREME, "eval", reference, other)
    assert not found.difference.passed
    assert found.difference.scale == 1.0
    assert compared(EXTREME, "batch statistics", reference, other).difference.passed


@pytest.mark.parametrize(("rounding", "passes"), [(1e-4, False), (2e-4, True)])
def test_on_extreme_inputs_rounding_is_allowed_for(rounding: float, passes: bool) -> None:
    reference = np.array([[0.0, 1.0]], np.float32)
    found = compared(EXTREME, "eval", reference, reference + 1e-3, again=lambda: reference + rounding)
    assert found.difference.passed == passes
    assert found.rounding == pytest.approx(rounding, rel=1e-3)
    assert not compared(RANDOM, "eval", reference, reference + 1e-3, again=lambda: reference + 1).difference.passed


def test_of_extreme_examples_the_one_that_rounding_decided_is_shown() -> None:
    reference = np.zeros((3, 2), np.float32)
    other = reference + np.array([[9e-6], [2e-5], [0]], np.float32)
    found = compared(EXTREME, "eval", reference, other, again=lambda: reference + np.float32(1e-5))
    assert found.difference.passed
    assert found.difference.largest == pytest.approx(2e-5)
    assert found.rounding == pytest.approx(1e-5)
    broken = compared(EXTREME, "eval", reference, other)
    assert not broken.difference.passed
    assert broken.difference.largest == pytest.approx(2e-5)
    assert broken.rounding is None


@pytest.mark.parametrize(("rounding", "passes"), [(1e-4, False), (2e-4, True), (NAN, False)])
def test_on_extreme_inputs_the_mother_is_compared_with_herself_in_float64(
    rounding: float, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    mother = trained(mlp("m", 4, (3,), 3))
    batch = probes(mother, 0)[EXTREME].batch

    def rounded(model: Model, given: Array, mode: str) -> Callable[[], Array]:
        return lambda: run(model, given)["logits"] + rounding

    monkeypatch.setattr("mnx.graphs.verify.in_float64", rounded)
    if not passes:
        with pytest.raises(NotPreserved, match="extreme"):
            certify(mother, moved(mother, 1e-3), {EXTREME: batch}, EXTREME, True, ())
        return
    (check,) = certify(mother, moved(mother, 1e-3), {EXTREME: batch}, EXTREME, True, ()).checks
    assert check.rounding == pytest.approx(rounding, rel=0.2)
    json.dumps(check.to_json(), allow_nan=False)


def test_extreme_inputs_that_the_mother_herself_cannot_stand_are_reported_only() -> None:
    broken = np.array([[0.0, INF]], np.float32)
    found = compared(EXTREME, "eval", broken, broken)
    assert not found.binding and not found.difference.passed
    assert compared(RANDOM, "eval", broken, broken).binding
    assert compared(EXTREME, "eval", np.zeros((1, 2)), broken).binding


@pytest.mark.parametrize("norms", [False, True])
def test_extreme_inputs_bind_in_eval_mode_and_where_batch_statistics_are_exact(norms: bool) -> None:
    mother = trained(mlp("m", 4, (3,), 3, batch_norm=norms))
    batches = {name: probe.batch for name, probe in probes(mother, 0).items()}
    found = hatch(mother, mlp("n", 4, (5,), 3, batch_norm=norms), batches, RANDOM, 0).certificate
    assert [(c.inputs, c.mode, c.binding) for c in found.checks] == [
        (name, mode, True)
        for name in (RANDOM, EXTREME)
        for mode in (("eval", "batch statistics") if norms else ("eval",))
    ]
    deeper = hatch(mother, mlp("n", 4, (5, 3), 3, batch_norm=norms), batches, RANDOM, 0).certificate
    assert [c.binding for c in deeper.checks if c.inputs == EXTREME] == ([True, False] if norms else [True])


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
