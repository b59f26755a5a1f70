"""An adapter in this process, judged under a guard."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace

from dreamer4_conformance.adapter import OPERATIONS, Adapter
from dreamer4_conformance.adapters.importing import definition, load
from dreamer4_conformance.adapters.validation import examine
from dreamer4_conformance.clauses import Clause
from dreamer4_conformance.instruments.faults import describe_error
from dreamer4_conformance.instruments.guard import Guard
from dreamer4_conformance.judging.check import Profile
from dreamer4_conformance.report import describe_adapter, describe_environment
from dreamer4_conformance.report.document import from_row, plain, to_row
from dreamer4_conformance.runner import judge
from dreamer4_conformance.threads import on_gpu, single_thread
from dreamer4_conformance.verdicts import OWN_FAULT, TIME_LIMIT, Result, Status


@dataclass(frozen=True)
class Conditions:
    """Conditions of a run.

    Attributes:
        profile: "ci" for the same inputs in every run, "dev" for inputs from `seed`, "nightly" for ten times as many.
        seed: of everything random, in [0, 2³¹).
        device: overrides the adapter's; None leaves it.
        dtype: overrides the adapter's; None leaves it.
        time_limit: seconds that one call of an operation, or import and constructor, may take. Only a worker has one.
        traceback: whether the message about an exception contains the whole traceback.
    """

    profile: Profile = "ci"
    seed: int = 0
    device: str | None = None
    dtype: str | None = None
    time_limit: float = TIME_LIMIT
    traceback: bool = False


@dataclass(frozen=True)
class Declared:
    """What the report says of an adapter, in JSON types.

    Attributes:
        adapter: name, version, level and readings.
        environment: versions, device, dtype, profile, seed, and where the adapter's code runs.
        operations: those that the adapter provides.
        expected_failures: clause → reason.
        locations: operation → "file:line" of its definition.
    """

    adapter: dict[str, object]
    environment: dict[str, object]
    operations: list[str]
    expected_failures: dict[str, str]
    locations: dict[str, str]

    def provides(self, operation: str) -> bool:
        """True if the adapter overrides the operation."""
        return operation in self.operations


class Contained:
    """An adapter whose exceptions and changes of the process are contained; exits, crashes and hangs are not."""

    def __init__(
        self, source: str | Adapter | type[Adapter], conditions: Conditions, guard: Guard, isolation: str
    ) -> None:
        """Load and validate the adapter.

        Args:
            source: the adapter, its class, or where to import it from.
            conditions: of the run.
            guard: of the adapter's code.
            isolation: where that code runs, for the report.

        Raises:
            AdapterError: if the adapter is unusable.
        """
        self._conditions, self._guard, self._guest = conditions, guard, not isinstance(source, str)
        with ExitStack() as threads:
            threads.enter_context(single_thread(getattr(source, "device", "cpu"), guest=self._guest))
            guard.loading()
            adapter = load(source) if isinstance(source, str) else source
            self._subject = examine(adapter, device=conditions.device, dtype=conditions.dtype, guard=guard)
            if on_gpu(self._subject.adapter.device):
                threads.close()
            guard.loaded(self._subject.adapter)
        adapter = self._subject.adapter
        environment = describe_environment(adapter, conditions.profile, conditions.seed) | {"isolation": isolation}
        operations = [name for name in OPERATIONS if self._subject.provides(name)]
        self.declared = Declared(
            plain(describe_adapter(adapter)),
            plain(environment),
            operations,
            plain(dict(adapter.expected_failures)),
            plain({name: location for name in operations if (location := definition(adapter, name))}),
        )

    def judge(self, clause: Clause) -> Result:
        """Judge one clause that has a check.

        Returns:
            The result in JSON types, with printable texts. Its message names what the operations changed.
        """
        profile, seed = self._conditions.profile, self._conditions.seed
        with single_thread(self._subject.adapter.device, guest=self._guest), self._guard.clause() as remarks:
            try:
                result = judge(self._subject, clause, profile=profile, seed=seed)
            except (SystemExit, GeneratorExit, KeyboardInterrupt) as error:
                if isinstance(error, KeyboardInterrupt) and not self._guard.isolated:
                    raise
                message = f"the adapter's code raised {describe_error(error)}"
                result = Result(clause.id, clause.equation, clause.kind, Status.FAIL, message=message)
            except Exception as error:  # the worker would end, and an operation of the adapter be blamed for it
                message = f"{OWN_FAULT} judging {clause.id} raised {describe_error(error)}"
                result = Result(clause.id, clause.equation, clause.kind, Status.INCONCLUSIVE, message=message)
        replaced = self._guard.tampered()
        if replaced:
            message = f"an operation replaced code of this suite: {', '.join(replaced)}; leave it as it is"
            result = replace(result, status=Status.FAIL, message=message)
        if remarks and result.status is not Status.NOT_PROVIDED:
            result.message = "; ".join(filter(None, (result.message, *remarks)))
        return from_row(to_row(result))

    def close(self) -> None:
        """End the judge; nothing remains to be done in one process."""
