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
        actions: None, or the components of the action that led to it, (B, 1, …) each; changed in place.
        present: whether there is a frame.

    Example:
        >>> pending = PendingFrame(torch.zeros(1, 2, 3))
        >>> pending.keep(torch.ones(1, 2, 3), None)
        >>> pending.present, float(pending.frame.sum())
        (True, 6.0)
    """

    def __init__(self, like: Float[Tensor, "B S D"]) -> None:
        self.frame = torch.zeros_like(like)
        self.actions: dict[str, Tensor | None] | None = None
        self.present = False

    def keep(self, frame: Float[Tensor, "B S D"], actions: ActionValues) -> None:
        """Copy a frame and its action into the buffers, which are allocated for the components of the first action.

        Args:
            frame: frame at the context level, (B, S, D).
            actions: None, or the components of the action that led to it, (B, 1, …) each; the same ones every time.
        """
        if actions is not None and self.actions is None:
            self.actions = {name: None if value is None else torch.empty_like(value) for name, value in actions.items()}
        self.frame.copy_(frame)
        for name, buffer in (self.actions or {}).items():
            if buffer is not None and actions is not None:
                buffer.copy_(actions[name])
        self.present = True

    def tensors(self) -> list[Tensor]:
        """List the buffers.

        Returns:
            The frame and the components of its action.
        """
        return [self.frame, *(value for value in (self.actions or {}).values() if value is not None)]

    def followed_by(self, actions: ActionValues) -> ActionValues:
        """Join the action of the frame with that of the next one.

        Args:
            actions: None, or the components of the action that leads to the next frame, (B, 1, …) each.

        Returns:
            None, or the components of both, (B, 2, …) each.
        """
        if actions is None or self.actions is None:
            return None
        return {
            name: None if value is None else torch.cat([value, actions[name]], dim=1)
            for name, value in self.actions.items()
        }
