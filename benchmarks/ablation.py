"""What makes hatched ensembles good: one choice after the other, error against multiply-adds.

    python benchmarks/ablation.py --data fashion.npz [--augment none|shift|usual] [--seeds 0 1 2] [--only WAY ...]
                                  [--examples 6000] [--threads 1] [--results RESULTS.jsonl]
    python benchmarks/ablation.py --results RESULTS.jsonl --out TABLE.md --plot PLOT.png

The data are an .npz with x_train, y_train, x_test, y_test, or anything else that `mnx train` reads. Five networks of
VGG's kind with BatchNormalization (V5 of the paper in small) are trained by every way of `WAYS`, with the product's
own mother, growth, recipes and training loop. Each finished (data, augmentation, way, seed) is appended to --results,
and not done again, so that a run may be stopped at any time; without --only all ways are done, seed by seed. Without
--data nothing is trained. A way is written

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
from mnx.graphs.growth.perturb import Perturbation, perturbed
from mnx.graphs.interface import Interface, interface
from mnx.graphs.model import Array, Model
from mnx.graphs.mothers.carve import drawn
from mnx.graphs.mothers.identity import identity_like
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.structure import Structure
from mnx.graphs.zoo.vgg import parse_blocks, vgg
from mnx.metrics import softmax
from mnx.session import FORWARD_AND_BACKWARD, job_seed
from mnx.train.engines import engine
from mnx.train.loop import Trained, train
from mnx.train.network import Job
from mnx.train.optimiser_state import grown
from mnx.train.recipe import Recipe
from mnx.train.recipe_files import recipe

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
        mothers: how many mothers there are, of one structure and other seeds; members take turns.
        clusters: in how many clusters, of members alike in size, they are divided, with a mother each.
        of_mothers: recipe keys of mothers.
        of_members: recipe keys of members.
        of_each: recipe keys that members take turns by.
        split: how copies of a channel share it.
        fresh: the share of new channels that are fresh.
        perturbation: behind growth.
        snapshots: of hatched members, whether the ends of their cycles are members too.
        identity: whether convolutions of networks with fresh weights hand their input on.
    """

    method: str = "mothers"
    mother: int = 0
    member: int = 0
    mothers: int = 1
    clusters: int = 1
    of_mothers: Mapping[str, Any] = field(default_factory=dict)
    of_members: Mapping[str, Any] = field(default_factory=dict)
    of_each: Sequence[Mapping[str, Any]] = ({},)
    split: str = "random"
    fresh: float = 0.0
    perturbation: Perturbation = field(default_factory=Perturbation)
    snapshots: bool = False
    identity: bool = False


BASE = Way(mother=24, member=4)
OWN: Sequence[Mapping[str, Any]] = (
    {},
    {"crop": 2},
    {"mirror": "alternating"},
    {"crop": 2, "mirror": "random"},
    {"cutout": 8},
)
"""Augmentation that differs from member to member."""
AUGMENTATION: Mapping[str, Mapping[str, Any]] = {
    "none": {"crop": 0},
    "shift": {"crop": 2},
    "usual": {"crop": 2, "mirror": "random"},
}
"""What --augment does to the images of every network."""
ANEW = Perturbation(0.0, 1.0, layers="upper")
CYCLES = {"schedule": "cycles", "cycle": 4, "warmup": 0}

PLATEAU = {"schedule": "plateau"}
PATIENT = {**PLATEAU, "patience": 8, "anneal": 0}
UNTIL_FLAT = Way(
    mother=60,
    member=60,
    of_mothers={**PLATEAU, "patience": 4, "anneal": 0},
    of_members={**PLATEAU, "grace": 0},
)
"""Epochs by the stopping rule, 60 at most."""

THRICE = {**UNTIL_FLAT.of_members, "lr": 0.15}

