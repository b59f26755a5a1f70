"""Sec. 3.1: patches of a frame."""

import pytest
import torch

from dreamer4_impl.layers.patches import patch_grid, patchify, unpatchify


@pytest.mark.parametrize(
    ("size", "grid"), [((360, 640), (24, 40)), ((384, 640), (24, 40)), ((256, 256), (16, 16)), ((1, 33), (2, 4))]
)
def test_frames_are_padded_to_an_even_number_of_patches(size, grid):
    assert patch_grid(*size) == grid


def test_a_patch_holds_its_square_of_the_frame_row_by_row():
    video = torch.rand(2, 3, 6, 8, 3)
    patches = patchify(video, 2)
    assert patches.shape == (2, 3, 4 * 4, 12)
    assert torch.equal(patches[1, 2, 4 * 1 + 3], video[1, 2, 2:4, 6:8].flatten())


@pytest.mark.parametrize(("height", "width", "patch"), [(6, 8, 4), (5, 7, 3), (4, 4, 1), (16, 16, 8)])
def test_patches_put_together_are_the_frame(height, width, patch):
    video = torch.rand(2, 3, height, width, 3)
    assert torch.equal(unpatchify(patchify(video, patch), height, width, patch), video)


def test_invalid_input_raises_and_names_the_argument():
    with pytest.raises(ValueError, match="height, width and patch must be 1 or more; got 0, 1 and 16"):
        patch_grid(0, 1)
    with pytest.raises(ValueError, match=r"video must have shape \(B, T, H, W, C\); got \(2, 3\)"):
        patchify(torch.zeros(2, 3))
    with pytest.raises(TypeError, match=r"video must be a floating-point tensor; got torch\.uint8"):
        patchify(torch.zeros(1, 1, 2, 2, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"patches must have shape \(B, T, rows · columns, patch · patch · C\)"):
        unpatchify(torch.zeros(1, 1, 3, 4), 4, 4, 2)
