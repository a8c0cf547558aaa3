"""The certificate: what was measured to show that two models compute one function, as data and as a JSON document.

`docs/certificate.md` describes the document. A number that is not finite is null there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

import numpy as np
import onnx

from mnx import __version__
from mnx.graphs.errors import GraphError
from mnx.graphs.run import runtime_version

SCHEMA: Final = 2
"""The version of the document; the first had none, and neither relative errors nor classes."""

EVAL: Final = "eval"
STATISTICS: Final = "batch statistics"
"""The modes: as a trained network is used, and normalised by the batch, as it is trained."""

LOGITS: Final = "logits"
"""What the body of a model gives; checks of what stands behind it bear the name of the user's output."""


@dataclass(frozen=True)
class Difference:
    """How far two outputs are apart: the largest absolute difference, the reference's largest value, the bound."""

    largest: float
    scale: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether they agree. Values that are not finite never do."""
        return math.isfinite(self.largest) and self.largest <= self.tolerance

    @property
    def relative(self) -> float:
        """The largest difference as a share of the reference's largest value, or of 1 where that is less."""
        return self.largest / max(1.0, self.scale) if math.isfinite(self.scale) else math.inf


@dataclass(frozen=True)
class Check:
    """One comparison of a certificate: on which inputs, in which mode, how many examples.

    Attributes:
        inputs: the name of the batch.
        mode: `EVAL` or `STATISTICS`.
        examples: how many examples the batch holds.
        difference: of the outputs; on extreme inputs in eval mode that of the example that is furthest apart.
        binding: False for what is only reported.
        rounding: how far the reference is from itself computed otherwise, measured only where it decided.
        same_class: the share of examples for which both predict one class; None where there are no classes.
        outputs: `LOGITS`, or the name of the user's output.
    """

    inputs: str
    mode: str
    examples: int
    difference: Difference
    binding: bool = True
    rounding: float | None = None
    same_class: float | None = None
    outputs: str = LOGITS

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        found = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "difference"}
        apart = self.difference
        numbers = {"largest": apart.largest, "scale": apart.scale, "relative": apart.relative}
        numbers |= {"tolerance": apart.tolerance}
        plain = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        return {**found, **plain, "passed": apart.passed}


@dataclass(frozen=True)
class Certificate:
    """The measured proof that a member computes its mother's function, or any model that of another.

    Attributes:
        mother: the name of the reference.
        member: the name of the model that is compared with it.
        checks: what was compared.
        made: batch name -> how its examples were made, in words.
        sha256: of the files, by 'mother', 'member' and, for a grown member's own file, 'hatched'.
        seed: of what was drawn; None where that is not known.
        split: how the copies of a channel share its weights; '' where nothing was grown.
        fresh: the share of further channels that are new, not copies.
        perturbed: how the weights were changed behind the checks (see `growth.perturb`); empty where they were not.
        changes: what reading and growing changed of the user's file, in words.
        precision: what was computed in, 'float32' or 'float64'.
        versions: of mnx, onnx, onnxruntime and numpy.
    """

    mother: str
    member: str
    checks: tuple[Check, ...]
    made: Mapping[str, str] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    split: str = ""
    fresh: float = 0.0
    perturbed: Mapping[str, Any] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    precision: str = "float32"
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every binding check passed."""
        return all(check.difference.passed for check in self.checks if check.binding)

    @property
    def largest(self) -> float:
        """The largest difference over the binding checks."""
        return max(check.difference.largest for check in self.checks if check.binding)

    def to_json(self) -> dict[str, Any]:
        """Plain data for certificate.json."""
        sizes = {check.inputs: check.examples for check in self.checks}
        return {
            "schema": SCHEMA,
            "mother": self.mother,
            "member": self.member,
            "passed": self.passed,
            "precision": self.precision,
            "seed": self.seed,
            "split": self.split,
            "fresh": self.fresh,
            "perturbed": dict(self.perturbed),
            "changes": list(self.changes),
            "inputs": [{"name": n, "examples": size, "made": self.made.get(n, "")} for n, size in sizes.items()],
            "modes": list(dict.fromkeys(check.mode for check in self.checks)),
            "checks": [check.to_json() for check in self.checks],
            "sha256": dict(self.sha256),
            "versions": dict(self.versions),
        }

    def text(self) -> str:
        """The document as it stands in a file."""
        return json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Certificate:
        """The inverse of `to_json`.

        Raises:
            GraphError: the document is of another schema, or lacks something.
        """
        if document.get("schema") != SCHEMA:
            raise GraphError(f"another version of mnx wrote it (schema {document.get('schema', 1)}, not {SCHEMA})")
        try:
            return cls(
                mother=document["mother"],
                member=document["member"],
                checks=tuple(map(_check, document["checks"])),
                made={each["name"]: each["made"] for each in document["inputs"] if each["made"]},
                sha256=document["sha256"],
                seed=document["seed"],
                split=document["split"],
                fresh=document["fresh"],
                perturbed=document["perturbed"],
                changes=tuple(document["changes"]),
                precision=document["precision"],
                versions=document["versions"],
            )
        except (KeyError, TypeError) as error:
            raise GraphError(f"it is no certificate: {type(error).__name__} {error}") from error


def versions() -> dict[str, str]:
    """What computed a certificate; GraphError where no onnxruntime is installed."""
    return {
        "mnx": __version__,
        "onnx": onnx.__version__,
        "onnxruntime": runtime_version(),
        "numpy": np.__version__,
    }


def _check(document: Mapping[str, Any]) -> Check:
    largest, scale, tolerance = (
        math.inf if document[name] is None else float(document[name]) for name in ("largest", "scale", "tolerance")
    )
    rest = {each.name: document[each.name] for each in fields(Check) if each.name != "difference"}
    return Check(difference=Difference(largest, scale, tolerance), **rest)
