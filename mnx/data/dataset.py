"""A data set that fits the members' inputs, split into a training, a validation and a test part."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mnx.data import sources
from mnx.data.layout import arrangement
from mnx.data.raw import RawData, Tell, blocks, inputs_of, require_examples, silent, strata
from mnx.data.rows import Raw, taken
from mnx.data.scaling import Scaling, apply, fitted, unscaled
from mnx.data.split import stratified
from mnx.data.task import Task, check, number, task_of
from mnx.errors import MnxError
from mnx.graphs.interface import Interface
from mnx.graphs.model import Array, Port
from mnx.graphs.probes import Content
from mnx.graphs.run import Batch, batch_of

LONG = 1 << 30
"""Reading more bytes than this is worth telling of."""


@dataclass(frozen=True, eq=False)
class Part:
    """Examples as they were read, and what makes the members' inputs of them.

    Attributes:
        raw: (n, *raw shape), one for every input of the members: arrays, or `Rows` of those that stay in their file.
        scalings: of each.
        y: what is to be predicted, see `Task.targets`.
    """

    raw: tuple[Raw, ...]
    scalings: tuple[Scaling, ...]
    y: Array

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.y)

    def x(self, chosen: Array | slice = slice(None)) -> Batch:
        """Examples as the members take them, in C order of shape (n, *input): indices or a slice, or all."""
        return batch_of(apply(scaling, raw[chosen]) for scaling, raw in zip(self.scalings, self.raw, strict=True))

    def batches(self, size: int = 1024) -> Iterator[Batch]:
        """All examples in their order, at most `size` at a time."""
        return (self.x(slice(start, start + size)) for start in range(0, len(self), size))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three parts of examples. `fingerprint` changes whenever the raw data or the split do.

    `classes` is how many numbers the members give for an example, `kind` what is predicted (see `Task`).
    """

    name: str
    train: Part
    validation: Part
    test: Part
    classes: int
    fingerprint: str
    kind: str = "classes"

    @property
    def scalings(self) -> tuple[Scaling, ...]:
        """What makes the members' inputs of raw examples."""
        return self.train.scalings

    @property
    def task(self) -> Task:
        """What is predicted."""
        return Task(self.kind, self.classes)


def load(
    spec: str,
    members: Interface,
    seed: int,
    validation: float = 0.1,
    train_limit: int | None = None,
    tell: Tell = silent,
) -> Dataset:
    """Read the data that `spec` names and fit them to the members' inputs.

    Integers are divided by their number of levels and standardised with the mean and standard deviation of each channel
    of the training part; floats are taken as they are. NHWC and NCHW are told apart by the shapes, and images become
    vectors channel by channel. What an integer input takes, and masks, are taken as they are, in the input's type.

    Args:
        spec: what stands behind --data: a name or a path, see `mnx.data.sources`.
        members: what the members take and give.
        seed: decides every split, not negative.
        validation: the share of the training examples that is held out for validation, between 0 and 1.
        train_limit: how many of the source's training examples to use, validation included; None for all.
        tell: hears of what takes long: decoding, and reading what is larger than memory.

    Raises:
        MnxError: the data cannot be read, are not sound (NaN, ids or labels out of range), or do not fit the members.
    """
    if seed < 0:
        raise MnxError(f"seed {seed} is negative; give 0 or more")
    if not 0 < validation < 1:
        raise MnxError(f"the validation share must lie between 0 and 1, not be {validation}")
    raw = sources.read(spec, members.inputs, seed, tell)
    (whole, of_train), (rest, of_test) = _parts(raw, spec)
    require_examples(raw.x_train, raw.y_train, whole)
    require_examples(raw.x_test, raw.y_test, rest)
    task = task_of(members, raw.y_train, whole)
    y_train, y_test = check(task, raw.y_train, whole, of_train), check(task, raw.y_test, rest, of_test)
    _check_inputs(raw, members, spec)
    train, held_out = _split(y_train if task.stratified else strata(y_train), seed, validation, train_limit, spec)
    x_train = tuple(taken(x, train) for x in inputs_of(raw.x_train))
    scalings = tuple(
        _scaling(x, port, members.content(place), raw, spec)
        for place, (x, port) in enumerate(zip(x_train, members.inputs, strict=True))
    )
    return Dataset(
        raw.name,
        Part(x_train, scalings, y_train[train]),
        Part(tuple(taken(x, held_out) for x in inputs_of(raw.x_train)), scalings, y_train[held_out]),
        Part(inputs_of(raw.x_test), scalings, y_test),
        task.width,
        fingerprint([*inputs_of(raw.x_train), y_train, *inputs_of(raw.x_test), y_test, train, held_out], tell),
        task.kind,
    )


