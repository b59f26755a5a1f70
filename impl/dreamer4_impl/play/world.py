"""The played model with the recordings that it continues."""

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

#: Frames per pass of the encoder, which bounds the memory for long contexts.
BLOCK: Final = 16


@dataclass(frozen=True)
class World:
    """Model and recordings; shared by all sessions.

    Args:
        model: model in evaluation mode, of one dtype and on one device.
        recordings: one clip or more, with the frames and actions of the model.
        name: name to show on the page.

    Raises:
        UsageError: if a recording does not fit the model, there is none, or the frames cannot be shown.
    """

    model: Dreamer4
    recordings: tuple[RecordedClip, ...]
    name: str
    _latents: dict[int, Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        config = self.model.config.tokenizer
        frame = (config.height, config.width, config.channels)
        if config.channels not in (1, 3):
            raise UsageError(
                f"the model must have frames of 1 channel (grey) or 3 channels (RGB); got {config.channels}"
            )
        if not self.recordings:
            raise UsageError("there is no recording to start from")
        for recording in self.recordings:
            try:
                recording.require_fit(self.components, frame)
            except ValueError as error:
                raise UsageError(f"the recording does not fit the model: {error}") from None

    @property
    def components(self) -> tuple[Component, ...]:
        """Components of an action.

        Returns:
            The components of the dynamics; empty for a model without actions.
        """
        return self.model.config.dynamics.actions

    @property
    def parameter(self) -> Tensor:
        """First parameter, whose dtype and device all parameters share.

        Returns:
            The parameter.
        """
        return next(self.model.parameters())

    @cached_property
    def about(self) -> dict[str, Any]:
        """Description of the world for the page.

        Returns:
            JSON object; `clips` holds the number of recorded frames after the context of each clip.
        """
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
        """Look up a recording.

        Args:
            clip: index of the recording, in [0, number of recordings).

        Returns:
            The recording.

        Raises:
            RequestError: if there is no such recording.
        """
        if not 0 <= clip < len(self.recordings):
            raise RequestError(f"clip must be an integer from 0 to {len(self.recordings) - 1}; got {clip!r}")
        return self.recordings[clip]

    def context(self, recording: RecordedClip) -> int:
        """Number of leading frames of a recording that are context; at least one frame remains if there are two.

        Args:
            recording: one of `recordings`, or a clip of the dataset.

        Returns:
            Frames, at most the context length of the dynamics, 1 or more.
        """
        return max(1, min(self.model.config.dynamics.transformer.context, len(recording.frames) - 1))

    def beginning(self, clip: int) -> tuple[Float[Tensor, "1 T S D"], dict[str, Tensor | None]]:
        """Latents and actions of the context; latents are encoded once per recording.

        Args:
            clip: index of the recording, in [0, number of recordings).

        Returns:
            Latents, (1, T, S, D), and actions as in `recorded_actions`.

        Raises:
            RequestError: if there is no such recording.
        """
        recording = self.recording(clip)
        if clip not in self._latents:
            self._latents[clip] = self._encode(recording)
        return self._latents[clip], self.recorded_actions(recording, slice(self.context(recording)))

    def recorded_actions(self, recording: RecordedClip, rows: slice) -> dict[str, Tensor | None]:
        """Actions that led to a range of frames.

        Args:
            recording: one of `recordings`, or a clip of the dataset.
            rows: consecutive frames of the recording, from 0.

        Returns:
            Components, (1, T, …) each, int64 or float32, and `labelled`, bool, (1, T).
        """
        device = self.parameter.device
        actions: dict[str, Tensor | None] = {LABELLED: torch.tensor(recording.labelled[rows], device=device)[None]}
        for component in self.components:
            values = recording.actions[component.name][rows]
            dtype = torch.float32 if isinstance(component, Binary | Continuous) else torch.int64
            actions[component.name] = torch.tensor(values, dtype=dtype, device=device)[None]
        return actions

    @torch.no_grad()
    def _encode(self, recording: RecordedClip) -> Float[Tensor, "1 T S D"]:
        tokenizer, like = self.model.tokenizer, self.parameter
        frames = torch.tensor(recording.frames[: self.context(recording)], device=like.device)
        cache = tokenizer.encoder_cache(1)
        video = (frames.float() / 255).to(like.dtype)[None]
        blocks = (video[:, first : first + BLOCK] for first in range(0, video.shape[1], BLOCK))
        return torch.cat([tokenizer.encode(block, cache=cache) for block in blocks], dim=1)
