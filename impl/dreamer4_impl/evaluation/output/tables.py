"""The measures of an evaluation as tables, for the terminal and the page alike."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dreamer4_impl.evaluation.measures import Measure

#: What a section measures, as its heading.
TITLES: Final[Mapping[str, str]] = {
    "tokenizer": "Tokenizer: reconstructions of held-out frames",
    "rollout": "Open-loop rollouts: recorded context and actions, imagined frames",
    "reward": "Reward prediction on held-out clips",
    "imagined": "Imagined returns of policy and behaviour-cloned prior",
    "game": "Returns in the real game",
}

#: Rows of the predictors, in order; K = … stand between them.
_LABELS: Final[Mapping[str, str]] = {
    "model": "tokenizer",
    "reconstruction": "reconstruction of the true frame",
    "shuffled": "model, actions of another clip",
    "pca": "PCA with as many values",
    "copy": "copy of the last frame seen",
    "mean_frame": "mean training frame",
}

#: Paired differences, at the K of `shown_steps`.
GAINS: Final[dict[str, str]] = {
    "over_copy": "gain of the model over the copy",
    "over_mean_frame": "gain of the model over the mean frame",
    "shuffle_gap": "gain from the right actions",
}

_SINGLE: Final[Mapping[str, str]] = {
    "reward.error": "mean square error of the reward head",
    "reward.error_of_mean": "mean square error of the mean reward",
    "reward.explained": "share of that error explained",
    "reward.correlation": "correlation of predicted and recorded reward",
    "imagined.policy": "policy",
    "imagined.prior": "behaviour-cloned prior",
    "imagined.difference": "difference, paired",
    "imagined.kl": "mean KL of the policy to the prior, nats",
    "game.policy": "policy",
    "game.random": "random policy",
    "game.difference": "difference",
}


@dataclass(frozen=True)
class Table:
    """Rows of labelled cells; a cell is a measure or None."""

    section: str
    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Measure | None]]]

    @property
    def n(self) -> str:
        """On how many clips (rollouts, episodes) the numbers are."""
        counts = sorted({cell.n for _, cells in self.rows for cell in cells if cell})
        return f"n = {' or '.join(map(str, counts))}"


def written(measure: Measure) -> str:
    """A measure with its interval.

    >>> written(Measure(41.0, 40.25, 41.75, n=64))
    '41.00 [40.25, 41.75]'
    """
    numbers = [measure.value, *(end for end in (measure.low, measure.high) if not math.isnan(end))]
    largest = max(map(abs, numbers))
    places = 2 if measure.unit == "dB" or largest >= 1 else 3 if largest >= 0.01 else 5
    # Adding 0 takes the sign of what rounds to 0.
    value, *ends = (f"{round(number, places) + 0.0:.{places}f}" for number in numbers)
    return f"{value} [{', '.join(ends)}]" if ends else value


def label(name: str) -> str:
    """What a predictor is called.

    >>> label("k4")
    'model, K = 4'
    """
    return f"model, K = {name[1:]}" if name[1:].isdigit() else _LABELS[name]


def predictors(measures: Mapping[str, Measure], section: str, metric: str) -> list[str]:
    """Those that were measured: the upper bound first, then K = 1, 2, …, then the baselines.

    >>> predictors({"rollout.copy.psnr.h1": Measure(1, 1, 1, 2), "rollout.k4.psnr.h1": Measure(1, 1, 1, 2)}, "rollout", "psnr")
    ['k4', 'copy']
    """
    parts = [name.split(".") for name in measures]
    found = {part[1] for part in parts if part[0] == section and len(part) > 2 and part[2] == metric}
    samplers = sorted((name for name in found if name[1:].isdigit()), key=lambda name: int(name[1:]))
    order = ["reconstruction", "model", *samplers, "shuffled", "pca", "copy", "mean_frame"]
    return [name for name in order if name in found]


def horizons(measures: Mapping[str, Measure]) -> list[int]:
    """How many frames ahead rollouts were measured.

    >>> horizons({"rollout.copy.psnr.h16": Measure(1, 1, 1, 2)})
    [16]
    """
    return sorted({int(name.rpartition(".h")[2]) for name in measures if name.startswith("rollout.")})


def tables(measures: Mapping[str, Measure]) -> Iterator[Table]:
    """All tables that the measures fill."""
    units = {"psnr": "PSNR, dB", "ssim": "SSIM"}
    yield from _of_tokenizer(measures, units)
    for metric, unit in units.items():
        yield from _of_rollouts(measures, metric, unit)
    for section in ("reward", "imagined", "game"):
        found = [(_SINGLE[name], [measures[name]]) for name in _SINGLE if name in measures and name.startswith(section)]
        if found:
            yield Table(section, TITLES[section], ["mean"], found)


def _of_tokenizer(measures: Mapping[str, Measure], units: Mapping[str, str]) -> Iterator[Table]:
    metrics = [metric for metric in units if predictors(measures, "tokenizer", metric)]
    if metrics:
        names = predictors(measures, "tokenizer", metrics[0])
        rows = [(label(name), [measures.get(f"tokenizer.{name}.{metric}") for metric in metrics]) for name in names]
        yield Table("tokenizer", TITLES["tokenizer"], [units[metric] for metric in metrics], rows)


def _of_rollouts(measures: Mapping[str, Measure], metric: str, unit: str) -> Iterator[Table]:
    ahead = horizons(measures)
    names = {name: label(name) for name in predictors(measures, "rollout", metric)} | GAINS
    cells = {name: [measures.get(f"rollout.{name}.{metric}.h{h}") for h in ahead] for name in names}
    rows = [(names[name], found) for name, found in cells.items() if any(found)]
    if rows:
        yield Table("rollout", f"{unit}, by frames ahead", [str(h) for h in ahead], rows)
