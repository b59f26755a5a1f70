"""Videos as unlabelled clips: frames without actions, rewards and ends (extra `video`)."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.format import DatasetError, Header
from dreamer4_impl.data.progress import Told, after, nobody
from dreamer4_impl.data.resizing import grey, resize
from dreamer4_impl.data.writer import SHARD_FRAMES, DatasetWriter
from dreamer4_impl.layers.actions import Component


@dataclass(frozen=True)
class VideoView:
    """How videos are looked at.

    Args:
        height, width: of a frame, in pixels; the picture is stretched to them.
        grey: one channel, not three.
        every: of the video's frames, each `every`-th is taken.
        longest: frames after which an episode is cut, as it must fit in memory.
    """

    height: int
    width: int
    grey: bool = False
    every: int = 1
    longest: int = SHARD_FRAMES

    def __post_init__(self) -> None:
        """Refuse a view of nothing."""
        for name in ("height", "width", "every", "longest"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more; got {getattr(self, name)}")


def record_videos(
    files: Sequence[Path | str],
    path: Path | str,
    view: VideoView,
    components: Sequence[Component] = (),
    task: str = "video",
    progress: Told = nobody,
) -> Dataset:
    """Write the frames of video files to the directory `path` as a dataset in which no action is labelled.

    Args:
        files: in any format that FFmpeg reads; each becomes one episode, or several where it is long.
        path: of the dataset.
        view: how they are looked at.
        components: of the actions that nobody knows: those of the labelled dataset that it is trained beside.
        task: its name.
        progress: told how many frames there are, after each episode.
    """
    meta = {"videos": [Path(file).name for file in files], "every": view.every, "longest": view.longest}
    channels = 1 if view.grey else 3
    header = Header("video", view.height, view.width, channels, tuple(components), meta=meta)
    with DatasetWriter(path, header) as writer:
        for file in files:
            for frames in _episodes(Path(file), view, progress, writer.frames):
                writer.add_episode(frames, task=task)
    return Dataset.open(path)


def _episodes(file: Path, view: VideoView, progress: Told, done: int) -> Iterator[UInt8[np.ndarray, "T H W C"]]:
    told = after(done, progress)
    frames, count = _frames(file, view), 0
    while episode := list(islice(frames, view.longest)):
        count += len(episode)
        told(count)
        yield np.stack(episode)
    if not count:
        raise DatasetError(f"{file} has no frames")


def _frames(file: Path, view: VideoView) -> Iterator[UInt8[np.ndarray, "H W C"]]:
    try:
        import av
    except ImportError as error:
        raise DatasetError(f"reading {file} needs PyAV: pip install 'dreamer4-conformance[video]'") from error
    try:
        with closing(av.open(str(file))) as container:
            if not container.streams.video:
                raise DatasetError(f"{file} has no video in it")
            for frame in islice(container.decode(video=0), 0, None, view.every):
                yield _seen(frame, view)
    except (av.FFmpegError, OSError) as error:
        raise DatasetError(f"{file} cannot be read as a video: {error}") from error


def _seen(frame: Any, view: VideoView) -> UInt8[np.ndarray, "H W C"]:
    picture = frame.to_ndarray(format="rgb24")
    return resize(grey(picture) if view.grey else picture, view.height, view.width)
