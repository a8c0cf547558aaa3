"""What hatching costs: growth against reading and writing, its certificate, and a hundred members in one process.

    python benchmarks/hatching.py [--repetitions 5] [--members 10 50 100] [--width 0.25] [--folder DIR]
                                  [--only pairs certificates loop] [--out benchmarks/results/hatching.md]

Members of a hundred million parameters and more are read and written, plainly, and beside it grown from their mother:
her read, the member read, grown, written, without a certificate. Both are done in turn in one process, and numbers are
medians. Then follows what the certificate adds, and V100 (see planning.py) hatched as `mnx hatch` does it, in one call.
The files are written to a temporary folder, 8 GB in all; every measurement runs in a process of its own.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import onnx
from planning import SEED, TAU, commit, peak, table, used, write_variants

from mnx.events import Event, Events
from mnx.graphs import onnx_file
from mnx.graphs.certificate import Certificate
from mnx.graphs.growth.growing import Style
from mnx.graphs.growth.hatch import grow, hatch
from mnx.graphs.model import Model
from mnx.graphs.mothers.carve import drawn
from mnx.graphs.mothers.mother import mother_of, stand_in
from mnx.graphs.probes import RANDOM, probes
from mnx.graphs.verify import Answers
from mnx.graphs.zoo.resnet import resnet
from mnx.graphs.zoo.vgg import V5, parse_blocks, v5, vgg
from mnx.methods.mothernets import hatch_members
from mnx.planning import keep, propose
from mnx.session import open_session
from mnx.workspace import RunFolder

LARGER_KERNELS = "(5:64)x2  | (5:128)x2 | (5:256)x2         | (5:512)x2         | (7:512)x2"
"""V13 with larger kernels in all layers."""

IMAGE = (3, 224, 224)
CLASSES = 1000

Pair: TypeAlias = tuple[Model, Model]

PAIRS: Mapping[str, Callable[[], Pair]] = {
    "V16B from the mother of V5": lambda: (_mother(v5(hollow=True)), _v13("V16B", V5["V16B"])),
    "V13 with kernels of 5 and 7": lambda: (_v13("V13", V5["V13"]), _v13("V13K", LARGER_KERNELS)),
    "V13 with wider hidden layers": lambda: (_v13("V13", V5["V13"]), _v13("V13H", V5["V13"], (5120, 5120))),
    "ResNet, wider and deeper": lambda: (
        resnet("R18", (2, 2, 2, 2), 96, CLASSES, (3, 64, 64)),
        resnet("R26W", (3, 3, 3, 3), 160, CLASSES, (3, 64, 64)),
    ),
}
"""What is grown: a mother and a member."""

STYLES: Mapping[str, Style] = {
    "random": Style(),
    "equal": Style(split="equal"),
    "half fresh": Style(fresh=0.5),
}

PASSES = 4
"""How often V100 is hatched."""

CERTIFIED: Mapping[str, int] = {"V16B from the mother of V5": 8, "ResNet, wider and deeper": 64}
"""Pairs whose certificates are measured, and on how many random examples."""


def _v13(name: str, text: str, hidden: Sequence[int] = (4096, 4096)) -> Model:
    return vgg(name, parse_blocks(text), CLASSES, IMAGE, hidden)


def _mother(members: Sequence[Model]) -> Model:
    return drawn(*mother_of([stand_in(member) for member in members], "mother"), 0)


def clocks() -> tuple[float, float, float]:
    """Seconds on the clock, of the processor, and what of the latter is the program's own, not the system's."""
    return time.perf_counter(), time.process_time(), os.times().user


def timed(call: Callable[..., Any], *arguments: Any) -> tuple[Any, tuple[float, ...]]:
    """What a call returns, and its seconds as `clocks` counts them."""
    before = clocks()
    result = call(*arguments)
    return result, tuple(after - since for since, after in zip(before, clocks(), strict=True))


def step_pair(name: str, folder: str, repetitions: str) -> dict[str, Any]:
    """One pair in every style: plain reading and writing, hatching, and the former through `onnx`, in turn.

    Each is done twice and the second time counts: a system gives memory that is new to a process far slower than
    memory that it has just given back, and the three need more or less. What was written is removed behind each.
    """
    place = Path(folder)
    files = place / "mother.onnx", place / "member.onnx"
    for model, file in zip(PAIRS[name](), files, strict=True):
        onnx_file.write(model, file)
    mother = onnx_file.read(files[0])
    batch = probes(mother, 0, 2)[RANDOM].batch

    def plain() -> None:
        onnx_file.write(onnx_file.read(files[1]), place / "plain.onnx", form="working")

    def through_onnx() -> None:
        onnx.save(onnx.load(files[1]), place / "onnx.onnx")

    def hatched(style: Style) -> tuple[float, ...]:
        theirs = onnx_file.read(files[0]), onnx_file.read(files[1])
        (grown, *_), spent = timed(grow, *theirs, batch, style)
        onnx_file.write(grown, place / "hatched.onnx", form="working")
        return spent

    def second(call: Callable[..., Any], *arguments: Any) -> list[float]:
        for _ in range(2):
            result, spent = timed(call, *arguments)
            for file in place.glob("*.onnx"):
                if file not in files:
                    file.unlink()
        return [*spent, *(result or ())]

    rounds = []
    for _ in range(int(repetitions)):
        slow = second(through_onnx)
        found = {what: {"plain": second(plain), "hatched": second(hatched, style)} for what, style in STYLES.items()}
        rounds.append({what: {**each, "onnx": slow} for what, each in found.items()})
    sizes = [sum(array.nbytes for array in onnx_file.read(file).weights.values()) / 1e6 for file in files]
    return {"sizes": sizes, "rounds": rounds}


def step_certificate(name: str, folder: str, examples: str) -> dict[str, Any]:
    """Growth, the certificate of a first member, and that of a further one of the same mother."""
    mother, member = PAIRS[name]()
    inputs = {name: probe.batch for name, probe in probes(mother, 0, int(examples)).items()}
    answers = Answers(mother, inputs)
    grown = [timed(grow, mother, member, inputs[RANDOM], Style())[1] for _ in range(2)][1]
    (hatched, first), (_, second) = (
        timed(lambda: hatch(mother, member, inputs, RANDOM, 0, answers=answers)) for _ in range(2)
    )
    checks = len(hatched.certificate.checks)
    return {"grown": grown, "first": first, "second": second, "checks": checks, "peak": peak()}


def step_make(folder: str, count: str, width: str) -> dict[str, Any]:
    """Write V100."""
    write_variants(Path(folder), int(count), float(width))
    return {}


def step_loop(folder: str, *counts: str) -> dict[str, Any]:
    """V100 planned and hatched in this process, `PASSES` times over, with memory after every member.

    Behind some of them memory is tidied, to tell what is kept from what the allocator has not given back.
    """
    place = Path(folder)
    files = sorted(place.glob("v*.onnx"))
    events, run = Events(), RunFolder(place / "run")
    keep(propose(files, run, events, tau=TAU), run, events)
    records: list[dict[str, float]] = []
    started = clocks()

    def listen(event: Event) -> None:
        if event["event"] == "hatched":
            now, size = clocks(), run.start_file("members", event["network"]).stat().st_size / 1e6
            wall, processor, _ = (b - a for a, b in zip(started, now, strict=True))
            record = {"wall": wall, "processor": processor, "held": held(), "peak": peak(), "size": size}
            if str(len(records) + 1) in counts:
                record["kept"] = kept()
            records.append(record)

    before = held()
    session = open_session(run, Events(None, (listen,)))
    certificates: list[Certificate] = []
    for _ in range(PASSES):
        for certificate in certificates[-len(files) :]:
            run.certificate_file(certificate.member).unlink()
        certificates += hatch_members(session, untrained=True).values()
        records[-1]["kept"] = kept()
    found = [check.difference for certificate in certificates for check in certificate.checks if check.binding]
    return {
        "before": before,
        "records": records,
        "passed": sum(certificate.passed for certificate in certificates),
        "largest": max(each.largest / max(1.0, each.scale) for each in found),
    }


def held() -> float:
    """The memory that this process holds now, in MB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def kept() -> float:
    """The memory that this process cannot do without, in MB: cycles are collected, free memory is given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return held()


STEPS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "pair": step_pair,
    "certificate": step_certificate,
    "make": step_make,
    "loop": step_loop,
}


def step(name: str, *arguments: str) -> dict[str, Any]:
    """One of `STEPS` in a process of its own."""
    return dict(json.loads(used([sys.executable, __file__, "--step", name, *arguments]).printed))


PAIR_COLUMNS = (
    "member",
    "mother MB",
    "member MB",
    "split",
    "read + write s",
    "hatched s",
    "of it growing s",
    "ratio",
    "processor: read + write, own + system s",
    "hatched, own + system s",
    "of it growing, own + system s",
    "plain GB/s",
    "hatched GB/s",
    "onnx.load + save s",
    "ratio",
)


def pairs(folder: Path, repetitions: int) -> list[list[str]]:
    """A row for every pair and style."""
    rows = []
    for name in PAIRS:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            found = step("pair", name, place, str(repetitions))
        mother, member = found["sizes"]
        for what in STYLES:
            rounds = [each[what] for each in found["rounds"]]
            plain, hatched, through_onnx = (
                [median(column) for column in zip(*(each[which] for each in rounds), strict=True)]
                for which in ("plain", "hatched", "onnx")
            )
            ratios = [median(each["hatched"][0] / each[other][0] for each in rounds) for other in ("plain", "onnx")]
            rows.append(
                [
                    name,
                    *(f"{size:.0f}" for size in (mother, member)),
                    what,
                    *(f"{seconds:.2f}" for seconds in (plain[0], hatched[0], hatched[3])),
                    f"{ratios[0]:.2f}",
                    *(
                        f"{own:.2f} + {max(0.0, whole - own):.2f}"
                        for whole, own in (plain[1:3], hatched[1:3], hatched[4:6])
                    ),
                    *(f"{member / 1000 / seconds:.2f}" for seconds in (plain[0], hatched[0])),
                    f"{through_onnx[0]:.2f}",
                    f"{ratios[1]:.2f}",
                ]
            )
            print(*rows[-1], sep="  ", flush=True)
    return rows


def median(numbers: Any) -> float:
    """The median of numbers."""
    return float(statistics.median(numbers))


CERTIFICATE_COLUMNS = (
    "member",
    "examples",
    "checks",
    "growing s",
    "with its certificate s",
    "a further member s",
    "processor: growing s",
    "with its certificate s",
    "a further member s",
    "peak MB",
)


def certificates(folder: Path) -> list[list[str]]:
    """A row for every pair that is certified."""
    rows = []
    for name, examples in CERTIFIED.items():
        found = step("certificate", name, str(folder), str(examples))
        spent = [found[what] for what in ("grown", "first", "second")]
        seconds = [f"{each[clock]:.1f}" for clock in (0, 1) for each in spent]
        rows.append([name, f"{examples} + 8", str(found["checks"]), *seconds, f"{found['peak']:.0f}"])
        print(*rows[-1], sep="  ", flush=True)
    return rows


LOOP_COLUMNS = (
    "members",
    "MB written",
    "largest MB",
    "wall s",
    "processor s",
    "ms a member",
    "memory now MB",
    "tidied MB",
    "peak MB",
)


def loop(folder: Path, numbers: Sequence[int], width: float) -> tuple[list[list[str]], str]:
    """Rows for V100 after so many members, and what is to be said of all."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        step("make", place, str(max(numbers)), str(width))
        whole = max(numbers)
        counts = [*numbers, *(whole * number for number in range(2, PASSES + 1))]
        found = step("loop", place, *(str(count) for count in numbers if count < whole))
    records, rows = found["records"], []
    for count in counts:
        last, sizes = records[count - 1], [record["size"] for record in records[:count]]
        rows.append(
            [
                str(count),
                *(f"{size:.0f}" for size in (sum(sizes), max(sizes))),
                *(f"{last[clock]:.1f}" for clock in ("wall", "processor")),
                f"{1000 * last['wall'] / count:.0f}",
                *(f"{last[what]:.0f}" for what in ("held", "kept", "peak")),
            ]
        )
        print(*rows[-1], sep="  ", flush=True)
    text = (
        f"{found['passed']} of {len(records)} certificates passed; the largest difference in any, over "
        f"max(1, max|y|), is {found['largest']:.1e}. "
        f"Planned in the same process, which held {found['before']:.0f} MB before the first member."
    )
    print(text)
    return rows, text


