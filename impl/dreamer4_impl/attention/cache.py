"""Keys and values of the last frames, for every time layer, so that frames can be computed one at a time.

A ring of C slots: frame t lies in slot t mod C, which is where frame t − C lay, the first that frame t no longer sees (A30).
So one new frame is written in place and read in place, before anything decides whether it stays.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dreamer4_impl.arguments import require_shape
from dreamer4_impl.attention.dispatch import Sees
from dreamer4_impl.attention.qk_preparation import Preparation, prepare


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

    def sees(self, new: int) -> Sees:
        """Which of the keys that `extend` returns each of `new` frames may attend to, as options of `attention`.

        >>> Cache.empty((1, 1, 2, 1, 1, 2)).sees(1)
        {'filled': tensor(1)}
        """
        if new == 1:
            # The slots need no order, and what frame t no longer sees lay where frame t itself is written.
            return {"filled": (self.frames + 1).clamp(max=self._context)}
        last, slots = self.frames - 1, torch.arange(self._context, device=self.frames.device)
        held = last - (last - slots) % self._context
        frame = self.positions(new)
        seen = torch.cat([held, frame])
        behind = frame[:, None] - seen
        return {"mask": (seen >= 0) & (behind >= 0) & (behind < self._context)}

    def extend(
        self,
        layer: int,
        k: Float[Tensor, "B new S H D"],
        v: Float[Tensor, "B new S H D"],
        preparation: Preparation,
        *,
        commit: bool,
        backend: str = "eager",
    ) -> tuple[Float[Tensor, "B seen S H D"], Float[Tensor, "B seen S H D"]]:
        """Keys and values that the new frames of one time layer attend to, as `sees` says.

        Args:
            layer: its number among the time layers.
            k: raw keys of the new frames, in the dtype of the cache.
            v: their values, of the same dtype.
            preparation: of the new keys.
            commit: keep the new frames. After all layers `advance` counts them; without it they are forgotten.
            backend: of `attention`; "triton" prepares and writes one frame in one kernel.

        One frame costs no copy of the past, several do.
        """
        shape = (self.keys.shape[1], k.shape[1], *self.keys.shape[3:])
        for name, x in (("k", k), ("v", v)):
            require_shape(name, x, shape, "(B, new, S, H, D)", like=self.keys)
            if x.dtype != self.keys.dtype:
                raise TypeError(f"{name} must have the dtype of the cache, {self.keys.dtype}; got {x.dtype}")
        past = self.keys[layer], self.values[layer]
        if k.shape[1] == 1 and backend == "triton":
            from dreamer4_impl.attention.triton.operators import write_keys

            write_keys(k, v, preparation, *past, self.frames)
            return past
        new = prepare(k, preparation, "time", backend), v
        if k.shape[1] == 1:
            self._write(past, new)
            return past
        seen = torch.cat([past[0], new[0]], dim=1), torch.cat([past[1], new[1]], dim=1)
        if commit:
            self._write(past, new)
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

    def _write(self, past: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor]) -> None:
        frames = new[0].shape[1]
        slots = self.positions(frames)[-self._context :] % self._context
        for ring, tensor in zip(past, new, strict=True):
            ring.index_copy_(1, slots, tensor[:, -self._context :])
