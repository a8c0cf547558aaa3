"""What a batch costs: made on the device by the feed's graph, against numpy, and beside a training step.

    python benchmarks/feeding.py [--examples 50000] [--batch 128] [--rounds 200] [--steps 12]
                                 [--out benchmarks/results/feeding.md]

Random uint8 images of CIFAR-10's shape. In every round all ways make the batch of the same indices, in an order that
moves on by one every round; a ratio is the median of the rounds' own. Then steps of ResNet-20 are done, each on a batch
that came resident, and on one that came from a memory-mapped file, read ahead and not.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from planning import commit, table

from mnx.data.dataset import Part
from mnx.data.layout import AS_IS, TO_FIRST, Arrangement
from mnx.data.scaling import apply, fitted
from mnx.graphs.model import Array
from mnx.graphs.zoo.resnet import resnet
from mnx.train.augment import CROP, MIRROR, PLAIN, Augmentation, draws
from mnx.train.feed import Feed
from mnx.train.ort import Engine
from mnx.train.settings import StepSettings

SIDE, CHANNELS, CLASSES, SEED = 32, 3, 10, 0
MOVED = Augmentation(crop=4, mirror="alternating")
EVERYTHING = Augmentation(crop=4, mirror="alternating", cutout=8, mixup=0.2)
REFERENCE = "numpy: Part.x"
WARM = 5
"""So many rounds before the first that counts."""

USUAL = {"examples": 50_000, "batch": 128, "rounds": 200, "steps": 12}

Way = Callable[[Array, int], object]
"""(indices, step) -> a batch."""


def parts(examples: int) -> tuple[Part, Part]:
    """The same images with their channels last and first."""
    raw = np.random.default_rng(SEED).integers(0, 256, (examples, SIDE, SIDE, CHANNELS), np.uint8)
    first = np.ascontiguousarray(raw.transpose(0, 3, 1, 2))
    y = np.arange(examples) % CLASSES
    shape = (CHANNELS, SIDE, SIDE)
    as_last, as_first = (
        Part((x,), (fitted(x, Arrangement(order, 0), shape, 255),), y) for x, order in ((raw, TO_FIRST), (first, AS_IS))
    )
    return as_last, as_first


def by_numpy(part: Part, indices: Array) -> Array:
    """Crop with reflection and alternating mirror, picked pixel by pixel and scaled."""
    drawn, places = draws(MOVED, (SIDE, SIDE), SEED, 0, indices), np.arange(SIDE)
    down, right = drawn[CROP].T
    columns = np.where(drawn[MIRROR][:, None], places[::-1], places) + right[:, None]
    rows, columns = (SIDE - 1 - abs(SIDE - 1 - abs(each)) for each in (places + down[:, None], columns))
    return apply(part.scalings[0], part.raw[0][indices[:, None, None], rows[:, :, None], columns[:, None, :]])


def ways(last: Part, first: Part, mapped: Array) -> dict[str, Way]:
    """All that is compared, by name."""
    feeds = {
        "feed": Feed(last.raw, last.scalings, PLAIN, seed=SEED),
        "feed: crop, mirror": Feed(last.raw, last.scalings, MOVED, seed=SEED),
        "feed: crop, mirror, cutout, mixup": Feed(last.raw, last.scalings, EVERYTHING, seed=SEED),
        "feed, channels first": Feed(first.raw, first.scalings, PLAIN, seed=SEED),
        "feed, channels first: crop, mirror": Feed(first.raw, first.scalings, MOVED, seed=SEED),
        "feed, from a file: crop, mirror": Feed((mapped,), last.scalings, MOVED, seed=SEED, resident_bytes=0),
    }
    made: dict[str, Way] = {
        REFERENCE: lambda indices, step: last.x(indices),
        "numpy: crop, mirror": lambda indices, step: by_numpy(last, indices),
    }
    return made | {name: _of(feed) for name, feed in feeds.items()}


def _of(feed: Feed) -> Way:
    return lambda indices, step: feed.batch(indices, 0, step)


def in_turn(compared: Mapping[str, Way], order: Sequence[Array]) -> dict[str, list[float]]:
    """Seconds of the processor of every way in every round; all work is done by the thread that asks."""
    seconds: dict[str, list[float]] = {name: [] for name in compared}
    names = list(compared)
    for step, indices in enumerate(order):
        for place in range(len(names)):
            name = names[(place + step) % len(names)]
            started = time.thread_time()
            compared[name](indices, step)
            seconds[name].append(time.thread_time() - started)
    return {name: each[WARM:] for name, each in seconds.items()}


def beside_steps(last: Part, mapped: Array, order: Sequence[Array]) -> tuple[float, dict[str, list[float]]]:
    """The processor's seconds for a step of ResNet-20, the median, and those waited for its batch by how it comes."""
    engine = Engine(resnet("ResNet-20"), StepSettings(), threads=1)
    resident = Feed(last.raw, last.scalings, MOVED, seed=SEED)
    file = Feed((mapped,), last.scalings, MOVED, seed=SEED, resident_bytes=0)
    came: dict[str, Iterator[object]] = {
        "resident": resident.each(order, 0),
        "from a file": (file.batch(indices, 0, step) for step, indices in enumerate(order)),
        "from a file, read ahead": file.each(order, 0),
    }
    steps: list[float] = []
    waited: dict[str, list[float]] = {name: [] for name in came}
    for indices in order:
        for name, batches in came.items():
            started = time.perf_counter()
            next(batches)
            waited[name].append(time.perf_counter() - started)
            x, y = last.x(indices), last.y[indices]
            started = time.thread_time()
            engine.step(x, y, 0.01)
            steps.append(time.thread_time() - started)
    return statistics.median(steps), {name: each[1:] for name, each in waited.items()}


