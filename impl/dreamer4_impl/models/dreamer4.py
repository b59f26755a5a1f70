"""The whole model: tokenizer, dynamics and agent, each with its own losses."""

from torch import nn

from dreamer4_impl.models.agent import Agent
from dreamer4_impl.models.configuration import ModelConfig
from dreamer4_impl.models.dynamics import Dynamics
from dreamer4_impl.models.tokenizer import Tokenizer


class Dreamer4(nn.Module):
    """Tokenizer, dynamics and agent with random parameters.

    Under `torch.device("meta")` the model takes no memory.

    Args:
        config: sizes; see `presets`.

    Attributes:
        tokenizer: `Tokenizer`, frames to latents and back.
        dynamics: `Dynamics`, which predicts the latents of frames.
        agent: `Agent`, or None if the configuration has no heads.

    Example:
        >>> from dreamer4_impl.models.presets import tiny
        >>> count_parameters(Dreamer4(tiny()))
        56928
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = Tokenizer(config.tokenizer)
        self.dynamics = Dynamics(config.dynamics)
        width = config.dynamics.transformer.width
        self.agent = Agent(config.agent, width, config.dynamics.actions) if config.agent else None


def count_parameters(module: nn.Module) -> int:
    """Count the learned numbers.

    Args:
        module: any module.

    Returns:
        Elements of all parameters; buffers do not count.

    Example:
        >>> count_parameters(nn.Linear(2, 3))
        9
    """
    return sum(parameter.numel() for parameter in module.parameters())
