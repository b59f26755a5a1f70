"""The suite calls the reference as users run it.

The reference's own tests check every call against its annotations, for the whole process; here that would double the
time, and beartype draws from `random`, which Hypothesis forbids where examples are made.
"""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import jaxtyping
import pytest


@pytest.fixture(autouse=True)
def _reference_as_installed() -> Iterator[None]:
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture
def without_diagnosis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave failures without `behaves_like`, `passes_given` and `advice`, which take the most time."""
    monkeypatch.setattr("dreamer4_conformance.runner.gather", lambda *_: None)


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium (Debian's `chromium`), driven by the package `playwright`; the test is skipped without them."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, to drive a browser")
    if CHROMIUM is None:
        pytest.skip("needs Chromium, to show the page")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def contrast() -> Callable[[Any], float]:
    """The smallest contrast of a text of a page with its background."""
    return lambda page: page.evaluate(CONTRAST)


CONTRAST = """() => {
  const light = colour => {
    const parts = colour.match(/[0-9.]+/g).slice(0, 3).map(Number).map(part => part / 255)
      .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]
  }
  const behind = element => {
    const colour = getComputedStyle(element).backgroundColor
    return colour === "rgba(0, 0, 0, 0)" ? behind(element.parentElement) : colour
  }
  const texts = [...document.querySelectorAll("main *")].filter(element =>
    [...element.childNodes].some(child => child.nodeType === 3 && child.textContent.trim()))
  return Math.min(...texts.map(element => {
    const pair = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => a - b)
    return (pair[1] + 0.05) / (pair[0] + 0.05)
  }))
}"""
