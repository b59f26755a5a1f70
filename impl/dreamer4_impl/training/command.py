"""The command `dreamer4-train`: one phase of Algorithm 1 on recorded play."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dreamer4_impl.training.launch import Launch
    from dreamer4_impl.training.loop import Outcome

PHASES = ("tokenizer", "dynamics", "agent", "imagine")

DESCRIPTION = """\
Trains one phase of Dreamer 4 on recorded play, in the order of the paper:

  tokenizer   frames to latents and back                                       Eq. 5
  dynamics    the next frame from the frames and actions before it             Eq. 7, the tokenizer frozen
  agent       behaviour cloning and rewards, while the dynamics train on       Eq. 7 and 9
  imagine     the policy in the world model's imagination                      Eq. 10 and 11, the world model frozen

A run is a directory: checkpoints, metrics.jsonl, log.txt, TensorBoard. It can be killed at any moment and continued.
"""

EPILOG = """\
examples:
  dreamer4-train tokenizer PRESET --data breakout --run runs/tokenizer
  dreamer4-train dynamics PRESET --data breakout --init runs/tokenizer --run runs/dynamics
  dreamer4-train agent PRESET --data breakout --init runs/dynamics --run runs/agent
  dreamer4-train imagine PRESET --data breakout --init runs/agent --run runs/imagine

  dreamer4-train dynamics --run runs/dynamics --resume                         continues, with the settings it had
  dreamer4-train dynamics --run runs/dynamics --resume --set steps=20000       and goes on for longer
  dreamer4-train tokenizer mine.toml --data breakout --run r --dry-run         says what would be trained
  dreamer4-train tokenizer PRESET --data a b --run r --set optimiser.learning_rate=1e-4 --set execution.compile=inductor

  torchrun --nproc-per-node 8 --no-python -- dreamer4-train dynamics ...       on 8 GPUs; a model that does not fit on
                                                                               one: --set execution.distributed=fsdp
  tensorboard --logdir runs                                                    curves

configuration:
  CONFIG is a TOML document or one of the presets: {presets}.
  Later layers win: the preset of the model or the model of --init; the data (size of a frame, actions, tasks); the
  document; its table [only.PHASE]; --set. --dry-run prints the result.

exit status:
  0          all steps are done
  1          stopped: a loss is no number, or the last checkpoint could not be written
  2          a mistake in the command line, the configuration, the data or a checkpoint
  130, 143   stopped by SIGINT or SIGTERM, with a checkpoint; --resume continues
"""


class UsageError(ValueError):
    """What was typed cannot be done; the message is a sentence."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    options = _parser().parse_args(argv)
    try:
        return _run(options)
    except UsageError as error:
        print(f"dreamer4-train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("dreamer4-train: interrupted; the checkpoints are as they were", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    presets = sorted(path.stem for path in (Path(__file__).parent / "presets").glob("*.toml"))
    parser = argparse.ArgumentParser(
        "dreamer4-train",
        description=DESCRIPTION,
        epilog=EPILOG.format(presets=", ".join(presets) or "none"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("phase", metavar="PHASE", choices=PHASES, help=", ".join(PHASES))
    add("config", metavar="CONFIG", nargs="?", help="a TOML document, or a preset by name")
    add("--data", metavar="DIR", nargs="+", default=[], help="datasets of dreamer4-record; several are one")
    add("--run", metavar="DIR", type=Path, required=True, help="where the run is kept")
    add("--init", metavar="RUN", help="start from the weights of an earlier phase, a run or one of its checkpoints")
    add("--set", metavar="KEY=VALUE", action="append", default=[], help="a setting, such as batches.size=8")
    add("--resume", action="store_true", help="continue the run from its newest good checkpoint")
    add("--dry-run", action="store_true", help="print the configuration and what is trained, and train nothing")
    return parser


def _run(options: argparse.Namespace) -> int:
    with _usage():
        from dreamer4_impl.training.launch import resume, start

        launch = resume(options) if options.resume else start(options)
        if options.dry_run:
            print(launch.describe())
            return 0
    return _train(launch)


def _train(launch: Launch) -> int:
    from dreamer4_impl.training.distributed import processes
    from dreamer4_impl.training.loop import NotFiniteError

    with processes(launch.settings.execution) as members:
        with _usage():
            trainer = launch.trainer(members)
        try:
            outcome = trainer.run()
        except NotFiniteError as error:
            trainer.log.say(f"dreamer4-train: {error}")
            return 1
        trainer.log.say(_ending(outcome, launch))
        return _status(outcome)


def _ending(outcome: Outcome, launch: Launch) -> str:
    state = f"step {outcome.step} of {launch.settings.steps}"
    if not outcome.saved:
        return f"ended after {state}, and its checkpoint could not be written: make room, then --resume from an earlier one"
    if outcome.stopped:
        return (
            f"stopped by {outcome.stopped} after {state}, with a checkpoint; continue with --run {launch.run} --resume"
        )
    return f"done: {state}; the checkpoints are in {launch.run}"


def _status(outcome: Outcome) -> int:
    if not outcome.saved:
        return 1
    if outcome.stopped is None:
        return 0
    known = outcome.stopped in signal.Signals.__members__
    return 128 + (signal.Signals[outcome.stopped] if known else signal.SIGTERM)


@contextmanager
def _usage() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(f"needs {error.name}: pip install 'dreamer4-conformance[train]'") from error
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
