"""The autopilot's play as a GIF: every frame enlarged, next to the name of the action that led to it."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from dreamer4_impl.durable import replacement
from dreamer4_impl.play.autopilot import POLICY
from dreamer4_impl.play.errors import UsageError
from dreamer4_impl.play.session import Session

#: Pixels of the GIF for one of a frame, per axis.
SCALE: Final = 6
#: Space around the name of the action, in pixels, and the height of its font.
MARGIN, FONT = 16, 20
PAPER, INK = (16, 19, 24), (231, 235, 241)


def write_gif(session: Session, path: Path, frames: int, fps: float) -> int:
    """Let the policy play and write what it does; it starts from the current frame of the session.

    Args:
        session: session of a model with a policy, changed.
        path: the file, which must not exist; its directory is made.
        frames: number of generated frames, 1 or more. Equal frames in succession become a longer one.
        fps: frames per second, in [1, 60]; GIFs round the time of a frame to 10 ms.

    Returns:
        Size of the file in bytes.

    Raises:
        UsageError: if the file exists.
        RequestError: if the model has no policy.
        OSError: if the file cannot be written.
    """
    if path.exists():
        raise UsageError(f"{path} already exists: remove it, or name another file")
    first, *following = _panels(list(_played(session, frames)))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacement(path) as partial:
        milliseconds = 10 * round(100 / fps)
        first.save(partial, "GIF", save_all=True, append_images=following, duration=milliseconds, loop=0)
    return path.stat().st_size


def _played(session: Session, frames: int) -> Iterator[tuple[bytes, str]]:
    for _ in range(frames):
        session.step(POLICY)
        yield session.picture, session.action


def _panels(played: list[tuple[bytes, str]]) -> Iterator[Image.Image]:
    """Draw frames next to names; all panels have the width of the longest name."""
    font = ImageFont.load_default(FONT)
    room = 2 * MARGIN + round(max(font.getlength(name) for _, name in played))
    for picture, name in played:
        frame = Image.open(BytesIO(picture)).convert("RGB")
        width, height = SCALE * frame.width, SCALE * frame.height
        panel = Image.new("RGB", (width + room, height), PAPER)
        panel.paste(frame.resize((width, height), Image.Resampling.NEAREST))
        ImageDraw.Draw(panel).text((width + MARGIN, height / 2), name, INK, font, anchor="lm")
        yield panel