SMALLER: Mapping[str, Way] = {
    "independent:12+identity": Way("independent", member=12),
    "12:4+2 mothers, identity": replace(BASE, mother=12, mothers=2),
    "16:5+2 mothers, identity": replace(BASE, mother=16, member=5, mothers=2),
    "independent:plateau+identity": Way("independent", member=60, of_members=PLATEAU),
    "plateau:plateau+2 mothers, patience 8, identity": replace(UNTIL_FLAT, of_mothers=PATIENT, mothers=2),
    "plateau:plateau+2 mothers, identity": replace(UNTIL_FLAT, mothers=2),
}
"""What is trained on smaller batches than the 128 of all others."""


def of_batch(way: Way, size: int, **keys: Any) -> Way:
    """A way with batches of this size, and first weights that hand their input on."""
    keys = {"batch": size, **keys}
    return replace(way, identity=True, of_mothers={**way.of_mothers, **keys}, of_members={**way.of_members, **keys})


def keys_of(name: str, stage: str) -> dict[str, Any]:
    """What a recipe that comes with mnx says of a stage, but for the defaults that no way has: augmentation, batch."""
    found = vars(recipe(source=name).of(stage))
    shown = {"lr", "batch", "epochs", "schedule", "warmup", "crop", "mirror"}
    return {key: value for key, value in found.items() if key in shown or value != getattr(Recipe(), key)}


