"""What mnx makes of a folder of exports, as a table: read, described, mothered, hatched, or the refusal.

    python benchmarks/corpus.py --corpus FOLDER [--out corpus.md] [--only FAMILY ...]

The folder is laid out FAMILY/EXPORTER/NAME.onnx, beside some models NAME.npz with inputs arr_0, arr_1, ... and the
source framework's own output y in eval mode. One NAME is one model, whoever exported it.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mnx.graphs.certificate import EVAL, STATISTICS
from mnx.graphs.errors import GraphError, NotPreserved
from mnx.graphs.growth.growing import Style
from mnx.graphs.growth.hatch import grow, hatch
from mnx.graphs.model import Model
from mnx.graphs.mothers.carve import drawn
from mnx.graphs.mothers.mother import mother_of, stand_in
from mnx.graphs.onnx_file import read
from mnx.graphs.ops.rule import Kind
from mnx.graphs.parameters import parameters
from mnx.graphs.probes import RANDOM, probes
from mnx.graphs.proto import inputs_before_entry
from mnx.graphs.run import run
from mnx.graphs.trees.describe import describe
from mnx.graphs.trees.nameless import tree_of
from mnx.graphs.trees.structure import Structure
from mnx.graphs.verify import Answers, Difference, difference, logits

FIRST = ("pt_ts_eval", "script_eval")
"""The exporter whose structure others are compared with, where it wrote the same model; else the first by name."""


EXAMPLES = 16
"""Random examples of the certificates."""

EXAMPLES_FLOAT64 = 4
"""Random examples in double precision, whose runtime is slow."""

PRECISIONS = ("float32", "float64")


@dataclass
class Export:
    """One file and what became of it."""

    path: Path
    model: Model | None = None
    structure: Structure | None = None
    error: Difference | None = None
    refusals: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.path.stem

    @property
    def exporter(self) -> str:
        """Who wrote it."""
        return self.path.parent.name

    @property
    def family(self) -> str:
        """What it is."""
        return self.path.parents[1].name


@dataclass
class Ensemble:
    """Members that may share mothers, and what became of them.

    Attributes:
        members: all that are described.
        clusters: those of one mother.
        share: the least share of a mother in her largest member.
        asked: how many members were to be hatched.
        hatched: how many were, with their certificate.
        errors: (precision, mode) -> the largest relative error of any member.
        refusals: what was refused, in words.
    """

    members: Sequence[Export]
    clusters: list[list[Export]] = field(default_factory=list)
    share: float | None = None
    asked: int = 0
    hatched: int = 0
    errors: dict[tuple[str, str], float] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether all members have one mother and were hatched from her."""
        return len(self.clusters) == 1 and self.hatched == len(self.members)

    def note(self, precision: str, mode: str, error: float) -> None:
        """Keep an error where it is the largest."""
        self.errors[precision, mode] = max(error, self.errors.get((precision, mode), 0.0))


