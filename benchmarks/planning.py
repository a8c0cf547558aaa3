"""What planning costs: V100, a hundred variants of VGG16, read, hashed, described, clustered and carved.

    python benchmarks/planning.py [--members 10 20 50 100] [--folder DIR] [--out benchmarks/results/planning.md]

V100 is 100 distinct variants of VGG16 for CIFAR-10, each with one or two of its 13 convolutions changed: more filters,
larger filters, or both (Wasay et al., 2020). The members are written to a temporary folder, 7 GB in all; `--width 0.25`
makes them narrower where the disk is short. Every measurement runs in a process of its own. A last part shows and
carves a member of 100 million parameters, whose weights lie beside it as external data.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mnx.cluster import by_tau
from mnx.events import Events
from mnx.graphs import onnx_file
from mnx.graphs.model import Model
from mnx.graphs.mothers.carve import drawn, hollowed
from mnx.graphs.proto import to_proto
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.structure import Structure
from mnx.graphs.zoo.vgg import narrowed, parse_blocks, vgg
from mnx.planning import keep, propose
from mnx.workspace import RunFolder, file_hash

VGG16 = "(3:64)x2 | (3:128)x2 | (3:256)x3 | (3:512)x3 | (3:512)x3"
HIDDEN = 512
SEED = 100
TAU = 0.5
FILTERS = (1.25, 1.5, 1.75, 2.0)
KERNELS = (5, 7)
LARGE_HIDDEN = 9000
EXTERNAL_FROM = 1024


def variants(count: int, seed: int = SEED) -> list[list[list[tuple[int, int]]]]:
    """Distinct variants of VGG16, one or two layers of each with more filters, a larger kernel, or both."""
    random = np.random.default_rng(seed)
    found: list[list[list[tuple[int, int]]]] = []
    while len(found) < count:
        blocks = parse_blocks(VGG16)
        places = [(block, layer) for block, layers in enumerate(blocks) for layer in range(len(layers))]
        for place in random.choice(len(places), random.integers(1, 3), replace=False):
            block, layer = places[place]
            kernel, filters = blocks[block][layer]
            change = random.integers(3)
            if change != 0:
                kernel = int(random.choice(KERNELS))
            if change != 1:
                filters = int(filters * random.choice(FILTERS))
            blocks[block][layer] = kernel, filters
        if blocks not in found:
            found.append(blocks)
    return found


def write_variants(folder: Path, count: int, width: float) -> None:
    """Write V100's members, with `width` times the filters."""
    for number, blocks in enumerate(variants(count)):
        name = f"v{number:03}"
        model = vgg(name, narrowed(blocks, width), 10, (3, 32, 32), (round(HIDDEN * width),) * 2)
        onnx_file.write(model, folder / f"{name}.onnx")


def step_make(folder: str, count: str, width: str) -> dict[str, Any]:
    """Write the members, and the large one with its weights in a file of their own."""
    write_variants(Path(folder), int(count), float(width))
    large = vgg("large", parse_blocks(VGG16), 10, (3, 32, 32), (LARGE_HIDDEN,) * 2)
    proto = to_proto(large, include_ends=True)
    place = Path(folder) / "large"
    place.mkdir(exist_ok=True)
    onnx.save(
        proto,
        place / "large.onnx",
        save_as_external_data=True,
        location="large.onnx.data",
        size_threshold=EXTERNAL_FROM,
    )
    return {"parameters": sum(array.size for array in large.weights.values())}


