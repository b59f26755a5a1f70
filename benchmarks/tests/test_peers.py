"""Comparison with other projects: equal work, counted operations, times in turn, and the page."""

import json
from dataclasses import asdict
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.base import AgainstBase
from benchmarks.peers import measure, ours
from benchmarks.peers.__main__ import RESULTS, main
from benchmarks.peers.measure import FEWEST, FRAMES, LUCIDRAINS, NICKLAS_HANSEN, TRAINING, alternate, flops
from benchmarks.peers.report import page
from benchmarks.peers.shape import TINY, Shape
from benchmarks.timing import ratio
from dreamer4_conformance.adapters.peers import CHECKOUTS

OURS = [name for name in TRAINING if name.startswith("ours")]
THEIRS = [pytest.param(name, marks=pytest.mark.peers) for name in (NICKLAS_HANSEN, LUCIDRAINS)]
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")


@pytest.mark.parametrize("name", [*OURS, *THEIRS])
def test_every_implementation_evaluates_the_same_tokens_of_the_same_rows(name):
    rows, step = [], TRAINING[name](TINY)

    def record(module, inputs):
        batch, *size = inputs[0].shape
        assert size == [TINY.time, TINY.tokens, TINY.width]
        rows.append(batch)

    step.model.transformer.register_forward_pre_hook(record)
    with torch.compiler.set_stance("force_eager"):
        assert step.gradient() > 0
    assert sum(rows) == TINY.batch + 2 * TINY.rows_above_d_min


@pytest.mark.parametrize("name", [*OURS, *THEIRS])
def test_every_mlp_has_the_same_inner_width(name):
    parameters = dict(TRAINING[name](Shape()).model.transformer.named_parameters())
    inner, width = Shape().mlp_width, Shape().width
    written = [x for x in parameters.values() if sorted(x.shape) == [width, inner]]
    gated = [x for x in parameters.values() if sorted(x.shape) == [width, 2 * inner]]
    expected = Shape().depth + (name == LUCIDRAINS)  # and one after the last attention of their agent token
    assert len(written) + 2 * len(gated) == 3 * expected


def test_a_step_counts_the_parameters_with_a_gradient_and_changes_them():
    step = ours.training(TINY, "eager")
    before = [parameter.detach().clone() for parameter in step.model.parameters()]
    step.gradient()
    assert step.trained_parameters() == sum(parameter.numel() for parameter in before)
    step.update()
    assert step.trained_parameters() == 0
    changed = [not torch.equal(*pair) for pair in zip(before, step.model.parameters(), strict=True)]
    assert np.mean(changed) > 0.9


@pytest.mark.parametrize("merge_commit", [False, True])
def test_our_frame_sees_the_whole_past(merge_commit):
    run = ours.frame(TINY, merge_commit=merge_commit)
    assert run().shape == (1, TINY.spatial_tokens, TINY.spatial_channels)
    decoder = run.__closure__[[*run.__code__.co_freevars].index("decoder")].cell_contents
    assert decoder.model.config.transformer.context == TINY.past + 1
    assert int(decoder.cache.frames) == TINY.past + (not merge_commit)


def test_operations_of_fused_attention_and_of_compiled_functions_are_counted():
    q, matrix = torch.ones(2, 3, 5, 7, requires_grad=True), torch.ones(4, 6)
    product = 2 * 2 * 3 * 5 * 5 * 7
    assert flops(lambda: scaled_dot_product_attention(q, q, q)) == 2 * product
    assert flops(lambda: torch.autograd.backward(scaled_dot_product_attention(q, q, q).sum())) == 6 * product
    assert flops(partial(torch.compile(torch.mm, fullgraph=True), matrix, matrix.T)) == 2 * 4 * 6 * 4


def test_runs_are_timed_in_turn_after_two_rounds_that_are_not_counted():
    calls = []
    times = alternate({name: partial(calls.append, name) for name in "ab"}, seconds=0.0)
    assert [len(values) for values in times.values()] == [FEWEST, FEWEST]
    assert calls == ["a", "b"] * (2 + FEWEST)


def test_noise_that_both_times_of_a_round_share_does_not_widen_the_interval():
    noise = np.random.default_rng(0).uniform(1.0, 3.0, size=20)
    assert tuple(ratio(noise / 2, noise)) == (0.5, 0.5, 0.5)


