"""Data that stay in their files: folders of .npy files, and images that worker processes decode."""

from __future__ import annotations

import os
import tempfile
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnx.data import dataset, decoding, image_folders, raw
from mnx.data.dataset import load
from mnx.data.decoding import decoded
from mnx.data.rows import Rows, taken
from mnx.errors import MnxError
from mnx.graphs.interface import Interface
from mnx.graphs.model import Array, Port, Shape
from mnx.graphs.probes import Content

PIXELS = Interface((Port("x", "float32", (3, 4, 4)),), 4)
TEXT = Interface(
    (Port("ids", "int64", (5,)), Port("mask", "float32", (5,))), 3, contents=(Content("ids", 9), Content("mask"))
)


def images(n: int = 60, seed: int = 0) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {"x": random.integers(0, 256, (n, 3, 4, 4)).astype(np.uint8), "y": np.arange(n) % 4}


def folder_of(path: Path, arrays: dict[str, Array]) -> str:
    path.mkdir()
    for name, array in arrays.items():
        np.save(path / f"{name}.npy", array)
    return str(path)


def both(arrays: dict[str, Array], seed: int = 1) -> dict[str, Array]:
    test = images(12, seed)
    return {f"{name}_train": each for name, each in arrays.items()} | {f"{k}_test": v for k, v in test.items()}


@pytest.mark.parametrize("split", [True, False])
def test_a_folder_of_files_is_the_archive_of_the_same_arrays(tmp_path: Path, split: bool) -> None:
    arrays = images() if split else both(images())
    np.savez(tmp_path / "a.npz", **arrays)
    one = load(str(tmp_path / "a.npz"), PIXELS, 3, train_limit=40)
    other = load(folder_of(tmp_path / "files", arrays), PIXELS, 3, train_limit=40)
    assert (one.fingerprint, one.scalings, one.kind) == (other.fingerprint, other.scalings, other.kind)
    for name in ("train", "validation", "test"):
        mine, theirs = getattr(one, name), getattr(other, name)
        np.testing.assert_array_equal(mine.y, theirs.y)
        np.testing.assert_array_equal(mine.x(), theirs.x())
        chosen = np.array([3, 0, 3, 2])
        np.testing.assert_array_equal(mine.x(chosen), theirs.x(chosen))
        assert isinstance(theirs.raw[0], Rows | np.memmap)
        assert theirs.raw[0].dtype == np.uint8


def test_several_inputs_are_files_by_name(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = {"ids": random.integers(0, 9, (30, 5)), "mask": np.ones((30, 5), np.int8), "y": np.arange(30) % 3}
    data = load(folder_of(tmp_path / "files", arrays), TEXT, 0)
    assert [each.shape for each in data.train.x()] == [(22, 5)] * 2
    others = {"first": arrays["ids"], "second": arrays["mask"], "y": arrays["y"]}
    with pytest.raises(MnxError, match=r"holds first, second, y; name the arrays ids_train, mask_train"):
        load(folder_of(tmp_path / "others", others), TEXT, 0)  # files have no order


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"words", r"x\.npy is not a whole \.npy file"),
        (b"", r"x\.npy is not a whole \.npy file"),
        (np.array([[{}], [1]], dtype=object), "holds Python objects, which are pickled and never loaded"),
    ],
)
def test_files_that_are_no_arrays_are_refused(tmp_path: Path, content: bytes | Array, message: str) -> None:
    folder = folder_of(tmp_path / "files", {"y": np.arange(4)})
    if isinstance(content, bytes):
        (tmp_path / "files" / "x.npy").write_bytes(content)
    else:
        np.save(tmp_path / "files" / "x.npy", content, allow_pickle=True)
    with pytest.raises(MnxError, match=message):
        load(folder, PIXELS, 0)


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "files", images())
    path = tmp_path / "files" / "x.npy"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(MnxError, match="is not a whole"):
        load(folder, PIXELS, 0)


def test_any_number_that_changes_in_a_file_changes_the_fingerprint_and_nothing_else_does(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "files", images())
    first = load(folder, PIXELS, 0).fingerprint
    path = tmp_path / "files" / "x.npy"
    os.utime(path, (1, 1))
    assert load(folder, PIXELS, 0).fingerprint == first
    x = np.load(path)
    x[17, 1, 2, 3] ^= 1
    np.save(path, x)
    assert load(folder, PIXELS, 0).fingerprint != first


def test_nothing_larger_than_a_block_is_ever_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "BLOCK", 1 << 16)
    monkeypatch.setattr(dataset, "LONG", 1 << 20)
    n, size = 4000, (3, 32, 32)
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (n, *size))
    for start in range(0, n, 500):
        x[start : start + 500] = np.random.default_rng(start).integers(0, 256, (500, *size))
    del x
    np.save(tmp_path / "y.npy", np.arange(n) % 4)
    heard: list[tuple[int, int]] = []
    tracemalloc.start()
    data = load(str(tmp_path), Interface((Port("x", "float32", size),), 4), 0, tell=lambda *all: heard.append(all))
    few = data.train.x(np.arange(0, 1000, 100))
    assert few.shape == (10, *size)  # type: ignore[union-attr]
    assert sum(len(batch) for batch in data.validation.batches(50)) == len(data.validation)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n * 3 * 32 * 32 / 3
    assert data.train.raw[0].nbytes == len(data.train) * 3 * 32 * 32
    assert heard[-1][0] == heard[-1][1] > 0
    assert heard == sorted(heard)


