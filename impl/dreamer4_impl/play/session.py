"""One interactive session: decoder, current frame, undo history."""

import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from dreamer4_impl.attention.cache import Cache
from dreamer4_impl.generation.decoder import FrameDecoder
from dreamer4_impl.play.action import read_action
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
        caches: caches of the decoder.
        generator: state of the generator of the noise.
    """

    frame: int
    picture: bytes
    caches: tuple[Cache, ...]
    generator: Tensor


class Session:
    """Interactive session that generates frames after the context of a recorded clip. Not thread-safe.

    Args:
        world: model and recordings; shared by all sessions.
        clip: index of the recording, in [0, number of recordings).
        seed: seed of the noise, in [0, 2³¹).
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
            seed: seed of the noise, in [0, 2³¹).
            steps: K, a power of two up to k_max.

        Raises:
            RequestError: if an argument is out of range; the session is then unchanged.
        """
        if not 0 <= seed < SEEDS:
            raise RequestError(f"seed must be an integer from 0 to {SEEDS - 1}; got {seed!r}")
        recording, decoder = self.world.recording(clip), self._decoder(steps)
        self.clip, self.seed, self.decoder = clip, seed, decoder
        self.generator.manual_seed(seed)
        self.decoder.start(*self.world.beginning(clip))
        self.past: deque[Snapshot] = deque(maxlen=self._undo_frames())
        self.frame, self.milliseconds = 0, 0.0
        self.picture = png(recording.frames[self.world.context(recording) - 1])

    def step(self, action: object, steps: int | None = None) -> None:
        """Generate the next frame.

        Args:
            action: JSON value of the request, see `read_action`; None for the recorded action.
            steps: K from this frame on, a power of two in [1, k_max]; None for the current K.

        Raises:
            RequestError: if an argument is invalid or the recording has ended; the session is then unchanged.
        """
        components = self._recorded_action() if action is None else self._read(action)
        if steps is not None and steps != self.decoder.num_steps:
            decoder = self._decoder(steps)
            decoder.restore(self.decoder.save())
            self.decoder = decoder
        self.past.append(self._snapshot())
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
        self.frame, self.picture = snapshot.frame, snapshot.picture
        self.decoder.restore(snapshot.caches)
        self.generator.set_state(snapshot.generator)

    @property
    def state(self) -> dict[str, Any]:
        """State of the session for the page.

        Returns:
            JSON object; `undo` is the number of frames that can be undone, `recorded` the number of recorded frames
            after the current one, `milliseconds` the time of the decoder for the current frame.
        """
        return {
            "frame": self.frame,
            "undo": len(self.past),
            "recorded": max(0, self.world.about["clips"][self.clip] - self.frame),
            "clip": self.clip,
            "seed": self.seed,
            "steps": self.decoder.num_steps,
            "milliseconds": round(self.milliseconds, 2),
        }

    def _decoder(self, steps: int) -> FrameDecoder:
        k_max = self.world.model.config.dynamics.k_max
        if steps < 1 or steps & (steps - 1) or steps > k_max:
            raise RequestError(f"steps must be a power of two from 1 to {k_max}; got {steps!r}")
        model = self.world.model
        return FrameDecoder(model.dynamics, num_steps=steps, generator=self.generator, tokenizer=model.tokenizer)

    def _snapshot(self) -> Snapshot:
        return Snapshot(self.frame, self.picture, self.decoder.save(), self.generator.get_state())

    def _undo_frames(self) -> int:
        size = sum(cache.keys.nbytes + cache.values.nbytes for cache in self.decoder.save())
        return min(UNDO_FRAMES, max(1, UNDO_BYTES // max(1, size)))

    def _read(self, action: object) -> dict[str, Tensor | None]:
        return read_action(self.world.components, action, self.world.parameter.device)

    def _recorded_action(self) -> dict[str, Tensor | None]:
        recording = self.world.recording(self.clip)
        row = self.world.context(recording) + self.frame
        if row >= len(recording.frames):
            raise RequestError("the recording has ended: choose the actions, or press Reset")
        actions = self.world.recorded_actions(recording, slice(row, row + 1))
        return {name: None if values is None else values[:, 0] for name, values in actions.items()}