WAYS: dict[str, Way] = {
    "independent:6": Way("independent", member=6),
    "independent:12": Way("independent", member=12),
    "independent:20": Way("independent", member=20),
    "independent:30": Way("independent", member=30),
    "alone:20": Way("alone", mother=20),
    "alone:40": Way("alone", mother=40),
    "snapshot:5x4": Way("snapshot", member=20, of_members=CYCLES),
    "snapshot:5x10": Way("snapshot", member=50, of_members={**CYCLES, "cycle": 10}),
    "12:4": replace(BASE, mother=12),
    "12:2": replace(BASE, mother=12, member=2),
    "24:2": replace(BASE, member=2),
    "12:8": replace(BASE, mother=12, member=8),
    "24:4": BASE,
    "24:8": replace(BASE, member=8),
    "40:4": replace(BASE, mother=40),
    "24:4+annealed mother": replace(BASE, of_mothers={"schedule": "cosine"}),
    "24:4+a tenth of the rate": replace(BASE, of_members={"lr": 0.005}),
    "24:4+twice the rate": replace(BASE, of_members={"lr": 0.1}),
    "24:4+thrice the rate": replace(BASE, of_members={"lr": 0.15}),
    "24:8+thrice the rate": replace(BASE, member=8, of_members={"lr": 0.15}),
    "24:4+plateau": replace(BASE, of_members={"schedule": "plateau", "anneal": 3, "patience": 1}),
    "24:4+linear": replace(BASE, of_members={"schedule": "linear"}),
    "24:4+equal split": replace(BASE, split="equal"),
    "24:4+half fresh": replace(BASE, fresh=0.5),
    "24:4+perturbed": replace(BASE, perturbation=Perturbation(0.8, 0.1)),
    "24:4+upper layers perturbed": replace(BASE, perturbation=Perturbation(0.4, 0.1, layers="upper")),
    "24:4+all perturbed": replace(BASE, perturbation=Perturbation(0.4, 0.1)),
    "24:4+upper layers drawn anew": replace(BASE, perturbation=ANEW),
    "24:8+upper layers drawn anew": replace(BASE, member=8, perturbation=ANEW),
    "24:4+fresh momentum": replace(BASE, of_members={"carry": False}),
    "24:4+average of weights": replace(BASE, of_members={"average": 0.98}),
    "24:4+label smoothing": replace(BASE, of_mothers={"label_smoothing": 0.1}, of_members={"label_smoothing": 0.1}),
    "12:4+2 mothers": replace(BASE, mother=12, mothers=2),
    "24:4+5 mothers": replace(BASE, mothers=5),
    "24:4+own augmentation": replace(BASE, of_each=OWN),
    "24:8+2 cycles, snapshots": replace(BASE, member=8, of_members=CYCLES, snapshots=True),
    "24:8+2 cycles, averaged": replace(BASE, member=8, of_members={**CYCLES, "average_cycles": True}),
    "independent:plateau": Way("independent", member=60, of_members=PLATEAU),
    "plateau:plateau": UNTIL_FLAT,
    "plateau:plateau+thrice the rate": replace(UNTIL_FLAT, of_members=THRICE),
    "plateau:plateau+2 mothers, thrice the rate": replace(UNTIL_FLAT, of_members=THRICE, mothers=2),
    "plateau:plateau+2 clusters": replace(UNTIL_FLAT, clusters=2),
    "plateau:plateau+2 clusters, thrice the rate": replace(UNTIL_FLAT, of_members=THRICE, clusters=2),
    "plateau:plateau+2 mothers, patience 8": replace(UNTIL_FLAT, of_mothers=PATIENT, mothers=2),
    "plateau:plateau+patience 8": replace(UNTIL_FLAT, of_mothers=PATIENT),
    "plateau:plateau+2 mothers": replace(UNTIL_FLAT, mothers=2),
    "plateau:plateau+upper layers drawn anew": replace(UNTIL_FLAT, perturbation=ANEW),
    "independent:plateau+identity": Way("independent", member=60, of_members=PLATEAU, identity=True),
    "plateau:plateau+2 mothers, patience 8, identity": replace(
        UNTIL_FLAT, of_mothers=PATIENT, mothers=2, identity=True
    ),
    "24:4+identity": replace(BASE, identity=True),
    "24:4+identity, all perturbed": replace(BASE, identity=True, perturbation=Perturbation(0.4, 0.1)),
    "12:4+2 mothers, identity": replace(BASE, mother=12, mothers=2, identity=True),
    "12:4+2 mothers, identity, thrice the rate": replace(
        BASE, mother=12, mothers=2, identity=True, of_members={"lr": 0.15}
    ),
    "20:5+2 mothers, identity, thrice the rate": replace(
        BASE, mother=20, member=5, mothers=2, identity=True, of_members={"lr": 0.15}
    ),
    "24:4+2 mothers, identity": replace(BASE, mothers=2, identity=True),
    "independent:12+identity": Way("independent", member=12, identity=True),
    **{f"{name}, batch {size}": of_batch(way, size) for size in (64, 32) for name, way in SMALLER.items()},
    "16:5+2 mothers, identity, batch 64, twice the rate": of_batch(SMALLER["16:5+2 mothers, identity"], 64, lr=0.1),
    "fast": Way(mothers=2, identity=True, of_mothers=keys_of("fast", "mothers"), of_members=keys_of("fast", "members")),
    "independent, fast": Way("independent", identity=True, of_members=keys_of("fast", "independent")),
    "plateau:4": replace(UNTIL_FLAT, member=4, of_members={}),
    "plateau:8": replace(UNTIL_FLAT, member=8, of_members={}),
}
"""Name -> way; `BASE` with one thing different each."""


@dataclass(frozen=True)
class Task:
    """Members, their mother, data, and what trains."""

    data: Dataset
    members: tuple[Model, ...]
    mother: Model
    costs: dict[str, int]
    seed: int
    threads: int
    augment: str

    def recipe(self, epochs: int, keys: Mapping[str, Any]) -> Recipe:
        """Cosine to 0 in so many epochs, where the keys say nothing else."""
        given = {
            "batch": 128,
            "schedule": "cosine",
            "epochs": epochs,
            "stages": {},
            **AUGMENTATION[self.augment],
            **keys,
        }
        return Recipe(**given)

    def train(self, name: str, model: Model, recipe: Recipe, kept: Mapping[str, Array] | None = None) -> Trained:
        """Train one network."""
        with tempfile.TemporaryDirectory() as folder:
            seed = job_seed(self.seed, "ablation", name)
            job = Job("members", name, model.replace(name=name), Path(folder), seed, 0, kept or {})
            return train(job, self.data, recipe, partial(engine, "ort", "cpu", self.threads), Events())

    def cost(self, name: str, trained: Trained) -> int:
        """Multiply-adds of a training."""
        return FORWARD_AND_BACKWARD * self.costs[name] * trained.samples