def test_rows_answer_as_an_array_would() -> None:
    array = np.arange(40).reshape(10, 4)
    chosen = np.array([7, 2, 2, 9, 0])
    found, rows = array[chosen], Rows(array, chosen)
    assert (len(rows), rows.shape, rows.dtype, rows.ndim, rows.size) == (5, (5, 4), array.dtype, 2, 20)
    assert rows.nbytes == found.nbytes
    for part in (slice(1, 3), slice(0, 0), np.array([4, 0, 4]), np.array([True, False, True, True, False])):
        np.testing.assert_array_equal(rows[part], found[part])
    np.testing.assert_array_equal(np.asarray(rows), found)
    again = taken(rows, np.array([3, 1]))
    assert isinstance(again, Rows)
    np.testing.assert_array_equal(np.asarray(again), found[[3, 1]])
    assert isinstance(taken(array, chosen), np.ndarray)


# images by worker processes


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with 13 images of two classes; few are many here, and decoded files lie in a folder of the test's."""
    monkeypatch.setattr(image_folders, "FEW", 4)
    monkeypatch.setattr(decoding, "CHUNK", 3)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    random = np.random.default_rng(0)
    for index in range(13):
        path = tmp_path / "pictures" / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (4, 4, 3)).astype(np.uint8)).save(path)
    return tmp_path / "pictures"


def files_of(pictures: Path) -> list[Path]:
    return sorted(pictures.glob("*/*.png"))


def kept(pictures: Path) -> list[Path]:
    return sorted((pictures.parent / "temporary").glob("mnx-*/*"))


@pytest.mark.parametrize("jobs", [1, 3])
def test_workers_decode_what_one_process_does_in_the_same_order(pictures: Path, jobs: int) -> None:
    heard: list[tuple[int, int]] = []
    paths = files_of(pictures)
    found = decoded(paths, (4, 4, 3), image_folders.decode, lambda *all: heard.append(all), jobs)
    np.testing.assert_array_equal(found, image_folders.decode(paths, (4, 4, 3)))
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable
    assert heard == [(3, 13), (6, 13), (9, 13), (12, 13), (13, 13)]
    assert decoded(paths, (4, 4, 3), _never, lambda *all: None, jobs) is not found  # it is not decoded again


def _never(paths: Sequence[Path], form: Shape) -> Array:
    raise AssertionError("decoded twice")


def test_many_images_are_the_data_that_few_are(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = Interface((Port("x", "float32", (3, 4, 4)),), 2)
    monkeypatch.setattr(decoding, "_cores", lambda: 1)
    many = load(str(pictures), members, 0)
    monkeypatch.setattr(image_folders, "FEW", 100)
    few = load(str(pictures), members, 0)
    assert many.fingerprint == few.fingerprint
    np.testing.assert_array_equal(many.train.x(), few.train.x())
    assert isinstance(many.train.raw[0], Rows)


def test_a_changed_image_is_decoded_again_and_the_old_file_goes(pictures: Path) -> None:
    paths = files_of(pictures)
    decoded(paths, (4, 4, 3), image_folders.decode, lambda *all: None, 1)
    before = kept(pictures)
    Image.new("RGB", (4, 4), (1, 2, 3)).save(paths[5])
    os.utime(paths[5], (5, 5))
    found = decoded(paths, (4, 4, 3), image_folders.decode, lambda *all: None, 1)
    assert found[5, 0, 0].tolist() == [1, 2, 3]
    assert len(kept(pictures)) == 1
    assert kept(pictures) != before


def _dies(paths: Sequence[Path], form: Shape) -> Array:
    if os.environ.get("MNX_TEST_PARENT") != str(os.getpid()):
        os._exit(1)
    return image_folders.decode(paths, form)


def test_what_a_killed_worker_leaves_is_decoded_here(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNX_TEST_PARENT", str(os.getpid()))
    paths = files_of(pictures)
    found = decoded(paths, (4, 4, 3), _dies, lambda *all: None, 2)
    np.testing.assert_array_equal(found, image_folders.decode(paths, (4, 4, 3)))


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_broken_image_is_named_and_nothing_is_kept(pictures: Path, jobs: int) -> None:
    paths = files_of(pictures)
    paths[7].write_bytes(b"no image")
    with pytest.raises(MnxError, match=rf"{paths[7].name} is not an image that Pillow can read"):
        decoded(paths, (4, 4, 3), image_folders.decode, lambda *all: None, jobs)
    assert not kept(pictures)


def _full(paths: Sequence[Path], form: Shape) -> Array:
    raise OSError(28, "No space left on device")


def test_a_full_disk_says_where_else(pictures: Path) -> None:
    with pytest.raises(MnxError, match=r"images cannot be kept in .*No space left on device\); set TMPDIR"):
        decoded(files_of(pictures), (4, 4, 3), _full, lambda *all: None, 1)
    assert not kept(pictures)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="permissions are POSIX's")
def test_a_folder_that_others_can_write_to_is_not_trusted(pictures: Path) -> None:
    folder = pictures.parent / "temporary" / f"mnx-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(MnxError, match="is open to others"):
        decoded(files_of(pictures), (4, 4, 3), image_folders.decode, lambda *all: None, 1)
