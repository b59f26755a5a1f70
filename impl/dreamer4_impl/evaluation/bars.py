"""Bars: what must hold of the measures for an evaluation to pass, as one line each.

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

#: Bars that go by a name: those of the acceptance of training, in the measures at K = 4.
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
    "agent": ("imagined.difference.low > 0", "imagined.difference.n >= 256", "imagined.kl <= 1"),
}

_RELATIONS: Final = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_NAME: Final = r"[a-z]\w*(?:\.\w+)+"
_TERM: Final = re.compile(rf"([+-])\s*({_NAME}|\d+(?:\.\d*)?)")
_SIDE: Final = re.compile(rf"(?:{_TERM.pattern}\s*)+")
_BOUNDS: Final = ("low", "high", "n")


class UnknownMeasureError(KeyError):
    """A bar speaks of something that was not measured."""


@dataclass(frozen=True)
class Bar:
    """One requirement; each side is a sum of (sign, measure or number)."""

    text: str
    left: tuple[tuple[int, str], ...]
    relation: str
    right: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Verdict:
    """Whether a bar is met; left and right are NaN, and `reason` says why, where something was not measured."""

    bar: str
    met: bool
    left: float
    right: float
    reason: str = ""


def parse(text: str) -> Bar:
    """The bar that a line states.

    >>> parse("a.b > c.d + 1").right
    ((1, 'c.d'), (1, '1'))
    """
    left, relation, right = [part.strip() for part in ([*re.split(r"(>=|<=|>|<)", text, maxsplit=1), "", ""])[:3]]
    if relation not in _RELATIONS or not left or not right:
        raise ValueError(f"a bar must compare two sides by one of {', '.join(_RELATIONS)}; got {text!r}")
    return Bar(text.strip(), _terms(left, text), relation, _terms(right, text))


def named(name: str) -> tuple[Bar, ...]:
    """The bars that go by a name.

    >>> len(named("dynamics"))
    8
    """
    if name not in NAMED:
        raise ValueError(f"bars must be some of {', '.join(NAMED)}; got {name!r}")
    return tuple(parse(line) for line in NAMED[name])


def judge(bars: Iterable[Bar], measures: Mapping[str, Measure]) -> list[Verdict]:
    """Whether each bar is met; a bar about what was not measured is not.

    >>> judge([parse("a.b >= 2")], {"a.b": Measure(2.5, 2.1, 2.9, n=8)})[0].met
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
            f"each side of a bar must be a sum of measures such as rollout.k4.psnr.h4 and numbers; got {side!r} in {text!r}"
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
    raise UnknownMeasureError(f"{name} was not measured" + (f"; is {near[0]} meant?" if near else ""))
