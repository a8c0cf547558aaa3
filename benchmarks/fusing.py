"""What a step costs where several networks share a batch, beside each on batches of its own.

    python benchmarks/fusing.py [--pairs 9] [--networks 2 5 10] [--batch 32 128] [--only tiny MLP VGG-BN]
                                [--out benchmarks/results/fusing.md]

Three ways to train k networks, all on one thread: apart, a burst of steps of one after that of the other, each with a
feed of its own, as runs train without --fuse; one feed, whose batch k sessions take one after the other; fused, one
feed and one session for all, as with --fuse k. A step counts with its batch. The three take turns, in an order that
moves on; ratios are medians of the rounds' own, the time apart over the time in question: more is better for sharing.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from planning import commit, table

from mnx.data.layout import AS_IS, Arrangement
from mnx.data.scaling import fitted
from mnx.graphs.files import write_text
from mnx.graphs.model import Array, Model, Shape
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.vgg import parse_blocks, vgg
from mnx.train.augment import PLAIN, Augmentation
from mnx.train.feed import Feed
from mnx.train.ort import Engine
from mnx.train.settings import StepSettings

SETTINGS = StepSettings(momentum=0.9, nesterov=True, weight_decay=5e-4, clip_norm=1.0)
LR, EXAMPLES, CLASSES = 0.01, 8000, 10
BURST_SECONDS = 0.04
"""Of the processor, for each network and way in a round."""

DIGITS, FASHION = (1, 8, 8), (1, 28, 28)
NETWORKS: dict[str, tuple[str, Shape, Callable[[str], Model]]] = {
    "tiny": ("MLP 64-32-10", DIGITS, lambda name: mlp(name, DIGITS, (32,), CLASSES)),
    "MLP": ("MLP 784-256-256-10", FASHION, lambda name: mlp(name, FASHION, (256, 256), CLASSES)),
    "VGG-BN": (
        "VGG-BN 8,8 16,16 32,32",
        FASHION,
        lambda name: vgg(name, parse_blocks("(3:8)x2 | (3:16)x2 | (3:32)x2"), CLASSES, FASHION, (), batch_norm=True),
    ),
}
AUGMENTATIONS = {"none": PLAIN, "crop, mirror": Augmentation(crop=2, mirror="alternating")}

Way = Callable[[int], None]
"""Trains every network for so many steps."""


def ways(network: str, count: int, batch: int, augmentation: Augmentation) -> dict[str, Way]:
    """All that is compared, by name, each with networks of its own."""
    _, shape, make = NETWORKS[network]
    random = np.random.default_rng(0)
    raw, y = random.integers(0, 256, (EXAMPLES, *shape), np.uint8), random.integers(0, CLASSES, EXAMPLES)
    scalings = (fitted(raw, Arrangement(AS_IS, 0), shape, 255),)
    order = random.permutation(EXAMPLES)

    def engines() -> list[Engine]:
        return [Engine(make(f"network{place}"), SETTINGS, threads=1, seed=place) for place in range(count)]

    def indices(step: int) -> Array:
        start = step * batch % (EXAMPLES - batch)
        return order[start : start + batch]

    feeds = [Feed((raw,), scalings, augmentation, seed=seed) for seed in range(count)]
    alone, sharing, fused = engines(), engines(), engines()
    together = fused[0].together(fused[1:])

    def apart(steps: int) -> None:
        for engine, feed in zip(alone, feeds, strict=True):
            for step in range(steps):
                chosen = indices(step)
                engine.step(feed.batch(chosen, 0, step), y[chosen], LR)

    def one_feed(steps: int) -> None:
        for step in range(steps):
            chosen = indices(step)
            x = feeds[0].batch(chosen, 0, step)
            for engine in sharing:
                engine.step(x, y[chosen], LR)

    def one_session(steps: int) -> None:
        for step in range(steps):
            chosen = indices(step)
            together.step(feeds[0].batch(chosen, 0, step), y[chosen], [LR] * count)

    return {"apart": apart, "one feed": one_feed, "fused": one_session}


def seconds_of(way: Way, steps: int) -> float:
    """The processor's; all work is done by the thread that asks."""
    start = time.thread_time()
    way(steps)
    return time.thread_time() - start


def compared(network: str, count: int, batch: int, augmentation: str, pairs: int) -> list[str]:
    """A row of the table."""
    made = ways(network, count, batch, AUGMENTATIONS[augmentation])
    for way in made.values():
        way(2)
    steps = max(2, round(BURST_SECONDS * count / (seconds_of(made["apart"], 2) / 2)))
    taken: dict[str, list[float]] = {name: [] for name in made}
    names = list(made)
    for pair in range(pairs):
        for place in range(len(names)):
            name = names[(place + pair) % len(names)]
            taken[name].append(seconds_of(made[name], steps) / steps / count)
    ratios = {
        name: [apart / each for apart, each in zip(taken["apart"], taken[name], strict=True)] for name in names[1:]
    }
    low, middle, high = statistics.quantiles(ratios["fused"], n=4)
    return [
        NETWORKS[network][0],
        str(batch),
        augmentation,
        str(count),
        *(f"{1e3 * statistics.median(each):.3g}" for each in taken.values()),
        f"{statistics.median(ratios['one feed']):.2f}",
        f"**{middle:.2f}**",
        f"{low:.2f} to {high:.2f}",
    ]


def page(rows: Sequence[Sequence[str]], pairs: int) -> str:
    """The table in markdown."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "onnx", "onnxruntime-training-cpu"))
    columns = [
        "network",
        "batch",
        "augmentation",
        "k",
        "apart, ms",
        "one feed, ms",
        "fused, ms",
        "one feed: ratio",
        "fused: ratio",
        "middle half",
    ]
    return (
        f"# Networks that share a batch\n\n    {' '.join(['python', *sys.argv])}\n\n"
        f"Commit {commit()}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"{versions}. One thread; milliseconds of the processor for a step of one network with its share of the batch, "
        f"medians of n = {pairs} rounds; ratio: the time apart over that time, medians of the rounds' own. SGD with "
        "momentum, decay and clipping.\n\n" + table(columns, rows) + "\n"
    )


def main() -> None:
    """Read the command line, measure, print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--networks", type=int, nargs="+", default=[2, 5, 10])
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--only", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--out", type=Path, help="write the page as markdown")
    options = parser.parse_args()
    rows = []
    for network in options.only:
        for batch in options.batch:
            for augmentation in AUGMENTATIONS:
                for count in options.networks:
                    rows.append(compared(network, count, batch, augmentation, options.pairs))
                    print(" | ".join(rows[-1]), flush=True)
    text = page(rows, options.pairs)
    print(text)
    if options.out:
        write_text(options.out, text)


if __name__ == "__main__":
    main()
