"""The command: what it prints, what it writes, and its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dreamer4_conformance.clauses import CLAUSES
from dreamer4_conformance.cli import main
from dreamer4_conformance.explain import equation, explanation
from dreamer4_conformance.readings import READINGS, Reading
from dreamer4_conformance.runner import checkable
from dreamer4_conformance.zoo.catalogue import catalogue

ADAPTERS = """
from dreamer4_conformance import Adapter

class Right(Adapter):
    name, version = "me/right", "1.0"
    def ramp_weight(self, tau):
        return 0.9 * tau + 0.1

class Noise(Right):
    level = "noise"
    def ramp_weight(self, tau):
        return 1 - 0.9 * tau

class Wrong(Right):
    name = "me/wrong"
    def ramp_weight(self, tau):
        return 1 - 0.9 * tau

class Known(Wrong):
    expected_failures = {"eq08.value": "see issue 12"}

class Outdated(Right):
    expected_failures = {"eq08.value": "see issue 12"}

class Nothing(Adapter):
    pass

class PartlyBroken(Right):
    def corrupt(self, z0, z1, tau):
        raise RuntimeError("not written yet")

class Careless(Adapter):
    def sample_tau_d(self, seed, batch, time):
        import numpy as np
        rng = np.random.default_rng()
        d = 2.0 ** -rng.integers(0, 7, (batch, time))
        return rng.integers(0, 1 / d) * d, d

instance = Right()
def make():
    return Right()
"""


@pytest.fixture(autouse=True)
def fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are forked under pytest-xdist too, whose thread is idle: a new interpreter takes seconds."""
    monkeypatch.setattr("dreamer4_conformance.isolation.worker.is_forkable", lambda device: True)


@pytest.fixture(autouse=True)
def adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(ADAPTERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


# The default output


def test_table_of_all_clauses_is_printed_with_v_only(capsys: pytest.CaptureFixture[str]) -> None:
    tables = []
    for arguments in ([], ["-v"]):
        main(["run", "mine.py:Wrong", "--eq", "8", *arguments])
        said = capsys.readouterr().out
        assert "Eq. (8), Sec. 3.2, p. 6: fail" in said
        tables.append("eq08.applied" in said)
    assert tables == [False, True]


@pytest.mark.parametrize("selected", [["eq02.*,eq08.value"], ["eq02.*", "--clause", "eq08.value"]])
def test_default_output_says_what_to_add(selected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", "mine.py:Right", "--clause", *selected])
    said = capsys.readouterr().out
    assert "Eq. 8         1 of 1 pass\nNot provided  6 clauses: Eq. 2 (6)\n" in said
    assert "  add `sample_frame`: 6 more clauses\n" in said


# Exit status


@pytest.mark.parametrize("attribute", ["Right", "Noise", "instance", "make"])
def test_status_0_where_everything_provided_conforms(attribute: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", f"mine.py:{attribute}", "--clause", "eq08.value"]) == 0
    assert "1 of 1 provided clauses pass." in capsys.readouterr().out


def test_status_1_and_a_failure_in_full_where_something_deviates(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "mine.py:Wrong", "--clause", "eq08.value", "--seed", "3"]) == 1
    said = capsys.readouterr().out
    for part in (
        "eq08.value — Eq. (8), Sec. 3.2, p. 6: fail",
        "requires:     The weight is w = 0.9 τ + 0.1 in signal terms",
        "call:         ramp_weight(",
        "got:          [",
        "expected:     [",
        "(bound ",
        "behaves like: ramp-inverted",
        "run again:    dreamer4-conformance run mine.py:Wrong --clause eq08.value --profile ci --seed 3",
        "Does not conform.",
    ):
        assert part in said


def test_an_operation_that_raises_fails_its_own_clauses_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "mine.py:PartlyBroken", "--clause", "eq08.*"]) == 0
    assert main(["run", "mine.py:PartlyBroken", "--clause", "eq01.interpolate,eq08.value", "--json", "a.json"]) == 1
    rows = {row["id"]: row for row in json.loads(Path("a.json").read_text())["clauses"]}
    assert rows["eq08.value"]["status"] == "pass"
    assert rows["eq01.interpolate"]["message"] == "corrupt raised RuntimeError: not written yet (mine.py:30)"


def test_the_whole_traceback_is_printed_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "mine.py:PartlyBroken", "--clause", "eq01.interpolate", "--traceback"]) == 1
    assert 'File "mine.py", line 30, in corrupt' in capsys.readouterr().out


def test_annotations_name_the_line_of_the_operation_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, count in ([], 0), (["--annotations"], 1):
        main(["run", "mine.py:Known", "--clause", "eq08.value", *arguments])
        main(["run", "mine.py:Wrong", "--clause", "eq08.value", *arguments])
        lines = capsys.readouterr().out.splitlines()
        assert sum(line.startswith("::error ") and ",file=mine.py,line=16::" in line for line in lines) == count
        assert sum(line.startswith("::notice ") and ",file=mine.py,line=16::" in line for line in lines) == count


