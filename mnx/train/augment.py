"""What is done to training examples at random, and the draws that decide it.

Draws depend on (seed, epoch, index of the example) alone, those of mixup on (seed, epoch, step): no state is carried
from step to step, and training that goes on from a checkpoint sees the same examples as training that never stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from mnx.errors import MnxError
from mnx.graphs.model import Array

PADDINGS: Final = ("reflect", "zero")
MIRRORS: Final = ("off", "random", "alternating")

CROP: Final = "mnx:crop"
"""By how many rows and columns what is cut out lies below and right of the image's middle, int64, (batch, 2)."""
MIRROR: Final = "mnx:mirror"
"""Whether left and right change places, bool, (batch,)."""
CUTOUT: Final = "mnx:cutout"
"""Row and column of the centre of the square that is blanked, int64, (batch, 2)."""
PARTNERS: Final = "mnx:partners"
"""The place in the batch of the example that each is mixed with, int64, (batch,)."""
SHARE: Final = "mnx:share"
"""The share of itself that every example keeps in the mixture, a float32 scalar."""

_ROW, _COLUMN, _MIRRORED, _CUT_ROW, _CUT_COLUMN, _MIXED = range(1, 7)
"""What is drawn: draws of different kinds are independent of each other."""


@dataclass(frozen=True)
class Augmentation:
    """Changes to training images, in this order; none by default.

    Attributes:
        crop: images are padded by so many pixels on all sides, and a part of their old size is cut out at random.
        padding: what stands there: the image, 'reflect'ed without its edge, or 'zero', the mean colour (He et al.
            2016), since zeros are put in after scaling.
        mirror: 'random' mirrors left and right every time with probability 1/2. 'alternating' draws that for the first
            epoch only, and every example is mirrored in the even epochs or in the odd ones (Jordan 2024, airbench):
            any two epochs in a row show it once each way.
        cutout: the side, in pixels, of a square of zeros whose centre is anywhere in the image (DeVries & Taylor 2017);
            what reaches over the edge is lost.
        mixup: alpha of the Beta distribution of the share that examples keep when they are mixed in pairs (Zhang et al.
            2018), one share for a batch; 0 for no mixing.

    Raises:
        MnxError: a value is out of its range.
    """

    crop: int = 0
    padding: str = "reflect"
    mirror: str = "off"
    cutout: int = 0
    mixup: float = 0.0

    def __post_init__(self) -> None:
        for key, (legal, words) in RANGES.items():
            if not legal(getattr(self, key)):
                raise MnxError(f"augmentation: {key} = {getattr(self, key)}: give {words}")

    @property
    def of_images(self) -> tuple[str, ...]:
        """The names of the changes asked for that only images can take."""
        asked = {"crop": self.crop > 0, "mirror": self.mirror != "off", "cutout": self.cutout > 0}
        return tuple(name for name, wanted in asked.items() if wanted)


RANGES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "crop": (lambda value: value >= 0, "a whole number of pixels, 0 for none"),
    "padding": (lambda value: value in PADDINGS, " or ".join(PADDINGS)),
    "mirror": (lambda value: value in MIRRORS, ", ".join(MIRRORS)),
    "cutout": (lambda value: value >= 0, "a whole number of pixels, 0 for none"),
    "mixup": (lambda value: 0 <= value < float("inf"), "a finite number, 0 for none"),
}
"""Legal values of the keys, and how to say so."""

PLAIN: Final = Augmentation()
"""Examples as they are."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """How the examples of a batch are mixed: share * example + (1 - share) * partner, and their targets likewise.

    Attributes:
        partners: the index in the data of every example's partner, int64, shape (batch,).
        share: the share of itself that every example keeps, a float32 number.
        places: the partners' places in the batch, int64, shape (batch,).
    """

    partners: Array
    share: float
    places: Array


def draws(
    augmentation: Augmentation, size: tuple[int, int] | None, seed: int, epoch: int, indices: Array
) -> dict[str, Array]:
    """What is drawn for some examples, by input of the feed's graph; all but mixup.

    Args:
        augmentation: what is asked for.
        size: height and width of the images, None where there are none.
        seed: of the network, not negative.
        epoch: counted from 0.
        indices: of the examples, integers of shape (batch,).
    """
    found: dict[str, Array] = {}
    if size is None:
        return found
    if augmentation.crop:
        offsets = [_below(_hashes(indices, seed, epoch, kind), 2 * augmentation.crop + 1) for kind in (_ROW, _COLUMN)]
        found[CROP] = np.stack(offsets, axis=1) - augmentation.crop
    if augmentation.mirror == "random":
        found[MIRROR] = _below(_hashes(indices, seed, epoch, _MIRRORED), 2) == 1
    if augmentation.mirror == "alternating":
        found[MIRROR] = (_below(_hashes(indices, seed, 0, _MIRRORED), 2) + epoch) % 2 == 1
    if augmentation.cutout:
        kinds = zip((_CUT_ROW, _CUT_COLUMN), size, strict=True)
        centres = [_below(_hashes(indices, seed, epoch, kind), extent) for kind, extent in kinds]
        found[CUTOUT] = np.stack(centres, axis=1)
    return found


def mixture(augmentation: Augmentation, seed: int, epoch: int, step: int, indices: Array) -> Mixture | None:
    """How the examples of a batch are mixed; None where they are not. Arguments as those of `draws`."""
    if not augmentation.mixup:
        return None
    generator = np.random.default_rng([seed, epoch, step, _MIXED])
    share = float(np.float32(generator.beta(augmentation.mixup, augmentation.mixup)))
    places = generator.permutation(len(indices))
    return Mixture(indices[places], share, places)


def _hashes(indices: Array, seed: int, epoch: int, kind: int) -> Array:
    """64 random bits for every index: the finaliser of splitmix64 (Steele et al. 2014) over all that they depend on."""
    state = np.zeros(len(indices), np.uint64)
    for part in (seed & _WORD, epoch, kind, indices.astype(np.uint64)):
        state = (state ^ np.asarray(part, np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return state


def _below(hashes: Array, count: int) -> Array:
    """Numbers from 0 to `count` - 1, int64, evenly but for one part in 2^32."""
    return ((hashes >> np.uint64(32)) * np.uint64(count) >> np.uint64(32)).astype(np.int64)


_WORD = (1 << 64) - 1
