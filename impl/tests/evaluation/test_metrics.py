"""PSNR and SSIM against their definitions."""

import numpy as np
import pytest
import torch

from dreamer4_impl.evaluation.metrics import decibel_gap, decibels, squared_error, ssim

C1, C2 = 0.01**2, 0.03**2


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_psnr_of_an_error_of_one_level_in_256():
    video = torch.full((1, 8, 8, 3), 0.5, dtype=torch.float64)
    error = squared_error(video + 1 / 255, video).numpy()
    np.testing.assert_allclose(decibels(error), 20 * np.log10(255))


def test_squared_error_is_of_each_frame_alone():
    video = images(2, 3, 8, 8, 1)
    changed = video.clone()
    changed[1, 2] += 0.5
    error = squared_error(changed, video)
    assert error[1, 2] == pytest.approx(0.25)
    assert error.sum() == error[1, 2]


def test_gap_of_two_perfect_predictions_is_zero():
    assert decibel_gap(np.zeros(1), np.zeros(1)).tolist() == [0.0]
    assert decibel_gap(np.full(1, 0.1), np.zeros(1)).tolist() == [np.inf]


def test_ssim_of_constant_images_is_their_luminance_term():
    a, b = 0.2, 0.7
    x, y = (torch.full((1, 16, 16, 1), value, dtype=torch.float64) for value in (a, b))
    np.testing.assert_allclose(ssim(x, y), (2 * a * b + C1) / (a * a + b * b + C1), rtol=1e-12)


def test_ssim_at_the_only_window_is_the_formula_with_gaussian_moments():
    x, y = images(11, 11, 1), images(11, 11, 1, seed=1)
    window = np.exp(-((np.indices((11, 11)) - 5) ** 2).sum(0) / (2 * 1.5**2))
    window /= window.sum()
    p, q = x[..., 0].numpy(), y[..., 0].numpy()
    mean_p, mean_q = (window * p).sum(), (window * q).sum()
    variance_p, variance_q = (window * (p - mean_p) ** 2).sum(), (window * (q - mean_q) ** 2).sum()
    product = (window * (p - mean_p) * (q - mean_q)).sum()
    luminance = (2 * mean_p * mean_q + C1) / (mean_p**2 + mean_q**2 + C1)
    np.testing.assert_allclose(ssim(x, y), luminance * (2 * product + C2) / (variance_p + variance_q + C2), rtol=1e-10)


def test_ssim_averages_over_positions_and_channels():
    x, y = images(13, 12, 3), images(13, 12, 3, seed=1)
    windows = [
        ssim(x[r : r + 11, c : c + 11, k : k + 1], y[r : r + 11, c : c + 11, k : k + 1])
        for r in range(3)
        for c in range(2)
        for k in range(3)
    ]
    np.testing.assert_allclose(ssim(x, y), torch.stack(windows).mean(), rtol=1e-12)


def test_ssim_is_symmetric_and_one_for_equal_images_and_low_for_the_negative():
    x, y = images(2, 3, 16, 16, 1), images(2, 3, 16, 16, 1, seed=1)
    torch.testing.assert_close(ssim(x, y), ssim(y, x))
    assert (ssim(x, x) == 1).all()
    assert (ssim(1 - x, x) < 0).all()


def test_frames_smaller_than_the_window_have_no_ssim():
    with pytest.raises(ValueError, match="at least 11×11 pixels; got 10×16"):
        ssim(torch.zeros(10, 16, 1), torch.zeros(10, 16, 1))
