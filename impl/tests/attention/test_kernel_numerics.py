"""Every backend of `attention` follows the numerical rules of `kernel_rules`."""

from itertools import product

import pytest
import torch

from dreamer4_impl.attention import BACKENDS

from . import kernel_oracle as oracle
from .kernel_rules import CHECKS, LENGTHS, LONG_CHECKS, SPACE, TIME, Problem, any_case, float32_is_exact

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*autograd.function.Function.*:DeprecationWarning"),
    pytest.mark.usefixtures("fresh_compiler"),
]

#: SDPA has no cap; libraries do not document the order of their sums.
UNSUPPORTED = {("sdpa", "cap far away"), ("sdpa", "same bits"), ("flex", "same bits")}
COMPILED = ("flex", "chunked")
SUPPORTED = [(name, check) for name in BACKENDS for check in CHECKS if (name, check) not in UNSUPPORTED]


def compiled_marked(parameters):
    """Mark backends that take seconds to compile a shape."""
    return [pytest.param(*p, marks=[pytest.mark.flex] if p[0] in COMPILED else []) for p in parameters]


@pytest.fixture
def fresh_compiler():
    """Discard compiled forms, and their count, before and after the test."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def runs_here(request, device):
    if request.node.callspec.params["backend"] == "triton":
        pytest.importorskip("triton", reason="needs Triton")
        if device == "cpu" and torch.cuda.is_available():
            pytest.skip("on a machine with a GPU, Triton compiles for it")


@pytest.mark.parametrize(("backend", "check"), compiled_marked(SUPPORTED))
def test_backend_follows_the_rule(runs_here, backend, check, device):
    CHECKS[check].run(backend, device)


@pytest.mark.nightly
@pytest.mark.parametrize(("backend", "check"), [pair for pair in SUPPORTED if pair[0] != "flex"])
def test_backend_follows_the_rule_over_many_tiles(runs_here, backend, check, device):
    LONG_CHECKS[check].run(backend, device)


@pytest.mark.parametrize(("backend", "seed"), compiled_marked(product(BACKENDS, range(4))))
def test_backend_is_exact_for_random_shapes(runs_here, backend, seed, device):
    float32_is_exact(backend, device, any_case(seed, longest=65), seed)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name not in COMPILED])
def test_backend_is_exact_for_many_random_shapes(runs_here, backend, seed, device):
    float32_is_exact(backend, device, any_case(seed), seed)


def test_nightly_shapes_include_every_length():
    assert {any_case(seed).length for seed in range(60)} == set(LENGTHS)


@pytest.mark.parametrize("case", [SPACE, TIME])
def test_inputs_reach_the_cap_and_the_epsilon_of_the_norm(case):
    problem = Problem(case, torch.float32, "cpu")
    q, k = (
        oracle.prepare(x, *preparation, case.axis)
        for x, preparation in zip(problem.tensors[:2], problem.preparations(problem.tensors), strict=True)
    )
    group = case.heads // case.kv_heads
    logits = problem.scale * torch.einsum("btsgd,btsgd->btsg", q, k.repeat_interleave(group, 3).roll(1, case.positions))
    slopes = 1 - torch.tanh(logits / case.softcap) ** 2
    assert (logits.abs() > case.softcap).float().mean() > 0.01
    assert (slopes < 0.9).float().mean() > 0.3
    squares = problem.tensors[0].square().mean(-1)
    assert (squares < 10 * problem.eps).float().mean() > 0.1
