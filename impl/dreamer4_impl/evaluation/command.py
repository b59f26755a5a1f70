"""The command `dreamer4-eval`: measure a checkpoint on held-out data, and say whether it passes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dreamer4_impl.checkpoints.settings import Data
    from dreamer4_impl.data.dataset import Dataset
    from dreamer4_impl.evaluation.bars import Bar, Verdict
    from dreamer4_impl.evaluation.evaluation import Evaluation, Settings

DESCRIPTION = """\
Measures a trained model on data that it has not seen: reconstructions, open-loop rollouts against
recorded clips, what the right actions are worth, predicted rewards, imagined returns, and returns in the
real game. Each number comes with a 95 % interval and beside the baselines that it has to beat.

  dreamer4-eval runs/dynamics --data breakout
  dreamer4-eval runs/imagine --data breakout --game ALE/Breakout-v5 --episodes 20
  dreamer4-eval runs/dynamics/checkpoints/step-00001000 --data breakout --bars dynamics
  dreamer4-eval runs/dynamics --data breakout --require "rollout.k1.psnr.h8 >= rollout.k64.psnr.h8 - 0.5"

Writes OUT/index.html, a page with tables, plots and moving pictures, and OUT/evaluation.json, every number
with n and interval. Parts that a checkpoint does not have yet are left out, with the reason.
"""

EPILOG = """\
bars:
  A bar compares sums of measures and numbers by >=, >, <= or <. The names are those of evaluation.json,
  such as rollout.k4.psnr.h8; with .low, .high or .n at the end they are the interval's ends and its count.
  What was not measured is missed. By name (--bars) there are:
{bars}

exit status:
  0  evaluated, and every bar is met
  1  a bar is missed
  2  a mistake in the command line, or a checkpoint or dataset that cannot be used
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    try:
        options = _parser().parse_args(argv)
        status = _run(options)
        sys.stdout.flush()
    except (ValueError, OSError) as error:
        print(f"dreamer4-eval: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"dreamer4-eval needs {error.name}: pip install 'dreamer4-conformance[train]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("dreamer4-eval: interrupted", file=sys.stderr)
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    from dreamer4_impl.evaluation.bars import NAMED

    named = "\n".join(f"    {name}:\n" + "\n".join(f"      {line}" for line in lines) for name, lines in NAMED.items())
    parser = argparse.ArgumentParser(
        "dreamer4-eval",
        description=DESCRIPTION,
        epilog=EPILOG.format(bars=named),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT_OR_RUN", type=Path, help="a run, or one of its checkpoints")
    parser.add_argument(
        "--data",
        metavar="DIR",
        type=Path,
        action="extend",
        nargs="+",
        required=True,
        help="datasets of dreamer4-record; several are one, as in training",
    )
    parser.add_argument(
        "--training-data",
        metavar="DIR",
        type=Path,
        action="extend",
        nargs="+",
        help="what the model was trained on, where all of --data is held out "
        "(default: --data holds out the episodes that training has held out)",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="where to write (default: RUN/evaluation/step-…)")
    parser.add_argument("--clips", metavar="N", type=int, default=64, help="held-out clips (default: 64)")
    parser.add_argument(
        "--context", metavar="N", type=int, help="recorded frames before the first imagined one (default: C)"
    )
    lists = {"horizons": ("1,4,8,16", "frames ahead"), "steps": ("1,2,4,16,64", "values of K")}
    for name, (numbers, text) in lists.items():
        parser.add_argument(
            f"--{name}", metavar=numbers, type=whole_numbers, default=numbers, help=f"{text} (default: {numbers})"
        )
    parser.add_argument(
        "--rollouts", metavar="N", type=int, default=256, help="imagined ones of the agent (default: 256)"
    )
    parser.add_argument("--game", metavar="ID", help="play it, such as ALE/Breakout-v5 (extra atari)")
    parser.add_argument(
        "--episodes", metavar="N", type=int, default=10, help="of the game, for each policy (default: 10)"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of everything random (default: 0)")
    parser.add_argument("--device", metavar="cpu|cuda", help="where the model runs (default: cuda where there is one)")
    parser.add_argument(
        "--bars", metavar="NAME,…", type=names, default=[], help="bars that must be met, by name: see below"
    )
    parser.add_argument(
        "--require", metavar="BAR", action="append", default=[], help="a bar that must be met; repeatable"
    )
    return parser


def whole_numbers(text: str) -> tuple[int, ...]:
    """A list of numbers.

    >>> whole_numbers("1,4,8")
    (1, 4, 8)
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of whole numbers such as 1,4,8") from None


def names(text: str) -> list[str]:
    """A list of names.

    >>> names("tokenizer, dynamics")
    ['tokenizer', 'dynamics']
    """
    return [part.strip() for part in text.split(",")]


def _run(options: argparse.Namespace) -> int:
    from dreamer4_impl.evaluation.bars import judge

    bars, settings = _bars(options), _settings(options)
    evaluation, out = _evaluate(options, settings)
    verdicts = judge(bars, evaluation.measures)
    _write(evaluation, verdicts, out)
    return int(not all(verdict.met for verdict in verdicts))


def _bars(options: argparse.Namespace) -> list[Bar]:
    from dreamer4_impl.evaluation.bars import named, parse

    return [*(bar for name in options.bars for bar in named(name)), *map(parse, options.require)]


def _settings(options: argparse.Namespace) -> Settings:
    from dreamer4_impl.evaluation.evaluation import Settings

    given = ("clips", "context", "horizons", "steps", "rollouts", "game", "episodes", "seed")
    return Settings(**{name: getattr(options, name) for name in given})


def _evaluate(options: argparse.Namespace, settings: Settings) -> tuple[Evaluation, Path]:
    import torch

    from dreamer4_impl.evaluation.evaluation import evaluate
    from dreamer4_impl.evaluation.subject import load_subject

    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    subject = load_subject(options.checkpoint, device)
    checkpoint = Path(subject.facts["checkpoint"]["path"])
    training, held_out = _data(options, subject.data)
    out = options.out or checkpoint.parents[1] / "evaluation" / checkpoint.name
    out.mkdir(parents=True, exist_ok=True)
    with _progress() as before:
        evaluation = evaluate(
            subject.model,
            held_out,
            replace(settings, imagine=subject.imagine),
            training=training,
            prior=subject.prior,
            absent=subject.absent,
            before=before,
        )
    evaluation.facts = subject.facts | evaluation.facts
    return evaluation, out


def _data(options: argparse.Namespace, trained_on: Data) -> tuple[Dataset, Dataset]:
    """What was trained on, and what was not."""
    if options.training_data is not None:
        return _open(options.training_data), _open(options.data)
    if trained_on.held_out is None:
        raise ValueError(
            "the checkpoint was trained on all episodes of its data (data.held_out is none): "
            "name those data by --training-data, and others that it has not seen by --data"
        )
    if len(trained_on.paths) > 1 and len(options.data) != len(trained_on.paths):
        raise ValueError(
            f"which episodes were held out depends on all the datasets of training, {', '.join(trained_on.paths)}, in this "
            f"order; --data names {len(options.data)}. Name them all, or give --training-data and data that it has not seen"
        )
    return _open(options.data).split(trained_on.held_out)


def _open(paths: Sequence[Path]) -> Dataset:
    from dreamer4_impl.data.dataset import Dataset, concatenate

    datasets = [Dataset.open(path) for path in paths]
    return datasets[0] if len(datasets) == 1 else concatenate(datasets)


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
        beside = out / f".{name}.partial"
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, out / name)
    print_evaluation(evaluation, verdicts, Console())
    print(out / "index.html")
