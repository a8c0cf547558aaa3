"""The recipes that come with mnx against each other: accuracy and what it costs, one network from scratch.

    python benchmarks/recipes.py --data cifar.npz [--examples 6000] [--seeds 0 1 2] [--recipes fast paper default]
                                 [--epochs N ...] [--apart [WHAT ...]] [--out benchmarks/results/recipes.md]

A network of VGG's kind with BatchNormalization (V16B of benchmarks/ablation.py) is trained by each recipe's keys for
independent networks. --epochs repeats every recipe with at most so many epochs, to see what it makes of less time.
--apart trains by `fast` with one thing different each, to see what of it helps.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ablation import SNAPSHOT, interface_of, task

from mnx.data.dataset import load
from mnx.graphs.files import write_text
from mnx.graphs.mothers.identity import identity_like
from mnx.metrics import softmax
from mnx.train.engines import engine
from mnx.train.recipe import Recipe
from mnx.train.recipe_files import names, recipe

APART: Mapping[str, Mapping[str, Any]] = {
    "label smoothing": {"label_smoothing": 0.1},
    "no average of weights": {"average": 0.0},
    "no shifts": {"crop": 0},
    "no mirroring": {"mirror": "off"},
    "alternating mirroring": {"mirror": "alternating"},
    "cosine": {"schedule": "cosine", "warmup": 1},
    "half the rate": {"lr": 0.1},
    "no identity": {"identity": False},
    "batch 128, 0.75 of the rate": {"batch": 128, "lr": 0.15},
    "batch 64, half the rate": {"batch": 64, "lr": 0.1},
    "batch 64, a quarter of the rate": {"batch": 64, "lr": 0.05},
}
"""What is different from `fast`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--examples", type=int, default=6000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipes", nargs="*", default=names(), metavar="NAME|FILE.toml")
    parser.add_argument("--epochs", type=int, nargs="+", default=[0], help="0 for the recipe's own")
    parser.add_argument(
        "--apart", nargs="*", choices=list(APART), metavar="WHAT", help="also `fast` with one thing different each"
    )
    parser.add_argument("--out", type=Path, help="write the table as markdown")
    options = parser.parse_args()
    if options.apart == []:
        options.apart = list(APART)
    if options.data is None:
        print("skipped: give --data", file=sys.stderr)
        return
    asked: list[tuple[str, str, Mapping[str, Any]]] = [(name, name, {}) for name in options.recipes]
    asked += [(f"fast, {what}", "fast", APART[what]) for what in options.apart or ()]
    rows = [
        "| recipe | at most epochs | seeds | test accuracy % | epochs | multiply-adds 10^9 | processor s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, source, keys in asked:
        for epochs in options.epochs:
            found = []
            for seed in options.seeds:
                data = load(options.data, interface_of(options.data), seed, train_limit=options.examples)
                given = task(data, seed, 1, "none")
                model = next(each for each in given.members if each.name == SNAPSHOT)
                chosen = replace(recipe(source=source).of("independent"), **keys)
                model = identity_like(model) if chosen.identity else model
                spent = time.process_time()
                trained = given.train(model.name, model, replace(chosen, epochs=epochs) if epochs else chosen)
                spent = time.process_time() - spent
                network = engine("ort", "cpu", 1, trained.model, Recipe().step(), 0)
                right = softmax(network.evaluate(given.data.test.x())).argmax(axis=1) == given.data.test.y
                found.append((100 * right.mean(), len(trained.epochs), given.cost(model.name, trained) / 1e9, spent))
                print(name, epochs, seed, found[-1], file=sys.stderr, flush=True)
            accuracy, taken, cost, seconds = (np.array(column) for column in zip(*found, strict=True))
            spread = f" ± {accuracy.std(ddof=1):.2f}" if len(found) > 1 else ""
            rows.append(
                f"| {name} | {epochs or '-'} | {len(found)} | {accuracy.mean():.2f}{spread} | {taken.mean():.0f} | "
                f"{cost.mean():,.0f} | {seconds.mean():.0f} |"
            )
    text = "\n".join(
        [
            "# Recipes",
            "",
            "    " + " ".join(["python", *sys.argv]),
            "",
            f"{platform.machine()}, Python {platform.python_version()}, one thread; {options.examples} training "
            "examples, a tenth of them for validation.",
            "",
            *rows,
        ]
    )
    print(text)
    if options.out:
        write_text(options.out, text + "\n")


if __name__ == "__main__":
    main()
