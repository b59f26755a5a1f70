"""The command `dreamer4-train`: trains one phase of Algorithm 1 on recorded play, or runs all stages in sequence."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dreamer4_impl.checkpoints.names import PHASES, preset_documents
from dreamer4_impl.durable import DirectoryLock, remove_partials
from dreamer4_impl.streams import safe_streams
from dreamer4_impl.training.sequence.arguments import sequence_parser

if TYPE_CHECKING:
    from dreamer4_impl.training.launch import TrainingRun
    from dreamer4_impl.training.loop import Outcome

DESCRIPTION = """\
Trains one phase of Dreamer 4 on recorded play, in the order of the paper:

  tokenizer   frames to latents and back                                       Eq. 5
  dynamics    the next frame from the frames and actions before it             Eq. 7, the tokenizer frozen
  agent       behaviour cloning and rewards, while the dynamics train on       Eq. 7 and 9
  imagine     the policy in the world model's imagination                      Eq. 10 and 11, the world model frozen

A run is a directory with checkpoints, metrics.jsonl, log.txt, TensorBoard and videos of what the model does (media). It
can be killed at any time and resumed.
A second process cannot train in the directory while a run is active. A lost terminal does not end a run: messages are
also in log.txt. `dreamer4-train all CONFIG --env GAME --run DIR` records, trains all phases and evaluates; see
`dreamer4-train all --help`.
"""

EPILOG = """\
examples:
  dreamer4-train tokenizer PRESET --data breakout --run runs/tokenizer
  dreamer4-train dynamics PRESET --data breakout --init runs/tokenizer --run runs/dynamics
  dreamer4-train agent PRESET --data breakout --init runs/dynamics --run runs/agent
  dreamer4-train imagine PRESET --data breakout --init runs/agent --run runs/imagine

  dreamer4-train dynamics --run runs/dynamics --resume                         continues with the same settings
  dreamer4-train dynamics --run runs/dynamics --resume --set steps=20000       continues for more steps
  dreamer4-train tokenizer mine.toml --data breakout --run r --dry-run         prints what would be trained
  dreamer4-train tokenizer PRESET --data a b --run r --set optimiser.learning_rate=1e-4 --set execution.compile=inductor

  torchrun --nproc-per-node 8 --no-python -- dreamer4-train dynamics ...       8 GPUs; for a model that is too large for
                                                                               one, --set execution.distributed=fsdp
  tensorboard --logdir runs                                                    shows curves and videos
  dreamer4-train tokenizer PRESET ... --set records.tracker=trackio            also sends them to a tracker, or "wandb";
                                                                               records.media_every: steps between videos

configuration:
  CONFIG is a TOML document or one of the presets {presets}.
  Layers of rising priority: preset of the model or model of --init; data (size of a frame, actions, tasks); CONFIG;
  its table [only.PHASE]; --set. --dry-run prints the result.

exit status:
  0          all steps completed
  1          a loss is NaN or infinite, compiled layers need more forms than the limit, or the last checkpoint could not
             be written
  2          wrong command line or configuration, a run directory in use, or data or a checkpoint that cannot be used
  129, 130, 143
             stopped by SIGHUP (a closed terminal; not under nohup), SIGINT or SIGTERM, with a checkpoint; --resume
             continues
"""


INSTALL = "pip install 'dreamer4-conformance[train]'"


class UsageError(ValueError):
    """The command line, configuration, data or checkpoint cannot be used; the message says why."""


@safe_streams()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `dreamer4-train`.

    Args:
        argv: arguments; None takes those of the process.

    Returns:
        Exit status, as listed in the help text.

    Raises:
        SystemExit: after `--help` and for arguments that cannot be parsed.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["all"]:
        run, options = _run_all, sequence_parser().parse_args(words[1:])
    else:
        run, options = _run, _parser().parse_args(words)
    try:
        return run(options)
    except UsageError as error:
        print(f"dreamer4-train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("dreamer4-train: interrupted; existing checkpoints are unchanged", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "dreamer4-train",
        description=DESCRIPTION,
        epilog=EPILOG.format(presets=", ".join(preset_documents())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("phase", metavar="PHASE", choices=PHASES, help=", ".join(PHASES))
    add("config", metavar="CONFIG", nargs="?", help="TOML document or name of a preset")
    add("--data", metavar="DIR", nargs="+", default=[], help="datasets of dreamer4-record; several are joined")
    add("--run", metavar="DIR", type=Path, required=True, help="directory of the run")
    add("--init", metavar="RUN", help="run or checkpoint of an earlier phase to start from")
    add("--set", metavar="KEY=VALUE", action="append", default=[], help="change a setting, such as batches.size=8")
    add("--resume", action="store_true", help="continue the run from its newest undamaged checkpoint")
    add("--dry-run", action="store_true", help="print the configuration and the trained modules, and exit")
    return parser


def _run_all(options: argparse.Namespace) -> int:
    with _usage():
        from dreamer4_impl.training.sequence.command import run_sequence

        return run_sequence(options)


def _run(options: argparse.Namespace) -> int:
    with ExitStack() as stack:
        with _usage():
            from dreamer4_impl.training.launch import resume, start

            if not options.dry_run and os.environ.get("RANK", "0") == "0":
                stack.enter_context(DirectoryLock(options.run))
                remove_partials(options.run)
            run = resume(options) if options.resume else start(options)
            if options.dry_run:
                print(run.describe())
                return 0
        return _train(run)


def _train(run: TrainingRun) -> int:
    from dreamer4_impl.compilation import TooManyFormsError
    from dreamer4_impl.training.distributed import processes
    from dreamer4_impl.training.loop import NotFiniteError

    with processes(run.settings.execution) as members:
        with _usage():
            trainer = run.trainer(members)
        try:
            outcome = trainer.run()
        except (NotFiniteError, TooManyFormsError) as error:
            trainer.log.write(f"dreamer4-train: {error}")
            return 1
        except NotImplementedError as error:  # of a backend of attention
            raise UsageError(str(error)) from error
        trainer.log.write(_summary(outcome, run))
        return _status(outcome)


def _summary(outcome: Outcome, run: TrainingRun) -> str:
    state = f"step {outcome.step} of {run.settings.steps}"
    if not outcome.saved:
        return f"ended after {state} without its checkpoint: free disk space, then --resume from an earlier checkpoint"
    if outcome.stopped:
        return f"stopped by {outcome.stopped} after {state}, with a checkpoint; continue with --run {run.run} --resume"
    return f"done: {state}; checkpoints are in {run.run}"


def _status(outcome: Outcome) -> int:
    if not outcome.saved:
        return 1
    if outcome.stopped is None:
        return 0
    is_signal = outcome.stopped in signal.Signals.__members__
    return 128 + (signal.Signals[outcome.stopped] if is_signal else signal.SIGTERM)


@contextmanager
def _usage() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(error.msg if error.name is None else f"needs {error.name}: {INSTALL}") from error
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
