"""`peers`: a row for every implementation that is there, kept reports, and runs that fail or hang."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dreamer4_conformance.adapters import peers
from dreamer4_conformance.adapters.peers import Peer
from dreamer4_conformance.cli import main
from dreamer4_conformance.gallery import runs
from dreamer4_conformance.report import Report
from dreamer4_conformance.report.document import read, to_json
from dreamer4_conformance.verdicts import Result, Status

#: Takes the place of `dreamer4-conformance run`, which takes seconds to start: by the name of the adapter it copies a
#: report, dies, hangs, or prints what `run` prints.
STAND_IN = """
import os, signal, sys, time
from pathlib import Path
adapter, _, data, _, text, *arguments = sys.argv[1:]
if adapter == "crash":
    os.kill(os.getpid(), signal.SIGKILL)
if adapter == "hang":
    Path("hung").touch()
    time.sleep(60)
if adapter == "missing":
    sys.exit("a warning\\ndreamer4-conformance: a.py imports the module 'flax',\\n  which is not installed")
if adapter == "garbage":
    Path(data).write_text("{}")
    sys.exit(0)
with open("started", "a") as started:
    print(adapter, Path(os.environ["DREAMER4_PEERS"]).name, *arguments, file=started)
Path(data).write_text(Path("report.json").read_text())
Path(text).write_text("# report")
"""
ADAPTER = {"name": "a/right", "version": "1", "level": "signal", "readings": {}, "not_testable": {"corrupt": "inline"}}
ENVIRONMENT = {"python": "3.11.0", "k_max": 64, "device": "cpu", "dtype": "float32", "profile": "ci", "seed": 0}
STATUSES = {
    "eq08.value": Status.PASS,
    "eq08.elementwise": Status.FAIL,
    "eq08.applied": Status.KNOWN_FAILURE,
    "eq07.perfect": Status.INCONCLUSIVE,
}
ABSENT = [
    Result(f"eq0{number}.a", number, "must", Status.NOT_PROVIDED, needs=[need])
    for number, need in ((1, "corrupt"), (2, "sample_frame"), (6, "corrupt or rope"), (4, "sample_tau_d"), (5, "rope"))
]
REPORT = Report(ADAPTER, ENVIRONMENT, [*(Result(id, 8, "must", status) for id, status in STATUSES.items()), *ABSENT])
PEERS = (
    Peer("a/right", "1234567", "right", "MIT"),
    Peer("b/states", "7654321", "states", "MIT"),
    Peer("c/package", "1.0", "package", "MIT", "pytest"),
    Peer("d/absent", "1234567", "absent", "MIT"),
    Peer("e/not-installed", "1.0", "not-installed", "MIT", "dreamer4-of-nobody"),
)
FAULTS = {
    "crash": "the run was ended by SIGKILL",
    "hang": "the run took longer than 100 s (--limit)",
    "missing": "a.py imports the module 'flax', which is not installed",
    "garbage": "the run ended with exit status 0 and no report",
}


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(peers, "PEERS", PEERS)
    monkeypatch.setattr(runs, "RUN", (sys.executable, "-S", "-E", "run.py"))
    Path("run.py").write_text(STAND_IN)
    Path("report.json").write_text(to_json(REPORT))
    for checkout in ("a/right", "b/states@7654321"):
        Path("code", checkout, ".git").mkdir(parents=True)
        Path("code", checkout, "loss.py").write_text("weight = 0.9")


def started() -> list[str]:
    """Runs since the last call, sorted: the adapter, the directory of the checkouts and the arguments."""
    path = Path("started")
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return sorted(lines)


def adapters() -> list[str]:
    return [line.split()[0] for line in started()]


def test_each_implementation_that_is_there_has_a_row_and_two_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["peers", "--checkout", "code", "--out", "reports", "--clause", "eq08.*,eq01.*"]) == 0
    said = capsys.readouterr()
    assert [line.split() for line in said.out.splitlines()] == [
        ["not", "not"],
        ["implementation", "commit", "pass", "fail", "inconclusive", "provided", "testable"],
        ["a/right", "1234567", "1", "2", "1", "3", "2"],
        ["b/states", "7654321", "1", "2", "1", "3", "2"],
        ["c/package", "1.0", "1", "2", "1", "3", "2"],
    ]
    for absence in (
        "left out: d/absent 1234567: there is no directory code/d/absent",
        "left out: e/not-installed 1.0: dreamer4-of-nobody is not installed",
        "[3/3] ",
        "a/right 1234567: 1 pass, 2 fail, 1 inconclusive, 3 not provided, 2 not testable (0 s)",
    ):
        assert absence in said.err
    arguments = "code --profile ci --seed 0 --time-limit 120 --clause eq08.*,eq01.*"
    assert started() == [f"{name} {arguments}" for name in ("package", "right", "states")]
    names = ("a-right-1234567", "b-states-7654321", "c-package-1.0")
    assert {path.name for path in Path("reports").iterdir()} == {
        f"{name}.{end}" for name in names for end in ("json", "md")
    }
    assert Path("reports/a-right-1234567.md").read_text() == "# report"
    report = read(Path("reports/a-right-1234567.json"))
    assert report.environment.pop("fingerprint")
    assert to_json(report) == to_json(REPORT)


def test_report_is_kept_until_code_options_or_files_change(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["peers", "--checkout", "code", "--out", "reports"]
    main(command)
    assert adapters() == ["package", "right", "states"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "a/right 1234567: kept reports/a-right-1234567.json" in said.err
    assert said.out.count("1234567") == 2  # in the table of each call
    assert adapters() == []
    Path("code/a/right/loss.py").write_text("weight = 0.8")
    Path("code/b/states@7654321/.git/hook.py").write_text("not part of the code")
    main(command)
    assert adapters() == ["right"]
    Path("reports/a-right-1234567.md").unlink()
    Path("reports/b-states-7654321.json").write_text(to_json(REPORT)[:-20])
    main(command)
    assert adapters() == ["right", "states"]
    for option in (["--seed", "1"], ["--seed", "1", "--eq", "8"], ["--seed", "1", "--eq", "8", "--force"]):
        main([*command, "a/*", *option])
        assert adapters() == ["right"]


def test_run_that_fails_or_hangs_is_a_line_with_its_reason_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    faulty = tuple(Peer("a/right", name, name, "MIT") for name in FAULTS)
    monkeypatch.setattr(peers, "PEERS", (*faulty, PEERS[0]))
    clock = lambda: time.monotonic() + 1000 * Path("hung").exists()  # noqa: E731 - so that the test need not wait
    monkeypatch.setattr(runs, "time", SimpleNamespace(monotonic=clock, sleep=time.sleep))
    assert main(["peers", "--checkout", "code", "--out", "reports", "--limit", "100", "--jobs", "1"]) == 1
    said = capsys.readouterr()
    for name, reason in FAULTS.items():
        assert f"not judged: a/right {name}: {reason}\n" in said.out
        assert [name, "-", "-", "-", "-", "-"] in [line.split()[1:] for line in said.out.splitlines()]
    assert ["a/right", "1234567", "1", "2", "1", "3", "2"] in [line.split() for line in said.out.splitlines()]
    assert "Traceback" not in said.out + said.err
    assert {path.stem for path in Path("reports").iterdir()} == {"a-right-1234567"}


def test_interruption_ends_the_runs_and_keeps_finished_reports(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "PEERS", (PEERS[0], Peer("a/right", "hang", "hang", "MIT")))
    processes = []

    class Process(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            processes.append(self)

    def interrupt(seconds: float) -> None:
        if Path("reports/a-right-1234567.json").exists() and Path("hung").exists():
            raise KeyboardInterrupt
        time.sleep(seconds)

    monkeypatch.setattr(runs, "subprocess", SimpleNamespace(**vars(subprocess) | {"Popen": Process}))
    monkeypatch.setattr(runs, "time", SimpleNamespace(monotonic=time.monotonic, sleep=interrupt))
    assert main(["peers", "--checkout", "code", "--out", "reports", "--jobs", "2"]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert [process.poll() is None for process in processes] == [False, False]
    assert {path.stem for path in Path("reports").iterdir()} == {"a-right-1234567"}


USAGE = {
    "no directory": (["--checkout", "absent"], "--checkout is 'absent', which is no directory"),
    "empty directory": (["--checkout", "code/a/right", "[abde]/*"], "no implementation is there"),
    "unknown name": (["--checkout", "code", "a/left"], "'a/left' matches none of a/right, b/states, c/package"),
    "unknown clause": (["--checkout", "code", "--clause", "eq08.valeu"], "'eq08.valeu' matches no clause"),
    "no jobs": (["--checkout", "code", "--jobs", "0"], "'0' is no positive whole number"),
    "file in the way": (["--checkout", "code", "--out", "report.json"], "cannot write into report.json: File exists"),
    "no directory given": ([], "--checkout"),
}


@pytest.mark.parametrize("kind", USAGE)
def test_status_2_and_a_sentence_for_invalid_arguments(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, sentence = USAGE[kind]
    try:
        status = main(["peers", *arguments])
    except SystemExit as exit:
        status = exit.code  # type: ignore[assignment]
    said = capsys.readouterr()
    assert (status, said.out, started()) == (2, "", [])
    assert sentence in said.err
    assert "Traceback" not in said.err


@pytest.mark.nightly
def test_real_runs_judge_one_adapter_and_name_what_another_lacks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ramp = "    def ramp_weight(self, tau):\n        return 0.9 * tau + 0.1\n"
    Path("mine.py").write_text(f"from dreamer4_conformance import Adapter\nclass Mine(Adapter):\n{ramp}")
    Path("broken.py").write_text("import absent_here\n")
    monkeypatch.setattr(runs, "RUN", (sys.executable, "-m", "dreamer4_conformance", "run"))
    names = ("mine.py:Mine", "broken.py:Mine")
    monkeypatch.setattr(peers, "PEERS", tuple(Peer("a/right", name[:4], name, "MIT") for name in names))
    assert main(["peers", "--checkout", "code", "--out", "reports", "--clause", "eq08.*"]) == 1
    said = capsys.readouterr().out
    assert "not judged: a/right brok: broken.py imports the module 'absent_here', which is not installed" in said
    rows = json.loads(Path("reports/a-right-mine.json").read_text())["clauses"]
    assert {row["id"]: row["status"] for row in rows}["eq08.value"] == "pass"
    assert Path("reports/a-right-mine.md").read_text().startswith("# unnamed 0")
