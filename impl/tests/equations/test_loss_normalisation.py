"""Sec. 3.1: the running root mean square of the loss terms."""

import math

import pytest
import torch

from dreamer4_impl.equations.loss_normalisation import RunningRMS


def scalar(value, dtype=torch.float32):
    return torch.tensor(value, dtype=dtype)


def test_divisor_is_the_bias_corrected_moving_average_of_earlier_values():
    normalise, average = RunningRMS(["flow"]).double(), 0.0
    assert float(normalise("flow", scalar(-3.0, torch.float64))) == -1.0
    average = 0.01 * 3.0**2
    for step, value in enumerate((-1.0, 0.5, 7.0), start=1):
        expected = value / math.sqrt(average / (1 - 0.99**step))
        assert float(normalise("flow", scalar(value, torch.float64))) == pytest.approx(expected, rel=1e-12)
        average = 0.99 * average + 0.01 * value**2


def test_output_does_not_depend_on_a_constant_factor_in_the_long_run():
    normalise = RunningRMS(["flow"])
    for _ in range(50):
        out = normalise("flow", scalar(100.0))
    assert float(out) == pytest.approx(1.0, rel=1e-4)
    assert float(normalise("flow", scalar(1.0))) < 0.05
    for _ in range(2000):
        out = normalise("flow", scalar(1.0))
    assert float(out) == pytest.approx(1.0, rel=1e-3)


def test_a_spike_is_not_clipped():
    normalise = RunningRMS(["flow"])
    for _ in range(1000):
        normalise("flow", scalar(1.0))
    assert float(normalise("flow", scalar(10.0))) == pytest.approx(10.0)


def test_terms_do_not_share_an_estimate():
    normalise = RunningRMS(["flow", "reward"])
    normalise("flow", scalar(100.0))
    assert float(normalise("reward", scalar(0.5))) == pytest.approx(1.0)
    assert float(normalise("reward", scalar(0.5))) == pytest.approx(1.0)


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf, 1e30])
def test_a_non_finite_value_does_not_change_the_estimate(poison):
    normalise = RunningRMS(["flow"])
    normalise("flow", scalar(2.0))
    before = {name: buffer.clone() for name, buffer in normalise.state_dict().items()}
    torch.testing.assert_close(normalise("flow", scalar(poison)), scalar(poison / 2), equal_nan=True)
    for name, buffer in normalise.state_dict().items():
        assert torch.equal(buffer, before[name])


def test_zero_stays_zero_with_a_finite_gradient():
    value = torch.tensor(0.0, requires_grad=True)
    out = RunningRMS(["flow"])("flow", value)
    out.backward()
    assert (out.item(), value.grad.item()) == (0.0, 1.0)


def test_gradient_flows_through_the_value_and_not_through_the_divisor():
    normalise, value = RunningRMS(["flow"]), torch.tensor(2.0, requires_grad=True)
    normalise("flow", scalar(4.0))
    normalise("flow", value).backward()
    assert value.grad.item() == pytest.approx(1 / 4)


def test_one_step_may_normalise_a_term_twice_before_it_goes_backward():
    normalise = RunningRMS(["flow"])
    first, second = torch.tensor(1.0, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    (normalise("flow", first) + normalise("flow", second)).backward()
    assert (first.grad.item(), second.grad.item()) == pytest.approx((1.0, 1.0))  # both divided by |first|
    third = torch.tensor(2.0, requires_grad=True)
    normalise("flow", third).backward()
    assert third.grad.item() == pytest.approx(1 / math.sqrt((0.99 * 1 + 9) / 1.99), rel=1e-5)


def test_estimates_are_saved_in_the_state_dict():
    saved, loaded = RunningRMS(["flow", "reward"]), RunningRMS(["flow", "reward"])
    for value in (1.0, 5.0, 2.0):
        saved("flow", scalar(value))
    loaded.load_state_dict(saved.state_dict())
    assert torch.equal(saved("flow", scalar(3.0)), loaded("flow", scalar(3.0)))


def test_evaluation_does_not_change_the_estimate():
    normalise = RunningRMS(["flow"])
    normalise("flow", scalar(2.0))
    normalise.eval()
    assert [float(normalise("flow", scalar(value))) for value in (8.0, 8.0)] == [4.0, 4.0]


def test_compiled_updates_equal_eager_ones(no_host_sync):
    eager, compiled = RunningRMS(["flow"]), RunningRMS(["flow"])
    fast = torch.compile(compiled, fullgraph=True, backend="aot_eager")
    for value in (1.0, math.nan, 4.0):
        torch.testing.assert_close(fast("flow", scalar(value)), eager("flow", scalar(value)), equal_nan=True)
    torch.testing.assert_close(compiled.mean_square, eager.mean_square)
    inputs = scalar(1.0)
    with no_host_sync:
        eager("flow", inputs)


def test_divisor_is_available_before_the_value_that_updates_it():
    normalise = RunningRMS(["flow"])
    assert float(normalise.divisor("flow")) == 1.0
    assert float(normalise.divisor("flow", first=scalar(-4.0))) == 4.0
    assert float(normalise.divisor("flow", first=scalar(math.nan))) == 1.0
    normalise.update("flow", scalar(2.0, torch.float64))
    normalise.update("flow", scalar(math.nan))
    assert float(normalise.divisor("flow")) == float(normalise.divisor("flow", first=scalar(9.0))) == 2.0
    assert normalise.divisor("flow").dtype == torch.float32


def test_unknown_names_and_half_precision_estimates_raise():
    with pytest.raises(ValueError, match="name must be one of 'flow'; got 'flwo'"):
        RunningRMS(["flow"])("flwo", scalar(1.0))
    with pytest.raises(TypeError, match=r"must keep its estimates in float32 or float64; got torch\.bfloat16"):
        RunningRMS(["flow"]).bfloat16()("flow", scalar(1.0))
    with pytest.raises(ValueError, match="decay must be below 1 and names distinct"):
        RunningRMS(["flow", "flow"])
    with pytest.raises(ValueError, match="value must lie on cpu"):
        RunningRMS(["flow"])("flow", torch.tensor(1.0, device="meta"))
