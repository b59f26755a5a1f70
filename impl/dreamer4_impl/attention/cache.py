"""Keys and values of the last frames, for every time layer, so that frames can be computed one at a time.

A ring of C slots: frame t is in slot t mod C, which held frame t − C, the latest that is hidden from frame t (A30).
So a new frame is written and read in place, before it is known whether it will be committed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dreamer4_impl.arguments import require_shape
from dreamer4_impl.attention.dispatch import prepare_keys
from dreamer4_impl.attention.qk_preparation import Preparation
from dreamer4_impl.attention.visibility import Visible


@dataclass(frozen=True)
class Cache:
    """Past keys and values of all time layers, in preallocated buffers that are changed in place.

    Args:
        keys: prepared: normalised and rotated, (layers, B, C, S, H, D).
        values: shape and dtype of the keys.
        frames: how many frames were committed, int64 () on the device, so that no step synchronises with the host.

    Example:
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
        """Allocate a cache before the first frame.

        Args:
            shape: (layers, B, C, S, H, D): time layers, batch, frames of context, tokens of a frame, key/value heads,
                width of a head. All from 1; layers from 0.
            dtype: of keys and values.
            device: of all tensors.

        Returns:
            A cache of zeros.

        Raises:
            ValueError: if the shape has not six axes, or one of them is empty.

        Example:
            >>> bool(Cache.empty((1, 1, 2, 1, 1, 2)).keys.any())
            False
        """
        if len(shape) != 6 or min(shape[1:]) < 1:
            raise ValueError(f"shape must be (layers, B, C, S, H, D), each from 1 but layers; got {shape}")
        keys, values = (torch.zeros(shape, dtype=dtype, device=device) for _ in range(2))
        return cls(keys, values, torch.zeros((), dtype=torch.int64, device=device))

    def clone(self) -> "Cache":
        """Copy the cache, to try several continuations.

        Returns:
            A cache that shares no storage with this one.

        Example:
            >>> cache = Cache.empty((1, 1, 2, 1, 1, 2))
            >>> cache.clone().keys is cache.keys
            False
        """
        return Cache(self.keys.clone(), self.values.clone(), self.frames.clone())

    def keep(self, rows: Sequence[int]) -> "Cache":
        """Copy the past of some sequences, to go on without the others.

        Args:
            rows: which of the B sequences, in [0, B), at least one.

        Returns:
            A cache of `len(rows)` sequences that shares no storage with this one.

        Raises:
            IndexError: if there is no such sequence.

        Example:
            >>> Cache.empty((1, 3, 2, 1, 1, 2)).keep([0, 2]).keys.shape
            torch.Size([1, 2, 2, 1, 1, 2])
        """
        index = list(rows)
        return Cache(self.keys[:, index], self.values[:, index], self.frames.clone())

    def reset(self) -> None:
        """Return to the state before the first frame, in place.

        Example:
            >>> Cache.empty((1, 1, 2, 1, 1, 2)).reset()
        """
        # A hidden NaN would still reach the output: its weight is 0, and 0 · NaN is NaN.
        for tensor in (self.keys, self.values, self.frames):
            tensor.zero_()

    def after(self, new: int) -> "Cache":
        """View the cache as if more frames were committed, to write a frame behind frames that are not counted yet.

        Args:
            new: how many frames, 0 or more.

        Returns:
            A cache that shares the buffers of this one, with a count of its own.

        Example:
            >>> int(Cache.empty((1, 1, 2, 1, 1, 2)).after(3).frames)
            3
        """
        return Cache(self.keys, self.values, self.frames + new)

    def positions(self, new: int) -> Int[Tensor, "new"]:
        """Number the next frames, counted from the first that was committed.

        Args:
            new: how many, 1 or more.

        Returns:
            int64 (new,) on the device of the cache: t for t in [frames, frames + new).

        Example:
            >>> Cache.empty((1, 1, 2, 1, 1, 2)).positions(3).tolist()
            [0, 1, 2]
        """
        return self.frames + torch.arange(new, device=self.frames.device)

    def visible(self, new: int) -> Visible:
        """Select the keys, of those that `extend` returns, that each new frame may attend to.

        Args:
            new: how many frames, 1 or more.

        Returns:
            The rule; its fields are options of `attention`.

        Example:
            >>> Cache.empty((1, 1, 2, 1, 1, 2)).visible(1).filled
            tensor(1)
        """
        if new == 1:
            # Slots need no order, and the latest frame that is hidden from frame t is overwritten by frame t.
            return Visible(filled=(self.frames + 1).clamp(max=self._context))
        # Frame in each slot; negative where the slot is empty.
        last, slots = self.frames - 1, torch.arange(self._context, device=self.frames.device)
        stored = last - (last - slots) % self._context
        queries = self.positions(new)
        keys = torch.cat([stored, queries])
        behind = queries[:, None] - keys
        return Visible(mask=(keys >= 0) & (behind >= 0) & (behind < self._context))

    def extend(
        self,
        layer: int,
        k: Float[Tensor, "B new S H D"],
        v: Float[Tensor, "B new S H D"],
        preparation: Preparation,
        *,
        commit: bool,
        backend: str = "eager",
    ) -> tuple[Float[Tensor, "B Tk S H D"], Float[Tensor, "B Tk S H D"]]:
        """Add new frames to the keys and values of one time layer. One frame copies nothing of the past, several do.

        Args:
            layer: index among the time layers, in [0, layers).
            k: raw keys of the new frames, in the dtype of the cache, (B, new, S, H, D).
            v: their values, in the dtype of the cache, (B, new, S, H, D).
            preparation: of the new keys.
            commit: keep the new frames; `advance` counts them after all layers. Without it the next call follows the
                same past.
            backend: that of `attention`; "triton" prepares and writes one frame in one kernel.

        Returns:
            Prepared keys and values that the new frames attend to as `visible` says: Tk = C slots for one new frame,
            else C slots and the new frames.

        Raises:
            ImportError: if the backend is "triton" and Triton is not installed.
            NotImplementedError: if the backend is "triton" and lacks the dtype, device or width of k.
            TypeError: if k or v has another dtype than the cache, or the gain is not a floating-point tensor.
            ValueError: if k or v does not match the shape or device of the cache, or the gain that of k, or ε is
                negative.
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
        new = prepare_keys(k, preparation, "time", backend), v
        if k.shape[1] == 1:
            self._write(past, new)
            return past
        keys, values = (torch.cat(tensors, dim=1) for tensors in zip(past, new, strict=True))
        if commit:
            self._write(past, new)
        return keys, values

    def advance(self, new: int) -> None:
        """Count frames as committed, after all layers were extended.

        Args:
            new: how many, 0 or more.

        Example:
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
