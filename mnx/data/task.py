"""What is predicted: found from what the members give and from the targets of the data, which must fit each other.

    members end in      targets                                 task
    Softmax, nothing    integers (n,) from 0 to C - 1           classes         one of C classes, C >= 2
    Softmax, nothing    floats (n, C), rows that add up to 1    distribution    shares of C classes
    Sigmoid, nothing    0 or 1 (n,), one output                 binary          yes or no
    Sigmoid, nothing    0 or 1 (n, C)                           labels          yes or no to each of C labels
    nothing             floats (n, k), or (n,) for one output   numbers         regression

0 and 1 may be floats: floats that are nothing else are read as yes and no. Rows of which most add up to 1 are shares.

A member that ends in one Sigmoid over one layer of its own is read as a classifier of two classes (see
`graphs/canonical/binary.py`), and takes integers 0 and 1 as such.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mnx.errors import MnxError
from mnx.graphs.interface import PLAIN, SIGMOID, SOFTMAX, Interface
from mnx.graphs.model import Array

SUM = 1e-3
"""How far the shares of an example may be from adding up to 1."""


@dataclass(frozen=True)
class Task:
    """What is predicted.

    Attributes:
        kind: classes, distribution, binary, labels or numbers.
        width: how many numbers the members give for an example.
    """

    kind: str
    width: int

    @property
    def stratified(self) -> bool:
        """Whether targets are classes, whose shares every part of the data should keep."""
        return self.kind in ("classes", "binary")

    def targets(self, y: Array) -> Array:
        """Targets in the form that losses and scores take: int64 (n,) of classes and binary, float32 (n, width)."""
        if self.stratified:
            return y.reshape(len(y)).astype(np.int64)
        return y.reshape(len(y), self.width).astype(np.float32)


def task_of(members: Interface, y: Array, where: str) -> Task:
    """The task of members on targets, those of the training part.

    Args:
        members: what they give; where their width is 0, targets may be anything.
        y: targets as they were read, one a row.
        where: names the data in errors.

    Raises:
        MnxError: the targets are not numbers, or none that these members predict.
    """
    if y.dtype.kind not in "buif" or y.ndim not in (1, 2) or not y.size:
        raise MnxError(f"{where}: y is {y.dtype} of shape {y.shape}; give numbers, one target or one row an example")
    if not members.width:
        classes = y.dtype.kind in "bui" and y.size == len(y) and int(y.min()) >= 0
        return Task("classes", int(y.max()) + 1) if classes else Task("numbers", y.size // len(y))
    flat = y.ndim == 1 or (y.shape[1] == 1 and members.width != 1)
    kind = _of_one(members, y, where) if flat else _of_rows(members, y, where)
    return Task(kind, members.width)


def check(task: Task, y: Array, where: str, numbers: Array | None = None) -> Array:
    """The targets of a part of the data in the form that losses take; see `Task.targets`.

    Args:
        task: what is predicted.
        y: targets as they were read.
        where: names the part in errors.
        numbers: what errors call its examples; None for their places in it.

    Raises:
        MnxError: a target is not finite or out of range, or the shape or dtype is not that of the task.
    """
    columns = y.shape[1] if y.ndim == 2 else 1
    wanted = 1 if task.stratified else task.width
    if y.ndim not in (1, 2) or columns != wanted or (y.dtype.kind not in "bui" and task.kind == "classes"):
        raise MnxError(
            f"{where}: y is {y.dtype} of shape {y.shape}; the training part has {task.kind}, {wanted} an example"
        )
    rows = y.reshape(len(y), columns)
    if task.kind == "classes":
        _in_range(
            rows,
            (rows >= 0) & (rows < task.width),
            f"the members tell {task.width} classes apart, 0 to {task.width - 1}",
            where,
            numbers,
        )
    elif task.kind in ("binary", "labels"):
        _in_range(rows, (rows == 0) | (rows == 1), "0 and 1 are no and yes", where, numbers)
    else:
        _finite(rows, where, numbers)
    if task.kind == "distribution":
        _in_range(rows, rows >= 0, "shares of classes are 0 or more", where, numbers)
        apart = np.flatnonzero(np.abs(rows.sum(axis=1) - 1) > SUM)
        if len(apart):
            raise MnxError(
                f"{where}: the shares of example {number(apart[0], numbers)} add up to {rows[apart[0]].sum():g}, not "
                f"to 1 ({len(apart)} do so)"
            )
    return task.targets(rows)


def _of_one(members: Interface, y: Array, where: str) -> str:
    """The task where every example has one target."""
    whole = y.dtype.kind in "bui"
    if members.width == 1 and members.head != SOFTMAX:
        if whole or members.head == SIGMOID or _zero_or_one(y):
            if not _zero_or_one(y):
                cure = "y.astype(np.float32) if they are numbers to predict" if members.head == PLAIN else "0 is no"
                raise MnxError(
                    f"{where}: y reaches from {y.min()} to {y.max()}, while the members have one logit, for labels "
                    f"that are 0 or 1; {cure}"
                )
            return "binary"
        return "numbers"
    if members.head == SIGMOID:
        raise MnxError(
            f"{where}: y holds one class an example, while the members end in Sigmoid and say yes or no to each of "
            f"{members.width} labels; give rows of 0 and 1, np.eye({members.width}, dtype=np.uint8)[y], or export them "
            "with Softmax"
        )
    if members.width == 1:
        raise MnxError("the members end in Softmax over one class, which is always 1; export them without it")
    if not whole:
        raise MnxError(
            f"{where}: y has dtype {y.dtype}; classes are integers from 0: y.astype(int). Numbers to predict have "
            f"{members.width} an example, shape (n, {members.width})"
        )
    return "classes"


def _of_rows(members: Interface, y: Array, where: str) -> str:
    """The task where every example has a row of targets."""
    if y.shape[1] != members.width:
        raise MnxError(
            f"{where}: y has shape {y.shape}, the members give {members.width} numbers an example; give one class a "
            f"row, shape (n,), or rows of {members.width}; y.argmax(1) undoes one-hot"
        )
    truths = _zero_or_one(y)
    if members.head == SIGMOID or (members.width == 1 and members.head == PLAIN):
        return _of_columns(members, y, truths, where)
    single = bool((y.sum(axis=1) == 1).all()) if truths else False
    if y.dtype.kind in "bui":
        if members.head == PLAIN and truths and not single:
            return "labels"
        raise MnxError(
            f"{where}: y holds {'one 1 a row' if single else 'rows of integers'} of shape {y.shape}; give one class a "
            "row, shape (n,); y.argmax(1) undoes one-hot. Labels that are 0 or 1 each are for members that end in "
            "Sigmoid, numbers to predict are floats"
        )
    shares = bool((y >= 0).all() and np.mean(np.abs(y.sum(axis=1) - 1) <= SUM) > 0.5)
    if shares or members.head == SOFTMAX:
        return "distribution"
    return "labels" if truths else "numbers"


def _of_columns(members: Interface, y: Array, truths: bool, where: str) -> str:
    """The task of members with one output, or that end in Sigmoid."""
    if members.width == 1:
        return _of_one(members, y.reshape(-1), where)
    if not truths:
        raise MnxError(f"{where}: y reaches from {y.min()} to {y.max()}; members that end in Sigmoid take 0 and 1")
    return "labels"


def _zero_or_one(y: Array) -> bool:
    return bool(((y == 0) | (y == 1)).all())


def number(example: int, numbers: Array | None) -> int:
    """What an example of a part is called, see `check`."""
    return int(example if numbers is None else numbers[example])


def _in_range(rows: Array, fine: Array, legal: str, where: str, numbers: Array | None) -> None:
    outside = np.argwhere(~fine)
    if len(outside):
        example, column = outside[0].tolist()
        place = f" (column {column})" if rows.shape[1] > 1 else ""
        raise MnxError(
            f"{where}: label {rows[example, column]} of example {number(example, numbers)}{place} is out of range "
            f"({len(outside)} are); {legal}"
        )


def _finite(rows: Array, where: str, numbers: Array | None) -> None:
    wrong = np.argwhere(~(np.abs(rows) <= np.finfo(np.float32).max))
    if len(wrong):
        example, column = wrong[0].tolist()
        raise MnxError(
            f"{where}: y holds {rows[example, column]} in example {number(example, numbers)}; give finite float32 "
            "numbers"
        )
