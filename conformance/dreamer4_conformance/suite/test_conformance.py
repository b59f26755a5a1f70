"""One test per clause, against the adapter of `--dreamer4` or, without it, the bundled implementation."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dreamer4_conformance.adapters.importing import BUNDLED
from dreamer4_conformance.pytest_items import loaded, parametrize
from dreamer4_conformance.verdicts import AdapterError
from dreamer4_conformance_plugin import options


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each clause that has a check."""
    target = metafunc.config.getoption("dreamer4") or BUNDLED
    try:
        loaded(target, options(metafunc.config))
    except AdapterError as error:
        raise pytest.Collector.CollectError(f"--dreamer4: {error}") from error
    parametrize(metafunc, [target])


def test_conforms(check: Callable[[], None]) -> None:
    """The implementation meets the requirement of the clause."""
    check()