def step_split(run: str, *files: str) -> dict[str, Any]:
    """Plan step by step, each step's seconds of the processor on its own."""
    seconds = dict.fromkeys(("reading", "hashing", "describing", "clustering", "carving"), 0.0)

    def timed(step: str, call: Callable[..., Any], *arguments: Any) -> Any:
        started = time.process_time()
        result = call(*arguments)
        seconds[step] += time.process_time() - started
        return result

    members: list[tuple[Model, Structure]] = []
    for file in map(Path, files):
        timed("hashing", file_hash, file)
        model = timed("reading", onnx_file.read, file)
        structure = timed("describing", describe, model)
        members.append((hollowed(model, structure), structure))
    clusters = timed("clustering", by_tau, members, TAU)
    for cluster in clusters:
        mother = timed("carving", drawn, cluster.mother, cluster.structure, 0)
        timed("carving", onnx_file.write, mother, Path(run) / f"{cluster.name}.onnx")
    return {"seconds": seconds, "clusters": len(clusters), "peak": peak()}


def step_plan(run: str, *files: str) -> dict[str, Any]:
    """What `mnx mother` calls: propose and keep."""
    folder, events = RunFolder(Path(run)), Events()
    started = time.perf_counter()
    proposal = propose([Path(file) for file in files], folder, events, tau=TAU)
    proposed = time.perf_counter() - started
    plan = keep(proposal, folder, events)
    return {
        "seconds": {"propose": proposed, "keep": time.perf_counter() - started - proposed},
        "clusters": len(plan.clusters),
        "peak": peak(),
    }


def step_read(file: str) -> dict[str, Any]:
    """Read one file and describe it."""
    before, started = peak(), time.perf_counter()
    model = onnx_file.read(Path(file))
    read, at_read = time.perf_counter() - started, peak()
    describe(model)
    return {"before": before, "read": at_read, "described": peak(), "seconds": read}


STEPS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "make": step_make,
    "split": step_split,
    "plan": step_plan,
    "read": step_read,
}


