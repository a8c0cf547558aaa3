"""The digits data set, shipped with mnx: 1,797 images of 8 x 8 pixels in 17 grey levels (0 to 16), ten classes.

E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (1998), CC BY 4.0,
https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits. These are its 1,797 test images, which
scikit-learn has too, changed in nothing but their dtype.
The file was made by

    d = sklearn.datasets.load_digits()
    numpy.savez_compressed("digits.npz", x=d.images[..., None].astype("uint8"), y=d.target.astype("uint8"))
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mnx.data.raw import RawData, Tell, split_by_seed
from mnx.graphs.model import Port

FILE = Path(__file__).with_name("digits.npz")
LEVELS = 16


def recognise(spec: str) -> bool:
    """Whether `spec` is the data set's name."""
    return spec == "digits"


def read(spec: str, ports: Sequence[Port], seed: int, tell: Tell) -> RawData:
    """The digits, x of shape (n, 8, 8, 1); a stratified fifth, by `seed`, is the test part."""
    with np.load(FILE, allow_pickle=False) as arrays:
        return split_by_seed("digits", arrays["x"], arrays["y"], seed, spec, "NHWC", LEVELS)
