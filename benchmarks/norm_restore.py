"""Members whose BatchNormalization was folded away: trained as they came, and with it put back.

    python benchmarks/norm_restore.py --data fashion=FASHION.npz cifar=CIFAR.npz [--seeds 3] [--out FILE.md]

Every network is drawn afresh and trained from scratch twice with the recipe of independent members, once as it came and
once restored, on the same batches; test accuracy is that of the folded network. What was trained stands in a file of
JSON lines, and is not trained again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from mnx.data import dataset
from mnx.data.dataset import Dataset
from mnx.errors import MnxError
from mnx.events import Events
from mnx.graphs.interface import interface
from mnx.graphs.model import Model, Shape
from mnx.graphs.mothers.carve import drawn
from mnx.graphs.norms.places import places
from mnx.graphs.norms.restore import RESTORED, alike, folded, restored
from mnx.graphs.probes import batches_of, probes
from mnx.graphs.run import run
from mnx.graphs.trees.describe import describe
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import parse_blocks, vgg
from mnx.session import job_seed
from mnx.train.engines import engine
from mnx.train.loop import train
from mnx.train.network import Job
from mnx.train.recipe import Recipe

SHAPES: Mapping[str, Shape] = {"fashion": (1, 28, 28), "cifar": (3, 32, 32)}
VGG: Mapping[str, str] = {
    "VGG 3": "(3:8)   | (3:16)   | (3:32)",
    "VGG 4": "(3:8)   | (3:16)x2 | (3:32)",
    "VGG 5": "(3:8)   | (3:16)x2 | (3:32)x2",
    "VGG 6": "(3:8)   | (3:16)x2 | (3:32)x3",
    "VGG 8": "(3:8)x2 | (3:16)x3 | (3:32)x3",
    "VGG 11": "(3:8)x2 | (3:16)x4 | (3:32)x5",
}
MLP: Mapping[str, int] = {"MLP 2": 2, "MLP 4": 4, "MLP 6": 6, "MLP 8": 8}
RESNET: Mapping[str, tuple[int, ...]] = {"ResNet 8": (1, 1, 1), "ResNet 14": (2, 2, 2)}
FORMS = ("as it came", "restored")


@dataclass(frozen=True)
class Result:
    """One training. `layers` is how many layers have a place for normalisation; accuracies are in per cent."""

    data: str
    network: str
    layers: int
    form: str
    seed: int
    lr: float
    epochs: int
    test: float
    train: float
    seconds: float
    folding: float


def network(name: str, shape: Shape) -> Model:
    """A network without any normalisation."""
    if name in MLP:
        return mlp(name, shape, (64,) * MLP[name], 10)
    if name in VGG:
        return vgg(name, parse_blocks(VGG[name]), 10, shape, ())
    model = resnet(name, RESNET[name], 8, 10, shape)
    norms = {node.name: "" for node in model.nodes if node.op == "BatchNormalization"}
    return folded(model.replace(metadata={RESTORED: json.dumps(norms)}))


def trained(name: str, form: str, seed: int, data: Dataset, recipe: Recipe, label: str) -> Result:
    """Train one network in one form."""
    came = network(name, SHAPES[label])
    layers = len(places(came, describe(came)).layers)
    model = restored(came) if form == "restored" else came
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        job = Job("independent", name, drawn(model, describe(model), seed), Path(folder), job_seed(seed, form, name))
        job = replace(job, seed=job_seed(seed, "independent", name))
        try:
            found = train(job, data, recipe, partial(engine, "ort", "cpu", 1), Events())
        except MnxError as error:
            print(f"{label} {name} {form} {seed}: {error}")
            return Result(label, name, layers, form, seed, recipe.lr, 0, 10.0, 10.0, time.process_time() - start, 0.0)
    seconds, network_, far = time.process_time() - start, found.model, 0.0
    if form == "restored":
        network_ = folded(found.model)
        inputs = {**batches_of(probes(found.model, seed)), "training": data.train.x(np.arange(256))}
        far = max(check.difference.relative for check in alike(found.model, network_, inputs).checks)
    right = [
        next(iter(run(network_, data.test.x(part)).values())).argmax(axis=1) == data.test.y[part]
        for part in np.array_split(np.arange(len(data.test)), 12)
    ]
    test, last = 100 * float(np.concatenate(right).mean()), found.epochs[-1]
    return Result(
        label, name, layers, form, seed, recipe.lr, len(found.epochs), test, 100 * last.train_score, seconds, far
    )


def table(results: list[Result]) -> list[str]:
    """A row for each network: mean and standard deviation over seeds, and the paired difference."""
    lines = [
        "| data | network | layers | lr | n | as it came | restored | difference | seconds | largest folding |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    keys = dict.fromkeys((each.data, each.network, each.layers, each.lr) for each in results)
    for data, name, layers, lr in sorted(keys, key=lambda key: (key[0], key[1].split()[0], key[2], key[3])):
        rows = [each for each in results if (each.data, each.network, each.lr) == (data, name, lr)]
        forms = [{row.seed: row for row in rows if row.form == form} for form in FORMS]
        seeds = sorted(forms[0].keys() & forms[1].keys())
        if not seeds:
            continue
        tests = [np.array([form[seed].test for seed in seeds]) for form in forms]
        cells = [_spread(values) for values in (*tests, tests[1] - tests[0])]
        spent = ", ".join(f"{np.mean([form[seed].seconds for seed in seeds]):.0f}" for form in forms)
        far = max(form.folding for form in forms[1].values())
        lines.append(
            f"| {data} | {name} | {layers} | {lr} | {len(seeds)} | {' | '.join(cells)} | {spent} | {far:.1e} |"
        )
    return lines


def _spread(values: np.ndarray) -> str:
    deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{np.mean(values):.1f} ± {deviation:.1f}"


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=[], help="fashion=FILE.npz cifar=FILE.npz")
    parser.add_argument("--networks", nargs="+", default=[*VGG, *MLP, *RESNET])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--lr", type=float, default=Recipe().lr)
    parser.add_argument("--examples", type=int, default=3000)
    parser.add_argument("--results", type=Path, default=Path("norm-restore.jsonl"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    lines = given.results.read_text().splitlines() if given.results.exists() else []
    results = [Result(**json.loads(line)) for line in lines]
    recipe = replace(Recipe(), epochs=given.epochs, lr=given.lr).of("independent")
    for label, _, path in (text.partition("=") for text in given.data):
        for seed in range(given.seeds):
            data = dataset.load(path, interface([network("VGG 3", SHAPES[label])]), seed, train_limit=given.examples)
            for name in given.networks:
                for form in FORMS:
                    key = (label, name, form, seed, given.lr)
                    if key in {(row.data, row.network, row.form, row.seed, row.lr) for row in results}:
                        continue
                    results.append(trained(name, form, seed, data, recipe, label))
                    with given.results.open("a") as file:
                        file.write(json.dumps(asdict(results[-1])) + "\n")
                    print(results[-1], flush=True)
    text = "\n".join(table(results))
    print(text)
    if given.out is not None:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
