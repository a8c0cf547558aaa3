"""What is predicted is found from the members and the targets, and what does not fit is refused by name."""

from __future__ import annotations

import numpy as np
import pytest

from mnx.data.task import Task, check, task_of
from mnx.errors import MnxError
from mnx.graphs.interface import PLAIN, SIGMOID, SOFTMAX, Interface
from mnx.graphs.model import Array, Port

BITS = np.array([[0, 1, 1], [1, 0, 1], [0, 0, 0], [1, 1, 1]])
ONE_HOT = np.eye(3, dtype=int)[[0, 2, 1, 1]]
SHARES = np.array([[0.2, 0.3, 0.5], [1, 0, 0], [0.25, 0.5, 0.25], [0, 1, 0]], np.float32)
REAL = np.array([[0.5, -3, 7], [1, 2, 3], [0, 0, 0.25], [9, 9, 9]])


def members(width: int, head: str = PLAIN) -> Interface:
    return Interface((Port("x", "float32", (2,)),), width, head)


@pytest.mark.parametrize(
    ("width", "head", "y", "kind"),
    [
        (3, PLAIN, np.array([0, 2, 1, 1]), "classes"),
        (3, SOFTMAX, np.array([[0], [2], [1], [1]], np.uint8), "classes"),
        (2, SOFTMAX, np.array([True, False, True, True]), "classes"),
        (3, PLAIN, SHARES, "distribution"),
        (3, SOFTMAX, ONE_HOT.astype(float), "distribution"),
        (1, PLAIN, np.array([0, 1, 1, 0]), "binary"),
        (1, SIGMOID, np.array([[0.0], [1.0], [1.0], [0.0]]), "binary"),
        (3, PLAIN, BITS, "labels"),
        (3, SIGMOID, BITS.astype(bool), "labels"),
        (3, SIGMOID, ONE_HOT.astype(np.float32), "labels"),
        (3, PLAIN, REAL, "numbers"),
        (1, PLAIN, REAL[:, 0], "numbers"),
        (1, PLAIN, REAL[:, :1], "numbers"),
        (1, PLAIN, np.array([0.0, 1.0, 1.0, 0.0]), "binary"),
        (1, PLAIN, np.array([[0.0], [1.0], [1.0], [0.0]], np.float32), "binary"),
        (1, PLAIN, np.array([0.0, 1.0, 1.0, 0.5]), "numbers"),
        (3, PLAIN, BITS.astype(np.float32), "labels"),
        (3, PLAIN, ONE_HOT.astype(np.float32), "distribution"),
    ],
)
def test_the_members_and_the_targets_decide(width: int, head: str, y: Array, kind: str) -> None:
    task = task_of(members(width, head), y, "data")
    assert task == Task(kind, width)
    made = check(task, y, "data")
    whole = kind in ("classes", "binary")
    assert (made.dtype, made.shape) == ((np.int64, (4,)) if whole else (np.float32, (4, width)))
    np.testing.assert_array_equal(made.reshape(-1), y.astype(made.dtype).reshape(-1))


@pytest.mark.parametrize(
    ("width", "head", "y", "message"),
    [
        (3, SOFTMAX, ONE_HOT, r"holds one 1 a row of shape \(4, 3\); give one class a row, .*y\.argmax\(1\)"),
        (3, PLAIN, ONE_HOT, r"y\.argmax\(1\) undoes one-hot.*members that end in Sigmoid, numbers to predict are fl"),
        (3, SOFTMAX, BITS, "rows of integers"),
        (3, PLAIN, 2 * BITS, "numbers to predict are floats"),
        (2, PLAIN, BITS, r"y has shape \(4, 3\), the members give 2 numbers an example; .*y\.argmax\(1\)"),
        (3, PLAIN, np.zeros(4), r"y has dtype float64; classes are integers from 0: y\.astype\(int\)"),
        (
            3,
            SIGMOID,
            np.array([0, 2, 1, 1]),
            r"say yes or no to each of 3 labels; .*np\.eye\(3, dtype=np\.uint8\)\[y\]",
        ),
        (3, SIGMOID, SHARES, "members that end in Sigmoid take 0 and 1"),
        (1, PLAIN, np.array([0, 2, 1, 1]), r"from 0 to 2, while the members have one logit.*y\.astype\(np\.float32\)"),
        (1, SIGMOID, REAL[:, 0], "labels that are 0 or 1; 0 is no"),
        (1, SOFTMAX, np.array([0, 0, 0, 0]), "Softmax over one class, which is always 1"),
        (2, PLAIN, np.zeros((4, 2, 2)), r"y is float64 of shape \(4, 2, 2\); give numbers, one target"),
        (2, PLAIN, np.array(list("abcd")), "give numbers, one target"),
    ],
)
def test_targets_that_fit_no_task_are_refused(width: int, head: str, y: Array, message: str) -> None:
    with pytest.raises(MnxError, match=f"data: .*{message}|{message}"):
        task_of(members(width, head), y, "data")


@pytest.mark.parametrize(
    ("kind", "width", "y", "message"),
    [
        ("classes", 3, np.array([0, 3]), r"label 3 of example 1 is out of range \(1 are\); .* 3 classes apart, 0 to 2"),
        ("classes", 3, np.array([0.0, 1.0]), "y is float64 .* the training part has classes, 1 an example"),
        ("classes", 3, BITS, "the training part has classes, 1 an example"),
        ("binary", 1, np.array([0, 2]), "label 2 of example 1 is out of range"),
        ("labels", 3, 3 * BITS, r"label 3 of example 0 \(column 1\) is out of range \(7 are\); 0 and 1 are no and yes"),
        ("labels", 3, np.array([0, 1]), "the training part has labels, 3 an example"),
        ("distribution", 2, np.array([[0.5, 0.5], [0.5, 0.4]]), r"example 1 add up to 0.9, not to 1 \(1 do so\)"),
        ("distribution", 2, np.array([[1.5, -0.5]]), r"label -0.5 of example 0 \(column 1\) is out of range"),
        ("numbers", 2, np.array([[1, 2], [np.nan, 3]]), "y holds nan in example 1; give finite float32 numbers"),
        ("numbers", 1, np.array([1.0, -np.inf]), "y holds -inf in example 1"),
        ("numbers", 1, np.array([1e300]), "y holds 1e.300 in example 0"),
    ],
)
def test_targets_out_of_range_are_named(kind: str, width: int, y: Array, message: str) -> None:
    with pytest.raises(MnxError, match=message):
        check(Task(kind, width), y, "data")


@pytest.mark.parametrize(
    ("y", "task"),
    [
        (np.array([0, 7, 1, 1]), Task("classes", 8)),
        (np.array([-1, 7, 1, 1]), Task("numbers", 1)),
        (REAL, Task("numbers", 3)),
        (BITS, Task("numbers", 3)),
    ],
)
def test_where_inputs_alone_are_wanted_targets_may_be_anything(y: Array, task: Task) -> None:
    assert task_of(members(0), y, "data") == task
    assert len(check(task, y, "data")) == 4
