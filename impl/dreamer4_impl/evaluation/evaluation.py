"""Evaluation of a model section by section; sections that cannot be measured are skipped with a reason."""

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import torch

from dreamer4_impl.arguments import require_power_of_two
from dreamer4_impl.checkpoints.options import ImagineOptions
from dreamer4_impl.constants import SAMPLING_STEPS
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.evaluation.held_out import HeldOut, load_clips, load_held_out, load_windows
from dreamer4_impl.evaluation.measures import Measure
from dreamer4_impl.evaluation.played_game import PlayedGame
from dreamer4_impl.evaluation.results import Pictures, SectionResult, SkippedError
from dreamer4_impl.evaluation.sections.game import game_returns
from dreamer4_impl.evaluation.sections.imagined import imagined_returns
from dreamer4_impl.evaluation.sections.open_loop import OpenLoopSettings, open_loop
from dreamer4_impl.evaluation.sections.returns import compare_returns, disagreement
from dreamer4_impl.evaluation.sections.reward import reward_prediction
from dreamer4_impl.evaluation.sections.tokenizer import tokenizer_quality
from dreamer4_impl.models.dreamer4 import Dreamer4, count_parameters
from dreamer4_impl.models.heads import PolicyHead

#: Sections in order, each with the model components that it needs.
SECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "tokenizer": ("tokenizer",),
    "rollout": ("tokenizer", "dynamics"),
    "reward": ("tokenizer", "dynamics", "agent"),
    "imagined": ("tokenizer", "dynamics", "agent"),
    "game": ("tokenizer", "dynamics", "agent"),
    "returns": ("tokenizer", "dynamics", "agent"),
}

#: Clips on which rewards are predicted, for each clip that is rolled out: rewards are rare, and no frame is sampled.
REWARD_WINDOWS: Final = 4


