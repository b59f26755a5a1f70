"""The suite calls the reference as users run it.

The reference's own tests check every call against its annotations, for the whole process; here that would double the
time, and beartype draws from `random`, which Hypothesis forbids where examples are made.
"""

from collections.abc import Iterator

import jaxtyping
import pytest


@pytest.fixture(autouse=True)
def _reference_as_installed() -> Iterator[None]:
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
