"""One person's play: a decoder, where it is, and the way back."""

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

#: How far undo goes back: as many frames as fit in so many bytes on the device, one at least, and so many at most.
UNDO_BYTES: Final = 2**28
UNDO_FRAMES: Final = 128
#: What every generator of torch takes.
SEEDS: Final = 2**31


@dataclass(frozen=True)
class Moment:
    """All that makes the frames after it: undo goes back to it, and the same action leads to the same frame again."""

    frame: int
    picture: bytes
    caches: tuple[Cache, ...]
    generator: Tensor


class Session:
    """A world model that one person steps through, from the recorded beginning of a clip.

    Args:
        world: shared with others; nothing in it changes.
        clip, seed, steps: as for `reset`.

    Not for several threads at once.
    """

    def __init__(self, world: World, clip: int, seed: int, steps: int) -> None:
        self.world = world
        self.generator = torch.Generator(world.parameter.device)
        self.reset(clip, seed, steps)

    def reset(self, clip: int, seed: int, steps: int) -> None:
        """Back to the beginning.

        Args:
            clip: number of the recording.
            seed: of the noise, from 0 to 2³¹ − 1.
            steps: K.
        """
        if not 0 <= seed < SEEDS:
            raise RequestError(f"seed must be a number from 0 to {SEEDS - 1}; got {seed!r}")
        recording, decoder = self.world.recording(clip), self._decoder(steps)
        self.clip, self.seed, self.decoder = clip, seed, decoder
        self.generator.manual_seed(seed)
        self.decoder.start(*self.world.beginning(clip))
        self.past: deque[Moment] = deque(maxlen=self._undo_frames())
        self.frame, self.milliseconds = 0, 0.0
        self.picture = png(recording.frames[self.world.context(recording) - 1])

    def step(self, action: object, steps: int | None = None) -> None:
        """One frame on.

        Args:
            action: as the page sends it; None is the recorded one, as long as there are any.
            steps: K from this frame on; None leaves it.
        """
        given = self._recorded_action() if action is None else self._read(action)
        if steps is not None and steps != self.decoder.num_steps:
            decoder = self._decoder(steps)
            decoder.restore(self.decoder.save())
            self.decoder = decoder
        self.past.append(self._moment())
        began = time.perf_counter()
        frame = quantised(self.decoder.step(given)[0])
        self.milliseconds = 1e3 * (time.perf_counter() - began)
        self.frame, self.picture = self.frame + 1, png(frame)

    def undo(self) -> None:
        """One frame back."""
        if not self.past:
            raise RequestError("there is nothing to undo: Reset goes back to the beginning")
        moment = self.past.pop()
        self.frame, self.picture = moment.frame, moment.picture
        self.decoder.restore(moment.caches)
        self.generator.set_state(moment.generator)

    @property
    def state(self) -> dict[str, Any]:
        """Where it is, as JSON; `recorded` counts the recorded frames that are still to come."""
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

    def _moment(self) -> Moment:
        return Moment(self.frame, self.picture, self.decoder.save(), self.generator.get_state())

    def _undo_frames(self) -> int:
        size = sum(cache.keys.nbytes + cache.values.nbytes for cache in self.decoder.save())
        return min(UNDO_FRAMES, max(1, UNDO_BYTES // max(1, size)))

    def _read(self, action: object) -> dict[str, Tensor | None]:
        return read_action(self.world.components, action, self.world.parameter.device)

    def _recorded_action(self) -> dict[str, Tensor | None]:
        recording = self.world.recording(self.clip)
        row = self.world.context(recording) + self.frame
        if row >= len(recording.frames):
            raise RequestError("the recording has ended: choose the actions yourself, or Reset")
        actions = self.world.recorded_actions(recording, slice(row, row + 1))
        return {name: None if part is None else part[:, 0] for name, part in actions.items()}
