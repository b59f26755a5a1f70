"""Checks of loss normalisation: every term is divided by a running estimate of its own root mean square.

The values of a term are s, 7 s, s, 7 s, …, whose root mean square is 5 s, mean 4 s, standard deviation 3 s and maximum
7 s. The paper leaves details open (A24), so the estimate is judged after `rms_warmup` values, which the adapter
declares, by the square of the divisor that the outputs imply, averaged over one period: any exponential average,
updated before or after the division, approaches 25 s² there.

Whether this square is the mean square is the subject of rms.normalise. The other clauses compare two divisors of the
implementation: of another scale, next to another term, after NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.verdicts import OperationFailed

NORMALISER = ("loss_normalizer",)
PERIOD = (1.0, 7.0)
MEAN_SQUARE = 25.0
TOLERANCE = 0.05
"""Relative, of the square. Allows an estimate that still approaches from a scale 4 times as large, an epsilon, and bf16
outputs. An estimate by the mean gives 16 s², by the standard deviation 9 s².
"""
SMALL = 1 / 256
"""Scale far below that of usual losses. Its root mean square, 5/256, is above the floors of A24."""
SETTLED = 0.001
"""Relative change of the square of the divisor during a warm-up, below which the estimate is settled."""
WARMUPS = 15
"""Warm-ups in addition to the declared one of an estimate that still approaches from its first value."""
SPIKE = 1.5
"""Smallest output for a value of 100 times the root mean square."""


class Running:
    """A new normaliser of the adapter, which takes and returns floats; warmed up by the scales of its terms."""

    def __init__(self, subject: Subject, **scales: float) -> None:
        self.subject = subject
        self.normalise: Callable[[str, Any], Any] = subject.call("loss_normalizer")
        self.scales: dict[str, float] = {}
        if scales:
            self.warm_up(**scales)

    def __call__(self, name: str, value: float) -> float:
        """Normalise one value. OperationFailed if the adapter's normaliser raises."""
        native = self.subject.native(np.array(value))
        out = self.subject.call_returned("loss_normalizer", self.normalise, name, native)
        return float(self.subject.read("loss_normalizer", out, ()))

    def warm_up(self, **scales: float) -> None:
        """Normalise `rms_warmup` values of each term, alternating between terms."""
        self.scales = scales
        count = self.subject.adapter.rms_warmup
        with self.subject.guarding("loss_normalizer"):
            for index in range(count + count % 2):  # whole periods
                for name, scale in scales.items():
                    self(name, scale * PERIOD[index % 2])

    def divisor_square(self, name: str) -> float:
        """The square of the divisor of a term, averaged over one period."""
        scale = self.scales[name]
        outputs = [(scale * value, self(name, scale * value)) for value in PERIOD]
        return sum((value / out) ** 2 if out else math.inf for value, out in outputs) / len(PERIOD)

    def settled_square(self, trial: Trial, name: str) -> float:
        """The square of the divisor as soon as it is settled. Inconclusive if it is not after all warm-ups."""
        squares = self._squares(name)
        if _moves(squares):
            trial.inconclusive(self._unsettled(name, squares))
        return squares[-1]

    def _squares(self, name: str, expected: float = math.nan) -> list[float]:
        """Squares of the divisor, one after each warm-up, until they are settled or within tolerance of `expected`."""
        squares = [self.divisor_square(name)]
        while len(squares) <= WARMUPS and not abs(squares[-1] - expected) <= TOLERANCE * expected:
            self.warm_up(**self.scales)
            squares.append(self.divisor_square(name))
            if not _moves(squares):
                break
        return squares

    def _unsettled(self, name: str, squares: list[float]) -> str:
        warmup = self.subject.adapter.rms_warmup
        return (
            f"after {len(squares) * warmup} values the square of the divisor of {name!r} still changes, "
            f"{squares[-2]:.4g} to {squares[-1]:.4g} in the last {warmup}; set `rms_warmup`, which is {warmup}, to the "
            "number of values after which the estimate is settled"
        )

    def judge(self, trial: Trial, name: str, expected: float, after: str) -> None:
        """Compare the square of the divisor with an expected one.

        It is inconclusive if the square still approaches the expected one geometrically after all warm-ups, as that of
        an exponential average does.
        """
        squares = self._squares(name, expected)
        if _moves(squares) and self._approaches(squares[-3:], expected):
            trial.inconclusive(self._unsettled(name, squares))
        quantity = f"the square of the divisor of {name!r}, {after},"
        scale = self.scales[name]
        call = f"n = loss_normalizer(); n({name!r}, {scale:g}), n({name!r}, {7 * scale:g}), …, {after}"
        trial.compare(quantity, squares[-1], expected, terms=expected, k=1.0, eps=TOLERANCE, call=call)

    def _approaches(self, squares: list[float], expected: float) -> bool:
        """Whether three squares outside the tolerance have the expected one as their limit, up to rounding."""
        outside = abs(squares[-1] - expected) > TOLERANCE * expected
        if len(squares) < 3 or not outside or not np.isfinite(squares).all():
            return False
        first, second = np.diff(squares)
        if not (first and 0 < second / first < 1):
            return False
        ratio = second / first
        limit = squares[-1] + second * ratio / (1 - ratio)
        rounding = 8 * self.subject.eps * max(squares) / (1 - ratio) ** 2
        return bool(abs(limit - expected) <= TOLERANCE * expected + rounding)


