"""The stages that run on a GPU: every row runs here too, at tiny sizes, and none takes another with it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu import check
from benchmarks.gpu.__main__ import STAGES, Stage, _plan
from benchmarks.gpu.kernels import PAPER, Case
from benchmarks.gpu.report import derived, floor_ms, markdown, merged
from benchmarks.gpu.results import Results

ROOT = Path(__file__).parents[3]
RUN = ROOT / "benchmarks" / "gpu" / "run.sh"


LONG = pytest.mark.nightly


@pytest.mark.parametrize("stage", [pytest.param("check", marks=LONG), pytest.param("kernels", marks=LONG), "decode"])
def test_every_row_of_a_stage_runs(stage, tmp_path):
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(["bash", RUN, stage, tmp_path, "--smoke"], env=environment, capture_output=True, text=True)
    (path,) = tmp_path.glob("cpu-smoke-*.json")
    rows = json.loads(path.read_text())["rows"]
    assert [row for row in rows if row["status"] != "ok"] == []
    assert done.returncode == 0, done.stderr
    assert path.with_suffix(".md").read_text() in done.stdout


@pytest.fixture
def faulty(monkeypatch, tmp_path):
    monkeypatch.setitem(STAGES, "tests.faulty", 2)
    monkeypatch.setattr("benchmarks.gpu.rows.Worker.environment", lambda self: {"gpu": "none"})
    return lambda **options: Stage("tests.faulty", False, **{"seconds": 60, "only": "*"} | options).run(tmp_path)


def test_a_row_that_fails_costs_no_other(faulty):
    rows = {row["name"]: row for row in faulty().rows}
    assert {name: row["status"] for name, row in rows.items()} == {
        "raises": "failed",
        "after it": "ok",
        "ends its process": "died",
        "after that": "ok",
        "hangs": "timed out",
        "after all": "ok",
    }
    assert "ZeroDivisionError" in rows["raises"]["error"]
    assert rows["ends its process"]["error"] == "exit status 3"
    assert rows["hangs"]["error"] == "not done after 0 seconds"


def test_only_the_chosen_rows_are_measured(faulty):
    assert [row["name"] for row in faulty(only="faulty: after *").rows] == ["after it", "after that", "after all"]


def test_rows_for_which_no_time_is_left_are_not_reached(faulty):
    assert {row["status"] for row in faulty(seconds=0).rows} == {"not reached"}


def test_a_killed_run_ends_the_process_that_measures():
    program = (
        "from benchmarks.gpu.rows import Worker; worker = Worker('tests.faulty', True);"
        "print(worker._process.pid, flush=True);"
        "worker.measure([row['name'] for row in worker.planned].index('hangs'), 60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        worker = int(run.stdout.readline())
        run.kill()
    deadline = time.monotonic() + 10
    while _alive(worker):
        assert time.monotonic() < deadline, "the worker goes on without its parent"
        time.sleep(0.1)


def _alive(process):
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


def _results(directory, stage, name, found):
    results = Results(directory, stage, {"gpu": "One GPU"}, [{"group": "g", "name": name}])
    results.put(0, {"status": "ok", "seconds": 1.0, **found})
    return results.path


def test_a_kill_loses_no_row_that_was_done(tmp_path):
    planned = [{"group": "g", "name": name} for name in ("first", "second")]
    results = Results(tmp_path, "kernels", {"gpu": "One GPU"}, planned)
    results.put(0, {"status": "ok", "seconds": 1.0, "ms": 2.0})
    rows = json.loads(results.path.read_text())["rows"]
    assert [row["status"] for row in rows] == ["ok", "not reached"]
    assert "| first | ok | 2.000 |" in results.path.with_suffix(".md").read_text()


def test_stages_run_into_the_same_directory_share_a_file_and_a_second_run_replaces_the_first(tmp_path):
    _results(tmp_path, "kernels", "before", {"ms": 1.0})
    _results(tmp_path, "decode", "triton", {"fps": 60.0})
    path = _results(tmp_path, "kernels", "after", {"ms": 2.0})
    rows = json.loads(path.read_text())["rows"]
    assert {(row["stage"], row["name"]) for row in rows} == {("decode", "triton"), ("kernels", "after")}


def test_the_report_merges_files_and_writes_the_page_anew(tmp_path):
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


def test_a_row_says_what_part_of_the_floor_it_reaches_and_how_it_stands_to_flex():
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


@pytest.mark.parametrize("arguments", check.TESTS.values(), ids=check.TESTS)
def test_the_tests_that_run_on_a_gpu_exist(arguments):
    assert (ROOT / arguments[0]).exists()


def test_the_page_shows_every_row_that_can_be_measured():
    page = (ROOT / "benchmarks" / "results" / "gpu.md").read_text()
    assert page == _plan() + "\n", "benchmarks/gpu/run.sh plan > benchmarks/results/gpu.md"
