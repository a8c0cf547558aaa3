"""Scores: values computed by hand, and the bounds that they keep."""

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, mean_absolute_error, mean_squared_error, r2_score
from small_training import examples

from mnx.graphs.model import Array
from mnx.metrics import (
    LabelScores,
    NumberScores,
    average_precision,
    calibration_error,
    disagreement,
    headline,
    mean_square,
    oracle_accuracy,
    predictions,
    scores,
    sigmoid,
    softmax,
    training_score,
    validation_score,
)

PROBABILITIES = np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.0, 0.2, 0.8]])
Y = np.array([0, 1, 0, 1])


@st.composite
def members_and_classes(draw: st.DrawFn) -> tuple[list[Array], Array]:
    """Probabilities of one to four members for some examples, and the examples' classes."""
    n, classes, members = draw(st.integers(1, 30)), draw(st.integers(1, 5)), draw(st.integers(1, 4))
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    sharpness = draw(st.sampled_from([0.0, 1.0, 30.0]))
    return (
        [softmax(random.standard_normal((n, classes)) * sharpness) for _ in range(members)],
        random.integers(0, classes, n),
    )


def test_softmax_by_hand() -> None:
    logits = np.log(np.array([[1.0, 2.0, 5.0], [4.0, 4.0, 8.0]])).astype(np.float32)
    assert softmax(logits) == pytest.approx(np.array([[0.125, 0.25, 0.625], [0.25, 0.25, 0.5]]), rel=1e-6)


def test_softmax_takes_the_largest_float32() -> None:
    found = softmax(np.array([[3e38, 3e38, -3e38]], np.float32))
    assert found.dtype == np.float64
    assert found.tolist() == [[0.5, 0.5, 0.0]]


def test_accuracy_and_likelihood_by_hand() -> None:
    found = scores(PROBABILITIES, Y)
    assert found.accuracy == 0.5
    assert found.nll == pytest.approx(-(log(0.5) + log(0.8) + log(0.3) + log(0.2)) / 4)


def test_a_probability_of_zero_is_very_unlikely_not_infinite() -> None:
    found = scores(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1]))
    assert found.accuracy == 0.5
    assert found.nll == pytest.approx(-log(np.finfo(np.float64).tiny) / 2)


def test_calibration_error_by_hand() -> None:
    # confidences .5 (right), .8 (right), .4 (wrong), .8 (wrong): bins 7, 12, 6, 12 of 15
    assert calibration_error(PROBABILITIES, Y) == pytest.approx((0.5 + 0.4 + 2 * abs(0.5 - 0.8)) / 4)


@pytest.mark.parametrize(("right", "expected"), [([0, 0, 0, 1], 0.0), ([0, 0, 0, 0], 0.25), ([1, 1, 1, 1], 0.75)])
def test_calibration_error_is_the_gap_between_confidence_and_accuracy(right: list[int], expected: float) -> None:
    assert calibration_error(np.array([[0.75, 0.25]] * 4), np.array(right)) == pytest.approx(expected)


def test_certainty_falls_into_the_last_bin() -> None:
    assert calibration_error(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1])) == 0


def test_disagreement_and_oracle_by_hand() -> None:
    one, two, three = (np.eye(3)[classes] for classes in ([0, 1, 2, 0], [0, 1, 1, 1], [0, 2, 2, 1]))
    assert disagreement([one, two]) == 0.5
    assert disagreement([one, two, three]) == pytest.approx((0.5 + 0.5 + 0.5) / 3)
    assert disagreement([one]) == 0
    y = np.array([1, 1, 2, 1])
    assert oracle_accuracy([one], y) == 0.5
    assert oracle_accuracy([one, two, three], y) == 0.75


@examples(150)
@given(members_and_classes())
def test_bounds(drawn: tuple[list[Array], Array]) -> None:
    members, y = drawn
    each = [scores(member, y) for member in members]
    for found in each:
        assert 0 <= found.accuracy <= 1
        assert 0 <= found.ece <= 1
        assert 0 <= found.nll < 710
    assert 0 <= disagreement(members) <= 1
    best = max(found.accuracy for found in each)
    assert best <= oracle_accuracy(members, y) <= min(1.0, sum(found.accuracy for found in each) + 1e-9)
    assert disagreement([members[0]] * 3) == 0
    averaged = scores(np.mean(members, axis=0), y)
    assert averaged.nll <= np.mean([found.nll for found in each]) + 1e-9  # Jensen


