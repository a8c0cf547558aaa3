"""Batches made on the device are those that numpy makes, plain and augmented, from whatever layout and dtype."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import active_count
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnx.data.layout import arrangement
from mnx.data.scaling import Scaling, apply, fitted
from mnx.errors import MnxError
from mnx.graphs.builder import Builder
from mnx.graphs.model import Port
from mnx.graphs.proto import to_proto
from mnx.graphs.verify import difference
from mnx.train.augment import CROP, CUTOUT, MIRROR, PLAIN, Augmentation, draws
from mnx.train.feed import AHEAD, Feed
from mnx.train.onnxruntime_sessions import require_device, run, session
from mnx.train.read_ahead import read_ahead

ALL = Augmentation(crop=2, mirror="random", cutout=3, mixup=1.0)
CHANGES = (
    Augmentation(crop=2),
    Augmentation(crop=2, padding="zero"),
    Augmentation(mirror="random"),
    Augmentation(mirror="alternating"),
    Augmentation(cutout=3),
    Augmentation(cutout=4, crop=1, padding="zero"),
    Augmentation(mixup=0.4),
    ALL,
)


def images(layout: str = "NHWC", channels: int = 3, n: int = 40, size: tuple[int, int] = (6, 7)) -> np.ndarray:
    shape = {"NHWC": (n, *size, channels), "NCHW": (n, channels, *size), "grey": (n, *size)}[layout]
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def scaled(raw: np.ndarray, shape: tuple[int, ...], layout: Any = None) -> Scaling:
    return fitted(raw, arrangement(raw.shape[1:], shape, layout, "x"), shape, None)


def as_input(raw: np.ndarray, layout: str) -> Scaling:
    channels = {"NHWC": raw.shape[-1], "NCHW": raw.shape[1], "grey": 1}[layout]
    size = raw.shape[2:] if layout == "NCHW" else raw.shape[1:3]
    return scaled(raw, (channels, *size), None if layout == "grey" else layout)


def values(fed: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
    return tuple(value.numpy() for value in fed)


def expected(
    feed: Feed, x: np.ndarray, augmentation: Augmentation, seed: int, indices: np.ndarray, epoch: int, step: int
) -> np.ndarray:
    """What augmentation makes of scaled images (batch, C, H, W), example by example, by padding, slices and flips."""
    height, width = x.shape[2:]
    drawn = draws(augmentation, (height, width), seed, epoch, indices)
    made = []
    for place, image in enumerate(x):
        if augmentation.crop:
            pad = augmentation.crop
            how: Any = "reflect" if augmentation.padding == "reflect" else "constant"
            down, right = drawn[CROP][place] + pad
            padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)), how)
            image = padded[:, down : down + height, right : right + width]
        if augmentation.mirror != "off" and drawn[MIRROR][place]:
            image = np.flip(image, 2)
        image = image.copy()
        if augmentation.cutout:
            top, left = drawn[CUTOUT][place] - augmentation.cutout // 2
            bottom, end = top + augmentation.cutout, left + augmentation.cutout
            image[:, max(top, 0) : bottom, max(left, 0) : end] = 0
        made.append(image)
    result = np.stack(made)
    mixed = feed.mixture(indices, epoch, step)
    if mixed is None:
        return result
    share = np.float32(mixed.share)
    return share * result + (np.float32(1) - share) * result[mixed.places]


@pytest.mark.parametrize("augmentation", CHANGES, ids=str)
@pytest.mark.parametrize(
    ("layout", "channels"), [("NHWC", 3), ("NHWC", 1), ("NCHW", 3), ("NCHW", 1), ("NCHW", 2), ("grey", 1)]
)
def test_augmented_images_are_those_of_numpy(augmentation: Augmentation, layout: str, channels: int) -> None:
    raw = images(layout, channels)
    scaling = as_input(raw, layout)
    feed = Feed((raw,), (scaling,), augmentation, seed=3)
    indices = np.array([5, 0, 39, 7, 7, 21, 13, 1])
    for epoch, step in ((0, 0), (1, 4), (6, 2)):
        (found,) = values(feed.batch(indices, epoch, step))
        wanted = expected(feed, apply(scaling, raw[indices]), augmentation, 3, indices, epoch, step)
        assert difference(wanted, found, 1e-6 if augmentation.mixup else 0).passed


@settings(deadline=None, max_examples=25)
@given(
    size=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    layout=st.sampled_from(["NHWC", "NCHW"]),
    channels=st.sampled_from([1, 3]),
    crop=st.integers(0, 3),
    padding=st.sampled_from(["reflect", "zero"]),
    mirror=st.sampled_from(["off", "random", "alternating"]),
    cutout=st.integers(0, 4),
    mixup=st.sampled_from([0.0, 0.2, 1.0]),
    seed=st.integers(0, 2**70),
)
def test_images_of_any_size(
    size: tuple[int, int], layout: str, channels: int, seed: int, crop: int, cutout: int, **more: Any
) -> None:
    most = min(size) - 1
    augmentation = Augmentation(crop=min(crop, most), cutout=min(cutout, most), **more)
    raw = images(layout, channels, 9, size)
    scaling = as_input(raw, layout)
    feed = Feed((raw,), (scaling,), augmentation, seed=seed)
    indices = np.arange(9)[::-1]
    (found,) = values(feed.batch(indices, 1, 2))
    wanted = expected(feed, apply(scaling, raw[indices]), augmentation, seed, indices, 1, 2)
    assert difference(wanted, found, 1e-6).passed


def test_reflection_that_repeats_the_edge_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    pad = np.pad
    monkeypatch.setattr(np, "pad", lambda image, width, how: pad(image, width, "symmetric"))
    raw = images()
    scaling = as_input(raw, "NHWC")
    feed, indices = Feed((raw,), (scaling,), CHANGES[0], seed=3), np.arange(12)
    wanted = expected(feed, apply(scaling, raw[indices]), CHANGES[0], 3, indices, 1, 0)
    assert not difference(wanted, values(feed.batch(indices, 1, 0))[0], 1e-6).passed


def off_by_one(x: np.ndarray) -> np.ndarray:
    return np.roll(x, 1, axis=3)


def of_another_axis(x: np.ndarray) -> np.ndarray:
    return np.flip(x, 2)


@pytest.mark.parametrize("broken", [off_by_one, of_another_axis])
@pytest.mark.parametrize("augmentation", CHANGES, ids=str)
def test_broken_twins_are_caught(augmentation: Augmentation, broken: Callable[[np.ndarray], np.ndarray]) -> None:
    raw = images()
    scaling = as_input(raw, "NHWC")
    feed, indices = Feed((raw,), (scaling,), augmentation, seed=3), np.arange(12)
    (found,) = values(feed.batch(indices, 1, 0))
    x = apply(scaling, raw[indices])
    assert not difference(expected(feed, broken(x), augmentation, 3, indices, 1, 0), found, 1e-6).passed


@pytest.mark.parametrize(
    "change",
    [
        {CROP: np.array([0, 1])},
        {CROP: np.array([1, 0])},
        {MIRROR: np.array(True)},
        {CUTOUT: np.array([0, 1])},
        {CUTOUT: np.array([1, 0])},
    ],
    ids=str,
)
def test_draws_that_are_off_by_one_are_caught(change: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    augmentation = Augmentation(crop=2, mirror="random", cutout=3)

    def otherwise(*arguments: Any) -> dict[str, np.ndarray]:
        return {
            name: array ^ change[name] if array.dtype == bool else array + change[name]
            for name, array in draws(*arguments).items()
            if name in change
        } | {name: array for name, array in draws(*arguments).items() if name not in change}

    raw = images()
    scaling = as_input(raw, "NHWC")
    feed, indices = Feed((raw,), (scaling,), augmentation, seed=3), np.arange(12)
    wanted = expected(feed, apply(scaling, raw[indices]), augmentation, 3, indices, 1, 0)
    monkeypatch.setattr("mnx.train.feed.draws", otherwise)
    assert not difference(wanted, values(feed.batch(indices, 1, 0))[0], 1e-6).passed


@pytest.mark.parametrize("dtype", ["uint8", "bool", "uint16", "int64", "int32", "float32", "float64", "float16"])
@pytest.mark.parametrize(
    ("shape", "input"), [((6, 7, 3), (3, 6, 7)), ((6, 7, 3), (126,)), ((5,), (5,)), ((4, 5), (4, 5))]
)
def test_plain_examples_are_those_of_the_part_to_the_bit(
    dtype: str, shape: tuple[int, ...], input: tuple[int, ...]
) -> None:
    raw = np.random.default_rng(1).integers(0, 256, (30, *shape))
    raw = (raw / 7).astype(dtype) if dtype.startswith("float") else (raw % 2 if dtype == "bool" else raw).astype(dtype)
    scaling = scaled(raw, input)
    for limit in (raw.nbytes, 0):
        feed = Feed((raw,), (scaling,), resident_bytes=limit)
        assert feed.streams == (limit == 0)
        for indices in (np.array([3, 29, 0, 3]), np.arange(30), np.array([], np.int64)):
            (found,) = values(feed.plain(indices))
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, apply(scaling, raw[indices]))
            np.testing.assert_array_equal(values(feed.batch(indices, 1, 1))[0], found)


def test_of_several_inputs_the_images_are_changed_alike_and_the_others_left_alone() -> None:
    colour, depth, columns = images(), images("grey", 1), np.random.default_rng(2).normal(size=(40, 5))
    scalings = (as_input(colour, "NHWC"), as_input(depth, "grey"), scaled(columns, (5,)))
    augmentation = Augmentation(crop=2, mirror="random", cutout=3)
    feed, indices = Feed((colour, depth, columns), scalings, augmentation, seed=8), np.arange(20)
    found = values(feed.batch(indices, 2, 0))
    for place, raw in enumerate((colour, depth)):
        x = apply(scalings[place], raw[indices])
        assert difference(expected(feed, x, augmentation, 8, indices, 2, 0), found[place], 0).passed
    np.testing.assert_array_equal(found[2], columns[indices].astype(np.float32))


def test_examples_without_images_are_mixed_too() -> None:
    columns = np.random.default_rng(2).normal(size=(40, 5)).astype(np.float32)
    feed, indices = Feed((columns,), (scaled(columns, (5,)),), Augmentation(mixup=1)), np.arange(10, 20)
    mixed = feed.mixture(indices, 0, 7)
    assert mixed is not None
    wanted = mixed.share * columns[indices] + (1 - mixed.share) * columns[mixed.partners]
    assert difference(wanted, values(feed.batch(indices, 0, 7))[0], 1e-6).passed


@pytest.mark.parametrize(
    ("augmentation", "shape", "message"),
    [
        (Augmentation(crop=2, mirror="random"), (126,), r"crop and mirror take images.*have shapes \(126,\)"),
        (Augmentation(cutout=2), (6, 7, 3), r"cutout take images of shape \(channels, .*have shapes \(6, 7, 3\)"),
        (Augmentation(crop=6), (3, 6, 7), "crop = 6: give less than the sides of the images, which are 6 x 7"),
        (Augmentation(cutout=6), (3, 6, 7), "cutout = 6: give less than the sides"),
    ],
)
def test_augmentation_that_does_not_fit_is_refused(
    augmentation: Augmentation, shape: tuple[int, ...], message: str
) -> None:
    raw = images()
    with pytest.raises(MnxError, match=message):
        Feed((raw,), (scaled(raw, shape),), augmentation)


def test_arrays_and_inputs_must_fit() -> None:
    raw = images()
    scaling = as_input(raw, "NHWC")
    for arrays, scalings in (((raw, raw), (scaling,)), ((raw, raw[:3]), (scaling, scaling)), ((), ())):
        with pytest.raises(MnxError, match=r"do not fit .* inputs: give one array for each, with an equal number"):
            Feed(arrays, scalings)
    with pytest.raises(MnxError, match=r"examples of shape \(7, 6, 3\) do not fit the scaling"):
        Feed((raw.transpose(0, 2, 1, 3),), (scaling,))
    with pytest.raises(MnxError, match=r"augmentation: .* take images of one size"):
        other = images(size=(8, 8))
        Feed((raw, other), (scaling, as_input(other, "NHWC")), Augmentation(crop=1))


@pytest.mark.parametrize("limit", [0, 1 << 30])
@pytest.mark.parametrize("indices", [np.array([40]), np.array([-1]), np.array([[1]]), np.array([0.5])])
def test_indices_out_of_range_are_errors(indices: np.ndarray, limit: int) -> None:
    feed = Feed((images(),), (as_input(images(), "NHWC"),), resident_bytes=limit)
    with pytest.raises(IndexError):
        feed.plain(indices)


def order() -> list[np.ndarray]:
    return [np.random.default_rng(step).permutation(40)[:8] for step in range(9)]


@pytest.mark.parametrize("epoch", [None, 0, 3])
def test_data_in_a_file_give_the_same_batches(tmp_path: Path, epoch: int | None) -> None:
    raw = images()
    np.save(tmp_path / "raw.npy", raw)
    mapped = np.load(tmp_path / "raw.npy", mmap_mode="r")
    scaling = as_input(raw, "NHWC")
    feeds = [Feed((raw,), (scaling,), ALL, seed=5)]
    feeds += [Feed((mapped,), (scaling,), ALL, seed=5, resident_bytes=limit) for limit in (0, raw.nbytes)]
    assert [feed.streams for feed in feeds] == [False, True, False]
    for step, batches in enumerate(zip(*(feed.each(order(), epoch) for feed in feeds), strict=True)):
        for indices, fed in batches:
            np.testing.assert_array_equal(indices, order()[step])
            alone = feeds[0].plain(indices) if epoch is None else feeds[0].batch(indices, epoch, step)
            np.testing.assert_array_equal(values(fed)[0], values(alone)[0])


def test_batches_stay_as_they_are_when_the_next_are_made() -> None:
    feed = Feed((images(),), (as_input(images(), "NHWC"),), ALL)
    kept = [fed for _, fed in feed.each(order(), 2)]
    for step, (indices, fed) in enumerate(zip(order(), kept, strict=True)):
        np.testing.assert_array_equal(values(fed)[0], values(feed.batch(indices, 2, step))[0])


def test_a_batch_is_bound_as_it_is_as_the_input_of_another_graph() -> None:
    raw = images()
    scaling = as_input(raw, "NHWC")
    builder, port = Builder(), Port("x", "float32", scaling.shape)
    builder.add("Relu", "x", outputs=["y"])
    model = builder.model("positive", [port], [Port("y", "float32", scaling.shape)])
    following = session(to_proto(model).SerializeToString(), "cpu", 1)
    binding, indices = following.io_binding(), np.arange(9)
    binding.bind_ortvalue_input("x", Feed((raw,), (scaling,)).plain(indices)[0])
    binding.bind_output("y", "cpu")
    run(following, binding)
    np.testing.assert_array_equal(binding.get_outputs()[0].numpy(), np.maximum(apply(scaling, raw[indices]), 0))


@pytest.mark.gpu
@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_batches_on_a_gpu_are_those_on_the_cpu_and_stay_there(limit: int) -> None:
    try:
        require_device("cuda")
    except MnxError as error:
        pytest.skip(str(error))
    raw = images()
    there, here = (
        Feed((raw,), (as_input(raw, "NHWC"),), ALL, device, seed=4, resident_bytes=limit) for device in ("cuda", "cpu")
    )
    for (_, fed), (_, wanted) in zip(there.each(order(), 1), here.each(order(), 1), strict=True):
        assert fed[0].device_name() == "cuda"
        assert difference(values(wanted)[0], values(fed)[0], 1e-6).passed


def test_no_thread_is_left_behind(tmp_path: Path) -> None:
    feed = Feed((images(),), (as_input(images(), "NHWC"),), ALL, resident_bytes=0)
    before = active_count()
    for taken in (1, 3, 9):
        batches = feed.each(order(), 0)
        for _ in range(taken):
            next(batches)
        del batches
        assert active_count() == before
    with feed, pytest.raises(ValueError, match="the feed was closed before its last batch"):
        for _ in feed.each(order()):
            assert active_count() == before + 1
            feed.close()
            assert active_count() == before


def test_what_reading_raises_comes_where_its_batch_would() -> None:
    feed = Feed((images(),), (as_input(images(), "NHWC"),), resident_bytes=0)
    before, taken = active_count(), 0
    with pytest.raises(IndexError, match="reach from 50 to 50; there are 40 examples"):
        for _ in feed.each([*order(), np.array([50]), *order()]):
            taken += 1
    assert (taken, active_count()) == (9, before)


def test_reading_goes_no_further_ahead_than_told() -> None:
    asked: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(10):
            asked.append(number)
            yield number

    got = read_ahead(lambda number: number * number, numbers(), AHEAD)
    assert next(got) == 0
    assert asked == list(range(AHEAD + 1))
    assert list(got) == [number * number for number in range(1, 10)]
    assert list(read_ahead(abs, [], AHEAD)) == []


def test_plain_is_the_default() -> None:
    assert Augmentation() == PLAIN
    assert not PLAIN.of_images
