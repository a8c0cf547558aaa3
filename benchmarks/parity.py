"""A hundred training steps of every family of networks, beside torch training the network that was exported.

    python benchmarks/parity.py [--steps 100] [--batch 16] [--only FAMILY ...] [--out benchmarks/results/parity.md]
                                [--save FOLDER]

The networks are the small ones of tests/graphs/families.py, exported by TorchScript with their normalisation preserved
and read by mnx; torch trains the module itself in training mode. Both begin with the same weights, see the same batches
(classes that can be learnt) and use the same recipe: SGD, or AdamW where the row says so. Nothing is compared by name:
losses at every step, and after the last step the outputs of both in eval mode on examples that neither has seen,
relative to max(1, the largest). Rounding grows with the steps, in jumps where it decides a ReLU or a maximum: `float64`
is the largest difference of torch's own losses from those that it has in double precision, and `step apart` the first
step at which ours differ from torch's by more than 1e-4. Biases that reading has made explicit are trained here and not
there: behind a BatchNormalization they do nothing, behind a GroupNormalization (resnet_group_norm) they learn.
--save keeps every network, and what torch made of it, for benchmarks/on_gpu.py on a machine without torch.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from networks.batches import batches
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "graphs"))

from exporters import export
from families import FAMILIES

from mnx.errors import MnxError
from mnx.graphs.errors import GraphError
from mnx.graphs.files import write_text
from mnx.graphs.model import Array
from mnx.graphs.onnx_file import read
from mnx.train.ort import Engine
from mnx.train.settings import StepSettings

SGD = StepSettings(momentum=0.9, nesterov=True, clip_norm=1.0)
ADAMW = StepSettings(optimiser="adamw", weight_decay=0.0, clip_norm=1.0)
RATES = {"sgd": 0.02, "adamw": 1e-3}
APART = 1e-4


@dataclass(frozen=True)
class Result:
    """What came of one family."""

    family: str
    optimiser: str
    first: float
    last: float
    worst: tuple[float, float, float]
    own: float
    apart: int | None
    outputs: float


def compared(name: str, settings: StepSettings, steps: int, size: int, save: Path | None = None) -> Result:
    """Train one family's first member both ways."""
    family = FAMILIES[name]
    net = family.member(0)
    with tempfile.TemporaryDirectory() as folder:
        path = (save or Path(folder)) / f"{name}.onnx"
        export(net, "script_preserve", family.inputs, path)
        model = read(path)
    engine = Engine(model, settings, threads=1)
    net.train()
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    lr = RATES[settings.optimiser]
    twins = {dtype: copy.deepcopy(net).to(dtype) for dtype in (torch.float32, torch.float64)}
    steps_of = {dtype: stepped(twin, settings.optimiser, lr, dtype) for dtype, twin in twins.items()}
    drawn = batches(family.inputs, model.outputs[0].shape[0], steps + 1, size)
    ours, theirs, double = [], [], []
    for x, y in drawn[:-1]:
        ours.append(engine.step(x, y, lr)[0])
        theirs.append(steps_of[torch.float32](x, y))
        double.append(steps_of[torch.float64](x, y))
    net = twins[torch.float32].eval()
    unseen = drawn[-1][0]
    with torch.no_grad():
        expected = net(*map(torch.from_numpy, unseen)).numpy()
    if save is not None:
        ports = [{"name": port.name, "shape": port.shape, "high": port.high} for port in family.inputs]
        told = {"family": name, "inputs": ports, "steps": steps, "batch": size, "lr": lr, **asdict(settings)}
        saved = {"losses": np.array(theirs), "outputs": expected, "told": np.array(json.dumps(told))}
        np.savez(save / f"{name}-{settings.optimiser}.npz", **saved)
    outputs = float(np.abs(engine.evaluate(unseen) - expected).max() / max(1.0, np.abs(expected).max()))
    gaps = np.abs(np.array(ours) - theirs)
    apart = next((step + 1 for step, gap in enumerate(gaps) if not gap <= APART), None)
    parts = tuple(float(gaps[: min(end, steps)].max()) for end in (1, 10, steps))
    own = float(np.abs(np.array(theirs) - double).max())
    return Result(name, settings.optimiser, theirs[0], theirs[-1], (parts[0], parts[1], parts[2]), own, apart, outputs)


def stepped(
    net: nn.Module, optimiser: str, lr: float, dtype: torch.dtype
) -> Callable[[tuple[Array, ...], Array], float]:
    """A step of torch; returns its loss."""
    make = {
        "sgd": lambda: torch.optim.SGD(net.parameters(), lr, momentum=0.9, nesterov=True),
        "adamw": lambda: torch.optim.AdamW(net.parameters(), lr, weight_decay=0.0),
    }
    made = make[optimiser]()

    def step(x: tuple[Array, ...], y: Array) -> float:
        given = [torch.from_numpy(each).to(dtype if each.dtype == np.float32 else torch.int64) for each in x]
        loss = functional.cross_entropy(net(*given), torch.from_numpy(y))
        made.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        made.step()
        return float(loss.detach())

    return step


def row(result: Result) -> str:
    worst = " | ".join(f"{each:.1e}" for each in result.worst)
    apart = "-" if result.apart is None else str(result.apart)
    return (
        f"| {result.family} | {result.optimiser} | {result.first:.3f} | {result.last:.3f} | {worst} | "
        f"{result.own:.1e} | {apart} | {result.outputs:.1e} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--only", nargs="+", choices=list(FAMILIES), default=list(FAMILIES), metavar="FAMILY")
    parser.add_argument("--adamw", nargs="*", choices=list(FAMILIES), metavar="FAMILY", help="these by AdamW too")
    parser.add_argument("--out", type=Path, help="write the table as markdown")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="keep networks, and what torch made of them")
    options = parser.parse_args()
    if options.save:
        options.save.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    rows, refused = [], []
    asked = [(name, SGD) for name in options.only] + [(name, ADAMW) for name in options.adamw or []]
    for name, settings in asked:
        try:
            found = compared(name, replace(settings), options.steps, options.batch, options.save)
        except (MnxError, GraphError) as error:
            refused.append(f"- {name}: {error}")
            print(refused[-1], file=sys.stderr, flush=True)
            continue
        rows.append(found)
        print(row(found), flush=True)
    worst = max(rows, key=lambda result: result.worst[2])
    text = "\n".join(
        [
            "# A hundred steps beside torch",
            "",
            "    " + " ".join(["python", *sys.argv]),
            "",
            f"{platform.machine()}, onnxruntime-training {onnxruntime.__version__}, torch {torch.__version__}, Python "
            f"{platform.python_version()}; one thread, batch {options.batch}, {options.steps} steps.",
            "",
            "| family | optimiser | first loss | last loss | worst difference, 1 step | 10 steps | all | float64 | "
            "step apart | outputs after |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            *map(row, rows),
            "",
            f"{len(rows)} trainings; losses differ by at most {worst.worst[2]:.1e} ({worst.family}), outputs by "
            f"{max(result.outputs for result in rows):.1e}.",
            *(["", "Not trained:", "", *refused] if refused else []),
        ]
    )
    if options.out:
        write_text(options.out, text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
