"""The command `dreamer4-record import`: datasets of other projects as datasets of this one."""

import argparse
from pathlib import Path

from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.format import DatasetError
from dreamer4_impl.data.frame_view import FrameView
from dreamer4_impl.data.importing.lerobot import open_lerobot
from dreamer4_impl.data.importing.minari import open_minari
from dreamer4_impl.data.importing.vpt import open_vpt
from dreamer4_impl.data.progress import progress_bar
from dreamer4_impl.data.source import Source, write_source

IMPORT = """\
Imports recordings of other projects, with their actions, rewards, ends and tasks.

  dreamer4-record import atari/breakout/expert-v0 --out breakout    a local dataset of Minari, by its id or folder
  dreamer4-record import contractors --out minecraft --size 128     a folder of videos and actions as OpenAI's VPT has
  dreamer4-record import pusht --out pusht --size 96                a dataset in LeRobot's format, version 2 or 3
  dreamer4-record import pusht --out pusht --size 96 --resume       continues an interrupted import

What SOURCE is follows from its files: meta/info.json is LeRobot's, data/metadata.json is Minari's, pairs of .mp4 and
.jsonl are VPT's. Everything else is written by a few lines of Python: see dreamer4_impl.data.writer.DatasetWriter.
"""

IMPORT_END = """\
exit status: 0 imported, 1 imported without what is damaged (--damaged skip), 2 wrong usage, or a source that is damaged
or cannot be read, 130 interrupted
"""


def open_source(name: str, view: FrameView, camera: str | None = None, task: str | None = None) -> Source:
    """Open recordings in one of the formats that can be imported.

    Args:
        name: folder, or id of a local dataset of Minari.
        view: size and colour of the frames.
        camera: camera of a dataset that has several; None for the only one.
        task: name of the task; None keeps those of the source.

    Returns:
        The source.

    Raises:
        DatasetError: if the source is of none of the formats, is damaged, or its package is not installed.
    """
    folder = Path(name)
    if (folder / "meta" / "info.json").is_file():
        return open_lerobot(folder, view, camera, task)
    if not folder.is_dir() or (folder / "data" / "metadata.json").is_file():
        return open_minari(name, view, camera, task)
    if camera is not None:
        raise DatasetError(f"recordings of VPT have one camera; got {camera}")
    return open_vpt(folder, view, task)


def import_source(options: argparse.Namespace) -> Dataset:
    """Run the command.

    Args:
        options: parsed arguments.

    Returns:
        The dataset.

    Raises:
        DatasetError: if the source cannot be read or the dataset cannot be written.
        ValueError: if an option is out of range.
    """
    height, width = options.size
    source = open_source(options.source, FrameView(height, width, options.grey), options.camera, options.task)
    with progress_bar("importing", source.frames) as progress:
        return write_source(source, options.out, options.resume, options.damaged, progress)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that imports alone have.

    Args:
        parser: parser of the command.
    """
    parser.add_argument("source", metavar="SOURCE", help="folder, or id of a local dataset of Minari")
    parser.add_argument(
        "--camera", metavar="KEY", help="pictures to take, such as observation.images.top, where there are several"
    )
    parser.add_argument("--task", metavar="NAME", help="name of the task (default: the tasks of the source)")