def page(options: argparse.Namespace, folder: Path) -> str:
    """Measure, and tell it in markdown."""
    last, first = parts(options.examples)
    np.save(folder / "raw.npy", last.raw[0])
    mapped = np.load(folder / "raw.npy", mmap_mode="r")
    generator = np.random.default_rng(SEED)
    rounds = [generator.integers(0, options.examples, options.batch) for _ in range(options.rounds + WARM)]
    seconds = in_turn(ways(last, first, mapped), rounds)
    step, waited = beside_steps(last, mapped, rounds[: options.steps])
    rows = [
        [
            name,
            f"{1e3 * statistics.median(each):.2f}",
            f"{_ratio(each, seconds[REFERENCE]):.2f}",
            f"{_ratio(each, seconds['numpy: crop, mirror']):.2f}",
            f"{100 * statistics.median(each) / step:.2f}",
        ]
        for name, each in seconds.items()
    ]
    given = "".join(
        f" --{name} {value}" for name, value in vars(options).items() if name != "out" and value != USUAL[name]
    )
    waits = [[name, f"{1e3 * statistics.median(each):.2f}", f"{1e3 * max(each):.2f}"] for name, each in waited.items()]
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "onnx", "onnxruntime-training-cpu"))
    return (
        f"# Feeding\n\n    python benchmarks/feeding.py{given}\n\n"
        f"Commit {commit()}, {platform.machine()}, {os.cpu_count()} cores with other work beside, Python "
        f"{platform.python_version()}, {versions}. Feed and step on one thread each, on the CPU.\n\n"
        "## A batch\n\n"
        f"{options.batch} of {options.examples} uint8 images of {SIDE} x {SIDE} x {CHANNELS}, n = {options.rounds} "
        "rounds; ms: of the processor, since others use it too, the median; the ratios: medians of the rounds', to "
        "what numpy takes for the same batch without augmentation and with crop and mirror; share: of a step of "
        f"ResNet-20, {1e3 * step:.0f} ms. crop: 4, reflected; cutout: 8.\n\n"
        + table(["made by", "ms", "to plain numpy", "to numpy with crop, mirror", "% of a step"], rows)
        + "\n\n## The wait before a step\n\n"
        f"Crop and mirror; ResNet-20 does a step after every batch, n = {options.steps - 1}. The file is in the "
        "system's cache: a cold disk is what reading ahead is for.\n\n"
        + table(["the data are", "ms waited", "at most"], waits)
        + "\n"
    )


def _ratio(seconds: Sequence[float], reference: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(seconds, reference, strict=True))


def main() -> None:
    """Read the command line, measure, print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, usual in USUAL.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--out", type=Path, help="write the page as markdown")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = page(options, Path(folder))
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
