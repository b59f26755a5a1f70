"""This implementation, with QK-norm, RoPE and soft cap, and as many key/value heads as query heads."""

from benchmarks.peers.shape import D_MIN_SHARE, Shape
from benchmarks.peers.training import Training
from benchmarks.timing import Run
from dreamer4_impl.equations.eq06_07_shortcut_forcing import shortcut_forcing_loss
from dreamer4_impl.generation.decoder import FrameDecoder
from dreamer4_impl.layers.actions import Continuous
from dreamer4_impl.models.configuration import DynamicsConfig
from dreamer4_impl.models.dynamics import Dynamics
from dreamer4_impl.models.transformer import TransformerConfig

#: Tokens of a frame that are neither spatial nor registers: label, action, agent.
OWN_TOKENS = 3


def dynamics(shape: Shape, backend: str) -> Dynamics:
    """Model with an agent token, whose time layers see the past and the current frame."""
    transformer = TransformerConfig(
        width=shape.width,
        depth=shape.depth,
        heads=shape.heads,
        kv_heads=shape.heads,
        head_width=shape.head_width,
        mlp_width=shape.mlp_width,
        context=shape.past + 1,
        time_every=shape.time_every,
        backend=backend,
    )
    config = DynamicsConfig(
        transformer=transformer,
        actions=(Continuous("action", shape.actions),),
        spatial_tokens=shape.spatial_tokens,
        spatial_channels=shape.spatial_channels,
        registers=shape.tokens - shape.spatial_tokens - OWN_TOKENS,
        action_tokens=1,
        agent=True,
        k_max=shape.k_max,
    )
    return Dynamics(config)


def training(shape: Shape, backend: str) -> Training:
    """Training step with the declared split of d."""
    model, z1 = dynamics(shape, backend), shape.latents(shape.batch, shape.time)
    actions = {"action": shape.action_values(shape.batch, shape.time)}
    return Training(
        model,
        lambda: shortcut_forcing_loss(model.network, z1, actions, k_max=shape.k_max, d_min_share=D_MIN_SHARE),
    )


def frame(shape: Shape, *, merge_commit: bool) -> Run:
    """The next frame after a past in the cache."""
    decoder = FrameDecoder(dynamics(shape, "eager"), num_steps=shape.num_steps, merge_commit=merge_commit)
    actions = shape.action_values(1, shape.past + 1)
    decoder.start(shape.latents(1, shape.past), {"action": actions[:, :-1]})
    return lambda: decoder.step({"action": actions[:, -1]})
