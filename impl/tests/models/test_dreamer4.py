"""The whole model, from pixels to actions."""

import pytest
import torch

from dreamer4_impl.generation.rollout import rollout
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.presets import small, tiny
from dreamer4_impl.models.reconstruction import ReconstructionLoss


def test_all_modules_work_together_from_pixels_to_actions():
    model, reconstruction = Dreamer4(tiny()), ReconstructionLoss(lambda a, b: (a - b).abs().mean())
    video, actions = torch.rand(2, 4, 6, 8, 3), {"keys": torch.zeros(2, 6, 4), "mouse": torch.zeros(2, 6).long()}
    assert reconstruction(model.tokenizer(video), video).isfinite()
    z = model.tokenizer.encode(video)
    past = {name: part[:, :4] for name, part in actions.items()}
    _, h = model.dynamics(z, torch.zeros(2, 4), torch.ones(2, 4), past, torch.tensor([0, 2]))
    assert (model.agent.policy_loss(h, past) + model.agent.reward_loss(h, torch.zeros(2, 4))).isfinite()
    assert torch.equal(model.agent.value.predict(h), torch.zeros(2, 4))
    assert model.agent.policy.act(h[:, -1:]).sample()["keys"].shape == (2, 1, 4)
    assert model.tokenizer.decode(rollout(model.dynamics, z, actions, 2, 2)).shape == (2, 2, 6, 8, 3)


def test_a_model_is_saved_and_loaded_as_it_was(tmp_path):
    torch.manual_seed(0)
    model, other = Dreamer4(tiny()), Dreamer4(tiny())
    torch.save(model.state_dict(), tmp_path / "model.pt")
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    video = torch.rand(1, 2, 6, 8, 3)
    assert torch.equal(model.tokenizer.eval()(video), other.tokenizer.eval()(video))


@pytest.mark.nightly
def test_the_small_preset_runs_forward_and_backward_on_a_cpu():
    model = Dreamer4(small())
    video, actions = torch.rand(1, 3, 64, 64, 3), {"keys": torch.zeros(1, 3, 23), "mouse": torch.zeros(1, 3).long()}
    z = model.tokenizer.encode(video)
    z1_hat, h = model.dynamics(z, torch.zeros(1, 3), torch.ones(1, 3), actions)
    (model.tokenizer.decode(z1_hat).square().mean() + h.square().mean()).backward()
    assert model.tokenizer.encoder.latents.grad.isfinite().all()
