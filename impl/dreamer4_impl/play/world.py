"""What is played in: a trained model, and recordings that it continues."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor

from dreamer4_impl.layers.actions import LABELLED, Binary, Component, Continuous
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.play.controls import controls
from dreamer4_impl.play.errors import RequestError, UsageError
from dreamer4_impl.play.recorded_clip import RecordedClip

#: Frames that are encoded at once, so that the length of a context does not decide how much memory that takes.
BLOCK: Final = 16


@dataclass(frozen=True)
class World:
    """A model and the recordings that it can continue.

    Args:
        model: in evaluation mode, of one dtype and on one device.
        recordings: one or more, with frames and actions as the model has them.
        name: to show.
    """

    model: Dreamer4
    recordings: tuple[RecordedClip, ...]
    name: str
    _latents: dict[int, Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Refuse recordings that the model cannot continue, and frames that cannot be shown."""
        config = self.model.config.tokenizer
        frame = (config.height, config.width, config.channels)
        if config.channels not in (1, 3):
            raise UsageError(f"frames of 1 channel, grey, or 3, RGB, can be shown; the model's have {config.channels}")
        if not self.recordings:
            raise UsageError("there is no recording to begin from")
        for recording in self.recordings:
            try:
                recording.require_fit(self.components, frame)
            except ValueError as error:
                raise UsageError(f"the recording does not fit the model: {error}") from None

    @property
    def components(self) -> tuple[Component, ...]:
        """What an action consists of."""
        return self.model.config.dynamics.actions

    @property
    def parameter(self) -> Tensor:
        """One that tells the dtype and device of all."""
        return next(self.model.parameters())

    @cached_property
    def about(self) -> dict[str, Any]:
        """What the page shows, as JSON."""
        config = self.model.config
        return {
            "name": self.name,
            "width": config.tokenizer.width,
            "height": config.tokenizer.height,
            "clips": [len(recording.frames) - self.context(recording) for recording in self.recordings],
            "steps": [2**power for power in range(config.dynamics.k_max.bit_length())],
            "controls": controls(self.components, self.recordings[0].names),
            "device": self.parameter.device.type,
        }

    def recording(self, clip: int) -> RecordedClip:
        """The recording of this number, from 0."""
        if not 0 <= clip < len(self.recordings):
            raise RequestError(f"clip must be a number from 0 to {len(self.recordings) - 1}; got {clip!r}")
        return self.recordings[clip]

    def context(self, recording: RecordedClip) -> int:
        """How many of its frames the model is shown: what a time layer sees, but for one frame to compare with."""
        return max(1, min(self.model.config.dynamics.transformer.context, len(recording.frames) - 1))

    def beginning(self, clip: int) -> tuple[Float[Tensor, "1 T S D"], dict[str, Tensor | None]]:
        """Latents and actions of the frames that the model is shown."""
        recording = self.recording(clip)
        if clip not in self._latents:
            self._latents[clip] = self._encode(recording)
        return self._latents[clip], self.recorded_actions(recording, slice(self.context(recording)))

    def recorded_actions(self, recording: RecordedClip, rows: slice) -> dict[str, Tensor | None]:
        """The actions that led to these frames, (1, T, …) each, and where one is known."""
        device = self.parameter.device
        actions: dict[str, Tensor | None] = {LABELLED: torch.tensor(recording.labelled[rows], device=device)[None]}
        for component in self.components:
            switches = isinstance(component, Binary | Continuous)
            dtype = torch.float32 if switches else torch.int64
            actions[component.name] = torch.tensor(recording.actions[component.name][rows], dtype=dtype, device=device)[
                None
            ]
        return actions

    @torch.no_grad()
    def _encode(self, recording: RecordedClip) -> Float[Tensor, "1 T S D"]:
        tokenizer, like = self.model.tokenizer, self.parameter
        frames = torch.tensor(recording.frames[: self.context(recording)], device=like.device)
        cache = tokenizer.encoder_cache(1)
        video = (frames.float() / 255).to(like.dtype)[None]
        blocks = (video[:, first : first + BLOCK] for first in range(0, video.shape[1], BLOCK))
        return torch.cat([tokenizer.encode(block, cache=cache) for block in blocks], dim=1)
