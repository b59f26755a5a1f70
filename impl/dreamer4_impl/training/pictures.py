"""Videos of clips, to be looked at: rows of frames above each other, clips side by side, and a strip under each clip.

The strip is grey under a recorded frame and blue under a predicted one. A bar in it, green to the right for a gain and
red for a loss, is the reward on arriving at the frame; it fills the strip for a reward of 1 or more.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from dreamer4_impl.durable import replacement

Video: TypeAlias = UInt8[np.ndarray, "T height width 3"]
"""Frames of a video in RGB."""

#: In pixels: minimum height of a frame, height of the strip, gap between clips and rows.
_HEIGHT, _STRIP, _GAP = 96, 6, 4
_FRAMES_PER_SECOND: Final = 8
_RECORDED, _PREDICTED, _GAIN, _LOSS = (70, 70, 70), (40, 80, 200), (60, 210, 60), (225, 60, 60)


def film(
    rows: Sequence[Float[Tensor, "N T H W C"]],
    predicted: Bool[Tensor, "N T"],
    rewards: Float[Tensor, "N T"] | None = None,
) -> Video:
    """Arrange N clips in one video; frames are enlarged by a whole number to at least 96 pixels.

    Args:
        rows: the rows of each clip, such as the truth and its reconstruction, values clipped to [0, 1], (N, T, H, W, C)
            with 1 or 3 channels.
        predicted: True where the lowest row is a prediction without its frame, bool, (N, T).
        rewards: rewards on arriving at the frames, (N, T); None draws no bars.

    Returns:
        Frames, uint8 on the CPU.

    Example:
        >>> film([torch.zeros(2, 5, 48, 64, 1)], torch.zeros(2, 5, dtype=torch.bool)).shape
        (5, 110, 264, 3)
    """
    pieces = [_enlarged(row) for row in rows]
    clips = torch.cat([*pieces, _strip(predicted, rewards, pieces[0].shape[3] - _GAP)], dim=2)
    count, time, height, width, _ = clips.shape
    frames: np.ndarray = clips.permute(1, 2, 0, 3, 4).reshape(time, height, count * width, 3).numpy()
    return frames


def write_gif(path: Path, video: Video) -> None:
    """Write a video as a GIF that repeats; the directory is made.

    Args:
        path: file to write.
        video: frames, at least one.

    Raises:
        OSError: if the file cannot be written.
    """
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    first, *further = (Image.fromarray(frame) for frame in video)
    with replacement(path) as partial:
        duration = 1000 // _FRAMES_PER_SECOND
        first.save(partial, "GIF", save_all=True, append_images=further, duration=duration, loop=0)


def _enlarged(video: Float[Tensor, "N T H W C"]) -> UInt8[Tensor, "N T height width 3"]:
    """Levels of the frames in RGB, enlarged, with a black gap below and to the right."""
    levels = (video.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    factor = -(-_HEIGHT // levels.shape[2])
    large = levels.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
    return torch.nn.functional.pad(large.expand(*large.shape[:-1], 3), (0, 0, 0, _GAP, 0, _GAP))


def _strip(predicted: Tensor, rewards: Tensor | None, width: int) -> UInt8[Tensor, "N T strip width 3"]:
    value = torch.zeros(predicted.shape) if rewards is None else rewards.detach().float().cpu().clamp(-1, 1)
    ground, bar = (
        torch.where(choice.cpu()[..., None, None], torch.tensor(yes), torch.tensor(no))
        for choice, yes, no in ((predicted, _PREDICTED, _RECORDED), (value >= 0, _GAIN, _LOSS))
    )
    filled = torch.arange(width) < (value.abs() * width).round()[..., None]
    line = torch.where(filled[..., None], bar, ground).to(torch.uint8)
    strip = line[:, :, None].expand(-1, -1, _STRIP, -1, -1)
    return torch.nn.functional.pad(strip, (0, 0, 0, _GAP, 0, _GAP))
