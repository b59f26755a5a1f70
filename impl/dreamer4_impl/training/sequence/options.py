"""Settings of `dreamer4-train all` from the command line and a configuration with tables [record] and [evaluation]."""

import argparse
import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dreamer4_impl.arguments import require_at_least
from dreamer4_impl.checkpoints.names import PHASES, SEQUENCE_TABLES, PhaseName
from dreamer4_impl.checkpoints.settings import merged_layers, read_document, settings_from
from dreamer4_impl.checkpoints.toml import Table, assignments, flattened, from_table, merge, subtable, to_table
from dreamer4_impl.data.game import Game, View
from dreamer4_impl.data.record import Recording
from dreamer4_impl.training.data import facts_of, task_names


@dataclass(frozen=True)
class RecordOptions:
    """Table [record]: options of `dreamer4-record`, with its defaults.

    Args:
        frames: number of frames, 2 or more.
        size: height and width of a frame in pixels, 1 or more.
        grey: one channel instead of three.
        frame_skip: the game's own frames for which an action is held, 1 or more.
        frames_from: source of the frames, as for `View`.
        flicker: show the maximum of the last two of the game's own frames; None is True for Atari games.
        policy: "random", "sticky", "scripted", or the import path of a policy.
        epsilon: bounds (low, high) in [0, 1] of the share of random actions of an episode.
        repeat_probability: probability in [0, 1) with which an Atari game repeats the previous action.
        longest: frames after which an episode is cut, 2 or more; None for never.
    """

    frames: int = 24_000
    size: int = 64
    grey: bool = False
    frame_skip: int = 4
    frames_from: str = "observation"
    flicker: bool | None = None
    policy: str = "random"
    epsilon: tuple[float, float] = (0.0, 0.0)
    repeat_probability: float = 0.0
    longest: int | None = None

    def __post_init__(self) -> None:
        Recording("", self.frames, self.view, self.policy, self.epsilon, 0, self.longest)

    @property
    def view(self) -> View:
        """View of the game that is recorded.

        Returns:
            Source, size and colour of the frames, frame skip.
        """
        return View(**{field.name: getattr(self, field.name) for field in fields(View)})


@dataclass(frozen=True)
class EvaluationOptions:
    """Table [evaluation]: options of `dreamer4-eval`.

    Args:
        episodes: episodes of the game for each policy, 1 or more.
        random_episodes: episodes of random play, 1 or more; None for as many as of each policy.
        rollouts: imagined rollouts of the policy, 1 or more.
        clips: held-out clips, 1 or more.
        context: recorded frames before the first predicted one, 1 or more; None for the context of the dynamics.
        horizons: numbers of frames ahead at which rollouts are measured, 1 or more each. Held-out episodes must have
            as many frames as the context and the longest horizon.
        bars: named sets of bars. The set "game" is left out if no game is named.
    """

    episodes: int = 100
    random_episodes: int | None = None
    rollouts: int = 400
    clips: int = 64
    context: int | None = None
    horizons: tuple[int, ...] = (1, 4, 8, 16)
    bars: tuple[str, ...] = ("tokenizer", "dynamics", "agent")

    def __post_init__(self) -> None:
        require_at_least(1, episodes=self.episodes, rollouts=self.rollouts, clips=self.clips)
        for name in ("random_episodes", "context"):
            if getattr(self, name) is not None:
                require_at_least(1, **{name: getattr(self, name)})
        require_at_least(1, horizons=min(self.horizons, default=0))


@dataclass(frozen=True)
class SequenceOptions:
    """Everything that determines the results of a sequence.

    Args:
        config: path of a TOML document, or name of a preset.
        document: its content.
        overrides: settings of training, "section.key=value" each, from the command line.
        game: gymnasium id of the game, or MODULE:ID or FILE.py:ID; None without recording and real episodes.
        data: datasets in place of recording; empty records the game.
        run: directory of the sequence.
        seed: seed of all stages, 0 or more.
        record: options of recording.
        evaluation: options of the evaluation.
    """

    config: str
    document: Table
    overrides: tuple[str, ...]
    game: str | None
    data: tuple[str, ...]
    run: Path
    seed: int
    record: RecordOptions
    evaluation: EvaluationOptions

    def phase_table(self, phase: PhaseName) -> Table:
        """Merge the settings of a phase, as `dreamer4-train` does.

        Args:
            phase: phase of training.

        Returns:
            Nested table.
        """
        return merged_layers(phase, self.document, self.overrides)


