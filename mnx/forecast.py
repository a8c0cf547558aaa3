"""What training will cost, before any: mothers and hatched members against every member from scratch.

    cost = 3 * examples * (epochs of a mother * |pass of the mother| + epochs of a member * sum of |pass of a member|)
    scratch = 3 * examples * epochs from scratch * sum of |pass of a member|

in multiply-adds, with 3 forward passes a training step. How many epochs a network takes depends on the data: `MEASURED`
holds what runs with the default recipe took, their mean is assumed, and the share that each of them would give is the
range of the forecast.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

from mnx.cluster import Cluster
from mnx.data import dataset
from mnx.events import records_in
from mnx.plan import Plan
from mnx.session import FORWARD_AND_BACKWARD
from mnx.train.recipe import Recipe
from mnx.workspace import RunFolder


@dataclass(frozen=True)
class Epochs:
    """Epochs that a network takes: from scratch, as a mother, as a hatched member."""

    scratch: float
    mother: float
    member: float


MEASURED: Mapping[str, Epochs] = {
    "Fashion-MNIST, five VGG-like members (benchmarks/results/ablation.md)": Epochs(15.9, 22.5, 6.9),
    "CIFAR-10, five VGG-like members (benchmarks/results/ablation.md)": Epochs(39.1, 35.0, 7.0),
    "digits, six VGG-like members (make demo, README.md)": Epochs(17.8, 19.5, 7.3),
}
"""Mean epochs of runs with the default recipe and `--compare independent`. A new run is one entry."""

ASSUMED = Epochs(*(round(sum(column) / len(MEASURED)) for column in zip(*map(astuple, MEASURED.values()), strict=True)))
"""The epochs that a forecast assumes where none are given: the mean of `MEASURED`."""

Passes = tuple[int, tuple[int, ...]]
"""Multiply-adds of one forward pass of one example: of a mother, and of each of her members."""


@dataclass(frozen=True)
class Price:
    """Multiply-adds of training: of mothers, of their hatched members, and of the same members from scratch."""

    mothers: float
    members: float
    scratch: float

    @property
    def total(self) -> float:
        """Mothers and members."""
        return self.mothers + self.members

    @property
    def share(self) -> float:
        """What mothering costs of training from scratch."""
        return self.total / max(self.scratch, 1e-9)

    def __add__(self, other: Price) -> Price:
        return Price(self.mothers + other.mothers, self.members + other.members, self.scratch + other.scratch)


@dataclass(frozen=True)
class Forecast:
    """What training is expected to cost.

    Attributes:
        epochs: that are assumed.
        examples: of an epoch; None where the data are not known, and prices are those of one example.
        rate: multiply-adds a second, None where it is not known.
        clusters: the price of each.
        least: the least share that the epochs of any measured run give; None where epochs were given.
        most: the greatest likewise.
    """

    epochs: Epochs
    examples: int | None
    rate: float | None
    clusters: Mapping[str, Price]
    least: float | None
    most: float | None

    @property
    def total(self) -> Price:
        """The price of all clusters."""
        return sum(self.clusters.values(), Price(0, 0, 0))

    @property
    def pays(self) -> bool:
        """Whether mothering is expected to cost less than training from scratch."""
        return self.total.share < 1

    def seconds(self, multiply_adds: float) -> float | None:
        """How long so many multiply-adds take; None where the rate or the data are not known."""
        return multiply_adds / self.rate if self.rate and self.examples else None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "epochs": asdict(self.epochs),
            "examples": self.examples,
            "rate": self.rate,
            "clusters": {name: self._price(price) for name, price in self.clusters.items()},
            "total": self._price(self.total),
            "measured_range": None if self.least is None else [self.least, self.most],
            "pays": self.pays,
        }

    def _price(self, price: Price) -> dict[str, float | None]:
        seconds = {"seconds": self.seconds(price.total), "scratch_seconds": self.seconds(price.scratch)}
        return {**asdict(price), "total": price.total, "share": price.share, **seconds}


def forecast(
    passes: Mapping[str, Passes],
    epochs: Epochs | None = None,
    examples: int | None = None,
    rate: float | None = None,
) -> Forecast:
    """What training is expected to cost.

    Args:
        passes: by cluster; see `planned_passes` and `passes_of`.
        epochs: None for `ASSUMED`.
        examples: of an epoch; None for the price of one example.
        rate: multiply-adds a second.
    """

    def prices(assumed: Epochs) -> dict[str, Price]:
        return {name: _price(mother, members, assumed, examples or 1) for name, (mother, members) in passes.items()}

    shares = [sum(prices(each).values(), Price(0, 0, 0)).share for each in MEASURED.values()] if epochs is None else []
    assumed = epochs or ASSUMED
    least, most = (min(shares), max(shares)) if shares else (None, None)
    return Forecast(assumed, examples, rate, prices(assumed), least, most)


def limited(recipe: Recipe) -> Epochs:
    """The epochs that are assumed, as far as a recipe allows them."""
    scratch, mother, member = (recipe.of(stage).epochs for stage in ("independent", "mothers", "members"))
    return Epochs(min(ASSUMED.scratch, scratch), min(ASSUMED.mother, mother), min(ASSUMED.member, member))


def _price(mother: int, members: Sequence[int], epochs: Epochs, examples: int) -> Price:
    step = FORWARD_AND_BACKWARD * examples
    return Price(
        step * epochs.mother * mother, step * epochs.member * sum(members), step * epochs.scratch * sum(members)
    )


def planned_passes(plan: Plan) -> dict[str, Passes]:
    """The passes of a plan's clusters."""
    return {
        cluster.name: (
            cluster.multiply_adds,
            tuple(member.multiply_adds for member in plan.members if member.cluster == cluster.name),
        )
        for cluster in plan.clusters
    }


def passes_of(clusters: Iterable[Cluster]) -> dict[str, Passes]:
    """The passes of clusters that are not planned yet."""
    return {each.name: (each.structure.cost, tuple(member.cost for member in each.members)) for each in clusters}


def examples_of(data: str, plan: Plan, train_limit: int | None = None) -> int:
    """The number of training examples of a data set.

    Raises:
        MnxError: there is no such data set, or it does not fit the plan.
    """
    return len(dataset.load(data, plan.interface, plan.seed, train_limit=train_limit).train)


def measured(run: RunFolder) -> tuple[int | None, float | None]:
    """Examples of an epoch and multiply-adds a second of what a run has trained; None where it has nothing."""
    if not (run.plan_file.exists() and run.events_file.exists()):
        return None, None
    events = records_in(run.events_file.read_bytes())
    done = [event for event in events if event["event"] == "trained" and event["seconds"] > 0]
    if not done:
        return None, None
    plan, last = run.plan(), done[-1]
    known = {cluster.name: cluster.multiply_adds for cluster in plan.clusters}
    known |= {member.name: member.multiply_adds for member in plan.members}
    passes = FORWARD_AND_BACKWARD * last["epochs"] * known.get(last["network"], 0)
    rate = sum(event["multiply_adds"] for event in done) / sum(event["seconds"] for event in done)
    return round(last["multiply_adds"] / passes) if passes else None, rate
