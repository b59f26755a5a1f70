"""Checks of loss normalisation: every term is divided by a running estimate of its own root mean square.

A term is fed with s, 7 s, s, 7 s, …, whose root mean square is 5 s, while its mean is 4 s, its standard deviation 3 s
and its maximum 7 s. Details are open (A24), so the estimate is judged after as many values as the adapter declares
(`rms_warmup`), through the square of the divisor that the outputs imply, averaged over one period: there an
exponential average of any decay, updated before or after it divides, gives exactly 25 s².
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.verdicts import Deviation, Inconclusive, NotProvided, OperationFailed

NORMALISER = ("loss_normalizer",)
PERIOD = (1.0, 7.0)
MEAN_SQUARE = 25.0
TOLERANCE = 0.05
"""Relative, on the square: an estimate still on its way from a scale 4 times as large, an epsilon, bf16 outputs.
The mean gives 16, the deviation 9.
"""
SPIKE = 1.5


class Running:
    """One normaliser of the adapter: floats in and out."""

    def __init__(self, subject: Subject) -> None:
        """Fresh."""
        self.subject = subject
        self.normalise: Callable[[str, Any], Any] = subject.call("loss_normalizer")

    def __call__(self, name: str, value: float) -> float:
        """One value. OperationFailed where it raises."""
        try:
            out = self.normalise(name, self.subject.native(np.array(value)))
        except (NotProvided, Deviation, Inconclusive):
            raise
        except Exception as error:
            message = f"the normaliser raised {type(error).__name__}: {error}"
            raise OperationFailed(message, call=f"normalise({name!r}, {value})") from error
        return float(self.subject.read("loss_normalizer", out, ()))

    def warm_up(self, **scales: float) -> None:
        """As many values as declared, of each term in turn."""
        for index in range(self.subject.adapter.rms_warmup):
            for name, scale in scales.items():
                self(name, scale * PERIOD[index % 2])

    def divisor_square(self, name: str, scale: float) -> float:
        """The square of what values are divided by, averaged over one period."""
        outputs = [(scale * value, self(name, scale * value)) for value in PERIOD]
        return sum((value / out) ** 2 if out else math.inf for value, out in outputs) / len(PERIOD)

    def judge(self, trial: Trial, name: str, scale: float, after: str) -> None:
        """The divisor is the root mean square of the term at this scale."""
        got, expected = self.divisor_square(name, scale), MEAN_SQUARE * scale**2
        what = f"the square of the divisor of {name!r}, {after},"
        call = f"n = loss_normalizer(); n({name!r}, {scale:g}), n({name!r}, {7 * scale:g}), …, {after}"
        trial.compare(what, got, expected, terms=expected, k=1.0, eps=TOLERANCE, call=call)


@check("rms.normalise", needs=NORMALISER)
def check_divisor_is_the_root_mean_square(subject: Subject, trial: Trial) -> None:
    """At a scale far below that of ordinary losses, where a floor or an epsilon would show."""
    running = Running(subject)
    running.warm_up(mse=1 / 256)
    running.judge(trial, "mse", 1 / 256, "after the warm-up")


@check("rms.scale-free", needs=NORMALISER)
def check_divisor_follows_the_scale(subject: Subject, trial: Trial) -> None:
    """To a quarter and back, each for as many values as the warm-up."""
    running = Running(subject)
    running.warm_up(mse=1.0)
    for scale in (0.25, 1.0):
        running.warm_up(mse=scale)
        running.judge(trial, "mse", scale, f"after the term was multiplied by {0.25 if scale == 0.25 else 4:g}")


@check("rms.not-self", needs=NORMALISER)
def check_spike_raises_the_output(subject: Subject, trial: Trial) -> None:
    """A value of 100 times the root mean square:
    an exponential average of decay ρ gives at least 1/√(1 − ρ), 1.5 at ρ = 0.56.
    """
    running = Running(subject)
    running.warm_up(mse=1.0)
    out = running("mse", 500.0)
    sentence = f"a value of 100 times the root mean square comes out as {out:.4g}: the divisor is the value itself"
    trial.fail_unless(
        out > SPIKE, sentence, call="after the warm-up, n('mse', 500.0)", got=out, expected=f"above {SPIKE}"
    )


@check("rms.separate", needs=NORMALISER)
def check_each_term_has_its_own_divisor(subject: Subject, trial: Trial) -> None:
    """Two terms whose scales differ by 64, fed in turn."""
    running = Running(subject)
    running.warm_up(mse=1.0, lpips=1 / 64)
    running.judge(trial, "mse", 1.0, "fed in turn with another term")
    running.judge(trial, "lpips", 1 / 64, "fed in turn with another term")


@check("rms.poison", needs=NORMALISER)
def check_estimate_recovers_from_nan_and_infinity(subject: Subject, trial: Trial) -> None:
    """NaN as the first value, infinity in between; a normaliser may refuse the value by raising."""
    running = Running(subject)
    for poison in (math.nan, math.inf):
        _offer(running, poison)
        running.warm_up(mse=1.0)
        running.judge(trial, "mse", 1.0, f"after {poison} was among the values")


def _offer(running: Running, poison: float) -> None:
    try:
        running("mse", poison)
    except OperationFailed:
        return


@signature("loss_normalizer", tolerance=0.06)
def signature_divisors(subject: Subject) -> np.ndarray:
    """Divisors over the root mean square: alone, of two terms in turn, at another scale, after NaN;
    and whether a spike passes.
    """
    steps = (_alone, _in_turn, _rescaled, _spiked, _poisoned)
    return np.concatenate([attempt(lambda: np.clip(step(Running(subject)), -3, 3), 2) for step in steps])  # noqa: B023


def _alone(running: Running) -> list[float]:
    running.warm_up(mse=1 / 16)
    outputs = [running("mse", value / 16) for value in PERIOD]
    return [0.5 * sum(outputs), 4 * running.divisor_square("mse", 1 / 16) ** 0.5]


def _in_turn(running: Running) -> list[float]:
    running.warm_up(mse=1.0, lpips=1 / 64)
    return [running.divisor_square("mse", 1.0) ** 0.5 / 5, 64 * running.divisor_square("lpips", 1 / 64) ** 0.5 / 5]


def _rescaled(running: Running) -> list[float]:
    running.warm_up(mse=1.0)
    running.warm_up(mse=0.25)
    return [4 * running.divisor_square("mse", 0.25) ** 0.5 / 5, 0.0]


def _spiked(running: Running) -> list[float]:
    running.warm_up(mse=1.0)
    return [float(running("mse", 500.0) > SPIKE), 0.0]


def _poisoned(running: Running) -> list[float]:
    _offer(running, math.nan)
    running.warm_up(mse=1.0)
    return [running.divisor_square("mse", 1.0) ** 0.5 / 5, 0.0]
