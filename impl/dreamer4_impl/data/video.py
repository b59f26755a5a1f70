"""Videos as datasets without actions, rewards and terminations (extra `video`)."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from dreamer4_impl.arguments import require_at_least
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.format import DatasetError, Header
from dreamer4_impl.data.progress import OnFrames, ignore
from dreamer4_impl.data.resizing import grey, resize
from dreamer4_impl.data.writer import SHARD_FRAMES, DatasetWriter
from dreamer4_impl.layers.actions import Component


@dataclass(frozen=True)
class VideoView:
    """Size, colour and rate of the frames that are taken from videos.

    Args:
        height: pixels, 1 or more; the picture is stretched to the size.
        width: pixels, 1 or more.
        grey: one channel instead of three.
        every: take every n-th frame of the video, 1 or more.
        longest: frames after which an episode is cut, because it must fit in memory; 1 or more.

    Raises:
        ValueError: if a value is out of range.
    """

    height: int
    width: int
    grey: bool = False
    every: int = 1
    longest: int = SHARD_FRAMES

    def __post_init__(self) -> None:
        require_at_least(1, height=self.height, width=self.width, every=self.every, longest=self.longest)


def record_videos(
    files: Sequence[Path | str],
    path: Path | str,
    view: VideoView,
    components: Sequence[Component] = (),
    task: str = "video",
    progress: OnFrames = ignore,
) -> Dataset:
    """Write the frames of video files as a dataset without labelled actions.

    Args:
        files: video files in any format that FFmpeg reads; a long file becomes several episodes.
        path: directory of the dataset.
        view: size, colour and rate of the frames.
        components: action components of the labelled dataset that the videos are combined with; unlabelled here.
        task: name of the task.
        progress: called with the number of recorded frames after each episode.

    Returns:
        The recorded dataset.

    Raises:
        DatasetError: if PyAV is not installed, a file cannot be read as a video, or the directory holds a dataset.
    """
    meta = {"videos": [Path(file).name for file in files], "every": view.every, "longest": view.longest}
    channels = 1 if view.grey else 3
    header = Header("video", view.height, view.width, channels, tuple(components), meta=meta)
    with DatasetWriter(path, header) as writer:
        for file in files:
            for frames in _episodes(Path(file), view, progress, writer.frames):
                writer.add_episode(frames, task=task)
    return Dataset.open(path)


def _episodes(file: Path, view: VideoView, progress: OnFrames, done: int) -> Iterator[UInt8[np.ndarray, "T H W C"]]:
    frames, count = _frames(file, view), 0
    while episode := list(islice(frames, view.longest)):
        count += len(episode)
        progress(done + count)
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
            stream, times = container.streams.video[0], []
            for number, frame in enumerate(container.decode(stream)):
                if frame.is_corrupt:
                    raise DatasetError(f"{file} is damaged: frame {number} cannot be decoded completely")
                times.append(number if frame.time is None else frame.time)
                if number % view.every == 0:
                    yield _resized(_turned(frame, file), view)
            _require_complete(file, times, container, stream)
    except (av.FFmpegError, OSError) as error:
        raise DatasetError(f"{file} cannot be read as a video: {error}") from error


def _declared_seconds(container: Any, stream: Any) -> float:
    """Length of the video in seconds as the file declares it; 0 if it does not."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if duration := stream.metadata.get("DURATION"):  # Matroska: 00:00:01.000000000
        hours, minutes, seconds = map(float, duration.split(":"))
        return 3600 * hours + 60 * minutes + seconds
    # The length of the container is that of its longest stream.
    return float(container.duration or 0) / 1e6 if len(container.streams) == 1 else 0.0


def _require_complete(file: Path, times: Sequence[float], container: Any, stream: Any) -> None:
    """Refuse a file that breaks off. What a file declares is not exact: a tenth may be missing."""
    declared = _declared_seconds(container, stream)
    seconds = times[-1] - times[0] + max(np.diff(times), default=declared) if times else 0.0
    if seconds < 0.9 * declared or len(times) < 0.9 * stream.frames:
        raise DatasetError(
            f"{file} is damaged: it breaks off after {len(times)} frames, {seconds:.1f} s; it declares "
            f"{stream.frames or 'no number of'} frames, {declared:.1f} s. Download or convert it again, or leave it out"
        )


def _turned(frame: Any, file: Path) -> UInt8[np.ndarray, "H W 3"]:
    """The picture as players show it: phones store it sideways, with an angle in degrees counterclockwise."""
    if frame.rotation % 90:
        raise DatasetError(f"{file} is turned by {frame.rotation} degrees; it needs a multiple of 90")
    return np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)


def _resized(picture: UInt8[np.ndarray, "H W 3"], view: VideoView) -> UInt8[np.ndarray, "H W C"]:
    return resize(grey(picture) if view.grey else picture, view.height, view.width)