def sequence_options(options: argparse.Namespace) -> SequenceOptions:
    """Read the settings of a sequence, and check them for every stage.

    Args:
        options: parsed command line.

    Returns:
        The settings.

    Raises:
        DatasetError: if the game cannot be opened or a dataset cannot be used.
        ValueError: if a setting is unknown, of another type or out of range, neither a game nor data are named, or the
            command runs under torchrun.
    """
    if "RANK" in os.environ:
        raise ValueError("'all' runs its stages in processes of its own: under torchrun, start each phase by its name")
    if options.env is None and not options.data:
        raise ValueError("there is nothing to train on: name a game with --env GAME, or datasets with --data DIR")
    document = read_document(options.config)
    table = _table(options, document)
    sequence = SequenceOptions(
        options.config,
        document,
        _overrides(options),
        options.env,
        tuple(os.path.abspath(path) for path in options.data),
        options.run,
        merged_layers("tokenizer", document, _overrides(options)).get("seed", 0),
        from_table(RecordOptions, subtable(table, "record"), "record"),
        from_table(EvaluationOptions, subtable(table, "evaluation"), "evaluation"),
    )
    _require_phases(sequence)
    return sequence


def words_of(options: RecordOptions | EvaluationOptions) -> list[str]:
    """Convert options to words of a command line.

    Args:
        options: options; None and empty lists are left out, False where it is the default.

    Returns:
        Names of options and values.

    Example:
        >>> words_of(EvaluationOptions(episodes=5, bars=("agent", "game")))[:2]
        ['--episodes', '5']
    """
    words: list[str] = []
    for field in fields(options):
        name, value = field.name.replace("_", "-"), getattr(options, field.name)
        if isinstance(value, bool):
            words += [f"--{name}"] if value else [] if field.default is False else [f"--no-{name}"]
        elif isinstance(value, tuple):
            words += [f"--{name}", (":" if name == "epsilon" else ",").join(map(str, value))] if value else []
        elif value is not None:
            words += [f"--{name}", str(value)]
    return words


def sources(sequence: SequenceOptions, typed: argparse.Namespace) -> dict[str, list[tuple[str, Any, str]]]:
    """List the settings of every stage with the layer that they come from.

    Args:
        sequence: settings of the sequence.
        typed: parsed command line.

    Returns:
        Name, value and source of each setting of the stages; the settings that all phases have are under "all phases",
        without the model.
    """
    document, config = sequence.document, sequence.config
    for_all = {name: value for name, value in document.items() if name not in ("only", "model", *SEQUENCE_TABLES)}
    general = assignments(sequence.overrides)
    only = general.pop("only", {})
    listed = {
        "data": _listed(to_table(sequence.record), document.get("record", {}), _table(typed, {})["record"], config),
        "all phases": _listed({}, for_all, general, config),
    }
    everywhere = {name for name, _, _ in _listed({}, {}, general, config)}  # these have priority
    for phase in PHASES:
        rows = _listed({}, document.get("only", {}).get(phase, {}), only.get(phase, {}), config)
        listed[phase] = [row for row in rows if row[0] not in everywhere]
    evaluation = _table(typed, {})["evaluation"]
    listed["evaluation"] = _listed(to_table(sequence.evaluation), document.get("evaluation", {}), evaluation, config)
    return listed


def _listed(defaults: Table, document: Mapping[str, Any], typed: Table, config: str) -> list[tuple[str, Any, str]]:
    rows = {name: (name, value, "default") for name, value in flattened(defaults)}
    for table, source in ((document, config), (typed, "command line")):
        rows |= {name: (name, value, source) for name, value in flattened(table)}
    return list(rows.values())


def _overrides(options: argparse.Namespace) -> tuple[str, ...]:
    """Settings of training among those of the command line; --seed has the highest priority."""
    training = [text for text in options.set if not set(assignments([text])) & set(SEQUENCE_TABLES)]
    seeds = [] if options.seed is None else [f"seed={options.seed}"]
    return (*training, *seeds)


def _table(options: argparse.Namespace, document: Table) -> Table:
    """Tables [record] and [evaluation] of the document, overridden by those of the command line."""
    typed = assignments([text for text in options.set if set(assignments([text])) & set(SEQUENCE_TABLES)])
    own = {
        "record": {name: getattr(options, name) for name in ("frames", "size", "frame_skip")},
        "evaluation": {name: getattr(options, name) for name in ("episodes", "rollouts")},
    }
    table: Table = {}
    for name in SEQUENCE_TABLES:
        options_set = {key: value for key, value in own[name].items() if value is not None}
        table[name] = merge(merge(subtable(document, name), subtable(typed, name)), options_set)
    return table


def _require_phases(sequence: SequenceOptions) -> None:
    """Raise now for a setting that a phase would refuse after hours."""
    facts = _facts(sequence)
    for phase in PHASES:
        if "model" not in sequence.phase_table(phase):
            raise ValueError(f"no model is given: {sequence.config} must have a table [model]")
        settings_from(phase, sequence.document, sequence.overrides, facts=facts)


def _facts(sequence: SequenceOptions) -> Table:
    """Settings of the model that follow from the data, or from the game that will be recorded."""
    facts: Table = {}
    if sequence.game is not None:
        view = sequence.record.view
        with closing(Game(sequence.game, view)) as game:
            facts = {
                "tokenizer": {"height": view.size, "width": view.size, "channels": view.channels},
                "dynamics": {"actions": to_table((game.component,)), "tasks": 1},
            }
    return facts_of(sequence.data, tasks=task_names(sequence.data)) if sequence.data else facts
