"""The command `dreamer4-eval`: measure a checkpoint on held-out data and compare the measures with bars."""

from __future__ import annotations

import argparse
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dreamer4_impl.durable import write_text
from dreamer4_impl.streams import safe_streams

if TYPE_CHECKING:
    from dreamer4_impl.evaluation.bars import Bar, Verdict
    from dreamer4_impl.evaluation.evaluation import Evaluation, EvaluationSettings

DESCRIPTION = """\
Measures a trained model on held-out data: reconstructions, open-loop rollouts against recorded clips, the
effect of the actions, predicted rewards, imagined returns, returns in the real game, and the imagined next to
the real return of the same policy. Every measure has a 95 % interval and is listed next to its baselines.

  dreamer4-eval runs/dynamics --data breakout
  dreamer4-eval runs/imagine --data breakout --game ALE/Breakout-v5 --episodes 20 --bars agent,game
  dreamer4-eval runs/dynamics/checkpoints/step-00001000 --data breakout --bars dynamics
  dreamer4-eval runs/dynamics --data breakout --require "rollout.k1.psnr.h8 >= rollout.k64.psnr.h8 - 0.5"

Writes OUT/index.html, a page with tables, plots and animations, and OUT/evaluation.json, all measures with
intervals and counts. Sections that need untrained components of the model are skipped, with the reason.
"""

EPILOG = """\
bars:
  A bar compares two sums of measures and numbers by >=, >, <= or <. Measures have the names of
  evaluation.json, such as rollout.k4.psnr.h8; .low, .high and .n after a name are the ends of its interval
  and its count. A bar whose measure is missing is missed. "game" needs --game, and as many --episodes that
  they have 400 starts. Named sets for --bars:
{bars}

exit status:
  0  evaluated, and every bar is met
  1  evaluated, and a bar is missed
  2  error in the command line, a checkpoint or dataset that cannot be used, or a page that cannot be written
  130  interrupted
"""


