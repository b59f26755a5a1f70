"""Compare bootstrap training with flow matching alone: same network, data, steps and seed, sampled in few steps."""

from dataclasses import replace
from typing import Any, Final

from studies.bootstrap.data import Data
from studies.bootstrap.training import Progress, Recipe, distances, labelled_d_min, train

#: A2's split: half of the timesteps at d_min, the rest uniform above it.
SPLIT: Final = Recipe("normalised", d_min_share=0.5)
FLOW_ONLY: Final = replace(SPLIT, d_min_share=1.0)
#: Upper bound on the energy distance by K, relative to the one without bootstrap training.
BOUNDS: Final = {1: 0.2, 2: 0.2, 4: 1.0}


def compare(data: Data, seed: int, steps: int, progress: Progress) -> dict[str, Any]:
    """Train with and without bootstrap training and measure the energy distances by K.

    Flow matching alone trains no label but d_min. It is sampled both with d = 1/K and with d_min everywhere; `ratios`
    compares bootstrap training with the better of the two for each K.

    Args:
        data: distribution to learn.
        seed: of network, data and noise.
        steps: number of training steps of each network.
        progress: callback after every step.

    Returns:
        One row of results in JSON types; a distance is None where samples are not finite.
    """
    split, flow = replace(SPLIT, steps=steps), replace(FLOW_ONLY, steps=steps)
    bootstrap = train(data, split, seed, progress).network
    plain = train(data, flow, seed, progress).network
    return {
        "data": data.name,
        "seed": seed,
        "steps": steps,
        "bootstrap": _text_keys(distances(bootstrap, data, split.k_max, seed)),
        "flow, d = 1/K": _text_keys(distances(plain, data, flow.k_max, seed)),
        "flow, d_min": _text_keys(distances(labelled_d_min(plain, flow.k_max), data, flow.k_max, seed)),
    }


def ratios(row: dict[str, Any]) -> dict[int, float]:
    """Ratio of the energy distance with bootstrap training to the better one without, by K.

    Args:
        row: result of `compare`.

    Returns:
        {K: ratio}; infinite where the samples with bootstrap training are not finite.

    Example:
        >>> bootstrap, flow = {"1": 0.1, "2": 0.2, "4": 0.3}, {"1": 1.0, "2": 0.4, "4": 0.6}
        >>> ratios({"bootstrap": bootstrap, "flow, d = 1/K": flow, "flow, d_min": flow})
        {1: 0.1, 2: 0.5, 4: 0.5}
    """
    return {num_steps: _ratio(row, str(num_steps)) for num_steps in BOUNDS}


def failures(row: dict[str, Any]) -> list[str]:
    """Messages about the bounds that a row exceeds.

    Args:
        row: result of `compare`.

    Returns:
        One message per K whose ratio exceeds its bound in `BOUNDS`.

    Example:
        >>> bootstrap, flow = {"1": 0.1, "2": 0.1, "4": 0.1}, {"1": 1.0, "2": 1.0, "4": 0.05}
        >>> failures({"data": "ring", "seed": 0, "bootstrap": bootstrap, "flow, d = 1/K": flow, "flow, d_min": flow})
        ['ring, seed 0, K = 4: 2 times the energy distance without bootstrap training; at most 1']
    """
    return [
        f"{row['data']}, seed {row['seed']}, K = {num_steps}: {ratio:.3g} times the energy distance without "
        f"bootstrap training; at most {BOUNDS[num_steps]:g}"
        for num_steps, ratio in ratios(row).items()
        if not ratio <= BOUNDS[num_steps]
    ]


def _ratio(row: dict[str, Any], num_steps: str) -> float:
    bootstrap = row["bootstrap"][num_steps]
    flow = [row[name][num_steps] for name in ("flow, d = 1/K", "flow, d_min")]
    finite = [value for value in flow if value is not None]
    if bootstrap is None or not finite:
        return float("inf") if bootstrap is None else 0.0
    return bootstrap / min(finite)


def _text_keys(values: dict[int, float | None]) -> dict[str, float | None]:
    return {str(key): value for key, value in values.items()}
