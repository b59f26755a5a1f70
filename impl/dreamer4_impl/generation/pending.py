"""The last frame of a decoder that commits a frame within the first pass of the next one."""

import torch
from jaxtyping import Float
from torch import Tensor

from dreamer4_impl.layers.actions import ActionValues


class PendingFrame:
    """Buffers of a frame at the context level that is not in the past yet, for `FrameEngine.denoise`.

    Args:
        like: tensor of the frame's shape, dtype and device, (B, S, D).

    Attributes:
        frame: the frame, (B, S, D); changed in place.
        actions: components of the action that led to it, (B, 1, …) each, empty for none; changed in place.
        present: whether there is a frame.

    Example:
        >>> pending = PendingFrame(torch.zeros(1, 2, 3))
        >>> pending.keep(torch.ones(1, 2, 3), None)
        >>> pending.present, float(pending.frame.sum())
        (True, 6.0)
    """

    def __init__(self, like: Float[Tensor, "B S D"]) -> None:
        self.frame = torch.zeros_like(like)
        self.actions: dict[str, Tensor | None] = {}
        self.present = False

    def keep(self, frame: Float[Tensor, "B S D"], actions: ActionValues) -> None:
        """Copy a frame and its action into the buffers, which are allocated for the components of the first action.

        Args:
            frame: frame at the context level, (B, S, D).
            actions: None, or the components of the action that led to it, (B, 1, …) each; the same ones every time.
        """
        self.frame.copy_(frame)
        for name, value in (actions or {}).items():
            buffer = self.actions.get(name)
            if value is None or buffer is None:
                self.actions[name] = None if value is None else value.clone()
            else:
                buffer.copy_(value)
        self.present = True

    def tensors(self) -> list[Tensor]:
        """List the buffers.

        Returns:
            The frame and the components of its action.
        """
        return [self.frame, *(value for value in self.actions.values() if value is not None)]

    def followed_by(self, actions: ActionValues) -> ActionValues:
        """Join the action of the frame with that of the next one.

        Args:
            actions: None, or the components of the action that leads to the next frame, (B, 1, …) each.

        Returns:
            Components of both, (B, 2, …) each; empty for no actions.
        """
        joined: dict[str, Tensor | None] = {}
        for name, value in (actions or {}).items():
            earlier = self.actions.get(name)
            joined[name] = None if value is None or earlier is None else torch.cat([earlier, value], dim=1)
        return joined