def _moves(squares: list[float]) -> bool:
    """Whether the last of several squares differs from the one before by more than `SETTLED`."""
    return len(squares) > 1 and abs(squares[-1] - squares[-2]) > SETTLED * squares[-1]


@check("rms.normalise", needs=NORMALISER)
def check_divisor_is_the_root_mean_square(subject: Subject, trial: Trial) -> None:
    """The divisor is the root mean square, within `TOLERANCE`.

    The scale, `SMALL`, is far below that of usual losses, to detect a lower bound or an epsilon.
    """
    running = Running(subject, mse=SMALL)
    running.judge(trial, "mse", MEAN_SQUARE * SMALL**2, "after the warm-up")


@check("rms.scale-free", needs=NORMALISER)
def check_divisor_follows_the_scale(subject: Subject, trial: Trial) -> None:
    """After the term's scale falls to a quarter, and after it rises again, the divisor changes by the same factor.

    Each scale lasts for `rms_warmup` values.
    """
    running = Running(subject, mse=1.0)
    square = running.settled_square(trial, "mse")
    for scale, factor in ((0.25, "0.25"), (1.0, "4")):
        running.warm_up(mse=scale)
        running.judge(trial, "mse", square * scale**2, f"after the term was multiplied by {factor}")


@check("rms.not-self", needs=NORMALISER)
def check_spike_raises_the_output(subject: Subject, trial: Trial) -> None:
    """A value of 100 times the root mean square gives an output above 1.5, so it is not divided by itself.

    An exponential average of decay ρ gives at least 1/√(1 − ρ), 1.5 at ρ = 0.56.
    """
    running = Running(subject, mse=1.0)
    out, call = running("mse", 500.0), "after the warm-up, n('mse', 500.0)"
    sentence = f"a value of 100 times the root mean square gives {out:.4g}: the divisor is the value itself"
    trial.fail_unless(out > SPIKE, sentence, call=call, got=out, expected=f"above {SPIKE}")


@check("rms.separate", needs=NORMALISER)
def check_each_term_has_its_own_divisor(subject: Subject, trial: Trial) -> None:
    """Two alternating terms whose scales differ by 64 are divided as they are alone."""
    scales = {"mse": 1.0, "lpips": 1 / 64}
    running = Running(subject, **scales)
    for name, scale in scales.items():
        alone = Running(subject, **{name: scale}).settled_square(trial, name)
        running.judge(trial, name, alone, "alternating with another term")


@check("rms.poison", needs=NORMALISER)
def check_estimate_recovers_from_nan_and_infinity(subject: Subject, trial: Trial) -> None:
    """After NaN as the first value, and infinity later, the divisor returns to the one without them.

    The normaliser may reject these values by raising.
    """
    clean = Running(subject, mse=1.0).settled_square(trial, "mse")
    running = Running(subject)
    for poison in (math.nan, math.inf):
        _offer(running, poison)
        running.warm_up(mse=1.0)
        running.judge(trial, "mse", clean, f"after a value of {poison}")


def _offer(running: Running, poison: float) -> None:
    with suppress(OperationFailed):
        running("mse", poison)


@signature("loss_normalizer", tolerance=0.06)
def signature_divisors(subject: Subject) -> np.ndarray:
    """Divisors over the root mean square: one term, two terms, another scale, after NaN; and the effect of a spike."""
    probes = (_one_term, _two_terms, _rescaled, _spiked, _poisoned)

    def clipped(probe: Callable[[Running], list[float]]) -> np.ndarray:
        return np.clip(probe(Running(subject)), -3, 3)

    return np.concatenate([attempt(partial(clipped, probe), 2) for probe in probes])


def _one_term(running: Running) -> list[float]:
    running.warm_up(mse=1 / 16)
    outputs = [running("mse", value / 16) for value in PERIOD]
    return [0.5 * sum(outputs), 4 * running.divisor_square("mse") ** 0.5]


def _two_terms(running: Running) -> list[float]:
    running.warm_up(mse=1.0, lpips=1 / 64)
    return [running.divisor_square("mse") ** 0.5 / 5, 64 * running.divisor_square("lpips") ** 0.5 / 5]


def _rescaled(running: Running) -> list[float]:
    running.warm_up(mse=1.0)
    running.warm_up(mse=0.5)
    return [2 * running.divisor_square("mse") ** 0.5 / 5, 0.0]


def _spiked(running: Running) -> list[float]:
    running.warm_up(mse=1.0)
    return [float(running("mse", 500.0) > SPIKE), 0.0]


def _poisoned(running: Running) -> list[float]:
    _offer(running, math.nan)
    running.warm_up(mse=1.0)
    return [running.divisor_square("mse") ** 0.5 / 5, 0.0]