@safe_streams()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments after the name of the command; None for those of the process.

    Returns:
        Exit status: 0 if every bar is met, 1 if a bar is missed, 2 for an error, 130 if interrupted.

    Raises:
        SystemExit: after --help (status 0), or if the arguments cannot be parsed (status 2).
    """
    try:
        return _run(_parser().parse_args(argv))
    except (ValueError, OSError) as error:
        print(f"dreamer4-eval: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"dreamer4-eval needs {error.name}: pip install 'dreamer4-conformance[train]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("dreamer4-eval: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    from dreamer4_impl.evaluation.bars import NAMED

    named = "\n".join(f"    {name}:\n" + "\n".join(f"      {line}" for line in lines) for name, lines in NAMED.items())
    parser = argparse.ArgumentParser(
        "dreamer4-eval",
        description=DESCRIPTION,
        epilog=EPILOG.format(bars=named),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT_OR_RUN", type=Path, help="directory of a run, or of a checkpoint"
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        type=Path,
        action="extend",
        nargs="+",
        required=True,
        help="datasets of dreamer4-record; several are joined, as in training",
    )
    parser.add_argument(
        "--training-data",
        metavar="DIR",
        type=Path,
        action="extend",
        nargs="+",
        help="datasets that the model was trained on; all episodes of --data are evaluated then "
        "(default: the episodes of --data that were held out in training are evaluated)",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        help="output directory (default: RUN/evaluation/step-…, or evaluation in a shared model)",
    )
    parser.add_argument("--clips", metavar="N", type=int, default=64, help="number of held-out clips (default: 64)")
    parser.add_argument(
        "--context", metavar="N", type=int, help="recorded frames before the first predicted one (default: C)"
    )
    lists = {"horizons": ("1,4,8,16", "frames ahead"), "steps": ("1,2,4,16,64", "values of K")}
    for name, (numbers, text) in lists.items():
        parser.add_argument(
            f"--{name}", metavar=numbers, type=integer_list, default=numbers, help=f"{text} (default: {numbers})"
        )
    parser.add_argument(
        "--rollouts",
        metavar="N",
        type=int,
        default=400,
        help="number of imagined rollouts of the agent, and with --game of starts in real episodes from which imagined "
        "and real return are compared (default: 400)",
    )
    parser.add_argument(
        "--game",
        metavar="ID",
        help="game to play, such as ALE/Breakout-v5 (needs the extra atari), or MODULE:ID or FILE.py:ID",
    )
    parser.add_argument(
        "--episodes", metavar="N", type=int, default=10, help="episodes of the game for each policy (default: 10)"
    )
    parser.add_argument(
        "--random-episodes", metavar="N", type=int, help="episodes of random play (default: as many as of each policy)"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="seed of all random numbers (default: 0)")
    parser.add_argument("--device", metavar="cpu|cuda", help="device of the model (default: cuda if available)")
    parser.add_argument(
        "--bars", metavar="NAME,…", type=name_list, default=[], help="named sets of bars that must be met, see below"
    )
    parser.add_argument(
        "--require", metavar="BAR", action="append", default=[], help="a bar that must be met; repeatable"
    )
    return parser


def integer_list(text: str) -> tuple[int, ...]:
    """Parse a comma-separated list of integers.

    Args:
        text: the option's value, separated by commas.

    Returns:
        The integers, in order.

    Raises:
        ArgumentTypeError: if an item is not an integer.

    Example:
        >>> integer_list("1,4,8")
        (1, 4, 8)
    """
    try:
        return tuple(int(item) for item in text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a list of integers such as 1,4,8") from None


def name_list(text: str) -> list[str]:
    """Parse a comma-separated list of names.

    Args:
        text: the option's value, separated by commas.

    Returns:
        The names without surrounding spaces, in order.

    Example:
        >>> name_list("tokenizer, dynamics")
        ['tokenizer', 'dynamics']
    """
    return [item.strip() for item in text.split(",")]


def default_output(checkpoint: Path) -> Path:
    """Directory of the results without the option `--out`.

    Args:
        checkpoint: directory of a checkpoint, or of a shared model.

    Returns:
        RUN/evaluation/CHECKPOINT for a checkpoint of a run, else a directory in that of the model.

    Example:
        >>> default_output(Path("/runs/pong/checkpoints/step-00000010")).as_posix()
        '/runs/pong/evaluation/step-00000010'
        >>> default_output(Path("/models/pong")).as_posix()
        '/models/pong/evaluation'
    """
    checkpoint = checkpoint.absolute()
    if checkpoint.parent.name == "checkpoints":
        return checkpoint.parents[1] / "evaluation" / checkpoint.name
    return checkpoint / "evaluation"


def _run(options: argparse.Namespace) -> int:
    from dreamer4_impl.evaluation.bars import judge_bars

    bars, settings = _bars(options), _settings(options)
    evaluation, out = _evaluate(options, settings)
    verdicts = judge_bars(bars, evaluation.measures)
    _write(evaluation, verdicts, out)
    return int(not all(verdict.met for verdict in verdicts))


def _bars(options: argparse.Namespace) -> list[Bar]:
    from dreamer4_impl.evaluation.bars import named_bars, parse_bar

    return [*(bar for name in options.bars for bar in named_bars(name)), *map(parse_bar, options.require)]


def _settings(options: argparse.Namespace) -> EvaluationSettings:
    from dreamer4_impl.evaluation.evaluation import EvaluationSettings

    names = ("clips", "context", "horizons", "steps", "rollouts", "game", "episodes", "random_episodes", "seed")
    return EvaluationSettings(**{name: getattr(options, name) for name in names})


def _evaluate(options: argparse.Namespace, settings: EvaluationSettings) -> tuple[Evaluation, Path]:
    from dreamer4_impl.evaluation.evaluation import evaluate
    from dreamer4_impl.evaluation.held_out import split_episodes
    from dreamer4_impl.evaluation.subject import load_subject
    from dreamer4_impl.training.distributed import choose_device

    subject = load_subject(options.checkpoint, choose_device(options.device or "auto", "--device"))
    checkpoint = Path(subject.facts["checkpoint"]["path"])
    training, held_out = split_episodes(options.data, options.training_data, subject.data)
    out = options.out or default_output(checkpoint)
    out.mkdir(parents=True, exist_ok=True)
    with _progress() as on_section:
        evaluation = evaluate(
            subject.model,
            held_out,
            replace(settings, imagine=subject.imagine),
            training=training,
            prior=subject.prior,
            absent=subject.absent,
            on_section=on_section,
        )
    evaluation.facts = subject.facts | evaluation.facts
    return evaluation, out


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from dreamer4_impl.evaluation.output.tables import TITLES

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)
        yield lambda section: progress.update(task, description=TITLES[section])


def _write(evaluation: Evaluation, verdicts: Sequence[Verdict], out: Path) -> None:
    from rich.console import Console

    from dreamer4_impl.evaluation.output.document import to_json
    from dreamer4_impl.evaluation.output.page import to_html
    from dreamer4_impl.evaluation.output.terminal import print_evaluation

    for name, text in {
        "evaluation.json": to_json(evaluation, verdicts),
        "index.html": to_html(evaluation, verdicts),
    }.items():
        write_text(out / name, text)
    print_evaluation(evaluation, verdicts, Console())
    print(out / "index.html")
