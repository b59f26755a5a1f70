"""Resizing by area averaging, compared with a pixel-by-pixel computation in rational numbers."""

from fractions import Fraction

import numpy as np
import pytest

from dreamer4_impl.data.resizing import grey, resize


def mean_of_area(frame, height, width, i, j):
    """Weighted mean of the old pixels, weighted by the area that lies in new pixel (i, j)."""

    def shares(old, new, k):
        low, high = Fraction(k * old, new), Fraction((k + 1) * old, new)
        return [max(0, min(high, p + 1) - max(low, p)) for p in range(old)]

    rows, columns = shares(frame.shape[0], height, i), shares(frame.shape[1], width, j)
    total = sum(r * c * int(frame[y, x, 0]) for y, r in enumerate(rows) for x, c in enumerate(columns) if r and c)
    return total / (sum(rows) * sum(columns))


@pytest.mark.parametrize(("old", "new"), [((7, 5), (3, 2)), ((21, 16), (6, 6)), ((8, 12), (4, 6)), ((3, 2), (5, 7))])
def test_a_pixel_is_the_mean_of_its_area_with_ties_to_even(old, new):
    frame = np.random.default_rng(0).integers(256, size=(*old, 1), dtype=np.uint8)
    resized = resize(frame, *new)
    for i in range(new[0]):
        for j in range(new[1]):
            assert resized[i, j, 0] == round(mean_of_area(frame, *new, i, j))


def test_channels_are_separate():
    frame = np.random.default_rng(0).integers(256, size=(9, 8, 3), dtype=np.uint8)
    for channel in range(3):
        one = frame[..., channel : channel + 1]
        np.testing.assert_array_equal(resize(frame, 4, 4)[..., channel : channel + 1], resize(one, 4, 4))


def test_the_same_size_changes_nothing():
    frame = np.random.default_rng(0).integers(256, size=(5, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize(frame, 5, 4), frame)


def test_brightness_of_a_dot_does_not_depend_on_its_position():
    """Nearest-neighbour resizing loses it at most positions."""
    sums = []
    for y in range(21):
        frame = np.zeros((21, 16, 1), np.uint8)
        frame[y, 5] = 240
        sums.append(int(resize(frame, 6, 6).sum()))
    assert max(sums) - min(sums) <= 4
    assert min(sums) > 0


def test_grey_of_a_grey_frame_is_unchanged():
    levels = np.arange(256, dtype=np.uint8)[None, :, None]
    np.testing.assert_array_equal(grey(np.repeat(levels, 3, axis=2)), levels)