@dataclass(frozen=True)
class EvaluationSettings:
    """What is measured, on how much data.

    Args:
        clips: number of held-out clips, 1 or more.
        context: C₀, frames before the first predicted frame, 1 or more; None for the context length of the dynamics.
        horizons: numbers of frames ahead at which rollouts are measured, 1 or more each.
        steps: numbers of sampling steps K, powers of two.
        rollouts: number of imagined rollouts of the policy, and of the prior, 1 or more; also the number of starts in
            the real game from which imagined and real return are compared.
        imagine: horizon, context, K and γ of imagined rollouts; use those of training.
        game: gymnasium id such as "ALE/Breakout-v5", or None to skip the sections `game` and `returns`.
        episodes: number of episodes of the game for the policy, and for the prior, 1 or more.
        random_episodes: number of episodes of random play, 1 or more; None for as many as of the policy.
        batch: clips per batch, 1 or more; changing it changes the noise.
        seed: seed of all random numbers, 0 or more.

    Raises:
        ValueError: if a value is out of its range.
    """

    clips: int = 64
    context: int | None = None
    horizons: tuple[int, ...] = (1, 4, 8, 16)
    steps: tuple[int, ...] = (1, 2, SAMPLING_STEPS, 16, 64)
    rollouts: int = 400
    imagine: ImagineOptions = field(default_factory=ImagineOptions)
    game: str | None = None
    episodes: int = 10
    random_episodes: int | None = None
    batch: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("clips", "rollouts", "episodes", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more; got {getattr(self, name)!r}")
        for name, unit in {"context": "1 frame", "random_episodes": "1"}.items():
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be {unit} or more; got {getattr(self, name)!r}")
        if not self.horizons or min(self.horizons) < 1:
            raise ValueError(f"horizons must be one or more numbers of frames, 1 or more each; got {self.horizons!r}")
        if not self.steps:
            raise ValueError("steps must hold at least one K; got none")
        for k in self.steps:
            require_power_of_two("each of steps", k)


@dataclass
class Evaluation:
    """Results of an evaluation.

    Args:
        measures: measures by name, such as "rollout.k4.psnr.h8".
        skipped: reason of each skipped section.
        notes: remarks by section, full sentences.
        pictures: example rollouts.
        seconds: wall-clock time of each section.
        facts: metadata of model, data, settings and environment, as in evaluation.json.
    """

    measures: dict[str, Measure] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    pictures: list[Pictures] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def evaluate(
    model: Dreamer4,
    dataset: Dataset,
    settings: EvaluationSettings,
    *,
    training: Dataset,
    prior: PolicyHead | None = None,
    absent: Mapping[str, str] | None = None,
    on_section: Callable[[str], object] | None = None,
) -> Evaluation:
    """Measure a model on held-out data. Sets the model to evaluation mode and changes nothing else.

    Args:
        model: model on its device.
        dataset: held-out episodes.
        settings: amounts of data, horizons and seed.
        training: episodes that the model was trained on, for the baselines mean frame, mean reward and PCA.
        prior: behaviour-cloned policy head, if the policy was trained further.
        absent: untrained components ("tokenizer", "dynamics", "agent"), each with a reason; sections that need them
            are skipped.
        on_section: called with the name of each section before it is measured.

    Returns:
        The results; sections that cannot be measured are in `skipped`, with the reason.

    Raises:
        ValueError: if the frames or tasks of the dataset do not fit the model, or no held-out episode is long enough.
    """
    _require_fit(model, dataset)
    model.eval()
    context = settings.context or model.dynamics.config.transformer.context
    plan = OpenLoopSettings(context, settings.horizons, settings.steps, settings.batch, settings.seed)
    data = load_held_out(dataset, training, settings.clips, plan.length)
    evaluation = Evaluation(facts=_facts(model, dataset, training, settings, data, context))
    for section, measure in _sections(model, dataset, data, plan, settings, prior).items():
        if on_section is not None:
            on_section(section)
        begin = time.perf_counter()
        try:
            _skip_unless_possible(section, model, dataset, absent or {})
            _add(section, measure(), evaluation)
        except SkippedError as reason:
            evaluation.skipped[section] = str(reason)
        evaluation.seconds[section] = time.perf_counter() - begin
    _add_caveat(evaluation)
    return evaluation


def _sections(
    model: Dreamer4,
    dataset: Dataset,
    data: HeldOut,
    plan: OpenLoopSettings,
    settings: EvaluationSettings,
    prior: PolicyHead | None,
) -> dict[str, Callable[[], SectionResult]]:
    batch, seed = settings.batch, settings.seed
    game = PlayedGame(model, dataset, settings.game, settings.episodes, seed)
    return {
        "tokenizer": lambda: tokenizer_quality(model.tokenizer, data, batch, seed),
        "rollout": lambda: open_loop(model, data, plan),
        "reward": lambda: reward_prediction(
            model,
            load_windows(dataset, REWARD_WINDOWS * settings.clips, plan.length, plan.context),
            data.training_rewards,
            batch,
            seed,
        ),
        "imagined": lambda: _imagined(model, prior, dataset, settings),
        "game": lambda: game_returns(game, prior, settings.random_episodes),
        "returns": lambda: compare_returns(game, settings.imagine, settings.rollouts, batch, seed),
    }


def _imagined(
    model: Dreamer4, prior: PolicyHead | None, dataset: Dataset, settings: EvaluationSettings
) -> SectionResult:
    options = settings.imagine
    try:
        contexts = load_clips(dataset, settings.rollouts, options.context, ended=False)
    except ValueError as error:
        raise SkippedError(str(error)) from error
    return imagined_returns(model, prior, contexts, options, settings.rollouts, settings.batch, settings.seed)


def _skip_unless_possible(section: str, model: Dreamer4, dataset: Dataset, absent: Mapping[str, str]) -> None:
    for component in SECTIONS[section]:
        if component in absent:
            raise SkippedError(absent[component])
    expected, actual = model.dynamics.config.actions, dataset.components
    # If the model or the dataset has no actions, frames are predicted from frames alone.
    if "dynamics" in SECTIONS[section] and expected and actual and sorted(expected, key=str) != sorted(actual, key=str):
        raise SkippedError(f"the dataset has the actions {actual}, the model has {expected}")


def _add(section: str, result: SectionResult, evaluation: Evaluation) -> None:
    evaluation.measures |= result.measures
    evaluation.notes[section] = result.notes
    evaluation.pictures += result.pictures


def _add_caveat(evaluation: Evaluation) -> None:
    """Say with every imagined return whether the real return of the same policy supports it."""
    if "returns.ratio" not in evaluation.measures:
        caveats = {"imagined": f"Not compared with the real return: {evaluation.skipped.get('returns')}."}
    elif (reason := disagreement(evaluation.measures)) is not None:
        caveats = {"imagined": reason, "returns": reason}
    else:
        caveats = {}
    for section, caveat in caveats.items():
        if section in evaluation.notes:
            evaluation.notes[section].append(caveat)


def _require_fit(model: Dreamer4, dataset: Dataset) -> None:
    config, tasks = model.tokenizer.config, model.dynamics.config.tasks
    if tasks and len(dataset.tasks) > tasks:
        raise ValueError(f"dataset must have the {tasks} tasks of the model; got {', '.join(dataset.tasks)}")
    expected, actual = (config.height, config.width, config.channels), (dataset.height, dataset.width, dataset.channels)
    if expected != actual:
        raise ValueError(f"dataset must have the frames of the model, (H, W, C) = {expected}; got {actual}")


def _facts(
    model: Dreamer4, dataset: Dataset, training: Dataset, settings: EvaluationSettings, data: HeldOut, context: int
) -> dict[str, Any]:
    parameters = {name: count_parameters(component) for name, component in model.named_children()}
    return {
        "model": {"parameters": parameters, "k_max": model.dynamics.config.k_max},
        "dataset": {
            "name": dataset.name,
            "tasks": list(dataset.tasks),
            "held_out": {"episodes": len(dataset.episodes), "frames": len(dataset), "clips": len(data.clips)},
            "training": {"episodes": len(training.episodes), "frames": len(training)},
        },
        "settings": asdict(replace(settings, context=context)),
        "environment": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "device": _device_name(next(model.parameters()).device),
        },
    }


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
