"""Configurations, from `tiny` for tests to `paper`.

The paper states 400M parameters of the tokenizer and 1.6B of the dynamics, 512×16 latents regrouped to 256×32 spatial
tokens, C = 192, T = 64 and 256, and one time layer in four. It does not state widths, depths, heads, cap, registers,
action tokens and K_max: those of `paper` are our choice.
"""

from functools import partial

from dreamer4_impl.constants import CONTEXT_LENGTH, MINECRAFT_BINARIES
from dreamer4_impl.equations.twohot import TwoHot
from dreamer4_impl.layers.actions import Binary, Categorical
from dreamer4_impl.layers.mouse import MOUSE_CLASSES
from dreamer4_impl.models.configuration import AgentConfig, DynamicsConfig, ModelConfig, TokenizerConfig
from dreamer4_impl.models.transformer import TransformerConfig

#: Sec. 4: the Minecraft action space.
MINECRAFT_ACTIONS = (Binary("keys", MINECRAFT_BINARIES), Categorical("mouse", MOUSE_CLASSES))


def tiny() -> ModelConfig:
    """Model for tests: about 57 thousand parameters, milliseconds on a CPU, all modules present.

    Returns:
        Configuration for frames of 6×8 pixels, with 4 keys, 5 mouse classes and 3 tasks.

    Example:
        >>> tiny().dynamics.tokens
        12
    """
    coder = TransformerConfig(width=16, depth=4, heads=2, kv_heads=2, head_width=8, mlp_width=24, context=5)
    dynamics = TransformerConfig(width=24, depth=8, heads=4, kv_heads=2, head_width=6, mlp_width=32, context=3)
    return ModelConfig(
        tokenizer=TokenizerConfig(
            encoder=coder, decoder=coder, height=6, width=8, patch=4, latents=10, latent_channels=3, spatial_tokens=5
        ),
        dynamics=DynamicsConfig(
            transformer=dynamics,
            actions=(Binary("keys", 4), Categorical("mouse", 5)),
            spatial_tokens=5,
            spatial_channels=6,
            registers=3,
            action_tokens=2,
            agent=True,
            tasks=3,
            k_max=8,
        ),
        agent=AgentConfig(hidden=16, length=2, twohot=TwoHot(num_bins=21, limit=5.0)),
        short_length=4,
        long_length=7,
    )


def small(backend: str = "eager") -> ModelConfig:
    """Model for experiments on one GPU: about 28 million parameters.

    Args:
        backend: backend of `attention`; "triton" on a GPU.

    Returns:
        Configuration for frames of 64×64 pixels with the Minecraft actions.

    Example:
        >>> small().tokenizer.patches
        64
    """
    transformer = partial(TransformerConfig, depth=8, head_width=64, context=32, backend=backend)
    coder = transformer(width=256, heads=4, kv_heads=4, mlp_width=704)
    dynamics = transformer(width=384, heads=6, kv_heads=2, mlp_width=1024)
    return ModelConfig(
        tokenizer=TokenizerConfig(
            encoder=coder,
            decoder=coder,
            height=64,
            width=64,
            patch=8,
            latents=32,
            latent_channels=16,
            spatial_tokens=16,
        ),
        dynamics=DynamicsConfig(
            transformer=dynamics, actions=MINECRAFT_ACTIONS, spatial_tokens=16, spatial_channels=32, agent=True
        ),
        agent=AgentConfig(hidden=384),
        short_length=16,
        long_length=48,
    )


def paper(backend: str = "eager", spatial_tokens: int = 256) -> ModelConfig:
    """The paper's Minecraft model: about 400M parameters in the tokenizer and 1.6B in the dynamics.

    A frame of the dynamics has 264 tokens: 256 spatial, 4 registers, 1 label, 2 action and 1 agent token. 264 fits no
    tile of a matrix product; with 248 spatial tokens a frame has 256 tokens, and the tokenizer 496 latents.

    Args:
        backend: backend of `attention`; "triton" on a GPU.
        spatial_tokens: spatial tokens of a frame, 1 or more, of two latents each.

    Returns:
        Configuration for frames of 360×640 pixels with the Minecraft actions and 20 tasks.

    Example:
        >>> config = paper()
        >>> config.tokenizer.patches, config.tokenizer.latents, config.dynamics.tokens
        (960, 512, 264)
        >>> paper(spatial_tokens=248).dynamics.tokens
        256
    """
    transformer = partial(TransformerConfig, heads=16, context=CONTEXT_LENGTH, backend=backend)
    coder = transformer(width=1024, depth=16, kv_heads=16, head_width=64, mlp_width=2752)
    dynamics = transformer(width=2048, depth=36, kv_heads=4, head_width=128, mlp_width=5504)
    return ModelConfig(
        tokenizer=TokenizerConfig(
            encoder=coder,
            decoder=coder,
            height=360,
            width=640,
            latents=2 * spatial_tokens,
            spatial_tokens=spatial_tokens,
        ),
        dynamics=DynamicsConfig(
            transformer=dynamics,
            actions=MINECRAFT_ACTIONS,
            spatial_tokens=spatial_tokens,
            action_tokens=2,
            registers=4,
            agent=True,
            tasks=20,
        ),
        agent=AgentConfig(hidden=2048),
    )