def fingerprint(arrays: list[Raw], tell: Tell = silent) -> str:
    """16 hexadecimal digits over arrays: the raw ones, targets, and the indices of the training and validation part.

    Raw arrays rather than fitted ones, whose last bits may differ between machines. All is read, block by block, of
    files too: a number that changes anywhere is seen, and a copied or touched file is the same data.
    """
    digest, done, total = hashlib.sha256(), 0, sum(array.nbytes for array in arrays)
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        for _, block in blocks(array):
            digest.update(np.ascontiguousarray(block).data)
            done += block.nbytes
            if total > LONG:
                tell(done, total)
    return digest.hexdigest()[:16]


def _scaling(x: Raw, port: Port, content: Content, raw: RawData, spec: str) -> Scaling:
    arranged = arrangement(x.shape[1:], port.shape, raw.layout, spec)
    if content.kind == "numbers" and port.dtype == "float32":
        return fitted(x, arranged, port.shape, raw.levels)
    return unscaled(x, arranged, port)


def _parts(raw: RawData, spec: str) -> tuple[tuple[str, Array | None], tuple[str, Array | None]]:
    """What errors call the training and the test part, and their examples; see `task.check`."""
    if raw.numbers:
        return (spec, raw.numbers[0]), (spec, raw.numbers[1])
    return (f"{spec}, training part", None), (f"{spec}, test part", None)


def _check_inputs(raw: RawData, members: Interface, spec: str) -> None:
    parts = zip(inputs_of(raw.x_train), inputs_of(raw.x_test), strict=True)
    for place, (port, (train, test)) in enumerate(zip(members.inputs, parts, strict=True)):
        name = f" for {port.name}" if len(members.inputs) > 1 else ""
        if train.shape[1:] != test.shape[1:] or (train.dtype.kind == "f") != (test.dtype.kind == "f"):
            raise MnxError(
                f"{spec}: training examples{name} are {train.dtype} of shape {train.shape[1:]}, test examples "
                f"{test.dtype} of shape {test.shape[1:]}; both must be of one kind"
            )
        for x, (where, numbers) in zip((train, test), _parts(raw, spec), strict=True):
            if legal := _legal(x, port, members.content(place), where):
                _check_numbers(x, legal, port.name if name else "x", where, numbers)


@dataclass(frozen=True)
class _Legal:
    """The least and the largest number that an input may hold, and what to say of others."""

    least: float
    largest: float
    cure: str


def _legal(x: Raw, port: Port, content: Content, where: str) -> _Legal | None:
    """What examples of an input may hold; None for anything."""
    wanted = np.dtype(port.dtype)
    if wanted.kind == "f":
        largest = float(np.finfo(np.float32).max)
        return _Legal(-largest, largest, "give finite float32 numbers") if x.dtype.kind == "f" else None
    if x.dtype.kind == "f":
        raise MnxError(
            f"{where}: the members' input {port.name} takes {port.dtype}, the data have {x.dtype}; give integers"
        )
    if content.kind == "ids":
        return _Legal(0, content.count - 1, f"the members know the ids 0 to {content.count - 1}")
    limits = np.iinfo(wanted) if wanted.kind in "ui" else None
    if limits is None or np.can_cast(x.dtype, wanted):
        return None
    return _Legal(limits.min, limits.max, f"the members take {port.dtype}")


def _check_numbers(x: Raw, legal: _Legal, name: str, where: str, numbers: Array | None) -> None:
    for start, block in blocks(x):
        fine = (block >= legal.least) & (block <= legal.largest)
        if not fine.all():
            place = tuple(np.argwhere(~fine)[0].tolist())
            example = number(start + place[0], numbers)
            raise MnxError(f"{where}: {name} holds {block[place]} in example {example}; {legal.cure}")


def _split(y: Array, seed: int, validation: float, limit: int | None, where: str) -> tuple[Array, Array]:
    """Sorted indices of the training and of the validation part."""
    if limit is not None and limit < 2:
        raise MnxError(f"a limit of {limit} training examples leaves none to train on; give 2 or more")
    kept = np.arange(len(y)) if limit is None or limit >= len(y) else stratified(y, limit, seed, "limit")[1]
    count = max(1, round(len(kept) * validation))
    if count >= len(kept):
        raise MnxError(
            f"{where}: {len(kept)} training examples are too few to hold out {validation:.0%} for validation"
        )
    train, held_out = stratified(y[kept], count, seed, "validation")
    return kept[train], kept[held_out]
