"""Training on a GPU, beside the CPU and torch: losses, repetition to the bit, and what a step takes.

    python benchmarks/parity.py --save saved                         # anywhere with torch
    python benchmarks/on_gpu.py saved [--only FAMILY ...] [--seconds S] [--device cuda] [--torch PYTHON] [--pairs 9]
                                      [--batch 64 512] [--out benchmarks/results/on-gpu.md]

Networks, weights, batches, losses and outputs of torch on the CPU are those that benchmarks/parity.py has saved. Every
network is trained so many steps again, on the CPU and on the device; there once more from the state in the middle,
which must end with the same bits, as must a second training from the start. Losses are compared step by step, outputs
after the last step in eval mode, relative to max(1, the largest). `on the CPU` names what ONNX Runtime leaves on the
CPU, by op.

--torch PYTHON is an interpreter with a torch of its own (this one's ONNX Runtime wants older libraries): steps of three
networks in eager mode on the same GPU, in float32 without TF32, each in a process of its own, bursts in turn. On both
sides a step brings a batch from the host and its loss back.
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
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
from networks.batches import Array, batches
from networks.of_mnx import NETWORKS, SETTINGS, profiled

from mnx.errors import MnxError
from mnx.graphs.files import write_text
from mnx.graphs.model import Model
from mnx.graphs.onnx_file import read
from mnx.train.onnxruntime_sessions import require_device
from mnx.train.ort import Engine
from mnx.train.settings import StepSettings


@dataclass(frozen=True)
class Saved:
    """A network of benchmarks/parity.py, and what torch made of it."""

    model: Model
    settings: StepSettings
    lr: float
    batches: list[tuple[tuple[Array, ...], Array]]
    losses: Array
    outputs: Array

    @property
    def unseen(self) -> tuple[Array, ...]:
        return self.batches[-1][0]


def opened(path: Path) -> Saved:
    """What one file holds."""
    with np.load(path) as arrays:
        told = json.loads(str(arrays["told"]))
        losses, outputs = arrays["losses"], arrays["outputs"]
    model = read(path.parent / f"{told['family']}.onnx")
    ports = [SimpleNamespace(shape=tuple(each["shape"]), high=each["high"]) for each in told["inputs"]]
    drawn = batches(ports, model.outputs[0].shape[0], told["steps"] + 1, told["batch"])
    settings = StepSettings(**{key: told[key] for key in (each.name for each in fields(StepSettings)) if key in told})
    return Saved(model, settings, told["lr"], drawn, losses, outputs)


def trained(saved: Saved, device: str) -> tuple[Engine, list[float], dict[str, Array]]:
    """The engine after all steps, the losses, and the state in the middle."""
    engine = Engine(saved.model, saved.settings, device, threads=1)
    losses, middle = [], {}
    steps = saved.batches[:-1]
    for number, (x, y) in enumerate(steps):
        if number == len(steps) // 2:
            middle = engine.state()
        losses.append(engine.step(x, y, saved.lr)[0])
    return engine, losses, middle


def again(saved: Saved, device: str, state: Mapping[str, Array]) -> dict[str, Array]:
    """The last state of a training that goes on from the state in the middle, in a new engine."""
    engine = Engine(saved.model, saved.settings, device, threads=1)
    engine.load_state(state)
    for x, y in saved.batches[len(saved.batches[:-1]) // 2 : -1]:
        engine.step(x, y, saved.lr)
    return engine.state()


def differing(one: Mapping[str, Array], other: Mapping[str, Array]) -> int:
    """How many arrays differ in a bit."""
    return sum(one[key].tobytes() != other[key].tobytes() for key in one)


def relative(outputs: Array, expected: Array) -> float:
    return float(np.abs(outputs - expected).max() / max(1.0, np.abs(expected).max()))


def on_cpu(saved: Saved, device: str) -> str:
    """The ops of a step that ONNX Runtime runs on the CPU, with their number, and copies between the two."""
    x, y = saved.batches[0]
    ops: Counter[str] = Counter()
    for event in profiled(
        lambda: Engine(saved.model, saved.settings, device, threads=1), lambda engine: engine.step(x, y, saved.lr)
    ):
        op = event["args"]["op_name"]
        if event["args"].get("provider") == "CPUExecutionProvider" or op.startswith("Memcpy"):
            ops[op] += 1
    return ", ".join(f"{op} {count}" for op, count in ops.most_common()) or "-"


def row(name: str, path: Path, device: str) -> tuple[str, bool]:
    """One family's line, and whether all was repeated to the bit."""
    saved = opened(path)
    here, there = trained(saved, "cpu"), trained(saved, device)
    second, resumed = trained(saved, device)[0].state(), again(saved, device, there[2])
    state = there[0].state()
    gaps = np.abs(np.array(there[1]) - here[1])
    torchs = np.abs(np.array(there[1]) - saved.losses)
    outputs = there[0].evaluate(saved.unseen)
    repeated = [differing(state, second), differing(state, resumed)]
    cells = [
        name,
        saved.settings.optimiser,
        *(f"{gaps[:end].max():.1e}" for end in (1, 10, None)),
        f"{torchs.max():.1e}",
        f"{relative(outputs, here[0].evaluate(saved.unseen)):.1e}",
        *("yes" if not each else f"{each} arrays differ" for each in repeated),
        on_cpu(saved, device),
    ]
    return f"| {' | '.join(cells)} |", not any(repeated)


