"""Sec. 3.3, p. 7: policy, reward and value heads on the output h of the agent token.

    p(a_{t+n} | h_t),   p(r_{t+n} | h_t),   n = 0, …, L;   p(R_t | h_t)

Each head is a small network with one output layer for each distance n (Eq. 9). Rewards and values are symexp two-hot
distributions (`TwoHot`).
Read as: one hidden layer with SiLU on the normalised h. The output layers of reward and value start at zero, so that
both first predict exactly 0; those of the policy start small.
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

#: Standard deviation of the policy's output layers at the start, of a nearly uniform policy.
POLICY_STD: Final = 0.01


class MultiTokenHead(nn.Module):
    """Outputs (B, T, N, K) for N = L + 1 distances, from h (B, T, W): a shared hidden layer, N output layers.

    Args:
        width: W.
        hidden: width of the hidden layer.
        outputs: K.
        length: L, the longest distance.

    In the dtype of the parameters; differentiable; compiles without graph breaks; no host synchronisation.

    >>> import torch
    >>> MultiTokenHead(width=4, hidden=8, outputs=5, length=2)(torch.zeros(2, 3, 4)).shape
    torch.Size([2, 3, 3, 5])
    """

    def __init__(self, width: int, hidden: int, outputs: int, length: int, *, output_std: float = 0.0) -> None:
        """Start with output layers of normal values with this standard deviation, and no bias."""
        super().__init__()
        self.width, self.distances = width, length + 1
        self.trunk = nn.Sequential(nn.Linear(width, hidden), nn.SiLU())
        # N output layers as one product.
        self.read = nn.Linear(hidden, self.distances * outputs)
        nn.init.normal_(self.read.weight, std=output_std)
        nn.init.zeros_(self.read.bias)

    def forward(self, h: Float[Tensor, "B T W"]) -> Float[Tensor, "B T N K"]:
        """Row n of the axis N is distance n."""
        require_floating(h=h)
        require_rank("h", h, 3, "(B, T, W)")
        if h.shape[2] != self.width:
            raise ValueError(f"h must have {self.width} channels on the last axis; got {tuple(h.shape)}")
        return self.read(self.trunk(h)).unflatten(-1, (self.distances, -1))


class PolicyHead(nn.Module):
    """The policy at every distance; distance 0 is the one that acts.

    Args:
        components: of an action, categorical and binary.
        the others: as for `MultiTokenHead`, whose numerical contract holds here too.

    >>> import torch
    >>> from dreamer4_impl.layers.actions import Categorical
    >>> head = PolicyHead(width=4, hidden=8, components=[Categorical("mouse", 121)], length=2)
    >>> head(torch.zeros(2, 3, 4)).logits["mouse"].shape, head.act(torch.zeros(2, 3, 4)).sample()["mouse"].shape
    (torch.Size([2, 3, 3, 121]), torch.Size([2, 3]))
    """

    def __init__(self, width: int, hidden: int, components: Sequence[Component], length: int = MTP_LENGTH) -> None:
        """Start nearly uniform."""
        super().__init__()
        require_discrete(components)
        self.components = tuple(components)
        outputs = sum(component.size for component in components)
        self.head = MultiTokenHead(width, hidden, outputs, length, output_std=POLICY_STD)

    def forward(self, h: Float[Tensor, "B T W"]) -> Policy:
        """Distributions with the leading axes (B, T, N)."""
        sizes = [component.size for component in self.components]
        parts = self.head(h).split(sizes, dim=-1)
        return Policy(self.components, {c.name: part for c, part in zip(self.components, parts, strict=True)})

    def act(self, h: Float[Tensor, "B T W"]) -> Policy:
        """The policy at distance 0, with the leading axes (B, T)."""
        return Policy(self.components, {name: logits[:, :, 0] for name, logits in self(h).logits.items()})


class RewardHead(nn.Module):
    """Two-hot logits of the reward at every distance: (B, T, N, K).

    >>> import torch
    >>> head = RewardHead(width=4, hidden=8, length=2)
    >>> head(torch.zeros(1, 2, 4)).shape, head.predict(torch.zeros(1, 2, 4)).tolist()
    (torch.Size([1, 2, 3, 255]), [[0.0, 0.0]])
    """

    def __init__(self, width: int, hidden: int, length: int = MTP_LENGTH, twohot: TwoHot | None = None) -> None:
        """Start at a reward of 0."""
        super().__init__()
        self.twohot = twohot or TwoHot()
        self.head = MultiTokenHead(width, hidden, self.twohot.num_bins, length)

    def forward(self, h: Float[Tensor, "B T W"]) -> Float[Tensor, "B T N K"]:
        """Logits of every distance."""
        return self.head(h)

    def predict(self, h: Float[Tensor, "B T W"]) -> Float[Tensor, "B T"]:
        """The mean reward at distance 0."""
        return self.twohot.decode(self(h)[:, :, 0])


class ValueHead(nn.Module):
    """Two-hot logits of the value: (B, T, K).

    >>> import torch
    >>> head = ValueHead(width=4, hidden=8)
    >>> head(torch.zeros(1, 2, 4)).shape, head.predict(torch.zeros(1, 2, 4)).tolist()
    (torch.Size([1, 2, 255]), [[0.0, 0.0]])
    """

    def __init__(self, width: int, hidden: int, twohot: TwoHot | None = None) -> None:
        """Start at a value of 0."""
        super().__init__()
        self.twohot = twohot or TwoHot()
        self.head = MultiTokenHead(width, hidden, self.twohot.num_bins, length=0)

    def forward(self, h: Float[Tensor, "B T W"]) -> Float[Tensor, "B T K"]:
        """Logits of the return."""
        return self.head(h)[:, :, 0]

    def predict(self, h: Float[Tensor, "B T W"]) -> Float[Tensor, "B T"]:
        """The mean return."""
        return self.twohot.decode(self(h))
