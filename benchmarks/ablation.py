"""What makes hatched ensembles good: one choice after the other, error against multiply-adds.

    python benchmarks/ablation.py --data fashion.npz [--examples 6000] [--seeds 0 1 2] [--only WAY ...] [--threads 1]
                                  [--results RESULTS.jsonl] [--out TABLE.md] [--plot PLOT.png]

The data are an .npz with x_train, y_train, x_test, y_test, or anything else that `mnx train` reads. Five networks of
VGG's kind with BatchNormalization (V5 of the paper in small) are trained by every way of `WAYS`, with the product's
own mother, growth, recipes and training loop. Each finished (way, seed) is appended to --results and not done again, so
that a run may be stopped at any time; without --only all ways are done, seed by seed. A way is written

    M:E+what    mothers for M epochs at the full rate, then each member for E, with what is different
    independent:E, alone:E, snapshot:CxE (one network, C cycles of E epochs)

Errors are those of the averaged probabilities on the test part, in percent; multiply-adds are those of all training,
mothers included, a training step being three forward passes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from mnx.cluster import by_count
from mnx.data.dataset import Dataset, load
from mnx.ensemble import ensemble_scores
from mnx.events import Events
from mnx.graphs.files import write_text
from mnx.graphs.growth.growing import Style
from mnx.graphs.growth.hatch import begun, result
from mnx.graphs.growth.moments import moments
from mnx.graphs.growth.perturb import Perturbation, perturbed
from mnx.graphs.interface import Interface, interface
from mnx.graphs.model import Array, Model
from mnx.graphs.mothers.carve import drawn
from mnx.graphs.trees.describe import describe
from mnx.graphs.zoo.vgg import parse_blocks, vgg
from mnx.metrics import softmax
from mnx.session import FORWARD_AND_BACKWARD, job_seed
from mnx.train.engines import engine
from mnx.train.loop import Job, Trained, train
from mnx.train.recipe import Recipe

BLOCKS = {
    "V13": "(3:8)x2 | (3:16)x2 | (3:32)x2",
    "V16": "(3:8)x2 | (3:16)x2 | (3:32)x2 (1:32)",
    "V16A": "(3:12)x2 | (3:16)x2 | (3:24)x2 (1:48)",
    "V16B": "(5:8) (3:8) | (3:16)x2 | (3:32)x3",
    "V19": "(3:8)x2 | (3:16)x2 | (3:32)x4",
}
"""V5 of the paper in small."""
SNAPSHOT = "V16B"
"""The network of the snapshot ensemble: the middle one by multiply-adds."""


@dataclass(frozen=True)
class Way:
    """One way to train an ensemble.

    Attributes:
        method: mothers, independent, alone (the mother only) or snapshot.
        mother: epochs of each mother.
        member: epochs of each member, or of the one network.
        mothers: how many mothers there are, of other seeds; members take turns.
        of_mothers: recipe keys of mothers.
        of_members: recipe keys of members.
        split: how copies of a channel share it.
        fresh: the share of new channels that are fresh.
        perturbation: behind growth.
        snapshots: whether the ends of cycles are members too.
    """

    method: str = "mothers"
    mother: int = 0
    member: int = 0
    mothers: int = 1
    of_mothers: Mapping[str, Any] = field(default_factory=dict)
    of_members: Mapping[str, Any] = field(default_factory=dict)
    split: str = "random"
    fresh: float = 0.0
    perturbation: Perturbation = field(default_factory=Perturbation)
    snapshots: bool = False


BASE = Way(mother=24, member=4)
CYCLES = {"schedule": "cycles", "cycle": 4, "warmup": 0}

WAYS: dict[str, Way] = {
    "independent:6": Way("independent", member=6),
    "independent:12": Way("independent", member=12),
    "independent:20": Way("independent", member=20),
    "alone:20": Way("alone", mother=20),
    "alone:40": Way("alone", mother=40),
    "snapshot:5x4": Way("snapshot", member=20, of_members=CYCLES, snapshots=True),
    "snapshot:5x10": Way("snapshot", member=50, of_members={**CYCLES, "cycle": 10}, snapshots=True),
    "12:4": replace(BASE, mother=12),
    "12:8": replace(BASE, mother=12, member=8),
    "24:4": BASE,
    "24:8": replace(BASE, member=8),
    "40:4": replace(BASE, mother=40),
    "24:4+annealed mother": replace(BASE, of_mothers={"schedule": "cosine"}),
    "24:4+a tenth of the rate": replace(BASE, of_members={"lr": 0.005}),
    "24:4+twice the rate": replace(BASE, of_members={"lr": 0.1}),
    "24:4+plateau": replace(BASE, of_members={"schedule": "plateau", "anneal": 3, "patience": 1}),
    "24:4+linear": replace(BASE, of_members={"schedule": "linear"}),
    "24:4+equal split": replace(BASE, split="equal"),
    "24:4+half fresh": replace(BASE, fresh=0.5),
    "24:4+perturbed": replace(BASE, perturbation=Perturbation(0.8, 0.1)),
    "24:4+upper layers perturbed": replace(BASE, perturbation=Perturbation(0.4, 0.1, layers="upper")),
    "24:4+fresh momentum": replace(BASE, of_members={"carry": False}),
    "24:4+average of weights": replace(BASE, of_members={"average": 0.98}),
    "24:4+label smoothing": replace(BASE, of_mothers={"label_smoothing": 0.1}, of_members={"label_smoothing": 0.1}),
    "12:4+2 mothers": replace(BASE, mother=12, mothers=2),
    "24:4+5 mothers": replace(BASE, mothers=5),
    "24:4+2 cycles, snapshots": replace(BASE, member=8, of_members=CYCLES, snapshots=True),
    "24:4+2 cycles, averaged": replace(BASE, member=8, of_members={**CYCLES, "average_cycles": True}),
}
"""Name -> way; `BASE` with one thing different each."""


@dataclass(frozen=True)
class Task:
    """Members, their mother, data, and what trains."""

    data: Dataset
    members: tuple[Model, ...]
    mother: Model
    costs: Mapping[str, int]
    seed: int
    threads: int

    def recipe(self, epochs: int, keys: Mapping[str, Any]) -> Recipe:
        """Cosine to 0 in so many epochs, where the keys say nothing else."""
        given = {"schedule": "cosine", "epochs": epochs, "stages": {}, **keys}
        return Recipe(**given)

    def train(self, name: str, model: Model, recipe: Recipe, momentum: Mapping[str, Array] | None = None) -> Trained:
        """Train one network."""
        with tempfile.TemporaryDirectory() as folder:
            seed = job_seed(self.seed, "ablation", name)
            job = Job("members", name, model.replace(name=name), Path(folder), seed, 0, momentum or {})
            return train(job, self.data, recipe, partial(engine, "ort", "cpu", self.threads), Events())

    def cost(self, name: str, trained: Trained) -> int:
        """Multiply-adds of a training."""
        return FORWARD_AND_BACKWARD * self.costs[name] * trained.samples


def task(data: Dataset, seed: int, threads: int) -> Task:
    """The members with fresh weights of this seed, and their mother's structure."""
    shape = data.train.scalings[0].shape
    members = tuple(
        vgg(name, parse_blocks(text), data.classes, shape, (64,), batch_norm=True, seed=seed)
        for name, text in BLOCKS.items()
    )
    (cluster,) = by_count([(model, describe(model)) for model in members], 1)
    costs = {each.name: each.cost for each in map(describe, members)}
    mother = drawn(cluster.mother, cluster.structure, seed)
    return Task(data, members, mother, {**costs, "mother": cluster.structure.cost}, seed, threads)


