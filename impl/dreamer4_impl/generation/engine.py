"""Sec. 3.2, p. 6, and Sec. 3.4: the passes of one frame through a model with a cache.

    z ← z + (ẑ₁ − z)/(1 − τ) d,   ẑ₁ = f(z, τ, d, a | past),   τ = 0, d, …, 1 − d,   d = 1/K
    z̃ = (1 − c) z₀ + c z,   h = agent token of f(z̃, c, d_min, a | past),   z̃ joins the past

K passes over one frame read the cache without changing it; one more pass commits the frame, slightly corrupted (A9).
`FrameDecoder` (frames for given actions) and `imagine` (actions from a policy) both run these passes. Where h is not
needed before the next frame, the first pass of that frame commits this one too: K passes, one of them over two frames.
The policy of `imagine` reads h to choose the action of the next frame, so there the commit is a pass of its own.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dreamer4_impl.attention.cache import Cache
from dreamer4_impl.compilation import compiled
from dreamer4_impl.constants import CONTEXT_LEVEL, SAMPLING_STEPS
from dreamer4_impl.equations.eq01_corruption import corrupt
from dreamer4_impl.equations.eq02_sampling import context_label, denoise
from dreamer4_impl.generation.pending import PendingFrame
from dreamer4_impl.layers.actions import ActionValues
from dreamer4_impl.layers.joined import JoinedMatrices
from dreamer4_impl.models.dynamics import Dynamics
from dreamer4_impl.precision import compute_dtype


class FrameEngine:
    """Denoises and commits frames of B sequences, with a cache of the past.

    Products of one input are joined, with a copy of their matrices that follows changes of the parameters in place. All
    noise comes from the caller. Labels are made once, on the device of the parameters, so that a CUDA graph can
    record both methods. Deterministic; no gradient, because the cache has none; no host synchronisation.

    Args:
        model: dynamics.
        batch: B, 1 or more.
        num_steps: K, denoising passes of a frame, 1 or more; the model was trained on powers of two up to k_max.
        context_level: signal level c of committed frames, in [0, 1]; 1 leaves them clean.
        task: task of each sequence in [0, tasks), integer, (B,); None leaves the agent token without a task, which does
            not influence frames.
        cache: past of the sequences, changed in place; None begins without a past.
        compile: compile passes over a single frame, and that over two frames, as one graph each.

    Example:
        >>> from dreamer4_impl.models.presets import tiny
        >>> engine, noise = FrameEngine(Dynamics(tiny().dynamics), batch=1, num_steps=4), torch.zeros(1, 5, 6)
        >>> frame = engine.denoise(noise)
        >>> engine.commit(frame[:, None], noise[:, None]).shape, int(engine.cache.frames)
        (torch.Size([1, 1, 24]), 1)
    """

    def __init__(
        self,
        model: Dynamics,
        batch: int,
        num_steps: int = SAMPLING_STEPS,
        context_level: float = CONTEXT_LEVEL,
        *,
        task: Int[Tensor, "B"] | None = None,
        cache: Cache | None = None,
        compile: bool = False,
    ) -> None:
        self.model, self.num_steps, self.task = model, num_steps, task
        self.cache = model.empty_cache(batch) if cache is None else cache
        self._one_frame = compiled(model, dynamic=False) if compile else model
        self._matrices = JoinedMatrices(model)
        parameter = next(model.parameters())
        self.dtype, compute = parameter.dtype, compute_dtype(parameter)
        k_max = model.config.k_max
        label, d_min, d, level = (
            parameter.new_full((batch, 1), value, dtype=compute)
            for value in (context_label(context_level, k_max), 1 / k_max, 1 / num_steps, context_level)
        )
        self._steps = [(index * d, d) for index in range(num_steps)]
        self._past_label, self._level = (label, d_min), level
        self._pending_label = [torch.cat(pair, dim=1) for pair in zip(self._past_label, self._steps[0], strict=True)]

    @torch.no_grad()
    def denoise(
        self,
        start: Float[Tensor, "B S D"],
        actions: ActionValues = None,
        *,
        commit_last: bool = False,
        pending: PendingFrame | None = None,
    ) -> Float[Tensor, "B S D"]:
        """Denoise the frame after the past in K passes.

        Args:
            start: standard normal noise, floating, at least float32, (B, S, D).
            actions: None, or the components of the action that leads to this frame (A32), (B, 1, …) each.
            commit_last: let the last pass leave its keys and values in the cache, instead of a pass of `commit`.
            pending: frame before this one, which the first pass adds to the past; None if the past has all frames.

        Returns:
            Clean frame in the dtype of the parameters, (B, S, D); kept in the dtype of start between the passes.

        Raises:
            TypeError: if an action component has a wrong type or dtype.
            ValueError: if start or actions do not have the shapes or names of the model.
        """

        def _predict_clean(frame: Tensor, index: int) -> Tensor:
            if pending is not None and index == 0:
                return self._commit_and_predict(pending, frame, actions).to(start.dtype)
            commit = commit_last and index == self.num_steps - 1
            z1_hat, _ = self._pass(frame[:, None], self._steps[index], actions, commit=commit)
            return z1_hat[:, 0].to(start.dtype)

        with self._matrices.used():
            return denoise(_predict_clean, start, self.num_steps, self.dtype)

    def corrupted(self, frames: Float[Tensor, "B T S D"], noise: Float[Tensor, "B T S D"]) -> Float[Tensor, "B T S D"]:
        """Corrupt frames to the context level.

        Args:
            frames: clean frames, floating, (B, T, S, D).
            noise: standard normal, floating, (B, T, S, D).

        Returns:
            Frames at the context level, (B, T, S, D), in the dtype of frames.
        """
        return corrupt(noise, frames, self._level.expand(frames.shape[:2]))

    @torch.no_grad()
    def commit(
        self, frames: Float[Tensor, "B T S D"], noise: Float[Tensor, "B T S D"], actions: ActionValues = None
    ) -> Float[Tensor, "B T W"] | None:
        """Corrupt frames to the context level with this noise, add them to the past, and read their agent tokens.

        Args:
            frames: clean frames in the dtype of the parameters unless autocast is on, (B, T, S, D).
            noise: standard normal, floating, (B, T, S, D).
            actions: None, or the components of the actions that led to these frames (A32), (B, T, …) each.

        Returns:
            Outputs h of the agent token, (B, T, W), in the dtype of the parameters; None for a model without one.

        Raises:
            TypeError: if a tensor has a wrong dtype, or an action component a wrong type.
            ValueError: if frames, noise or actions do not have the shapes or names of the model.
        """
        return self.commit_corrupted(self.corrupted(frames, noise), actions)

    @torch.no_grad()
    def commit_corrupted(
        self, frames: Float[Tensor, "B T S D"], actions: ActionValues = None
    ) -> Float[Tensor, "B T W"] | None:
        """Add frames to the past that already are at the context level, and read their agent tokens.

        Args:
            frames: corrupted frames in the dtype of the parameters unless autocast is on, (B, T, S, D).
            actions: None, or the components of the actions that led to these frames (A32), (B, T, …) each.

        Returns:
            Outputs h of the agent token, (B, T, W), in the dtype of the parameters; None for a model without one.

        Raises:
            TypeError: if a tensor has a wrong dtype, or an action component a wrong type.
            ValueError: if frames or actions do not have the shapes or names of the model.
        """
        label = [value.expand(frames.shape[:2]) for value in self._past_label]
        with self._matrices.used():
            return self._pass(frames, label, actions, commit=True)[1]

    def refresh(self) -> None:
        """Follow changes of the parameters: needed before a CUDA graph of these methods is replayed."""
        self._matrices.refresh()

    def _commit_and_predict(self, pending: PendingFrame, frame: Tensor, actions: ActionValues) -> Tensor:
        """First pass over a frame, (B, S, D), and the commit pass of the frame before it."""
        z, joined = torch.stack([pending.frame, frame], dim=1), pending.followed_by(actions)
        return self._pass(z, self._pending_label, joined, commit=True, ahead=True)[0][:, 1]

    def _pass(
        self,
        z: Float[Tensor, "B T S D"],
        label: Sequence[Tensor],
        actions: ActionValues,
        *,
        commit: bool,
        ahead: bool = False,
    ) -> tuple[Float[Tensor, "B T S D"], Float[Tensor, "B T W"] | None]:
        model = self._one_frame if z.shape[1] == 1 or ahead else self.model
        # A model without this option works as long as commits are not merged.
        options = {"ahead": True} if ahead else {}
        prediction: tuple[Tensor, Tensor | None] = model(
            z, *label, actions, task=self.task, cache=self.cache, commit=commit, **options
        )
        return prediction
