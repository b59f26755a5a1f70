"""The paper's default values."""

from __future__ import annotations


class Constants:
    """Default values, under the names of `Adapter.constants`."""

    def constants(self) -> dict[str, float]:
        """Values of Sec. 3 and App. A."""
        return {
            "num_steps": 4,
            "gamma": 0.997,
            "alpha": 0.5,
            "beta": 0.3,
            "mtp_length": 8,
            "mae_max": 0.9,
            "lpips_weight": 0.2,
            "image_fraction": 0.3,
            "binary_actions": 23,
            "mouse_classes": 121,
        }
