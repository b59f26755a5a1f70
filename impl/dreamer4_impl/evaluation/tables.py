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
    "reconstruction": "tokenizer's reconstruction (upper bound)",
    "shuffled": "model, actions of another clip",
    "pca": "PCA with as many values",
    "copy": "copy of the last frame seen",
    "mean_frame": "mean training frame",
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
    places = 4 if 0 < abs(measure.value) < 0.1 else 3 if measure.unit == "" and abs(measure.value) < 1 else 2
    value = f"{measure.value:.{places}f}"
    if math.isnan(measure.low) or math.isnan(measure.high):
        return value
    return f"{value} [{measure.low:.{places}f}, {measure.high:.{places}f}]"


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
    found = {part[1] for part in parts if part[0] == section and len(part) > 2 and part[2] == metric} - {"shuffle_gap"}
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
    by_frame = predictors(measures, "tokenizer", "psnr")
    if by_frame:
        metrics = [metric for metric in ("psnr", "ssim") if predictors(measures, "tokenizer", metric)]
        rows = [(label(p), [measures.get(f"tokenizer.{p}.{metric}") for metric in metrics]) for p in by_frame]
        units = {"psnr": "PSNR, dB", "ssim": "SSIM"}
        yield Table("tokenizer", TITLES["tokenizer"], [units[metric] for metric in metrics], rows)
    ahead = horizons(measures)
    for metric, unit in (("psnr", "PSNR, dB"), ("ssim", "SSIM")):
        names = predictors(measures, "rollout", metric)
        rows = [(label(p), [measures.get(f"rollout.{p}.{metric}.h{h}") for h in ahead]) for p in names]
        if metric == "psnr" and f"rollout.shuffle_gap.psnr.h{max(ahead, default=0)}" in measures:
            gaps = [measures.get(f"rollout.shuffle_gap.psnr.h{h}") for h in ahead]
            rows.append(("what the right actions are worth, paired", gaps))
        if rows:
            yield Table("rollout", f"Open-loop rollouts: {unit}, by frames ahead", [str(h) for h in ahead], rows)
    for section in ("reward", "imagined", "game"):
        single = [(_SINGLE[name], [m]) for name, m in measures.items() if name in _SINGLE and name.startswith(section)]
        if single:
            yield Table(section, TITLES[section], ["mean"], single)