@examples(60)
@given(members_and_classes(), st.integers(0, 10**6))
def test_the_order_of_examples_does_not_matter(drawn: tuple[list[Array], Array], seed: int) -> None:
    members, y = drawn
    order = np.random.default_rng(seed).permutation(len(y))
    one, other = scores(members[0], y), scores(members[0][order], y[order])
    assert one.accuracy == other.accuracy
    assert (one.nll, one.ece) == pytest.approx((other.nll, other.ece))


def test_scores_of_labels_by_hand() -> None:
    said = np.array([[0.9, 0.2], [0.4, 0.6], [0.8, 0.7]])
    y = np.array([[1, 0], [1, 1], [0, 1]], np.float32)
    found = scores(said, y, "labels")
    assert isinstance(found, LabelScores)
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.nll == pytest.approx(-np.log([0.9, 0.8, 0.4, 0.6, 0.2, 0.7]).mean())
    assert found.average_precision == pytest.approx(((1 / 2 * 1 + 1 / 2 * 2 / 3) + 1) / 2)
    one = scores(said[:, :1], y[:, 0].astype(np.int64), "binary")
    assert headline(one) == ("accuracy", pytest.approx(1 / 3))


@examples(100)
@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([1, 3, 100]))
def test_average_precision_is_scikit_learns(seed: int, n: int, levels: int) -> None:
    random = np.random.default_rng(seed)
    said, y = random.integers(0, levels + 1, (n, 3)) / levels, random.integers(0, 2, (n, 3))
    each = [average_precision_score(b, a) for a, b in zip(said.T, y.T, strict=True) if b.any()]
    assert average_precision(said, y) == pytest.approx(np.mean(each) if each else 0)


@examples(60)
@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(1, 3))
def test_scores_of_numbers_are_scikit_learns(seed: int, n: int, width: int) -> None:
    random = np.random.default_rng(seed)
    said, y = random.standard_normal((n, width)), random.standard_normal((n, width))
    found = scores(said, y, "numbers")
    assert isinstance(found, NumberScores)
    assert found.r2 == pytest.approx(r2_score(y, said))
    assert found.mae == pytest.approx(mean_absolute_error(y, said))
    assert found.rmse == pytest.approx(np.sqrt(mean_squared_error(y, said)))
    assert headline(found) == ("r2", found.r2)
    mean = float(((said - y) ** 2).mean())
    assert validation_score("numbers", said, y) == pytest.approx((found.r2, mean))
    assert training_score(mean, mean_square("numbers", y)) <= 1


def test_numbers_that_never_change_explain_nothing() -> None:
    y = np.array([[1.0, 2.0], [1.0, 4.0]])
    assert scores(y, y, "numbers") == NumberScores(1.0, 0.0, 0.0)
    assert scores(np.zeros((2, 2)), np.ones((2, 2)), "numbers").r2 == 0  # type: ignore[union-attr]
    assert mean_square("numbers", np.ones((3, 2))) is None
    assert mean_square("classes", np.array([0, 1])) is None


@pytest.mark.parametrize("task", ["classes", "distribution", "binary", "labels"])
def test_the_validation_loss_is_the_likelihood_of_the_predictions(task: str) -> None:
    random = np.random.default_rng(0)
    outputs = 5 * random.standard_normal((9, 1 if task == "binary" else 3))
    y = {
        "classes": random.integers(0, 3, 9),
        "distribution": softmax(random.standard_normal((9, 3))),
        "binary": random.integers(0, 2, 9),
        "labels": random.integers(0, 2, (9, 3)).astype(np.float32),
    }[task]
    found = scores(predictions(task, outputs), y, task)
    assert not isinstance(found, NumberScores)
    assert validation_score(task, outputs, y) == pytest.approx((found.accuracy, found.nll))
    assert np.isfinite(validation_score(task, 1e4 * outputs, y)[1])  # from logits, which no logarithm of 0 meets


def test_disagreement_and_oracle_of_labels_and_numbers_by_hand() -> None:
    one, two = np.array([[0.9, 0.1], [0.2, 0.6]]), np.array([[0.8, 0.7], [0.3, 0.4]])
    y = np.array([[1, 1], [1, 1]], np.float32)
    assert disagreement([one, two], "labels") == 0.5
    assert oracle_accuracy([one, two], y, "labels") == 0.75
    assert disagreement([one, one + 2], "numbers") == pytest.approx(2)
    assert oracle_accuracy([one, two], y, "numbers") is None


def test_sigmoid_takes_the_largest_float32() -> None:
    assert sigmoid(np.array([-3e38, 0, 3e38], np.float32)).tolist() == [0, 0.5, 1]
