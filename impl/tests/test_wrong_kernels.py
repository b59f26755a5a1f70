"""The rules are only as good as what they reject: each wrong kernel by the check that is named with it."""

import inspect

import pytest
import torch

pytest.importorskip("triton", reason="needs Triton")

from dreamer4_impl.attention.triton import kernels as triton_kernels
from dreamer4_impl.attention.triton import operators as triton_attention

from .kernel_rules import CHECKS
from .wrong_kernels import MUTATIONS, Mutation, launching, mutated

#: It is for the checks to see what is wrong, not for NumPy, in which the interpreter computes.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
SOURCE = inspect.getsource(triton_kernels)


@pytest.fixture
def runs_here(device):
    if device == "cpu" and torch.cuda.is_available():
        pytest.skip("beside a GPU, Triton compiles for it")


@pytest.mark.parametrize("name", MUTATIONS)
def test_wrong_kernel_is_rejected(runs_here, name, device, tmp_path):
    mutation = MUTATIONS[name]
    with launching(mutated(mutation, SOURCE), tmp_path, name.replace("-", "_")), pytest.raises(AssertionError):
        CHECKS[mutation.rejected_by].run("triton", device)


@pytest.mark.parametrize("check", ["float32 one frame", "float32 last queries", "decoding"])
def test_the_kernels_themselves_pass_in_the_same_way(runs_here, check, device, tmp_path):
    with launching(SOURCE, tmp_path):
        assert triton_attention.kernels is not triton_kernels
        CHECKS[check].run("triton", device)
    assert triton_attention.kernels is triton_kernels


def test_every_rule_rejects_a_wrong_kernel():
    used = {CHECKS[mutation.rejected_by].rule for mutation in MUTATIONS.values()}
    assert used == {check.rule for check in CHECKS.values()}


def test_no_two_wrong_kernels_are_the_same():
    assert len({mutated(mutation, SOURCE) for mutation in MUTATIONS.values()}) == len(MUTATIONS)


def test_a_mutation_that_no_longer_fits_is_refused():
    with pytest.raises(ValueError, match=r"expected 1 times, found 2 times: 'a'"):
        mutated(Mutation("", "a", "b"), "a = a")
    with pytest.raises(ValueError, match="not found: 'c'"):
        mutated(Mutation("", "a", "b", also=("c", "d")), "a")