def peak() -> float:
    """The most memory that this process has held, in MB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


@dataclass(frozen=True)
class Usage:
    """What a process used: seconds on the clock and of the processor, MB of memory at most, and what it printed."""

    wall: float
    user: float
    system: float
    peak: float
    printed: str


def used(command: Sequence[str]) -> Usage:
    """Run a command to its end.

    Raises:
        CalledProcessError: it failed.
    """
    with tempfile.TemporaryFile("w+") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        output.seek(0)
        return Usage(wall, usage.ru_utime, usage.ru_stime, usage.ru_maxrss / 1024, output.read())


def step(name: str, *arguments: str) -> dict[str, Any]:
    """One of `STEPS` in a process of its own."""
    return dict(json.loads(used([sys.executable, __file__, "--step", name, *arguments]).printed))


def mnx(*arguments: str) -> Usage:
    """A command of `mnx`."""
    return used([str(Path(sys.executable).with_name("mnx")), *arguments])


def growth(files: Sequence[Path], numbers: Sequence[int], folder: Path) -> list[list[str]]:
    """A row for every number of members."""
    rows = []
    for count in numbers:
        some = [str(file) for file in files[:count]]
        size = sum(file.stat().st_size for file in files[:count])
        command = mnx("mother", *some, "--tau", str(TAU), "-o", str(folder / f"run{count}"), "--json", "--quiet")
        planned = step("plan", str(folder / f"plan{count}"), *some)
        split = step("split", str(folder / f"split{count}"), *some)
        rows.append(
            [
                str(count),
                f"{size / 1e9:.2f}",
                str(len(json.loads(command.printed)["clusters"])),
                f"{command.wall:.1f}",
                f"{command.user:.1f}",
                f"{command.system:.1f}",
                f"{1000 * command.wall / count:.0f}",
                f"{command.peak:.0f}",
                f"{planned['seconds']['propose']:.1f} + {planned['seconds']['keep']:.1f}",
                f"{planned['peak']:.0f}",
                *(f"{seconds:.2f}" for seconds in split["seconds"].values()),
            ]
        )
        print(*rows[-1], flush=True)
    return rows


COLUMNS = (
    "members",
    "GB",
    "clusters",
    "wall s",
    "user s",
    "system s",
    "ms a member",
    "peak MB",
    "propose + keep s",
    "peak MB",
    "reading s",
    "hashing s",
    "describing s",
    "clustering s",
    "carving s",
)


def memory(files: Sequence[Path], large: Path, folder: Path) -> list[list[str]]:
    """Rows for what one file needs: reading, `mnx show` and carving."""
    rows = []
    for what, file in (("one file", files[0]), ("external data", large)):
        size = sum(part.stat().st_size for part in file.parent.glob(f"{file.name}*")) / 1e6
        read = step("read", str(file))
        for name, most, wall in (
            ("Python and mnx alone", read["before"], 0.0),
            ("read", read["read"], read["seconds"]),
            ("read, describe", read["described"], 0.0),
        ):
            rows.append([what, f"{size:.0f}", name, f"{most:.0f}", f"{most / size:.2f}", f"{wall:.2f}" if wall else ""])
        carve = ["mother", str(file), "-o", str(folder / f"carve-{file.stem}"), "--json", "--quiet"]
        for name, arguments in (("mnx show", ["show", str(file), "--json"]), ("mnx mother", carve)):
            usage = mnx(*arguments)
            rows.append(
                [what, f"{size:.0f}", name, f"{usage.peak:.0f}", f"{usage.peak / size:.2f}", f"{usage.wall:.2f}"]
            )
    for row in rows:
        print(*row, flush=True)
    return rows


_FIRST = 8
"""So many columns are of the command."""

MEMORY_COLUMNS = ("weights", "MB", "what", "peak MB", "peak / weights", "s")


def markdown(rows: Sequence[Sequence[str]], large: Sequence[Sequence[str]], arguments: str, notes: str) -> str:
    """The tables as a page."""
    libraries = ", ".join(
        f"{name} {version(name)}" for name in ("numpy", "onnx", "onnx-ir", "onnxruntime-training-cpu")
    )
    return (
        f"# Planning V100\n\n    python benchmarks/planning.py{arguments}\n\n"
        f"Commit {commit()}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"{libraries}; n = 1, other work beside, so that seconds of the processor say more than the clock.\n\n"
        "V100: 100 distinct variants of VGG16 for 3x32x32 images and 10 classes, each with one or two convolutions "
        f"changed (more filters, larger filters, or both; seed {SEED}), {HIDDEN} hidden units twice.{notes}\n\n"
        f"## `mnx mother --tau {TAU}`\n\n{table(COLUMNS[:_FIRST], [row[:_FIRST] for row in rows])}\n\n"
        "## From Python\n\n`propose` and `keep` by the clock, and the most memory they held; then the same steps one "
        "by one, in seconds of the processor.\n\n"
        f"{table(COLUMNS[:1] + COLUMNS[_FIRST:], [[*row[:1], *row[_FIRST:]] for row in rows])}\n\n"
        f"## Memory of one member\n\n{table(MEMORY_COLUMNS, large)}\n"
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (columns, ["---"] * len(columns), *rows))


def commit() -> str:
    """The commit that was measured."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def main() -> None:
    """Read the command line, make the members, measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, nargs="+", default=[10, 20, 50, 100])
    parser.add_argument("--width", type=float, default=1.0, help="share of VGG16's filters")
    parser.add_argument("--folder", type=Path, help="where to make the members, or where they stand already")
    parser.add_argument("--out", type=Path, help="write the tables as markdown")
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(STEPS[options.step[0]](*options.step[1:])))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if not (folder / "large" / "large.onnx").exists():
            folder.mkdir(parents=True, exist_ok=True)
            step("make", str(folder), str(max(options.members)), str(options.width))
        files = sorted(folder.glob("v*.onnx"))
        rows = growth(files, options.members, Path(temporary))
        large = memory(files, folder / "large" / "large.onnx", Path(temporary))
    if options.out:
        arguments = "" if options.width == 1 else f" --width {options.width}"
        notes = "" if options.width == 1 else f" All filters and hidden units x {options.width}."
        options.out.write_text(markdown(rows, large, arguments, notes), encoding="utf-8")


if __name__ == "__main__":
    main()