def main() -> None:
    """Read the command line, go over the corpus, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=os.environ.get("MNX_ZOO"), help="folder of exports ($MNX_ZOO)")
    parser.add_argument("--out", type=Path, help="also write the table as markdown")
    parser.add_argument("--only", nargs="*", default=(), help="families")
    options = parser.parse_args()
    if options.corpus is None or not list(Path(options.corpus).glob("*/*/*.onnx")):
        print("no corpus: give --corpus FOLDER with FAMILY/EXPORTER/NAME.onnx", file=sys.stderr)
        return
    started = time.perf_counter()
    files = sorted(Path(options.corpus).glob("*/*/*.onnx"))
    rows: list[list[str]] = []
    refusals: list[str] = []
    totals: Counter[str] = Counter()
    for family in sorted({path.parents[1].name for path in files}):
        if options.only and family not in options.only:
            continue
        exports = [opened(path) for path in files if path.parents[1].name == family]
        for export in exports:
            count(totals, export)
        made, refused = table(family, exports, totals)
        rows += made
        refusals += refused
        for row in made:
            print(
                "  ".join(cell.ljust(width) for cell, width in zip(row, COLUMNS.values(), strict=True)).rstrip(),
                flush=True,
            )
    print(*refusals, sep="\n")
    summary = ", ".join(f"{count} {what}" for what, count in totals.items())
    print(f"{summary}; {time.perf_counter() - started:.0f} s")
    if options.out:
        options.out.write_text(markdown(rows, refusals, summary, options.only))


COLUMNS = {
    **{"family": 22, "exporter": 20, "files": 5, "read": 5, "described": 9, "right": 6, "worst error": 12},
    **{"tree": 24, "clusters": 9, "mother": 7, "hatched": 8},
    **{"eval": 8, "statistics": 11, "float64 eval": 13, "float64 statistics": 19},
}
"""Columns of the table and their widths as text."""


def line(row: Sequence[str]) -> str:
    """A row as text."""
    return "  ".join(cell.ljust(width) for cell, width in zip(row, COLUMNS.values(), strict=True)).rstrip()


def opened(path: Path) -> Export:
    """A file read, compared with its reference and described, as far as it goes."""
    export = Export(path)
    try:
        export.model = read(path)
        export.error = compared(export.model, path.with_suffix(".npz"))
        if export.error is not None and not export.error.passed:
            export.refusals.append(f"WRONG: differs by {export.error.largest:.2e} from its reference")
        export.structure = describe(export.model)
    except GraphError as error:
        export.refusals.append(first_line(error))
    return export


def compared(model: Model, path: Path) -> Difference | None:
    """How far a model is from the source framework's output; None where no reference stands beside it."""
    if not path.exists():
        return None
    with np.load(path) as reference:
        feeds = {port.name: reference[f"arr_{number}"] for number, port in enumerate(inputs_before_entry(model))}
        results = run(model, feeds, include_ends=True).values()
        found = [difference(reference["y"], result) for result in results]
        return min(found, key=lambda each: each.largest)


def count(totals: Counter[str], export: Export) -> None:
    """Add a file to the totals."""
    totals["files"] += 1
    totals["read"] += export.model is not None
    totals["described"] += export.structure is not None
    totals["equal to their reference"] += export.error is not None and export.error.passed


def table(family: str, exports: Sequence[Export], totals: Counter[str]) -> tuple[list[list[str]], list[str]]:
    """The rows of a family, one an exporter and one for all together, and the refusals."""
    rows, refusals = [], []
    for exporter in sorted({export.exporter for export in exports}):
        some = [export for export in exports if export.exporter == exporter]
        ensemble = mothered(some)
        rows.append([family, exporter, *cells(some), trees(some, exports), *fates(ensemble)])
        refusals += [f"{family}/{exporter}/{each.name}: {text}" for each in some for text in each.refusals]
        refusals += [f"{family}/{exporter}: {text}" for text in ensemble.refusals]
        tally(totals, ensemble)
    ensemble = mothered(one_of_each(exports))
    if len({export.exporter for export in ensemble.members}) > 1:
        rows.append([family, "(mixed)", "", "", "", "", "", "", *fates(ensemble)])
        refusals += [f"{family}, mixed exporters: {text}" for text in ensemble.refusals]
        tally(totals, ensemble)
    return rows, refusals


def tally(totals: Counter[str], ensemble: Ensemble) -> None:
    """Add an ensemble to the totals."""
    if len(ensemble.members) > 1:
        totals["ensembles"] += 1
        totals["with one mother for all"] += len(ensemble.clusters) == 1
        totals["all hatched from her"] += ensemble.whole


def cells(some: Sequence[Export]) -> list[str]:
    """How many files there are, are read, are described, are right, and the largest error in units of the tolerance."""
    errors = [export.error for export in some if export.error is not None]
    worst = max(errors, key=lambda each: each.largest / each.tolerance, default=None)
    return [
        str(len(some)),
        str(sum(export.model is not None for export in some)),
        str(sum(export.structure is not None for export in some)),
        f"{sum(each.passed for each in errors)}/{len(errors)}",
        "" if worst is None else f"{worst.largest:.1e}",
    ]


