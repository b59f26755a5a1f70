"""The played model with the recordings that it continues."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor

from dreamer4_impl.layers.actions import LABELLED, Binary, Component, Continuous
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.heads import PolicyHead
from dreamer4_impl.play.autopilot import ORIGINS, absence
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
        phase: phase of the training of the model, which says what its policy has learned from.
        tasks: names of the tasks that the model was trained on, in the order of their numbers; empty if unknown.

    Raises:
        UsageError: if a recording does not fit the model, there is none, or the frames cannot be shown.
    """

    model: Dreamer4
    recordings: tuple[RecordedClip, ...]
    name: str
    phase: str = "dynamics"
    tasks: tuple[str, ...] = ()
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
            JSON object; `clips` holds the number of recorded frames after the context of each clip, `autopilot` whether
            the model has a policy and a sentence about it.
        """
        config = self.model.config
        return {
            "name": self.name,
            "width": config.tokenizer.width,
            "height": config.tokenizer.height,
            "clips": [len(recording.frames) - self.context(recording) for recording in self.recordings],
            "steps": [2**power for power in range(config.dynamics.k_max.bit_length())],
            "controls": self.controls,
            "autopilot": self._autopilot(),
            "device": self.parameter.device.type,
        }

    @cached_property
    def controls(self) -> dict[str, Any]:
        """Assignment of keys to actions, by the names of the first recording.

        Returns:
            JSON object of `controls.controls`.
        """
        return controls(self.components, self.recordings[0].names)

    def _autopilot(self) -> dict[str, Any]:
        reason = absence(self.model, self.phase)
        return {"available": reason is None, "about": reason or f"the autopilot is {ORIGINS[self.phase]}"}

    def task(self, clip: int) -> Tensor | None:
        """Task of a recording for the agent token: the one with the title of the recording, or the only one.

        Args:
            clip: index of the recording, in [0, number of recordings).

        Returns:
            Index of the task, int64, (1,); None for a model without tasks, or if the task is unknown.

        Raises:
            RequestError: if there is no such recording.
        """
        count, title = self.model.config.dynamics.tasks, self.recording(clip).title
        if title in self.tasks[:count]:
            return torch.tensor([self.tasks.index(title)], device=self.parameter.device)
        return torch.zeros(1, dtype=torch.int64, device=self.parameter.device) if count == 1 else None

    def policy(self, clip: int) -> PolicyHead:
        """Policy that acts after a recording.

        Args:
            clip: index of the recording, in [0, number of recordings).

        Returns:
            Policy head of the model.

        Raises:
            RequestError: if the model has no agent, or its agent has tasks and that of the recording is unknown.
        """
        if reason := absence(self.model, self.phase):
            raise RequestError(reason)
        assert self.model.agent is not None
        if self.model.config.dynamics.tasks and self.task(clip) is None:
            tasks = ", ".join(self.tasks) or "of unknown names"
            raise RequestError(
                f"for the autopilot, the task of the starting clip must be one of the model's ({tasks}); "
                f"got {self.recording(clip).title!r}"
            )
        return self.model.agent.policy

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
