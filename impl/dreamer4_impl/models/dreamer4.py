"""The whole model: tokenizer, dynamics and agent, each trained on its own terms."""

from torch import nn

from dreamer4_impl.models.agent import Agent
from dreamer4_impl.models.configuration import ModelConfig
from dreamer4_impl.models.dynamics import Dynamics
from dreamer4_impl.models.tokenizer import Tokenizer


class Dreamer4(nn.Module):
    """The parts that a configuration describes.

    Args:
        config: `presets` has some.

    `agent` is None where the configuration has no heads. Under `torch.device("meta")` it takes no memory.

    >>> from dreamer4_impl.models.presets import tiny
    >>> count_parameters(Dreamer4(tiny()))
    56928
    """

    def __init__(self, config: ModelConfig) -> None:
        """Start with random parameters."""
        super().__init__()
        self.config = config
        self.tokenizer = Tokenizer(config.tokenizer)
        self.dynamics = Dynamics(config.dynamics)
        width = config.dynamics.transformer.width
        self.agent = Agent(config.agent, width, config.dynamics.actions) if config.agent else None


def count_parameters(module: nn.Module) -> int:
    """Number of learned numbers.

    >>> count_parameters(nn.Linear(2, 3))
    9
    """
    return sum(parameter.numel() for parameter in module.parameters())
