"""Bootstrap training against flow matching alone: the same network, data, steps and seed, sampled in few steps."""

from dataclasses import replace
from typing import Any, Final

from studies.bootstrap.data import Data
from studies.bootstrap.training import Progress, Recipe, distances, labelled_d_min, train

#: A2's split: half of the timesteps at d_min, the others uniform above it.
SPLIT: Final = Recipe("normalised", d_min_share=0.5)
FLOW_ONLY: Final = replace(SPLIT, d_min_share=1.0)
#: The most that the energy distance may be, as a share of that without bootstrap training.
BOUNDS: Final = {1: 0.2, 2: 0.2, 4: 1.0}


def compare(data: Data, seed: int, steps: int, progress: Progress) -> dict[str, Any]:
    """Energy distances by K with and without bootstrap training, as JSON has them.

    Without it no label but d_min was ever trained. It is sampled both with d = 1/K and with d_min everywhere, and for
    each K the better of the two is what bootstrap training is compared with.
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
    """Energy distance with bootstrap training over the better one without, by K; infinite where it is not finite.

    >>> one, two = {"1": 0.1, "2": 0.2, "4": 0.3}, {"1": 1.0, "2": 0.4, "4": 0.6}
    >>> ratios({"bootstrap": one, "flow, d = 1/K": two, "flow, d_min": two})
    {1: 0.1, 2: 0.5, 4: 0.5}
    """
    return {num_steps: _ratio(row, str(num_steps)) for num_steps in BOUNDS}


def failures(row: dict[str, Any]) -> list[str]:
    """A sentence for each K where bootstrap training is not as much better as it must be.

    >>> good, bad = {"1": 0.1, "2": 0.1, "4": 0.1}, {"1": 1.0, "2": 1.0, "4": 0.05}
    >>> row = {"data": "ring", "seed": 0, "bootstrap": good, "flow, d = 1/K": bad, "flow, d_min": bad}
    >>> failures(row)
    ['ring, seed 0, K = 4: 2 times the energy distance without bootstrap training; at most 1']
    """
    return [
        f"{row['data']}, seed {row['seed']}, K = {num_steps}: {ratio:.3g} times the energy distance without "
        f"bootstrap training; at most {BOUNDS[num_steps]:g}"
        for num_steps, ratio in ratios(row).items()
        if not ratio <= BOUNDS[num_steps]
    ]


def _ratio(row: dict[str, Any], num_steps: str) -> float:
    ours = row["bootstrap"][num_steps]
    theirs = [row[name][num_steps] for name in ("flow, d = 1/K", "flow, d_min")]
    finite = [value for value in theirs if value is not None]
    if ours is None or not finite:
        return float("inf") if ours is None else 0.0
    return ours / min(finite)


def _text_keys(values: dict[int, float | None]) -> dict[str, float | None]:
    return {str(key): value for key, value in values.items()}
