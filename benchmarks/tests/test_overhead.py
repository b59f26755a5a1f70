"""Overhead of the loss and of the sampler relative to the network that they call, for the `small` preset.

Instructions are counted by callgrind, which takes about ten minutes and does not depend on the load of the machine. The
overhead is counted with a network of almost no cost. The network's instructions are those of a forward pass: without
its backward pass the requirement is stricter.
"""

import os
import sys
from pathlib import Path

import pytest
from torch.utils.benchmark import Timer

from benchmarks.base import ROOT

pytestmark = pytest.mark.nightly
#: Largest overhead as a fraction of the network's instructions.
OVERHEAD = 0.05
#: Calls of the network: student and two teachers in training; K denoising passes in sampling.
TRAINED, SAMPLED = 3, 4

AROUND = """
import torch
from benchmarks import model_workloads
from dreamer4_impl.equations.eq02_sampling import sample_frame
from dreamer4_impl.equations.eq06_07_shortcut_forcing import shortcut_forcing_loss

torch.set_num_threads(1)
z1, generator = model_workloads.data(), torch.Generator()
theta = torch.ones((), requires_grad=True)
def nothing(z, tau, d, actions):
    return theta * z
def loss(network):
    shortcut_forcing_loss(network, z1, generator=generator.manual_seed(1), teacher_rows=slice(None)).backward()
def sampled(network):
    sample_frame(network, z1[:, :-1], generator=generator.manual_seed(1))
"""

NETWORK = """
model, labels = model_workloads.dynamics("eager"), z1.new_full(z1.shape[:2], 0.5)
@torch.no_grad()
def evaluated():
    model.network(z1, labels, labels, None)
"""


def instructions(statement: str, setup: str) -> int:
    """Instructions of one execution after a warm-up, of interpreter and libraries together."""
    timer = Timer(statement, setup=f"{setup}\n{statement}")
    (counted,) = timer.collect_callgrind(number=1, repeats=1, collect_baseline=False, retain_out_file=False)
    return counted.counts(denoise=False)


@pytest.fixture(autouse=True)
def _callgrind_finds_python_and_the_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_overhead_is_below_a_twentieth_of_the_network() -> None:
    evaluation = instructions("evaluated()", AROUND + NETWORK)
    for alone, evaluations in (("loss(nothing)", TRAINED), ("sampled(nothing)", SAMPLED)):
        own, called = instructions(alone, AROUND), evaluations * evaluation
        print(f"{alone}: {own:.3g} instructions, {own / called:.2%} of the network's {called:.3g}")
        assert own <= OVERHEAD * called
