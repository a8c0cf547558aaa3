"""Whether hatched members gain by going on with what their mother's optimiser kept.

    python benchmarks/optimiser_state.py [--data digits] [--train-limit N] [--seeds 0 1 2] [--epochs 6]
                                         [--mother-epochs 10] [--set KEY=VALUE ...]

A mother of the sample ensemble v5-bn is trained for a fixed number of epochs and her members are hatched, once for a
seed; every member is then trained twice from the same weights and on the same batches: with her optimiser's state,
grown, and with none. All other keys of the recipe are the defaults but for --set. Prints a table in Markdown: each
number with the state and without, and the difference between the two of a member, as mean and standard deviation over
all members of all seeds.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from mnx.ensemble import score_stage
from mnx.events import Event, Events
from mnx.graphs import onnx_file
from mnx.graphs.zoo.ensembles import ensemble
from mnx.hatching import Hatching
from mnx.methods.mothernets import hatch_members, train_members, train_mothers
from mnx.pipeline import begin
from mnx.session import Session
from mnx.workspace import RunFolder

STEPS = (10, 50)
"""The mean loss is told over so many first steps."""

Rows = dict[str, dict[str, float]]
"""What is measured -> member -> number."""


def measured(session: Session, folder: Path, carry: bool) -> tuple[Rows, float]:
    """Train the hatched members of a run in a copy of its folder; what came of it, and the ensemble's test error."""
    shutil.copytree(session.run.path, folder)
    losses: dict[str, list[float]] = {}

    def listen(event: Event) -> None:
        if event["event"] == "step":
            known = losses.setdefault(event["network"], [])
            before = event["step"] - 1
            so_far = sum(known[-before:]) if before else 0.0
            known.append(event["loss"] * event["step"] - so_far)

    recipe = replace(session.recipe, carry=carry)
    session = replace(session, run=RunFolder(folder), recipe=recipe, events=Events(None, [listen]))
    train_members(session)
    scored = score_stage(session, "members", start=False)
    rows: Rows = {f"loss, steps 1 to {n}": {name: mean(each[:n]) for name, each in losses.items()} for n in STEPS}
    for name in losses:
        trained = session.run.training("members", name)
        if trained is not None:
            for number, epoch in enumerate(trained.epochs, start=1):
                errors = rows.setdefault(f"validation error after epoch {number}, %", {})
                errors[name] = 100 * (1 - epoch.validation_score)
        rows.setdefault("test error, %", {})[name] = 100 * (1 - scored["networks"][name]["accuracy"])
        rows.setdefault("test loss", {})[name] = scored["networks"][name]["nll"]
    return rows, 100 * (1 - scored["ensemble"]["averaged"]["accuracy"])


def mean(numbers: list[float]) -> float:
    """The mean."""
    return float(np.mean(numbers))


def pair(options: argparse.Namespace, seed: int, folder: Path) -> tuple[tuple[Rows, float], ...]:
    """A mother and her members by one seed, trained with her optimiser's state and without."""
    shape = (1, 8, 8) if options.data == "digits" else (1, 28, 28)
    files = []
    for model in ensemble("v5-bn", 10, shape, seed):
        files.append(folder / "members" / f"{model.name}.onnx")
        onnx_file.write(model, files[-1])
    epochs = str(options.mother_epochs)
    settings = {"epochs": epochs, "patience": epochs, "grace": epochs}
    settings |= dict(each.split("=", 1) for each in options.set)
    session = begin(
        files,
        RunFolder(folder / "run"),
        Events(),
        clusters=1,
        seed=seed,
        data=options.data,
        train_limit=options.train_limit,
        recipe=settings,
        threads=options.threads,
    )
    train_mothers(session)
    hatch_members(session, hatching=Hatching(split=options.split))
    recipe = replace(
        session.recipe.of("members"), epochs=options.epochs, patience=options.epochs, anneal=options.epochs // 2
    )
    session = replace(session, recipe=recipe)
    return tuple(measured(session, folder / name, carry) for name, carry in (("carried", True), ("none", False)))


def row(key: str, carried: list[float], none: list[float]) -> str:
    """A line of the table: mean and standard deviation of both, and of their differences."""
    digits = 2 if key.endswith("%") else 4
    apart = [one - other for one, other in zip(carried, none, strict=True)]
    cells = []
    for numbers, sign in ((carried, ""), (none, ""), (apart, "+")):
        spread = f" ± {np.std(numbers, ddof=1):.{digits}f}" if len(numbers) > 1 else ""
        cells.append(f"{np.mean(numbers):{sign}.{digits}f}{spread}")
    return f"| {key} | {len(apart)} | {' | '.join(cells)} |"


def main() -> None:
    """Train all pairs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="digits, or Fashion-MNIST as an .npz or a folder")
    parser.add_argument("--train-limit", type=int)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=6, help="of a member; the rate falls over the second half")
    parser.add_argument("--mother-epochs", type=int, default=10)
    parser.add_argument("--split", default="random", help="how the copies of a channel share it")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="other keys of the recipe")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    found = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            found.append(pair(options, seed, Path(folder)))
        print(f"seed {seed} is done", file=sys.stderr)
    print("| | n | with her optimiser's state | with none | difference |\n|---|---|---|---|---|")
    for key, first in found[0][0][0].items():
        carried, none = ([both[which][0][key][name] for both in found for name in first] for which in (0, 1))
        print(row(key, carried, none))
    carried, none = ([both[which][1] for both in found] for which in (0, 1))
    print(row("ensemble's test error, %", carried, none))


if __name__ == "__main__":
    main()
