"""pytest plugin of the conformance suite: options, fixture and report. It imports the suite only if a test uses it."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from dreamer4_conformance.pytest_items import Options

JUDGED = pytest.StashKey[dict[str, Any]]()
CHOSEN = pytest.StashKey["Options"]()


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the command `dreamer4-conformance run`, prefixed by --dreamer4."""
    group = parser.getgroup("dreamer4", "conformance to Dreamer 4")
    option = group.addoption
    option("--dreamer4", metavar="ADAPTER", help="module:attr or file.py:attr (default: the bundled implementation)")
    option("--dreamer4-eq", metavar="7,8", type=_numbers, help="only the clauses of these equations")
    option("--dreamer4-clause", metavar="ID,…", type=_names, help="only these clauses; 'eq07.*' works too")
    option("--dreamer4-require", metavar="4,7", type=_numbers, default=[], help="equations that must be decided")
    option(
        "--dreamer4-profile", choices=("dev", "ci", "nightly"), default="ci", help="ci: the same inputs in every run"
    )
    option("--dreamer4-seed", type=int, help="seed of everything random (default: 0 for ci, else a random one)")
    option("--dreamer4-device", metavar="cpu|cuda", help="device of the operations (default: the adapter's)")
    option("--dreamer4-dtype", choices=("float64", "float32", "bfloat16"), help="their dtype (default: the adapter's)")
    option("--dreamer4-time-limit", metavar="SECONDS", type=float, default=120.0, help="for one call of an operation")
    option("--dreamer4-traceback", action="store_true", help="print the whole traceback of what an operation raises")
    option("--dreamer4-json", metavar="FILE", type=Path, help="write the report as JSON")
    option(
        "--dreamer4-report",
        choices=("short", "full", "no"),
        default="short",
        help="what is printed at the end. short: failures by cause and counts per equation (default); full: also every "
        "failure in full and the table of all clauses; no: nothing",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed for all workers and register the collector of verdicts, in the process that reports."""
    config.addinivalue_line("markers", "dreamer4_checks: the mark of `parametrize_with_checks`")
    if hasattr(config, "workerinput"):
        config.option.dreamer4_seed = config.workerinput["dreamer4_seed"]
        return
    if config.option.dreamer4_seed is None:
        config.option.dreamer4_seed = 0 if config.option.dreamer4_profile == "ci" else SystemRandom().randrange(2**31)
    config.pluginmanager.register(Verdicts(config), "dreamer4_verdicts")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Send the seed to a pytest-xdist worker, which parses its options itself."""
    node.workerinput["dreamer4_seed"] = node.config.option.dreamer4_seed


def _cases(items: list[pytest.Item]) -> list[tuple[pytest.Item, Any]]:
    parametrised = [item for item in items if isinstance(item, pytest.Function) and hasattr(item, "callspec")]
    return [(item, value) for item in parametrised for value in item.callspec.params.values() if _is_case(value)]


def _is_case(value: object) -> bool:
    return getattr(type(value), "is_dreamer4_case", False)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise the tests that `parametrize_with_checks` marks."""
    adapters = [adapter for mark in metafunc.definition.iter_markers("dreamer4_checks") for adapter in mark.args]
    if adapters:
        from dreamer4_conformance.pytest_items import parametrize

        parametrize(metafunc, adapters)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the clauses that the options exclude."""
    eq, patterns, require = (config.getoption(f"dreamer4_{name}") for name in ("eq", "clause", "require"))
    collected = _cases(items) if eq or patterns or require else []
    if not collected:
        return
    from dreamer4_conformance.pytest_items import selected

    try:
        excluded = [item for item, case in collected if not selected(case, eq, patterns, require)]
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    items[:] = [item for item in items if item not in excluded]
    config.hook.pytest_deselected(items=excluded)


@pytest.fixture
def dreamer4_clause() -> None:
    """The argument of a test that `parametrize_with_checks` does not decorate."""
    pytest.fail("dreamer4_clause needs @parametrize_with_checks(adapter) on the test that takes it", pytrace=False)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Pass a function that judges the clause in place of the case."""
    cases: dict[str, Any] = {name: value for name, value in pyfuncitem.funcargs.items() if _is_case(value)}
    for name, case in cases.items():
        from dreamer4_conformance.pytest_items import judgement, properties

        def note(judged: dict[str, Any]) -> None:
            pyfuncitem.stash[JUDGED] = judged
            pyfuncitem.user_properties.extend(properties(judged))

        pyfuncitem.funcargs[name] = judgement(case, options(pyfuncitem.config), pyfuncitem.nodeid, note)


def options(config: pytest.Config) -> Options:
    """Options of the session."""
    if CHOSEN not in config.stash:
        from dreamer4_conformance.pytest_items import Options

        names = ("profile", "seed", "require", "device", "dtype", "time_limit", "traceback")
        config.stash[CHOSEN] = Options(**{name: config.getoption(f"dreamer4_{name}") for name in names})
    return config.stash[CHOSEN]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: object) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the verdict to the test's report, which pytest-xdist sends from its workers."""
    report = yield
    if report.when == "call" and JUDGED in item.stash:
        report.dreamer4 = item.stash[JUDGED]  # type: ignore[attr-defined]
    return report


class Verdicts:
    """Collector of verdicts; writes the reports at the end of the session."""

    def __init__(self, config: pytest.Config) -> None:
        self.path: Path | None = config.getoption("dreamer4_json")
        self.form: str = config.getoption("dreamer4_report")
        self.chosen = config.getoption("dreamer4_eq"), config.getoption("dreamer4_clause")
        self.judged: list[dict[str, Any]] = []
        if self.path is not None and (self.path.is_dir() or not self.path.parent.is_dir()):
            raise pytest.UsageError(f"--dreamer4-json: cannot write {self.path}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the verdict attached to a test's report."""
        self.judged += [report.dreamer4] if hasattr(report, "dreamer4") else []

    def pytest_sessionfinish(self) -> None:
        """Write the JSON report; several adapters get one file each, numbered before the suffix."""
        if self.path is None or not self.judged:
            return
        from dreamer4_conformance.pytest_items import reports
        from dreamer4_conformance.report.document import to_json
        from dreamer4_conformance.report.files import reserved

        written = reports(self.judged, *self.chosen)
        names = [f"{self.path.stem}-{number}{self.path.suffix}" for number in range(1, len(written) + 1)]
        paths = [self.path.with_name(name) for name in names] if len(written) > 1 else [self.path]
        with reserved(paths) as files:
            for file, report in zip(files, written, strict=True):
                file.write(to_json(report))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print one report per adapter."""
        if not self.judged or self.form == "no":
            return
        from dreamer4_conformance.pytest_items import reports
        from dreamer4_conformance.report.terminal import to_text

        terminalreporter.section("conformance to Dreamer 4")
        in_full = self.form == "full"
        for report in reports(self.judged, *self.chosen):
            terminalreporter.write_line(to_text(report, verbose=in_full, in_full=in_full))
