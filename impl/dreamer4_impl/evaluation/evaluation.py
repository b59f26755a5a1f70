"""A whole evaluation: what is measured on which data, part by part, and what is left out and why."""

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
from dreamer4_impl.evaluation.held_out import HeldOut, clips_of, held_out
from dreamer4_impl.evaluation.measures import Measure
from dreamer4_impl.evaluation.results import Findings, Pictures, SkippedError
from dreamer4_impl.evaluation.sections.game import game_returns
from dreamer4_impl.evaluation.sections.imagined import imagined_returns
from dreamer4_impl.evaluation.sections.open_loop import Plan, open_loop
from dreamer4_impl.evaluation.sections.reward import reward_prediction
from dreamer4_impl.evaluation.sections.tokenizer import tokenizer_quality
from dreamer4_impl.models.dreamer4 import Dreamer4, count_parameters
from dreamer4_impl.models.heads import PolicyHead

#: Sections by name, in order, with the parts of the model that each needs.
SECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "tokenizer": ("tokenizer",),
    "rollout": ("tokenizer", "dynamics"),
    "reward": ("tokenizer", "dynamics", "agent"),
    "imagined": ("tokenizer", "dynamics", "agent"),
    "game": ("tokenizer", "dynamics", "agent"),
}


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Args:
        clips: how many held-out clips.
        context: C₀, frames of a clip before the first predicted one; None is the context length of the dynamics.
        horizons: how many frames ahead rollouts are measured.
        steps: values of K.
        rollouts: imagined ones, of policy and prior each.
        imagine: horizon, context, K and γ of these; those that the agent was trained with are the ones to take.
        game: a gymnasium id such as "ALE/Breakout-v5", or None for no game.
        episodes: of the game, for the policy and for the random policy.
        batch: clips at a time; part of what the noise depends on.
        seed: of everything random.
    """

    clips: int = 64
    context: int | None = None
    horizons: tuple[int, ...] = (1, 4, 8, 16)
    steps: tuple[int, ...] = (1, 2, SAMPLING_STEPS, 16, 64)
    rollouts: int = 256
    imagine: ImagineOptions = field(default_factory=ImagineOptions)
    game: str | None = None
    episodes: int = 10
    batch: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        for name in ("clips", "rollouts", "episodes", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more; got {getattr(self, name)!r}")
        if self.context is not None and self.context < 1:
            raise ValueError(f"context must be 1 frame or more; got {self.context!r}")
        if not self.horizons or min(self.horizons) < 1:
            raise ValueError(f"horizons must be one frame or more ahead, at least one of them; got {self.horizons!r}")
        if not self.steps:
            raise ValueError("steps must hold at least one K; got none")
        for k in self.steps:
            require_power_of_two("each of steps", k)


@dataclass
class Evaluation:
    """What was found.

    Args:
        measures: by name, such as "rollout.k4.psnr.h8".
        skipped: section → why it was left out.
        notes: section → sentences for people.
        pictures: of rollouts.
        seconds: that each section took.
        facts: about model, data, settings and environment.
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
    settings: Settings,
    *,
    training: Dataset,
    prior: PolicyHead | None = None,
    absent: Mapping[str, str] | None = None,
    before: Callable[[str], object] = lambda section: None,
) -> Evaluation:
    """Measure the model on data that it has not seen.

    Args:
        model: on its device; put into evaluation mode.
        dataset: what it has not seen.
        settings: what is measured.
        training: what it was trained on, for the baselines: mean frame, mean reward, PCA.
        prior: the behaviour-cloned policy head, where the policy has been trained further.
        absent: parts of the model ("tokenizer", "dynamics", "agent") that are not trained, each with a sentence.
        before: called with the name of each section as it begins.

    A section that cannot be measured is in `skipped`, with the reason. Nothing of the model changes but its mode.
    """
    _check_frames(model, dataset)
    model.eval()
    context = settings.context or model.dynamics.config.transformer.context
    plan = Plan(context, settings.horizons, settings.steps, settings.batch, settings.seed)
    data = held_out(dataset, training, settings.clips, plan.length)
    evaluation = Evaluation(facts=_facts(model, dataset, training, settings, data, context))
    for section, measure in _sections(model, dataset, data, plan, settings, prior).items():
        before(section)
        _measure(section, measure, evaluation, absent or {})
    return evaluation


def _sections(
    model: Dreamer4, dataset: Dataset, data: HeldOut, plan: Plan, settings: Settings, prior: PolicyHead | None
) -> dict[str, Callable[[], Findings]]:
    def acting(measure: Callable[[], Findings]) -> Callable[[], Findings]:
        def checked() -> Findings:
            _check_actions(model, dataset)
            return measure()

        return checked

    batch, seed = settings.batch, settings.seed
    return {
        "tokenizer": lambda: tokenizer_quality(model.tokenizer, data, batch, seed),
        "rollout": acting(lambda: open_loop(model, data, plan)),
        "reward": acting(lambda: reward_prediction(model, data, plan.context, batch, seed)),
        "imagined": acting(lambda: _imagined(model, prior, dataset, settings)),
        "game": acting(lambda: game_returns(model, dataset, settings.game, settings.episodes, seed)),
    }


def _imagined(model: Dreamer4, prior: PolicyHead | None, dataset: Dataset, settings: Settings) -> Findings:
    options = settings.imagine
    contexts = clips_of(dataset, settings.rollouts, options.context)
    return imagined_returns(model, prior, contexts, options, settings.rollouts, settings.batch, settings.seed)


def _measure(section: str, measure: Callable[[], Findings], evaluation: Evaluation, absent: Mapping[str, str]) -> None:
    begin = time.perf_counter()
    try:
        for part in SECTIONS[section]:
            if part in absent:
                raise SkippedError(absent[part])
        found = measure()
        evaluation.measures |= found.measures
        evaluation.notes[section] = found.notes
        evaluation.pictures += found.pictures
    except SkippedError as reason:
        evaluation.skipped[section] = str(reason)
    evaluation.seconds[section] = time.perf_counter() - begin


def _check_frames(model: Dreamer4, dataset: Dataset) -> None:
    config = model.tokenizer.config
    taken, there = (config.height, config.width, config.channels), (dataset.height, dataset.width, dataset.channels)
    if taken != there:
        raise ValueError(f"dataset must have the frames that the model takes, (H, W, C) = {taken}; got {there}")


def _check_actions(model: Dreamer4, dataset: Dataset) -> None:
    taken, there = model.dynamics.config.actions, dataset.components
    # Without actions on one of the two sides there is nothing to mistake: frames are then predicted from frames alone.
    if taken and there and sorted(taken, key=str) != sorted(there, key=str):
        raise SkippedError(f"the dataset has the actions {there}, and the model takes {taken}")


def _facts(
    model: Dreamer4, dataset: Dataset, training: Dataset, settings: Settings, data: HeldOut, context: int
) -> dict[str, Any]:
    parameters = {name: count_parameters(part) for name, part in model.named_children()}
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
            "device": _described(next(model.parameters()).device),
        },
    }


def _described(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