def task(data: Dataset, seed: int, threads: int, augment: str) -> Task:
    """The members with fresh weights of this seed, and their mother's structure."""
    shape = data.train.scalings[0].shape
    members = tuple(
        vgg(name, parse_blocks(text), data.classes, shape, (64,), batch_norm=True, seed=seed)
        for name, text in BLOCKS.items()
    )
    (cluster,) = by_count([(model, describe(model)) for model in members], 1)
    costs = {each.name: each.cost for each in map(describe, members)}
    mother = drawn(cluster.mother, cluster.structure, seed)
    return Task(data, members, mother, {**costs, "mother": cluster.structure.cost}, seed, threads, augment)


def mothers_of(given: Task) -> Any:
    """What trains the mothers of a way, by member; the same mother is trained once."""

    models: dict[str, Model] = {}

    def add(name: str, model: Model, structure: Structure, seed: int, identity: bool) -> str:
        name += ", identity" if identity else ""
        if name not in models:
            first = drawn(model, structure, seed)
            models[name], given.costs[name] = identity_like(first) if identity else first, structure.cost
        return name

    @cache
    def trained(name: str, epochs: int, keys: str) -> Trained:
        recipe = given.recipe(epochs, {"schedule": "constant", "carry": True, **json.loads(keys)})
        return given.train(name, models[name], recipe)

    def parents(way: Way) -> dict[str, tuple[str, Trained]]:
        keys, structure = json.dumps(dict(way.of_mothers), sort_keys=True), describe(given.mother)
        if way.clusters > 1:
            chosen: dict[str, str] = {}
            described = sorted(
                ((each, describe(each)) for each in given.members), key=lambda member: member[1].parameter_count
            )
            size = -(-len(described) // way.clusters)
            for number, start in enumerate(range(0, len(described), size)):
                (cluster,) = by_count(described[start : start + size], 1)
                name = add(f"of {way.clusters}: {number}", cluster.mother, cluster.structure, given.seed, way.identity)
                chosen |= {member.name: name for member in cluster.members}
        else:
            names = [
                add(f"mother{number or ''}", given.mother, structure, given.seed + 1000 * number, way.identity)
                for number in range(way.mothers)
            ]
            chosen = {member.name: names[number % way.mothers] for number, member in enumerate(given.members)}
        return {member: (name, trained(name, way.mother, keys)) for member, name in chosen.items()}

    return parents


def measured(given: Task, way: Way, mothers: Any) -> dict[str, Any]:
    """Train an ensemble in one way; its scores and costs, of mothers too, and of hatching."""
    ends: list[Model] = []
    trained: list[tuple[str, Trained]] = []
    hatching = 0.0
    if way.method == "independent":
        for model in given.members:
            fresh = drawn(model, describe(model), given.seed)
            fresh = identity_like(fresh) if way.identity else fresh
            done = given.train(model.name, fresh, given.recipe(way.member, {"warmup": 1, **way.of_members}))
            trained.append((model.name, done))
            ends.append(done.model)
    elif way.method == "alone":
        done = given.train("mother", given.mother, given.recipe(way.mother, way.of_mothers))
        trained.append(("mother", done))
        ends.append(done.model)
    elif way.method == "snapshot":
        model = next(each for each in given.members if each.name == SNAPSHOT)
        fresh = drawn(model, describe(model), given.seed)
        done = given.train(model.name, fresh, given.recipe(way.member, {**way.of_members, "warmup": 1}))
        trained.append((model.name, done))
        ends += [*map(done.model.with_weights, done.snapshots), done.model]
    else:
        parents = mothers(way)
        trained += dict(parents.values()).items()
        calibration = given.data.train.x(np.arange(min(512, len(given.data.train))))
        for number, member in enumerate(given.members):
            start, (_, parent) = time.perf_counter(), parents[member.name]
            growing = begun(parent.model, member, calibration, Style(given.seed, way.split, way.fresh))
            hatched = perturbed(result(growing)[0], way.perturbation, given.seed)
            own = way.of_each[number % len(way.of_each)]
            recipe = given.recipe(way.member, {"warmup": 0, **way.of_members, **own})
            kept = grown(growing, parent.kept) if recipe.carry else {}
            hatching += time.perf_counter() - start
            done = given.train(member.name, hatched, recipe, kept)
            trained.append((member.name, done))
            ends += [*map(done.model.with_weights, done.snapshots if way.snapshots else ()), done.model]
    cost = sum(given.cost(name, each) for name, each in trained)
    seconds = hatching + sum(each.seconds for _, each in trained)
    epochs = {name: len(each.epochs) for name, each in trained}
    costs = {"multiply_adds": cost, "epochs": epochs, "seconds": seconds, "hatching_seconds": hatching}
    return {**scored(given, ends), **costs}


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


def groups(done: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """Rows by data and augmentation."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in done:
        found.setdefault((row["data"], row["augment"]), []).append(row)
    return dict(sorted(found.items(), key=lambda each: -len(each[1])))


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


def pairs(done: Sequence[Mapping[str, Any]], base: str = "24:4") -> str:
    """What one choice changes: the error of a way less that of `base`, over the seeds that both have."""
    of_base = {row["seed"]: row["error"] for row in done if row["way"] == base}
    lines = [f"| way | error less that of {base} | better in | multiply-adds |", "| --- | --- | --- | --- |"]
    cost = np.mean([row["multiply_adds"] for row in done if row["way"] == base]) if of_base else 1.0
    for name in WAYS:
        rows = [row for row in done if row["way"] == name and row["seed"] in of_base and name != base]
        if rows:
            apart = [row["error"] - of_base[row["seed"]] for row in rows]
            share = np.mean([row["multiply_adds"] for row in rows]) / cost
            better = sum(each < 0 for each in apart)
            lines.append(f"| {name} | {np.mean(apart):+.2f} | {better} of {len(apart)} | {share:.2f}x |")
    return "\n".join(lines)


def reached(done: Sequence[Mapping[str, Any]]) -> str:
    """What hatched ensembles need for the error of independent ones: the cheapest way with as many seeds."""
    lines = [
        "| independent | error % | hatched | error % | multiply-adds | time | time, by seed |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]

    def rows_of(name: str) -> dict[int, Mapping[str, Any]]:
        return {row["seed"]: row for row in done if row["way"] == name and "hatching_seconds" in row}

    hatched = [rows_of(name) for name, way in WAYS.items() if way.method == "mothers"]
    for name in [name for name, way in WAYS.items() if way.method == "independent"]:
        theirs, found = rows_of(name), None
        for rows in hatched:
            seeds = sorted(theirs.keys() & rows.keys())
            if not seeds or len(seeds) < len(theirs):
                continue
            ours, other = (np.mean([each[seed]["error"] for seed in seeds]) for each in (rows, theirs))
            cost = np.mean([rows[seed]["multiply_adds"] / theirs[seed]["multiply_adds"] for seed in seeds])
            if ours <= other and (found is None or cost < found[0]):
                times = [rows[seed]["seconds"] / theirs[seed]["seconds"] for seed in seeds]
                found = cost, rows[seeds[0]]["way"], ours, times
        if theirs:
            error = f"{np.mean([row['error'] for row in theirs.values()]):.2f}"
            cells = ["none of these", "", "", "", ""]
            if found is not None:
                cost, way, ours, times = found
                each = ", ".join(f"{time:.2f}" for time in times)
                cells = [way, f"{ours:.2f}", f"{cost:.2f}x", f"{np.mean(times):.2f}x", each]
            lines.append(f"| {' | '.join([name, error, *cells])} |")
    return "\n".join(lines)


def front(means: Mapping[str, tuple[float, float]]) -> list[str]:
    """The ways that no other beats in cost and error both, by cost."""
    found: list[str] = []
    for name in sorted(means, key=lambda each: means[each]):
        if not found or means[name][1] < means[found[-1]][1]:
            found.append(name)
    return found


def plot(done: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Error against multiply-adds, a panel for each data set and augmentation; a line along the best of each method."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    found = {key: rows for key, rows in groups(done).items() if len(rows) > 5}
    figure, panels = pyplot.subplots(1, len(found), figsize=(9 * len(found), 8), squeeze=False)
    colours = {"independent": "tab:red", "alone": "tab:gray", "snapshot": "tab:orange", "mothers": "tab:blue"}
    for axes, ((data, augment), rows) in zip(panels[0], found.items(), strict=True):
        for method, colour in colours.items():
            means: dict[str, tuple[float, float]] = {}
            for name in [name for name, way in WAYS.items() if way.method == method]:
                chosen = [row for row in rows if row["way"] == name]
                if chosen:
                    x, y = (np.mean([row[key] for row in chosen]) for key in ("multiply_adds", "error"))
                    spread = np.std([row["error"] for row in chosen], ddof=1) if len(chosen) > 1 else 0.0
                    means[name] = x / 1e9, y
                    axes.errorbar(x / 1e9, y, spread, fmt="o", color=colour, capsize=2, alpha=0.6)
            best = front(means)
            for name in best:
                axes.annotate(name, means[name], fontsize=7, xytext=(4, 3), textcoords="offset points")
            if best:
                axes.plot(*zip(*(means[name] for name in best), strict=True), color=colour, alpha=0.5)
        axes.set(title=f"{data}, augmentation: {augment}", xlabel="multiply-adds of all training, 10^9")
        axes.set_ylabel("test error of the averaged ensemble, %")
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="an .npz; without one the results that stand there are shown")
    parser.add_argument("--augment", choices=list(AUGMENTATION), default="usual", help="of the images of all networks")
    parser.add_argument("--examples", type=int, default=6000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=list(WAYS), default=list(WAYS), metavar="WAY")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/ablation.jsonl"))
    parser.add_argument("--out", type=Path, help="write the tables as markdown")
    parser.add_argument("--plot", type=Path, help="write the plot; needs matplotlib")
    options = parser.parse_args()
    for seed in options.seeds if options.data else ():
        train_left(options, seed)
    found = [row for row in records(options.results) if row["seed"] in options.seeds]
    parts = [f"    {' '.join(['python', *sys.argv])}"]
    for (data, augment), rows in groups(found).items():
        parts += [f"## {data}, augmentation: {augment}", table(rows), pairs(rows), reached(rows)]
    text = "\n\n".join(parts) + "\n"
    print(text)
    if options.out:
        write_text(options.out, f"# Ablation of hatched training\n\n{text}")
    if options.plot:
        plot(found, options.plot)


def train_left(options: argparse.Namespace, seed: int) -> None:
    """Train the ways of one seed that are not done."""
    name_of_data = Path(options.data).stem
    key = (name_of_data, options.augment, seed)
    done = {row["way"] for row in records(options.results) if (row["data"], row["augment"], row["seed"]) == key}
    left = [name for name in options.only if name not in done]
    if not left:
        return
    data = load(options.data, interface_of(options.data), seed, train_limit=options.examples)
    given = task(data, seed, options.threads, options.augment)
    mothers = mothers_of(given)
    told = {"data": name_of_data, "augment": options.augment, "seed": seed, "examples": options.examples}
    for name in left:
        row = {"way": name, **told, **measured(given, WAYS[name], mothers)}
        options.results.parent.mkdir(parents=True, exist_ok=True)
        with options.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        what = f"{name_of_data}, {options.augment}, seed {seed}, {name}"
        print(f"{what}: error {row['error']:.2f} %, {row['seconds']:.0f} s", file=sys.stderr, flush=True)


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
