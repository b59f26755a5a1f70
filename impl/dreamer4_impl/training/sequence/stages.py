"""The stages of `dreamer4-train all`: the commands that run in sequence, each in a directory of its own."""

import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dreamer4_impl.checkpoints.checkpoint import steps
from dreamer4_impl.checkpoints.names import PHASES, PhaseName
from dreamer4_impl.checkpoints.toml import Table, subtable
from dreamer4_impl.training.sequence.options import SequenceOptions, words_of


@dataclass(frozen=True)
class Stage:
    """A command that runs in a directory.

    Args:
        name: "data", a phase of training, or "evaluation"; also the name of the directory.
        directory: output of the command.
        program: name of the command.
        words: its command line for a new start.
        resumption: command line that continues from a checkpoint in the directory; empty if `words` does.
        settings: what determines the result besides the earlier stages, in JSON types.
    """

    name: str
    directory: Path
    program: str
    words: tuple[str, ...]
    settings: Table
    resumption: tuple[str, ...] = ()

    def command(self) -> list[str]:
        """Choose the command that starts or continues the stage.

        Returns:
            Name of the program and its arguments.
        """
        resumes = self.resumption and steps(self.directory)
        return [self.program, *(self.resumption if resumes else self.words)]


def stages(sequence: SequenceOptions) -> list[Stage]:
    """List the stages of a sequence in order.

    Args:
        sequence: settings of the sequence.

    Returns:
        Recording, unless datasets are named, the phases, and the evaluation.
    """
    recording = [] if sequence.data else [_recording(sequence)]
    return [*recording, *(_training(sequence, phase) for phase in PHASES), _evaluation(sequence)]


def play_command(sequence: SequenceOptions) -> str:
    """Command that plays in the trained model.

    Args:
        sequence: settings of the sequence.

    Returns:
        Command line of `dreamer4-play`, as typed in the current directory.
    """
    data = os.path.relpath(sequence.data[0]) if sequence.data else str(sequence.run / "data")
    return shlex.join(["dreamer4-play", str(sequence.run / "imagine"), "--data", data])


def _recording(sequence: SequenceOptions) -> Stage:
    assert sequence.game is not None
    directory = _directory(sequence, "data")
    words = [sequence.game, "--out", str(directory), *words_of(sequence.record), "--seed", str(sequence.seed)]
    settings = {"game": sequence.game, **asdict(sequence.record), "seed": sequence.seed}
    return Stage("data", directory, "dreamer4-record", (*words, "--resume"), _json(settings))


def _training(sequence: SequenceOptions, phase: PhaseName) -> Stage:
    directory, number = _directory(sequence, phase), PHASES.index(phase)
    run, data = ["--run", str(directory)], ["--data", *_data(sequence)]
    init = ["--init", str(_directory(sequence, PHASES[number - 1]))] if number else []
    table = sequence.phase_table(phase)
    cache = subtable(table, "data").get("latents", str(_directory(sequence, "latents")))
    latents = _assigned([f"data.latents={json.dumps(cache)}"] if number else [])
    typed = _assigned(sequence.overrides)
    return Stage(
        phase,
        directory,
        "dreamer4-train",
        (phase, sequence.config, *data, *init, *run, *latents, *typed),
        _json({**_relevant(table, phase), "datasets": [os.path.relpath(path, sequence.run) for path in sequence.data]}),
        (phase, *run, "--resume", *data, *latents),  # a moved directory continues as well
    )


def _relevant(table: Table, phase: PhaseName) -> Table:
    """Settings without the tables of later phases; the agent reads frames at a level of [imagine]."""
    later = PHASES[PHASES.index(phase) + 1 :]
    level = subtable(table, "imagine").get("context_level")
    table = {name: value for name, value in table.items() if name not in later}
    return table if phase != "agent" or level is None else {**table, "imagine": {"context_level": level}}


def _evaluation(sequence: SequenceOptions) -> Stage:
    directory, options = _directory(sequence, "evaluation"), sequence.evaluation
    if sequence.game is None:
        options = replace(options, bars=tuple(name for name in options.bars if name != "game"))
    game = [] if sequence.game is None else ["--game", sequence.game]
    words = [str(_directory(sequence, "imagine")), "--data", *_data(sequence), "--out", str(directory), *game]
    settings = {"game": sequence.game, **asdict(options), "seed": sequence.seed}
    words += [*words_of(options), "--seed", str(sequence.seed)]
    return Stage("evaluation", directory, "dreamer4-eval", tuple(words), _json(settings))


def _directory(sequence: SequenceOptions, name: str) -> Path:
    """Absolute, because a run continues from the paths in its checkpoints in any current directory."""
    return sequence.run.absolute() / name


def _data(sequence: SequenceOptions) -> Sequence[str]:
    return sequence.data or (str(_directory(sequence, "data")),)


def _assigned(texts: Sequence[str]) -> list[str]:
    return [word for text in texts for word in ("--set", text)]


def _json(table: Table) -> Table:
    """JSON types, as results.json returns them."""
    converted: Table = json.loads(json.dumps(table))
    return converted
