"""A data set that fits the members' input, split into a training, a validation and a test part."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from mnx.data import sources
from mnx.data.layout import arrangement
from mnx.data.raw import RawData, blocks, examples
from mnx.data.scaling import Scaling, apply, fitted
from mnx.data.split import stratified
from mnx.errors import MnxError
from mnx.graphs.model import Array, Port
from mnx.graphs.run import Batch


@dataclass(frozen=True, eq=False)
class Part:
    """Examples as they were read, and what makes the members' inputs of them.

    Attributes:
        raw: arrays (n, *raw shape), one for every input of the members.
        scalings: of each.
        y: what is to be predicted: int64 classes (n,).
    """

    raw: tuple[Array, ...]
    scalings: tuple[Scaling, ...]
    y: Array

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.y)

    def x(self, chosen: Array | slice = slice(None)) -> Batch:
        """Examples as the members take them, in C order of shape (n, *input): indices or a slice, or all."""
        made = tuple(apply(scaling, raw[chosen]) for scaling, raw in zip(self.scalings, self.raw, strict=True))
        return made if len(made) > 1 else made[0]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three parts of examples. `fingerprint` changes whenever the raw data or the split do."""

    name: str
    train: Part
    validation: Part
    test: Part
    classes: int
    fingerprint: str

    @property
    def scalings(self) -> tuple[Scaling, ...]:
        """What makes the members' inputs of raw examples."""
        return self.train.scalings


def load(
    spec: str, port: Port, classes: int, seed: int, validation: float = 0.1, train_limit: int | None = None
) -> Dataset:
    """Read the data that `spec` names and fit them to the members' input.

    Integers are divided by their number of levels and standardised with the mean and standard deviation of each channel
    of the training part; floats are taken as they are. NHWC and NCHW are told apart by the shapes, and images become
    vectors channel by channel.

    Args:
        spec: what stands behind --data: a name or a path, see `mnx.data.sources`.
        port: the members' input.
        classes: how many classes the members tell apart.
        seed: decides every split, not negative.
        validation: the share of the training examples that is held out for validation, between 0 and 1.
        train_limit: how many of the source's training examples to use, validation included; None for all.

    Raises:
        MnxError: the data cannot be read, are not sound (NaN, labels out of range), or do not fit the members.
    """
    if seed < 0:
        raise MnxError(f"seed {seed} is negative; give 0 or more")
    if not 0 < validation < 1:
        raise MnxError(f"the validation share must lie between 0 and 1, not be {validation}")
    if port.dtype != "float32":
        raise MnxError(f"the members' input {port.name} takes {port.dtype}; data are given as float32 only")
    raw = _checked(sources.read(spec, port.shape, seed), spec, classes)
    train, held_out = _split(raw.y_train, seed, validation, train_limit, spec)
    x_train = raw.x_train[train]
    arranged = arrangement(raw.x_train.shape[1:], port.shape, raw.layout, spec)
    scaling = fitted(x_train, arranged, port.shape, raw.levels)
    return Dataset(
        raw.name,
        Part((x_train,), (scaling,), raw.y_train[train]),
        Part((raw.x_train[held_out],), (scaling,), raw.y_train[held_out]),
        Part((raw.x_test,), (scaling,), raw.y_test),
        classes,
        fingerprint(raw, train, held_out),
    )


def fingerprint(raw: RawData, train: Array, held_out: Array) -> str:
    """16 hexadecimal digits over the raw arrays and the indices of the training and the validation part.

    Raw arrays rather than fitted ones, whose last bits may differ between machines.
    """
    digest = hashlib.sha256()
    for array in (raw.x_train, raw.y_train, raw.x_test, raw.y_test, train, held_out):
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def _checked(raw: RawData, spec: str, classes: int) -> RawData:
    x_train, y_train = _sound(raw.x_train, raw.y_train, classes, f"{spec}, training part")
    x_test, y_test = _sound(raw.x_test, raw.y_test, classes, f"{spec}, test part")
    if x_train.shape[1:] != x_test.shape[1:] or (x_train.dtype.kind == "f") != (x_test.dtype.kind == "f"):
        raise MnxError(
            f"{spec}: training examples are {x_train.dtype} of shape {x_train.shape[1:]}, test examples {x_test.dtype} "
            f"of shape {x_test.shape[1:]}; both must be of one kind"
        )
    return RawData(raw.name, x_train, y_train, x_test, y_test, raw.layout, raw.levels)


def _sound(x: Array, y: Array, classes: int, where: str) -> tuple[Array, Array]:
    x, y = examples(x, y, where)
    outside = np.flatnonzero((y < 0) | (y >= classes))
    if len(outside):
        raise MnxError(
            f"{where}: label {y[outside[0]]} of example {outside[0]} is out of range ({len(outside)} are); the members "
            f"tell {classes} classes apart, 0 to {classes - 1}"
        )
    for start, block in blocks(x) if x.dtype.kind == "f" else ():
        fine = np.abs(block) <= np.finfo(np.float32).max
        if not fine.all():
            place = tuple(np.argwhere(~fine)[0].tolist())
            value = block[place]
            raise MnxError(f"{where}: x holds {value} in example {start + place[0]}; give finite float32 numbers")
    return x, y


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