def trees(some: Sequence[Export], exports: Sequence[Export]) -> str:
    """How the structures compare with those of the reference exporter of the same models."""
    words = []
    for export in some:
        first = reference(export, exports)
        if export.structure is None or first is None or first.structure is None or first is export:
            continue
        same = tree_of(export.structure) == tree_of(first.structure)
        words.append("same" if same else other_ops(export.structure, first.structure))
    return ", ".join(f"{n} {text}" if n > 1 else text for text, n in Counter(words).items())


def other_ops(ours: Structure, theirs: Structure) -> str:
    """In what ops two structures differ."""
    left, right = (Counter(op.op for op in structure.ops()) for structure in (ours, theirs))
    more = [f"+{n} {op}" for op, n in (left - right).items()] + [f"-{n} {op}" for op, n in (right - left).items()]
    return " ".join(more) or "order, widths or attributes"


def reference(export: Export, exports: Sequence[Export]) -> Export | None:
    """The export of the same model that it is compared with: one that keeps as many normalisations, if there is one."""
    found = [each for each in exports if each.name == export.name and each.structure is not None]
    return min(
        found,
        key=lambda each: (norms(each) != norms(export), each.exporter not in FIRST, each.exporter),
        default=None,
    )


def norms(export: Export) -> int:
    """How many BatchNormalizations the exporter left."""
    return sum(op.op == "BatchNormalization" for op in export.structure.ops()) if export.structure is not None else 0


def one_of_each(exports: Iterable[Export]) -> list[Export]:
    """One export of every model that is described, from as many exporters as can be."""
    found: dict[str, Export] = {}
    uses: Counter[str] = Counter()
    for export in exports:
        best = found.get(export.name)
        if export.structure is not None and (best is None or uses[export.exporter] < uses[best.exporter] - 1):
            if best is not None:
                uses[best.exporter] -= 1
            found[export.name] = export
            uses[export.exporter] += 1
    return list(found.values())


def mothered(some: Sequence[Export]) -> Ensemble:
    """The mothers of members and their hatching: a member joins the first cluster that has a mother with it."""
    ensemble = Ensemble([export for export in some if export.structure is not None])
    if len(ensemble.members) < 2:
        return ensemble
    for export in sorted(ensemble.members, key=size):
        for cluster in ensemble.clusters:
            try:
                mother([*cluster, export])
            except GraphError as error:
                ensemble.refusals.append(first_line(error))
            else:
                cluster.append(export)
                break
        else:
            ensemble.clusters.append([export])
    shared = [cluster for cluster in ensemble.clusters if len(cluster) > 1]
    for cluster in shared:
        hatch_all(cluster, ensemble)
    ensemble.share = min((mother(cluster)[1].parameter_count / size(cluster[-1]) for cluster in shared), default=None)
    return ensemble


def size(export: Export) -> int:
    """The parameters of a described member."""
    return export.structure.parameter_count if export.structure is not None else 0


def mother(cluster: Sequence[Export]) -> tuple[Model, Structure]:
    """The mother of members, without weights."""
    return mother_of([stand_in(export.model) for export in cluster if export.model is not None], "mother")


