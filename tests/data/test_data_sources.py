"""Every source reads what it should, and says what is wrong with what it cannot read."""

from __future__ import annotations

import gzip
import importlib
import io
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from mnx.data import sources
from mnx.data.raw import RawData
from mnx.data.sources import SOURCES
from mnx.errors import MnxError
from mnx.graphs.model import Port

RANDOM = np.random.default_rng(7)


def read(spec: str, shape: tuple[int, ...], seed: int) -> RawData:
    """The data for members of one input."""
    return sources.read(spec, (Port("x", "float32", shape),), seed)


def write_idx(path: Path, array: np.ndarray, code: int = 8) -> None:
    content = bytes((0, 0, code, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def idx_folder(folder: Path, pattern: str) -> dict[str, np.ndarray]:
    arrays = {}
    for stem, axes, shape in (
        ("train-images", 3, (5, 4, 6)),
        ("train-labels", 1, (5,)),
        ("t10k-images", 3, (3, 4, 6)),
        ("t10k-labels", 1, (3,)),
    ):
        arrays[stem] = RANDOM.integers(0, 10, shape).astype(np.uint8)
        write_idx(folder / pattern.format(stem=stem, axes=axes), arrays[stem])
    return arrays


def cifar_rows(count: int, labels: int) -> np.ndarray:
    return RANDOM.integers(0, 10, (count, labels + 3072)).astype(np.uint8)


def write_image(path: Path, colour: Any, size: tuple[int, int] = (6, 4), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def assert_same_parts(raw: RawData, *expected: np.ndarray) -> None:
    for found, wanted in zip((raw.x_train, raw.y_train, raw.x_test, raw.y_test), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


# digits


def test_digits_are_scikit_learns() -> None:
    raw = read("digits", (1, 8, 8), 0)
    theirs = load_digits()
    x = np.concatenate([raw.x_train, raw.x_test])[..., 0]
    y = np.concatenate([raw.y_train, raw.y_test])
    assert x.dtype == np.uint8
    assert raw.levels == x.max() == 16
    ours = {(image.tobytes(), label) for image, label in zip(x, y, strict=True)}
    assert ours == {(i.astype(np.uint8).tobytes(), t) for i, t in zip(theirs.images, theirs.target, strict=True)}
    assert len(y) == 1797


def test_a_fifth_of_the_digits_of_every_class_is_the_test_part_and_the_seed_decides_which() -> None:
    one, same, other = (read("digits", (1, 8, 8), seed) for seed in (3, 3, 4))
    assert len(one.y_test) == round(0.2 * 1797)
    shares = np.bincount(one.y_test) / np.bincount(np.concatenate([one.y_train, one.y_test]))
    np.testing.assert_allclose(shares, 0.2, atol=0.01)
    np.testing.assert_array_equal(one.x_test, same.x_test)
    assert not np.array_equal(one.x_test, other.x_test)


# npz


def test_npz_with_both_parts_is_taken_as_it_is(tmp_path: Path) -> None:
    x, y = RANDOM.random((6, 3)), np.arange(6)
    np.savez(tmp_path / "a.npz", x_train=x[:4], y_train=y[:4], x_test=x[4:], y_test=y[4:], extra=y)
    assert_same_parts(read(str(tmp_path / "a.npz"), (3,), 0), x[:4], y[:4], x[4:], y[4:])


def test_npz_with_one_part_is_split_by_class(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(50)[:, None], y=np.arange(50)[:, None] % 5)
    raw = read(str(tmp_path / "a.npz"), (1,), 0)
    assert np.bincount(raw.y_test[:, 0]).tolist() == [2] * 5
    assert sorted([*raw.x_train[:, 0], *raw.x_test[:, 0]]) == list(range(50))
    np.testing.assert_array_equal(raw.x_train % 5, raw.y_train)


def test_a_pickle_in_an_npz_is_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    np.savez(tmp_path / "a.npz", x=np.array([[Trap()], [1]], dtype=object), y=np.arange(2))
    with pytest.raises(MnxError, match=r"a\.npz: x holds Python objects, which are pickled and never loaded"):
        read(str(tmp_path / "a.npz"), (1,), 0)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x80\x04N.", b"PK\x03\x04cut"])
def test_a_file_that_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(MnxError, match=r"a\.npz is not a NumPy archive"):
        read(str(tmp_path / "a.npz"), (1,), 0)


def test_a_single_array_called_npz_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    with pytest.raises(MnxError, match="single array, not a NumPy archive"):
        read(str(tmp_path / "a.npz"), (1,), 0)


def test_an_array_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name in "xy":
            buffer = io.BytesIO()
            np.save(buffer, np.zeros(9))
            archive.writestr(f"{name}.npy", buffer.getvalue()[:-8])
    with pytest.raises(MnxError, match=r"a\.npz: array x cannot be read"):
        read(str(tmp_path / "a.npz"), (9,), 0)


def test_a_damaged_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((9, 9)), y=np.zeros(9, int))
    content = bytearray(path.read_bytes())
    content[300] ^= 255
    path.write_bytes(content)
    with pytest.raises(MnxError, match=r"a\.npz: array x cannot be read \(.*CRC"):
        read(str(path), (9,), 0)


@pytest.mark.parametrize(("names", "found"), [(["x_train", "y_train"], "x_train, y_train"), ([], "nothing")])
def test_npz_with_other_names_is_refused(tmp_path: Path, names: list[str], found: str) -> None:
    arrays: dict[str, Any] = dict.fromkeys(names, np.zeros(2))
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(MnxError, match=f"holds {found}; name the arrays x_train, y_train, x_test, y_test or x, y"):
        read(str(tmp_path / "a.npz"), (1,), 0)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((4, 2)), np.zeros(3, int), "x has 4 examples, y has 3 labels"),
        (np.zeros((0, 2)), np.zeros(0, int), r"x has shape \(0, 2\); give at least one example"),
        (np.zeros((4, 2), complex), np.zeros(4, int), "x has dtype complex128; give numbers"),
        (np.full((4, 2), "a"), np.zeros(4, int), "x has dtype <U1; give numbers"),
        (np.zeros((1, 2)), np.zeros(1, int), "one example cannot be split"),
    ],
)
def test_examples_that_are_not_sound_are_refused(tmp_path: Path, x: np.ndarray, y: np.ndarray, message: str) -> None:
    np.savez(tmp_path / "a.npz", x=x, y=y)
    with pytest.raises(MnxError, match=message):
        read(str(tmp_path / "a.npz"), (2,), 0)


