"""Datasets in LeRobot's format, versions 2.0, 2.1 and 3.0, read through pyarrow and PyAV (extra `lerobot`).

    meta/info.json      codebase_version, fps, features, data_path, video_path; chunks_size in version 2
    meta/episodes…      number and length of every episode; in version 3 also its files and its place in the video
    meta/tasks…         text of every task_index
    data/…  videos/…    rows and frames: one file per episode in version 2, many episodes per file in version 3

Row t of an episode holds frame t, the action taken at it, and what follows: `next.reward` and `next.done`. The frame
after the last action is not recorded: where there are rewards or ends, the last frame is repeated for them, else the
last action is left out. Actions that are floating-point numbers get mean 0 and standard deviation 1; meta.scale of the
dataset undoes it: action · scale + offset.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from dreamer4_impl.data.decoding import decoded, frames_at, upright
from dreamer4_impl.data.format import DatasetError, Header
from dreamer4_impl.data.frame_view import FrameView
from dreamer4_impl.data.importing.lerobot_files import Files, Recorded, column
from dreamer4_impl.data.source import EpisodeArrays, Source, Unit, episode_of_steps
from dreamer4_impl.layers.actions import Binary, Categorical, Component, Continuous

ACTION, REWARD, DONE = "action", "next.reward", "next.done"


@dataclass(frozen=True)
class Actions:
    """Conversion of the actions of a dataset.

    Args:
        component: component of an action, named "action".
        offset: subtracted from every number, (size,).
        scale: divides every number afterwards, (size,).
    """

    component: Component
    offset: Float64[np.ndarray, " size"]
    scale: Float64[np.ndarray, " size"]

    def convert(self, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Convert the actions of an episode.

        Args:
            values: (T, size), or (T,) for one number.

        Returns:
            Values of the component, (T, …).
        """
        rows = values.reshape(len(values), -1)
        if isinstance(self.component, Continuous):
            return (rows - self.offset) / self.scale
        return rows[:, 0] if isinstance(self.component, Categorical) else rows


def open_lerobot(folder: Path, view: FrameView, camera: str | None = None, task: str | None = None) -> Source:
    """Open a dataset.

    Args:
        folder: folder with meta, data and videos.
        view: size and colour of the frames.
        camera: feature of the pictures, such as "observation.images.top"; None for the only camera.
        task: name of the task; None takes each episode's, joined by " / " if it has several.

    Returns:
        Source with one episode per episode. It terminates if `next.done` is true in its last row.

    Raises:
        DatasetError: if pyarrow is not installed, or the metadata is damaged, lacks a field, or names no pictures or
            actions that can be used.
    """
    files = Files.open(folder)
    camera = _camera(files, camera)
    entries = files.episodes(camera)
    actions = _actions(files, entries)
    name = task or folder.resolve().name
    meta = {
        "format": f"lerobot {files.version}",
        "fps": files.info["fps"],
        "camera": camera,
        "offset": actions.offset.tolist(),
        "scale": actions.scale.tolist(),
        **({"action_names": {ACTION: names}} if (names := _names(files)) else {}),
    }
    header = Header(name, view.height, view.width, view.channels, (actions.component,), meta=meta)
    read = partial(_episode, files, camera, actions, view, task)
    units = [Unit(f"episode {entry.number} of {folder}", partial(read, entry)) for entry in entries]
    repeated = bool(_results(files))
    return Source(header, units, sum(entry.length + repeated for entry in entries))


def _camera(files: Files, camera: str | None) -> str:
    depth = [
        key
        for key, feature in files.features.items()
        for info in (feature.get("info") or {}, feature.get("video_info") or {})
        if info.get("is_depth_map") or info.get("video.is_depth_map")
    ]
    cameras = [
        key for key, feature in files.features.items() if feature["dtype"] in ("video", "image") and key not in depth
    ]
    if camera is None and len(cameras) == 1:
        return cameras[0]
    if camera not in cameras:
        wanted = "choose one, --camera KEY" if cameras else "the dataset has no pictures"
        raise DatasetError(f"{files.folder} has the cameras {cameras}: {wanted}; got {camera}")
    return camera


def _names(files: Files) -> list[str] | None:
    names = files.features[ACTION].get("names")
    if isinstance(names, dict) and len(names) == 1:
        (names,) = names.values()
    return [str(name) for name in names] if isinstance(names, list) else None


def _results(files: Files) -> list[str]:
    """Columns of what follows an action."""
    return [name for name in (REWARD, DONE) if name in files.features]


def _actions(files: Files, entries: Sequence[Recorded]) -> Actions:
    """Component of the actions and, for floating-point numbers, mean and deviation over all rows that can be read."""
    feature = files.feature(ACTION)
    size, dtype = int(np.prod(feature["shape"])), str(feature["dtype"])
    none = Actions(Binary(ACTION, size), np.zeros(size), np.ones(size))
    if dtype == "bool":
        return none
    count, total, squares, top = 0, np.zeros(size), np.zeros(size), 0
    for table in files.readable(entries, [ACTION]):
        values = column(table, ACTION, (size,)).astype(np.float64)
        count, total, squares = count + len(values), total + values.sum(0), squares + (values**2).sum(0)
        top = max(top, int(values.max(initial=0)))
    if dtype.startswith("int") and size == 1:
        return Actions(Categorical(ACTION, top + 1), none.offset, none.scale)
    mean = total / max(count, 1)
    deviation = np.sqrt(np.maximum(squares / max(count, 1) - mean**2, 0))
    return Actions(Continuous(ACTION, size), mean, np.where(deviation > 1e-6, deviation, 1.0))


def _episode(
    files: Files, camera: str, actions: Actions, view: FrameView, task: str | None, entry: Recorded
) -> Iterator[EpisodeArrays]:
    video = files.features[camera]["dtype"] == "video"
    results = _results(files)
    table = files.rows(entry, [ACTION, *results, *(() if video else (camera,))])
    pictures = _filmed(files, entry) if video else _stored(table, camera, entry)
    frames = np.stack([view.frame(picture) for picture in pictures])
    rewards = column(table, REWARD, ()) if REWARD in results else None
    done = column(table, DONE, ()).astype(bool) if DONE in results else np.zeros(entry.length, bool)
    if done[:-1].any():
        raise DatasetError(f"episode {entry.number} is damaged: {DONE} is true in row {done.argmax()}, not in the last")
    if results:
        frames = np.concatenate([frames, frames[-1:]])
    values = actions.convert(column(table, ACTION, (actions.component.size,) if actions.offset.size > 1 else ()))
    steps = {ACTION: values}
    yield episode_of_steps(frames, steps, rewards, bool(done[-1]), task=task or files.task(table, entry))


def _filmed(files: Files, entry: Recorded) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    fps = float(files.info["fps"])
    times = [entry.start + row / fps for row in range(entry.length)]
    return frames_at(entry.video or files.folder, times, tolerance=0.5 / fps)


def _stored(table: Any, camera: str, entry: Recorded) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Pictures that the rows hold as files."""
    for row, picture in enumerate(table.column(camera).to_pylist()):
        where = Path(f"{camera}, row {row} of episode {entry.number}")
        if not picture or not picture.get("bytes"):
            raise DatasetError(f"{where} holds no picture")
        (_, frame), *_ = decoded(where, content=BytesIO(picture["bytes"]))
        yield upright(frame, where)