def test_a_known_failure_is_printed_and_does_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "mine.py:Known", "--clause", "eq08.value"]) == 0
    said = capsys.readouterr().out
    assert "eq08.value — Eq. (8), Sec. 3.2, p. 6: known-failure" in said
    assert "Conforms, apart from its known failures." in said


def test_an_expected_failure_that_passes_is_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "mine.py:Outdated", "--clause", "eq08.value"]) == 1
    assert "unexpected-pass" in capsys.readouterr().out


def test_nothing_provided_is_never_called_conforming(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "mine.py:Nothing", "--eq", "8"]) == 0
    said = capsys.readouterr().out
    assert "Nothing was judged" in said
    assert " pass " not in said


def test_a_quality_clause_that_fails_is_printed_apart_and_does_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "mine.py:Careless", "--clause", "eq04.generator"]) == 0
    said = capsys.readouterr().out
    assert "Quality, apart from conformance: 0 of 1 provided clauses pass, 1 failed." in said
    assert "quality, not part of conformance" in said


def test_what_is_required_must_be_provided(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "mine.py:Right", "--eq", "8"]) == 0
    assert main(["run", "mine.py:Right", "--eq", "8", "--require", "8"]) == 1
    assert "Does not meet what is required: eq08.applied is not-provided." in capsys.readouterr().out
    assert main(["run", "mine.py:Right", "--clause", "eq08.value", "--require", "8"]) == 0


USAGE = {
    "unknown clause": (["run", "mine.py:Right", "--clause", "eq08.valeu"], "'eq08.valeu' matches no clause"),
    "unknown equation": (["run", "mine.py:Right", "--eq", "12"], "equation 12 has no clause"),
    "no number": (["run", "mine.py:Right", "--eq", "eight"], "'eight' is no list of equation numbers"),
    "unknown required equation": (["run", "mine.py:Right", "--require", "3"], "equation 3 has no clause"),
    "required and left out": (["run", "mine.py:Right", "--eq", "8", "--require", "4"], "the selection leaves it out"),
    "negative seed": (["run", "mine.py:Right", "--seed", "-1"], "'-1' is no whole number"),
    "unwritable": (["run", "mine.py:Right", "--json", "absent/report.json"], "cannot write absent/report.json"),
    "one file twice": (["run", "mine.py:Right", "--json", "f", "--html", "f"], "cannot write f"),
    "unknown clause to explain": (["explain", "eq08.valeu"], "no clause 'eq08.valeu'; did you mean eq08.value"),
    "unknown mistake to explain": (
        ["explain", "ramp-invertd"],
        "no mistake 'ramp-invertd'; did you mean ramp-inverted",
    ),
    "unknown reading to explain": (["explain", "A99"], "no reading 'A99'; did you mean A9"),
    "nothing close to explain": (["explain", "zzz"], "no mistake 'zzz'; `list` prints the clauses"),
    "unknown pattern to list": (["list", "--clause", "nothing.*"], "'nothing.*' matches no clause"),
    "no report": (["compare", "mine.py"], "mine.py: "),
    "no file to compare": (["compare", "absent.json"], "absent.json cannot be read"),
    "no command": ([], "COMMAND"),
}


@pytest.mark.parametrize("kind", USAGE)
def test_status_2_and_a_sentence_for_what_cannot_be_done(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, sentence = USAGE[kind]
    try:
        status = main(arguments)
    except SystemExit as exit:
        status = exit.code  # type: ignore[assignment]
    said = capsys.readouterr()
    assert (status, said.out) == (2, "")
    assert sentence in said.err
    assert "Traceback" not in said.err
    assert {path.name for path in Path().iterdir()} <= {"__pycache__", "mine.py"}


# Files


def test_every_form_of_the_report_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.html").write_text("of yesterday")
    main(["run", "mine.py:Wrong", "--eq", "8", "--json", "a.json", "--markdown", "a.md", "--html", "a.html"])
    document = json.loads(Path("a.json").read_text())
    assert (document["environment"]["seed"], document["environment"]["profile"]) == (0, "ci")
    assert document["adapter"]["name"] == "me/wrong"
    assert document["summary"]["exit_status"] == 1
    assert "ramp-inverted" in Path("a.md").read_text()
    assert Path("a.html").read_text().startswith("<!doctype html>")
    assert list(Path().glob(".*partial")) == []


def test_a_run_that_ends_early_leaves_the_old_report(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.json").write_text("of yesterday")
    assert main(["run", "mine.py:Absent", "--json", "a.json"]) == 2
    assert Path("a.json").read_text() == "of yesterday"
    assert list(Path().glob(".*partial")) == []


def test_a_report_can_go_to_a_device() -> None:
    assert main(["run", "mine.py:Right", "--clause", "eq08.value", "--json", "/dev/null"]) == 0
    assert not Path("/dev/null").is_file()


def test_a_new_seed_in_profile_dev_is_in_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "mine.py:Right", "--clause", "eq08.value", "--profile", "dev"]
    for name in ("a.json", "b.json"):
        assert main([*arguments, "--json", name]) == 0
    seeds = {json.loads(Path(name).read_text())["environment"]["seed"] for name in ("a.json", "b.json")}
    assert len(seeds) == 2


def test_device_and_dtype_are_what_the_command_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "mine.py:Right", "--clause", "eq08.value", "--dtype", "float64", "--device", "cpu"]) == 0
    assert "float64 on cpu" in capsys.readouterr().out
    assert main(["run", "mine.py:Right", "--dtype", "bfloat16"]) == 2
    assert "this adapter runs in float64 or float32" in capsys.readouterr().err


