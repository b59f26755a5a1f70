"""Vectors of Sec. 4: classes of mouse movements, with the limit and μ of the public VPT data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dreamer4_reference.minecraft_actions import mouse_class
from vectors.vector import Vector, draw, exact

LIMIT = MU = 10.0
VPT = {"mouse_limit": LIMIT, "mouse_mu": MU, "mouse_axes": "first-times-11"}


def vectors() -> Iterator[Vector]:
    """No movement, which has the same class with every limit and μ; then all directions and sizes with those of VPT."""
    still = np.zeros((1, 2))
    yield Vector(
        "no-movement", "mouse_class", "data.actions", {"movement": still}, {"result": exact(mouse_class(still))}
    )
    sizes = np.array([0.25, 1.0, 2.5, 6.0, 10.0, 64.0])
    along = np.concatenate([-sizes[::-1], sizes])
    movement = np.concatenate(
        [np.stack([along, 0 * along], 1), np.stack([0 * along, along], 1), draw(3, 8, 2, limit=12.0, step=0.375)]
    )
    outputs = {"result": exact(mouse_class(movement, LIMIT, MU))}
    yield Vector("vpt", "mouse_class", "data.actions", {"movement": movement}, outputs, ("out_of_range",), {}, VPT)
