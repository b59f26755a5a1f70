"""The command `dreamer4-record`: play games, read videos, check datasets.

The parser of a subcommand is shown without what it runs: PyTorch and the packages of games take seconds to import.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dreamer4_impl.streams import safe_streams

if TYPE_CHECKING:
    from dreamer4_impl.data.dataset import Dataset

PLAY = """\
Plays a game and records it as a dataset that dreamer4-train learns from.

  dreamer4-record ALE/Breakout-v5 --out breakout --size 64 --grey
  dreamer4-record ALE/Pong-v5 --out pong --size 64 --grey --policy scripted --epsilon 0:1 --longest 1000
  dreamer4-record ALE/Breakout-v5 --out breakout --size 64 --grey --resume        continues an interrupted recording
  dreamer4-record MiniGrid-DoorKey-6x6-v0 --out door --size 48 --frame-skip 1 --frames-from render
  dreamer4-record my_game.py:Maze-v0 --out maze --policy my_policy.py:Policy      a game and a policy of your own
  dreamer4-record video film.mp4 other.mkv --out films --size 64                  unlabelled frames of videos
  dreamer4-record import pusht --out pusht        datasets of Minari, VPT and LeRobot, see dreamer4-record import --help
  dreamer4-record check breakout                                                  reads every byte of a dataset

A game is any gymnasium environment with images and actions that are Discrete, MultiBinary or Box. MODULE:ID or
FILE.py:ID imports the module that registers it. A policy of your own is a function or class that takes (game,
generator); its result is called without arguments before every step and returns the next action, see
`dreamer4_impl.data.policies`. `dreamer4_impl.examples.rooms` is an example of both.

Behaviour cloning learns from the episodes whose return is above the median, so episodes should differ in quality:
`--epsilon 0:1` draws the share of random actions for each episode.
"""

PLAY_END = """\
Episode e depends only on the seed and e: a resumed recording is the same as an uninterrupted one.

exit status: 0 recorded, 2 wrong usage or a dataset that cannot be written, 130 interrupted
"""

VIDEO = """\
Records the frames of video files as a dataset without actions, to train tokenizer and dynamics on them as well.

  dreamer4-record video film.mp4 other.mkv --out films --size 64
  dreamer4-record video film.mp4 --out films --size 64 --grey --actions-like breakout
  dreamer4-record video phone.mp4 film.mkv --out films --fps 15             the same speed from files of any frame rate
  dreamer4-record video film.mp4 other.mkv --out films --size 64 --resume   continues an interrupted recording
"""

VIDEO_END = """\
exit status: 0 recorded, 1 recorded without what is damaged (--damaged skip), 2 wrong usage, a damaged file, or a
dataset that cannot be written, 130 interrupted
"""

CHECK = """\
Reads every byte of a dataset, compares checksums, lists damaged shards, and prints a summary of the dataset.