def beside_torch(name: str, python: str, device: str, batch: int, pairs: int) -> str:
    """Steps of one network beside torch's."""
    script = Path(__file__).parent / "networks" / "torch_networks.py"
    command = [python, str(script), name, "--device", device, "--batch", str(batch)]
    other = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "LD_"))}
    model = NETWORKS[name]()
    engine = Engine(model, SETTINGS, device, threads=1)
    random = np.random.default_rng(0)
    x, y = random.standard_normal((batch, *model.inputs[0].shape), np.float32), random.integers(0, 10, batch)

    def ours(many: int) -> float:
        start = time.perf_counter()
        for _ in range(many):
            engine.step(x, y, 0.01)
        return (time.perf_counter() - start) / many

    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=other) as process:
        version = process.stdout.readline().strip()

        def theirs(many: int) -> float:
            print(many, file=process.stdin, flush=True)
            return float(process.stdout.readline())

        sides = {"mnx": ours, "torch": theirs}
        for side in sides.values():
            side(20)
        many = max(1, round(0.3 / min(side(20) for side in sides.values())))
        taken: dict[str, list[float]] = {"mnx": [], "torch": []}
        for pair in range(pairs):
            for side in ("mnx", "torch") if pair % 2 else ("torch", "mnx"):
                taken[side].append(sides[side](many))
        process.stdin.close()
    ratios = [torch / mnx for mnx, torch in zip(taken["mnx"], taken["torch"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    ms = [f"{1000 * statistics.median(taken[side]):.2f}" for side in ("mnx", "torch")]
    return f"| {name} | {batch} | {' | '.join(ms)} | {middle:.2f} | {low:.2f} to {high:.2f} | {version} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("saved", nargs="?", type=Path, help="the folder that benchmarks/parity.py has saved")
    parser.add_argument("--only", nargs="+", metavar="FAMILY")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--torch", metavar="PYTHON", help="an interpreter with torch")
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no more families after so long")
    parser.add_argument("--out", type=Path, help="write the tables as markdown")
    options = parser.parse_args()
    try:
        require_device(options.device)
    except MnxError as error:
        print(f"skipped: {error}", file=sys.stderr)
        return
    parts = [
        "# Training on a GPU",
        "    " + " ".join(["python", *sys.argv]),
        f"{gpu()}; onnxruntime-training {onnxruntime.__version__}, Python {platform.python_version()}.",
    ]
    parts += speeds(options) if options.torch else []
    parts += families(options) if options.saved else []
    if options.out:
        write_text(options.out, "\n\n".join(parts) + "\n")


def speeds(options: argparse.Namespace) -> list[str]:
    """Steps beside torch's, in paragraphs of Markdown."""
    lines = [
        "| network | batch | mnx ms | torch ms | ratio | middle half | torch |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in NETWORKS:
        for batch in options.batch:
            lines.append(beside_torch(name, options.torch, options.device, batch, options.pairs))
            print(lines[-1], flush=True)
    told = "ratio: torch's time over ours, more is better for mnx."
    return ["## Beside torch on the same GPU", told, "\n".join(lines)]


def families(options: argparse.Namespace) -> list[str]:
    """Every family that was saved, in paragraphs of Markdown."""
    lines = [
        "| family | optimiser | beside the CPU, 1 step | 10 | all | beside torch, all | outputs after | same again "
        "| resumed | on the CPU |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    begin, found, failed = time.monotonic(), [], []
    for path in sorted(options.saved.glob("*.npz")):
        name = path.stem.rpartition("-")[0]
        if options.only and name not in options.only:
            continue
        if time.monotonic() - begin > options.seconds:
            failed.append(f"- {path.stem}: no time was left")
            continue
        try:
            found.append(row(name, path, options.device))
        except MnxError as error:
            failed.append(f"- {path.stem}: {error}")
            print(failed[-1], flush=True)
            continue
        lines.append(found[-1][0])
        print(lines[-1], flush=True)
    repeated = sum(each[1] for each in found)
    told = f"{len(found)} trainings, {repeated} of them repeated to the bit from the start and the middle."
    return ["## Every family", "\n".join(lines), told, *(["Not trained:", "\n".join(failed)] if failed else [])]


def gpu() -> str:
    """What NVIDIA's tool says of the GPU."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        name, driver = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().split(", ")
    except (OSError, ValueError, subprocess.CalledProcessError):
        return "no GPU"
    return f"{name}, driver {driver}"


if __name__ == "__main__":
    main()
