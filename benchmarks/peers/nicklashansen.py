"""nicklashansen/dreamer4, a checkout at `$DREAMER4_PEERS/nicklashansen/dreamer4`: no QK-norm, RoPE, cap or cache."""

from typing import Any

from benchmarks.peers.shape import Shape
from benchmarks.peers.training import Training
from benchmarks.timing import Run
from dreamer4_conformance.adapters.nicklashansen import train_dynamics

#: Tokens of a frame that are neither spatial nor registers: action, τ, d, agent.
THEIR_TOKENS = 4


def dynamics(shape: Shape) -> Any:
    """Their model; otherwise with the defaults of their command line."""
    return train_dynamics().Dynamics(
        d_model=shape.width,
        d_bottleneck=shape.spatial_channels,
        d_spatial=shape.spatial_channels,
        n_spatial=shape.spatial_tokens,
        n_register=shape.tokens - shape.spatial_tokens - THEIR_TOKENS,
        n_agent=1,
        n_heads=shape.heads,
        depth=shape.depth,
        k_max=shape.k_max,
        mlp_ratio=shape.mlp_width / shape.width,
        time_every=shape.time_every,
        scale_pos_embeds=False,
    )


def training(shape: Shape) -> Training:
    """Their training step after the warm-up, during which their teacher is not called."""
    model = dynamics(shape)
    options = {
        "z1": shape.latents(shape.batch, shape.time),
        "actions": shape.action_values(shape.batch, shape.time),
        "act_mask": None,
        "k_max": shape.k_max,
        "B_self": shape.rows_above_d_min,
        "step": 0,
        "bootstrap_start": 0,
    }
    return Training(model, lambda: train_dynamics().dynamics_pretrain_loss(model, **options)[0])


def frame(shape: Shape) -> Run:
    """Their sampler, whose K passes run over the past and the new frame."""
    code, model = train_dynamics(), dynamics(shape).eval()
    schedule = code.make_tau_schedule(k_max=shape.k_max, schedule="shortcut", d=1 / shape.num_steps)
    past, actions = shape.latents(1, shape.past), shape.action_values(1, shape.past + 1)
    return lambda: code.sample_one_timestep_packed(
        model, past_packed=past, k_max=shape.k_max, sched=schedule, actions=actions
    )
