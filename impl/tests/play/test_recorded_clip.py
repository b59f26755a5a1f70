"""Files of recorded clips, and PNG pictures of frames."""

from contextlib import suppress
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from dreamer4_impl.play.errors import UsageError
from dreamer4_impl.play.picture import png
from dreamer4_impl.play.recorded_clip import read_clip, write_clip


def test_clip_is_read_as_written(clip, tmp_path):
    write_clip(tmp_path / "clip.npz", clip)
    read = read_clip(tmp_path / "clip.npz")
    np.testing.assert_array_equal(read.frames, clip.frames)
    np.testing.assert_array_equal(read.labelled, clip.labelled)
    np.testing.assert_array_equal(read.actions["move"], clip.actions["move"])
    assert (tuple(read.names["move"]), read.title) == (clip.names["move"], clip.title)


def test_file_that_is_not_a_clip_is_refused(tmp_path):
    file = tmp_path / "clip.npz"
    with pytest.raises(UsageError, match=r"clip\.npz does not exist"):
        read_clip(file)
    with pytest.raises(UsageError, match="not a clip"):
        read_clip(tmp_path)
    for content in (b"", b"PK", b"text"):
        file.write_bytes(content)
        with pytest.raises(UsageError, match=r"clip\.npz is not a clip"):
            read_clip(file)


@pytest.mark.parametrize(
    ("name", "array"),
    [("about", np.array("{}")), ("about", np.array("[]")), ("about", np.array("{")), ("frames", np.zeros(3)),
     ("labelled", np.ones(2, bool)), ("frames", np.array([{}], object))],
)  # fmt: skip
def test_clip_with_invalid_content_is_refused(clip, tmp_path, name, array):
    file = tmp_path / "clip.npz"
    write_clip(file, clip)
    with np.load(file) as arrays:
        content = {**arrays, name: array}
    np.savez(file, **content)
    with pytest.raises(UsageError, match="not a clip"):
        read_clip(file)


def test_missing_rows_are_named(clip):
    with pytest.raises(ValueError, match=r"a row for each of 7 frames; got \{'move': 3"):
        replace(clip, actions={"move": clip.actions["move"][:3]})


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_picture_equals_the_frame(channels, mode):
    frame = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    image = Image.open(BytesIO(png(frame)))
    assert (image.format, image.mode) == ("PNG", mode)
    np.testing.assert_array_equal(np.asarray(image).reshape(frame.shape), frame)


def test_every_damage_of_a_clip_is_named(clip, tmp_path):
    file = tmp_path / "clip.npz"
    write_clip(file, clip)
    content, chosen = file.read_bytes(), np.random.default_rng(0)
    for position in chosen.integers(0, len(content), 60):
        file.write_bytes(content[:position] + chosen.bytes(1) + content[position + 1 :])
        with suppress(UsageError):  # a byte that means nothing
            read_clip(file)
