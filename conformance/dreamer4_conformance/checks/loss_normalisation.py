"""Checks of loss normalisation: every term is divided by a running estimate of its own root mean square.

The values of a term are s, 7 s, s, 7 s, …, whose root mean square is 5 s, mean 4 s, standard deviation 3 s and maximum
7 s. The paper leaves details open (A24), so the estimate is judged after `rms_warmup` values, which the adapter
declares, by the square of the divisor that the outputs imply, averaged over one period: any exponential average,
updated before or after the division, gives exactly 25 s² there.
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
from dreamer4_conformance.verdicts import Deviation, Inconclusive, NotProvided, OperationFailed

NORMALISER = ("loss_normalizer",)
PERIOD = (1.0, 7.0)
MEAN_SQUARE = 25.0
TOLERANCE = 0.05
"""Relative, of the square. Allows an estimate that still approaches from a scale 4 times as large, an epsilon, and bf16
outputs. An estimate by the mean gives 16 s², by the standard deviation 9 s².
"""
SPIKE = 1.5
"""Smallest output for a value of 100 times the root mean square."""


class Running:
    """A new normaliser of the adapter, which takes and returns floats."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.normalise: Callable[[str, Any], Any] = subject.call("loss_normalizer")

    def __call__(self, name: str, value: float) -> float:
        """Normalise one value. OperationFailed if the adapter's normaliser raises."""
        try:
            out = self.normalise(name, self.subject.native(np.array(value)))
        except (NotProvided, Deviation, Inconclusive):
            raise
        except Exception as error:
            message = f"the normaliser raised {type(error).__name__}: {error}"
            raise OperationFailed(message, call=f"normalise({name!r}, {value})") from error
        return float(self.subject.read("loss_normalizer", out, ()))

    def warm_up(self, **scales: float) -> None:
        """Normalise `rms_warmup` values of each term, alternating between terms."""
        for index in range(self.subject.adapter.rms_warmup):
            for name, scale in scales.items():
                self(name, scale * PERIOD[index % 2])

    def divisor_square(self, name: str, scale: float) -> float:
        """The square of the divisor, averaged over one period."""
        outputs = [(scale * value, self(name, scale * value)) for value in PERIOD]
        return sum((value / out) ** 2 if out else math.inf for value, out in outputs) / len(PERIOD)

    def judge(self, trial: Trial, name: str, scale: float, after: str) -> None:
        """Compare the divisor with the root mean square of the term at this scale."""
        got, expected = self.divisor_square(name, scale), MEAN_SQUARE * scale**2
        quantity = f"the square of the divisor of {name!r}, {after},"
        call = f"n = loss_normalizer(); n({name!r}, {scale:g}), n({name!r}, {7 * scale:g}), …, {after}"
        trial.compare(quantity, got, expected, terms=expected, k=1.0, eps=TOLERANCE, call=call)


@check("rms.normalise", needs=NORMALISER)
def check_divisor_is_the_root_mean_square(subject: Subject, trial: Trial) -> None:
    """The divisor is the root mean square, within `TOLERANCE`.

    The scale, 1/256, is far below that of usual losses, to detect a lower bound or an epsilon.
    """
    running = Running(subject)
    running.warm_up(mse=1 / 256)
    running.judge(trial, "mse", 1 / 256, "after the warm-up")


@check("rms.scale-free", needs=NORMALISER)
def check_divisor_follows_the_scale(subject: Subject, trial: Trial) -> None:
    """After the term's scale falls to a quarter, and after it rises again, the divisor is its root mean square.

    Each scale lasts for `rms_warmup` values.
    """
    running = Running(subject)
    running.warm_up(mse=1.0)
    for scale in (0.25, 1.0):
        running.warm_up(mse=scale)
        running.judge(trial, "mse", scale, f"after the term was multiplied by {0.25 if scale == 0.25 else 4:g}")


@check("rms.not-self", needs=NORMALISER)
def check_spike_raises_the_output(subject: Subject, trial: Trial) -> None:
    """A value of 100 times the root mean square gives an output above 1.5, so it is not divided by itself.

    An exponential average of decay ρ gives at least 1/√(1 − ρ), 1.5 at ρ = 0.56.
    """
    running = Running(subject)
    running.warm_up(mse=1.0)
    out, call = running("mse", 500.0), "after the warm-up, n('mse', 500.0)"
    sentence = f"a value of 100 times the root mean square gives {out:.4g}: the divisor is the value itself"
    trial.fail_unless(out > SPIKE, sentence, call=call, got=out, expected=f"above {SPIKE}")


@check("rms.separate", needs=NORMALISER)
def check_each_term_has_its_own_divisor(subject: Subject, trial: Trial) -> None:
    """Two alternating terms whose scales differ by 64 are divided by their own root mean squares."""
    running = Running(subject)
    running.warm_up(mse=1.0, lpips=1 / 64)
    running.judge(trial, "mse", 1.0, "alternating with another term")
    running.judge(trial, "lpips", 1 / 64, "alternating with another term")


@check("rms.poison", needs=NORMALISER)
def check_estimate_recovers_from_nan_and_infinity(subject: Subject, trial: Trial) -> None:
    """After NaN as the first value, and infinity later, the divisor returns to the root mean square.

    The normaliser may reject these values by raising.
    """
    running = Running(subject)
    for poison in (math.nan, math.inf):
        _offer(running, poison)
        running.warm_up(mse=1.0)
        running.judge(trial, "mse", 1.0, f"after a value of {poison}")


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
    return [0.5 * sum(outputs), 4 * running.divisor_square("mse", 1 / 16) ** 0.5]


def _two_terms(running: Running) -> list[float]:
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
