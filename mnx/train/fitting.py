"""What a recipe becomes on a data set, and whether the two fit, asked before anything is trained or written."""

from __future__ import annotations

import numpy as np

from mnx.data.dataset import Dataset
from mnx.errors import MnxError
from mnx.graphs.model import Model
from mnx.train.augment import Augmentation
from mnx.train.feed_graph import feed_graph, is_image
from mnx.train.losses import TASKS, require_loss
from mnx.train.recipe import Recipe
from mnx.train.settings import StepSettings
from mnx.train.teacher import read_teacher


def step_settings(recipe: Recipe, data: Dataset) -> StepSettings:
    """What the training step must know.

    Args:
        recipe: of one stage, see `Recipe.of`.
        data: what it is trained on.

    Raises:
        MnxError: class weights are asked for where there are no classes.
    """
    counts = np.bincount(data.train.y, minlength=data.classes).tolist() if data.kind == "classes" else []
    return recipe.step(data.kind, TASKS[data.kind].default, counts)


def augmentation_of(recipe: Recipe, data: Dataset) -> Augmentation:
    """What is done to examples; to images only where there are any."""
    return recipe.augmentation({scaling.shape[1:] for scaling in data.scalings if is_image(scaling)})


def teacher_of(recipe: Recipe, data: Dataset) -> Model | None:
    """The network that a recipe has others learn from, None where there is none; see `read_teacher`."""
    return read_teacher(recipe.teacher, data.scalings, data.classes) if recipe.teacher else None


def require_fitting(recipe: Recipe, data: Dataset) -> None:
    """Refuse a recipe of one stage that these data cannot be trained by.

    Raises:
        MnxError: the loss, teacher, class weights, label smoothing or augmentation are none for these data, or there
            are too few examples to take a batch in parts.
    """
    require_loss(step_settings(recipe, data), data.classes)
    dtypes = [array.dtype.name for array in data.train.raw]
    feed_graph(dtypes, data.scalings, [scaling.dtype for scaling in data.scalings], augmentation_of(recipe, data))
    teacher_of(recipe, data)
    size = recipe.batch_of(len(data.train))
    if size % recipe.accumulate:
        raise MnxError(
            f"recipe: the {len(data.train)} training examples are one batch of {size}, which cannot be taken in "
            f"accumulate = {recipe.accumulate} equal parts"
        )
