"""How well the reward head tells the reward of held-out frames, from the frames and actions up to them."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dreamer4_impl.constants import CONTEXT_LEVEL
from dreamer4_impl.equations.eq02_sampling import context_label, corrupt_context
from dreamer4_impl.evaluation.held_out import Clips, HeldOut
from dreamer4_impl.evaluation.measures import estimate
from dreamer4_impl.evaluation.results import Findings, SkippedError
from dreamer4_impl.models.dreamer4 import Dreamer4


@torch.no_grad()
def reward_prediction(model: Dreamer4, data: HeldOut, context: int, batch: int = 16, seed: int = 0) -> Findings:
    """`reward.error` of the head, `reward.error_of_mean` of the mean training reward, `.explained`, `.correlation`.

    Args:
        model: with an agent, in evaluation mode.
        data: the clips.
        context: C₀, frames of a clip that are not judged.
        batch: clips at a time.
        seed: of the noise on the frames.

    The head reads the agent token as in imagination: frames carry the noise of context. Errors are mean squares;
    `explained` is the share of the mean's error that the head does not make, above 0 where it knows something.
    """
    found, noise = Findings(), torch.Generator(model.dynamics.registers.device).manual_seed(seed)
    predicted = torch.cat([predict_rewards(model, clips, noise) for clips in data.clips.split(batch)])[:, context:]
    recorded = data.clips.rewards[:, context:].double()
    if not recorded.any():
        raise SkippedError("no frame of the held-out clips has a reward: there is nothing to predict")
    mean = data.training_rewards.double().mean()
    of_head = (predicted - recorded).square().mean(1)
    of_mean = (mean - recorded).square().mean(1)
    found.measures["reward.error"] = estimate(_same, of_head)
    found.measures["reward.error_of_mean"] = estimate(_same, of_mean)
    found.measures["reward.explained"] = estimate(
        lambda head, mean: 1 - head / np.maximum(mean, 1e-300), of_head, of_mean
    )
    found.measures["reward.correlation"] = estimate(_correlation, _moments(predicted, recorded))
    rewarded = int((recorded != 0).sum())
    found.notes.append(f"{rewarded} of the {recorded.numel()} frames have a reward.")
    return found


def predict_rewards(model: Dreamer4, clips: Clips, noise: torch.Generator) -> Float[Tensor, "N T"]:
    """Mean reward at distance 0 of every frame, float64 on the CPU."""
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
    """Moments of each clip, whose means give the correlation over all frames."""
    return torch.stack([part.mean(1) for part in (x, y, x * x, y * y, x * y)], dim=1)


def _correlation(moments: np.ndarray) -> np.ndarray:
    """Of all frames of the clips; 0 where one of the two does not vary."""
    x, y, xx, yy, xy = np.moveaxis(moments, -1, 0)
    scale = np.sqrt(np.maximum(xx - x * x, 0) * np.maximum(yy - y * y, 0))
    return np.where(scale > 0, (xy - x * y) / np.where(scale > 0, scale, 1), 0.0)
