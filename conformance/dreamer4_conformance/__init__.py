"""Conformance suite: judge any implementation of Dreamer 4 by the paper, clause by clause.

Write an adapter (`Adapter`, `TorchAdapter`, `JaxAdapter`), then run the checks by the command `dreamer4-conformance`,
the decorator `parametrize_with_checks`, `pytest --pyargs dreamer4_conformance.suite`, or the function
`check_implementation`.

Importing the package imports neither torch nor Hypothesis: public names are loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dreamer4_conformance.adapter import Adapter, JaxAdapter, TorchAdapter
    from dreamer4_conformance.adapters.randomisation import randomised
    from dreamer4_conformance.pytest_items import parametrize_with_checks
    from dreamer4_conformance.report import Report
    from dreamer4_conformance.run_report import check_implementation
    from dreamer4_conformance.verdicts import AdapterError, Result, Status

__all__ = [
    "Adapter",
    "AdapterError",
    "JaxAdapter",
    "Report",
    "Result",
    "Status",
    "TorchAdapter",
    "check_implementation",
    "parametrize_with_checks",
    "randomised",
]

_MODULES = {
    "Adapter": "adapter",
    "AdapterError": "verdicts",
    "JaxAdapter": "adapter",
    "Report": "report",
    "Result": "verdicts",
    "Status": "verdicts",
    "TorchAdapter": "adapter",
    "check_implementation": "run_report",
    "parametrize_with_checks": "pytest_items",
    "randomised": "adapters.randomisation",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
