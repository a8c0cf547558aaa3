"""Where data can come from: one entry in SOURCES for every kind, tried in this order."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mnx.data import cifar, digits, idx, image_folders, npy_folder, npz
from mnx.data.raw import RawData, Tell, inputs_of, silent
from mnx.errors import MnxError
from mnx.graphs.model import Port


@dataclass(frozen=True)
class Source:
    """A kind of data.

    Attributes:
        recognise: whether a spec (what stands behind --data) is of this kind.
        read: the data of a spec, given the members' inputs, the seed of a split where one is needed, and who hears of
            what takes long.
        doc: what a spec of this kind looks like, in a line.
    """

    recognise: Callable[[str], bool]
    read: Callable[[str, Sequence[Port], int, Tell], RawData]
    doc: str


SOURCES: dict[str, Source] = {
    "digits": Source(digits.recognise, digits.read, "the word digits: 1,797 images of 8 x 8 pixels, shipped with mnx"),
    "npz": Source(
        npz.recognise,
        npz.read,
        "a .npz file with x_train, y_train, x_test, y_test, or with x and y; NAME_train for each of several inputs",
    ),
    "npy": Source(
        npy_folder.recognise,
        npy_folder.read,
        "a folder with x_train.npy, y_train.npy and so on, which may be larger than memory",
    ),
    "idx": Source(idx.recognise, idx.read, "a folder with MNIST's files: train-images-idx3-ubyte[.gz] and so on"),
    "cifar": Source(cifar.recognise, cifar.read, "a folder with the binary version of CIFAR-10 or CIFAR-100"),
    "images": Source(image_folders.recognise, image_folders.read, "a folder with one folder of images a class"),
}


def read(spec: str, ports: Sequence[Port], seed: int, tell: Tell = silent) -> RawData:
    """The data that `spec` names, read by the first source that recognises it.

    Args:
        spec: a name or a path.
        ports: the members' inputs; only images are read in the size of theirs.
        seed: decides the test part where the source has none of its own.
        tell: hears of what takes long.

    Raises:
        MnxError: no source recognises the spec, the one that does cannot read it, or has not what each input takes.
    """
    spec = os.path.expanduser(spec)  # noqa: PTH111 - Path's own raises where '~name' is nobody's home
    try:
        for source in SOURCES.values():
            if source.recognise(spec):
                return _complete(source.read(spec, ports, seed, tell), ports, spec)
    except PermissionError as error:
        raise MnxError(f"{error.filename} may not be read; change its permissions") from error
    raise _unknown(spec)


def _complete(raw: RawData, ports: Sequence[Port], spec: str) -> RawData:
    if len(inputs_of(raw.x_train)) != len(ports):
        names = ", ".join(port.name for port in ports)
        raise MnxError(
            f"{spec} holds one array an example, the members have {len(ports)} inputs ({names}); give a .npz file with "
            "an array for each, named after it"
        )
    return raw


def _unknown(spec: str) -> MnxError:
    accepted = "".join(f"\n  {source.doc}" for source in SOURCES.values())
    path = Path(spec)
    if path.exists():
        kind = "folder" if path.is_dir() else "file"
        return MnxError(f"the {kind} {spec} is not data that mnx can read; it reads{accepted}")
    near = {each.name: str(each) for each in path.parent.iterdir()} if path.parent.is_dir() else {}
    close = difflib.get_close_matches(path.name, [*near, "digits"], n=1)
    hint = f"; did you mean {near.get(close[0], 'digits')}?" if close else "."
    return MnxError(f"no such file or data set: {spec}{hint} mnx reads{accepted}")
