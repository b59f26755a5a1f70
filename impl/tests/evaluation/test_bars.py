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
    with pytest.raises(ValueError, match="bars must be some of tokenizer, pca, dynamics, agent, game; got 'best'"):
        named_bars("best")


#: Measures of an agent that meets every bar of the sets `agent` and `game`.
WINNER = {
    "reward.explained": Measure(0.5, 0.4, 0.6, n=64),
    "reward.precision": Measure(0.9, 0.8, 1.0, n=64),
    "reward.recall": Measure(0.7, 0.6, 0.8, n=64),
    "imagined.difference": Measure(0.5, 0.4, 0.6, n=400),
    "imagined.kl": Measure(0.2, 0.1, 0.3, n=400),
    "game.policy": Measure(2.0, 1.8, 2.2, n=100),
    "game.prior": Measure(1.0, 0.8, 1.2, n=100),
    "game.random": Measure(0.5, 0.4, 0.6, n=100),
    "returns.ratio": Measure(1.1, 0.9, 1.3, n=400),
}


@pytest.mark.parametrize(
    ("name", "measure", "missed"),
    [
        ("reward.explained", Measure(0.01, -0.02, 0.04, n=64), ["reward.explained.low > 0"] * 2),
        ("reward.precision", Measure(0.4, 0.3, 0.6, n=64), ["reward.precision >= 0.5"] * 2),
        ("reward.recall", Measure(0.0, 0.0, 0.0, n=64), ["reward.recall >= 0.5"] * 2),
        ("imagined.difference", Measure(0.5, -0.1, 1.1, n=400), ["imagined.difference.low > 0"]),
        ("imagined.difference", Measure(0.5, 0.4, 0.6, n=255), ["imagined.difference.n >= 256"]),
        ("imagined.kl", Measure(1.2, 1.1, 1.3, n=400), ["imagined.kl <= 1"]),
        ("game.random", Measure(1.7, 1.5, 1.9, n=100), ["game.policy.low > game.random.high"]),
        ("game.prior", Measure(1.7, 1.5, 1.9, n=100), ["game.policy.low > game.prior.high"]),
        ("returns.ratio", Measure(1.3, 1.1, 1.5, n=400), ["returns.ratio <= 1.2"]),
        ("returns.ratio", Measure(0.7, 0.5, 0.9, n=400), ["returns.ratio >= 0.8"]),
        ("returns.ratio", Measure(1.1, 0.9, 1.3, n=399), ["returns.ratio.n >= 400"]),
        (
            "returns.ratio",
            Measure(math.nan, math.nan, math.nan, n=400),
            ["returns.ratio >= 0.8", "returns.ratio <= 1.2"],
        ),
    ],
)
def test_every_bar_of_an_agent_rejects_a_model(name, measure, missed):
    bars = [*named_bars("agent"), *named_bars("game")]
    assert all(verdict.met for verdict in judge_bars(bars, WINNER))
    assert [verdict.bar for verdict in judge_bars(bars, WINNER | {name: measure}) if not verdict.met] == missed


def test_agent_without_rewarded_frames_or_a_game_misses_its_bars():
    for prefix, name in {"reward.": "agent", "game.": "game", "returns.": "game"}.items():
        measures = {key: measure for key, measure in WINNER.items() if not key.startswith(prefix)}
        assert not all(verdict.met for verdict in judge_bars(named_bars(name), measures))
