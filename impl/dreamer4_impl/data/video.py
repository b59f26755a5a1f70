"""Videos as datasets without actions, rewards and terminations (extra `video`)."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dreamer4_impl.arguments import require_at_least
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.decoding import decoded, frame_rate, resampled, upright
from dreamer4_impl.data.format import DatasetError, Header
from dreamer4_impl.data.frame_view import FrameView
from dreamer4_impl.data.progress import OnFrames, ignore
from dreamer4_impl.data.source import EpisodeArrays, Source, Unit, write_source
from dreamer4_impl.data.writer import SHARD_FRAMES
from dreamer4_impl.layers.actions import Component


@dataclass(frozen=True)
class VideoView(FrameView):
    """Size, colour and rate of the frames that are taken from videos.

    Args:
        height: pixels, 1 or more; the picture is stretched to the size.
        width: pixels, 1 or more.
        grey: one channel instead of three.
        every: take every n-th frame of the video, 1 or more; 1 with `fps`.
        longest: frames after which an episode is cut, because it must fit in memory; 1 or more.
        fps: frames per second of the dataset: the frames that a player shows at these times; None keeps those of each
            video.

    Raises:
        ValueError: if a value is out of range, or `every` and `fps` are both set.
    """

    every: int = 1
    longest: int = SHARD_FRAMES
    fps: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, every=self.every, longest=self.longest)
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise ValueError(f"fps must lie in (0, 1000]; got {self.fps}")
        if self.fps is not None and self.every > 1:
            raise ValueError(f"fps and every both select frames, use one of them; got {self.fps} and {self.every}")


def record_videos(
    files: Sequence[Path | str],
    path: Path | str,
    view: VideoView,
    components: Sequence[Component] = (),
    task: str = "video",
    progress: OnFrames = ignore,
    resume: bool = False,
    damaged: Literal["refuse", "skip"] = "refuse",
    shard_frames: int = SHARD_FRAMES,
) -> Dataset:
    """Write the frames of video files as a dataset without labelled actions.

    The dataset's meta holds the rate of its frames per second, `fps`, one number per file; 0 if it is unknown. Files
    whose rates differ by more than a hundredth get a warning.

    Args:
        files: video files in any format that FFmpeg reads; a long file becomes several episodes.
        path: directory of the dataset.
        view: size, colour and rate of the frames.
        components: action components of the labelled dataset that the videos are combined with; unlabelled here.
        task: name of the task.
        progress: called with the number of recorded frames after each episode.
        resume: continue an interrupted recording of the same files; complete files are not read again.
        damaged: treatment of a damaged file: "refuse" raises, "skip" warns and leaves out what follows the damage.
        shard_frames: frames after which a shard is closed at the end of an episode, 1 or more.

    Returns:
        The recorded dataset.

    Raises:
        DatasetError: if PyAV is not installed, a file cannot be read as a video, or the directory holds a dataset and
            `resume` is False, or one of other files or settings.
        ValueError: if an option is unknown.
    """
    paths = [Path(file) for file in files]
    rates = [_rate(file, view, damaged) for file in paths]
    _warn_of_different_rates(rates)
    meta = {"videos": [file.name for file in paths], "fps": rates, "every": view.every, "longest": view.longest}
    header = Header("video", view.height, view.width, view.channels, tuple(components), meta=meta)
    units = [Unit(str(file), partial(_episodes, file, view, task)) for file in paths]
    return write_source(Source(header, units), path, resume, damaged, progress, shard_frames)


def _rate(file: Path, view: VideoView, damaged: str) -> float:
    """Frames per second in the dataset; opens the file, so that one that cannot be read is refused at the start."""
    try:
        rate = frame_rate(file) / view.every
        return view.fps or rate
    except DatasetError:
        if damaged == "refuse":
            raise
        return 0.0


def _warn_of_different_rates(rates: Sequence[float]) -> None:
    stated = [rate for rate in rates if rate]
    if stated and max(stated) > 1.01 * min(stated):
        warnings.warn(
            f"the frames of these videos come at {min(stated):g} to {max(stated):g} per second: choose one rate (fps), "
            "unless the model is to see different speeds",
            stacklevel=3,
        )


def _episodes(file: Path, view: VideoView, task: str) -> Iterator[EpisodeArrays]:
    frames = (view.frame(upright(frame, file)) for frame in _selected(file, view))
    while episode := list(islice(frames, view.longest)):
        yield {"frames": np.stack(episode), "task": task}


def _selected(file: Path, view: VideoView) -> Iterator[Any]:
    if view.fps is not None:
        return resampled(decoded(file), view.fps)
    return islice((frame for _, frame in decoded(file)), 0, None, view.every)
