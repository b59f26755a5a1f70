"""Training: the phases of Algorithm 1 by command, from one CPU to many GPUs (extra `train`)."""
