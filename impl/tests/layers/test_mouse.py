"""Sec. 4: classes of Minecraft's mouse."""

import pytest
import torch

from dreamer4_impl.layers.mouse import class_movement, mouse_class


def test_mouse_has_121_classes_and_rest_is_the_middle_one():
    classes = mouse_class(class_movement(torch.arange(121)))
    assert torch.equal(classes, torch.arange(121))
    assert mouse_class(torch.zeros(2)).item() == 60


def test_mouse_bins_are_odd_monotone_and_finest_at_rest():
    movement = torch.linspace(-10, 10, 4001, dtype=torch.float64)
    bins = mouse_class(torch.stack([movement, torch.zeros_like(movement)], dim=-1)) // 11
    assert (bins.diff() >= 0).all()
    assert torch.equal(bins + bins.flip(0), torch.full_like(bins, 10))
    widths = torch.bincount(bins)[5:-1]
    assert (widths[1:].diff() > 0).all()


def test_movements_beyond_the_limit_are_clipped():
    assert mouse_class(torch.tensor([[99.0, -99.0], [10.0, -10.0]])).tolist() == [110, 110]


def test_class_is_eleven_times_the_first_bin_plus_the_second():
    assert mouse_class(torch.tensor([10.0, 0.0])) - mouse_class(torch.tensor([0.0, 0.0])) == 55


def test_a_movement_of_three_axes_is_refused():
    with pytest.raises(ValueError, match=r"movement must have 2 axes of the mouse last, \(…, 2\); got \(4, 3\)"):
        mouse_class(torch.zeros(4, 3))
    with pytest.raises(TypeError, match="mouse must be an integer tensor"):
        class_movement(torch.zeros(4))
