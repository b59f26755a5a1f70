"""Settings and checkpoints, which training, evaluation and play share."""
