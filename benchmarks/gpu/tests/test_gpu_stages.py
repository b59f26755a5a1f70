"""Stages for a GPU: every row also runs on a CPU at tiny sizes, and a row that fails does not affect the others."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu import check, decode, kernels
from benchmarks.gpu.__main__ import _plan
from benchmarks.gpu.kernels import PAPER, Case
from benchmarks.gpu.plan import CARD, SECONDS, STAGES, Step, assigned
from benchmarks.gpu.report import derived, floor_ms, latest, markdown, merged
from benchmarks.gpu.results import Results
from benchmarks.gpu.rows import planned
from benchmarks.gpu.run import Run

ROOT = Path(__file__).parents[3]
RUN = ROOT / "benchmarks" / "gpu" / "run.sh"
MODULES = {"check": check, "kernels": kernels, "decode": decode}


@pytest.mark.nightly
def test_rehearsal_of_the_card_measures_every_row_or_says_why_not(tmp_path):
    assert _rehearsed("card", tmp_path) == {_key(row) for row in _planned(smoke=False)}


def test_rehearsal_of_a_table_measures_every_row_or_says_why_not(tmp_path):
    group = "space, forward, width 128"
    rows = [row for row in _planned(smoke=False) if row["stage"] == "kernels" and row["group"] in ("ceilings", group)]
    assert _rehearsed("kernels", tmp_path, "--only", f"{group}: *") == set(map(_key, rows))


def _rehearsed(command, directory, *options):
    """Keys of the rows of a rehearsal, in which every row is measured or has a reason."""
    environment = {**os.environ, "PYTHON": sys.executable}
    words = ["bash", RUN, command, directory, "--smoke", *options]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = directory.glob("cpu-smoke-*.json")
    assert sorted(directory.iterdir()) == sorted([path, directory / f"{command}.log"])
    document = json.loads(path.read_text())
    assert markdown(document) in done.stdout
    assert [row for row in document["rows"] if row["status"] not in ("ok", "not here")] == []
    assert all(row["reason"] for row in document["rows"] if row["status"] == "not here")
    return {_key(row) for row in document["rows"]}


def _planned(smoke):
    return [row for stage in STAGES for row in planned(stage, MODULES[stage].rows(smoke))]


def _key(row):
    return row["stage"], row["group"], row["name"]


def test_rehearsal_has_the_rows_of_the_card_in_their_order_and_with_their_budgets():
    card, smoke = ([(*_key(row), row["budget"]) for row in _planned(smoke)] for smoke in (False, True))
    assert smoke == card
    assert len({row[:3] for row in card}) == len(card)


def test_plan_of_the_card_has_every_row_once_and_the_most_valuable_first():
    rows = _planned(smoke=False)
    steps = [[rows[index] for index in indices] for _, indices in assigned(rows, CARD)]
    assert sorted(_key(row) for step in steps for row in step) == sorted(map(_key, rows))
    assert all(steps), "a step selects nothing"
    order = [row["name"] if row["group"] != "ceilings" else "ceilings" for step in steps for row in step]
    groups = [row["group"] for step in steps for row in step]
    assert order[:4] == ["the Triton kernels", "ceilings", "triton, graph", "ceilings"]
    assert groups[4:12] == [
        f"{axis}, {passes}, width 128{tokens}"
        for axis in ("space", "time")
        for passes in ("forward", "forward and backward")
        for tokens in ("", ", 264 tokens")
    ]
    assert groups[12] == "a training step"
    last = [group.startswith(("tiles", "compute-sanitizer")) for group in groups]
    assert last == sorted(last), "a tile or a sanitizer comes before another row"


def test_limits_of_the_plan_leave_time_for_a_row_that_overruns():
    limited = [step.seconds for step in CARD if step.seconds is not None]
    assert sum(limited) <= SECONDS - 40


@pytest.fixture
def faulty(monkeypatch, tmp_path):
    monkeypatch.setitem(STAGES, "tests.faulty", 2)
    monkeypatch.setenv("FAULTY_ATTEMPTS", str(tmp_path / "attempts"))
    monkeypatch.setattr("benchmarks.gpu.rows.Worker.environment", lambda self: {"gpu": "none"})

    def run(*steps, seconds=60):
        steps = steps or [Step("tests.faulty")]
        return Run(steps, False, seconds, tmp_path / "log").measure(tmp_path / "results")

    (tmp_path / "results").mkdir()
    return run


def _statuses(results):
    return {row["name"]: row["status"] for row in results.document["rows"]}


def test_row_that_raises_or_is_killed_or_hangs_affects_no_other(faulty):
    results = faulty()
    rows = {row["name"]: row for row in results.document["rows"]}
    assert _statuses(results) == {
        "raises": "failed",
        "after it": "ok",
        "is killed": "died",
        "after that": "ok",
        "hangs": "timed out",
        "raises once": "ok",
        "unavailable": "not here",
        "after all": "ok",
    }
    assert "ZeroDivisionError" in rows["raises"]["error"]
    assert rows["is killed"]["error"] == "exit status -9"
    assert rows["hangs"]["error"] == "not done after 0.5 seconds"
    assert rows["unavailable"]["reason"] == "there is no such device"


def test_failed_rows_are_tried_again_once_after_all_the_others(faulty, monkeypatch, tmp_path):
    monkeypatch.setitem(STAGES, "tests.faulty", 1)
    results = faulty()
    attempts = (tmp_path / "attempts").read_text().splitlines()
    assert attempts[:8] == [row["name"] for row in results.document["rows"]]
    assert attempts[8:] == ["raises", "is killed", "hangs", "raises once"]


def test_success_after_a_failure_is_still_reported_as_one(faulty):
    results = faulty(Step("tests.faulty", "faulty: raises once"))
    (row,) = results.document["rows"]
    assert (row["status"], row["ms"], row["note"]) == ("ok", 1.0, "failed at the first attempt")
    assert "ZeroDivisionError" in markdown(results.document)


def test_rows_beyond_the_limit_of_a_step_wait_for_the_limited_steps_after_it(faulty, monkeypatch, tmp_path):
    monkeypatch.setitem(STAGES, "tests.faulty", 1)
    faulty(
        Step("tests.faulty", "*: after [!a]*", 0),
        Step("tests.faulty", "*: after all", 9),
        Step("tests.faulty", "*: un*"),
    )
    assert (tmp_path / "attempts").read_text().splitlines() == ["after all", "after it", "after that", "unavailable"]


def test_only_the_selected_rows_are_measured(faulty):
    assert list(_statuses(faulty(Step("tests.faulty", "faulty: after *")))) == ["after it", "after that", "after all"]


def test_two_runs_into_one_directory_keep_the_rows_of_both_and_append_to_the_log(faulty, tmp_path):
    faulty(Step("tests.faulty", "faulty: after it"))
    path = faulty(Step("tests.faulty", "faulty: after all")).path
    rows = json.loads(path.read_text())["rows"]
    assert {row["name"]: row["status"] for row in rows} == {"after it": "ok", "after all": "ok"}
    assert (tmp_path / "log").read_text().count("== tests.faulty") == 2


def test_rows_for_which_no_time_is_left_are_not_reached(faulty):
    assert set(_statuses(faulty(seconds=0)).values()) == {"not reached"}


def test_row_stopped_by_the_end_of_the_run_is_cut_off_not_timed_out(faulty, monkeypatch):
    monkeypatch.setattr("benchmarks.gpu.run.LEAST", 0.0)
    monkeypatch.setattr("benchmarks.gpu.rows.Worker.measure", lambda *_: {"status": "timed out", "seconds": 1.0})
    assert set(_statuses(faulty(seconds=20)).values()) <= {"cut off", "timed out", "not reached"}
    assert _statuses(faulty(Step("tests.faulty", "*: after all"), seconds=20)) == {"after all": "cut off"}


def test_killed_run_leaves_a_readable_file_with_the_rows_that_were_done(tmp_path):
    program = (
        "import sys; from pathlib import Path; from benchmarks.gpu.plan import STAGES, Step;"
        "STAGES['tests.faulty'] = 1;"
        "from benchmarks.gpu.run import Run; out = Path(sys.argv[1]);"
        "Run([Step('tests.faulty', '*: after it'), Step('tests.faulty', '*: h*')], True, 60, out / 'log').measure(out)"
    )
    environment = {**os.environ, "FAULTY_ATTEMPTS": str(tmp_path / "attempts"), "CUDA_VISIBLE_DEVICES": ""}
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], cwd=ROOT, env=environment) as run:
        deadline = time.monotonic() + 60
        while "after it: ok" not in (tmp_path / "log").read_text() if (tmp_path / "log").exists() else True:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        run.send_signal(signal.SIGTERM)
    (path,) = tmp_path.glob("*.json")
    rows = {row["name"]: row["status"] for row in json.loads(path.read_text())["rows"]}
    assert rows["after it"] == "ok"
    assert rows["hangs"] in ("not reached", "timed out")
    assert len(list(tmp_path.glob("*.partial"))) <= 1


def test_a_killed_run_ends_the_process_that_measures():
    program = (
        "from benchmarks.gpu.rows import Worker; worker = Worker(['tests.faulty'], True);"
        "print(worker._process.pid, flush=True);"
        "worker.measure([row['name'] for row in worker.planned].index('hangs'), 60)"
    )
    environment = {**os.environ, "FAULTY_ATTEMPTS": os.devnull}
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as run:
        worker = int(run.stdout.readline())
        run.kill()
    deadline = time.monotonic() + 10
    while _alive(worker):
        assert time.monotonic() < deadline, "the worker still runs although its parent ended"
        time.sleep(0.1)


def _alive(process):
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


def _results(directory, stage, name, outcome):
    results = Results(directory, {"gpu": "One GPU"}, {0: {"stage": stage, "group": "g", "name": name}})
    results.put(0, {"status": "ok", "seconds": 1.0, **outcome})
    return results.path


def test_runs_into_one_directory_are_merged_by_stage_group_and_name(tmp_path):
    ceilings = {"matmul_tflops": 790.0, "copy_tbps": 4.3, "matmul_size": 8192}
    _results(tmp_path, "kernels", "first", {"ms": 1.0, "ceilings": ceilings})
    _results(tmp_path, "decode", "triton", {"fps": 60.0})
    _results(tmp_path, "kernels", "second", {"ms": 1.0})
    path = _results(tmp_path, "kernels", "second", {"ms": 2.0})
    document = json.loads(path.read_text())
    figures = [(row["stage"], row["name"], row.get("ms")) for row in document["rows"]]
    assert figures == [("kernels", "first", 1.0), ("decode", "triton", None), ("kernels", "second", 2.0)]
    assert document["ceilings"] == {"kernels": ceilings}


OK = {"status": "ok", "ms": 1.0}


@pytest.mark.parametrize("status", ["not reached", "cut off", "not here"])
def test_figures_are_kept_after_a_later_run_without_figures(status):
    assert latest(OK, {"status": status}) == OK


@pytest.mark.parametrize("status", ["failed", "timed out", "died"])
def test_figures_are_kept_after_a_later_failure_which_is_noted_and_shown(status):
    row = latest(OK, {"status": status, "error": "the cause"})
    assert row == {**OK, "note": f"{status} in a later run", "error": "the cause"}
    page = markdown({"environment": {}, "ceilings": {}, "rows": [{"stage": "s", "group": "g", "name": "n", **row}]})
    assert f"| n | {status} in a later run | 1.000 |" in page
    assert "the cause" in page


def test_later_failure_replaces_an_earlier_one_but_no_time_left_replaces_nothing():
    failed, died = {"status": "failed", "error": "a"}, {"status": "died", "error": "b"}
    assert latest(failed, died) == died
    assert latest(died, {"status": "not reached"}) == died
    assert latest({"status": "not reached"}, {"status": "cut off"}) == {"status": "cut off"}


def test_the_report_merges_files_and_rewrites_the_page(tmp_path):
    paths = []
    for stage in ("kernels", "decode"):
        (tmp_path / stage).mkdir()
        ceilings = {"matmul_tflops": 790.0, "copy_tbps": 4.3, "matmul_size": 8192}
        paths.append(_results(tmp_path / stage, stage, "triton", {"ms": 1.0, "ceilings": ceilings}))
    report, together = ROOT / "benchmarks" / "gpu" / "report.py", tmp_path / "all.json"
    subprocess.run([sys.executable, "-I", report, *paths, "--merge", together], check=True)
    document = json.loads(together.read_text())
    assert [row["stage"] for row in document["rows"]] == ["kernels", "decode"]
    assert set(document["ceilings"]) == {"kernels", "decode"}
    page = together.with_suffix(".md")
    written = page.read_text()
    page.unlink()
    subprocess.run([sys.executable, "-I", report, together], check=True)
    assert page.read_text() == written == markdown(document)


def test_results_of_two_gpus_are_not_merged():
    documents = [{"schema": 1, "environment": {"gpu": gpu}, "ceilings": {}, "rows": []} for gpu in ("A", "B")]
    with pytest.raises(ValueError, match=r"one GPU at a time can be merged; got those of \['A', 'B'\]"):
        merged(documents)


def test_rows_have_their_fraction_of_the_floor_and_speed_up_over_flex():
    rows = [
        {
            "stage": "kernels",
            "group": "g",
            "name": name,
            "status": "ok",
            "ms": ms,
            "passes": [{"flop": 1e12, "bytes": 1}],
        }
        for name, ms in (("triton", 2.0), ("flex", 5.0))
    ]
    ceilings = {"kernels": {"matmul_tflops": 1000.0, "copy_tbps": 4.0, "matmul_size": 8192}}
    triton, flex = derived({"schema": 1, "environment": {}, "ceilings": ceilings, "rows": rows})["rows"]
    assert (triton["floor_ms"], triton["fraction"], triton["to_flex"]) == (1.0, 0.5, 2.5)
    assert flex["to_flex"] == 1.0


#: Milliseconds on an H200, by hand: 790 TFLOP/s and 4.3 TB/s.
FLOORS = {
    ("space", False): 0.174,
    ("space", True): 0.174 + 0.435,
    ("time", False): 0.157,
    ("time", True): 0.157 + 0.314,
}


@pytest.mark.parametrize(("axis", "backward"), FLOORS)
def test_the_floors_of_the_training_shape(axis, backward):
    ceilings = {"matmul_tflops": 790.0, "copy_tbps": 4.3}
    assert floor_ms(Case(PAPER, axis, 128, backward).passes(), ceilings) == pytest.approx(
        FLOORS[axis, backward], abs=1e-3
    )


def test_floor_of_the_whole_frame_is_larger_over_space_by_the_square_of_its_tokens():
    spatial, whole = (Case(PAPER, "space", 128, False, whole).passes()[0]["flop"] for whole in (False, True))
    assert whole / spatial == (264 / 256) ** 2


#: Packages that a machine with a GPU may lack.
OPTIONAL = ["jsonschema", "gymnasium", "ale_py", "av", "playwright"]


@pytest.mark.nightly
def test_every_test_that_is_marked_gpu_runs_in_one_row_and_needs_no_optional_package():
    every = ["impl/tests", "-m", "gpu and not nightly"]
    *rows, marked = _collected(*((arguments, OPTIONAL) for arguments, _ in check.TESTS.values()), (every, []))
    assert all(rows)
    assert sorted(test for row in rows for test in row) == sorted(marked)


def _collected(*selections):
    """Collect each selection of tests without some packages, all in one process, which imports what they need once."""
    program = (
        "import json, sys; import pytest\n"
        "for arguments, missing in json.loads(sys.argv[1]):\n"
        "    sys.modules.update(dict.fromkeys(missing))\n"
        "    assert pytest.main(['--collect-only', '-q', *arguments]) == 0\n"
        "    for name in missing:\n"
        "        del sys.modules[name]\n"
        "    print('end of selection')"
    )
    command = [sys.executable, "-c", program, json.dumps(selections)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    texts = done.stdout.split("end of selection\n")[:-1]
    return [[line for line in text.splitlines() if "::" in line] for text in texts]


def test_the_page_shows_every_row_that_can_be_measured():
    page = (ROOT / "benchmarks" / "results" / "gpu.md").read_text()
    assert page == _plan() + "\n", "benchmarks/gpu/run.sh plan > benchmarks/results/gpu.md"
