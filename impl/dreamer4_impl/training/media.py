"""What a model in training makes of a few fixed clips, as videos.

    tokenizer        the frames above their reconstruction
    dynamics         recorded frames above an open-loop rollout: after the context, from the recorded actions alone
    agent, imagine   recorded context, then an episode that the policy imagines, with predicted rewards

Clips and noise are the same at all steps, so that videos of different steps can be compared. All random numbers come
from generators of their own: training gives the same numbers with and without media.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dreamer4_impl.checkpoints.settings import TrainingSettings
from dreamer4_impl.constants import SAMPLING_STEPS
from dreamer4_impl.data.clips import Batch, ClipSampler, as_video
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.equations.eq01_corruption import per_frame
from dreamer4_impl.generation.decoder import FrameDecoder
from dreamer4_impl.generation.imagination import imagine
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.training.phases.dynamics import representation
from dreamer4_impl.training.pictures import Video, film

CLIPS: Final = 4
"""Clips of a video."""
SEED: Final = 0
"""Seed of the choice of clips and of all noise, whatever the seed of the run."""


class Media:
    """Videos of a phase on fixed clips.

    Args:
        settings: settings of the run; `imagine` gives the numbers of context and predicted frames of all phases but the
            tokenizer.
        dataset: episodes to show, held-out ones if there are any.
        device: device of the model.

    Raises:
        DatasetError: if there is no episode.
    """

    def __init__(self, settings: TrainingSettings, dataset: Dataset, device: torch.device) -> None:
        self.settings = settings
        options = settings.imagine
        length = {"tokenizer": settings.model.long_length, "dynamics": options.context + options.horizon}
        frames = length.get(settings.phase, options.context)
        clips = ClipSampler(dataset, SEED).batch(0, range(CLIPS), frames, [False] * CLIPS, taken=False)
        self.clips = clips.to(device)

    @torch.no_grad()
    def __call__(self, model: Dreamer4) -> dict[str, Video]:
        """Compute the videos of the phase.

        Args:
            model: the whole model, not sharded, on the device.

        Returns:
            Videos by name: "reconstruction", "rollout" or "imagined".
        """
        with self._uncompiled():
            if self.settings.phase == "tokenizer":
                return {"reconstruction": _reconstruction(model, self.clips)}
            if self.settings.phase == "dynamics":
                return {"rollout": _rollout(model, self.clips, self.settings.imagine.context)}
            return {"imagined": self._imagined(model)}

    def _uncompiled(self) -> AbstractContextManager[object]:
        """Context in which compiled layers run uncompiled, so that no form is compiled for videos."""
        return nullcontext() if self.settings.execution.compile is None else torch.compiler.set_stance("force_eager")

    def _imagined(self, model: Dreamer4) -> Video:
        assert model.agent is not None, "phases with a policy have an agent"
        clips, options = self.clips, self.settings.imagine
        z, lengths = representation(model, clips), _frame_mask(clips).sum(1)
        task = clips.task if model.config.dynamics.tasks else None
        keys = [("media", clip) for clip in range(CLIPS)]
        padded = None if clips.valid is None else lengths
        imagined = imagine(model, model.agent.policy, z, clips.actions, task, options, SEED, keys, padded)
        # A context that is shorter than the others is followed by its imagined frames at once, and by the last of them.
        frame = torch.arange(options.context + options.horizon, device=z.device)
        ahead = frame - lengths[:, None]
        column = torch.where(ahead < 0, frame, options.context + ahead).clamp(max=len(frame) - 1)
        order = torch.arange(CLIPS, device=z.device)[:, None], column
        rewards = torch.cat([clips.rewards, model.agent.reward.predict(imagined.h[:, 1:])], dim=1)[order]
        video = model.tokenizer.decode(torch.cat([z.to(imagined.z.dtype), imagined.z], dim=1)[order])
        return film([video], ahead >= 0, rewards)


def _reconstruction(model: Dreamer4, clips: Batch) -> Video:
    valid = _frame_mask(clips)
    return film(_pair(clips, model.tokenizer.decode(_latents(model, clips))), torch.zeros_like(valid))


def _rollout(model: Dreamer4, clips: Batch, context: int) -> Video:
    valid, z = _frame_mask(clips), _latents(model, clips)[:, :context]
    noise = torch.Generator(z.device).manual_seed(SEED)
    steps = min(SAMPLING_STEPS, model.config.dynamics.k_max)
    decoder = FrameDecoder(model.dynamics, CLIPS, num_steps=steps, generator=noise, graph=False)
    actions = clips.actions if model.config.dynamics.actions else None
    predicted = torch.cat([z, decoder.generate(z, actions, valid.shape[1] - context)], dim=1)
    frame = torch.arange(valid.shape[1], device=z.device)
    return film(_pair(clips, model.tokenizer.decode(predicted)), (frame >= context) & valid)


def _pair(clips: Batch, video_hat: Tensor) -> list[Float[Tensor, "B T H W C"]]:
    """Truth and prediction, black after the end of an episode."""
    assert clips.video is not None, "the sampler has no latents"
    valid = _frame_mask(clips)
    return [torch.where(per_frame(valid, video), video, 0) for video in (as_video(clips.video), video_hat.float())]


def _latents(model: Dreamer4, clips: Batch) -> Float[Tensor, "B T S D"]:
    """Latents in the dtype of the parameters."""
    return representation(model, clips).to(next(model.dynamics.parameters()).dtype)


def _frame_mask(clips: Batch) -> Bool[Tensor, "B T"]:
    """True for frames of an episode, False for padding."""
    return torch.ones_like(clips.continues) if clips.valid is None else clips.valid
