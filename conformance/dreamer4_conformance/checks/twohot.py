"""Checks of symexp two-hot: encoding, decoding, and the mean of a distribution over bins (reading A23)."""

from __future__ import annotations

import copy

import numpy as np
from hypothesis import example
from hypothesis import strategies as st

from dreamer4_conformance.instruments.heads import adapter_bins
from dreamer4_conformance.instruments.subject import EPS, Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.strategies import seeds
from dreamer4_conformance.verdicts import OperationFailed
from dreamer4_reference.twohot import log_softmax, symexp, symlog, twohot_decode, twohot_encode

LOG_ZERO = -1e4
"""In place of ln 0: finite, and exp(LOG_ZERO) is 0 in every dtype."""


def values(subject: Subject, bins: np.ndarray, *, beyond: bool) -> st.SearchStrategy[np.ndarray]:
    """x (N,): 0, small values, bins, values between two bins, and with `beyond` at least one beyond the bins' range."""
    low, high = float(bins[0]), float(bins[-1])
    index, share = st.integers(0, len(bins) - 2), st.floats(0, 1)
    inside = st.one_of(
        st.sampled_from([0.0, 1e-6, -1e-3, 1.0]),
        st.sampled_from(bins.tolist()),
        st.builds(lambda k, weight: float(bins[k] + weight * (bins[k + 1] - bins[k])), index, share),
    )
    if beyond:
        outside = st.lists(st.sampled_from([2 * low, 2 * high]), min_size=1, max_size=2)
        return st.builds(lambda x, y: subject.round(np.array(x + y)), st.lists(inside, max_size=3), outside)
    return st.lists(inside, min_size=1, max_size=4).map(lambda x: np.clip(subject.round(np.array(x)), low, high))


@check("twohot.encode", needs=("twohot_bins", "twohot_encode"))
def check_encoding_has_two_adjacent_weights(subject: Subject, trial: Trial) -> None:
    """Weights are not negative, add up to 1 and are 0 outside two adjacent bins.

    Up to rounding: a weight is a difference over a bin's width, accurate to 2 K eps if the bins are symlogs.
    """
    bins = adapter_bins(subject)
    slack = min(2 * len(bins) * subject.eps, 1 / 16)

    def holds(x: np.ndarray) -> None:
        p = subject.compute("twohot_encode", x, shape=(len(x), len(bins)))
        call = f"twohot_encode({x.tolist()})"
        least, total, adjacent = p.min(1), p.sum(1), (p[:, :-1] + p[:, 1:]).max(1)
        trial.fail_unless(np.all(least >= -slack), "weights must not be negative", call=call, got=least.tolist())
        normalised = np.all(np.abs(total - 1) <= slack)
        trial.fail_unless(normalised, "weights must add up to 1", call=call, got=total.tolist())
        sentence = "weights must be 0 outside two adjacent bins, whose weights add up to 1"
        trial.fail_unless(np.all(adjacent >= 1 - 2 * slack), sentence, call=call, got=adjacent.tolist())

    trial.for_all(values(subject, bins, beyond=True), body=holds)


def _logits(subject: Subject, p: np.ndarray) -> np.ndarray:
    """ln p, rounded to the adapter's dtype; `LOG_ZERO` where p = 0."""
    return subject.round(np.where(p > 0, np.log(np.where(p > 0, p, 1.0)), LOG_ZERO))


@check("twohot.round-trip", needs=("twohot_bins", "twohot_encode", "twohot_decode"))
def check_decoding_undoes_encoding(subject: Subject, trial: Trial) -> None:
    """Decoding ln of the encoding of x gives x, within the range of the bins.

    Terms: x and its two bins, each rounded; in symlog space the range of symlogs times the slope 1 + |x|.
    """
    bins = adapter_bins(subject)
    middle = np.linspace(0, len(bins) - 2, 5).astype(int)

    @example(subject.round((bins[middle] + bins[middle + 1]) / 2))
    def holds(x: np.ndarray) -> None:
        p = np.maximum(subject.compute("twohot_encode", x, shape=(len(x), len(bins))), 0.0)
        got = subject.compute("twohot_decode", _logits(subject, p), shape=x.shape)
        terms = _two_bins(x, bins, subject.readings["A23"])
        call = f"twohot_decode(log(twohot_encode({x.tolist()})))"
        trial.compare("the decoded value", got, x, terms=terms, k=4, eps=subject.eps, call=call)

    trial.for_all(values(subject, bins, beyond=False), body=holds)


def _two_bins(x: np.ndarray, bins: np.ndarray, space: str) -> np.ndarray:
    """Scale (N,) of the rounding error of decoding x from two bins."""
    k = np.clip(np.searchsorted(bins, x, side="right") - 1, 0, len(bins) - 2)
    if space == "raw":
        return np.asarray(np.abs(x) + np.abs(bins[k]) + np.abs(bins[k + 1]))
    # Evenly spaced symlogs allow to compute the bin's index directly, which is rounded on the scale of their range.
    return np.asarray((1 + np.abs(x)) * (1 + np.ptp(symlog(bins))))


@st.composite
def _mixtures(draw: st.DrawFn, bins: np.ndarray) -> np.ndarray:
    """p (N, K): one to four bins at random, in some examples with a small weight in every bin."""
    rng = np.random.default_rng(draw(seeds()))
    rows, few, spread = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.sampled_from([0.0, 0.0, 1.0]))
    p = spread * rng.random((rows, len(bins))) / len(bins)
    for row in p:
        np.add.at(row, rng.integers(0, len(bins), few), rng.dirichlet(np.ones(few)))
    return np.asarray(p / p.sum(1, keepdims=True))