def hatch_all(cluster: Sequence[Export], ensemble: Ensemble) -> None:
    """Hatch the members of a cluster from one mother, in float32 with certificates and in float64."""
    parent = lived_in(drawn(*mother(cluster), 0))
    inputs = {name: probe.batch for name, probe in probes(parent, 0, EXAMPLES).items()}
    answers = Answers(parent, inputs)
    few = probes(parent, 0, EXAMPLES_FLOAT64)[RANDOM].batch
    double = parent.with_weights(
        {name: a.astype(np.float64) for name, a in parent.weights.items() if a.dtype == np.float32}
    )
    exact = Answers(double, {RANDOM: few}, "float64")
    for export in cluster:
        if export.model is None:
            continue
        ensemble.asked += 1
        try:
            certificate = hatch(parent, export.model, inputs, RANDOM, 0, answers=answers).certificate
            grown = grow(double, export.model, few, Style(0))[0]
        except (GraphError, NotPreserved) as error:
            ensemble.refusals.append(f"{export.exporter}/{export.name}: {first_line(error)}")
            continue
        ensemble.hatched += 1
        for check in certificate.checks:
            if check.binding:
                ensemble.note("float32", check.mode, check.difference.largest / max(1.0, check.difference.scale))
        for mode in {check.mode for check in certificate.checks}:
            apart = difference(exact.logits(RANDOM, mode), logits(grown, few, mode, "float64"))
            ensemble.note("float64", mode, apart.largest / max(1.0, apart.scale))


def lived_in(model: Model) -> Model:
    """The model with biases, scales and statistics as training might leave them."""
    random = np.random.default_rng(0)
    moved = {}
    for name, kind in parameters(model).items():
        shape = model.weights[name].shape
        if kind in (Kind.VARIANCE, Kind.SCALE):
            moved[name] = random.uniform(0.5, 2.0, shape).astype(np.float32)
        elif kind in (Kind.BIAS, Kind.SHIFT, Kind.MEAN):
            moved[name] = random.normal(0.0, 0.3, shape).astype(np.float32)
    return model.with_weights(moved)


def first_line(error: Exception) -> str:
    """A refusal in one line."""
    return str(error).splitlines()[0]


def fates(ensemble: Ensemble) -> list[str]:
    """Sizes of the clusters, the least share of a mother in her largest member, and the worst certificate."""
    if len(ensemble.members) < 2:
        return [""] * 7
    return [
        "+".join(str(len(cluster)) for cluster in ensemble.clusters),
        "no" if ensemble.share is None else f"{ensemble.share:.0%}",
        f"{ensemble.hatched}/{ensemble.asked}" if ensemble.asked else "no",
        *(
            f"{ensemble.errors[precision, mode]:.1e}" if (precision, mode) in ensemble.errors else ""
            for precision in PRECISIONS
            for mode in (EVAL, STATISTICS)
        ),
    ]


def markdown(rows: Sequence[Sequence[str]], refusals: Sequence[str], summary: str, only: Sequence[str]) -> str:
    """The table as a page."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (COLUMNS, ["---"] * len(COLUMNS), *rows)]
    chosen = f" --only {' '.join(only)}" if only else ""
    shown = "\n".join(f"- {text}" for text in refusals) or "none"
    return (
        f"# What mnx makes of real exports\n\n{summary}.\n\n"
        f"`python benchmarks/corpus.py --corpus FOLDER{chosen}`, commit {commit()}, {platform.machine()}, "
        f"Python {platform.python_version()}.\n\n"
        "right: equal to the source framework's own output within 1e-5 max(1, max|y|); tree: compared with the "
        "reference exporter's of the same model; clusters: how many members share a mother; mother: the least share of "
        "a mother in her largest member's parameters; hatched: how many of the members that share a mother were, with "
        "their certificate; she has fresh weights, and biases and statistics as training might leave them; eval, "
        f"statistics: the largest binding difference in these certificates, over max(1, max|y|), on {EXAMPLES} random "
        "and 8 extreme examples, in eval mode and with batch statistics; float64: the same of the same growth in "
        f"double precision, on {EXAMPLES_FLOAT64} random examples: the error of the rules alone. 1e-13 is left "
        "behind an inserted BatchNormalization, whose epsilon ONNX holds in float32. On extreme examples a certificate "
        "allows for more than 1e-5 where the mother's own rounding is as large.\n\n"
        + "\n".join(lines)
        + f"\n\n## Refusals\n\n{shown}\n"
    )


def commit() -> str:
    """The commit that was measured."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
