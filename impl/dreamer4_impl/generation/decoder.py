"""Sec. 3.2, p. 6, and Sec. 3.4: the decode engine, one frame after the other, as somebody who plays asks for them.

    z ← z + (ẑ₁ − z)/(1 − τ) d,   ẑ₁ = f(z, τ, d, a | past),   τ = 0, d, …, 1 − d,   d = 1/K
    z̃ = (1 − c) z₀ + c z,          f(z̃, c, d_min, a | past) joins the past

K passes over one frame see the cache and leave it as it is; one more adds the frame to it, slightly corrupted (A9). On a
GPU all of them, their noise included, are one CUDA graph: the host launches it once for each frame and never waits.
"""

from collections.abc import Mapping
from typing import Final

import torch
from jaxtyping import Float
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
from dreamer4_impl.equations.eq01_corruption import corrupt
from dreamer4_impl.equations.eq02_sampling import check_generation, context_label, corrupt_context, denoise
from dreamer4_impl.equations.network_types import index_actions, require_actions
from dreamer4_impl.layers.actions import LABELLED, ActionValues
from dreamer4_impl.models.dynamics import Dynamics
from dreamer4_impl.models.tokenizer import Tokenizer
from dreamer4_impl.precision import casts_automatically, compute_dtype

#: How many frames of a context are taken in at once, so that its length does not decide how much memory that takes.
BLOCK: Final = 64
#: Frames computed before one is recorded: the first compiles, loads and tunes, the second runs as the recorded one will.
WARM_UP: Final = 2