# IDX


@pytest.mark.parametrize("pattern", [f"{{stem}}{dot}idx{{axes}}-ubyte{gz}" for dot in ("-", ".") for gz in ("", ".gz")])
def test_idx_folders_are_read_under_every_spelling(tmp_path: Path, pattern: str) -> None:
    arrays = idx_folder(tmp_path, pattern)
    assert_same_parts(read(str(tmp_path), (1, 4, 6), 0), *arrays.values())


def test_a_missing_idx_file_is_named(tmp_path: Path) -> None:
    idx_folder(tmp_path, "{stem}-idx{axes}-ubyte")
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(MnxError, match=r"has no file t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte\.gz"):
        read(str(tmp_path), (1, 4, 6), 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0\0\x0d\3" + bytes(12), "is not an IDX file of bytes with 3 axes: it starts with 00 00 0d 03"),
        (b"\0", "is not an IDX file"),
        (
            b"\0\0\x08\3" + struct.pack(">3I", 2, 2, 2) + bytes(7),
            r"7 bytes after its header, not the 8 of shape \(2, 2",
        ),
    ],
)
def test_a_damaged_idx_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(MnxError, match=message):
        read(str(tmp_path), (1, 4, 6), 0)


@pytest.mark.parametrize(
    "content", [b"no gzip", gzip.compress(bytes(1000), mtime=0)[:-9], b""], ids=["no gzip", "cut short", "empty"]
)
def test_a_damaged_gzip_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(MnxError, match=r"train-images-idx3-ubyte\.gz (cannot be read|is not an IDX file)"):
        read(str(tmp_path), (1, 4, 6), 0)


# CIFAR


