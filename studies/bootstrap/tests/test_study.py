from pathlib import Path

import pytest
import torch

from dreamer4_impl.equations.eq04_grid import sample_tau_d
from studies.bootstrap import acceptance
from studies.bootstrap.command import main
from studies.bootstrap.data import COIN, DATA, RING, Data, frames
from studies.bootstrap.network import SmallNetwork, build
from studies.bootstrap.training import Recipe, draw_labels, gain, train


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_draws_have_the_declared_shape_and_a_zero_network_is_distant(data: Data) -> None:
    generator = torch.Generator().manual_seed(0)
    assert data.draw(3, generator).shape == (3, *data.shape)
    assert data.distance(lambda z, tau, d, actions: 0 * z, 1, 64, generator) > 0.3


def test_network_that_predicts_both_outcomes_of_the_coin_has_zero_distance() -> None:
    def predict(z: torch.Tensor, tau: torch.Tensor, d: torch.Tensor, actions: None) -> torch.Tensor:
        last = z[:, -2].flatten(1)
        place = (torch.atan2(last[:, 1], last[:, 0]) * 3 / (2 * torch.pi)).round().long()
        left = z[:, -1, 0, 0] < 0
        return frames(torch.where(left, place - 1, place + 1))[:, None].expand_as(z)

    assert COIN.distance(predict, 1, 64, torch.Generator().manual_seed(0)) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("kind", ["plain", "normalised", "separate"])
def test_output_depends_on_both_labels_and_the_noise(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    network = build(kind, RING.shape, 64)
    tau, d = sample_tau_d(50, 1, generator=generator)
    z = torch.randn(50, 1, 1, 2, generator=generator)
    out = network(z, tau, d)
    for other in (network(z + 1, tau, d), network(z, 1 - tau, d), network(z, tau, d.clamp(max=1 / 64) / 2 + 1 / 128)):
        assert out.shape == other.shape
        assert not torch.equal(out, other)


def test_the_network_is_causal() -> None:
    network, z = SmallNetwork(COIN.shape, 64, normalised=True), torch.randn(2, *COIN.shape)
    labels = torch.zeros(2, 3), torch.ones(2, 3)
    changed = z.clone()
    changed[:, 2] += 1
    assert torch.equal(network(z, *labels)[:, :2], network(changed, *labels)[:, :2])
    changed[:, 1] += 1
    assert not torch.equal(network(z, *labels)[:, 2], network(changed, *labels)[:, 2])


def test_only_the_normalised_network_is_bounded_far_outside_the_data() -> None:
    torch.manual_seed(0)
    growth = {kind: gain(build(kind, RING.shape, 64), RING, 64, radius=1e4) for kind in ("plain", "normalised")}
    assert growth["normalised"] < 1e-3 < growth["plain"]


def test_half_of_the_timesteps_but_few_whole_sequences_are_at_d_min() -> None:
    shape = torch.Size((400, 3))
    tau, d = draw_labels(Recipe("normalised", 0.5, k_max=8), shape, torch.Generator().manual_seed(0))
    at_d_min = d == 1 / 8
    assert tau.shape == d.shape == shape
    assert bool(((tau / d) % 1 == 0).all()), "a level off the grid of its step size"
    assert at_d_min.double().mean() == 0.5
    before_a_longer_step = at_d_min[:, :-1] & ~at_d_min[:, 1:]
    assert before_a_longer_step.double().mean() == pytest.approx(0.25, abs=0.05)


def test_the_same_seed_trains_the_same_network() -> None:
    recipe = Recipe("normalised", 0.75, steps=3, batch=8)
    assert train(RING, recipe, seed=0).losses == train(RING, recipe, seed=0).losses
    assert train(RING, recipe, seed=0).losses != train(RING, recipe, seed=1).losses


def test_command_reports_failure_for_untrained_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--only", "acceptance", "--data", "ring", "--seeds", "1", "--steps", "2", "--results", str(tmp_path)]
    assert main(options) == 1
    assert "at most 0.2" in " ".join(capsys.readouterr().out.split())
    before = (tmp_path / "bootstrap.json").read_text()
    assert main(options) == 1
    assert (tmp_path / "bootstrap.json").read_text() == before, "what is done is done again"


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_bootstrap_training_makes_few_step_samples_five_times_better(data: Data, seed: int) -> None:
    row = acceptance.compare(data, seed, acceptance.SPLIT.steps, lambda step, loss: None)
    assert acceptance.failures(row) == []
