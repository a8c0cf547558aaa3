"""How members are hatched: how they grow, and what is done to them behind their certificates."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from mnx.graphs.certificate import Certificate
from mnx.graphs.growth.growing import Style
from mnx.graphs.growth.perturb import Perturbation


@dataclass(frozen=True)
class Hatching:
    """How the members of a run are hatched.

    Attributes:
        split: how the copies of a channel share it.
        fresh: the share of further channels that are new.
        perturbation: what is done behind the certificate; nothing by default.

    Raises:
        GraphError: the split is unknown, or the share is none.
    """

    split: str = "random"
    fresh: float = 0.0
    perturbation: Perturbation = field(default_factory=Perturbation)

    def __post_init__(self) -> None:
        self.style(0)

    def style(self, seed: int) -> Style:
        """How one member grows."""
        return Style(seed, self.split, self.fresh)

    @classmethod
    def of(cls, certificate: Certificate) -> Hatching:
        """How a member was hatched."""
        return cls(certificate.split, certificate.fresh, Perturbation(**certificate.perturbed))

    def alike(self, other: Hatching) -> bool:
        """Whether both hatch the same."""
        return (self.split, self.fresh, self.perturbed) == (other.split, other.fresh, other.perturbed)

    @property
    def text(self) -> str:
        """In words."""
        return f"split {self.split}, fresh {self.fresh:g}, {self.perturbation.text} behind the certificate"

    @property
    def perturbed(self) -> dict[str, Any]:
        """What a certificate says of the perturbation."""
        return asdict(self.perturbation) if self.perturbation.changes else {}
