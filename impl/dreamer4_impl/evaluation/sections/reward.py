"""Reward prediction on held-out clips, from the frames and actions up to each frame."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dreamer4_impl.constants import CONTEXT_LEVEL
from dreamer4_impl.equations.eq02_sampling import context_label, corrupt_context
from dreamer4_impl.evaluation.held_out import Clips, HeldOut
from dreamer4_impl.evaluation.measures import estimate
from dreamer4_impl.evaluation.results import SectionResult, SkippedError
from dreamer4_impl.models.dreamer4 import Dreamer4


@torch.no_grad()
def reward_prediction(model: Dreamer4, data: HeldOut, context: int, batch: int = 16, seed: int = 0) -> SectionResult:
    """Score the reward head against the mean training reward.

    The head reads the agent token as in imagination: frames have the signal level of the context.

    Args:
        model: model with an agent, in evaluation mode.
        data: held-out clips, and training rewards.
        context: C₀, leading frames of each clip that are not scored, in [0, T).
        batch: clips per batch, 1 or more.
        seed: seed of the noise on the frames.

    Returns:
        Measures `reward.error` and `reward.error_of_mean` (mean square errors of the head and of the mean training
        reward), `reward.explained` (1 − error / error_of_mean) and `reward.correlation`.

    Raises:
        SkippedError: if the model has no agent, or all scored rewards are 0.
        TypeError: if an action component has a wrong type or dtype.
        ValueError: if the actions do not have the shapes or names of the model.
    """
    result, noise = SectionResult(), torch.Generator(model.dynamics.registers.device).manual_seed(seed)
    predicted = torch.cat([predict_rewards(model, clips, noise) for clips in data.clips.batches(batch)])[:, context:]
    recorded = data.clips.rewards[:, context:].double()
    if not recorded.any():
        raise SkippedError("no frame of the held-out clips has a reward: there is nothing to predict")
    mean = data.training_rewards.double().mean()
    of_head = (predicted - recorded).square().mean(1)
    of_mean = (mean - recorded).square().mean(1)
    result.measures["reward.error"] = estimate(_same, of_head)
    result.measures["reward.error_of_mean"] = estimate(_same, of_mean)
    result.measures["reward.explained"] = estimate(
        lambda head, mean: 1 - head / np.maximum(mean, 1e-300), of_head, of_mean
    )
    result.measures["reward.correlation"] = estimate(_correlation, _moments(predicted, recorded))
    rewarded = int((recorded != 0).sum())
    result.notes.append(f"{rewarded} of the {recorded.numel()} frames have a reward.")
    return result


def predict_rewards(model: Dreamer4, clips: Clips, noise: torch.Generator) -> Float[Tensor, "N T"]:
    """Predict the reward of arriving at each frame (the head's prediction at distance 0).

    Args:
        model: model with an agent, in evaluation mode.
        clips: the clips.
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


def _same(mean: np.ndarray) -> np.ndarray:
    return mean


def _moments(x: Float[Tensor, "N T"], y: Float[Tensor, "N T"]) -> Float[Tensor, "N 5"]:
    """Moments of each clip; their means over clips determine the correlation over all frames."""
    return torch.stack([product.mean(1) for product in (x, y, x * x, y * y, x * y)], dim=1)


def _correlation(moments: np.ndarray) -> np.ndarray:
    """Correlation over all frames; 0 if one of the two is constant."""
    x, y, xx, yy, xy = np.moveaxis(moments, -1, 0)
    scale = np.sqrt(np.maximum(xx - x * x, 0) * np.maximum(yy - y * y, 0))
    return np.where(scale > 0, (xy - x * y) / np.where(scale > 0, scale, 1), 0.0)
