"""Checks: functions that judge one clause of an adapter, registered with the operations that they need.

    @check("eq08.value", needs=("ramp_weight",))
    def check_weight_is_the_ramp(subject, trial):
        def holds(tau):
            trial.compare(...)

        trial.for_all(levels(), body=holds)

A check chooses its strategies, refers to no implementation by name, and counts its cases through `trial`; without a
case its clause is inconclusive. Distributions are judged outside `for_all`, on one fixed-seed draw, by
`trial.reject_law`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal, NoReturn, Protocol
from unittest.mock import patch
from warnings import catch_warnings, simplefilter

import numpy as np
from hypothesis import HealthCheck, Phase, currently_in_test_context, given, seed, settings, target
from hypothesis.errors import HypothesisWarning, InvalidArgument
from hypothesis.strategies import SearchStrategy

from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.instruments.subject import Subject, smallest_normal
from dreamer4_conformance.judging.counterexample import Counterexamples
from dreamer4_conformance.registry import qualified_name
from dreamer4_conformance.verdicts import Deviation, Inconclusive

Profile = Literal["dev", "ci", "nightly"]
Source = Literal["paper", "adapter"]
EXAMPLES: dict[Profile, int] = {"dev": 20, "ci": 20, "nightly": 200}
FALSE_ALARM = 1e-9
"""Bound on the probability that one statistical decision rejects a correct implementation."""


class Provider(Protocol):
    """The adapter, or a description of it."""

    def provides(self, operation: str) -> bool:
        """True if the adapter overrides the operation."""


@dataclass(frozen=True)
class Check:
    """A registered check. It runs if every operation of `needs` and at least one of `needs_one` is provided.

    `decisions` is the number of its statistical decisions, each with a false-alarm probability of `FALSE_ALARM`.
    """

    clause: str
    function: Callable[[Subject, Trial], None]
    needs: tuple[str, ...]
    needs_one: tuple[str, ...]
    decisions: int

    @property
    def name(self) -> str:
        """Name of the check function."""
        return self.function.__name__

    def missing(self, subject: Provider) -> list[str]:
        """Operations that the adapter would have to provide, alternatives in one string; empty if none is missing."""
        absent = [name for name in self.needs if not subject.provides(name)]
        if self.needs_one and not any(subject.provides(name) for name in self.needs_one):
            absent.append(" or ".join(self.needs_one))
        return absent


CHECKS: dict[str, Check] = {}
"""Qualified name of the function → check."""


def check(
    clause: str, *, needs: tuple[str, ...] = (), needs_one: tuple[str, ...] = (), decisions: int = 0
) -> Callable[[Callable[[Subject, Trial], None]], Callable[[Subject, Trial], None]]:
    """Register a function as a check.

    Args:
        clause: id of the clause that it verifies.
        needs: operations that it needs.
        needs_one: operations of which it needs at least one.
        decisions: number of statistical decisions that it takes by `Trial.reject_law`.

    Returns:
        A decorator that returns the function unchanged.

    Raises:
        ValueError: if there is no such clause.
    """
    if clause not in BY_ID:
        raise ValueError(f"clause {clause!r} does not exist; clauses.py lists them")

    def register(function: Callable[[Subject, Trial], None]) -> Callable[[Subject, Trial], None]:
        CHECKS[qualified_name(function)] = Check(clause, function, needs, needs_one, decisions)
        return function

    return register


_CONSTANTS: dict[Any, Any] = {}
"""Cache of Hypothesis' own constants by strategy."""


@contextmanager
def _same_examples_in_every_process() -> Iterator[None]:
    """Keep Hypothesis from drawing constants out of the source of the modules that happen to be imported.

    Otherwise a seed gives other examples after other imports, and Hypothesis writes the constants to the working
    directory. Versions without these constants need nothing.
    """
    providers = sys.modules.get("hypothesis.internal.conjecture.providers")
    if providers is None or not hasattr(providers, "_get_local_constants"):
        yield
        return
    none = SimpleNamespace(set_for_type=lambda choice_type: ())
    with patch.multiple(providers, _get_local_constants=lambda: none, CONSTANTS_CACHE=_CONSTANTS):
        yield