exit status: 0 no damage, 1 a shard is damaged, 2 not a dataset
"""


@safe_streams()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `dreamer4-record`.

    Args:
        argv: arguments; None takes those of the process.

    Returns:
        Exit status, as listed in the help texts.

    Raises:
        SystemExit: after `--help` and for arguments that cannot be parsed.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parsers: dict[str, tuple[Callable[[], argparse.ArgumentParser], Callable[[argparse.Namespace], int]]]
    parsers = {
        "video": (_video_parser, _video),
        "import": (_import_parser, _import),
        "check": (_check_parser, _check),
    }
    if argv and argv[0] in parsers:
        parser, run = parsers[argv.pop(0)]
    else:
        parser, run = _play_parser, _play
    options = parser().parse_args(argv)
    try:
        return run(options)
    except (ValueError, OSError) as error:
        print(f"dreamer4-record: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("dreamer4-record: interrupted; complete shards are kept, and --resume continues", file=sys.stderr)
        return 130


def _play(options: argparse.Namespace) -> int:
    from dreamer4_impl.data.game import View
    from dreamer4_impl.data.progress import progress_bar
    from dreamer4_impl.data.record import Recording, record

    recording = Recording(
        options.game,
        options.frames,
        View(
            options.size,
            options.grey,
            options.frame_skip,
            options.repeat_probability,
            options.flicker,
            options.frames_from,
        ),
        options.policy,
        options.epsilon,
        options.seed,
        options.longest,
    )
    with progress_bar(f"playing {options.game}", options.frames) as progress:
        dataset = record(recording, options.out, options.resume, progress)
    _describe(dataset, options.out)
    return 0


def _video(options: argparse.Namespace) -> int:
    from dreamer4_impl.data.format import read_header
    from dreamer4_impl.data.progress import progress_bar
    from dreamer4_impl.data.video import VideoView, record_videos

    height, width = options.size
    view = VideoView(height, width, grey=options.grey, every=options.every, fps=options.fps)
    components = read_header(options.actions_like).components if options.actions_like else ()
    with _warnings_printed() as messages, progress_bar("reading", None) as progress:
        dataset = record_videos(
            options.files,
            options.out,
            view,
            components,
            progress=progress,
            resume=options.resume,
            damaged=options.damaged,
        )
    _describe(dataset, options.out)
    return _status(messages)


def _import(options: argparse.Namespace) -> int:
    from dreamer4_impl.data.importing.command import import_source

    with _warnings_printed() as messages:
        dataset = import_source(options)
    _describe(dataset, options.out)
    return _status(messages)


def _check(options: argparse.Namespace) -> int:
    from dreamer4_impl.data.dataset import Dataset

    with _warnings_printed() as damages:
        dataset = Dataset.open(options.dataset, damaged="skip", verify="full")
    _describe(dataset, options.dataset)
    return 1 if damages else 0


@contextmanager
def _warnings_printed() -> Iterator[list[warnings.WarningMessage]]:
    """Collect warnings, and print them at the end, below a progress bar."""
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        try:
            yield messages
        finally:
            for message in messages:
                print(f"dreamer4-record: {message.message}", file=sys.stderr)


def _status(messages: Sequence[warnings.WarningMessage]) -> int:
    from dreamer4_impl.data.source import DamageWarning

    return 1 if any(isinstance(message.message, DamageWarning) for message in messages) else 0


def _describe(dataset: Dataset, path: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{path}: {dataset.name}", show_header=False, title_justify="left")
    table.add_row("frames", f"{len(dataset)} of {dataset.height}×{dataset.width}×{dataset.channels}")
    table.add_row("episodes", f"{len(dataset.episodes)} in {len(dataset.shards)} shards")
    if dataset.episodes:
        returns, lengths = dataset.returns(), [episode.length for episode in dataset.episodes]
        table.add_row("episode lengths", f"{min(lengths)} to {max(lengths)}")
        table.add_row("returns", f"{returns.min():g} to {returns.max():g}, mean {returns.mean():.3g}")
    actions = [f"{c.name}: {type(c).__name__.lower()}, {c.size}" for c in dataset.components]
    table.add_row("actions", "; ".join(actions) or "none")
    table.add_row("tasks", ", ".join(dataset.tasks))
    Console().print(table)


def _play_parser() -> argparse.ArgumentParser:
    parser = _parser("dreamer4-record", PLAY, PLAY_END)
    parser.add_argument("game", metavar="GAME", help="gymnasium id, such as ALE/Breakout-v5, MODULE:ID or FILE.py:ID")
    _add_out(parser)
    parser.add_argument("--frames", metavar="N", type=int, default=24_000, help="number of frames (default: 24000)")
    parser.add_argument("--size", metavar="PIXELS", type=int, default=64, help="height and width (default: 64)")
    parser.add_argument("--grey", action="store_true", help="one channel instead of three")
    parser.add_argument(
        "--frames-from",
        metavar="SOURCE",
        default="observation",
        help="images: render takes what the game draws; observation takes the observation, or the only image among its "
        "entries (default); observation.KEY takes this entry",
    )
    parser.add_argument("--frame-skip", metavar="N", type=int, default=4, help="game frames per action (default: 4)")
    parser.add_argument(
        "--flicker",
        action=argparse.BooleanOptionalAction,
        help="show the maximum of the last two game frames, as Atari games draw some objects in every second frame "
        "only (default: for Atari games)",
    )
    parser.add_argument(
        "--policy",
        metavar="NAME",
        default="random",
        help="random: independent actions (default); sticky: random actions held for several frames; scripted: plays "
        "Boxing, Breakout and Pong well; MODULE:NAME or FILE.py:NAME: a policy of your own",
    )
    parser.add_argument(
        "--epsilon",
        metavar="SHARE|LOW:HIGH",
        type=epsilon,
        default=(0.0, 0.0),
        help="share of random actions, drawn for each episode from LOW to HIGH (default: 0)",
    )
    parser.add_argument(
        "--repeat-probability",
        metavar="P",
        type=float,
        default=0.0,
        help="probability that an Atari game repeats the previous action (default: 0)",
    )
    parser.add_argument("--longest", metavar="N", type=int, help="cut episodes after this many frames")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="seed of everything random (default: 0)")
    parser.add_argument("--resume", action="store_true", help="continue an existing dataset")
    return parser


def _video_parser() -> argparse.ArgumentParser:
    parser = _parser("dreamer4-record video", VIDEO, VIDEO_END)
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="video in any format that FFmpeg reads")
    _add_conversion(parser)
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument("--every", metavar="N", type=int, default=1, help="take every N-th frame (default: 1)")
    rate.add_argument(
        "--fps",
        metavar="RATE",
        type=float,
        help="take the frames that a player shows at this rate (default: the rate of each file)",
    )
    parser.add_argument(
        "--actions-like", metavar="DIR", type=Path, help="take the action components of this dataset, to train on both"
    )
    return parser


def _import_parser() -> argparse.ArgumentParser:
    from dreamer4_impl.data.importing.command import IMPORT, IMPORT_END, add_arguments

    parser = _parser("dreamer4-record import", IMPORT, IMPORT_END)
    add_arguments(parser)
    _add_conversion(parser)
    return parser


def _add_conversion(parser: argparse.ArgumentParser) -> None:
    _add_out(parser)
    parser.add_argument(
        "--size",
        metavar="PIXELS|HxW",
        type=size,
        default=(64, 64),
        help="size of a frame, such as 64 or 96x128 (default: 64)",
    )
    parser.add_argument("--grey", action="store_true", help="one channel instead of three")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted dataset of the same source")
    parser.add_argument(
        "--damaged",
        choices=("refuse", "skip"),
        default="refuse",
        help="what cannot be read ends the command (refuse, the default) or is left out with a message (skip)",
    )


def _check_parser() -> argparse.ArgumentParser:
    parser = _parser("dreamer4-record check", CHECK)
    parser.add_argument("dataset", metavar="DIR", type=Path, help="directory that holds dataset.json")
    return parser


def _parser(name: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    verbatim = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(name, description=description, epilog=epilog, formatter_class=verbatim)


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="directory of the dataset")


def epsilon(text: str) -> tuple[float, float]:
    """Parse the option `--epsilon`.

    Args:
        text: a share such as "0.3", or a range of shares such as "0:1".

    Returns:
        Bounds (low, high); `Recording` checks their range.

    Raises:
        ArgumentTypeError: if the text is neither.

    Example:
        >>> epsilon("0.3"), epsilon("0:1")
        ((0.3, 0.3), (0.0, 1.0))
    """
    try:
        low, _, high = text.partition(":")
        return float(low), float(high or low)
    except ValueError:
        raise ArgumentTypeError(f"must be a share such as 0.3 or a range such as 0:1; got {text!r}") from None


def size(text: str) -> tuple[int, int]:
    """Parse the option `--size` of videos and imports.

    Args:
        text: pixels of both sides such as "64", or height and width such as "96x128".

    Returns:
        (height, width); `FrameView` checks their range.

    Raises:
        ArgumentTypeError: if the text is neither.

    Example:
        >>> size("64"), size("96x128")
        ((64, 64), (96, 128))
    """
    try:
        height, _, width = text.partition("x")
        return int(height), int(width or height)
    except ValueError:
        raise ArgumentTypeError(f"must be a size such as 64 or 96x128; got {text!r}") from None
