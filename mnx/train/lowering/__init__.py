"""Ops as others that ONNX Runtime differentiates rightly, and as they behave in training: `LOWERINGS`."""

from mnx.train.lowering.draft import Mask, draw_masks
from mnx.train.lowering.table import LOWERINGS, Lowered, lowered

__all__ = ["LOWERINGS", "Lowered", "Mask", "draw_masks", "lowered"]
