"""Bars: inequalities between measures that an evaluation must satisfy to pass.

rollout.k4.psnr.h4 >= rollout.copy.psnr.h4 + 1        sums and differences of measures and numbers on both sides
imagined.difference.low > 0                           .low and .high are the ends of a measure's interval, .n its count
"""

import difflib
import math
import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from dreamer4_impl.evaluation.measures import Measure

#: The reward head explains some of the rewards, and finds most of the rewarded frames and few that are not.
_REWARD: Final = ("reward.explained.low > 0", "reward.precision >= 0.5", "reward.recall >= 0.5")

#: Named sets of bars: the acceptance criteria of training, on measures at K = 4.
NAMED: Final[Mapping[str, tuple[str, ...]]] = {
    "tokenizer": ("tokenizer.model.psnr >= tokenizer.mean_frame.psnr + 3",),
    "pca": ("tokenizer.model.psnr >= tokenizer.pca.psnr",),
    "dynamics": tuple(
        bar.format(h=h)
        for h in (4, 8)
        for bar in (
            "rollout.k4.psnr.h{h} >= rollout.copy.psnr.h{h} + 1",
            "rollout.k4.psnr.h{h} >= rollout.mean_frame.psnr.h{h} + 1",
            "rollout.k4.psnr.h{h} >= rollout.k64.psnr.h{h} - 1",
            "rollout.shuffle_gap.psnr.h{h} >= 0.5",
        )
    ),
    "agent": (*_REWARD, "imagined.difference.low > 0", "imagined.difference.n >= 256", "imagined.kl <= 1"),
    "game": (
        *_REWARD,
        "game.policy.low > game.random.high",
        "game.policy.low > game.prior.high",
        "returns.ratio >= 0.8",
        "returns.ratio <= 1.2",
        "returns.ratio.n >= 400",
    ),
}

_RELATIONS: Final = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_NAME: Final = r"[a-z]\w*(?:\.\w+)+"
_TERM: Final = re.compile(rf"([+-])\s*({_NAME}|\d+(?:\.\d*)?)")
_SIDE: Final = re.compile(rf"(?:{_TERM.pattern}\s*)+")
_BOUNDS: Final = ("low", "high", "n")


class UnknownMeasureError(KeyError):
    """A bar refers to a measure that the evaluation lacks."""


@dataclass(frozen=True)
class Bar:
    """Inequality between two sums.

    Args:
        text: the comparison before parsing.
        left: terms of the left sum, (sign, measure or number) each, sign ±1.
        relation: ">=", "<=", ">" or "<".
        right: terms of the right sum.
    """

    text: str
    left: tuple[tuple[int, str], ...]
    relation: str
    right: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Verdict:
    """Result of one bar.

    Args:
        bar: text of the comparison.
        met: True if the inequality holds; False if a measure is missing.
        left: value of the left side; NaN if a measure is missing.
        right: value of the right side; NaN if a measure is missing.
        reason: which measure is missing; empty otherwise.
    """

    bar: str
    met: bool
    left: float
    right: float
    reason: str = ""

    @property
    def detail(self) -> str:
        """Explanation of the verdict.

        Returns:
            The reason, or the values of both sides.
        """
        return self.reason or f"{self.left:.3f} and {self.right:.3f}"


def parse_bar(text: str) -> Bar:
    """Parse one bar.

    Args:
        text: two sums of measures and numbers, separated by >=, <=, > or <.

    Returns:
        The parsed bar.

    Raises:
        ValueError: if the relation or a side is missing, or a side is not a sum of measures and numbers.

    Example:
        >>> parse_bar("a.b > c.d + 1").right
        ((1, 'c.d'), (1, '1'))
    """
    left, relation, right = [side.strip() for side in ([*re.split(r"(>=|<=|>|<)", text, maxsplit=1), "", ""])[:3]]
    if relation not in _RELATIONS or not left or not right:
        raise ValueError(f"a bar must compare two sides by one of {', '.join(_RELATIONS)}; got {text!r}")
    return Bar(text.strip(), _terms(left, text), relation, _terms(right, text))


def named_bars(name: str) -> tuple[Bar, ...]:
    """Look up a named set of bars.

    Args:
        name: a key of `NAMED`.

    Returns:
        The bars of the set, in order.

    Raises:
        ValueError: if there is no such set.

    Example:
        >>> len(named_bars("dynamics"))
        8
    """
    if name not in NAMED:
        raise ValueError(f"bars must be some of {', '.join(NAMED)}; got {name!r}")
    return tuple(parse_bar(line) for line in NAMED[name])


def judge_bars(bars: Iterable[Bar], measures: Mapping[str, Measure]) -> list[Verdict]:
    """Compare each bar with the measures.

    Args:
        bars: the bars, as parsed by `parse_bar`.
        measures: measures by name.

    Returns:
        One verdict per bar, in order. A bar with a missing measure is not met.

    Example:
        >>> judge_bars([parse_bar("a.b >= 2")], {"a.b": Measure(2.5, 2.1, 2.9, n=8)})[0].met
        True
    """
    return [_judge(bar, measures) for bar in bars]


def _judge(bar: Bar, measures: Mapping[str, Measure]) -> Verdict:
    try:
        left, right = _sum(bar.left, measures), _sum(bar.right, measures)
    except UnknownMeasureError as error:
        return Verdict(bar.text, False, math.nan, math.nan, str(error.args[0]))
    return Verdict(bar.text, bool(_RELATIONS[bar.relation](left, right)), left, right)


def _terms(side: str, text: str) -> tuple[tuple[int, str], ...]:
    signed = side if side[0] in "+-" else f"+{side}"
    if not _SIDE.fullmatch(signed):
        raise ValueError(
            "each side of a bar must be a sum of measures such as rollout.k4.psnr.h4 and numbers; "
            f"got {side!r} in {text!r}"
        )
    return tuple((1 if sign == "+" else -1, term) for sign, term in _TERM.findall(signed))


def _sum(terms: tuple[tuple[int, str], ...], measures: Mapping[str, Measure]) -> float:
    return sum(sign * (float(term) if term[0].isdigit() else _value(term, measures)) for sign, term in terms)


def _value(name: str, measures: Mapping[str, Measure]) -> float:
    if name in measures:
        return measures[name].value
    stem, _, bound = name.rpartition(".")
    if bound in _BOUNDS and stem in measures:
        return float(getattr(measures[stem], bound))
    near = difflib.get_close_matches(name, measures, n=1)
    raise UnknownMeasureError(f"{name} was not measured" + (f"; did you mean {near[0]}?" if near else ""))
