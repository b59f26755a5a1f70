"""The figures that can be dragged compute what the reference computes, and say it.

Skipped without Chromium (Debian's `chromium`) and the package `playwright`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from docs.generator.repository import ROOT
from dreamer4_reference.eq04_grid import signal_levels
from dreamer4_reference.eq06_07_shortcut_forcing import bootstrap_target
from dreamer4_reference.eq08_ramp_weight import ramp_weight
from dreamer4_reference.eq10_lambda_return import lambda_returns
from dreamer4_reference.eq11_pmpo import log_prob_weight

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, to drive a browser")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCRIPT = ROOT / "docs/_static/draggable.js"
FIGURES = "".join(
    f'<figure data-widget="{name}"><div class="picture"><svg><text>static</text></svg></div>'
    "<figcaption>caption</figcaption></figure>"
    for name in ("grid", "ramp", "sets")
)


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    """A page with the three figures, after the script has run."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_content(FIGURES)
        page.add_script_tag(content=SCRIPT.read_text(encoding="utf-8"))
        yield page
        browser.close()


def test_labels_are_those_of_the_grid_and_of_the_reference_teacher(page: Any) -> None:
    for levels in (1, 2, 8, 32):
        d = Fraction(1, levels)
        shown = page.evaluate("(levels) => Array.from({length: levels}, (_, at) => labels(at, levels))", levels)
        assert [row["student"] for row in shown] == [[str(tau), str(d)] for tau in signal_levels(d)]
        assert shown[-1]["teacher"] == teacher_labels(signal_levels(d)[-1], d)


def teacher_labels(tau: Fraction, d: Fraction) -> list[list[str]]:
    labels: list[list[str]] = []

    def network(z: np.ndarray, tau: np.ndarray, d: np.ndarray, actions: None) -> np.ndarray:
        labels.append([str(Fraction(tau.item())), str(Fraction(d.item()))])
        return z

    bootstrap_target(network, np.zeros((1, 1, 1, 1)), np.array([[float(tau)]]), np.array([[float(d)]]))
    return labels


def test_numbers_are_those_of_the_reference(page: Any) -> None:
    tau = np.linspace(0, 1, 9)
    weights = page.evaluate("(tau) => tau.map(rampWeight)", tau.tolist())
    np.testing.assert_allclose(weights, ramp_weight(tau))
    reward, value = (np.array([page.evaluate(name)], float) for name in ("REWARD", "VALUE"))
    for lam in (0.0, 0.5, 0.95, 1.0):
        returns = page.evaluate("(lambda) => returns(lambda)", lam)
        np.testing.assert_allclose(returns, lambda_returns(reward, value, np.ones_like(reward), lam=lam)[0])
        advantage = np.array(returns) - value[0, :-1]
        factors = page.evaluate("([advantage, alpha]) => factors(advantage, alpha)", [advantage.tolist(), 0.3])
        np.testing.assert_allclose(factors, log_prob_weight(advantage, alpha=0.3))


def test_least_loss_is_the_error_of_the_best_prediction(page: Any) -> None:
    for spread, tau in ((0.5, 0.25), (2.0, 0.5)):
        gain = tau * spread**2 / ((1 - tau) ** 2 + tau**2 * spread**2)
        error = (1 - gain * tau) ** 2 * spread**2 + gain**2 * (1 - tau) ** 2
        np.testing.assert_allclose(page.evaluate("(at) => leastLoss(...at)", [spread, tau]), error)


def test_a_moved_slider_changes_sentence_and_labels(page: Any) -> None:
    expected = {
        "grid": "K_max = 8: the student at (τ, d) = (1/2, 1/2) learns from the teacher at (1/2, 1/4) and (3/4, 1/4).",
        "ramp": "At τ = 0.50 the weight is 0.55.",
        "sets": "λ = 0.95, α = 0.50:",
    }
    for name, sentence in expected.items():
        figure = page.locator(f'figure[data-widget="{name}"]')
        assert figure.locator("text=static").count() == 0
        assert sentence in figure.locator(".readout").inner_text()
        slider = figure.locator("input").first
        before, spoken = figure.locator(".readout").inner_text(), slider.get_attribute("aria-valuetext")
        slider.press("ArrowRight")
        after = figure.locator(".readout").inner_text()
        assert after != before
        assert slider.get_attribute("aria-valuetext") != spoken
        assert figure.locator(".picture svg").get_attribute("aria-label") == after
