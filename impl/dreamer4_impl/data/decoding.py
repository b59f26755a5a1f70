"""Decoding of video files through PyAV (extra `video`): pictures as players show them, their times, and damage."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import UInt8

from dreamer4_impl.data.format import DatasetError

#: Seconds by which the time of a frame may be rounded: containers such as Matroska count milliseconds.
CLOCK = 0.001


def frame_rate(file: Path) -> float:
    """Read the frame rate that a video declares.

    Args:
        file: video file.

    Returns:
        Frames per second, the mean for a variable rate; 0 if the file declares none.

    Raises:
        DatasetError: if PyAV is not installed, or the file cannot be read as a video.
    """
    with _opened(file) as (_, stream):
        return float(stream.average_rate or 0)


def decoded(file: Path, start: float = 0.0, content: BinaryIO | None = None) -> Iterator[tuple[float, Any]]:
    """Decode the frames of a video.

    Args:
        file: video file in any format that FFmpeg reads.
        start: seconds from which frames are needed; decoding begins at the last key frame before.
        content: content of the file if it is in memory; `file` is then its name in messages.

    Returns:
        Iterator over pairs of a frame's time in seconds and the frame of PyAV.

    Raises:
        DatasetError: if PyAV is not installed, the file cannot be read as a video, a frame is damaged, or the file
            breaks off, which is known only when all its frames are read from the start.
    """
    with _opened(file, content) as (container, stream):
        if start > 0:
            container.seek(int(start / stream.time_base), stream=stream)
        times: list[float] = []
        for number, frame in enumerate(container.decode(stream)):
            if frame.is_corrupt:
                raise DatasetError(f"{file} is damaged: frame {number} cannot be decoded completely")
            times.append(number if frame.time is None else frame.time)
            yield times[-1], frame
        if not start:
            _require_complete(file, times, container, stream)


def resampled(frames: Iterable[tuple[float, Any]], fps: float) -> Iterator[Any]:
    """Select the frames that a player shows at the times 0, 1/fps, 2/fps, … after the first frame.

    Args:
        frames: pairs of a time in seconds, increasing, and a frame.
        fps: frames per second of the result, above 0.

    Returns:
        Iterator over frames; a frame occurs several times if it is shown that long. The last one is taken to be shown
        as long as the one before it.

    Example:
        >>> list(resampled([(0.0, "a"), (0.1, "b"), (0.2, "c"), (0.3, "d")], fps=5))
        ['a', 'c']
        >>> list(resampled([(0.0, "a"), (0.1, "b")], fps=20))
        ['a', 'a', 'b', 'b']
    """
    first: float | None = None
    shown: tuple[float, Any] | None = None
    count, interval = 0, 0.0
    for time, frame in frames:
        first = time if first is None else first
        while shown and first + count / fps < time - CLOCK:
            yield shown[1]
            count += 1
        interval = time - shown[0] if shown else interval
        shown = time, frame
    while shown and first is not None and (count == 0 or first + count / fps < shown[0] + max(interval, CLOCK) - CLOCK):
        yield shown[1]
        count += 1


def frames_at(file: Path, times: Sequence[float], tolerance: float) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Decode the pictures at some times of a video.

    Args:
        file: video file.
        times: seconds, increasing, 0 or more.
        tolerance: largest distance in seconds between a time and that of its frame.

    Returns:
        Iterator over one picture per time.

    Raises:
        DatasetError: if the video has no frame at a time, or as for `decoded`.
    """
    missing = iter(times)
    wanted = next(missing, None)
    for time, frame in decoded(file, max(0.0, times[0] - tolerance)) if times else ():
        if wanted is None or wanted < time - tolerance:
            break
        if abs(time - wanted) <= tolerance:
            yield upright(frame, file)
            wanted = next(missing, None)
    if wanted is not None:
        raise DatasetError(f"{file} is damaged: it has no frame at {wanted:.3f} s")


def upright(frame: Any, file: Path) -> UInt8[np.ndarray, "H W 3"]:
    """Convert a frame to the picture that players show: phones store it sideways or mirrored, with a matrix.

    Args:
        frame: frame of PyAV.
        file: its file, for messages.

    Returns:
        Red, green and blue in [0, 255].

    Raises:
        DatasetError: if the picture is turned by another angle than a multiple of 90 degrees.
    """
    picture = frame.to_ndarray(format="rgb24")
    if (matrix := frame.side_data.get("DISPLAYMATRIX")) is None:
        return picture
    # A pixel in column p and row q is shown in column a p + c q and row b p + d q, up to a shift.
    (a, b), (c, d) = np.frombuffer(bytes(matrix), np.int32).reshape(3, 3)[:2, :2].tolist()
    if (a or d) and (b or c):
        raise DatasetError(f"{file} is turned by {frame.rotation} degrees; it needs a multiple of 90")
    if b:
        picture, a, d = picture.swapaxes(0, 1), c, b
    return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


@contextmanager
def _opened(file: Path, content: BinaryIO | None = None) -> Iterator[tuple[Any, Any]]:
    """Container and best video stream of a file; errors of FFmpeg become messages."""
    try:
        import av
    except ImportError as error:
        raise DatasetError(f"reading {file} needs PyAV: pip install 'dreamer4-conformance[video]'") from error
    try:
        with closing(av.open(content or str(file))) as container:
            # Not simply the first stream, which may be the picture of a cover.
            stream = container.streams.best("video")
            if stream is None:
                raise DatasetError(f"{file} has no video in it")
            yield container, stream
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
    if not times:
        raise DatasetError(f"{file} has no frames")
    declared = _declared_seconds(container, stream)
    single = 1 / float(stream.average_rate) if stream.average_rate else declared
    seconds = times[-1] - times[0] + max(np.diff(times), default=single)
    if seconds < 0.9 * declared or len(times) < 0.9 * stream.frames:
        raise DatasetError(
            f"{file} is damaged: it breaks off after {len(times)} frames, {seconds:.1f} s; it declares "
            f"{stream.frames or 'no number of'} frames, {declared:.1f} s. Download or convert it again, or leave it out"
        )
