"""How long a stage takes with one network at once and several threads, or several networks at once.

    python benchmarks/jobs.py --members resnet --epochs 6 --rounds 3

Trains the members of a sample ensemble from their files (digits, recipe's default but for the epochs), each round all
ways one after the other in turning order, so that what else the machine does falls on all alike. The first way is the
reference: every way with as many threads must give its bytes. Prints seconds as mean and standard deviation over
rounds, with the system's load before each round.
"""

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from mnx.events import Events
from mnx.graphs import onnx_file
from mnx.graphs.zoo.ensembles import ensemble
from mnx.methods.independent import train_independent
from mnx.planning import plan_members
from mnx.session import keep_settings, open_session
from mnx.train.recipe_files import recipe
from mnx.workspace import RunFolder

WAYS = ((1, 1), (2, 1), (1, 2))
"""(threads of each, networks at once)."""


def trained(folder: Path, members: list[Path], threads: int, jobs: int, epochs: int) -> tuple[float, str]:
    run = RunFolder(folder)
    plan_members(members, run, Events())
    settings = recipe({"epochs": str(epochs), "patience": str(epochs)})
    session = open_session(run, Events(), "digits", recipe=settings, threads=threads)
    keep_settings(session)
    session = replace(session, jobs=jobs)
    begin = time.perf_counter()
    train_independent(session)
    seconds = time.perf_counter() - begin
    digest = hashlib.sha256()
    for path in sorted(run.path.rglob("trained.onnx")):
        digest.update(path.read_bytes())
    return seconds, digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", default="resnet")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    times: dict[tuple[int, int], list[float]] = {way: [] for way in WAYS}
    digests: dict[tuple[int, int], set[str]] = {way: set() for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for model in ensemble(given.members):
            onnx_file.write(model, place / "members" / f"{model.name}.onnx")
        members = sorted((place / "members").glob("*.onnx"))
        for number in range(given.rounds):
            print(f"round {number + 1}, load {os.getloadavg()[0]:.1f}", flush=True)
            turn = number % len(WAYS)
            for threads, jobs in (*WAYS[turn:], *WAYS[:turn]):
                run = place / f"{number}-{threads}-{jobs}"
                seconds, digest = trained(run, members, threads, jobs, given.epochs)
                times[threads, jobs].append(seconds)
                digests[threads, jobs].add(digest)
    for threads, jobs in WAYS:
        spent, same = times[threads, jobs], digests[threads, jobs] == digests[WAYS[0]]
        deviation = statistics.stdev(spent) if len(spent) > 1 else 0.0
        print(
            f"threads {threads}, jobs {jobs}: {statistics.mean(spent):.1f} s ± {deviation:.1f}, "
            f"bytes {'equal' if same else 'differ'}"
        )


if __name__ == "__main__":
    main()
