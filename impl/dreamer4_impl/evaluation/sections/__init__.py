"""The sections of an evaluation."""
