"""`dreamer4-train all`: recording, the phases of training and evaluation, one after another."""
