"""Boards, which show the curves and videos of a run: TensorBoard, and a tracker by choice.

A board that fails, as a tracker does without a network, is given up with one message: training goes on without it.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol

from dreamer4_impl.durable import read_json, write_text
from dreamer4_impl.training.pictures import Video
from dreamer4_impl.training.randomness import preserved_random_state

KEYS: Final = {"trackio": "name", "wandb": "id"}
"""By tracker, the attribute that identifies its run when that is continued."""


class Board(Protocol):
    """Receiver of curves and videos."""

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Add a point to each of some curves.

        Args:
            values: finite numbers by name of the curve.
            step: number of completed steps, 1 or more.
        """

    def show(self, name: str, video: Video, path: Path, step: int) -> None:
        """Add a video.

        Args:
            name: name of the series of videos.
            video: its frames.
            path: GIF with these frames.
            step: number of completed steps, 1 or more.
        """

    def close(self) -> None:
        """Send what is not sent yet, and end."""


class Boards:
    """Boards of a run, each of which is given up at its first failure.

    The global random states are unchanged by all calls, because a checkpoint holds them.

    Args:
        openers: functions that create the boards, by name for messages.
        report: receives messages about failures.
    """

    def __init__(self, openers: Mapping[str, Callable[[], Board]], report: Callable[[str], None]) -> None:
        self._report, self._boards = report, dict[str, Board]()
        for name, opener in openers.items():
            with self._guarded(name):
                self._boards[name] = opener()

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Add a point to each of some curves; arguments as for `Board.write`."""
        self._broadcast(lambda board: board.write(values, step))

    def show(self, name: str, video: Video, path: Path, step: int) -> None:
        """Add a video; arguments as for `Board.show`."""
        self._broadcast(lambda board: board.show(name, video, path, step))

    def close(self) -> None:
        """Close all boards; later calls do nothing."""
        self._broadcast(lambda board: board.close())
        self._boards.clear()

    def _broadcast(self, action: Callable[[Board], None]) -> None:
        for name, board in list(self._boards.items()):
            with self._guarded(name):
                action(board)

    @contextmanager
    def _guarded(self, name: str) -> Iterator[None]:
        try:
            with preserved_random_state():
                yield
        except Exception as error:  # packages of others raise what they like
            self._boards.pop(name, None)
            self._report(f"{name} failed: {type(error).__name__}: {error}; this run sends it nothing more")


class TensorBoard:
    """TensorBoard's files; a `Board`.

    Args:
        directory: directory of the files, which is made.
        step: number of completed steps, 0 or more; TensorBoard hides what later steps had written.

    Raises:
        OSError: if the directory cannot be written.
        ModuleNotFoundError: if the package tensorboard is not installed.
    """

    def __init__(self, directory: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(directory), purge_step=step + 1)

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Add a point to each of some curves; arguments as for `Board.write`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def show(self, name: str, video: Video, path: Path, step: int) -> None:
        """Add a video as an image, which TensorBoard animates; arguments as for `Board.show`."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        # SummaryWriter.add_video does the same with the package moviepy, which encodes the GIF anew.
        _, height, width, colours = video.shape
        image = Summary.Image(height=height, width=width, colorspace=colours, encoded_image_string=path.read_bytes())
        summary = Summary(value=[Summary.Value(tag=f"media/{name}", image=image)])
        self._writer.file_writer.add_summary(summary, step)

    def close(self) -> None:
        """Write what is in memory."""
        self._writer.close()


class Tracker:
    """Run of trackio or wandb, named like the run's directory; a `Board`.

    RUN/tracker.json identifies the tracker's run. A directory that has it continues that run.

    Args:
        package: "trackio" or "wandb".
        run: directory of the run.
        project: project of the tracker.

    Raises:
        Exception: of any kind, if the tracker cannot be used.
    """

    def __init__(self, package: str, run: Path, project: str) -> None:
        self._package: Any = import_module(package)
        path, earlier = run / "tracker.json", {}
        with suppress(OSError, ValueError):
            earlier = dict(read_json(path))
        key = KEYS[package]
        named = {"name": run.resolve().name, "resume": "never"}
        if package in earlier:
            named |= {key: earlier[package], "resume": "allow"}
        self._run = self._package.init(project=project, **named)
        write_text(path, json.dumps(earlier | {package: getattr(self._run, key)}))

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Add a point to each of some curves; arguments as for `Board.write`."""
        self._run.log(dict(values), step=step)

    def show(self, name: str, video: Video, path: Path, step: int) -> None:
        """Add a video, which the tracker copies from its file; arguments as for `Board.show`."""
        self._run.log({f"media/{name}": self._package.Video(str(path))}, step=step)

    def close(self) -> None:
        """Wait until the tracker has stored everything, and end its run."""
        self._run.finish()


def require_tracker(package: str | None) -> None:
    """Raise unless the package of a tracker is installed.

    Args:
        package: value of the setting records.tracker; None imports nothing.

    Raises:
        ModuleNotFoundError: if it is not; the message says how to install it.
    """
    if package is None:
        return
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"records.tracker is {package!r}, which needs {error.name}: pip install 'dreamer4-conformance[{package}]'"
        ) from error
