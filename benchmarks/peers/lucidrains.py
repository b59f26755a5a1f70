"""lucidrains' `dreamer4` from PyPI, with the library's defaults apart from the sizes."""

from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.shape import Shape
from benchmarks.peers.training import Training
from benchmarks.timing import Run
from dreamer4_conformance.adapters.lucidrains import library

#: Tokens of a frame that are neither spatial nor registers: labels, action, agent.
THEIR_TOKENS = 3


def world_model(shape: Shape) -> Any:
    """Their model. Two thirds of their expansion factor are the inner width of their SwiGLU."""
    return library().DynamicsWorldModel(
        dim=shape.width,
        dim_latent=shape.spatial_channels,
        max_steps=shape.k_max,
        num_register_tokens=shape.tokens - shape.spatial_tokens - THEIR_TOKENS,
        num_spatial_tokens=shape.spatial_tokens,
        num_latent_tokens=shape.spatial_tokens,
        depth=shape.depth,
        time_block_every=shape.time_every,
        attn_heads=shape.heads,
        attn_dim_head=shape.head_width,
        ff_kwargs={"expansion_factor": 1.5 * shape.mlp_width / shape.width},
        num_continuous_actions=shape.actions,
    )


def training(shape: Shape) -> Training:
    """Their loss without the terms of the agent, in two calls.

    A call draws once whether all of its rows are at d_min or above it. The rows at d_min and those above are a call
    each, so that the teacher has as many rows as in the other implementations.
    """
    model = world_model(shape)
    z1, actions = shape.latents(shape.batch, shape.time), shape.action_values(shape.batch, shape.time)
    at_d_min = shape.batch - shape.rows_above_d_min

    def mean(rows: slice, *, above_d_min: bool) -> Tensor:
        model.prob_shortcut_train = float(above_d_min)
        loss: Tensor = model(
            latents=z1[rows],
            continuous_actions=actions[rows],
            shift_action_tokens=False,
            add_autoregressive_action_loss=False,
        )
        return loss

    def loss() -> Tensor:
        finest, coarser = mean(slice(at_d_min), above_d_min=False), mean(slice(at_d_min, None), above_d_min=True)
        return (at_d_min * finest + shape.rows_above_d_min * coarser) / shape.batch

    return Training(model, loss)


def frame(shape: Shape) -> Run:
    """The frame after a past that an earlier call of their sampler has left in its cache."""
    model, latents = world_model(shape), shape.latents(1, shape.past)
    actions = shape.action_values(1, shape.past)
    options = {"num_steps": shape.num_steps, "store_agent_embed": False, "use_time_cache": True}
    with torch.no_grad():
        past, cache = model.generate(
            shape.past,
            prompt_latents=latents[:, :-1],
            prompt_continuous_actions=actions[:, :-1],
            return_time_cache=True,
            **options,
        )
    return lambda: model.generate(
        shape.past + 1, prompt_latents=past, prompt_continuous_actions=actions, time_cache=cache, **options
    )
