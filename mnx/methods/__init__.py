"""Ways to train an ensemble, one file each; all share data, recipe, training loop and scoring."""
