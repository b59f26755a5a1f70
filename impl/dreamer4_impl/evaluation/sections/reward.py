"""Reward prediction on held-out episodes, from the frames and actions up to each frame."""

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dreamer4_impl.constants import CONTEXT_LEVEL
from dreamer4_impl.equations.eq02_sampling import context_label, corrupt_context
from dreamer4_impl.evaluation.held_out import Clips, Windows
from dreamer4_impl.evaluation.measures import estimate
from dreamer4_impl.evaluation.results import SectionResult, SkippedError
from dreamer4_impl.models.dreamer4 import Dreamer4


@torch.no_grad()
def reward_prediction(
    model: Dreamer4, windows: Windows, training_rewards: Float[Tensor, "M"], batch: int = 16, seed: int = 0
) -> SectionResult:
    """Score the reward head against the mean training reward, on all frames of episodes but the first.

    The head reads the agent token as in imagination: frames have the signal level of the context. It predicts a
    rewarded frame where its expectation has at least half the mean magnitude of the recorded rewards other than 0; the
    prediction is right if a reward of this sign was recorded.

    Args:
        model: model with an agent, in evaluation mode.
        windows: held-out episodes as clips.
        training_rewards: rewards of training frames, (M,).
        batch: clips per batch, 1 or more.
        seed: seed of the noise on the frames, 0 or more.

    Returns:
        Measures `reward.error` and `reward.error_of_mean` (mean square errors of the head and of the mean training
        reward), `reward.explained` (1 − error / error_of_mean), `reward.correlation`, `reward.precision` (share of the
        predicted rewarded frames that are right; 0 without one) and `reward.recall` (share of the rewarded frames that
        are predicted).

    Raises:
        SkippedError: if the model has no agent, or all scored rewards are 0.
        TypeError: if an action component has a wrong type or dtype.
        ValueError: if the actions do not have the shapes or names of the model.
    """
    noise = torch.Generator(model.dynamics.registers.device).manual_seed(seed)
    predicted = torch.cat([predict_rewards(model, clips, noise) for clips in windows.clips.batches(batch)])
    recorded, scored = windows.clips.rewards.double(), windows.scored
    rewarded = (recorded != 0) & scored
    if not rewarded.any():
        raise SkippedError("no frame of the held-out clips has a reward: there is nothing to predict")
    sums = _sums(predicted, recorded, training_rewards.double().mean(), scored)
    result = SectionResult(measures={name: estimate(measure, sums) for name, measure in _MEASURES.items()})
    result.notes.append(f"{int(rewarded.sum())} of the {int(scored.sum())} frames have a reward.")
    return result


def predict_rewards(model: Dreamer4, clips: Clips, noise: torch.Generator) -> Float[Tensor, "N T"]:
    """Predict the reward of arriving at each frame (the head's prediction at distance 0).

    Args:
        model: model with an agent, in evaluation mode.
        clips: frames, actions and rewards of N clips.
        noise: generator of the noise on the frames, on the device of the model.

    Returns:
        Expected rewards, float64 on the CPU, (N, T).

    Raises:
        SkippedError: if the model has no agent.
        TypeError: if an action component has a wrong type or dtype.
        ValueError: if the actions do not have the shapes or names of the model.
    """
    if model.agent is None:
        raise SkippedError("the model has no agent")
    config, device = model.dynamics.config, model.dynamics.registers.device
    z = corrupt_context(model.tokenizer.encode(clips.pixels(device)), CONTEXT_LEVEL, noise)
    tau = z.new_full(z.shape[:2], context_label(CONTEXT_LEVEL, config.k_max))
    actions = clips.actions_on(device) if config.actions else None
    task = clips.task.to(device) if config.tasks else None
    h = model.dynamics(z, tau, torch.full_like(tau, 1 / config.k_max), actions, task)[1]
    return model.agent.reward.predict(h).double().cpu()


def _sums(
    predicted: Float[Tensor, "N T"], recorded: Float[Tensor, "N T"], mean: Tensor, scored: Bool[Tensor, "N T"]
) -> Float[Tensor, "N 11"]:
    """Sums over the scored frames of each clip, from which all measures are computed."""
    x, y = predicted, recorded
    rewarded = (y != 0) & scored
    claimed = x.abs() >= y[rewarded].abs().mean() / 2
    terms = (scored, (x - y) ** 2, (mean - y) ** 2, x, y, x * x, y * y, x * y, claimed, rewarded, claimed & (x * y > 0))
    return torch.stack([(term.double() * scored).sum(1) for term in terms], dim=1)


def _correlation(sums: np.ndarray) -> np.ndarray:
    """Correlation over all frames; 0 if one of the two is constant."""
    x, y, xx, yy, xy = np.moveaxis(sums[..., 3:8] / sums[..., :1], -1, 0)
    scale = np.sqrt(np.maximum(xx - x * x, 0) * np.maximum(yy - y * y, 0))
    return np.where(scale > 0, (xy - x * y) / np.where(scale > 0, scale, 1), 0.0)


def _ratio(numerator: int, denominator: int) -> Callable[[np.ndarray], np.ndarray]:
    """Ratio of two columns of the sums; 0 where the denominator is 0."""
    return lambda sums: sums[..., numerator] / np.maximum(sums[..., denominator], 1e-300)


_MEASURES: Final = {
    "reward.error": _ratio(1, 0),
    "reward.error_of_mean": _ratio(2, 0),
    "reward.explained": lambda sums: 1 - _ratio(1, 2)(sums),
    "reward.correlation": _correlation,
    "reward.precision": _ratio(10, 8),
    "reward.recall": _ratio(10, 9),
}
