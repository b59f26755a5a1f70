"""Checks and benchmarks for a GPU, in stages of one command each; see run.sh."""
