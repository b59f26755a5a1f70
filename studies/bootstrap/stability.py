"""Which settings make the loss diverge on the ring: one change at a time."""

from typing import Any, Final

from studies.bootstrap.data import RING
from studies.bootstrap.training import Progress, Recipe, distances, gain, train

#: Rows of the table: name → recipe. Rate and batch are typical of small experiments.
VARIANTS: Final = {
    "uniform": Recipe("plain", None, steps=600, batch=256, rate=1e-3),
    "uniform, rate a fifth": Recipe("plain", None, steps=600, batch=256, rate=2e-4),
    "uniform, a network for each d": Recipe("separate", None, steps=600, batch=256, rate=1e-3),
    "uniform, RMSNorm": Recipe("normalised", None, steps=600, batch=256, rate=1e-3),
    "a quarter at d_min": Recipe("plain", 0.25, steps=600, batch=256, rate=1e-3),
    "half at d_min": Recipe("plain", 0.5, steps=600, batch=256, rate=1e-3),
    "three quarters at d_min": Recipe("plain", 0.75, steps=600, batch=256, rate=1e-3),
    "three quarters at d_min, RMSNorm": Recipe("normalised", 0.75, steps=600, batch=256, rate=1e-3),
}
#: A loss above this many times the variance of the data has diverged; predicting zero has a loss of once the variance.
RUNAWAY: Final = 10.0
VARIANCE: Final = 2.0


def observe(name: str, seed: int, progress: Progress) -> dict[str, Any]:
    """Train one variant; return its peak loss after the first tenth, gain, distances and losses in JSON types."""
    recipe = VARIANTS[name]
    trained = train(RING, recipe, seed, progress)
    later = trained.losses[len(trained.losses) // 10 :]
    return {
        "variant": name,
        "seed": seed,
        "peak_loss": max(later),
        "ran_away": not max(later) < RUNAWAY * VARIANCE,
        "gain": gain(trained.network, RING, recipe.k_max),
        "distances": {str(k): value for k, value in distances(trained.network, RING, recipe.k_max, seed).items()},
        "losses": [float(f"{loss:.3g}") for loss in trained.losses[:: max(1, recipe.steps // 150)]],
    }
