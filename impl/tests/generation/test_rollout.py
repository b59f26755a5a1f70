"""Rollouts: frames with and without a cache are equal; inputs of every pass."""

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from dreamer4_impl.generation.rollout import rollout


def seeded(device="cpu", seed=0):
    return torch.Generator(device).manual_seed(seed)


@pytest.mark.parametrize("agent", [True, False])
@pytest.mark.parametrize(
    ("batch", "time", "frames", "num_steps"), [(2, 3, 2, 4), (3, 0, 3, 1), (1, 1, 12, 2), (2, 9, 2, 8)]
)
def test_frames_with_and_without_a_cache_are_equal_beyond_the_window(
    tiny_on, device, agent, batch, time, frames, num_steps
):
    tiny = tiny_on(device)
    model, actions = tiny.dynamics(agent=agent), tiny.actions(batch, time + frames)
    cached, whole = (
        rollout(model, tiny.latents(batch, time), actions, frames, num_steps, seeded(device), cache=cache)
        for cache in (True, False)
    )
    assert cached.shape == (batch, frames, 5, 6)
    torch.testing.assert_close(cached, whole, rtol=1e-9, atol=1e-9)


def test_with_and_without_cache_the_generator_ends_in_the_same_state(tiny_on, device):
    tiny = tiny_on(device)
    model, states = tiny.dynamics(), []
    for cache in (True, False):
        generator = seeded(device)
        rollout(model, tiny.latents(1, 2), tiny.actions(1, 4), 2, 2, generator, cache=cache)
        states.append(generator.get_state())
    assert torch.equal(*states)


def test_a_clip_may_have_no_actions(tiny_on, device):
    tiny = tiny_on(device)
    frames = [
        rollout(tiny.dynamics(), tiny.latents(2, 2), None, 3, 2, seeded(device), cache=cache) for cache in (True, False)
    ]
    torch.testing.assert_close(*frames, rtol=1e-9, atol=1e-9)


class Spy:
    """Records copies of the arguments of every pass of a model."""

    def __init__(self, model):
        self.calls = []
        model.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, module, given, named):
        self.calls.append((*tree_map(Tensor.clone, given), named))


def test_every_frame_takes_k_passes_without_commit_and_one_with(tiny_on):
    tiny = tiny_on()
    model = tiny.dynamics()
    spy = Spy(model)
    actions = tiny.actions(2, 5)
    clean = rollout(model, tiny.latents(2, 3), actions, 2, 4, seeded())
    committed = [call[4]["commit"] for call in spy.calls]
    assert committed == [True, *([False] * 4 + [True]) * 2]
    assert [tuple(call[0].shape[:2]) for call in spy.calls] == [(2, 3), *[(2, 1)] * 10]
    for _, tau, d, _, named in spy.calls:
        if named["commit"]:
            # The nearest of eight levels to 0.9 is 7/8, and the last one.
            assert (tau == 7 / 8).all()
            assert (d == 1 / 8).all()
        else:
            assert (d == 1 / 4).all()
    for frame, start in ((0, 1), (1, 6)):
        passes = spy.calls[start : start + 5]
        assert [call[1][0, 0].item() for call in passes[:4]] == [0, 1 / 4, 1 / 2, 3 / 4]
        for call in passes:
            assert all(torch.equal(call[3][name][:, 0], part[:, 3 + frame]) for name, part in actions.items())
        noise = (passes[4][0][:, 0] - 0.9 * clean[:, frame]) / 0.1
        assert 0.5 < noise.std() < 1.5


def test_context_is_corrupted_with_a_cache_too(tiny_on):
    tiny = tiny_on()
    model = tiny.dynamics()
    spy, context = Spy(model), tiny.latents(2, 3)
    rollout(model, context, tiny.actions(2, 4), 1, 1, seeded())
    noise = (spy.calls[0][0] - 0.9 * context) / 0.1
    assert 0.8 < noise.std() < 1.2
    assert noise.mean().abs() < 0.3


def test_the_sample_depends_on_context_actions_and_noise(tiny_on):
    tiny = tiny_on()
    model, context, actions = tiny.dynamics(), tiny.latents(2, 3), tiny.actions(2, 5)
    frames = rollout(model, context, actions, 2, 2, seeded())
    assert torch.equal(frames, rollout(model, context, actions, 2, 2, seeded()))
    assert not torch.isclose(frames, rollout(model, context, actions, 2, 2, seeded(seed=1))).any()
    assert not torch.isclose(frames, rollout(model, tiny.latents(2, 3, seed=1), actions, 2, 2, seeded())).any()
    other = {**actions, "mouse": (actions["mouse"] + (torch.arange(5) == 4)) % 5}
    changed = rollout(model, context, other, 2, 2, seeded())
    assert torch.equal(frames[:, 0], changed[:, 0])
    assert not torch.isclose(frames[:, 1], changed[:, 1]).any()


def test_bfloat16_with_a_cache_is_as_accurate_as_without(tiny_on, device):
    half, exact = tiny_on(device, torch.bfloat16), tiny_on(device, torch.float32)
    model, truth, context = half.dynamics(), exact.dynamics(), half.latents(2, 3)
    truth.load_state_dict(model.state_dict())

    def frames(model, context, *, cache):
        return rollout(model, context, half.actions(2, 6), 3, 2, seeded(device), cache=cache)

    expected = frames(truth, context.float(), cache=False)
    cached, whole = (frames(model, context, cache=cache) for cache in (True, False))
    assert cached.dtype == whole.dtype == torch.bfloat16
    assert (cached - expected).norm() <= 2 * (whole - expected).norm()
    assert (whole - expected).norm() < 0.1 * expected.norm()


def test_the_host_never_waits_for_the_device(tiny_on, no_host_sync):
    tiny = tiny_on()
    model, context, actions = tiny.dynamics(), tiny.latents(2, 3), tiny.actions(2, 5)
    with no_host_sync:
        rollout(model, context, actions, 2, 2)
        rollout(model, context, actions, 2, 2, cache=False)


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 0}, "frames must be 1 or more; got 0"),
        ({"num_steps": 16}, r"num_steps must lie in \[1, 8\]; got 16"),
        ({"num_steps": 3}, "num_steps must be a power of two"),
        ({"context": torch.zeros(2, 5, 6)}, r"context must have shape \(B, T, S, D\)"),
        ({"context_level": -0.1}, r"context_level must lie in \[0, 1\]; got -0.1"),
        ({"actions": {"keys": torch.zeros(2, 3, 4)}}, r"actions must begin with the axes \(B, T\+frames\) = \(2, 5\)"),
    ],
)
def test_invalid_input_raises_and_names_the_argument(tiny_on, change, message, cache):
    tiny = tiny_on()
    given = {"context": tiny.latents(2, 3), "actions": tiny.actions(2, 5), "frames": 2, "num_steps": 2}
    with pytest.raises(ValueError, match=message):
        rollout(tiny.dynamics(), **{**given, **change}, cache=cache)


def test_under_autocast_the_cache_has_its_dtype(tiny_on):
    tiny = tiny_on("cpu", torch.float32)
    model, context, actions = tiny.dynamics(), tiny.latents(2, 3), tiny.actions(2, 5)
    with torch.autocast("cpu", torch.bfloat16):
        cached, whole = (rollout(model, context, actions, 2, 2, seeded(), cache=cache) for cache in (True, False))
    assert torch.linalg.norm(cached - whole) < 0.1 * torch.linalg.norm(whole)
