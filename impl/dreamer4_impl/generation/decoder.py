"""Sec. 3.2, p. 6, and Sec. 3.4: interactive decoding, one frame for each action.

`FrameDecoder` draws the noise, runs the passes of `FrameEngine` and decodes pixels. On a GPU a frame is one CUDA graph.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dreamer4_impl.arguments import (
    require_between,
    require_dtype,
    require_floating,
    require_power_of_two,
    require_rank,
    require_shape,
)
from dreamer4_impl.attention.cache import Cache
from dreamer4_impl.constants import CONTEXT_LEVEL, SAMPLING_STEPS
from dreamer4_impl.equations.eq02_sampling import corrupt_context, require_generation
from dreamer4_impl.equations.network_types import index_actions, require_actions
from dreamer4_impl.generation.cuda_graph import generator_on, record_frame, uses_graph
from dreamer4_impl.generation.engine import FrameEngine
from dreamer4_impl.generation.pending import PendingFrame
from dreamer4_impl.layers.actions import LABELLED, ActionValues
from dreamer4_impl.models.dynamics import Dynamics
from dreamer4_impl.models.tokenizer import Tokenizer
from dreamer4_impl.precision import compute_dtype

#: Frames of a context that are committed at once, so that memory does not grow with its length.
BLOCK: Final = 64


@dataclass(frozen=True)
class Past:
    """Copy of everything that a decoder knows about the frames so far.

    Args:
        caches: caches of the dynamics and, if there is one, of the tokenizer.
        h: outputs of the agent token at the last frame, as `FrameDecoder.h`.
    """

    caches: tuple[Cache, ...]
    h: Float[Tensor, "B W"] | None

    @property
    def nbytes(self) -> int:
        """Memory of keys and values.

        Returns:
            Bytes.
        """
        return sum(cache.keys.nbytes + cache.values.nbytes for cache in self.caches)


class FrameDecoder:
    """Generates frames of B sequences one at a time, in preallocated buffers.

    Frames are denoised in float32 (float64 for float64) and returned in the dtype of the parameters. From the same
    generator they equal those of `eq02_sampling.generate` up to rounding, with and without a graph. No gradient; a
    decoder may be created and used inside `torch.inference_mode` and outside. No host synchronisation except while
    recording. With a graph, parameters may change their values but not their storage.

    Args:
        model: dynamics.
        batch: B, 1 or more.
        num_steps: K, a power of two up to the model's k_max.
        context_level: signal level at which a frame joins the past, in [0, 1]; 1 leaves it clean.
        generator: source of the noise, on the device of the model; None is torch's global state. Draws in the order of
            `eq02_sampling.generate`.
        commit_pass: add a frame to the past by a pass of its own, as in the paper. False keeps the keys and values of
            the last denoising pass: K passes instead of K + 1, and frames that differ from the paper's; for
            measurements.
        merge_commit: add a frame to the past in the first pass of the next one: K passes, one of them over two frames,
            instead of K + 1. Frames are the same up to rounding; h is None. `save` adds the last frame by a pass of its
            own, so that the past is complete.
        compile: compile the pass over one frame, as one graph, at the first step.
        graph: record the computation of a frame as a CUDA graph at the first step, and replay it from then on. None is
            True on a CUDA device with autocast off, else False.
        tokenizer: decodes frames to pixels (B, H, W, C) in the same graph; None returns latent frames (B, S, D).
        task: task of each sequence in [0, tasks), integer, (B,), which `h` depends on; None leaves the agent token
            without a task. Frames do not depend on it.

    Attributes:
        h: outputs of the agent token in the pass that committed the last frame, as in imagination, (B, W), in the dtype
            of the parameters; zeros before the first frame, and changed in place by every frame. None for a model
            without an agent token, or without a commit pass of its own.

    Raises:
        ValueError: if batch or num_steps is out of range, the generator is on another device, a graph is required
            where none can be recorded, or merge_commit is True without the commit pass.

    Example:
        >>> from dreamer4_impl.models.presets import tiny
        >>> decoder = FrameDecoder(Dynamics(tiny().dynamics))
        >>> decoder.step({"keys": torch.ones(1, 4), "mouse": torch.tensor([2])}).shape, int(decoder.cache.frames)
        (torch.Size([1, 5, 6]), 1)
    """

    @torch.inference_mode(False)
    def __init__(
        self,
        model: Dynamics,
        batch: int = 1,
        *,
        num_steps: int = SAMPLING_STEPS,
        context_level: float = CONTEXT_LEVEL,
        generator: torch.Generator | None = None,
        commit_pass: bool = True,
        merge_commit: bool = False,
        compile: bool = False,
        graph: bool | None = None,
        tokenizer: Tokenizer | None = None,
        task: Int[Tensor, "B"] | None = None,
    ) -> None:
        require_power_of_two("num_steps", num_steps)
        require_between("num_steps", num_steps, 1, model.config.k_max)
        if not isinstance(batch, int) or batch < 1:
            raise ValueError(f"batch must be a whole number, 1 or more; got {batch!r}")
        if merge_commit and not commit_pass:
            raise ValueError("merge_commit=True needs commit_pass=True; got commit_pass=False")
        self._parameter = next(model.parameters())
        device = self._parameter.device
        self.model, self.batch, self.num_steps, self.context_level = model, batch, num_steps, context_level
        self.graph, self.generator = uses_graph(graph, device), generator_on(device, generator)
        self.commit_pass, self.tokenizer = commit_pass, tokenizer
        self._engine = FrameEngine(model, batch, num_steps, context_level, task=task, compile=compile)
        self.cache = self._engine.cache
        self._tokenizer_cache = None if tokenizer is None else tokenizer.decoder_cache(batch)
        shape = (batch, model.config.spatial_tokens, model.config.spatial_channels)
        self._start, self._noise = (
            self._parameter.new_empty(shape, dtype=compute_dtype(self._parameter)) for _ in range(2)
        )
        self._pending = PendingFrame(self._start.to(self._parameter.dtype)) if merge_commit else None
        has_h = commit_pass and not merge_commit and model.config.agent
        self.h = self._parameter.new_zeros(batch, model.config.transformer.width) if has_h else None
        self._action: dict[str, Tensor | None] | None = None
        self._recorded: tuple[torch.cuda.CUDAGraph, Tensor] | None = None

    @torch.inference_mode(False)
    @torch.no_grad()
    def start(self, context: Float[Tensor, "B T S D"], actions: ActionValues = None) -> None:
        """Reset the past to these frames; their noise is drawn here, once.

        A frame earlier than C − 1 frames per time layer has no influence.

        Args:
            context: clean latent frames in the dtype of the parameters, unless autocast is on, (B, T, S, D); T may be
                0.
            actions: None, or the components of the actions that led to them, (B, T, …) each.

        Raises:
            TypeError: if context is not floating-point or has another dtype, or actions are not tensors.
            ValueError: if context or actions have wrong shapes or are on another device.
        """
        self._check_context(context)
        require_actions(actions, tuple(context.shape[:2]), "(B, T)")
        for cache in self._caches:
            cache.reset()
        if self.h is not None:
            self.h.zero_()
        if self._pending is not None:
            self._pending.present = False
        corrupted = corrupt_context(context, self.context_level, self.generator)
        for first in range(0, context.shape[1], BLOCK):
            block = slice(None), slice(first, first + BLOCK)
            self._keep(self._engine.commit_corrupted(corrupted[block], index_actions(actions, block)))
            if self.tokenizer is not None:
                self.tokenizer.decode(context[block], cache=self._tokenizer_cache)

    @torch.inference_mode(False)
    @torch.no_grad()
    def step(self, action: ActionValues = None) -> Float[Tensor, "B S D"] | Float[Tensor, "B H W C"]:
        """Generate the next frame and add it to the past. Without `start`, the first frame has no past.

        Args:
            action: None, or the components of the action that leads to this frame (A32), (B, …) each, on the device of
                the model. Names, shapes and dtypes must be the same at every step. `labelled`, bool (B,), in addition
                to the components is False where a sequence has no action at this step.

        Returns:
            A new tensor that later steps do not change: latent frame (B, S, D) or pixels (B, H, W, C), in the dtype of
            the parameters.

        Raises:
            TypeError: if action is not None or a mapping of names to tensors.
            ValueError: if a component has a wrong name, shape or device, or differs from the first step's.
        """
        self._copy_action(action)
        # A graph begins with the pass over two frames, so it is recorded and replayed once there is a pending one.
        if not self.graph or (self._pending is not None and not self._pending.present):
            return self._compute_frame()
        if self._recorded is None:
            self._recorded = record_frame(self._compute_frame, self.generator, self._state(), self._parameter.device)
        graph, frame = self._recorded
        self._engine.refresh()
        graph.replay()
        return frame.clone()

    def generate(
        self, context: Float[Tensor, "B T S D"], actions: ActionValues, frames: int
    ) -> Float[Tensor, "B frames S D"] | Float[Tensor, "B frames H W C"]:
        """Start from the context, then step `frames` times.

        Args:
            context: clean latent frames, as for `start`, (B, T, S, D).
            actions: None, or the components of all T + frames timesteps, (B, T+frames, …) each.
            frames: number of new frames, 1 or more.

        Returns:
            The new frames, (B, frames, S, D) or with a tokenizer (B, frames, H, W, C), in the dtype of the parameters.

        Raises:
            TypeError: if context is not floating-point or has another dtype than the parameters, or if an action is
                no tensor.
            ValueError: if frames is below 1, or if context or actions have another shape, batch, device or other
                components than the model and the decoder.

        Example:
            >>> from dreamer4_impl.models.presets import tiny
            >>> FrameDecoder(Dynamics(tiny().dynamics), batch=2).generate(torch.zeros(2, 3, 5, 6), None, 4).shape
            torch.Size([2, 4, 5, 6])
        """
        require_generation(context, frames, self.num_steps, actions, self.model.config.k_max)
        time = context.shape[1]
        self.start(context, index_actions(actions, (slice(None), slice(time))))
        return torch.stack([self.step(index_actions(actions, (slice(None), time + t))) for t in range(frames)], dim=1)

    def save(self) -> Past:
        """Copy the past, for `restore`, with the last frame in it. The state of the generator is not included.

        Returns:
            Copies of the caches and of h.
        """
        self._commit_pending()
        return Past(tuple(cache.clone() for cache in self._caches), None if self.h is None else self.h.clone())

    @torch.inference_mode(False)
    @torch.no_grad()
    def restore(self, saved: Past) -> None:
        """Reset the past to a saved one, any number of times.

        Args:
            saved: result of `save` of a decoder of the same shapes.

        Example:
            >>> from dreamer4_impl.models.presets import tiny
            >>> decoder = FrameDecoder(Dynamics(tiny().dynamics))
            >>> decoder.restore(decoder.save())
        """
        for cache, source in zip(self._caches, saved.caches, strict=True):
            cache.keys.copy_(source.keys)
            cache.values.copy_(source.values)
            cache.frames.copy_(source.frames)
        if self.h is not None and saved.h is not None:
            self.h.copy_(saved.h)
        if self._pending is not None:
            self._pending.present = False

    @property
    def _caches(self) -> tuple[Cache, ...]:
        return (self.cache,) if self._tokenizer_cache is None else (self.cache, self._tokenizer_cache)

    def _compute_frame(self) -> Tensor:
        """Compute and commit one frame from the buffers; a graph records this method."""
        start, pending = self._start.normal_(generator=self.generator), self._pending
        earlier = pending if pending is not None and pending.present else None
        frame = self._engine.denoise(start, self._action, commit_last=not self.commit_pass, pending=earlier)
        if self.commit_pass:
            noise = self._noise.normal_(generator=self.generator)
            corrupted = self._engine.corrupted(frame[:, None], noise[:, None])
            if pending is None:
                self._keep(self._engine.commit_corrupted(corrupted, self._action))
            else:
                pending.keep(corrupted[:, 0], self._action)
        if self.tokenizer is None:
            return frame
        return self.tokenizer.decode(frame[:, None], cache=self._tokenizer_cache)[:, 0]

    @torch.inference_mode(False)
    @torch.no_grad()
    def _commit_pending(self) -> None:
        """Add the last frame to the past, where its pass is merged with that of the next one."""
        if self._pending is not None and self._pending.present:
            self._engine.commit_corrupted(self._pending.frame[:, None], self._pending.actions)
            self._pending.present = False

    def _state(self) -> list[Tensor]:
        """Tensors that a frame changes and the next one depends on.

        Without a pending frame, of a cache only the slot of the next frame is written, which that frame overwrites.
        """
        counts = [cache.frames for cache in self._caches]
        if self._pending is None:
            return counts
        return [*counts, self.cache.keys, self.cache.values, *self._pending.tensors()]

    def _keep(self, h: Float[Tensor, "B T W"] | None) -> None:
        """Copy the last output of the agent token to its buffer."""
        if self.h is not None and h is not None:
            self.h.copy_(h[:, -1])

    def _copy_action(self, action: ActionValues) -> None:
        """Copy the action to the buffers that `_compute_frame` reads."""
        if action is not None and not isinstance(action, Mapping):
            raise TypeError(f"action must be None or map names of components to tensors; got {type(action).__name__}")
        self._check_components(action or {})
        require_actions(action, (self.batch,), "(B,)")
        new = index_actions(action or {}, (slice(None), None))
        if self._action is None:
            # The encoder rejects wrong names before they are fixed.
            self.model.actions(new, self.batch, 1)
            self._action = {name: None if value is None else value.clone() for name, value in new.items()}
        if _dtypes(new) != _dtypes(self._action):
            raise ValueError(
                f"action must have the components and dtypes of the first step, {_dtypes(self._action)}; got "
                f"{_dtypes(new)}. {LABELLED!r}, bool (B,), in addition to the components can mark where there is none"
            )
        for name, buffer in self._action.items():
            if buffer is not None:
                buffer.copy_(new[name])

    def _check_components(self, action: Mapping[str, Tensor | None]) -> None:
        shapes = {c.name: c.shape(self.batch, 1) for c in self.model.config.actions} | {LABELLED: (0, 0)}
        for name, value in action.items():
            if value is None:
                continue
            if not isinstance(value, Tensor):
                raise TypeError(f"action[{name!r}] must be a torch tensor; got {type(value).__name__}")
            if name in shapes:
                shape = (self.batch, *shapes[name][2:])
                require_shape(f"action[{name!r}]", value, shape, "of one frame", like=self._parameter)

    def _check_context(self, context: Tensor) -> None:
        require_floating(context=context)
        require_rank("context", context, 4, "(B, T, S, D)")
        shape = (self.batch, context.shape[1], *self._start.shape[1:])
        require_shape("context", context, shape, "(B, T, S, D)", like=self._parameter)
        require_dtype("context", context, self._parameter)


def _dtypes(action: Mapping[str, Tensor | None]) -> dict[str, torch.dtype | None]:
    return {name: None if value is None else value.dtype for name, value in sorted(action.items())}
