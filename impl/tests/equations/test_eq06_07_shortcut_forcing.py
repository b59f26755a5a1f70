"""Eq. (6) to (8): the loss, its calls and its gradients, against a literal float64 rendering."""

import math

import numpy as np
import pytest
import torch

from dreamer4_impl.equations.eq04_grid import sample_tau_d
from dreamer4_impl.equations.eq06_07_shortcut_forcing import shortcut_forcing_loss, shortcut_forcing_loss_at

K_MAX = 8
D_MIN = 1 / K_MAX


def draw(batch, time, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tau, d = sample_tau_d(batch, time, k_max=K_MAX, generator=generator)
    z1, z0 = torch.randn(2, batch, time, 2, 3, generator=generator, dtype=torch.float64).to(dtype)
    actions = torch.randn(batch, time, 2, generator=generator, dtype=torch.float64).to(dtype)
    return z1, z0, tau, d, actions


MIXED = torch.tensor([[D_MIN, 0.5, D_MIN], [1.0, 0.25, D_MIN]]), torch.tensor([[0.875, 0.5, 0.25], [0.0, 0.75, 0.0]])


def mixed(dtype=torch.float64):
    z1, z0, _, _, actions = draw(2, 3, dtype)
    return z1, z0, MIXED[1], MIXED[0], actions


def literal_loss(network, z1, z0, tau, d, actions):
    """Eq. (7) and (8) in velocity space as printed, timestep by timestep, in NumPy."""

    def ask(z, level, step):
        return network(torch.from_numpy(z), torch.from_numpy(level), torch.from_numpy(step), actions).detach().numpy()

    z1, z0, tau, d = (x.detach().double().numpy() for x in (z1, z0, tau, d))
    z = np.empty_like(z1)
    for b, t in np.ndindex(tau.shape):
        z[b, t] = (1 - tau[b, t]) * z0[b, t] + tau[b, t] * z1[b, t]
    student = ask(z, tau, d)
    half = np.where(d > D_MIN, d / 2, d)
    first = ask(z, tau, half)
    middle, tau_middle, b_prime = z.copy(), tau.copy(), np.empty_like(z)
    for b, t in np.ndindex(tau.shape):
        b_prime[b, t] = (first[b, t] - z[b, t]) / (1 - tau[b, t])
        if d[b, t] > D_MIN:
            middle[b, t] = z[b, t] + b_prime[b, t] * d[b, t] / 2
            tau_middle[b, t] = tau[b, t] + d[b, t] / 2
    second = ask(middle, tau_middle, half)
    loss = np.empty_like(tau)
    for b, t in np.ndindex(tau.shape):
        if d[b, t] == D_MIN:
            error = np.mean((student[b, t] - z1[b, t]) ** 2)
        else:
            b_second = (second[b, t] - middle[b, t]) / (1 - tau_middle[b, t])
            velocity = (student[b, t] - z[b, t]) / (1 - tau[b, t])
            error = (1 - tau[b, t]) ** 2 * np.mean((velocity - (b_prime[b, t] + b_second) / 2) ** 2)
        loss[b, t] = (0.9 * tau[b, t] + 0.1) * error
    return loss


@pytest.mark.parametrize("shape", [(3, 2), (2, 3), (3, 3), (5, 1), (1, 5)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equals_the_printed_equation_for_every_batch_shape(shape, dtype, mixing):
    for seed in range(3):
        given = draw(*shape, dtype, seed)
        got = shortcut_forcing_loss_at(mixing, *given, k_max=K_MAX, reduction="none")
        bound = 1e-12 if dtype == torch.float64 else 1e-5
        np.testing.assert_allclose(got.numpy(), literal_loss(mixing, *given), rtol=bound, atol=bound)


def test_mean_is_one_mean_over_batch_and_time(mixing):
    given = mixed()
    each = shortcut_forcing_loss_at(mixing, *given, k_max=K_MAX, reduction="none")
    torch.testing.assert_close(shortcut_forcing_loss_at(mixing, *given, k_max=K_MAX), each.mean())


def test_teacher_comes_first_and_only_the_student_records_a_gradient(recorder, mixing):
    network = recorder(mixing)
    shortcut_forcing_loss_at(network, *mixed(), k_max=K_MAX)
    assert [call.grad for call in network.calls] == [False, False, True]


def test_student_is_labelled_with_the_drawn_tau_and_d(recorder, mixing):
    network = recorder(mixing)
    shortcut_forcing_loss_at(network, *mixed(), k_max=K_MAX)
    student = network.calls[-1]
    assert torch.equal(student.tau, MIXED[1].double())
    assert torch.equal(student.d, MIXED[0].double())


def test_first_teacher_call_is_labelled_tau_and_half_d(recorder, mixing):
    network = recorder(mixing)
    shortcut_forcing_loss_at(network, *mixed(), k_max=K_MAX)
    assert network.calls[0].tau.tolist() == [[0.875, 0.5, 0.25], [0.0, 0.75, 0.0]]
    assert network.calls[0].d.tolist() == [[0.125, 0.25, 0.125], [0.5, 0.125, 0.125]]


def test_second_teacher_call_is_labelled_tau_plus_half_d(recorder, mixing):
    network = recorder(mixing)
    shortcut_forcing_loss_at(network, *mixed(), k_max=K_MAX)
    assert network.calls[1].tau.tolist() == [[0.875, 0.75, 0.25], [0.5, 0.875, 0.0]]
    assert torch.equal(network.calls[1].d, network.calls[0].d)


def test_timesteps_at_d_min_keep_their_input_and_label_in_both_teacher_calls(recorder, mixing):
    network, given = recorder(mixing), mixed()
    shortcut_forcing_loss_at(network, *given, k_max=K_MAX)
    first, second, student = network.calls
    at_d_min = MIXED[0] == D_MIN
    for call in (first, second):
        assert torch.equal(call.z[at_d_min], student.z[at_d_min])
        assert torch.equal(call.tau[at_d_min], student.tau[at_d_min])
        assert (call.d[at_d_min] == D_MIN).all()


def test_every_input_of_a_perfect_predictor_lies_at_its_label(recorder):
    z1, z0, tau, d, _ = mixed()
    network = recorder(lambda z, tau, d, actions: z1)
    loss = shortcut_forcing_loss_at(network, z1, z0, tau, d, k_max=K_MAX)
    assert loss < 1e-30
    for call in network.calls:
        level = call.tau[..., None, None]
        torch.testing.assert_close(call.z, (1 - level) * z0 + level * z1, rtol=1e-14, atol=1e-14)


def test_every_call_receives_the_actions_of_its_sequences(recorder):
    z1, z0, tau, d, actions = mixed()
    d = torch.tensor([[D_MIN] * 3, [1.0, D_MIN, D_MIN]])
    tau = torch.zeros(2, 3)
    network = recorder(lambda z, tau, d, actions: z)
    shortcut_forcing_loss_at(network, z1, z0, tau, d, {"keys": actions, "rest": (actions, None)}, k_max=K_MAX)
    for call, rows in zip(network.calls, ([1], [1], [0, 1]), strict=True):
        assert torch.equal(call.actions["keys"], actions[rows])
        assert torch.equal(call.actions["rest"][0], actions[rows])
        assert call.actions["rest"][1] is None


def test_teacher_is_not_called_where_everything_is_at_d_min(recorder, mixing):
    network = recorder(mixing)
    z1, z0, _, _, actions = mixed()
    shortcut_forcing_loss_at(network, z1, z0, torch.zeros(2, 3), torch.full((2, 3), D_MIN), actions, k_max=K_MAX)
    assert len(network.calls) == 1


def test_teacher_is_not_called_where_the_declared_split_leaves_no_sequence(recorder, mixing):
    network = recorder(mixing)
    shortcut_forcing_loss(network, torch.zeros(4, 3, 2, 2), k_max=K_MAX, d_min_share=1.0)
    assert len(network.calls) == 1


def test_only_reading_the_teachers_sequences_makes_the_host_wait(mixing, no_host_sync):
    with no_host_sync, pytest.raises(AssertionError, match="makes the host wait"):
        shortcut_forcing_loss_at(mixing, *mixed(), k_max=K_MAX)


def test_a_compiled_loss_does_not_read_d_and_has_the_same_value(mixing):
    z1, z0, tau, d, actions = draw(3, 2)
    d[0], tau[0] = D_MIN, 0.5
    torch.compiler.reset()
    compiled = torch.compile(shortcut_forcing_loss_at, fullgraph=True, backend="aot_eager")
    eager = shortcut_forcing_loss_at(mixing, z1, z0, tau, d, actions, k_max=K_MAX)
    torch.testing.assert_close(compiled(mixing, z1, z0, tau, d, actions, k_max=K_MAX), eager)


def test_k_max_one_is_the_flow_loss_alone(recorder):
    z1, z0, _, _, _ = mixed()
    network = recorder(lambda z, tau, d, actions: z)
    loss = shortcut_forcing_loss_at(network, z1, z0, torch.zeros(2, 3), torch.ones(2, 3), k_max=1)
    assert len(network.calls) == 1
    torch.testing.assert_close(loss, 0.1 * (z0 - z1).square().mean())


def test_teacher_is_called_only_on_sequences_above_d_min(recorder, mixing):
    z1, z0, tau, d, actions = draw(4, 2)
    d[[0, 2]], d[1, 0], d[3, 1] = D_MIN, 0.5, 1.0
    tau.zero_()
    network = recorder(mixing)
    got = shortcut_forcing_loss_at(network, z1, z0, tau, d, actions, k_max=K_MAX, reduction="none")
    assert [len(call.z) for call in network.calls] == [2, 2, 4]
    np.testing.assert_allclose(got, literal_loss(mixing, z1, z0, tau, d, actions), rtol=1e-12)


@pytest.mark.parametrize("rows", [slice(None), slice(1, None), torch.tensor([1, 2]), torch.tensor([2, 1])])
def test_the_callers_choice_of_teacher_rows_does_not_change_the_value(rows, mixing):
    z1, z0, tau, d, actions = draw(3, 2)
    d[0], tau[0] = D_MIN, 0.5
    found = shortcut_forcing_loss_at(mixing, z1, z0, tau, d, actions, k_max=K_MAX)
    given = shortcut_forcing_loss_at(mixing, z1, z0, tau, d, actions, k_max=K_MAX, teacher_rows=rows)
    assert torch.equal(found, given)


def test_a_timestep_above_d_min_without_teacher_is_nan():
    z1, z0, tau, d, _ = mixed()
    loss = shortcut_forcing_loss_at(
        lambda z, *_: z, z1, z0, tau, d, k_max=K_MAX, reduction="none", teacher_rows=slice(1, None)
    )
    assert loss.isnan().tolist() == [[False, True, False], [False] * 3]


def test_no_gradient_flows_through_the_teacher():
    z1, z0, tau, d, _ = mixed()
    theta = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    bootstrap = d > D_MIN
    loss = shortcut_forcing_loss_at(lambda z, *_: theta * z, z1, z0, tau, d, k_max=K_MAX, reduction="none")
    loss.sum().backward()
    # With the target a constant y, the loss w (θ z̃ − y)² has the gradient 2 w z̃ (θ z̃ − y).
    z = (1 - tau[..., None, None]) * z0 + tau[..., None, None] * z1
    first = (0.7 * z - z) / (1 - tau)[..., None, None]
    half = (torch.where(bootstrap, d, 0) / 2)[..., None, None]
    middle = z + first * half
    second = (0.7 * middle - middle) / ((1 - tau)[..., None, None] - half)
    target = torch.where(bootstrap[..., None, None], z + (1 - tau)[..., None, None] * (first + second) / 2, z1)
    weight = (0.9 * tau.double() + 0.1)[..., None, None]
    torch.testing.assert_close(theta.grad, (2 * weight * z * (0.7 * z - target)).mean((2, 3)).sum())


def test_half_precision_velocities_start_from_the_rounded_input(recorder, mixing):
    network, given = recorder(mixing), draw(3, 4, torch.bfloat16)
    loss = shortcut_forcing_loss_at(network, *given, k_max=K_MAX, reduction="none", teacher_rows=slice(None))
    first, second, student = network.calls
    assert {call.z.dtype for call in network.calls} == {torch.bfloat16}
    assert {call.tau.dtype for call in network.calls} == {torch.float32}

    def velocity(call):
        return (mixing(*call[:4]).double() - call.z.double()) / (1 - call.tau.double())[..., None, None]

    weight = 0.9 * student.tau.double() + 0.1
    scale = (1 - student.tau.double())[..., None, None]
    target = student.z.double() + scale * (velocity(first) + velocity(second)) / 2
    target = torch.where((student.d > D_MIN)[..., None, None], target, given[0].double())
    expected = weight * (mixing(*student[:4]).double() - target).square().mean((2, 3))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=1e-6)


def test_finite_on_the_whole_grid(mixing):
    pairs = [(index * d, d) for d in (1.0, 0.5, 0.25, 0.125) for index in range(round(1 / d))]
    tau, d = torch.tensor(pairs)[:, None].unbind(-1)
    z1, z0, _, _, actions = draw(len(pairs), 1, torch.float32)
    assert shortcut_forcing_loss_at(mixing, z1, z0, tau, d, actions, k_max=K_MAX, reduction="none").isfinite().all()


def test_nan_in_the_data_is_visible_and_stays_in_its_sequence(mixing):
    z1, z0, tau, d, actions = mixed()
    z1[0, 0, 0, 0] = math.nan
    loss = shortcut_forcing_loss_at(mixing, z1, z0, tau, d, actions, k_max=K_MAX, reduction="none")
    assert loss[0, 0].isnan()
    assert loss[1].isfinite().all()


def test_drawn_loss_is_reproducible_and_leaves_the_global_state_alone(mixing):
    z1, before = mixed(torch.float32)[0], torch.get_rng_state()
    first, again, other = (
        shortcut_forcing_loss(mixing, z1, k_max=K_MAX, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_drawn_noise_is_standard_normal_and_independent(recorder):
    z1 = torch.zeros(64, 16, 4, 4)
    network = recorder(lambda z, *_: z)
    shortcut_forcing_loss(network, z1, k_max=K_MAX, generator=torch.Generator().manual_seed(0))
    call = network.calls[-1]
    z0 = call.z / (1 - call.tau)[..., None, None]
    assert abs(z0.mean()) < 6 / math.sqrt(z0.numel())
    assert abs(z0.var() - 1) < 6 * math.sqrt(2 / z0.numel())
    assert len(z0.unique()) > 0.99 * z0.numel()


def test_declared_split_calls_the_teacher_without_reading_d(recorder, mixing, no_host_sync):
    network = recorder(mixing)
    with no_host_sync:
        shortcut_forcing_loss(network, torch.zeros(8, 3, 2, 2), k_max=K_MAX, d_min_share=0.75)
    assert [len(call.z) for call in network.calls] == [2, 2, 8]
    student = network.calls[-1]
    assert ((student.d == D_MIN).all(dim=1)).tolist() == [True] * 6 + [False] * 2


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"z1": torch.zeros(2, 3, 4)}, ValueError, r"z1 must have shape \(B, T, S, D\); got \(2, 3, 4\)"),
        ({"z1": torch.zeros(0, 3, 2, 3)}, ValueError, "z1 must have at least one element"),
        ({"z0": torch.zeros(3, 2, 2, 3)}, ValueError, r"z0 must have shape of z1 = \(2, 3, 2, 3\); got \(3, 2, 2, 3\)"),
        ({"tau": torch.zeros(2)}, ValueError, r"tau must have shape \(B, T\) = \(2, 3\); got \(2,\)"),
        ({"tau": np.zeros((2, 3))}, TypeError, "tau must be a torch tensor; got ndarray"),
        ({"d": torch.ones(2, 3, dtype=torch.int64)}, TypeError, "d must be a floating-point tensor; got torch.int64"),
        ({"d": torch.ones(2, 3, device="meta")}, ValueError, "d must lie on cpu like the other arguments; got meta"),
        ({"actions": torch.zeros(3, 3, 1)}, ValueError, r"actions must begin with the axes \(B,\) = \(2,\)"),
        ({"actions": (3,)}, TypeError, "actions must hold torch tensors; got int"),
        ({"k_max": 6}, ValueError, "k_max must be a power of two, 1 or more; got 6"),
        ({"reduction": "sum"}, ValueError, "reduction must be one of 'mean', 'none'; got 'sum'"),
        ({"teacher_rows": torch.tensor([True, False])}, TypeError, "teacher_rows must be an integer tensor"),
        ({"network": lambda z, *_: z[:, :1]}, ValueError, "the network's output must have shape of its input z"),
        ({"network": lambda *_: None}, TypeError, "the network's output must be a torch tensor; got NoneType"),
    ],
)
def test_invalid_input_raises_and_names_the_argument(change, error, message):
    z1, z0, tau, d, actions = mixed()
    given = {"network": lambda z, *_: z, "z1": z1, "z0": z0, "tau": tau, "d": d, "actions": actions, "k_max": K_MAX}
    with pytest.raises(error, match=message):
        shortcut_forcing_loss_at(**{**given, **change})
