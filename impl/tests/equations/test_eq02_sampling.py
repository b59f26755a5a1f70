"""Eq. (2): Euler sampling with corrupted context."""

import math

import pytest
import torch

from dreamer4_impl.equations.eq02_sampling import context_label, generate, sample_frame


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def context(batch=2, time=3, dtype=torch.float64):
    return torch.randn(batch, time, 2, 3, generator=seeded(9), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("num_steps", [1, 2, 4, 8])
def test_a_frame_costs_exactly_k_calls_labelled_zero_to_one_minus_d(num_steps, recorder, mixing):
    network = recorder(mixing)
    sample_frame(network, context(), num_steps, k_max=8, generator=seeded())
    assert [call.tau[0, -1].item() for call in network.calls] == [step / num_steps for step in range(num_steps)]
    assert all((call.d[:, -1] == 1 / num_steps).all() for call in network.calls)


def test_every_input_is_the_previous_one_moved_by_one_euler_step(recorder, mixing):
    network = recorder(mixing)
    frame = sample_frame(network, context(), 4, k_max=8, generator=seeded())
    states = [call.z[:, -1] for call in network.calls] + [frame]
    for call, now, after in zip(network.calls, states[:-1], states[1:], strict=True):
        velocity = (mixing(*call[:4])[:, -1] - now) / (1 - call.tau[:, -1])[:, None, None]
        torch.testing.assert_close(after, now + velocity / 4, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("num_steps", [1, 2, 4, 8, 16, 32, 64])
@pytest.mark.parametrize("time", [0, 1, 3])
def test_a_perfect_predictor_is_reproduced(num_steps, time):
    perfect = torch.randn(2, 2, 3, generator=seeded(5))

    def network(z, tau, d, actions):
        return perfect[:, None].expand(-1, z.shape[1], -1, -1)

    frame = sample_frame(network, context(time=time, dtype=torch.float32), num_steps, generator=seeded())
    torch.testing.assert_close(frame, perfect, rtol=1e-6, atol=1e-6)


def test_the_sample_starts_from_the_noise_argument(recorder, mixing):
    network, noise = recorder(mixing), torch.randn(2, 2, 3, generator=seeded(), dtype=torch.float64)
    first = sample_frame(network, context(), noise=noise, context_level=1.0)
    again = sample_frame(network, context(), noise=noise, context_level=1.0)
    assert torch.equal(network.calls[0].z[:, -1], noise)
    assert torch.equal(first, again)


def test_start_is_standard_normal_by_default(recorder):
    network = recorder(lambda z, *_: z)
    sample_frame(network, torch.zeros(100, 0, 32, 16), generator=seeded())
    start = network.calls[0].z
    assert abs(start.mean()) < 6 / math.sqrt(start.numel())
    assert abs(start.var() - 1) < 6 * math.sqrt(2 / start.numel())


def test_context_has_ten_percent_noise_that_is_drawn_once(recorder):
    network, clean = recorder(lambda z, *_: z), torch.ones(50, 4, 8, 8)
    sample_frame(network, clean, generator=seeded())
    past = [call.z[:, :-1] for call in network.calls]
    assert all(torch.equal(past[0], other) for other in past[1:])
    noise = (past[0] - 0.9) / 0.1
    assert abs(noise.mean()) < 6 / math.sqrt(noise.numel())
    assert abs(noise.var() - 1) < 6 * math.sqrt(2 / noise.numel())


@pytest.mark.parametrize(
    ("level", "k_max", "label"),
    [(0.9, 64, 58 / 64), (1.0, 64, 63 / 64), (0.0, 64, 0.0), (0.1, 64, 6 / 64), (1.0, 1, 0.0), (0.5, 8, 0.5)],
)
def test_context_label_is_the_nearest_grid_level(level, k_max, label):
    assert context_label(level, k_max) == label
    assert abs(context_label(level, k_max) - level) <= 1 / k_max


def test_context_is_labelled_with_its_level_and_d_min(recorder, mixing):
    network = recorder(mixing)
    sample_frame(network, context(), k_max=64, generator=seeded())
    for call in network.calls:
        assert (call.tau[:, :-1] == 58 / 64).all()
        assert (call.d[:, :-1] == 1 / 64).all()


def test_clean_context_reaches_the_network_unchanged(recorder, mixing):
    network = recorder(mixing)
    sample_frame(network, context(), context_level=1.0, generator=seeded())
    assert all(torch.equal(call.z[:, :-1], context()) for call in network.calls)


def test_inputs_and_labels_of_a_call_are_not_changed_afterwards():
    kept = []

    def network(z, tau, d, actions):
        kept.append((z, z.clone(), tau, tau.clone(), d, d.clone()))
        return 0.5 * z

    generate(network, context(), frames=2, generator=seeded())
    assert all(torch.equal(a, b) for call in kept for a, b in (call[:2], call[2:4], call[4:]))


def test_every_call_receives_all_actions_up_to_its_frame(recorder, mixing):
    network = recorder(mixing)
    actions = torch.randn(2, 5, 1, generator=seeded(), dtype=torch.float64)
    generate(network, context(), 2, 2, actions=actions, generator=seeded())
    for call, time in zip(network.calls, (4, 4, 5, 5), strict=True):
        assert torch.equal(call.actions, actions[:, :time])


def test_generation_corrupts_each_frame_once(recorder, mixing):
    network = recorder(mixing)
    frames = generate(network, context(), frames=3, generator=seeded())
    assert frames.shape == (2, 3, 2, 3)
    last = network.calls[-1].z
    for call in network.calls:
        seen = call.z.shape[1] - 1
        assert torch.equal(call.z[:, :seen], last[:, :seen])


def test_generated_frames_become_context_with_independent_noise(recorder):
    network = recorder(lambda z, *_: torch.full_like(z, 3.0))
    generate(network, torch.zeros(50, 0, 8, 8), frames=3, generator=seeded())
    noise = (network.calls[-1].z[:, :2] - 0.9 * 3.0) / 0.1
    assert abs(noise.mean()) < 6 / math.sqrt(noise.numel())
    assert abs(noise.var() - 1) < 6 * math.sqrt(2 / noise.numel())
    assert not torch.equal(noise[:, 0], noise[:, 1])


def test_generation_starts_each_frame_from_its_own_noise(recorder, mixing):
    network = recorder(mixing)
    generate(network, context(), 2, 1, generator=seeded())
    first, second = (call.z[:, -1] for call in network.calls)
    assert not torch.equal(first, second)


def test_sampling_records_no_gradient_and_leaves_the_global_state_alone(mixing):
    theta, before = torch.tensor(0.5, requires_grad=True), torch.get_rng_state()
    frame = sample_frame(lambda z, *_: theta * z, context(dtype=torch.float32), generator=seeded())
    assert not frame.requires_grad
    generate(mixing, context(), 2, generator=seeded())
    assert torch.equal(before, torch.get_rng_state())


def test_half_precision_frames_keep_a_float32_state_between_steps(recorder):
    network, z = recorder(lambda z, *_: 0.7 * z), torch.randn(2, 2, 3, generator=seeded())
    frame = sample_frame(network, torch.zeros(2, 0, 2, 3, dtype=torch.bfloat16), 8, k_max=8, noise=z)
    assert frame.dtype == torch.bfloat16
    state = z
    for step, call in enumerate(network.calls):
        assert torch.equal(call.z[:, -1], state.bfloat16())
        state = state + ((0.7 * call.z)[:, -1].float() - state) / (8 - step)
    torch.testing.assert_close(frame.float(), state, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": torch.zeros(2, 3, 2)}, r"context must have shape \(B, T, S, D\); got \(2, 3, 2\)"),
        ({"num_steps": 3}, "num_steps must be a power of two, 1 or more; got 3"),
        ({"num_steps": 128}, r"num_steps must lie in \[1, 64\]; got 128"),
        ({"k_max": 48}, "k_max must be a power of two"),
        ({"context_level": 1.5}, r"context_level must lie in \[0, 1\]; got 1.5"),
        ({"noise": torch.zeros(2, 3, 2)}, r"noise must have shape \(B, S, D\) = \(2, 2, 3\); got \(2, 3, 2\)"),
        (
            {"actions": torch.zeros(2, 3, 1)},
            r"actions must begin with the axes \(B, T\+1\) = \(2, 4\); got \(2, 3, 1\)",
        ),
    ],
)
def test_invalid_input_raises_and_names_the_argument(change, message):
    given = {"network": lambda z, *_: z, "context": context()}
    with pytest.raises(ValueError, match=message):
        sample_frame(**{**given, **change})


def test_generation_of_zero_frames_raises():
    with pytest.raises(ValueError, match="frames must be 1 or more; got 0"):
        generate(lambda z, *_: z, context(), 0)
