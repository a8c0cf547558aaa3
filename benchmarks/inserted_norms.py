"""Inserted plain layers with BatchNorm: how far they are from the mother in training mode, and what trains better.

    python benchmarks/inserted_norms.py --data FOLDER_OR_NPZ [--out benchmarks/results/inserted-norms.md] [--jobs 2]

VGG networks on Fashion-MNIST, 4,000 training and 2,000 validation images, all 10,000 test images. One mother a seed,
trained by the default recipe without annealing; members with 1, 2 and 4 layers more, hatched and certified; then every
candidate of insertions.py trains the same hatched member on the same batches: half of the epochs at the full learning
rate, half falling to zero.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from insertions import CANDIDATES, TODAY, Candidate, Network, batch

from mnx.data import dataset
from mnx.data.batches import batches
from mnx.data.dataset import Dataset
from mnx.events import Events
from mnx.graphs.growth.hatch import hatch
from mnx.graphs.interface import Interface
from mnx.graphs.model import Model, Port
from mnx.graphs.run import run
from mnx.graphs.verify import difference
from mnx.graphs.zoo.mlp import mlp
from mnx.graphs.zoo.vgg import parse_blocks, vgg
from mnx.metrics import validation_score
from mnx.session import job_seed
from mnx.train.engines import engine
from mnx.train.loop import train
from mnx.train.network import Job
from mnx.train.recipe import Recipe

NETWORKS: Mapping[str, Mapping[int, str]] = {
    "vgg": {
        0: "(3:8)x2 | (3:16)x2 | (3:32)x2",
        1: "(3:8)x2 | (3:16)x2 | (3:32)x3",
        2: "(3:8)x2 | (3:16)x3 | (3:32)x3",
        4: "(3:8)x2 | (3:16)x4 | (3:32)x4",
    },
    "mlp": {0: "64", 1: "64 64", 2: "64 64 64", 4: "64 64 64 64 64"},
}
"""Family -> how many layers were inserted -> convolutions (one hidden layer of 64 behind them), or hidden layers."""

SHAPE, CLASSES = (1, 28, 28), 10
EXAMPLES, VALIDATION = 6000, 1 / 3
CALIBRATION = 512
BATCH = 128
"""Of training."""
BATCHES = (64, 128, 256)
MARKS = (10, 50)
"""Steps after which the validation loss is taken."""


@dataclass(frozen=True, order=True)
class Task:
    """One training: a candidate's, or the mother's own further one, without candidate and inserted layers."""

    family: str
    mother_epochs: int
    inserted: int
    epochs: int
    candidate: str
    seed: int


@dataclass(frozen=True)
class Result:
    """What a training gave: validation loss at the start and at `MARKS`; accuracies in per cent.

    `folding` is how far the logits of the finished member are from those of the network that was trained.
    """

    task: Task
    start: float
    losses: tuple[float, ...]
    validation: float
    test: float
    folding: float


def network(family: str, inserted: int, seed: int) -> Model:
    text = NETWORKS[family][inserted]
    if family == "mlp":
        return mlp("net", SHAPE, [int(width) for width in text.split()], CLASSES, batch_norm=True, seed=seed)
    return vgg("net", parse_blocks(text), CLASSES, SHAPE, (64,), batch_norm=True, seed=seed)


def inserted_norms(model: Model) -> list[str]:
    """The normalisations that were inserted: those whose shift is their mean, to the bit."""
    norms = [node for node in model.nodes if node.op == "BatchNormalization"]
    return [node.name for node in norms if np.array_equal(model.weights[node.inputs[2]], model.weights[node.inputs[3]])]


def load(spec: str, seed: int) -> Dataset:
    members = Interface((Port("input", "float32", SHAPE),), CLASSES)
    return dataset.load(spec, members, seed, validation=VALIDATION, train_limit=EXAMPLES)


def trained_mother(spec: str, epochs: int, family: str, seed: int) -> Model:
    model = network(family, 0, seed)
    recipe = Recipe(batch=BATCH, epochs=epochs, patience=epochs, anneal=0)
    with tempfile.TemporaryDirectory() as folder:
        job = Job("mothers", "mother", model, Path(folder), seed)
        return train(job, load(spec, seed), recipe, partial(engine, "ort", "cpu", 1), Events()).model


def member_of(mother: Model, family: str, inserted: int, seed: int, data: Dataset, count: int = CALIBRATION) -> Model:
    inputs = {"training": data.train.x(slice(count)), "validation": data.validation.x(slice(CALIBRATION))}
    return hatch(mother, network(family, inserted, seed), inputs, "training", seed).model


def drift(mother: Model, member: Model, data: Dataset, size: int) -> tuple[float, float, float]:
    """Of training batches: the largest difference of logits, how much the loss rises, how much accuracy falls."""
    far, losses, accuracies = [], [], []
    for indices in batches(len(data.train), size, seed=1, epoch=0):
        x, y = data.train.x(indices), data.train.y[indices]
        a, b = (next(iter(run(model, x, batch_statistics=True).values())) for model in (mother, member))
        (before, loss), (after, other) = validation_score("classes", a, y), validation_score("classes", b, y)
        far.append(difference(a, b).largest)
        losses.append(other - loss)
        accuracies.append(100 * (before - after))
    return float(np.mean(far)), float(np.mean(losses)), float(np.mean(accuracies))


def trained(spec: str, mother: Model, task: Task) -> Result:
    torch.set_num_threads(1)
    data, recipe = load(spec, task.seed), Recipe(batch=BATCH)
    candidate = CANDIDATES[task.candidate] if task.candidate else Candidate(batch)
    model = mother
    if task.inserted:
        count = len(data.train) if candidate.all_data else CALIBRATION
        model = member_of(mother, task.family, task.inserted, task.seed, data, count)
    net = Network(model, inserted_norms(model) if task.inserted else (), candidate, recipe, task.seed)
    start, losses, done = validation_score("classes", net.evaluate(data.validation.x()), data.validation.y)[1], [], 0
    order_seed = job_seed(task.seed, "members", "net")
    for epoch in range(task.epochs):
        order = list(batches(len(data.train), recipe.batch, order_seed, epoch))
        for step, indices in enumerate(order):
            epochs = epoch + step / len(order)
            lr = recipe.lr * min(1.0, 2 - 2 * epochs / task.epochs)
            lr *= min(1.0, epochs / candidate.warmup) if candidate.warmup else 1.0
            net.step(data.train.x(indices), data.train.y[indices], lr, epochs)
            done += 1
            if done in MARKS:
                losses.append(validation_score("classes", net.evaluate(data.validation.x()), data.validation.y)[1])
    logits = net.evaluate(data.test.x())
    finished = net.finished(data.train.x(slice(CALIBRATION)))
    own = next(iter(run(finished, data.test.x(slice(1000))).values()))
    validation = validation_score("classes", net.evaluate(data.validation.x()), data.validation.y)[0]
    folding = difference(logits[:1000], own).largest
    return Result(
        task, start, tuple(losses), 100 * validation, 100 * validation_score("classes", logits, data.test.y)[0], folding
    )


def spread(numbers: Sequence[float], digits: int) -> str:
    """Mean and standard deviation."""
    return f"{np.mean(numbers):.{digits}f} ± {np.std(numbers, ddof=1) if len(numbers) > 1 else 0:.{digits}f}"


def drift_rows(spec: str, mothers: Mapping[tuple[str, int], Model]) -> list[str]:
    head = ("family", "inserted", "batch", "largest difference of logits", "loss rises by", "accuracy falls by, points")
    rows = [row(head), row(["---"] * len(head))]
    for family in dict.fromkeys(family for family, _ in mothers):
        for inserted, size in product(list(NETWORKS[family])[1:], BATCHES):
            found = []
            for (_, seed), mother in ((key, mother) for key, mother in mothers.items() if key[0] == family):
                data = load(spec, seed)
                found.append(drift(mother, member_of(mother, family, inserted, seed, data), data, size))
            far, loss, accuracy = zip(*found, strict=True)
            rows.append(row((family, inserted, size, spread(far, 2), spread(loss, 4), spread(accuracy, 2))))
    return rows


def exactness_rows(spec: str, mothers: Mapping[tuple[str, int], Model]) -> list[str]:
    """How far each candidate is from the mother before its first step, on a fresh batch of training examples."""
    families = list(dict.fromkeys(family for family, _ in mothers))
    head = ("candidate", *(f"{family}, {mode}" for family, mode in product(families, ("eval mode", "training mode"))))
    rows = [row(head), row(["---"] * len(head))]
    for name, candidate in CANDIDATES.items():
        cells = [name]
        for family in families:
            mother, data = mothers[family, 0], load(spec, 0)
            x = data.train.x(slice(-BATCH, None))
            count = len(data.train) if candidate.all_data else CALIBRATION
            member = member_of(mother, family, 4, 0, data, count)
            net = Network(member, inserted_norms(member), candidate, Recipe(batch=BATCH), 0)
            for in_batch, logits in ((False, net.evaluate(x)), (True, net.train_logits(x))):
                expected = next(iter(run(mother, x, batch_statistics=in_batch).values()))
                cells.append(f"{difference(expected, logits).largest:.1e}")
        rows.append(row(cells))
    return rows


def training_rows(results: Sequence[Result]) -> list[str]:
    head = ["family", "mother's epochs", "inserted", "epochs", "candidate", *(f"loss at {mark}" for mark in MARKS)]
    head += ["validation error", "test error", "test error against today", "n"]
    rows = [row(head), row(["---"] * len(head))]
    today = {replace(r.task, candidate=""): r.test for r in results if r.task.candidate == TODAY}
    for key in dict.fromkeys(replace(result.task, seed=0) for result in results):
        found = [result for result in results if replace(result.task, seed=0) == key]
        against = [today[at] - r.test for r in found if (at := replace(r.task, candidate="")) in today]
        cells = [key.family, key.mother_epochs, key.inserted, key.epochs, key.candidate or "the mother, trained on"]
        marks = zip(*(result.losses for result in found), strict=True)
        cells += [spread(losses, 3) for losses in marks] + [""] * (len(MARKS) - len(found[0].losses))
        cells += [spread([100 - r.validation for r in found], 2), spread([100 - r.test for r in found], 2)]
        rows.append(row([*cells, spread(against, 2) if against else "", len(found)]))
    return rows


def row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def kept(path: Path) -> list[Result]:
    """Results of earlier calls, one JSON document a line."""
    documents = map(json.loads, path.read_text().splitlines()) if path.is_file() else ()
    return [Result(Task(**d.pop("task")), losses=tuple(d.pop("losses")), **d) for d in documents]


def planned(options: argparse.Namespace) -> list[Task]:
    """The mother's own further training first, then every candidate's."""
    trainings = [(0, "", epochs) for epochs in options.epochs]
    trainings += [(i, c, e) for i, c, e in product(options.inserted, options.candidates, options.epochs)]
    return [
        Task(family, options.mother_epochs, inserted, epochs, candidate, seed)
        for family, (inserted, candidate, epochs), seed in product(options.families, trainings, range(options.seeds))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="Fashion-MNIST: a folder of IDX files, or an .npz")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/inserted-norms.md"))
    parser.add_argument(
        "--results", type=Path, default=Path("inserted-norms.jsonl"), help="what is there is not redone"
    )
    parser.add_argument("--families", nargs="+", default=list(NETWORKS))
    parser.add_argument("--mother-epochs", type=int, default=12)
    parser.add_argument("--inserted", type=int, nargs="+", default=[4])
    parser.add_argument("--epochs", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--candidates", nargs="+", default=list(CANDIDATES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    if options.data is None:
        print("skipped: give --data, the folder of Fashion-MNIST's files or an .npz", file=sys.stderr)
        return
    keys = list(product(options.families, range(options.seeds)))
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        learn = partial(trained_mother, options.data, options.mother_epochs)
        mothers = dict(zip(keys, pool.map(learn, *zip(*keys, strict=True)), strict=True))
        done = {result.task for result in kept(options.results)}
        tasks = [task for task in planned(options) if task not in done]
        of = [mothers[task.family, task.seed] for task in tasks]
        for result in pool.map(partial(trained, options.data), of, tasks):
            print(result, file=sys.stderr, flush=True)
            with options.results.open("a") as file:
                file.write(json.dumps(asdict(result)) + "\n")
    results = sorted(kept(options.results), key=lambda result: result.task)
    report = [
        "# Inserted plain layers with BatchNorm",
        f"    {' '.join(['python benchmarks/inserted_norms.py', *sys.argv[1:]])}",
        "## Drift in training mode",
        "\n".join(drift_rows(options.data, mothers)),
        f"Largest difference before the first step, 4 layers inserted, one fresh batch of {BATCH}, seed 0:",
        "\n".join(exactness_rows(options.data, mothers)),
        "## Training",
        "\n".join(training_rows(results)),
        f"Folding or releasing changes no test logit by more than {max(r.folding for r in results):.1e}.",
    ]
    options.out.write_text("\n\n".join(report) + "\n")


if __name__ == "__main__":
    main()