def test_the_interval_covers_the_ratio_and_narrows_with_the_rounds():
    widths = []
    for rounds in (10, 1000):
        times, reference = 1.0 + np.random.default_rng(1).exponential(size=(2, rounds))
        value, low, high = ratio(times, reference)
        assert low <= value <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3


def test_the_frame_of_a_base_commit_is_another_workload():
    class Worker:
        def __init__(self, seconds):
            self.seconds = seconds

        def minimum(self, name, rounds):
            return self.seconds[name]

    base = AgainstBase("HEAD")
    base._this, base._base = Worker({"now": 1.0}), Worker({"before": 2.0})
    assert base.turn("now", "before") == (1.0, 2.0)


def test_a_package_that_is_not_installed_is_named_and_the_others_are_measured():
    def missing(shape):
        raise ModuleNotFoundError("theirs is not installed")

    skipped = {}
    assert measure._built({"ours": lambda shape: 1, "theirs": missing}, TINY, skipped) == {"ours": 1}
    assert skipped == {"theirs": "theirs is not installed"}


@pytest.fixture
def results():
    step = {"parameters": 2_000_000, "flops": 3e9, "gradient": [1.0, 1.0], "update": [0.5, 0.5]}
    half = {"parameters": 1_000_000, "flops": 1e9, "gradient": [0.5, 0.5], "update": [0.25, 0.25]}
    return {
        "versions": {"ours": "v1-2-gabc", NICKLAS_HANSEN: "bdeddfe"},
        "machine": "2 cores, AVX2",
        "shape": asdict(Shape()),
        "training": {"ours, backend eager": half, NICKLAS_HANSEN: step},
        "frame": {"ours": {"flops": 1e9, "times": [0.01]}, NICKLAS_HANSEN: {"flops": 8e9, "times": [0.1]}},
        "base": {"revision": "abc", "this": [3.0], "base": [5.0]},
        "skipped": {LUCIDRAINS: "dreamer4 is not installed"},
    }


def test_page_has_times_and_ratios_of_every_row(results):
    written = page(results)
    whole = "0.500 [0.500, 0.500]"
    assert f"| ours, backend eager | 1.00 M | 1.0 | 500 | {whole} | 750 | {whole} | 1.500 |" in written
    assert "| ours | cache, K + 1 passes | 1.00 | 10 | 0.100 [0.100, 0.100] |" in written
    assert "of this commit takes 0.600 [0.600, 0.600] times as long as “frame / eager” of abc." in written
    assert "the student on 8\nrows and the teacher twice on 2 of them" in written
    assert written.endswith("lucidrains/dreamer4 was not measured: dreamer4 is not installed.\n")
    assert "One cached frame, now" not in page(results | {"base": None})


def test_committed_page_is_generated_from_a_committed_run_of_the_full_sizes():
    committed = json.loads((RESULTS / "results.json").read_text(encoding="utf-8"))
    assert (RESULTS / "README.md").read_text(encoding="utf-8") == page(committed)
    assert committed["shape"] == asdict(Shape())


def test_a_missing_checkout_is_named_with_what_to_do(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv(CHECKOUTS, raising=False)
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "DREAMER4_PEERS is not set" in capsys.readouterr().err
    monkeypatch.setenv(CHECKOUTS, "elsewhere")
    with pytest.raises(SystemExit, match="2"):
        main(["--checkout", str(tmp_path)])
    message = capsys.readouterr().err
    assert f"there is no checkout of nicklashansen/dreamer4 at {tmp_path}/nicklashansen/dreamer4" in message
    assert "clone https://github.com/nicklashansen/dreamer4 there, at bdeddfe" in message


def test_a_rehearsal_does_not_overwrite_the_committed_results(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--smoke"])
    assert "--out" in capsys.readouterr().err


@pytest.mark.peers
def test_a_rehearsal_measures_every_row(tmp_path):
    main(["--smoke", "--out", str(tmp_path)])
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results["shape"] == asdict(TINY)
    assert ([*results["training"]], [*results["frame"]]) == ([*TRAINING], [*FRAMES])
    assert results["skipped"] == {}
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == page(results)