COMMANDS = [[], *([name] for name in ("run", "init", "list", "explain", "peers", "curves", "gallery", "compare"))]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_into_80_columns(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    assert [line for line in capsys.readouterr().out.splitlines() if len(line) > 80] == []


# list, explain, compare


def test_list_names_every_clause_and_says_where_there_is_no_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    assert all(clause.id in said for clause in CLAUSES)
    assert said.count("no check yet") == len(CLAUSES) - len(checkable())


def test_explain_prints_requirement_equation_checks_and_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "eq08.value"]) == 0
    said = capsys.readouterr().out
    for part in (
        "Sec. 3.2, p. 6",
        "The weight is w",
        "w(τ) = 0.9 τ + 0.1",
        "check_weight_is_the_ramp",
        "ramp-inverted:",
    ):
        assert part in said


def test_explain_prints_the_readings_with_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    main(["explain", "eq10.value"])
    assert "Default v_next; or v_same" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", ["A13", "a13", "reading A13 = v_same"])
def test_explain_prints_a_reading_as_reports_name_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", name]) == 0
    said = capsys.readouterr().out
    for part in (
        "A13 (reading)",
        "Options: v_next (default), v_same",
        'In the adapter: readings = {"A13": "v_same"}',
        "    eq10.value: R_t = r_t",
    ):
        assert part in said


@pytest.mark.parametrize("reading", READINGS, ids=lambda reading: reading.id)
def test_every_reading_can_be_explained_and_is_listed(reading: Reading, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", reading.id]) == 0
    assert main(["list", "--readings"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{reading.id} (reading)")
    assert f"\n{reading.id}: " in said
    assert max(map(len, said.splitlines())) <= 80


def test_list_of_readings_follows_the_selection(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--readings", "--eq", "8"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("A")] == [
        "A7: both (default), flow"
    ]


def test_explain_prints_a_mistake_with_its_clause_and_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "ramp-inverted"]) == 0
    said = capsys.readouterr().out
    for part in ("ramp-inverted (mistake)", "\n    eq08.value: The weight is w", "return 0.9 * (1 - tau) + 0.1"):
        assert part in said


def test_every_mistake_can_be_explained() -> None:
    assert [name for name in catalogue() if "class " not in "\n".join(explanation(name))] == []


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.id)
def test_every_clause_can_be_explained(clause: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", clause.id]) == 0  # type: ignore[attr-defined]
    assert capsys.readouterr().out.startswith(clause.id)  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", sorted({clause.module for clause in CLAUSES if clause.module is not None}))
def test_every_reference_module_says_what_it_is(module: str) -> None:
    assert equation(module)


def test_the_mistakes_that_explain_reads_are_those_of_the_zoo() -> None:
    from dreamer4_conformance.zoo.mistakes import MISTAKES

    assert catalogue() == {name: (found.clause, found.description) for name, found in MISTAKES.items()}


@pytest.mark.parametrize("arguments", [["list"], ["explain", "eq08.value"], ["run", "--help"], ["init", "mine.py"]])
def test_what_only_prints_starts_without_torch(arguments: list[str]) -> None:
    program = f"""
import sys
from dreamer4_conformance.cli import main
try:
    main({arguments!r})
except SystemExit:
    pass
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


def test_the_package_and_its_adapters_import_neither_torch_nor_hypothesis() -> None:
    program = """
import sys
import dreamer4_conformance
from dreamer4_conformance import Adapter, TorchAdapter, JaxAdapter, AdapterError, Result, Status
assert not {"torch", "jax", "hypothesis"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_reader_that_leaves_early_is_no_traceback() -> None:
    program = "from dreamer4_conformance.cli import main; import sys; sys.exit(main(['list']))"
    shell = f'"{sys.executable}" -c "{program}" | head -n 1'
    ended = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert ended.stderr == ""


def test_compare_shows_what_changed_and_ends_with_1_where_a_passed_clause_deviates(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("Right", "Wrong"):
        main(["run", f"mine.py:{name}", "--eq", "8", "--json", f"{name}.json"])
    capsys.readouterr()
    assert main(["compare", "Right.json", "Wrong.json"]) == 1
    said = capsys.readouterr().out
    assert "changed in [2]: eq08.value: pass → fail" in said
    assert "Passed before and deviate in [2]: eq08.value" in said
    assert main(["compare", "Wrong.json", "Right.json"]) == 0
    assert main(["compare", "Right.json"]) == 0
