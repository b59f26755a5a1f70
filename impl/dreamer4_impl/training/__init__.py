"""Training: the phases of Algorithm 1, from one CPU to many GPUs (extra `train`)."""
