"""Training steps of mnx beside those of torch: the same network, weights, batches, threads and optimiser.

    python benchmarks/training_speed.py [--pairs 15] [--threads 1 2] [--batch 64] [--only MLP VGG-BN ResNet-20]
                                        [--profile] [--out benchmarks/results/training-speed.md]

torch runs in eager mode, written as its users do, channels first. Each pair is a burst of steps of one and then of the
other, the order changing from pair to pair; the ratio is torch's time over ours, so that 1 means equally fast and more
that mnx is faster. Numbers are medians over the pairs. --profile adds where our time goes, by op.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from networks.of_mnx import NETWORKS, SETTINGS, profiled
from networks.torch_networks import LR, TORCH_NETWORKS, of_torch
from torch import nn

from mnx.graphs.files import write_text
from mnx.train.ort import Engine


def parameters_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def burst(step: Callable[[], object], many: int) -> tuple[float, float]:
    """Seconds a step, by the clock and of the processors."""
    start, spent = time.perf_counter(), time.process_time()
    for _ in range(many):
        step()
    return (time.perf_counter() - start) / many, (time.process_time() - spent) / many


def compared(name: str, threads: int, batch: int, pairs: int) -> dict[str, float]:
    """Medians of one network at one number of threads, in this process."""
    torch.set_num_threads(threads)
    model, network = NETWORKS[name](), TORCH_NETWORKS[name][0]()
    random = np.random.default_rng(0)
    x = random.standard_normal((batch, *model.inputs[0].shape), np.float32)
    y = random.integers(0, 10, batch)
    engine = Engine(model, SETTINGS, threads=threads)
    steps = {"mnx": lambda: engine.step(x, y, LR), "torch": of_torch(network, x, y)}
    many = max(1, round(0.25 / min(burst(step, 2)[0] for step in steps.values())))
    taken: dict[str, list[tuple[float, float]]] = {"mnx": [], "torch": []}
    for pair in range(pairs):
        for each in ("mnx", "torch") if pair % 2 else ("torch", "mnx"):
            taken[each].append(burst(steps[each], many))
    ratios = [
        tuple(of_torch / of_mnx for of_mnx, of_torch in zip(*pair, strict=True))
        for pair in zip(taken["mnx"], taken["torch"], strict=True)
    ]
    low, middle, high = statistics.quantiles([clock for clock, _ in ratios], n=4)
    return {
        **{each: 1000 * statistics.median([clock for clock, _ in times]) for each, times in taken.items()},
        "ratio": middle,
        "low": low,
        "high": high,
        "processor": statistics.median([processor for _, processor in ratios]),
        "parameters": parameters_of(network),
    }


def apart(name: str, threads: int, batch: int, pairs: int) -> dict[str, float]:
    """The same in a process of its own, so that no pool of threads is left from another."""
    command = [
        sys.executable,
        __file__,
        "--one",
        name,
        "--threads",
        str(threads),
        "--batch",
        str(batch),
        "--pairs",
        str(pairs),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    return dict(json.loads(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout))


def profile(name: str, batch: int) -> str:
    """Shares of a step by op, one thread."""

    def used(engine: Engine) -> None:
        random = np.random.default_rng(0)
        x = random.standard_normal((batch, *engine.model().inputs[0].shape), np.float32)
        y = random.integers(0, 10, batch)
        for _ in range(10):
            engine.step(x, y, LR)

    taken: Counter[str] = Counter()
    for event in profiled(lambda: Engine(NETWORKS[name](), SETTINGS, threads=1), used):
        taken[event["args"]["op_name"]] += event["dur"]
    total = sum(taken.values())
    return ", ".join(f"{op} {100 * spent / total:.0f} %" for op, spent in taken.most_common(8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--only", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--one", choices=list(NETWORKS), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="write the table as markdown")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(compared(options.one, options.threads[0], options.batch, options.pairs)))
        return
    rows = []
    for name in options.only:
        for threads in options.threads:
            found = apart(name, threads, options.batch, options.pairs)
            row = (
                f"| {name} | {found['parameters']:,.0f} | {threads} | {found['mnx']:.1f} | {found['torch']:.1f} | "
                f"{found['ratio']:.2f} | {found['low']:.2f} to {found['high']:.2f} | {found['processor']:.2f} |"
            )
            rows.append(row)
            print(row, flush=True)
    versions = (
        f"onnxruntime-training {onnxruntime.__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    )
    text = "\n".join(
        [
            "# Training steps beside torch's",
            "",
            "    " + " ".join(["python", *sys.argv]),
            "",
            f"{platform.machine()}, {os.cpu_count()} cores, {versions}; batch {options.batch}, {options.pairs} pairs, "
            "medians. ratio: torch's time over ours, more is better for mnx.",
            "",
            "| network | parameters | threads | mnx ms | torch ms | ratio | middle half | of processor time |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
            *rows,
        ]
    )
    if options.profile:
        text += "\n\nWhere a step of mnx goes, one thread:\n\n"
        text += "\n".join(f"- {name}: {profile(name, options.batch)}" for name in options.only)
    print(text)
    if options.out:
        write_text(options.out, text + "\n")


if __name__ == "__main__":
    main()
