"""Bars: parsing and verdicts."""

import math

import pytest

from dreamer4_impl.evaluation.bars import NAMED, judge_bars, named_bars, parse_bar
from dreamer4_impl.evaluation.measures import Measure

MEASURES = {
    "rollout.k4.psnr.h4": Measure(40.0, 39.0, 41.0, n=64),
    "rollout.copy.psnr.h4": Measure(38.5, 38.0, 39.0, n=64),
    "tokenizer.model.psnr": Measure(math.inf, math.inf, math.inf, n=64),
}


@pytest.mark.parametrize(
    ("bar", "met"),
    [
        ("rollout.k4.psnr.h4 >= rollout.copy.psnr.h4 + 1", True),
        ("rollout.k4.psnr.h4 > rollout.copy.psnr.h4 + 1.5", False),
        ("rollout.k4.psnr.h4>=rollout.copy.psnr.h4+1.5", True),
        ("rollout.k4.psnr.h4 - rollout.copy.psnr.h4 < 2", True),
        ("rollout.k4.psnr.h4.low > rollout.copy.psnr.h4.high", False),
        ("rollout.k4.psnr.h4.n >= 64", True),
        ("-1 <= - rollout.copy.psnr.h4 + 38", True),
        ("tokenizer.model.psnr >= rollout.k4.psnr.h4 + 3", True),
    ],
)
def test_bar_compares_sums_of_measures(bar, met):
    assert judge_bars([parse_bar(bar)], MEASURES)[0].met is met


def test_bar_on_a_missing_measure_is_missed_and_suggests_a_name():
    verdict = judge_bars([parse_bar("rollout.k4.psnr.h5 > 1")], MEASURES)[0]
    assert not verdict.met
    assert verdict.reason == "rollout.k4.psnr.h5 was not measured; did you mean rollout.k4.psnr.h4?"


@pytest.mark.parametrize(
    "text", ["", "rollout.k4.psnr.h4", "a.b >= ", "a.b == 3", "a.b > c d", "a.b > 3 > 2", "A > 3", "a.b > 1 +"]
)
def test_malformed_bar_is_refused(text):
    with pytest.raises(ValueError, match="bar"):
        parse_bar(text)


def test_every_named_bar_parses():
    assert all(named_bars(name) for name in NAMED)
    with pytest.raises(ValueError, match="bars must be some of tokenizer, pca, dynamics, agent; got 'best'"):
        named_bars("best")