def mothers_of(given: Task) -> Any:
    """What trains mother number k by a recipe; the same is trained once."""

    @cache
    def trained(number: int, epochs: int, keys: str) -> Trained:
        model = given.mother
        if number:
            structure = describe(model)
            model = drawn(model, structure, given.seed + 1000 * number)
        recipe = given.recipe(epochs, {"schedule": "constant", "carry": True, **json.loads(keys)})
        return given.train("mother" if not number else f"mother{number}", model, recipe)

    return trained


def measured(given: Task, way: Way, mothers: Any) -> dict[str, Any]:
    """Train an ensemble in one way; its scores and costs."""
    start, cost = time.perf_counter(), 0
    found: list[Model] = []
    if way.method == "independent":
        for model in given.members:
            fresh = drawn(model, describe(model), given.seed)
            trained = given.train(model.name, fresh, given.recipe(way.member, {"warmup": 1, **way.of_members}))
            cost += given.cost(model.name, trained)
            found.append(trained.model)
    elif way.method == "alone":
        trained = given.train("mother", given.mother, given.recipe(way.mother, way.of_mothers))
        cost += given.cost("mother", trained)
        found.append(trained.model)
    elif way.method == "snapshot":
        model = next(each for each in given.members if each.name == SNAPSHOT)
        fresh = drawn(model, describe(model), given.seed)
        trained = given.train(model.name, fresh, given.recipe(way.member, {**way.of_members, "warmup": 1}))
        cost += given.cost(model.name, trained)
        found += [*map(trained.model.with_weights, trained.snapshots), trained.model]
    else:
        keys = json.dumps(dict(way.of_mothers), sort_keys=True)
        parents = [mothers(number, way.mother, keys) for number in range(way.mothers)]
        cost += sum(given.cost("mother", each) for each in parents)
        calibration = given.data.train.x(np.arange(512))
        for number, member in enumerate(given.members):
            parent = parents[number % way.mothers]
            growing = begun(parent.model, member, calibration, Style(given.seed, way.split, way.fresh))
            grown = perturbed(result(growing)[0], way.perturbation, given.seed)
            recipe = given.recipe(way.member, {"warmup": 0, **way.of_members})
            momentum = moments(growing, parent.momentum) if recipe.carry else {}
            trained = given.train(member.name, grown, recipe, momentum)
            cost += given.cost(member.name, trained)
            found += map(trained.model.with_weights, trained.snapshots if way.snapshots else ())
            found.append(trained.model)
    return {**scored(given, found), "multiply_adds": cost, "seconds": time.perf_counter() - start}


