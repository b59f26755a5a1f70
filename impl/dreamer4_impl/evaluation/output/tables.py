"""Tables of the measures, for the terminal and the page."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dreamer4_impl.evaluation.measures import Measure

#: Headings of the sections.
TITLES: Final[Mapping[str, str]] = {
    "tokenizer": "Tokenizer: reconstructions of held-out frames",
    "rollout": "Open-loop rollouts: recorded context and actions, imagined frames",
    "reward": "Reward prediction on held-out episodes",
    "imagined": "Imagined returns of policy and behaviour-cloned prior",
    "game": "Returns in the real game",
    "returns": "Imagined and real return of the policy, from the same starts",
}

#: Labels of the predictors; those of the samplers are computed from K.
_LABELS: Final[Mapping[str, str]] = {
    "model": "tokenizer",
    "reconstruction": "reconstruction of the true frame",
    "shuffled": "model, actions of another clip",
    "pca": "PCA with as many values",
    "copy": "copy of the last observed frame",
    "mean_frame": "mean training frame",
}

#: Labels of the paired differences, at the K of `shown_steps`.
GAINS: Final[dict[str, str]] = {
    "over_copy": "gain of the model over the copy",
    "over_mean_frame": "gain of the model over the mean frame",
    "shuffle_gap": "gain from the right actions",
}

_SINGLE: Final[Mapping[str, str]] = {
    "reward.error": "mean square error of the reward head",
    "reward.error_of_mean": "mean square error of the mean reward",
    "reward.explained": "share of that error explained",
    "reward.precision": "share of the predicted rewarded frames that are right",
    "reward.recall": "share of the rewarded frames that are predicted",
    "reward.correlation": "correlation of predicted and recorded reward",
    "imagined.policy": "policy",
    "imagined.prior": "behaviour-cloned prior",
    "imagined.difference": "difference, paired",
    "imagined.kl": "mean KL of the policy to the prior, nats",
    "game.policy": "policy",
    "game.prior": "behaviour-cloned prior",
    "game.random": "random policy",
    "game.difference": "difference of policy and random policy",
}

#: Headings of the table of imagined and real return.
_RETURNS: Final[Mapping[str, str]] = {
    "returns.imagined": "imagined",
    "returns.real": "real",
    "returns.difference": "difference, paired",
    "returns.ratio": "imagined / real",
}


@dataclass(frozen=True)
class Table:
    """Table of measures.

    Args:
        section: name of the section.
        title: caption.
        columns: headings of the columns.
        rows: label and cells of each row; a cell is None if it was not measured.
    """

    section: str
    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Measure | None]]]

    @property
    def n(self) -> str:
        """Number of clips, rollouts or episodes behind the cells.

        Returns:
            Text such as "n = 64", or "n = 63 or 64" if cells differ.
        """
        counts = sorted({cell.n for _, cells in self.rows for cell in cells if cell})
        return f"n = {' or '.join(map(str, counts))}"


def format_measure(measure: Measure) -> str:
    """Format a measure with its interval.

    Args:
        measure: estimate, interval and unit to format.

    Returns:
        Value and interval, with 2 to 5 decimals depending on the magnitude; the value alone if there is no interval.

    Example:
        >>> format_measure(Measure(41.0, 40.25, 41.75, n=64))
        '41.00 [40.25, 41.75]'
    """
    numbers = [measure.value, *(end for end in (measure.low, measure.high) if not math.isnan(end))]
    largest = max(map(abs, numbers))
    decimals = 2 if measure.unit == "dB" or largest >= 1 else 3 if largest >= 0.01 else 5
    # Adding 0 turns -0 into 0.
    value, *ends = (f"{round(number, decimals) + 0.0:.{decimals}f}" for number in numbers)
    return f"{value} [{', '.join(ends)}]" if ends else value


def label(name: str) -> str:
    """Label of a predictor.

    Args:
        name: name of the predictor in a measure.

    Returns:
        Text for the first column.

    Example:
        >>> label("k4")
        'model, K = 4'
    """
    return f"model, K = {name[1:]}" if name[1:].isdigit() else _LABELS[name]


def predictors(measures: Mapping[str, Measure], section: str, metric: str) -> list[str]:
    """Predictors that were measured.

    Args:
        measures: measures by name.
        section: "tokenizer" or "rollout".
        metric: "psnr" or "ssim".

    Returns:
        Names in the order of the rows: upper bound, samplers by K, baselines.

    Example:
        >>> measures = dict.fromkeys(["rollout.copy.psnr.h1", "rollout.k4.psnr.h1"], Measure(1, 1, 1, n=2))
        >>> predictors(measures, "rollout", "psnr")
        ['k4', 'copy']
    """
    fields = [name.split(".") for name in measures]
    measured = {field[1] for field in fields if field[0] == section and len(field) > 2 and field[2] == metric}
    samplers = sorted((name for name in measured if name[1:].isdigit()), key=lambda name: int(name[1:]))
    order = ["reconstruction", "model", *samplers, "shuffled", "pca", "copy", "mean_frame"]
    return [name for name in order if name in measured]


def horizons(measures: Mapping[str, Measure]) -> list[int]:
    """Horizons at which rollouts were measured.

    Args:
        measures: measures by name.

    Returns:
        Numbers of frames ahead, ascending.

    Example:
        >>> horizons({"rollout.copy.psnr.h16": Measure(1, 1, 1, n=2)})
        [16]
    """
    return sorted({int(name.rpartition(".h")[2]) for name in measures if name.startswith("rollout.")})


def tables(measures: Mapping[str, Measure]) -> Iterator[Table]:
    """Tables of all measures; a table without measures is left out.

    Args:
        measures: measures by name.

    Returns:
        The tables, ordered by section.
    """
    units = {"psnr": "PSNR, dB", "ssim": "SSIM"}
    yield from _tokenizer_table(measures, units)
    for metric, unit in units.items():
        yield from _rollout_table(measures, metric, unit)
    for section in ("reward", "imagined", "game"):
        rows = [(_SINGLE[name], [measures[name]]) for name in _SINGLE if name in measures and name.startswith(section)]
        if rows:
            yield Table(section, TITLES[section], ["mean"], rows)
    if all(name in measures for name in _RETURNS):
        cells = [measures[name] for name in _RETURNS]
        yield Table("returns", TITLES["returns"], list(_RETURNS.values()), [("policy", cells)])


def _tokenizer_table(measures: Mapping[str, Measure], units: Mapping[str, str]) -> Iterator[Table]:
    metrics = [metric for metric in units if predictors(measures, "tokenizer", metric)]
    if metrics:
        names = predictors(measures, "tokenizer", metrics[0])
        rows = [(label(name), [measures.get(f"tokenizer.{name}.{metric}") for metric in metrics]) for name in names]
        yield Table("tokenizer", TITLES["tokenizer"], [units[metric] for metric in metrics], rows)


def _rollout_table(measures: Mapping[str, Measure], metric: str, unit: str) -> Iterator[Table]:
    ahead = horizons(measures)
    names = {name: label(name) for name in predictors(measures, "rollout", metric)} | GAINS
    cells = {name: [measures.get(f"rollout.{name}.{metric}.h{h}") for h in ahead] for name in names}
    rows = [(names[name], row) for name, row in cells.items() if any(row)]
    if rows:
        yield Table("rollout", f"{unit}, by frames ahead", [str(h) for h in ahead], rows)
