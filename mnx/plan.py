"""The plan of a run: members, clusters, what each member gets from its mother. Plain data, kept as `plan.json`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnx.errors import MnxError
from mnx.graphs.files import write_text
from mnx.graphs.interface import Interface
from mnx.graphs.model import Port
from mnx.graphs.probes import Content
from mnx.graphs.trees.counting import DEFAULT

VERSION = 3


@dataclass(frozen=True)
class PlannedMember:
    """One member.

    Attributes:
        name: the file's stem.
        path: where the file was, as given.
        sha256: of the file.
        cluster: whose mother it is hatched from.
        parameters: trained parameters.
        multiply_adds: of one forward pass of one example.
        share: the mother's share of it, of what the plan's rule counts.
        matched: (its node, the mother's node) that share parameters.
        inserted: (its node, op, how) that the mother does not have; how is identity, zero, free or join.
        restored: layers behind which BatchNormalization is put back for training; 0 where it trains as it came.
    """

    name: str
    path: str
    sha256: str
    cluster: str
    parameters: int
    multiply_adds: int
    share: float
    matched: tuple[tuple[str, str], ...]
    inserted: tuple[tuple[str, str, str], ...]
    restored: int = 0


@dataclass(frozen=True)
class PlannedCluster:
    """A mother: how large she is, what a forward pass of one example costs, who is hatched from her."""

    name: str
    members: tuple[str, ...]
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Plan:
    """A run's plan.

    `rule` is how clusters were found: {'tau': 0.5, 'mothers': 1, 'count': 'all', 'norm': 'auto'}, or clusters in place
    of tau and mothers.
    """

    rule: Mapping[str, float | str]
    seed: int
    interface: Interface
    clusters: tuple[PlannedCluster, ...]
    members: tuple[PlannedMember, ...]

    @property
    def tau(self) -> float | None:
        """The least share that was asked for, None where the number of clusters was."""
        return float(self.rule["tau"]) if "tau" in self.rule else None

    @property
    def clusters_asked(self) -> int | None:
        """The number of clusters that was asked for, None where tau decided."""
        return int(self.rule["clusters"]) if "clusters" in self.rule else None

    @property
    def mothers_asked(self) -> int | None:
        """What `by_tau` was asked for, None where the number of clusters was."""
        return int(self.rule.get("mothers", 1)) if "tau" in self.rule else None

    @property
    def counted(self) -> str:
        """What shares are shares of, one of `graphs.trees.counting.COUNTS`."""
        return str(self.rule.get("count", DEFAULT))

    @property
    def norm(self) -> str:
        """Whether folded normalisation is put back, one of `mnx.norms.NORMS`."""
        return str(self.rule.get("norm", "keep"))

    def cluster(self, name: str) -> PlannedCluster:
        """The cluster called `name`."""
        return next(cluster for cluster in self.clusters if cluster.name == name)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        fields = dataclasses.asdict(self)
        return {"version": VERSION, **fields.pop("interface"), **fields}


def save(plan: Plan, path: Path) -> None:
    """Write a plan."""
    write_text(path, json.dumps(plan.to_json(), indent=1) + "\n")


def load(path: Path) -> Plan:
    """Read a plan.

    Raises:
        MnxError: the file is not a plan of this version of mnx.
    """
    try:
        document = dict(json.loads(path.read_text(encoding="utf-8")))
        if document.pop("version") != VERSION:
            raise MnxError(f"{path} was written by another version of mnx; plan the members again with --force")
        return Plan(
            rule=document["rule"],
            seed=document["seed"],
            interface=Interface(
                inputs=tuple(Port(p["name"], p["dtype"], tuple(p["shape"])) for p in document["inputs"]),
                width=document["width"],
                head=document["head"],
                contents=tuple(Content(**content) for content in document["contents"]),
            ),
            clusters=tuple(PlannedCluster(**{**c, "members": tuple(c["members"])}) for c in document["clusters"]),
            members=tuple(_member(member) for member in document["members"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise MnxError(f"{path} is not a plan ({error}); plan the members again with --force") from None


def _member(document: Mapping[str, Any]) -> PlannedMember:
    pairs = {key: tuple(tuple(item) for item in document[key]) for key in ("matched", "inserted")}
    return PlannedMember(**{**document, **pairs})
