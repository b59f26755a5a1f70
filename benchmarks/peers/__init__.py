"""Training step and generated frame of this implementation next to those of other projects, on a CPU."""
