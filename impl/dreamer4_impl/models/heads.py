"""Sec. 3.3, p. 7: policy, reward and value heads on the output h of the agent token.

    p(a_{t+n} | h_t),   p(r_{t+n} | h_t),   n = 0, …, L;   p(R_t | h_t);   c_t = p(the episode continues | h_t)

Each head is a small network with one output layer for each distance n (Eq. 9). Rewards and values are symexp two-hot
distributions (`TwoHot`).
Read as: one hidden layer with SiLU on the normalised h. The output layers of reward and value are 0 at the start, so
that both predict exactly 0; those of the policy are small.
"""

from collections.abc import Sequence
from typing import Final

from jaxtyping import Float
from torch import Tensor, nn

from dreamer4_impl.arguments import require_floating, require_rank
from dreamer4_impl.constants import MTP_LENGTH
from dreamer4_impl.equations.twohot import TwoHot
from dreamer4_impl.layers.actions import Component
from dreamer4_impl.models.policy import Policy, require_discrete
from dreamer4_impl.precision import compute_dtype

#: Standard deviation of the policy's output layers at the start; the policy is then nearly uniform.
POLICY_STD: Final = 0.01


class MultiTokenHead(nn.Module):
    """A shared hidden layer and N = L + 1 output layers, one for each distance.

    Differentiable; compiles without graph breaks; no host synchronisation.

    Args:
        width: W, channels of h, 1 or more.
        hidden: width of the hidden layer, 1 or more.
        outputs: K, outputs of each distance, 1 or more.
        length: L, longest distance, 0 or more.
        output_std: standard deviation of the weights of the output layers at the start, 0 or more; their bias is 0.

    Example:
        >>> import torch
        >>> MultiTokenHead(width=4, hidden=8, outputs=5, length=2)(torch.zeros(2, 3, 4)).shape
        torch.Size([2, 3, 3, 5])
    """

    def __init__(self, width: int, hidden: int, outputs: int, length: int, *, output_std: float = 0.0) -> None:
        super().__init__()
        self.width, self.distances = width, length + 1
        self.trunk = nn.Sequential(nn.Linear(width, hidden), nn.SiLU())
        # N output layers as one product.
        self.read = nn.Linear(hidden, self.distances * outputs)
        nn.init.normal_(self.read.weight, std=output_std)
        nn.init.zeros_(self.read.bias)

    def forward(self, h: Float[Tensor, "B T W"]) -> Float[Tensor, "B T N K"]:
        """Compute the outputs of every distance.

        Args:
            h: outputs of the agent token in the dtype of the parameters, (B, T, W).

        Returns:
            Outputs in the dtype of the parameters, (B, T, N, K); index n of the axis N is distance n.

        Raises:
            TypeError: if h is not a floating-point tensor.
            ValueError: if h is not of shape (B, T, W).
        """
        require_floating(h=h)
        require_rank("h", h, 3, "(B, T, W)")
        if h.shape[2] != self.width:
            raise ValueError(f"h must have {self.width} channels on the last axis; got {tuple(h.shape)}")
        return self.read(self.trunk(h)).unflatten(-1, (self.distances, -1))


class PolicyHead(nn.Module):
    """Policy at every distance, nearly uniform at the start. Actions are taken from distance 0.

    The numerical contract is that of `MultiTokenHead`.

    Args:
        width: W, channels of h, 1 or more.
        hidden: width of the hidden layer, 1 or more.
        components: components of an action, categorical and binary, at least one.
        length: L, longest distance, 0 or more.

    Raises:
        ValueError: if a component is continuous, or there is none.

    Example:
        >>> import torch
        >>> from dreamer4_impl.layers.actions import Categorical
        >>> head = PolicyHead(width=4, hidden=8, components=[Categorical("mouse", 121)], length=2)
        >>> head(torch.zeros(2, 3, 4)).logits["mouse"].shape, head.act(torch.zeros(2, 3, 4)).sample()["mouse"].shape
        (torch.Size([2, 3, 3, 121]), torch.Size([2, 3]))
    """

    def __init__(self, width: int, hidden: int, components: Sequence[Component], length: int = MTP_LENGTH) -> None:
        super().__init__()
        require_discrete(components)
        self.components = tuple(components)
        outputs = sum(component.size for component in components)
        self.head = MultiTokenHead(width, hidden, outputs, length, output_std=POLICY_STD)

    def forward(self, h: Float[Tensor, "B T W"]) -> Policy:
        """Compute the policy at every distance.

        Args:
            h: outputs of the agent token in the dtype of the parameters, (B, T, W).

        Returns:
            Distributions with the leading axes (B, T, N).

        Raises:
            TypeError: if h is not a floating-point tensor.
            ValueError: if h is not of shape (B, T, W).
        """
        logits = self.head(h).split([component.size for component in self.components], dim=-1)
        names = [component.name for component in self.components]
        return Policy(self.components, dict(zip(names, logits, strict=True)))

    def act(self, h: Float[Tensor, "B T W"]) -> Policy:
        """Compute the policy at distance 0.

        Args:
            h: outputs of the agent token in the dtype of the parameters, (B, T, W).

        Returns:
            Distributions with the leading axes (B, T).

        Raises:
            TypeError: if h is not a floating-point tensor.
            ValueError: if h is not of shape (B, T, W).
        """
        return Policy(self.components, {name: logits[:, :, 0] for name, logits in self(h).logits.items()})


