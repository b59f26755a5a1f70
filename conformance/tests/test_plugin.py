"""The suite as pytest items: through `--pyargs`, and in a user's own test file."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest_plugins = ["pytester"]

ADAPTERS = """
import numpy as np
from dreamer4_conformance import Adapter

class Right(Adapter):
    name, version = "me/right", "1.0"
    def ramp_weight(self, tau):
        return 0.9 * tau + 0.1

class Wrong(Right):
    name = "me/wrong"
    def ramp_weight(self, tau):
        return 1 - 0.9 * tau
    def sample_tau_d(self, seed, batch, time):
        rng = np.random.default_rng()
        d = 2.0 ** -rng.integers(0, 7, (batch, time))
        return rng.integers(0, 1 / d) * d, d

class Known(Wrong):
    expected_failures = {"eq08.value": "see issue 12", "eq08.elementwise": "see issue 13"}

class Broken(Adapter):
    def ramp_weight(self, tau):
        raise RuntimeError("the flux is out")
"""
SUITE = ("--pyargs", "dreamer4_conformance.suite", "-W", "error", "-p", "no:cacheprovider")


@pytest.fixture
def mine(pytester: pytest.Pytester) -> pytest.Pytester:
    """A directory with adapters and no settings."""
    pytester.makepyfile(mine=ADAPTERS)
    pytester.makeini("[pytest]")
    return pytester


def test_the_suite_has_one_item_for_each_clause_and_reports_it(mine: pytest.Pytester) -> None:
    chosen = "--dreamer4-clause=eq08.*,eq04.generator,eq07.perfect"
    run = mine.runpytest_subprocess(
        *SUITE, "--dreamer4=mine:Wrong", chosen, "--dreamer4-json=a.json", "--junit-xml=a.xml", "-rxs", "-v"
    )
    run.assert_outcomes(passed=1, failed=1, skipped=2, xfailed=1, deselected=run.parseoutcomes()["deselected"])
    run.stdout.fnmatch_lines(
        [
            "*test_conforms*eq04.generator* XFAIL*",
            "*test_conforms*eq07.perfect* SKIPPED*",
            "*test_conforms*eq08.value* FAILED*",
            "eq08.value — Eq. (8), Sec. 3.2, p. 6: fail",
            "  call:         ramp_weight(*",
            "  behaves like: ramp-inverted",
            "  run again:    pytest --pyargs dreamer4_conformance.suite --dreamer4=mine:Wrong --dreamer4-clause eq08.*",
            "*conformance to Dreamer 4*",
            "*Does not conform.",
        ]
    )
    run.stdout.no_fnmatch_line("*Traceback*")
    document = json.loads(Path("a.json").read_text())
    assert [row["id"] for row in document["clauses"]][:2] == ["eq04.generator", "eq07.perfect"]
    assert document["summary"]["exit_status"] == 1
    assert _properties("a.xml", "test_conforms[eq08.value]") == {
        "clause": "eq08.value",
        "equation": "8",
        "kind": "must",
        "status": "fail",
        "reading": "default",
    }


def _properties(path: str, name: str) -> dict[str | None, str | None]:
    root = ElementTree.parse(path).getroot()
    found = next(case for case in root.iter("testcase") if case.get("name") == name)
    return {one.get("name"): one.get("value") for one in found.iter("property")}


def test_known_failures_are_xfailed_and_those_that_pass_fail(mine: pytest.Pytester) -> None:
    run = mine.runpytest_subprocess(*SUITE, "--dreamer4=mine.py:Known", "--dreamer4-clause=eq08.value,eq08.elementwise")
    run.assert_outcomes(failed=1, xfailed=1, deselected=run.parseoutcomes()["deselected"])
    run.stdout.fnmatch_lines(["eq08.elementwise — *: unexpected-pass"])


def test_what_is_required_fails_where_it_is_not_provided(mine: pytest.Pytester) -> None:
    run = mine.runpytest_subprocess(*SUITE, "--dreamer4=mine:Right", "--dreamer4-eq=8", "--dreamer4-require=8")
    run.assert_outcomes(passed=2, failed=1, deselected=run.parseoutcomes()["deselected"])
    run.stdout.fnmatch_lines(["eq08.applied is required, but not-provided: needs *"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--dreamer4=mine:Absent"], "*mine has no attribute 'Absent'*"),
        (["--dreamer4=mine:Right", "--dreamer4-clause=eq99.*"], "*'eq99.*' matches no clause*"),
        (["--dreamer4=mine:Right", "--dreamer4-eq=8", "--dreamer4-require=4"], "*the selection leaves it out*"),
        (["--dreamer4=mine:Right", "--dreamer4-json=absent/a.json"], "*cannot write absent/a.json*"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(mine: pytest.Pytester, arguments: list[str], sentence: str) -> None:
    run = mine.runpytest_subprocess(*SUITE, *arguments)
    assert run.ret not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERNAL_ERROR)
    assert any(fnmatch(line, sentence) for line in run.outlines + run.errlines)


def test_an_operation_that_raises_fails_its_clause(mine: pytest.Pytester) -> None:
    run = mine.runpytest_subprocess(*SUITE, "--dreamer4=mine:Broken", "--dreamer4-clause=eq08.value")
    run.assert_outcomes(failed=1, deselected=run.parseoutcomes()["deselected"])
    run.stdout.fnmatch_lines(["*ramp_weight raised RuntimeError: the flux is out (mine.py:*"])


def test_a_test_of_ones_own_is_decorated_with_one_adapter_or_several(mine: pytest.Pytester) -> None:
    mine.makepyfile(
        test_mine="""
        from dreamer4_conformance import parametrize_with_checks
        from mine import Right, Wrong

        @parametrize_with_checks(Right())
        def test_one(check, tmp_path):
            check()

        @parametrize_with_checks([Right, Wrong()])
        class TestSeveral:
            def test_several(self, dreamer4_clause):
                dreamer4_clause()
        """
    )
    run = mine.runpytest_subprocess(
        "-n2", "-W", "error", "-v", "--dreamer4-clause=eq08.value", "--dreamer4-json=a.json", "--dreamer4-profile=dev"
    )
    # pytest-xdist does not report what its workers deselected.
    run.assert_outcomes(passed=2, failed=1)
    for item in (
        "test_one[[]eq08.value]",
        "TestSeveral::test_several[[]me/right-eq08.value]",
        "TestSeveral::test_several[[]me/wrong-eq08.value]",
    ):
        run.stdout.fnmatch_lines_random([f"*{item}*"])
    run.stdout.fnmatch_lines_random(["me/right 1.0 (signal levels)", "me/wrong 1.0 (signal levels)"])
    documents = [json.loads(Path(f"a-{place}.json").read_text()) for place in (1, 2, 3)]
    assert sorted(document["adapter"]["name"] for document in documents) == ["me/right", "me/right", "me/wrong"]
    assert len({document["environment"]["seed"] for document in documents}) == 1
    assert all(len(document["clauses"]) == 1 for document in documents)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("def test_mine(dreamer4_clause):\n    pass", "*needs @parametrize_with_checks(adapter)*"),
        (
            "import dreamer4_conformance as d\n@d.parametrize_with_checks(d.Adapter)\ndef test_mine():\n    pass",
            "*test_mine is decorated with parametrize_with_checks, but has no argument; it needs one*",
        ),
    ],
    ids=["without decorator", "without argument"],
)
def test_a_test_that_cannot_work_says_what_it_needs(mine: pytest.Pytester, source: str, sentence: str) -> None:
    mine.makepyfile(test_mine=source)
    run = mine.runpytest_subprocess("--strict-markers")
    assert any(fnmatch(line, sentence) for line in run.outlines)


@pytest.mark.parametrize(
    ("form", "table", "counts"), [("short", False, True), ("full", True, False), ("no", False, False)]
)
def test_report_is_printed_in_the_chosen_form(mine: pytest.Pytester, form: str, table: bool, counts: bool) -> None:
    chosen = (f"--dreamer4-report={form}", "--dreamer4=mine:Wrong", "--dreamer4-clause=eq08.value", "--tb=no")
    run = mine.runpytest_subprocess(*SUITE, *chosen, "-rN")  # pytest's own summary is not cut where CI is set
    run.assert_outcomes(failed=1, deselected=run.parseoutcomes()["deselected"])
    assert (
        any(line.split() == ["clause", "verdict", "cases", "of", "bound", "remark"] for line in run.outlines) is table
    )
    assert any("behaves like: ramp-inverted" in line for line in run.outlines) is table
    assert any("Eq. 8  0 of 1 pass, 1 failed" in line for line in run.outlines) is counts
    assert any("conformance to Dreamer 4" in line for line in run.outlines) is (form != "no")


def test_an_unrelated_run_imports_nothing_heavy_and_prints_nothing(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        """
        import sys

        def test_unrelated():
            ours = {"dreamer4_conformance", "dreamer4_reference", "dreamer4_impl"}
            assert not (ours | {"torch", "jax", "numpy", "hypothesis", "rich"}) & set(sys.modules)
            assert "dreamer4_conformance_plugin" in sys.modules
        """
    )
    run = pytester.runpytest_subprocess("-p", "dreamer4_conformance_plugin")
    run.assert_outcomes(passed=1)
    run.stdout.no_fnmatch_line("*Dreamer*")