class FrameDecoder:
    """Generates frames of B sequences one at a time, in memory that stays where it is.

    Args:
        model: the dynamics. The agent token, if any, is told no task, and nothing depends on it.
        batch: B, 1 or more.
        num_steps: K, a power of two up to the model's k_max.
        context_level: signal level at which a frame joins the past, in [0, 1]; 1 leaves it clean.
        generator: where the noise comes from, on the device of the model; None is torch's global state. It draws in the
            order of `sampler.generate`.
        commit_pass: whether a pass of its own adds the frame to the past, as in the paper. Without it the keys and values
            of the last denoising pass stay: K passes instead of K + 1, and other frames than the paper's; for measurement.
        compile: compile the pass over one frame, as one graph, at the first step.
        graph: record the computation of a frame as a CUDA graph at the first step, and replay it from then on. None is
            wherever that is possible: on a CUDA device with autocast off. True is refused elsewhere.
        tokenizer: frames come as its pixels (B, H, W, C), decoded in the same graph; None leaves them latent (B, S, D).

    Frames are denoised in float32 (float64 for float64) and returned in the dtype of the parameters. From the same
    generator they are those of `sampler.generate`, up to rounding, with a graph as without. No gradient; no host
    synchronisation, but for recording. With a graph, parameters may change their values but not their places.

    >>> from dreamer4_impl.models.presets import tiny
    >>> decoder = FrameDecoder(Dynamics(tiny().dynamics))
    >>> decoder.step({"keys": torch.ones(1, 4), "mouse": torch.tensor([2])}).shape, int(decoder.cache.frames)
    (torch.Size([1, 5, 6]), 1)
    """

    def __init__(
        self,
        model: Dynamics,
        batch: int = 1,
        *,
        num_steps: int = SAMPLING_STEPS,
        context_level: float = CONTEXT_LEVEL,
        generator: torch.Generator | None = None,
        commit_pass: bool = True,
        compile: bool = False,
        graph: bool | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        require_power_of_two("num_steps", num_steps)
        require_between("num_steps", num_steps, 1, model.config.k_max)
        if not isinstance(batch, int) or batch < 1:
            raise ValueError(f"batch must be a whole number, 1 or more; got {batch!r}")
        self.model, self.batch, self.num_steps, self.context_level = model, batch, num_steps, context_level
        self.commit_pass, self.tokenizer = commit_pass, tokenizer
        self.cache = model.empty_cache(batch)
        self._parameter = next(model.parameters())
        self.graph = _with_graph(graph, self._parameter.device)
        self.generator = _generator_on(self._parameter.device, generator)
        self._shown_before = None if tokenizer is None else tokenizer.decoder_cache(batch)
        self._one_frame = torch.compile(model, fullgraph=True, dynamic=False) if compile else model
        self._action: dict[str, Tensor | None] | None = None
        self._recorded: tuple[torch.cuda.CUDAGraph, Tensor] | None = None
        self._place_buffers()

    @torch.no_grad()
    def start(self, context: Float[Tensor, "B T S D"], actions: ActionValues = None) -> None:
        """Forget everything, and take frames in that are past.

        Args:
            context: clean frames; T may be 0. Of the dtype of the parameters, unless autocast is on.
            actions: None, or the components of the actions that led to them, (B, T, …) each.

        Their noise is drawn here, once. A frame further back than C − 1 frames for each time layer influences nothing.
        """
        self._check_context(context)
        require_actions(actions, tuple(context.shape[:2]), "(B, T)")
        for cache in self._caches:
            cache.reset()
        corrupted = corrupt_context(context, self.context_level, self.generator)
        for first in range(0, context.shape[1], BLOCK):
            block = slice(None), slice(first, first + BLOCK)
            self._take_in(corrupted[block], index_actions(actions, block))
            if self.tokenizer is not None:
                self.tokenizer.decode(context[block], cache=self._shown_before)

    @torch.no_grad()
    def step(self, action: ActionValues = None) -> Float[Tensor, "B S D"] | Float[Tensor, "B H W C"]:
        """The next frame, which the decoder remembers.

        Args:
            action: None, or the components of the action that leads to this frame (A32), (B, …) each, on the device of the
                model. Every step must hold what the first did, in names, shapes and dtypes; `labelled`, bool (B,), beside
                them says at every step anew where there is an action.

        Returns a tensor of its own, which no later step changes; without a start, the first frame follows nothing.
        """
        self._place_action(action)
        if not self.graph:
            return self._compute_frame()
        if self._recorded is None:
            self._recorded = self._record()
        graph, frame = self._recorded
        graph.replay()
        return frame.clone()

    def generate(
        self, context: Float[Tensor, "B T S D"], actions: ActionValues, frames: int
    ) -> Float[Tensor, "B frames S D"] | Float[Tensor, "B frames H W C"]:
        """Start from the context, and step `frames` times.

        Args:
            context: as for `start`.
            actions: None, or the components of all T + frames timesteps, (B, T+frames, …).
            frames: how many, 1 or more.

        >>> from dreamer4_impl.models.presets import tiny
        >>> FrameDecoder(Dynamics(tiny().dynamics), batch=2).generate(torch.zeros(2, 3, 5, 6), None, 4).shape
        torch.Size([2, 4, 5, 6])
        """
        check_generation(context, frames, self.num_steps, actions, self.model.config.k_max)
        time = context.shape[1]
        self.start(context, index_actions(actions, (slice(None), slice(time))))
        return torch.stack([self.step(index_actions(actions, (slice(None), time + t))) for t in range(frames)], dim=1)

    def save(self) -> tuple[Cache, ...]:
        """A copy of all that is remembered, to `restore`; the generator is not part of it."""
        return tuple(cache.clone() for cache in self._caches)

    @torch.no_grad()
    def restore(self, saved: tuple[Cache, ...]) -> None:
        """Go back to what was saved, as often as there are continuations to try.

        >>> from dreamer4_impl.models.presets import tiny
        >>> decoder = FrameDecoder(Dynamics(tiny().dynamics))
        >>> decoder.restore(decoder.save())
        """
        for cache, kept in zip(self._caches, saved, strict=True):
            cache.keys.copy_(kept.keys)
            cache.values.copy_(kept.values)
            cache.frames.copy_(kept.frames)

    @property
    def _caches(self) -> tuple[Cache, ...]:
        return (self.cache,) if self._shown_before is None else (self.cache, self._shown_before)

    def _place_buffers(self) -> None:
        """What is the same for all frames, or overwritten by each: fixed places, as a graph needs them."""
        config = self.model.config
        shape = (self.batch, config.spatial_tokens, config.spatial_channels)
        compute = compute_dtype(self._parameter)
        self._start, self._noise = (self._parameter.new_empty(shape, dtype=compute) for _ in range(2))
        d, d_min = 1 / self.num_steps, 1 / config.k_max
        self._labels = [self._each(index * d, d) for index in range(self.num_steps)]
        self._past_label = self._each(context_label(self.context_level, config.k_max), d_min)
        (self._level,) = self._each(self.context_level)

    def _each(self, *labels: float) -> tuple[Float[Tensor, "B 1"], ...]:
        return tuple(self._start.new_full((self.batch, 1), label) for label in labels)

    def _compute_frame(self) -> Tensor:
        """All that one frame takes: this is what a graph records."""
        start = self._start.normal_(generator=self.generator)
        frame = denoise(self._predict_clean, start, self.num_steps, self._parameter.dtype)
        if self.commit_pass:
            noise = self._noise.normal_(generator=self.generator)
            self._pass(corrupt(noise, frame, self._level[:, 0]), self._past_label, commit=True)
        if self.tokenizer is None:
            return frame
        return self.tokenizer.decode(frame[:, None], cache=self._shown_before)[:, 0]

    def _predict_clean(self, frame: Float[Tensor, "B S D"], index: int) -> Float[Tensor, "B S D"]:
        commit = index == self.num_steps - 1 and not self.commit_pass
        return self._pass(frame, self._labels[index], commit=commit).to(self._start.dtype)

    def _pass(self, z: Float[Tensor, "B S D"], labels: tuple[Tensor, ...], *, commit: bool) -> Float[Tensor, "B S D"]:
        z1_hat: Tensor = self._one_frame(z[:, None], *labels, self._action, cache=self.cache, commit=commit)[0]
        return z1_hat[:, 0]

    def _take_in(self, corrupted: Float[Tensor, "B T S D"], actions: ActionValues) -> None:
        labels = (label.expand(corrupted.shape[:2]) for label in self._past_label)
        self.model(corrupted, *labels, actions, cache=self.cache, commit=True)

    def _record(self) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        """The graph of a frame, and where it leaves that frame; nothing has happened when it is recorded."""
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        with torch.cuda.device(self._parameter.device):
            self._warm_up()
            with torch.cuda.graph(graph):
                frame = self._compute_frame()
        return graph, frame

    def _warm_up(self) -> None:
        before, state = [cache.frames.clone() for cache in self._caches], self.generator.get_state()
        for _ in range(WARM_UP):
            self._compute_frame()
            # The slot of the next frame is all that was written, and that frame overwrites it; a second frame would
            # overwrite the oldest, which the next frame still sees.
            for cache, frames in zip(self._caches, before, strict=True):
                cache.frames.copy_(frames)
        self.generator.set_state(state)

    def _place_action(self, action: ActionValues) -> None:
        """Copy the action to where the computation of a frame finds it."""
        if action is not None and not isinstance(action, Mapping):
            raise TypeError(f"action must be None or map names of components to tensors; got {type(action).__name__}")
        self._check_components(action or {})
        require_actions(action, (self.batch,), "(B,)")
        given = index_actions(action or {}, (slice(None), None))
        if self._action is None:
            # The encoder says what is wrong with the names before they are fixed.
            self.model.actions(given, self.batch, 1)
            self._action = {name: None if part is None else part.clone() for name, part in given.items()}
        if _described(given) != _described(self._action):
            raise ValueError(
                f"action must hold what that of the first step did, {_described(self._action)}; got {_described(given)}. "
                f"{LABELLED!r}, bool (B,), beside the components can say where there is none"
            )
        for name, place in self._action.items():
            if place is not None:
                place.copy_(given[name])

    def _check_components(self, action: Mapping[str, Tensor | None]) -> None:
        shapes = {part.name: part.shape(self.batch, 1) for part in self.model.config.actions} | {LABELLED: (0, 0)}
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


def _with_graph(graph: bool | None, device: torch.device) -> bool:
    if graph and device.type != "cuda":
        raise ValueError(f"graph=True needs a model on a CUDA device; got one on {device}")
    # Its copies of the parameters live no longer than the autocast region, but the graph would go on reading them.
    automatic = casts_automatically(device)
    if graph and automatic:
        raise ValueError("graph=True needs autocast off: convert the model instead; got autocast on")
    return device.type == "cuda" and not automatic if graph is None else graph


def _generator_on(device: torch.device, generator: torch.Generator | None) -> torch.Generator:
    """The generator itself, torch's own for this device in place of None: its state is kept while a graph is recorded."""
    if generator is None:
        return torch.cuda.default_generators[device.index] if device.type == "cuda" else torch.default_generator
    if generator.device != device:
        raise ValueError(f"generator must lie on {device} like the model; got {generator.device}")
    return generator


def _described(action: Mapping[str, Tensor | None]) -> dict[str, torch.dtype | None]:
    return {name: None if part is None else part.dtype for name, part in sorted(action.items())}
