"""What a check is: a plain function that holds one clause against an adapter, registered with the operations that it needs.

    @check("eq08.value", needs=("ramp_weight",))
    def check_weight_is_the_ramp(subject, trial):
        def holds(tau):
            trial.compare(...)

        trial.for_all(levels(), body=holds)

A check chooses its strategies, knows no implementation by name, and counts its cases through `trial`; without a case its clause is inconclusive.
Random laws are decided outside `for_all`, on one fixed-seed draw, through `trial.reject_law`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn
from warnings import catch_warnings, simplefilter

import numpy as np
from hypothesis import HealthCheck, Phase, currently_in_test_context, given, seed, settings, target
from hypothesis.errors import HypothesisWarning, InvalidArgument
from hypothesis.strategies import SearchStrategy

from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.registry import qualified_name
from dreamer4_conformance.verdicts import Deviation, Inconclusive

Profile = Literal["dev", "ci", "nightly"]
EXAMPLES: dict[Profile, int] = {"dev": 20, "ci": 20, "nightly": 200}
FALSE_ALARM = 1e-9
"""Probability at which one statistical decision rejects a correct implementation."""


@dataclass(frozen=True)
class Check:
    """A registered check. It runs when every operation of `needs` and one of `needs_one` is provided.

    `decisions` is the number of statistical decisions that it takes, each with a false-alarm probability of `FALSE_ALARM`.
    """

    clause: str
    function: Callable[[Subject, Trial], None]
    needs: tuple[str, ...]
    needs_one: tuple[str, ...]
    decisions: int

    @property
    def name(self) -> str:
        """Name of the function, read as a sentence."""
        return self.function.__name__

    def missing(self, subject: Subject) -> str | None:
        """The operations that would have to be provided, or None."""
        absent = [name for name in self.needs if not subject.provides(name)]
        if self.needs_one and not any(subject.provides(name) for name in self.needs_one):
            absent.append(" or ".join(self.needs_one))
        return ", ".join(absent) or None


CHECKS: dict[str, Check] = {}
"""Every registered check, by the qualified name of its function."""


def check(
    clause: str, *, needs: tuple[str, ...] = (), needs_one: tuple[str, ...] = (), decisions: int = 0
) -> Callable[[Callable[[Subject, Trial], None]], Callable[[Subject, Trial], None]]:
    """Registers a check of `clause`. ValueError where there is no such clause."""
    if clause not in BY_ID:
        raise ValueError(f"clause {clause!r} does not exist; clauses.py lists them")

    def register(function: Callable[[Subject, Trial], None]) -> Callable[[Subject, Trial], None]:
        CHECKS[qualified_name(function)] = Check(clause, function, needs, needs_one, decisions)
        return function

    return register


@dataclass
class Trial:
    """One run of one check: its budget of examples, its cases, and the comparison furthest towards its bound.

    `minimal`: a counterexample is made as small as can be; not where only the verdict matters.
    """

    profile: Profile = "ci"
    seed: int = 0
    minimal: bool = True
    cases: int = 0
    decisions: int = 0
    worst_error: float | None = None
    worst_bound: float | None = None
    _worst_ratio: float = field(default=-1.0, repr=False)

    def for_all(self, *strategies: SearchStrategy[Any], body: Callable[..., None]) -> None:
        """Runs `body` on examples of the strategies, of which Hypothesis makes a counterexample small.

        Args:
            strategies: one for each positional argument of `body`; `@example` on `body` adds examples.
            body: raises Deviation, as `compare` and `fail_unless` do, where an example departs from the clause.
        """
        configured = settings(
            max_examples=EXAMPLES[self.profile],
            derandomize=self.profile == "ci",
            database=None,
            deadline=None,
            print_blob=False,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            phases=[
                phase for phase in Phase if phase is not Phase.explain and (self.minimal or phase is not Phase.shrink)
            ],
        )(given(*strategies)(body))
        test = configured if self.profile == "ci" else seed(self.seed)(configured)
        with catch_warnings():
            simplefilter("ignore", HypothesisWarning)  # of the length of an example, whatever the user makes an error
            test()

    def rng(self) -> np.random.Generator:
        """The generator of the inputs of a fixed-seed draw."""
        return np.random.default_rng(self.seed)

    def compare(self, what: str, got: Any, expected: Any, *, terms: Any, k: float, eps: float, call: str = "") -> None:
        """Deviation unless |got − expected| ≤ k · eps · terms, element by element.

        `terms` is the sum of the absolute values of the terms in the reference's expression; `k` stands beside the check.
        """
        got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
        self.cases += 1
        if got.shape != expected.shape:
            raise Deviation(f"{what} has shape {got.shape}; it needs {expected.shape}", call=call)
        if got.size == 0:
            return
        error = np.abs(got - expected)
        bound = k * eps * np.broadcast_to(np.asarray(terms, np.float64), error.shape) + np.finfo(np.float64).tiny
        worst = int(np.argmax(np.where(np.isfinite(error), error / bound, np.inf)))
        at_worst, its_bound = float(error.flat[worst]), float(bound.flat[worst])
        if not at_worst <= its_bound:
            raise Deviation(
                f"{what} is {got.flat[worst]:.9g}; the paper gives {expected.flat[worst]:.9g}",
                call=call,
                got=got.tolist(),
                expected=expected.tolist(),
                error=at_worst,
                bound=its_bound,
            )
        self._aim(at_worst / its_bound, what)
        if at_worst / its_bound > self._worst_ratio:
            self._worst_ratio, self.worst_error, self.worst_bound = at_worst / its_bound, at_worst, its_bound

    def _aim(self, ratio: float, what: str) -> None:
        """At night, Hypothesis is told how near to its bound the first comparison of each kind came, and searches from there."""
        if self.profile == "nightly" and currently_in_test_context():
            with suppress(InvalidArgument):  # a kind that this example has reported already
                target(ratio, label=what)

    def fail_unless(
        self, holds: bool | np.bool_, sentence: str, *, call: str = "", got: Any = None, expected: Any = None
    ) -> None:
        """Deviation with `sentence` unless an exact fact holds."""
        self.cases += 1
        if not holds:
            raise Deviation(sentence, call=call, got=got, expected=expected)

    def reject_law(
        self, p_value: float, sentence: str, *, call: str = "", got: Any = None, expected: Any = None
    ) -> None:
        """Deviation where a fixed-seed draw has a probability below `FALSE_ALARM` under the paper's law. One decision."""
        self.cases += 1
        self.decisions += 1
        if not p_value >= FALSE_ALARM:
            raise Deviation(
                f"{sentence} (probability under the paper's law {p_value:.1e})", call=call, got=got, expected=expected
            )

    def inconclusive(self, reason: str) -> NoReturn:
        """Ends the check: its clause does not apply to this adapter or cannot be decided."""
        raise Inconclusive(reason)
