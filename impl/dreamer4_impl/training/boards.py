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


class _Board(Protocol):
    """Receiver of curves and videos; the methods are those of `Boards`."""

    def write(self, values: Mapping[str, float], step: int) -> None: ...

    def show(self, name: str, video: Video, path: Path, step: int) -> None: ...

    def close(self) -> None: ...


class Boards:
    """Boards of a run, each of which is given up at its first failure.

    The global random states are unchanged by all calls, because a checkpoint holds them.

    Args:
        run: directory of the run, which exists.
        step: number of completed steps, 0 or more; TensorBoard hides what later steps had written.
        tensorboard: write TensorBoard's files to RUN/tensorboard.
        tracker: "trackio" or "wandb"; None for no tracker.
        project: project of the tracker.
        report: receives messages about failures.
    """

    def __init__(
        self,
        run: Path,
        step: int,
        *,
        tensorboard: bool,
        tracker: str | None,
        project: str,
        report: Callable[[str], None],
    ) -> None:
        self._report, self._boards = report, dict[str, _Board]()
        if tensorboard:
            with self._guarded("TensorBoard"):
                self._boards["TensorBoard"] = _TensorBoard(run / "tensorboard", step)
        if tracker is not None:
            with self._guarded(tracker):
                self._boards[tracker] = _Tracker(tracker, run, project)

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Add a point to each of some curves.

        Args:
            values: finite numbers by name of the curve.
            step: number of completed steps, 1 or more.
        """
        self._broadcast(lambda board: board.write(values, step))

    def show(self, name: str, video: Video, path: Path, step: int) -> None:
        """Add a video.

        Args:
            name: name of the series of videos.
            video: its frames.
            path: GIF with these frames.
            step: number of completed steps, 1 or more.
        """
        self._broadcast(lambda board: board.show(name, video, path, step))

    def close(self) -> None:
        """Close all boards, which waits until a tracker has sent everything; later calls do nothing."""
        self._broadcast(lambda board: board.close())
        self._boards.clear()

    def _broadcast(self, action: Callable[[_Board], None]) -> None:
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


class _TensorBoard:
    """TensorBoard's files."""

    def __init__(self, directory: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(directory), purge_step=step + 1)

    def write(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def show(self, name: str, video: Video, path: Path, step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        # An image that is a GIF is animated. SummaryWriter.add_video does the same, and needs the package moviepy.
        _, height, width, colours = video.shape
        image = Summary.Image(height=height, width=width, colorspace=colours, encoded_image_string=path.read_bytes())
        self._writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=f"media/{name}", image=image)]), step)

    def close(self) -> None:
        self._writer.close()


class _Tracker:
    """Run of trackio or wandb, named like the run's directory.

    RUN/tracker.json identifies the tracker's run. A directory that has it continues that run.
    """

    def __init__(self, package: str, run: Path, project: str) -> None:
        self._package: Any = import_module(package)
        path, key, earlier = run / "tracker.json", KEYS[package], {}
        with suppress(OSError, ValueError):
            earlier = dict(read_json(path))
        named = {"name": run.resolve().name, "resume": "never"}
        if package in earlier:
            named |= {key: earlier[package], "resume": "allow"}
        self._run = self._package.init(project=project, **named)
        write_text(path, json.dumps(earlier | {package: getattr(self._run, key)}))

    def write(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def show(self, name: str, video: Video, path: Path, step: int) -> None:
        self._run.log({f"media/{name}": self._package.Video(str(path))}, step=step)

    def close(self) -> None:
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
