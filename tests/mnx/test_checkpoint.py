"""Checkpoints: every bit comes back, broken files are refused, and a writer that dies leaves the old one."""

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_training import CLASSES, SHAPE, make, same_bits, with_norm

from mnx.errors import MnxError
from mnx.graphs.model import Array
from mnx.train import checkpoint
from mnx.train.settings import StepSettings

RECORD: dict[str, Any] = {"model": "abc", "recipe": {"lr": 0.1 + 0.2}, "history": [{"loss": 1e-300}], "words": "größer"}


def odd_state() -> dict[str, Array]:
    """Numbers that a careless writer loses: NaN with a payload, -0, denormals, empty and 0-d arrays."""
    bits = np.array([0x7FC00123, 0x80000000, 0x00000001, 0x7F800000, 0x3F9D70A4], np.uint32)
    return {
        "weight/block.1/conv:w": bits.view(np.float32),
        "weight/empty": np.zeros((0, 3), np.float32),
        "momentum/column": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "step": np.array(12345678901, np.int64),
    }


def test_every_bit_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "checkpoint.npz"
    checkpoint.save(path, odd_state(), RECORD)
    state, record = checkpoint.load(path)
    assert same_bits(state, odd_state())
    assert record == RECORD
    assert list(path.parent.iterdir()) == [path]


def test_an_engine_s_state_comes_back(tmp_path: Path) -> None:
    engine = make(with_norm(), StepSettings(), 0)
    random = np.random.default_rng(0)
    engine.step(random.standard_normal((8, *SHAPE), np.float32), random.integers(0, CLASSES, 8), 0.1)
    checkpoint.save(tmp_path / "checkpoint.npz", engine.state(), {})
    assert same_bits(checkpoint.load(tmp_path / "checkpoint.npz")[0], engine.state())


def test_a_later_one_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    checkpoint.save(path, odd_state(), RECORD)
    checkpoint.save(path, {"step": np.array(2)}, {"model": "other"})
    state, record = checkpoint.load(path)
    assert list(state) == ["step"]
    assert record == {"model": "other"}


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_refused_with_the_cure(share: float, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    checkpoint.save(path, odd_state(), RECORD)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(MnxError, match=r"checkpoint\.npz is not a checkpoint of mnx .*delete it to train .* afresh"):
        checkpoint.load(path)


def test_a_damaged_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    marker = np.full(64, 1.25, np.float32)
    checkpoint.save(path, {"weight/w": marker}, RECORD)
    damaged = marker.copy()
    damaged[40] = -1.25
    path.write_bytes(path.read_bytes().replace(marker.tobytes(), damaged.tobytes()))
    with pytest.raises(MnxError, match="is not a checkpoint"):
        checkpoint.load(path)


def _npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.arange(3))


def _pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"weight/w": [1.0]}))


def _pickled_array(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, record=np.array([{"model": "abc"}], dtype=object))


def _other_npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, x=np.arange(3), y=np.arange(3))


def _zip_of_text(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("record", "words")


def _record_of_other_kind(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, record=np.frombuffer(json.dumps(5).encode(), np.uint8))


FOREIGN = [_npy, _pickle, _pickled_array, _other_npz, _zip_of_text, _record_of_other_kind]


@pytest.mark.parametrize("write", FOREIGN, ids=[write.__name__.strip("_") for write in FOREIGN])
def test_a_foreign_file_is_refused(write: Any, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    write(path)
    with pytest.raises(MnxError, match="is not a checkpoint of mnx"):
        checkpoint.load(path)


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MnxError, match="is not a checkpoint of mnx"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_writer_that_dies_leaves_the_old_one(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.npz"
    checkpoint.save(path, odd_state(), RECORD)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os if call == "fsync" else Path, call, killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(path, {"step": np.array(2)}, {})
    state, record = checkpoint.load(path)
    assert same_bits(state, odd_state())
    assert record == RECORD
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_in_it_is_pickled(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    checkpoint.save(path, odd_state(), RECORD)
    with np.load(path, allow_pickle=False) as arrays:
        kinds = {name: arrays[name].dtype.kind for name in arrays.files}
    assert kinds["record"] == "u"
    assert set(kinds) == {*odd_state(), "record"}
    assert "O" not in kinds.values()