@pytest.mark.parametrize("inside", [".", "cifar-10-batches-bin"])
def test_cifar10_is_read_from_its_folder_or_the_one_around_it(tmp_path: Path, inside: str) -> None:
    rows = [cifar_rows(4, 1) for _ in range(3)]
    (tmp_path / inside).mkdir(exist_ok=True)
    for name, part in zip(("data_batch_1", "data_batch_2", "test_batch"), rows, strict=True):
        (tmp_path / inside / f"{name}.bin").write_bytes(part.tobytes())
    raw = read(str(tmp_path), (3, 32, 32), 0)
    train = np.concatenate(rows[:2])
    images = [part[:, 1:].reshape(-1, 3, 32, 32) for part in (train, rows[2])]
    assert_same_parts(raw, images[0], train[:, 0], images[1], rows[2][:, 0])
    assert (raw.name, raw.layout) == ("cifar10", "NCHW")


def test_cifar100_has_its_fine_labels(tmp_path: Path) -> None:
    train, test = cifar_rows(4, 2), cifar_rows(3, 2)
    (tmp_path / "train.bin").write_bytes(train.tobytes())
    (tmp_path / "test.bin").write_bytes(test.tobytes())
    raw = read(str(tmp_path), (3, 32, 32), 0)
    images = [part[:, 2:].reshape(-1, 3, 32, 32) for part in (train, test)]
    assert_same_parts(raw, images[0], train[:, 1], images[1], test[:, 1])


