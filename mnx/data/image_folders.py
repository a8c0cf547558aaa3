"""Data as folders of images, one folder a class; classes are numbered in the order of their folders' names.

    flowers/train/rose/1.png  flowers/train/tulip/7.jpg  flowers/test/rose/2.png ...    or
    flowers/rose/1.png        flowers/tulip/7.jpg ...                                   split by seed

Images take the members' form: grey or RGB, and their height and width by bilinear interpolation (the aspect ratio is
not kept). For members that take vectors the images must have one size, and the vector's length says grey or RGB.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mnx.data.decoding import decoded
from mnx.data.layout import layout_of
from mnx.data.raw import RawData, Tell, split_by_seed
from mnx.errors import MnxError
from mnx.graphs.model import Array, Port, Shape

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
TRAIN = "train"
TESTS = ("test", "val", "validation")
"""The test part's folder: the first of these that is there."""

FEW = 2000
"""So many images are decoded at once and kept in memory; of more, worker processes make a file that stays."""

MODES = {1: "L", 3: "RGB"}
DEEP_MODES = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})


def recognise(spec: str) -> bool:
    """Whether `spec` is a folder that holds class folders with images, or a train folder that does."""
    return bool(_class_names(_train_folder(Path(spec))))


def read(spec: str, ports: Sequence[Port], seed: int, tell: Tell) -> RawData:
    """The images as uint8 x of shape (n, H, W, channels), in the size and colours that the input wants.

    Where there is no test, val or validation folder, a stratified fifth, by `seed`, is the test part.

    Raises:
        MnxError: Pillow is missing, an image cannot be read or does not fit, or a test class has no training images.
    """
    root = Path(spec)
    name = root.resolve().name
    train = _train_folder(root)
    test = next((root / part for part in TESTS if train != root and (root / part).is_dir()), None)
    classes = _class_names(train)
    paths, y = _listing(train, classes)
    form = _form(ports[0].shape, paths[0])
    x = _read_images(paths, form, tell)
    if test is None:
        return split_by_seed(name, x, y, seed, str(root), "NHWC")
    unknown = sorted(set(_class_names(test)) - set(classes))
    if unknown:
        raise MnxError(f"{test / unknown[0]} is a class without a folder in {train}; it holds {', '.join(classes)}")
    test_paths, y_test = _listing(test, classes)
    return RawData(name, x, y, _read_images(test_paths, form, tell), y_test, "NHWC")


def _train_folder(root: Path) -> Path:
    """The train folder, or `root` itself where there is none or it is a class that happens to be called so."""
    return root / TRAIN if _class_names(root / TRAIN) else root


def _class_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(each.name for each in folder.iterdir() if each.is_dir() and any(map(_is_image, each.iterdir())))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _listing(folder: Path, classes: list[str]) -> tuple[list[Path], Array]:
    found = [
        (path, label)
        for label, name in enumerate(classes)
        if (folder / name).is_dir()
        for path in sorted((folder / name).iterdir())
        if _is_image(path)
    ]
    return [path for path, _ in found], np.array([label for _, label in found], dtype=np.int64)


def _form(shape: Shape, first: Path) -> Shape:
    """(H, W, channels) of the images that members with input `shape` take; vectors take the size of the first image."""
    if len(shape) == 3:
        height, width, channels = shape if layout_of(shape) == "NHWC" else (*shape[1:], shape[0])
        if channels in MODES:
            return (height, width, channels)
    if len(shape) == 1:
        height, width, _ = _pixels(first, None).shape
        if shape[0] in (height * width, 3 * height * width):
            return (height, width, shape[0] // (height * width))
        raise MnxError(
            f"{first}: an image of {height} x {width} pixels does not fit the members' input {shape}: flattened it has "
            f"{height * width} numbers in grey, {3 * height * width} in RGB"
        )
    raise MnxError(f"images do not fit the members' input {shape}, which must have 1 or 3 channels: (3, H, W)")


def _read_images(paths: list[Path], form: Shape, tell: Tell) -> Array:
    """All images, uint8 of shape (n, H, W, channels); many of them in a file, see `mnx.data.decoding`."""
    return decoded(paths, form, decode, tell) if len(paths) > FEW else decode(paths, form)


def decode(paths: Sequence[Path], form: Shape) -> Array:
    """Some images, uint8 of shape (n, H, W, channels).

    Raises:
        MnxError: Pillow is missing, or an image cannot be read.
    """
    x = np.empty((len(paths), *form), np.uint8)
    for index, path in enumerate(paths):
        x[index] = _pixels(path, form)
    return x


def _pixels(path: Path, form: Shape | None) -> Array:
    """One image, uint8 of shape `form`; without a form in RGB and its own size."""
    pillow = _pillow()
    try:
        with pillow.open(path) as image:
            if image.mode in DEEP_MODES:
                raise MnxError(f"{path} has more than 8 bits a pixel (mode {image.mode}); convert it to 8 bits")
            image = image.convert(MODES[form[2] if form else 3])
    except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as error:
        raise MnxError(f"{path} is not an image that Pillow can read ({error}); mend or remove it") from error
    if form and image.size != (form[1], form[0]):
        image = image.resize((form[1], form[0]), pillow.Resampling.BILINEAR)
    return np.asarray(image).reshape(image.height, image.width, -1)


def _pillow() -> Any:
    """Pillow's Image module, which is an optional library."""
    try:
        return importlib.import_module("PIL.Image")
    except ModuleNotFoundError as error:
        raise MnxError("reading images needs Pillow: pip install 'mothernets[images]'") from error
