"""An exit and a hang are contained through every door, and an interrupted run prints what is decided."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dreamer4_conformance import Adapter, check_implementation
from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.report import Report
from dreamer4_conformance.verdicts import AdapterError

ADAPTERS = """
import os, signal, sys, threading, time
from dreamer4_conformance import Adapter

class Right(Adapter):
    def corrupt(self, z0, z1, tau):
        level = tau[..., None, None]
        return (1 - level) * z0 + level * z1

    def tokenizer_loss(self, mse, lpips):
        return mse + 0.2 * lpips

    def ramp_weight(self, tau):
        return 0.9 * tau + 0.1

class Hostile(Right):
    def corrupt(self, z0, z1, tau):
        os._exit(0)

    def ramp_weight(self, tau):
        time.sleep(1e6)

class Interrupting(Right):
    number = signal.SIGINT

    def ramp_weight(self, tau):
        os.kill(os.getppid(), self.number)
        time.sleep(1e6)

class Terminating(Interrupting):
    number = signal.SIGTERM

class ExitsLater(Right):
    def corrupt(self, z0, z1, tau):
        if threading.active_count() == 1:
            threading.Thread(target=lambda: (time.sleep(2), os._exit(0)), daemon=True).start()
        return super().corrupt(z0, z1, tau)

    def tokenizer_loss(self, mse, lpips):
        time.sleep(0.2)
        return mse + 0.2 * lpips

class Known(Hostile):
    expected_failures = {"eq01.interpolate": "see issue 12"}
"""
CLAUSES = ("eq01.interpolate", "eq05.combination", "eq08.value")
STATUSES = dict(zip(CLAUSES, ("fail", "pass", "inconclusive"), strict=True))
LIMIT = "4"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(ADAPTERS)
    (tmp_path / "pytest.ini").write_text("[pytest]")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def command(adapter: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    selection = ["--clause", ",".join(CLAUSES), "--time-limit", LIMIT]
    return python("-m", "dreamer4_conformance", "run", f"mine.py:{adapter}", *selection, *arguments)


def statuses(report: str) -> dict[str, str]:
    return {row["id"]: row["status"] for row in json.loads(Path(report).read_text())["clauses"]}


def test_command_contains_an_exit_and_a_hang() -> None:
    assert command("Hostile", "--json", "a.json").returncode == 1
    assert statuses("a.json") == STATUSES
    messages = {row["id"]: row["message"] for row in json.loads(Path("a.json").read_text())["clauses"]}
    assert messages["eq01.interpolate"] == "corrupt ended the process (exit status 0) and is not called again"
    assert messages["eq08.value"] == "ramp_weight did not return within 4 s and is not called again"


@pytest.mark.parametrize(
    "adapter", ["Hostile()", *(pytest.param(x, marks=pytest.mark.nightly) for x in ("Hostile", "'mine.py:Hostile'"))]
)
def test_check_implementation_contains_an_exit_and_a_hang(adapter: str) -> None:
    program = f"""
from mine import Hostile
from dreamer4_conformance import check_implementation
from dreamer4_conformance.clauses import BY_ID
report = check_implementation({adapter}, [BY_ID[name] for name in {CLAUSES}], time_limit={LIMIT})
open("a.json", "w").write(report.to_json())
"""
    ended = python("-c", program)
    assert ended.returncode == 0, ended.stderr
    assert statuses("a.json") == STATUSES


def test_pytest_with_pyargs_contains_an_exit_and_a_hang() -> None:
    options = [f"--dreamer4-clause={','.join(CLAUSES)}", "--dreamer4-json=a.json", f"--dreamer4-time-limit={LIMIT}"]
    target = ["--pyargs", "dreamer4_conformance.suite", "--dreamer4=mine.py:Hostile"]
    ended = python("-m", "pytest", "-p", "no:cacheprovider", *target, *options)
    assert ended.returncode == 1, ended.stdout
    assert "1 failed, 1 passed, 1 skipped" in ended.stdout
    assert statuses("a.json") == STATUSES


def test_decorated_test_contains_an_exit_and_a_hang() -> None:
    Path("test_mine.py").write_text(
        "from dreamer4_conformance import parametrize_with_checks\n"
        "from mine import Hostile\n\n"
        "@parametrize_with_checks(Hostile())\n"
        "def test_conforms(check):\n"
        "    check()\n"
    )
    options = [f"--dreamer4-clause={','.join(CLAUSES)}", "--dreamer4-json=a.json", f"--dreamer4-time-limit={LIMIT}"]
    ended = python("-m", "pytest", "-p", "no:cacheprovider", *options)
    assert ended.returncode == 1, ended.stdout
    assert "1 failed, 1 passed, 1 skipped" in ended.stdout
    assert statuses("a.json") == STATUSES


def test_exit_is_a_known_failure_where_the_adapter_expects_it() -> None:
    assert command("Known", "--json", "a.json").returncode == 0
    assert statuses("a.json")["eq01.interpolate"] == "known-failure"


@pytest.mark.parametrize(("adapter", "status"), [("Interrupting", 130), ("Terminating", 143)])
def test_interrupted_run_leaves_no_file_and_prints_what_is_decided(adapter: str, status: int) -> None:
    ended = command(adapter, "--json", "a.json")
    assert ended.returncode == status
    assert "Traceback" not in ended.stderr
    assert not Path("a.json").exists()
    assert not list(Path().glob(".*partial"))
    if status == 130:
        assert "2 of 2 provided clauses pass" in ended.stdout
        assert "Interrupted: 1 more clause was not judged." in ended.stdout


def test_exit_of_a_thread_that_an_earlier_operation_left_is_not_blamed_on_a_later_one() -> None:
    assert command("ExitsLater", "--json", "a.json").returncode == 0
    assert set(statuses("a.json").values()) == {"pass"}
    assert "left a thread running" in Path("a.json").read_text()


# Where this process cannot be forked


class Exits(Adapter):
    """Raises what would end the process."""

    def ramp_weight(self, tau: object) -> object:
        sys.exit(0)


@pytest.fixture
def second_thread() -> object:
    """A process that has started a thread."""
    stopped = threading.Event()
    threads = [threading.Thread(target=stopped.wait) for _ in range(os.cpu_count() or 1)]
    for thread in threads:
        thread.start()
    yield
    stopped.set()


def _ramp(adapter: Adapter | str) -> Report:
    return check_implementation(adapter, [BY_ID["eq08.value"]], time_limit=float(LIMIT))


def test_live_object_is_judged_here_and_the_report_says_so(second_thread: object) -> None:
    report = _ramp(Exits())
    assert report[0].status == "fail"
    assert "ramp_weight raised SystemExit: 0" in report[0].message
    assert "Worker process: none" in str(report)


def test_location_is_judged_in_a_new_interpreter(second_thread: object) -> None:
    start = time.monotonic()
    report = _ramp("mine.py:Hostile")
    assert report[0].status == "inconclusive"
    assert report.environment["isolation"] == "a worker process"
    assert time.monotonic() - start < 300


@pytest.mark.parametrize("target", ["mine.py:Absent", "absent.py:Mine"])
def test_unusable_adapter_is_rejected_from_a_worker(target: str) -> None:
    with pytest.raises(AdapterError, match=r"absent|Absent"):
        _ramp(target)
