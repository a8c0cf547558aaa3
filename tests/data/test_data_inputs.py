"""Members of several inputs: arrays by name or by order, ids and masks as they are, targets of every task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnx.data.dataset import load
from mnx.errors import MnxError
from mnx.graphs.interface import SIGMOID, Interface
from mnx.graphs.model import Array, Port
from mnx.graphs.probes import Content

WORDS, TOKENS, N = 30, 7, 40
IDS, MASK = Port("input_ids", "int64", (TOKENS,)), Port("attention_mask", "float32", (TOKENS,))
TEXT = Interface((IDS, MASK), 2, contents=(Content("ids", WORDS), Content("mask")))
TABLE = Interface((Port("x", "float32", (3,)),), 2)


def text(n: int = N, seed: int = 0) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, TOKENS + 1, n)
    return {
        "input_ids": random.integers(0, WORDS, (n, TOKENS)).astype(np.int32),
        "attention_mask": (np.arange(TOKENS) < lengths[:, None]).astype(np.int64),
        "y": random.integers(0, 2, n),
    }


def parts(train: dict[str, Array], test: dict[str, Array]) -> dict[str, Array]:
    return {f"{name}_train": array for name, array in train.items()} | {
        f"{name}_test": array for name, array in test.items()
    }


def save(folder: Path, arrays: dict[str, Any]) -> str:
    np.savez(folder / "a.npz", **arrays)
    return str(folder / "a.npz")


def test_ids_and_masks_go_through_in_the_type_of_their_input(tmp_path: Path) -> None:
    train, test = text(), text(9, seed=1)
    data = load(save(tmp_path, parts(train, test)), TEXT, 0)
    ids, mask = data.test.x()
    assert (ids.dtype, mask.dtype, data.kind, len(data.train)) == (np.int64, np.float32, "classes", 36)
    np.testing.assert_array_equal(ids, test["input_ids"])
    np.testing.assert_array_equal(mask, test["attention_mask"])
    np.testing.assert_array_equal(data.test.raw[0], test["input_ids"])
    few = data.train.x(np.array([3, 1]))
    assert [each.shape for each in few] == [(2, TOKENS), (2, TOKENS)]
    np.testing.assert_array_equal(few[0], data.train.x()[0][[3, 1]])
    whole = {tuple(row) for row in np.concatenate([part.x()[0] for part in (data.train, data.validation)])}
    assert whole == {tuple(row) for row in train["input_ids"]}


def test_inputs_are_found_by_name_in_any_order_and_by_order_under_other_names(tmp_path: Path) -> None:
    arrays = text()
    by_name = load(save(tmp_path, {name: arrays[name] for name in ("y", "attention_mask", "input_ids")}), TEXT, 0)
    others = {"tokens": arrays["input_ids"], "lengths": arrays["attention_mask"], "y": arrays["y"]}
    by_order = load(save(tmp_path, others), TEXT, 0)
    assert by_name.fingerprint == by_order.fingerprint
    swapped = {"lengths": arrays["attention_mask"], "tokens": arrays["input_ids"], "y": arrays["y"]}
    assert load(save(tmp_path, swapped), TEXT, 0).fingerprint != by_order.fingerprint
    dotted = Interface((Port("input.ids:0", "int64", (TOKENS,)), MASK), 2, contents=TEXT.contents)
    renamed = {"input_ids_0": arrays["input_ids"], "attention_mask": arrays["attention_mask"], "y": arrays["y"]}
    assert load(save(tmp_path, renamed), dotted, 0).fingerprint == by_name.fingerprint


def test_one_input_may_go_by_its_own_name(tmp_path: Path) -> None:
    arrays = text()
    one = Interface((IDS,), 2, contents=TEXT.contents[:1])
    spec = save(tmp_path, {"input_ids": arrays["input_ids"], "y": arrays["y"]})
    assert load(spec, one, 0).test.x().dtype == np.int64
    with pytest.raises(MnxError, match=r"name the arrays x_train, y_train, x_test, y_test or x, y"):
        load(save(tmp_path, {"words": arrays["input_ids"], "y": arrays["y"]}), one, 0)


def test_missing_arrays_are_named(tmp_path: Path) -> None:
    arrays = text()
    wanted = (
        r"a\.npz holds input_ids, y; name the arrays input_ids_train, attention_mask_train, y_train, .* or input_ids"
    )
    with pytest.raises(MnxError, match=wanted):
        load(save(tmp_path, {name: arrays[name] for name in ("input_ids", "y")}), TEXT, 0)
    with pytest.raises(MnxError, match=r"holds one array an example, the members have 2 inputs \(input_ids, attention"):
        load("digits", TEXT, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_ids": np.full((N, TOKENS), WORDS)}, r"training part: input_ids holds 30 in example 0; .* ids 0 to 29"),
        ({"input_ids": np.full((N, TOKENS), -1)}, "input_ids holds -1 in example 0"),
        ({"input_ids": np.zeros((N, TOKENS))}, "input input_ids takes int64, the data have float64; give integers"),
        ({"input_ids": np.zeros((N, 5), int)}, r"examples of shape \(5,\) do not fit the members' input \(7,\)"),
        ({"attention_mask": np.full((N, TOKENS), np.nan)}, "attention_mask holds nan in example 0; give finite"),
        ({"attention_mask": np.ones((3, TOKENS))}, "x of input 2 has 3 examples, y has 40 labels"),
    ],
)
def test_inputs_that_are_not_sound_are_refused(tmp_path: Path, change: dict[str, Array], message: str) -> None:
    with pytest.raises(MnxError, match=message):
        load(save(tmp_path, parts({**text(), **change}, {**text(), **change})), TEXT, 0)


def test_numbers_too_large_for_an_integer_input_are_refused(tmp_path: Path) -> None:
    narrow = Interface((Port("x", "int32", (3,)),), 2)
    x = np.full((N, 3), 7, np.int64)
    spec = save(tmp_path, {"x": x, "y": np.arange(N) % 2})
    assert load(spec, narrow, 0).test.x().dtype == np.int32
    x[5, 1] = 2**40
    with pytest.raises(MnxError, match=r"x holds 1099511627776 in example .*; the members take int32"):
        load(save(tmp_path, {"x": x, "y": np.arange(N) % 2}), narrow, 0)


@pytest.mark.parametrize("kind", ["labels", "numbers", "distribution"])
def test_rows_of_targets_are_split_with_their_examples(tmp_path: Path, kind: str) -> None:
    x = np.arange(3 * N, dtype=np.float32).reshape(N, 3)
    truth = x[:, :2] % 4 < 2
    y = {
        "labels": truth.astype(np.uint8),
        "numbers": x[:, :2] / 8,
        "distribution": np.stack([x[:, 0] / 1000, 1 - x[:, 0] / 1000], axis=1),
    }[kind]
    members = Interface(TABLE.inputs, 2, SIGMOID if kind == "labels" else "")
    data = load(save(tmp_path, {"x": x, "y": y}), members, 0, validation=0.25, train_limit=20)
    assert (data.kind, len(data.train), len(data.validation), len(data.test)) == (kind, 15, 5, 8)
    for part in (data.train, data.validation, data.test):
        assert part.y.dtype == np.float32
        rows = (part.x()[:, 0] / 3).astype(int)
        np.testing.assert_array_equal(part.y, y[rows].astype(np.float32))
    assert load(save(tmp_path, {"x": x, "y": y[::-1]}), members, 0).fingerprint != data.fingerprint


def test_batches_visit_every_example_in_order(tmp_path: Path) -> None:
    part = load(save(tmp_path, text()), TEXT, 0).train
    found = list(part.batches(10))
    assert [len(ids) for ids, _ in found] == [10, 10, 9]
    np.testing.assert_array_equal(np.concatenate([ids for ids, _ in found]), part.x()[0])