K_MEAN = 16


def mean_terms(log_p: np.ndarray, bins: np.ndarray, space: str, mean: np.ndarray) -> np.ndarray:
    """Terms (N,) of the mean (N,) of bins (K,) under log-probabilities (N, K).

    Σ p |b| (1 + |ln p|), because logits are rounded; in symlog space of |symlog b|, times the slope 1 + |x|.
    """
    terms = (np.exp(log_p) * (1 + np.abs(log_p)) * np.abs(bins if space == "raw" else symlog(bins))).sum(1)
    return np.asarray(terms if space == "raw" else (1 + np.abs(mean)) * (1 + terms))


@check("twohot.mean", needs=("twohot_bins", "twohot_decode"))
def check_decoding_is_the_mean(subject: Subject, trial: Trial) -> None:
    """Decoding logits gives the mean of the bins under their softmax. Terms: see `mean_terms`."""
    bins, space = adapter_bins(subject), subject.readings["A23"]

    def holds(mixture: np.ndarray) -> None:
        logits = _logits(subject, mixture)
        log_p = log_softmax(logits)
        p = np.exp(log_p)
        expected = twohot_decode(p, bins, space=space)  # type: ignore[arg-type]
        terms = mean_terms(log_p, bins, space, expected)
        got = subject.compute("twohot_decode", logits, shape=expected.shape)
        largest = {int(k): float(p[0, k]) for k in np.argsort(-p[0])[:4] if p[0, k] > 0}
        call = f"twohot_decode(log p), p of {p.shape}, largest p of row 0 by bin: {largest}"
        trial.compare("the decoded mean", got, expected, terms=terms, k=K_MEAN, eps=subject.eps, call=call)

    trial.for_all(_mixtures(bins), body=holds)


@check("twohot.centre", needs=("twohot_bins", "twohot_decode"))
def check_uniform_logits_decode_to_zero(subject: Subject, trial: Trial) -> None:
    """Uniform logits decode to 0 if the bins are symmetric about 0.

    Judged in float64, relative to the mean size of the bins: with bins up to 5e8, float32 rounding would hide an error.
    """
    double = _in_float64(subject, trial)
    try:
        bins = adapter_bins(double)
        got = [double.compute("twohot_decode", np.full((1, len(bins)), c), shape=(1,)) for c in (0.0, 1.0, -3.0)]
    except OperationFailed as failed:
        trial.inconclusive(f"judged in float64, which the adapter does not accept: {failed.message}")
    if np.any(np.abs(bins + bins[::-1]) > 64 * double.eps * np.abs(bins)):
        trial.inconclusive("the bins are not symmetric about 0, or only to float32 precision")
    sizes = np.abs(bins if subject.readings["A23"] == "raw" else symlog(bins)).mean()
    for offset, value in zip((0.0, 1.0, -3.0), got, strict=True):
        call = f"twohot_decode(full((1, {len(bins)}), {offset})) in float64"
        trial.compare("the decoded value", value, [0.0], terms=sizes, k=128, eps=_precision(double, bins), call=call)


def _in_float64(subject: Subject, trial: Trial) -> Subject:
    if "float64" not in subject.adapter.dtypes:
        trial.inconclusive("judged in float64, which the adapter's framework does not offer")
    adapter = copy.copy(subject.adapter)
    adapter.dtype = "float64"
    return Subject(adapter)


def _precision(double: Subject, bins: np.ndarray) -> float:
    """eps of the dtype in which decoding computes: float32 for code that casts float64 inputs."""
    logits = np.full((1, len(bins)), LOG_ZERO)
    logits[0, :2] = (0.0, 1 / 3)
    expected = twohot_decode(np.exp(log_softmax(logits)), bins, space=double.readings["A23"])  # type: ignore[arg-type]
    error = np.abs(double.compute("twohot_decode", logits, shape=(1,)) - expected)
    return EPS["float64" if np.all(error <= 2.0**-40 * np.abs(expected)) else "float32"]


PROBES = np.array([-50.0, -3.0, 0.0, 0.4, 7.0, 200.0])
"""Values inside every usable range of bins."""


@signature("twohot_encode")
def signature_mean_of_the_encodings(subject: Subject) -> np.ndarray:
    """Errors of the means of raw values and of symlogs, times 100; the largest weight, also of a value out of range."""
    bins = adapter_bins(subject)

    def probe() -> np.ndarray:
        p = subject.compute("twohot_encode", np.append(PROBES, 2 * bins[-1]), shape=(len(PROBES) + 1, len(bins)))
        raw, mean = symlog(p @ bins)[:-1], (p @ symlog(bins))[:-1]
        return np.concatenate([100 * (raw - symlog(PROBES)), 100 * (mean - symlog(PROBES)), p.max(1)])

    return attempt(probe, 3 * len(PROBES) + 1)


@signature("twohot_decode")
def signature_decoded_mixtures(subject: Subject) -> np.ndarray:
    """Symlogs of decoded encodings and of a mixture of two distant values; uniform logits relative to the last bin."""
    bins = adapter_bins(subject)
    p = twohot_encode(PROBES, bins)
    far = twohot_encode(symexp(np.array([-2.0, 5.0])), bins).mean(0, keepdims=True)

    def probe() -> np.ndarray:
        decoded = subject.compute("twohot_decode", _logits(subject, np.concatenate([p, far])))
        uniform = subject.compute("twohot_decode", np.zeros((1, len(bins))))
        return np.concatenate([symlog(decoded), 100 * uniform / bins[-1]])

    return attempt(probe, 8)