def test_cifar_files_that_are_missing_or_cut_are_named(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1.bin").write_bytes(cifar_rows(2, 1).tobytes())
    with pytest.raises(MnxError, match=r"test_batch\.bin cannot be read \(No such file"):
        read(str(tmp_path), (3, 32, 32), 0)
    (tmp_path / "test_batch.bin").write_bytes(bytes(5000))
    with pytest.raises(MnxError, match=r"test_batch\.bin has 5000 bytes, not a multiple of the 3073"):
        read(str(tmp_path), (3, 32, 32), 0)


@pytest.mark.parametrize(("file", "name"), [("data_batch_1", "cifar10"), ("train", "cifar100")])
def test_pickled_cifar_is_refused(tmp_path: Path, file: str, name: str) -> None:
    (tmp_path / file).write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(MnxError, match=f"holds {name} as pickled Python objects, which are never loaded; download"):
        read(str(tmp_path), (3, 32, 32), 0)


# image folders


def test_image_folders_with_train_and_test(tmp_path: Path) -> None:
    write_image(tmp_path / "train/cat/1.png", (10, 20, 30))
    write_image(tmp_path / "train/dog/1.png", (40, 50, 60))
    write_image(tmp_path / "train/dog/2.bmp", (70, 80, 90))
    write_image(tmp_path / "test/dog/1.PNG", (1, 2, 3))
    (tmp_path / "train/dog/notes.txt").write_text("no image")
    raw = read(str(tmp_path), (3, 4, 6), 0)
    assert raw.x_train.shape == (3, 4, 6, 3)
    assert raw.x_train[:, 0, 0].tolist() == [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    assert (raw.y_train.tolist(), raw.y_test.tolist()) == ([0, 1, 1], [1])
    assert raw.x_test[0, 3, 5].tolist() == [1, 2, 3]


def test_val_is_the_test_part_where_there_is_no_test(tmp_path: Path) -> None:
    write_image(tmp_path / "train/cat/1.png", (10, 20, 30))
    write_image(tmp_path / "val/cat/1.png", (1, 2, 3))
    assert read(str(tmp_path), (3, 4, 6), 0).x_test[0, 0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("prefix", ["", "train/"])
def test_image_folders_without_a_test_part_are_split_by_class(tmp_path: Path, prefix: str) -> None:
    for index in range(10):
        for label, name in enumerate(("car", "train")):
            write_image(tmp_path / f"{prefix}{name}/{index}.png", (label, 0, 0))
    raw = read(str(tmp_path), (3, 4, 6), 0)
    assert np.bincount(raw.y_test).tolist() == [2, 2]
    np.testing.assert_array_equal(raw.x_train[:, 0, 0, 0], raw.y_train)


def test_images_take_the_members_size_and_colours(tmp_path: Path) -> None:
    write_image(tmp_path / "a/1.png", 7, (6, 4), "L")
    write_image(tmp_path / "a/2.png", (9, 9, 9, 255), (11, 5), "RGBA")
    for shape, form in (((3, 8, 9), (8, 9, 3)), ((1, 8, 9), (8, 9, 1)), ((8, 9, 1), (8, 9, 1))):
        raw = read(str(tmp_path), shape, 0)
        assert raw.x_train.shape[1:] == form
        assert {int(raw.x_train.max()), int(raw.x_test.max())} == {7, 9}


def test_images_are_resized_by_bilinear_interpolation(tmp_path: Path) -> None:
    ramp = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)
    (tmp_path / "a").mkdir()
    for name in "12":
        Image.fromarray(ramp).save(tmp_path / f"a/{name}.png")
    raw = read(str(tmp_path), (1, 8, 12), 0)
    expected = np.asarray(Image.fromarray(ramp).resize((12, 8), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(raw.x_train[0, :, :, 0], expected)


@pytest.mark.parametrize(("length", "channels"), [(24, 1), (72, 3)])
def test_for_vectors_the_length_says_grey_or_rgb(tmp_path: Path, length: int, channels: int) -> None:
    for name in "12":
        write_image(tmp_path / f"a/{name}.png", (5, 5, 5))
    assert read(str(tmp_path), (length,), 0).x_train.shape == (1, 4, 6, channels)


def test_images_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    write_image(tmp_path / "a/1.png", (5, 5, 5))
    with pytest.raises(MnxError, match=r"1\.png: an image of 4 x 6 pixels.*\(25,\).*24 numbers in grey, 72 in RGB"):
        read(str(tmp_path), (25,), 0)
    with pytest.raises(MnxError, match=r"images do not fit the members' input \(5, 4, 6\).*1 or 3 channels"):
        read(str(tmp_path), (5, 4, 6), 0)
    (tmp_path / "a/2.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(MnxError, match=r"2\.png is not an image that Pillow can read .*; mend or remove it"):
        read(str(tmp_path), (3, 4, 6), 0)


def test_deep_images_are_refused_rather_than_clipped(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.fromarray(np.full((4, 6), 60000, np.uint16)).save(tmp_path / "a/1.png")
    with pytest.raises(MnxError, match=r"1\.png has more than 8 bits a pixel \(mode I;16\)"):
        read(str(tmp_path), (1, 4, 6), 0)


def test_a_test_class_without_training_images_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "train/cat/1.png", (5, 5, 5))
    write_image(tmp_path / "test/cow/1.png", (5, 5, 5))
    with pytest.raises(MnxError, match=r"cow is a class without a folder in .*train; it holds cat"):
        read(str(tmp_path), (3, 4, 6), 0)


def test_without_pillow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "a/1.png", (5, 5, 5))

    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MnxError, match=re.escape("pip install 'mothernets[images]'")):
        read(str(tmp_path), (3, 4, 6), 0)


# what no source reads


@pytest.mark.parametrize(("spec", "meant"), [("digts", "digits"), ("flower.npz", "flowers.npz")])
def test_a_typo_gets_a_suggestion_and_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, meant: str
) -> None:
    (tmp_path / "flowers.npz").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MnxError) as caught:
        read(spec, (1,), 0)
    assert f"no such file or data set: {spec}; did you mean {meant}? mnx reads" in str(caught.value)
    assert all(source.doc in str(caught.value) for source in SOURCES.values())


@pytest.mark.parametrize("spec", ["~nobody-has-this-name/zzz", "nowhere/zzz"])
def test_a_path_like_no_other_gets_the_list(spec: str) -> None:
    with pytest.raises(MnxError, match=r"no such file or data set: .*zzz\. mnx reads\n  the word digits"):
        read(spec, (1,), 0)


def test_files_and_folders_of_no_known_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    with pytest.raises(MnxError, match=r"the file .*a\.csv is not data that mnx can read; it reads"):
        read(str(tmp_path / "a.csv"), (1,), 0)
    with pytest.raises(MnxError, match=r"the folder .* is not data that mnx can read"):
        read(str(tmp_path), (1,), 0)


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.npz").touch()

    def denied(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(MnxError, match=r"a\.npz may not be read; change its permissions"):
        read(str(tmp_path / "a.npz"), (1,), 0)


def test_a_path_may_start_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 2)), y=np.zeros(4, int))
    assert read("~/a.npz", (2,), 0).name == "a"