class RewardHead(nn.Module):
    """Two-hot logits of the reward at every distance; predicts 0 at the start.

    Args:
        width: W, channels of h, 1 or more.
        hidden: width of the hidden layer, 1 or more.
        length: L, longest distance, 0 or more.
        twohot: the K bins; None is `TwoHot()`.

    Example:
        >>> import torch
        >>> head = RewardHead(width=4, hidden=8, length=2)
        >>> head(torch.zeros(1, 2, 4)).shape, head.predict(torch.zeros(1, 2, 4)).tolist()
        (torch.Size([1, 2, 3, 255]), [[0.0, 0.0]])
    """

    def __init__(self, width: int, hidden: int, length: int = MTP_LENGTH, twohot: TwoHot | None = None) -> None:
        super().__init__()
        self.twohot = twohot or TwoHot()
        self.head = MultiTokenHead(width, hidden, self.twohot.num_bins, length)

    def forward(self, h: Float[Tensor, "B T W"]) -> Float[Tensor, "B T N K"]:
        """Compute the logits of every distance.

        Args:
            h: outputs of the agent token in the dtype of the parameters, (B, T, W).

        Returns:
            Unnormalised log-probabilities in the dtype of the parameters, (B, T, N, K).

        Raises:
            TypeError: if h is not a floating-point tensor.
            ValueError: if h is not of shape (B, T, W).
        """
        return self.head(h)

    def predict(self, h: Float[Tensor, "B T W"]) -> Float[Tensor, "B T"]:
        """Compute the mean reward at distance 0.

        Args:
            h: outputs of the agent token in the dtype of the parameters, (B, T, W).

        Returns:
            Rewards in raw values, (B, T), in float32 (float64 for float64).

        Raises:
            TypeError: if h is not a floating-point tensor.
            ValueError: if h is not of shape (B, T, W).
        """
        return self.twohot.decode(self(h)[:, :, 0])


class ValueHead(nn.Module):
    """Two-hot logits of the value; predicts 0 at the start.

    Args:
        width: W, channels of h, 1 or more.
        hidden: width of the hidden layer, 1 or more.
        twohot: the K bins; None is `TwoHot()`.

    Example:
        >>> import torch
        >>> head = ValueHead(width=4, hidden=8)
        >>> head(torch.zeros(1, 2, 4)).shape, head.predict(torch.zeros(1, 2, 4)).tolist()
        (torch.Size([1, 2, 255]), [[0.0, 0.0]])
    """

    def __init__(self, width: int, hidden: int, twohot: TwoHot | None = None) -> None:
        super().__init__()
        self.twohot = twohot or TwoHot()
        self.head = MultiTokenHead(width, hidden, self.twohot.num_bins, length=0)

    def forward(self, h: Float[Tensor, "B T W"]) -> Float[Tensor, "B T K"]:
        """Compute the logits of the return.

        Args:
            h: outputs of the agent token in the dtype of the parameters, (B, T, W).

        Returns:
            Unnormalised log-probabilities in the dtype of the parameters, (B, T, K).

        Raises:
            TypeError: if h is not a floating-point tensor.
            ValueError: if h is not of shape (B, T, W).
        """
        return self.head(h)[:, :, 0]

    def predict(self, h: Float[Tensor, "B T W"]) -> Float[Tensor, "B T"]:
        """Compute the mean return.

        Args:
            h: outputs of the agent token in the dtype of the parameters, (B, T, W).

        Returns:
            Raw values, (B, T), in float32 (float64 for float64).

        Raises:
            TypeError: if h is not a floating-point tensor.
            ValueError: if h is not of shape (B, T, W).
        """
        return self.twohot.decode(self(h))


class ContinueHead(nn.Module):
    """Probability that the episode has not terminated on arriving at the frame; one half at the start.

    The numerical contract is that of `MultiTokenHead`.

    Args:
        width: W, channels of h.
        hidden: width of the hidden layer.

    Example:
        >>> import torch
        >>> ContinueHead(width=4, hidden=8).predict(torch.zeros(1, 2, 4)).tolist()
        [[0.5, 0.5]]
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.head = MultiTokenHead(width, hidden, 1, length=0)

    def forward(self, h: Float[Tensor, "B T W"]) -> Float[Tensor, "B T"]:
        """Compute the logits.

        Args:
            h: outputs of the agent token in the dtype of the parameters, (B, T, W).

        Returns:
            Log-odds of continuing in the dtype of the parameters, (B, T).

        Raises:
            TypeError: if h is not a floating-point tensor.
            ValueError: if h is not of shape (B, T, W).
        """
        return self.head(h)[:, :, 0, 0]

    def predict(self, h: Float[Tensor, "B T W"]) -> Float[Tensor, "B T"]:
        """Compute the probabilities.

        Args:
            h: outputs of the agent token in the dtype of the parameters, (B, T, W).

        Returns:
            Probabilities of continuing, (B, T), in float32 (float64 for float64).

        Raises:
            TypeError: if h is not a floating-point tensor.
            ValueError: if h is not of shape (B, T, W).
        """
        logits = self(h)
        return logits.to(compute_dtype(logits)).sigmoid()
