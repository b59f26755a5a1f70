"""Numerical contract of every public function: precision, device, no host synchronisation, no graph break."""

import pytest
import torch
from torch import Tensor

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")


def leaves(result: object) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else list(result)


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def test_the_host_never_waits_for_the_device(any_case, inputs, no_host_sync):
    function, arguments = any_case(inputs())
    with no_host_sync:
        function(*arguments)


def test_results_are_on_the_device_of_the_inputs_without_reading_values(any_case, inputs):
    function, arguments = any_case(inputs(device="meta"))
    assert all(result.device.type == "meta" for result in leaves(function(*arguments)))


def test_compiles_into_one_graph_with_the_same_result(case, inputs):
    function, arguments = case(inputs())
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")(*arguments)
    for got, expected in zip(leaves(compiled), leaves(function(*arguments)), strict=True):
        torch.testing.assert_close(got, expected, equal_nan=True)


def test_drawing_functions_compile_into_one_graph(any_case, inputs):
    function, arguments = any_case(inputs())
    results = leaves(torch.compile(function, fullgraph=True, backend="aot_eager")(*arguments))
    for got, expected in zip(results, leaves(function(*arguments)), strict=True):
        assert (got.shape, got.dtype) == (expected.shape, expected.dtype)


def test_half_precision_inputs_are_computed_in_float32(case_without_network, inputs):
    function, arguments = case_without_network(inputs(torch.bfloat16))
    exact = [x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for x in arguments]
    for got, expected in zip(leaves(function(*arguments)), leaves(function(*exact)), strict=True):
        if got.dtype == torch.bool:
            assert torch.equal(got, expected)
        else:
            rounded_once = 1e-6 if got.dtype == torch.float32 else 2**-8
            torch.testing.assert_close(got.double(), expected.double(), rtol=rounded_once, atol=1e-6)


def test_float64_inputs_stay_float64(case, inputs):
    function, arguments = case(inputs(torch.float64))
    assert all(result.dtype in (torch.float64, torch.bool) for result in leaves(function(*arguments)))


@pytest.mark.nightly
def test_the_default_compiler_agrees_with_eager_code(case, inputs):
    function, arguments = case(inputs())
    compiled = torch.compile(function, fullgraph=True)(*arguments)
    for got, expected in zip(leaves(compiled), leaves(function(*arguments)), strict=True):
        torch.testing.assert_close(got, expected, equal_nan=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_agrees_with_the_cpu_and_never_synchronises(case, inputs):
    function, on_gpu = case(inputs(device="cuda"))
    function(*on_gpu)
    torch.cuda.set_sync_debug_mode("error")
    try:
        results = leaves(function(*on_gpu))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    on_cpu, arguments = case(inputs())
    for got, expected in zip(results, leaves(on_cpu(*arguments)), strict=True):
        torch.testing.assert_close(got.cpu(), expected, equal_nan=True, rtol=1e-4, atol=1e-5)