@dataclass
class Trial:
    """One run of one check: its budget of examples, its cases, and the comparison closest to its bound.

    With `minimal`, Hypothesis shrinks a counterexample; without, only the verdict matters.
    """

    profile: Profile = "ci"
    seed: int = 0
    minimal: bool = True
    cases: int = 0
    decisions: int = 0
    worst_error: float | None = None
    worst_bound: float | None = None
    _worst_ratio: float = field(default=-1.0, repr=False)

    def for_all(self, *strategies: SearchStrategy[Any], body: Callable[..., None], examples: int | None = None) -> None:
        """Run `body` on examples that Hypothesis draws.

        Args:
            strategies: one for each positional argument of `body`; `@example` on `body` adds examples.
            body: raises Deviation, as `compare` and `fail_unless` do, if an example violates the clause.
            examples: largest number of examples; None for that of the profile.

        Raises:
            Deviation: for a small example with a large error (`Counterexamples`).
        """
        counterexamples = Counterexamples()
        configured = settings(
            max_examples=examples or EXAMPLES[self.profile],
            derandomize=self.profile == "ci",
            backend="hypothesis",
            database=None,
            deadline=None,
            print_blob=False,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            phases=[
                phase for phase in Phase if phase is not Phase.explain and (self.minimal or phase is not Phase.shrink)
            ],
        )(given(*strategies)(counterexamples.recorded(body)))
        test = configured if self.profile == "ci" else seed(self.seed)(configured)
        with catch_warnings(), _same_examples_in_every_process():
            simplefilter(
                "ignore", HypothesisWarning
            )  # about long examples, even if the user turns warnings into errors
            try:
                test()
            except Deviation:
                larger = counterexamples.largest()
                if larger is not None:
                    body(**larger)
                raise

    def rng(self) -> np.random.Generator:
        """Generator of the inputs of a fixed-seed draw."""
        return np.random.default_rng(self.seed)

    def compare(
        self,
        name: str,
        got: Any,
        expected: Any,
        *,
        terms: Any,
        k: float,
        eps: float,
        call: str = "",
        required_by: Source = "paper",
    ) -> None:
        """Require |got − expected| ≤ k · (eps · terms + smallest normal number), element by element.

        The second summand is what an underflow may lose: a product below the smallest normal number is rounded to a
        subnormal one, or to 0 where the hardware or the program flushes subnormal numbers. A check whose expression
        multiplies such products by large factors, or adds many, adds them to its terms.

        Args:
            name: of the value, for the message.
            got: result of the adapter, any shape.
            expected: what it must be, of the same shape.
            terms: sum of the absolute values of the terms in the reference's expression; broadcasts to `expected`.
            k: factor of the tolerance, declared next to the check.
            eps: spacing of 1 in the adapter's dtype.
            call: the call as Python, for the message.
            required_by: origin of `expected`: the reference, or other results of the adapter, which may be wrong too.

        Raises:
            Deviation: if the shapes differ or a value exceeds its bound.
        """
        got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
        self.cases += 1
        if got.shape != expected.shape:
            raise Deviation(f"{name} has shape {got.shape}; it needs {expected.shape}", call=call)
        if got.size == 0:
            return
        error = np.abs(got - expected)
        bound = k * (eps * np.broadcast_to(np.asarray(terms, np.float64), error.shape) + smallest_normal(eps))
        worst = int(np.argmax(np.where(np.isfinite(error), error / bound, np.inf)))
        at_worst, its_bound = float(error.flat[worst]), float(bound.flat[worst])
        if not at_worst <= its_bound:
            source = {"paper": "the paper gives", "adapter": "by the adapter's other results it must be"}[required_by]
            raise Deviation(
                f"{name} is {got.flat[worst]:.9g}; {source} {expected.flat[worst]:.9g}",
                call=call,
                got=got.tolist(),
                expected=expected.tolist(),
                error=at_worst,
                bound=its_bound,
            )
        self._aim(at_worst / its_bound, name)
        if at_worst / its_bound > self._worst_ratio:
            self._worst_ratio, self.worst_error, self.worst_bound = at_worst / its_bound, at_worst, its_bound

    def _aim(self, ratio: float, name: str) -> None:
        """In the profile "nightly", let Hypothesis maximise the first ratio of error to bound of each name."""
        if self.profile == "nightly" and currently_in_test_context():
            with suppress(InvalidArgument):  # this example has already reported the name
                target(ratio, label=name)

    def fail_unless(
        self, holds: bool | np.bool_, sentence: str, *, call: str = "", got: Any = None, expected: Any = None
    ) -> None:
        """Require an exact fact.

        Raises:
            Deviation: with `sentence`, if it does not hold.
        """
        self.cases += 1
        if not holds:
            raise Deviation(sentence, call=call, got=got, expected=expected)

    def reject_law(
        self, p_value: float, sentence: str, *, call: str = "", got: Any = None, expected: Any = None
    ) -> None:
        """Take one statistical decision about a fixed-seed draw.

        Raises:
            Deviation: if the probability under the paper's distribution is below `FALSE_ALARM`.
        """
        self.cases += 1
        self.decisions += 1
        if not p_value >= FALSE_ALARM:
            raise Deviation(
                f"{sentence} (probability under the paper's law {p_value:.1e})", call=call, got=got, expected=expected
            )

    def inconclusive(self, reason: str) -> NoReturn:
        """End the check: its clause does not apply to this adapter or cannot be decided.

        Raises:
            Inconclusive: always.
        """
        raise Inconclusive(reason)
