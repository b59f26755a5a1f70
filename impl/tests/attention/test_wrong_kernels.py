"""Each wrong kernel is rejected by the check that is named with it."""

import inspect

import pytest
import torch

pytest.importorskip("triton", reason="needs Triton")

from dreamer4_impl.attention.triton import kernels, operators

from .kernel_rules import CHECKS
from .wrong_kernels import MUTATIONS, Mutation, launching, mutated

#: The interpreter computes in NumPy, whose warnings must not replace the failure of a check.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
SOURCE = inspect.getsource(kernels)


@pytest.fixture
def runs_here(device):
    if device == "cpu" and torch.cuda.is_available():
        pytest.skip("on a machine with a GPU, Triton compiles for it")


#: Run by default; the others in the nightly session.
BY_DEFAULT = list(MUTATIONS)[::3]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.nightly] * (name not in BY_DEFAULT)) for name in MUTATIONS]
)
def test_wrong_kernel_is_rejected(runs_here, name, device, tmp_path):
    mutation = MUTATIONS[name]
    with launching(mutated(mutation, SOURCE), tmp_path, name.replace("-", "_")), pytest.raises(AssertionError):
        CHECKS[mutation.rejected_by].run("triton", device)


@pytest.mark.parametrize("check", ["float32 one frame", "float32 last queries", "decoding"])
def test_correct_kernels_pass_when_loaded_like_wrong_ones(runs_here, check, device, tmp_path):
    with launching(SOURCE, tmp_path):
        assert operators.kernels is not kernels
        CHECKS[check].run("triton", device)
    assert operators.kernels is kernels


def test_every_rule_rejects_a_wrong_kernel():
    used = {CHECKS[mutation.rejected_by].rule for mutation in MUTATIONS.values()}
    assert used == {check.rule for check in CHECKS.values()}


def test_wrong_kernels_are_all_different():
    assert len({mutated(mutation, SOURCE) for mutation in MUTATIONS.values()}) == len(MUTATIONS)


def test_mutation_that_does_not_fit_the_source_is_refused():
    with pytest.raises(ValueError, match=r"expected 1 times, found 2 times: 'a'"):
        mutated(Mutation("", "a", "b"), "a = a")
    with pytest.raises(ValueError, match="not found: 'c'"):
        mutated(Mutation("", "a", "b", also=("c", "d")), "a")
