"""Files of LeRobot's format: metadata of both layouts, and rows of episodes as tables of pyarrow."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from dreamer4_impl.data.format import DatasetError

ROW, TASK, EPISODE = "frame_index", "task_index", "episode_index"
VERSIONS: Final = ("v2.0", "v2.1", "v3.0")


@dataclass(frozen=True)
class Recorded:
    """Files of an episode.

    Args:
        number: index of the episode.
        length: number of rows, 1 or more.
        tasks: texts of its tasks as the metadata of the episode list them.
        data: file of its rows.
        video: file of its frames; None if the rows hold them.
        start: time of the first frame in the video, seconds.
    """

    number: int
    length: int
    tasks: tuple[str, ...]
    data: Path
    video: Path | None
    start: float


@dataclass(frozen=True)
class Files:
    """Metadata of a dataset.

    Args:
        folder: folder with meta, data and videos.
        info: content of meta/info.json.
        tasks: text of every task by its index.
    """

    folder: Path
    info: Mapping[str, Any]
    tasks: Mapping[int, str]

    @classmethod
    def open(cls, folder: Path) -> "Files":
        """Read the metadata.

        Args:
            folder: folder with meta, data and videos.

        Returns:
            The metadata, checked for the fields that every dataset needs.

        Raises:
            DatasetError: if info.json or the tasks are missing or damaged, or the version is none of `VERSIONS`.
        """
        file = folder / "meta" / "info.json"
        info = _json(file, _text(file))
        missing = [name for name in ("codebase_version", "fps", "features", "data_path") if not info.get(name)]
        if missing:
            raise DatasetError(f"{file} lacks {', '.join(missing)}")
        if info["codebase_version"] not in VERSIONS:
            raise DatasetError(f"{folder} has version {info['codebase_version']}; it must be {', '.join(VERSIONS)}")
        features = info["features"]
        if not isinstance(features, dict) or not all(map(_is_feature, features.values())):
            raise DatasetError(f"{file} is damaged: every feature must have a dtype and a shape")
        if isinstance(info["fps"], bool) or not isinstance(info["fps"], int | float) or not 0 < info["fps"] < 1e6:
            raise DatasetError(f"{file} is damaged: fps must be a number above 0; got {info['fps']!r}")
        return cls(folder, info, _tasks(folder))

    @property
    def version(self) -> str:
        """Version of the format.

        Returns:
            "v2.0", "v2.1" or "v3.0".
        """
        return str(self.info["codebase_version"])

    @property
    def features(self) -> Mapping[str, Any]:
        """Columns of the rows, and cameras.

        Returns:
            Dtype, shape and names by column.
        """
        return dict(self.info["features"])

    def feature(self, name: str) -> Mapping[str, Any]:
        """Look up a feature.

        Args:
            name: name of the column or camera.

        Returns:
            Its dtype, shape and names.

        Raises:
            DatasetError: if there is none.
        """
        if name not in self.features:
            raise DatasetError(f"{self.folder} lacks the feature {name}; it has {', '.join(sorted(self.features))}")
        return dict(self.features[name])

    def episodes(self, camera: str) -> list[Recorded]:
        """List the episodes.

        Args:
            camera: feature of the pictures.

        Returns:
            Episodes in the order of their numbers.

        Raises:
            DatasetError: if the metadata of the episodes are missing, damaged, or lack a field.
        """
        entries = _episode_entries(self.folder, self.version)
        try:
            recorded = [self._recorded(entry, camera) for entry in entries]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise DatasetError(f"{self.folder}/meta: an episode or a path lacks {error}") from error
        if not recorded:
            raise DatasetError(f"{self.folder} has no episodes")
        return sorted(recorded, key=lambda episode: episode.number)

    def _recorded(self, entry: Mapping[str, Any], camera: str) -> Recorded:
        number = int(entry[EPISODE])
        video, start = None, 0.0
        names: dict[str, Any] = {EPISODE: number, "episode_chunk": number // int(self.info.get("chunks_size", 1000))}
        rows = names | {key.removeprefix("data/"): entry[key] for key in entry if key.startswith("data/")}
        if self.features[camera]["dtype"] == "video":
            prefix = f"videos/{camera}/"
            filmed = {key.removeprefix(prefix): entry[key] for key in entry if key.startswith(prefix)}
            video = self.folder / str(self.info["video_path"]).format(video_key=camera, **names | filmed)
            start = float(entry[f"{prefix}from_timestamp"] if self.version == "v3.0" else 0.0)
        data = self.folder / str(self.info["data_path"]).format(**rows)
        return Recorded(number, int(entry["length"]), tuple(entry.get("tasks") or ()), data, video, start)

    def rows(self, episode: Recorded, columns: Sequence[str]) -> Any:
        """Read the rows of an episode.

        Args:
            episode: number, length, and place in the data and video files, as in `episodes`.
            columns: names of the columns.

        Returns:
            Table of pyarrow with these columns and `task_index` if the dataset has it, in the order of the frames.

        Raises:
            DatasetError: if the file cannot be read, lacks a column, or does not have all rows.
        """
        extra = [name for name in (EPISODE, ROW, TASK) if name in self.features]
        chosen = [(EPISODE, "==", episode.number)] if EPISODE in extra else None
        table = _table(episode.data, [*columns, *extra], chosen)
        if ROW in extra:
            table = table.sort_by(ROW)
        numbers = column(table, ROW, ()) if ROW in extra else np.arange(len(table))
        if len(table) != episode.length or (numbers != np.arange(len(table))).any():
            raise DatasetError(
                f"{episode.data} is damaged: episode {episode.number} must have the rows 0 to {episode.length - 1}; "
                f"got {len(table)} rows"
            )
        return table

    def readable(self, episodes: Sequence[Recorded], columns: Sequence[str]) -> Iterator[Any]:
        """Read columns of all rows.

        Args:
            episodes: episodes whose files are read.
            columns: names of the columns.

        Returns:
            Iterator over the tables of the files; those that cannot be read are left out.
        """
        for file in dict.fromkeys(episode.data for episode in episodes):
            try:
                yield _table(file, columns)
            except DatasetError:  # reported when its episodes are read
                continue

    def task(self, table: Any, episode: Recorded) -> str:
        """Text of an episode's task.

        Args:
            table: rows of the episode.
            episode: number, length, and place in the files of the episode with these rows.

        Returns:
            Texts of all its tasks, joined by " / "; empty if the dataset has none.

        Raises:
            DatasetError: if the metadata lack a task of the rows.
        """
        if TASK not in table.column_names:
            return " / ".join(episode.tasks)
        indices = dict.fromkeys(column(table, TASK, ()).astype(int).tolist())
        missing = [index for index in indices if index not in self.tasks]
        if missing:
            raise DatasetError(f"{self.folder}/meta lacks the task {missing[0]} of episode {episode.number}")
        return " / ".join(self.tasks[index] for index in indices)


def column(table: Any, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Convert a column to an array.

    Args:
        table: table of pyarrow.
        name: name of the column.
        shape: shape of one row.

    Returns:
        Array (N, *shape); missing numbers are NaN.

    Raises:
        DatasetError: if a row has another shape.
    """
    values = table.column(name).combine_chunks()
    while hasattr(values, "flatten") and hasattr(values.type, "value_type"):
        values = values.flatten()
    array = values.to_numpy(zero_copy_only=False)
    if array.size != len(table) * int(np.prod(shape)):
        raise DatasetError(f"the column {name} must have {shape} values per row; got {array.size} in {len(table)} rows")
    return array.reshape(len(table), *shape)


