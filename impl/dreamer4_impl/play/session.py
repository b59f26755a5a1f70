"""One interactive session: decoder, current frame, undo history."""

import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from dreamer4_impl.generation.decoder import FrameDecoder, Past
from dreamer4_impl.play.action import read_action
from dreamer4_impl.play.autopilot import POLICY, draw_action
from dreamer4_impl.play.controls import action_text
from dreamer4_impl.play.errors import RequestError
from dreamer4_impl.play.picture import png, quantised
from dreamer4_impl.play.world import World

#: Memory limit of a session's undo history on the device, in bytes; at least one frame is stored.
UNDO_BYTES: Final = 2**26
#: Maximum length of the undo history, in frames.
UNDO_FRAMES: Final = 128
#: Seeds are in [0, SEEDS), which every generator of PyTorch accepts.
SEEDS: Final = 2**31


@dataclass(frozen=True)
class Snapshot:
    """State that determines all later frames.

    Args:
        frame: index of the frame, 0 at the start.
        picture: the frame as PNG.
        action: text of the action that led to the frame.
        past: past of the decoder.
        generator: state of the generator of the noise.
    """

    frame: int
    picture: bytes
    action: str
    past: Past
    generator: Tensor


class Session:
    """Interactive session that generates frames after the context of a recorded clip. Not thread-safe.

    Args:
        world: model and recordings; shared by all sessions.
        clip: index of the recording, in [0, number of recordings).
        seed: seed of the noise and of the autopilot, in [0, 2³¹).
        steps: K, a power of two up to k_max.

    Raises:
        RequestError: if an argument is out of range.
    """

    def __init__(self, world: World, clip: int, seed: int, steps: int) -> None:
        self.world = world
        self.generator = torch.Generator(world.parameter.device)
        self.reset(clip, seed, steps)

    def reset(self, clip: int, seed: int, steps: int) -> None:
        """Return to the last context frame of a recording and clear the undo history.

        Args:
            clip: index of the recording, in [0, number of recordings).
            seed: seed of the noise and of the autopilot, in [0, 2³¹).
            steps: K, a power of two up to k_max.

        Raises:
            RequestError: if an argument is out of range; the session is then unchanged.
        """
        if not 0 <= seed < SEEDS:
            raise RequestError(f"seed must be an integer from 0 to {SEEDS - 1}; got {seed!r}")
        recording, decoder = self.world.recording(clip), self._decoder(steps, clip)
        self.clip, self.seed, self.decoder = clip, seed, decoder
        self.generator.manual_seed(seed)
        self.decoder.start(*self.world.beginning(clip))
        self.past: deque[Snapshot] = deque(maxlen=self._undo_frames())
        self.frame, self.milliseconds, self.action = 0, 0.0, ""
        self.picture = png(recording.frames[self.world.context(recording) - 1])

    def step(self, action: object, steps: int | None = None) -> None:
        """Generate the next frame.

        Args:
            action: JSON value of the request, see `read_action`; None for the recorded action, "policy" for an action
                drawn from the policy of the model.
            steps: K from this frame on, a power of two in [1, k_max]; None for the current K.

        Raises:
            RequestError: if an argument is invalid, the recording has ended, or the model has no policy; the session is
                then unchanged.
        """
        changed = steps is not None and steps != self.decoder.num_steps
        decoder = self._decoder(steps, self.clip) if changed and steps is not None else self.decoder
        before = self._snapshot()
        components, text = self._choose(action)
        if decoder is not self.decoder:
            decoder.restore(before.past)
            self.decoder = decoder
        self.past.append(before)
        self.action = text
        start = time.perf_counter()
        frame = quantised(self.decoder.step(components)[0])
        self.milliseconds = 1e3 * (time.perf_counter() - start)
        self.frame, self.picture = self.frame + 1, png(frame)

    def undo(self) -> None:
        """Return to the previous frame; equal actions then generate equal frames.

        Raises:
            RequestError: if the undo history is empty.
        """
        if not self.past:
            raise RequestError("there is nothing to undo; Reset returns to the first frame")
        snapshot = self.past.pop()
        self.frame, self.picture, self.action = snapshot.frame, snapshot.picture, snapshot.action
        self.decoder.restore(snapshot.past)
        self.generator.set_state(snapshot.generator)

    @property
    def state(self) -> dict[str, Any]:
        """State of the session for the page.

        Returns:
            JSON object; `undo` is the number of frames that can be undone, `recorded` the number of recorded frames
            after the current one, `action` the text of the action that led to the current frame, empty at the first,
            `milliseconds` the time of the decoder for the current frame.
        """
        return {
            "frame": self.frame,
            "undo": len(self.past),
            "recorded": max(0, self.world.about["clips"][self.clip] - self.frame),
            "clip": self.clip,
            "seed": self.seed,
            "steps": self.decoder.num_steps,
            "action": self.action,
            "milliseconds": round(self.milliseconds, 2),
        }

    def _decoder(self, steps: int, clip: int) -> FrameDecoder:
        k_max = self.world.model.config.dynamics.k_max
        if steps < 1 or steps & (steps - 1) or steps > k_max:
            raise RequestError(f"steps must be a power of two from 1 to {k_max}; got {steps!r}")
        model = self.world.model
        return FrameDecoder(
            model.dynamics,
            num_steps=steps,
            generator=self.generator,
            tokenizer=model.tokenizer,
            task=self.world.task(clip),
        )

    def _snapshot(self) -> Snapshot:
        return Snapshot(self.frame, self.picture, self.action, self.decoder.save(), self.generator.get_state())

    def _undo_frames(self) -> int:
        return min(UNDO_FRAMES, max(1, UNDO_BYTES // max(1, self.decoder.save().nbytes)))

    def _choose(self, action: object) -> tuple[dict[str, Tensor | None], str]:
        """Components of the next action, and its text."""
        if action is None:
            return self._recorded_action(), "recorded"
        values = self._policy_action() if action == POLICY else action
        idle = {entry["name"]: entry["idle"] for entry in self.world.controls["components"]}
        components = read_action(self.world.components, values, self.world.parameter.device, idle)
        return components, action_text(self.world.controls, idle | values)  # type: ignore[operator]

    def _policy_action(self) -> dict[str, Any]:
        policy, h = self.world.policy(self.clip), self.decoder.h
        assert h is not None  # a model with a policy has an agent token
        return draw_action(policy, h, self.generator)

    def _recorded_action(self) -> dict[str, Tensor | None]:
        recording = self.world.recording(self.clip)
        row = self.world.context(recording) + self.frame
        if row >= len(recording.frames):
            raise RequestError("the recording has ended: choose the actions, or press Reset")
        actions = self.world.recorded_actions(recording, slice(row, row + 1))
        return {name: None if values is None else values[:, 0] for name, values in actions.items()}