def scored(given: Task, models: Sequence[Model]) -> dict[str, float]:
    """Test scores of an ensemble."""
    x, y = given.data.test.x(), given.data.test.y
    predicted = []
    for model in models:
        network = engine("ort", "cpu", given.threads, model, Recipe().step(), 0)
        predicted.append(softmax(network.evaluate(x)))
    together = ensemble_scores(predicted, y)
    return {
        "error": 100 * (1 - together.averaged.accuracy),
        "nll": together.averaged.nll,
        "ece": together.averaged.ece,
        "member_error": 100 * (1 - together.mean_member),
        "disagreement": 100 * together.disagreement,
        "networks": len(models),
    }


def records(path: Path) -> list[dict[str, Any]]:
    """What is done already; a torn last line is not."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def table(done: Sequence[Mapping[str, Any]]) -> str:
    """Means and standard deviations over seeds, by way, in Markdown."""
    columns = ("error", "member_error", "disagreement", "nll", "ece")
    lines = [
        "| way | seeds | networks | error % | mean member % | disagreement % | NLL | ECE | multiply-adds 10^9 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in WAYS:
        rows = [row for row in done if row["way"] == name]
        if not rows:
            continue
        cells = [name, str(len(rows)), str(rows[0]["networks"])]
        for column in columns:
            values = [row[column] for row in rows]
            digits = 3 if column in ("nll", "ece") else 2
            spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.{digits}f}{spread}")
        cells.append(f"{np.mean([row['multiply_adds'] for row in rows]) / 1e9:,.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(done: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Error against multiply-adds."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(10, 7))
    colours = {"independent": "tab:red", "alone": "tab:gray", "snapshot": "tab:orange", "mothers": "tab:blue"}
    for name, way in WAYS.items():
        rows = [row for row in done if row["way"] == name]
        if rows:
            x = np.mean([row["multiply_adds"] for row in rows]) / 1e9
            y = [row["error"] for row in rows]
            spread = np.std(y, ddof=1) if len(y) > 1 else 0.0
            axes.errorbar(x, np.mean(y), spread, fmt="o", color=colours[way.method], capsize=2)
            axes.annotate(name, (x, np.mean(y)), fontsize=7, xytext=(4, 3), textcoords="offset points")
    axes.set_xlabel("multiply-adds of all training, 10^9")
    axes.set_ylabel("test error of the averaged ensemble, %")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--examples", type=int, default=6000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=list(WAYS), default=list(WAYS), metavar="WAY")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/ablation.jsonl"))
    parser.add_argument("--out", type=Path, help="write the table as markdown")
    parser.add_argument("--plot", type=Path, help="write the plot; needs matplotlib")
    options = parser.parse_args()
    for seed in options.seeds:
        done = {(row["way"], row["seed"]) for row in records(options.results)}
        left = [name for name in options.only if (name, seed) not in done]
        if not left:
            continue
        data = load(options.data, interface_of(options.data), seed, train_limit=options.examples)
        given = task(data, seed, options.threads)
        mothers = mothers_of(given)
        for name in left:
            row = {"way": name, "seed": seed, "examples": options.examples, **measured(given, WAYS[name], mothers)}
            options.results.parent.mkdir(parents=True, exist_ok=True)
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(
                f"{name}, seed {seed}: error {row['error']:.2f} %, {row['seconds']:.0f} s", file=sys.stderr, flush=True
            )
    found = [row for row in records(options.results) if row["seed"] in options.seeds]
    text = f"    {' '.join(['python', *sys.argv])}\n\n{table(found)}\n"
    print(text)
    if options.out:
        write_text(options.out, f"# Ablation of hatched training\n\n{text}")
    if options.plot:
        plot(found, options.plot)


def interface_of(data: str) -> Interface:
    """Ten classes of the images that the data hold."""
    return interface([vgg("images", parse_blocks(BLOCKS["V13"]), 10, shape_of(data), (64,))])


def shape_of(data: str) -> tuple[int, int, int]:
    """Channels first, of an .npz with images; Fashion-MNIST's for anything else."""
    if not data.endswith(".npz"):
        return (1, 28, 28)
    with np.load(data) as arrays:
        _, height, width, *channels = arrays["x_train"].shape
    return (channels[0] if channels else 1, height, width)


if __name__ == "__main__":
    main()
