import json
import time
from itertools import cycle
from pathlib import Path

import pytest
import torch

from benchmarks.attention_workloads import AttentionCase, attention_workload
from benchmarks.base import AgainstBase, Missing
from benchmarks.counting import Counters, count
from benchmarks.guard import Record, counter_faults, pace
from benchmarks.session import version
from benchmarks.timing import Interleaved
from benchmarks.workloads import find
from dreamer4_impl.attention import BACKENDS

#: Minima in seconds, [this, base], of two processes with the same code, alternating on a busy machine with two cores.
SAMPLES = json.loads((Path(__file__).parent / "same_code_twice.json").read_text())
CASE = AttentionCase("test", "time", time=24, space=2, window=16, width=16, gradient=True)
#: Workloads without compilation, whose counters take seconds.
UNCOMPILED = [
    "space forward + backward / eager",
    "time forward + backward / eager",
    "decode forward / eager",
    "loss / d per timestep",
]
recorded_here = pytest.mark.skipif(
    not Record(version()).counters or torch.cuda.is_available(), reason="no counters are recorded for this torch here"
)


def eager_but(monkeypatch, change):
    """Workload of the case with the eager backend replaced by `change(backend)`."""
    monkeypatch.setitem(BACKENDS, "eager", change(BACKENDS["eager"]))
    return attention_workload(CASE, "eager")


def needless_copy(backend):
    return lambda q, *rest: backend(q.clone(), *rest)


def slower_by_a_quarter(backend):
    def slowed(*args):
        start = time.process_time()
        out = backend(*args)
        end = time.process_time()
        while time.process_time() < end + 0.25 * (end - start):
            pass
        return out

    return slowed


def without_cap(backend):
    return lambda q, k, v, options: backend(q, k, v, options._replace(softcap=None))


@pytest.fixture(scope="module")
def counters():
    return count(attention_workload(CASE, "eager").build)


def test_a_needless_copy_fails(monkeypatch, counters):
    faults = counter_faults("test", counters, count(eager_but(monkeypatch, needless_copy).build))
    assert f"test: copies must be at most {counters.copies}, as recorded; got {counters.copies + 1}" in faults


def test_unchanged_code_passes(counters):
    assert count(attention_workload(CASE, "eager").build) == counters


@pytest.mark.parametrize("name", SAMPLES)
def test_a_slow_down_of_a_quarter_fails_on_measured_times(name):
    samples = cycle((1.25 * this, base) for this, base in SAMPLES[name])
    assert "time must be at most 1.15" in pace(name, lambda: next(samples)).fault


@pytest.mark.parametrize("name", SAMPLES)
def test_the_same_code_passes_on_measured_times_wherever_they_begin(name):
    for first in range(len(SAMPLES[name])):
        samples = cycle(SAMPLES[name][first:] + SAMPLES[name][:first])
        assert pace(name, lambda samples=samples: next(samples)).fault is None


def test_a_slowdown_in_one_attempt_passes_and_a_slow_base_hides_no_regression():
    spell = iter([(2.0, 1.0), (1.0, 1.0)])
    assert pace("test", lambda: next(spell)).fault is None
    slow_base = iter([(1.3, 1.1), (1.3, 1.0), (1.3, 1.2), (1.3, 1.0)])
    assert pace("test", lambda: next(slow_base)).fault


@pytest.mark.nightly
def test_a_slow_down_of_a_quarter_fails_when_it_is_measured(monkeypatch):
    case = AttentionCase("test", "time", time=128, space=4, window=96)
    base = attention_workload(case, "eager").build()
    same = attention_workload(case, "eager").build()

    def measure(run):
        both = Interleaved({"this": run, "base": base})
        for _ in range(150):  # with 20, minima still differ by a tenth while five other processes are busy
            both()
        return both.minima["this"], both.minima["base"]

    assert pace("test", lambda: measure(same)).fault is None
    slowed = slower_by_a_quarter(same)
    assert pace("test", lambda: measure(slowed)).fault


def test_a_wrong_result_is_rejected_before_timing(monkeypatch):
    monkeypatch.setitem(BACKENDS, "uncapped", without_cap(BACKENDS["eager"]))
    wrong = attention_workload(CASE, "uncapped")
    with pytest.raises(AssertionError, match="test / uncapped must be within 1e-05 of float64"):
        wrong.require_correct()


@recorded_here
@pytest.mark.parametrize("name", UNCOMPILED)
def test_counters_are_not_above_the_recorded(name):
    record = Record(version())
    assert name in record.counters
    assert not record.check(name, count(find(name).build))


def test_an_unknown_torch_records_and_does_not_fail(tmp_path):
    before, after = (Counters(8, 4, 2, copies, 0) for copies in (0, 1))
    first = Record("9.9", tmp_path)
    assert first.check("test", before) == []
    first.save()
    assert first.notes() == ["recorded, not judged: 1 workloads without an entry in 9.9.json"]
    assert Record("9.9", tmp_path).check("test", after) == ["test: copies must be at most 0, as recorded; got 1"]
    assert Record("9.9", tmp_path, overwrite=True).check("test", after) == []


def test_lower_counters_are_reported_and_change_no_record(tmp_path):
    record = Record("9.9", tmp_path)
    record.check("test", Counters(8, 4, 2, 1, 0))
    record.save()
    later = Record("9.9", tmp_path)
    assert later.check("test", Counters(8, 4, 2, 0, 0)) == []
    later.save()
    assert later.notes() == ["below the record, which --record would lower: test"]
    assert Record("9.9", tmp_path).counters["test"].copies == 1


@pytest.mark.nightly
def test_base_commit_is_timed_alternately_and_may_lack_a_workload():
    with AgainstBase("HEAD") as base:
        this, other = base("time forward / eager", rounds=1, turns=1)
        assert this > 0
        assert other > 0
        with pytest.raises(Missing, match="name must be one of"):
            base("time forward / nobody", rounds=1, turns=1)


def test_a_base_that_is_no_commit_is_rejected_with_a_clear_message():
    with pytest.raises(ValueError, match=r"--base must name a commit with impl/; got 'no-such-commit'"):
        AgainstBase("no-such-commit").__enter__()


def test_an_unknown_workload_is_rejected_with_a_clear_message():
    with pytest.raises(ValueError, match="name must be one of space forward / eager"):
        find("nothing")
