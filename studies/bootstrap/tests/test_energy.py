import math

import pytest
import torch

from studies.bootstrap.energy import energy_distance, energy_distance_to_atoms

N = 1500


def _normal(seed: int, mean: float = 0.0) -> torch.Tensor:
    return mean + torch.randn(N, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _normal_distance(mean: float) -> float:
    """2 E|N(m, 2)| − 2 E|N(0, 2)|, by the mean of a folded normal."""
    folded = 2 / math.sqrt(math.pi) * math.exp(-(mean**2) / 4) + mean * math.erf(mean / 2)
    return 2 * folded - 4 / math.sqrt(math.pi)


@pytest.mark.parametrize("mean", [0.0, 0.5, 2.0])
def test_distance_of_two_normals_equals_the_closed_form(mean: float) -> None:
    assert float(energy_distance(_normal(0), _normal(1, mean))) == pytest.approx(_normal_distance(mean), abs=0.08)


def test_estimate_for_equal_distributions_is_unbiased() -> None:
    seeds = torch.stack([_normal(seed)[:40] for seed in range(400)]).unflatten(0, (2, 200))
    found = energy_distance(seeds[0], seeds[1])
    assert abs(float(found.mean())) < 4 * float(found.std()) / math.sqrt(200)


def test_atoms_are_the_limit_of_many_samples() -> None:
    atoms = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    drawn = atoms[torch.randint(2, (N,), generator=torch.Generator().manual_seed(0))]
    x = torch.randn(N, 2, generator=torch.Generator().manual_seed(1))
    assert float(energy_distance_to_atoms(x, atoms)) == pytest.approx(float(energy_distance(x, drawn)), abs=0.04)


def test_single_sample_is_rejected() -> None:
    with pytest.raises(ValueError, match="two samples"):
        energy_distance(torch.zeros(1, 2), torch.zeros(5, 2))
