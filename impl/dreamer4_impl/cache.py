"""Keys and values of the last frames, for every time layer, so that frames can be computed one at a time.

A ring of C slots: frame t lies in slot t mod C, which is where frame t − C lay, the first that frame t no longer sees (A30).
So one new frame is written in place and read in place, before anything decides whether it stays.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dreamer4_impl.arguments import require_shape


@dataclass(frozen=True)
class Cache:
    """What the time layers remember; its tensors have fixed shapes and places, and are changed in place.

    Args:
        keys: normalised and rotated, (layers, B, C, S, H, D).
        values: of the same shape.
        frames: how many frames were committed, a number on the device, so that no step waits for the host.

    >>> cache = Cache.empty((1, 1, 4, 2, 1, 2))
    >>> int(cache.frames), cache.keys.shape
    (0, torch.Size([1, 1, 4, 2, 1, 2]))
    """

    keys: Float[Tensor, "layers B C S H D"]
    values: Float[Tensor, "layers B C S H D"]
    frames: Int[Tensor, ""]

    @classmethod
    def empty(
        cls, shape: tuple[int, ...], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> "Cache":
        """A cache before the first frame.

        Args:
            shape: (layers, B, C, S, H, D): time layers, batch, frames of context, tokens of a frame, key/value heads, width.
            dtype: of the keys and values that will come.
            device: theirs.

        >>> bool(Cache.empty((1, 1, 2, 1, 1, 2)).keys.any())
        False
        """
        if len(shape) != 6 or min(shape[1:]) < 1:
            raise ValueError(f"shape must be (layers, B, C, S, H, D), each from 1 but layers; got {shape}")
        keys, values = (torch.zeros(shape, dtype=dtype, device=device) for _ in range(2))
        return cls(keys, values, torch.zeros((), dtype=torch.int64, device=device))

    def clone(self) -> "Cache":
        """A copy that goes its own way, to try several continuations.

        >>> cache = Cache.empty((1, 1, 2, 1, 1, 2))
        >>> cache.clone().keys is cache.keys
        False
        """
        return Cache(self.keys.clone(), self.values.clone(), self.frames.clone())

    def reset(self) -> None:
        """Forget everything, in place.

        >>> Cache.empty((1, 1, 2, 1, 1, 2)).reset()
        """
        # A hidden NaN would still reach the output: its weight is 0, and 0 · NaN is NaN.
        for tensor in (self.keys, self.values, self.frames):
            tensor.zero_()

    def positions(self, new: int) -> Int[Tensor, "new"]:
        """Numbers of the next `new` frames, counted from the first that was committed.

        >>> Cache.empty((1, 1, 2, 1, 1, 2)).positions(3).tolist()
        [0, 1, 2]
        """
        return self.frames + torch.arange(new, device=self.frames.device)

    def mask(self, new: int) -> Bool[Tensor, "new seen"]:
        """Which of the keys that `extend` returns each of `new` frames may attend to.

        >>> Cache.empty((1, 1, 2, 1, 1, 2)).mask(1).tolist()
        [[True, False]]
        """
        held = self._held_frames(self.frames if new == 1 else self.frames - 1)
        frame = self.positions(new)
        seen = held if new == 1 else torch.cat([held, frame])
        behind = frame[:, None] - seen
        return (seen >= 0) & (behind >= 0) & (behind < self._context)

    def extend(
        self, layer: int, k: Float[Tensor, "B new S H D"], v: Float[Tensor, "B new S H D"], *, commit: bool
    ) -> tuple[Float[Tensor, "B seen S H D"], Float[Tensor, "B seen S H D"]]:
        """Keys and values that the new frames of one time layer attend to, under `mask`.

        Args:
            layer: its number among the time layers.
            k, v: of the new frames, in the dtype of the cache.
            commit: keep the new frames. After all layers `advance` counts them; without it they are forgotten.

        One frame costs no copy of the past, several do.
        """
        shape = (self.keys.shape[1], k.shape[1], *self.keys.shape[3:])
        require_shape("k", k, shape, "(B, new, S, H, D)", like=self.keys)
        require_shape("v", v, shape, "(B, new, S, H, D)", like=self.keys)
        if k.dtype != self.keys.dtype:
            raise TypeError(f"k must have the dtype of the cache, {self.keys.dtype}; got {k.dtype}")
        past = self.keys[layer], self.values[layer]
        if k.shape[1] == 1:
            self._write(past, (k, v))
            return past
        seen = torch.cat([past[0], k], dim=1), torch.cat([past[1], v], dim=1)
        if commit:
            self._write(past, (k, v))
        return seen

    def advance(self, new: int) -> None:
        """Count `new` frames as committed, once every layer has kept them.

        >>> cache = Cache.empty((1, 1, 2, 1, 1, 2))
        >>> cache.advance(3)
        >>> cache.positions(1).tolist()
        [3]
        """
        self.frames.add_(new)

    @property
    def _context(self) -> int:
        return self.keys.shape[2]

    def _held_frames(self, last: Tensor) -> Int[Tensor, "C"]:
        """The frame in every slot once frame `last` is the newest; negative where there was none yet."""
        slots = torch.arange(self._context, device=last.device)
        return last - (last - slots) % self._context

    def _write(self, past: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor]) -> None:
        frames = new[0].shape[1]
        slots = self.positions(frames)[-self._context :] % self._context
        for ring, tensor in zip(past, new, strict=True):
            ring.index_copy_(1, slots, tensor[:, -self._context :])
