"""Check of the paper's default values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.verdicts import OperationFailed
from dreamer4_reference import constants

PAPER: dict[str, float] = {
    "num_steps": constants.K,
    "gamma": constants.GAMMA,
    "alpha": constants.ALPHA,
    "beta": constants.BETA,
    "mtp_length": constants.L,
    "mae_max": constants.MAE_MAX,
    "lpips_weight": constants.LPIPS_WEIGHT,
    "image_fraction": constants.IMAGE_SHARE,
}
"""The paper's values by the keys of `Adapter.constants`."""


def _declared(subject: Subject) -> dict[str, Any]:
    returned = subject.call("constants")
    if not isinstance(returned, Mapping):
        raise OperationFailed(f"constants returned {type(returned).__name__}; it needs a dict of names and numbers")
    return {name: subject.read("constants", returned[name], ()) for name in PAPER if name in returned}


@check("const.values", needs=("constants",))
def check_defaults_are_the_papers(subject: Subject, trial: Trial) -> None:
    """Each default value is the paper's, up to float32 precision, in which it may be stored."""
    declared = _declared(subject)
    for name, value in declared.items():
        trial.compare(name, value, PAPER[name], terms=PAPER[name], k=1, eps=2.0**-20, call=f"constants()[{name!r}]")
    missing = [name for name in PAPER if name not in declared]
    if missing:
        trial.inconclusive(f"constants() omits {', '.join(missing)}")


def declared_errors(subject: Subject) -> tuple[list[str], np.ndarray]:
    """Names of the constants that the implementation declares, and the signature of them."""
    names = list(_declared(subject))
    return names, signature_declared_constants(subject, names)


@signature("constants", observe=declared_errors)
def signature_declared_constants(subject: Subject, names: list[str]) -> np.ndarray:
    """Relative error of each value in per cent; NaN if it is missing."""

    def probe() -> np.ndarray:
        declared = _declared(subject)
        return np.array([100 * (float(declared.get(name, np.nan)) / PAPER[name] - 1) for name in names])

    return attempt(probe, len(names))