def _is_feature(feature: Any) -> bool:
    if not isinstance(feature, dict) or not isinstance(feature.get("dtype"), str):
        return False
    if not all(isinstance(feature.get(name) or {}, dict) for name in ("info", "video_info")):
        return False
    shape = feature.get("shape")
    return isinstance(shape, list) and all(type(size) is int and size > 0 for size in shape)


def _table(file: Path, columns: Sequence[str] | None = None, filters: Any = None) -> Any:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DatasetError(f"reading {file} needs pyarrow: pip install 'dreamer4-conformance[lerobot]'") from error
    try:
        missing = set(columns or ()) - set(parquet.read_schema(file).names)
        if missing:
            raise DatasetError(f"{file} lacks the columns {sorted(missing)}")
        chosen = None if columns is None else list(columns)
        return parquet.read_table(file, columns=chosen, filters=filters, partitioning=None)
    except (OSError, pyarrow.ArrowException) as error:
        raise DatasetError(f"{file} cannot be read: {error}") from error


def _episode_entries(folder: Path, version: str) -> list[dict[str, Any]]:
    if version != "v3.0":
        return _lines(folder / "meta" / "episodes.jsonl")
    files = sorted((folder / "meta" / "episodes").rglob("*.parquet"))
    # Statistics are large and not needed.
    return [
        {key: entry[key] for key in entry if not key.startswith("stats/")}
        for file in files
        for entry in _table(file).to_pylist()
    ]


def _tasks(folder: Path) -> dict[int, str]:
    file = folder / "meta" / "tasks.parquet"
    if not file.is_file():
        file = file.with_suffix(".jsonl")
        entries = _lines(file) if file.is_file() else []
    else:
        entries = _table(file).to_pylist()
    try:
        # The text is a column, or the index of pandas, which has a name or is called __index_level_0__.
        return {int(entry[TASK]): str(next(entry[key] for key in entry if key != TASK)) for entry in entries}
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        raise DatasetError(f"{file} is damaged: a task lacks its index or text ({error})") from error


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file} cannot be read: {error}") from error


def _json(where: Path | str, text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{where} is damaged: it must hold a JSON object")
    return content


def _lines(file: Path) -> list[dict[str, Any]]:
    return [_json(f"{file}, line {n}", line) for n, line in enumerate(_text(file).splitlines(), 1) if line.strip()]