def markdown(sections: Mapping[str, str], arguments: str) -> str:
    """The page."""
    libraries = ", ".join(
        f"{name} {version(name)}" for name in ("numpy", "onnx", "onnx-ir", "onnxruntime-training-cpu")
    )
    parts = "".join(f"## {title}\n\n{text}\n\n" for title, text in sections.items())
    return (
        f"# Hatching\n\n    python benchmarks/hatching.py{arguments}\n\n"
        f"Commit {commit()}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"{libraries}; other work beside.\n\n{parts}"
    ).rstrip() + "\n"


def main() -> None:
    """Read the command line, measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--members", type=int, nargs="+", default=[10, 50, 100])
    parser.add_argument("--width", type=float, default=0.25, help="share of VGG16's filters in V100")
    parser.add_argument("--folder", type=Path, help="where to write the networks")
    parser.add_argument("--only", nargs="+", choices=("pairs", "certificates", "loop"), help="parts")
    parser.add_argument("--out", type=Path, help="write the tables as markdown")
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(STEPS[options.step[0]](*options.step[1:])))
        return
    wanted = options.only or ("pairs", "certificates", "loop")
    sections: dict[str, str] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        if "pairs" in wanted:
            sections["Growth against reading and writing"] = (
                "read + write: the member's file read and written as it is, by mnx; hatched: mother and member read, "
                "the member grown, without a certificate, and written; both as `mnx hatch` reads and writes, to the "
                f"disk. Medians of {options.repetitions} rounds in one process, in which everything is done twice "
                "and the second time counts (new memory is slow); ratio: the median of the rounds', by the clock; "
                "own + system: seconds of the processor; GB/s: of the member's weights; the last two: the same through "
                "`onnx.load` and `onnx.save`, which does not wait for the disk.\n\n"
                + table(PAIR_COLUMNS, pairs(folder, options.repetitions))
            )
        if "certificates" in wanted:
            sections["What the certificate adds"] = (
                "Random and extreme examples, in eval mode and, behind normalisation, with batch statistics; of a "
                "further member the mother's answers are known. In memory, without files; n = 1.\n\n"
                + table(CERTIFICATE_COLUMNS, certificates(folder))
            )
        if "loop" in wanted:
            rows, text = loop(folder, options.members, options.width)
            sections["V100 hatched in one process"] = (
                f"The variants of VGG16 of planning.py (seed {SEED}, tau {TAU}), all filters and hidden units x "
                f"{options.width:g}, hatched by one call as `mnx hatch --untrained` does: mothers and members read and "
                "hashed, grown, certified on 64 random and 8 extreme examples, written and hashed. Members come "
                f"cluster by cluster; all are hatched {PASSES} times over. tidied: cycles collected, free memory given "
                "back to the system.\n\n"
                f"{table(LOOP_COLUMNS, rows)}\n\n{text}"
            )
    if options.out:
        given = "".join(
            f" --{name} {value:g}"
            for name, value, usual in (
                ("repetitions", options.repetitions, 5),
                ("width", options.width, 0.25),
            )
            if value != usual
        )
        options.out.write_text(markdown(sections, given), encoding="utf-8")


if __name__ == "__main__":
    main()
