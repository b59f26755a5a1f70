"""Rollouts as pictures to look at: a strip of frames, and panels that move."""

import io
from typing import Final

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from dreamer4_impl.evaluation.results import Pictures

#: Least height of a frame, in pixels; frames of a strip; frames of an animation in a second.
_HEIGHT: Final = 96
_COLUMNS: Final = 10
_FRAMES_PER_SECOND: Final = 8
#: Pixels between frames, and of a line of text: its height, and the width of a letter.
_GAP, _LINE, _LETTER = 3, 16, 7


def strip(pictures: Pictures) -> bytes:
    """Rows of frames side by side, as PNG: time goes to the right, and a red line stands where imagination begins.

    >>> import torch
    >>> strip(Pictures("one", {"truth": torch.zeros(3, 4, 4, 1, dtype=torch.uint8)}, context=1))[1:4]
    b'PNG'
    """
    times = _columns(pictures)
    rows = [[_enlarged(video[t].numpy()) for t in times] for video in pictures.rows.values()]
    height, width = rows[0][0].size[1] + _GAP, rows[0][0].size[0] + _GAP
    left = _LETTER * max(map(len, pictures.rows)) + _GAP
    image = Image.new("RGB", (left + len(times) * width, _LINE + len(rows) * height), "white")
    draw = ImageDraw.Draw(image)
    for row, (name, frames) in enumerate(zip(pictures.rows, rows, strict=True)):
        y = _LINE + row * height
        draw.text((2, y + height // 2 - _LINE // 2), name, fill="black")
        for column, frame in enumerate(frames):
            image.paste(frame, (left + column * width, y))
    for column, t in enumerate(times):
        draw.text((left + column * width, 2), _ahead(pictures, t), fill="black")
    begins = left + sum(t < pictures.context for t in times) * width - _GAP
    draw.rectangle((begins, 0, begins + _GAP - 1, image.height), fill="red")
    return _encoded(image)


def animation(pictures: Pictures) -> bytes:
    """The rows as panels side by side that move, as a WebP without loss that repeats; a red line stands over context.

    >>> import torch
    >>> animation(Pictures("one", {"truth": torch.zeros(3, 4, 4, 1, dtype=torch.uint8)}, context=1))[:4]
    b'RIFF'
    """
    frames = [_panels(pictures, t) for t in range(_length(pictures))]
    file, duration = io.BytesIO(), 1000 // _FRAMES_PER_SECOND
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], duration=duration, loop=0, lossless=True)
    return file.getvalue()


def _panels(pictures: Pictures, t: int) -> Image.Image:
    panels = [_enlarged(video[t].numpy(), 2 * _HEIGHT) for video in pictures.rows.values()]
    width = max(panels[0].width, _LETTER * max(map(len, pictures.rows))) + _GAP
    image = Image.new("RGB", (len(panels) * width, 2 * _LINE + panels[0].height), "white")
    draw = ImageDraw.Draw(image)
    for number, (name, panel) in enumerate(zip(pictures.rows, panels, strict=True)):
        draw.text((number * width, 2), name, fill="black")
        image.paste(panel, (number * width, _LINE))
    draw.text((0, image.height - _LINE + 2), f"{_ahead(pictures, t)} frames", fill="black")
    if t < pictures.context:
        draw.rectangle((0, _LINE - 2, image.width, _LINE - 1), fill="red")
    return image


def _ahead(pictures: Pictures, t: int) -> str:
    ahead = t - pictures.context + 1
    return f"+{ahead}" if ahead > 0 else str(ahead)


def _length(pictures: Pictures) -> int:
    return len(next(iter(pictures.rows.values())))


def _columns(pictures: Pictures) -> list[int]:
    """All context frames, and evenly spaced others, the last among them."""
    length, context = _length(pictures), pictures.context
    others = np.linspace(context, length - 1, min(_COLUMNS - context, length - context)).round().astype(int)
    return [*range(context), *map(int, others)]


def _enlarged(frame: UInt8[np.ndarray, "H W C"], least: int = _HEIGHT) -> Image.Image:
    """Every pixel a square of as many as it takes to be seen."""
    times = max(1, -(-least // frame.shape[0]))
    large = frame.repeat(times, axis=0).repeat(times, axis=1)
    return Image.fromarray(np.broadcast_to(large, (*large.shape[:2], 3)) if large.shape[2] == 1 else large)


def _encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()
