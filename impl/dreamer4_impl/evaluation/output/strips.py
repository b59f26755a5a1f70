"""Pictures of rollouts: a strip of frames as PNG, and an animation as WebP."""

import io
from typing import Final

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from dreamer4_impl.evaluation.results import Pictures

#: Minimum height of a frame in a strip, in pixels.
_HEIGHT: Final = 96
#: Maximum number of frames of a strip.
_COLUMNS: Final = 10
_FRAMES_PER_SECOND: Final = 8
#: In pixels: gap between frames, height of a line of text, width of a character.
_GAP, _LINE, _LETTER = 3, 16, 7


def strip(pictures: Pictures) -> bytes:
    """Draw one row of frames per predictor; a red line separates the context from the prediction.

    Args:
        pictures: rows of frames, true and predicted.

    Returns:
        PNG file.

    Example:
        >>> import torch
        >>> strip(Pictures("a clip", {"truth": torch.zeros(3, 4, 4, 1, dtype=torch.uint8)}, context=1))[1:4]
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
    boundary = left + sum(t < pictures.context for t in times) * width - _GAP
    draw.rectangle((boundary, 0, boundary + _GAP - 1, image.height), fill="red")
    return _encoded(image)


def animation(pictures: Pictures) -> bytes:
    """Animate the predictors as panels in a row; a red line marks context frames.

    Args:
        pictures: rows of frames, true and predicted.

    Returns:
        Lossless, repeating WebP file.

    Example:
        >>> import torch
        >>> animation(Pictures("a clip", {"truth": torch.zeros(3, 4, 4, 1, dtype=torch.uint8)}, context=1))[:4]
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
    """Indices of all context frames, and of evenly spaced predicted frames that include the last."""
    length, context = _length(pictures), pictures.context
    predicted = np.linspace(context, length - 1, min(_COLUMNS - context, length - context)).round().astype(int)
    return [*range(context), *map(int, predicted)]


def _enlarged(frame: UInt8[np.ndarray, "H W C"], min_height: int = _HEIGHT) -> Image.Image:
    """Enlarge a frame by the smallest integer factor that reaches the minimum height."""
    factor = max(1, -(-min_height // frame.shape[0]))
    large = frame.repeat(factor, axis=0).repeat(factor, axis=1)
    return Image.fromarray(np.broadcast_to(large, (*large.shape[:2], 3)) if large.shape[2] == 1 else large)


def _encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()
