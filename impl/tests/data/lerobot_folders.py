"""Folders in LeRobot's format, written from its specification."""

import json

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from .films import film

FPS = 10
CAMERA = "observation.images.top"
#: Lengths of the episodes, and the index of the task of each.
LENGTHS, TASKS = (4, 3), (0, 1)
TEXTS = ("push the block", "open the drawer")


def features(camera="video", rewards=True, action=(2,)):
    row = {"shape": [1], "names": None}
    index = {name: {"dtype": "int64", **row} for name in ("frame_index", "episode_index", "index", "task_index")}
    results = {"next.reward": {"dtype": "float32", **row}, "next.done": {"dtype": "bool", **row}} if rewards else {}
    return {
        CAMERA: {"dtype": camera, "shape": [8, 16, 3], "names": ["height", "width", "channels"]},
        "action": {"dtype": "float32", "shape": list(action), "names": {"motors": ["shoulder", "gripper"]}},
        "timestamp": {"dtype": "float32", **row},
        **index,
        **results,
    }


def columns(episode, rewards=True):
    """Rows of an episode: action (10 e + t, 100), reward t + 1 for the step from frame t, done in the last row."""
    t = np.arange(LENGTHS[episode])
    actions = pa.array([[10.0 * episode + row, 100.0] for row in t], pa.list_(pa.float32(), 2))
    content = {
        "action": actions,
        "timestamp": (t / FPS).astype(np.float32),
        "frame_index": t,
        "episode_index": np.full(len(t), episode),
        "index": t + sum(LENGTHS[:episode]),
        "task_index": np.full(len(t), TASKS[episode]),
    }
    if rewards:
        content |= {"next.reward": (t + 1).astype(np.float32), "next.done": t == len(t) - 1}
    return pa.table(content)


def write_lines(path, entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def write_table(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)


def level(episode):
    """Red of frame t of an episode."""
    return lambda t: 20 * t + 100 * episode


def version_2(folder, rewards=True):
    """One parquet and one video per episode; metadata as lines of JSON."""
    data = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
    videos = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    info = {"codebase_version": "v2.1", "fps": FPS, "chunks_size": 1, "data_path": data, "video_path": videos}
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "info.json").write_text(json.dumps(info | {"features": features(rewards=rewards)}))
    write_lines(folder / "meta" / "tasks.jsonl", [{"task_index": i, "task": text} for i, text in enumerate(TEXTS)])
    episodes = [{"episode_index": e, "tasks": [TEXTS[TASKS[e]]], "length": length} for e, length in enumerate(LENGTHS)]
    write_lines(folder / "meta" / "episodes.jsonl", episodes)
    for episode, length in enumerate(LENGTHS):
        names = {"episode_chunk": episode, "episode_index": episode, "video_key": CAMERA}
        write_table(folder / data.format(**names), columns(episode, rewards))
        file = folder / videos.format(**names)
        file.parent.mkdir(parents=True)
        film(file, length, FPS, level=level(episode))
    return folder


def version_3(folder, camera="video"):
    """All episodes in one parquet and one video, or with pictures in the rows; metadata as parquet."""
    data = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    videos = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    info = {"codebase_version": "v3.0", "fps": FPS, "data_path": data, "video_path": videos}
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "info.json").write_text(json.dumps(info | {"features": features(camera)}))
    # Tasks are the index of a table of pandas.
    write_table(folder / "meta" / "tasks.parquet", pa.table({"task_index": [0, 1], "__index_level_0__": list(TEXTS)}))
    starts = np.cumsum([0, *LENGTHS])
    episodes = {
        "episode_index": range(len(LENGTHS)),
        "tasks": [[TEXTS[task]] for task in TASKS],
        "length": LENGTHS,
        "data/chunk_index": [0, 0],
        "data/file_index": [0, 0],
        "dataset_from_index": starts[:-1],
        "dataset_to_index": starts[1:],
        f"videos/{CAMERA}/chunk_index": [0, 0],
        f"videos/{CAMERA}/file_index": [0, 0],
        f"videos/{CAMERA}/from_timestamp": starts[:-1] / FPS,
        f"videos/{CAMERA}/to_timestamp": starts[1:] / FPS,
        "stats/action/mean": [[0.0, 0.0]] * 2,
    }
    table = pa.table({name: list(values) for name, values in episodes.items()})
    write_table(folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet", table)
    frames = [(episode, t) for episode, length in enumerate(LENGTHS) for t in range(length)]
    file = folder / videos.format(video_key=CAMERA, chunk_index=0, file_index=0)
    file.parent.mkdir(parents=True)
    film(file, len(frames), FPS, level=lambda n: level(frames[n][0])(frames[n][1]))
    rows = pa.concat_tables([columns(episode) for episode in range(len(LENGTHS))])
    if camera == "image":
        rows = rows.append_column(CAMERA, pa.array([_picture(folder, level(e)(t)) for e, t in frames]))
    write_table(folder / data.format(chunk_index=0, file_index=0), rows)
    return folder


def _picture(folder, value):
    file = film(folder / "picture.png", 1, level=lambda t: value)
    return {"bytes": file.read_bytes(), "path": None}
