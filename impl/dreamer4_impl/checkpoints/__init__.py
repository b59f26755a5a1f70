"""Settings and checkpoints: what training, evaluation and play share on disk."""
