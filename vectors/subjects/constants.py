"""Vectors of the paper's default values."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dreamer4_conformance.checks.constants import PAPER
from dreamer4_reference.minecraft_actions import BINARIES, MOUSE_BINS
from vectors.vector import Output, Vector, exact

PRECISION = 2.0**-20
"""Relative, as in the check of const.values: a default may be stored in float32."""


def vectors() -> Iterator[Vector]:
    """One output for each value, and the numbers of Minecraft's actions."""
    defaults = {name: Output(np.array(float(value)), np.array(PRECISION * value)) for name, value in PAPER.items()}
    yield Vector("defaults", "constants", "const.values", {}, defaults)
    counts = {"binary_actions": exact(float(BINARIES)), "mouse_classes": exact(float(MOUSE_BINS**2))}
    yield Vector("minecraft-actions", "constants", "data.actions", {}, counts)
