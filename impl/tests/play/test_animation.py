"""GIFs of the autopilot's play."""

from io import BytesIO

import numpy as np
from PIL import Image, ImageSequence

from dreamer4_impl.play.animation import MARGIN, SCALE, write_gif
from dreamer4_impl.play.session import Session


def test_gif_shows_the_frames_of_the_autopilot_enlarged_next_to_the_names_of_its_actions(world, tmp_path):
    frames, path = 5, tmp_path / "play.gif"
    size = write_gif(Session(world, clip=0, seed=5, steps=1), path, frames, fps=15)
    session, panels = Session(world, clip=0, seed=5, steps=1), []
    with Image.open(path) as gif:
        panels = [(np.array(panel.convert("RGB")).astype(int), panel.info["duration"]) for panel in _frames(gif)]
    assert (path.stat().st_size, len(panels), {duration for _, duration in panels}) == (size, frames, {70})
    texts = {}
    for panel, _ in panels:
        session.step("policy")
        frame = np.array(Image.open(BytesIO(session.picture)))
        expected = frame.repeat(SCALE, 0).repeat(SCALE, 1)
        width = expected.shape[1]
        assert np.abs(panel[:, :width] - expected).max() <= 8  # a GIF has 256 colours
        assert panel.shape[1] > width + 2 * MARGIN
        texts.setdefault(session.action, set()).add(panel[:, width:].tobytes())
    assert all(len(drawn) == 1 for drawn in texts.values())
    assert len(set.union(*texts.values())) == len(texts) > 1


def _frames(gif):
    return [frame.copy() for frame in ImageSequence.Iterator(gif)]
