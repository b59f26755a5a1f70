"""Sec. 3.3, p. 7: the agent, three heads on the output h of the agent token, and their behaviour-cloning losses.

L = −Σₙ ln p(a_{t+n} | h_t) − Σₙ ln p(r_{t+n} | h_t)   (Eq. 9)
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dreamer4_impl.equations.eq09_multi_token import multi_token_loss, multi_token_targets
from dreamer4_impl.layers.actions import Component
from dreamer4_impl.models.configuration import AgentConfig
from dreamer4_impl.models.heads import ContinueHead, PolicyHead, RewardHead, ValueHead
from dreamer4_impl.precision import compute_dtype


class Agent(nn.Module):
    """Policy, reward and value head, and a head for the end of an episode if the configuration has one.

    At the start the policy is nearly uniform, and rewards and values are 0. The methods compile without graph breaks
    and never make the host wait.

    Args:
        config: sizes of the heads.
        width: W, channels of h, 1 or more.
        actions: components of an action, categorical and binary, at least one.

    Raises:
        ValueError: if an action component is continuous, or there is none.

    Example:
        >>> import torch
        >>> from dreamer4_impl.layers.actions import Categorical
        >>> agent, h = Agent(AgentConfig(hidden=8), 4, [Categorical("mouse", 121)]), torch.zeros(1, 9, 4)
        >>> loss = agent.policy_loss(h, {"mouse": torch.zeros(1, 9, dtype=torch.int64)})
        >>> agent.reward_loss(h, torch.zeros(1, 9))  # nine distances of ln 255 each
        tensor(49.8714, grad_fn=<NegBackward0>)
    """

    def __init__(self, config: AgentConfig, width: int, actions: Sequence[Component]) -> None:
        super().__init__()
        self.length = config.length
        self.policy = PolicyHead(width, config.hidden, actions, config.length)
        self.reward = RewardHead(width, config.hidden, config.length, config.twohot)
        self.value = ValueHead(width, config.hidden, config.twohot)
        self.continues = ContinueHead(width, config.hidden) if config.continues else None

    def policy_loss(self, h: Float[Tensor, "B T W"], actions: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """First sum of Eq. (9): behaviour cloning.

        Args:
            h: outputs of the agent token in the dtype of the parameters, (B, T, W).
            actions: components of a_t, the action taken *at* frame t, (B, T, …) each. Block t of the dynamics holds
                a_{t−1}.

        Returns:
            Scalar in float32 (float64 for float64).

        Raises:
            TypeError: if h is not a floating-point tensor.
            ValueError: if shapes, devices or names do not match.
        """
        return multi_token_loss(*self.policy_log_prob(h, actions))

    def policy_log_prob(
        self, h: Float[Tensor, "B T W"], actions: Mapping[str, Tensor]
    ) -> tuple[Float[Tensor, "B T N"], Bool[Tensor, "B T N"]]:
        """Log-probabilities of the actions at every distance.

        Args:
            h: outputs of the agent token in the dtype of the parameters, (B, T, W).
            actions: components of a_t, (B, T, …) each.

        Returns:
            ln p(a_{t+n} | h_t) for n in [0, L], (B, T, N), in float32 (float64 for float64), and a bool mask, (B, T,
            N), True where t + n < T.

        Raises:
            TypeError: if h is not a floating-point tensor.
            ValueError: if shapes, devices or names do not match.
        """
        targets = {name: multi_token_targets(action, self.length) for name, action in actions.items()}
        _, valid = next(iter(targets.values()))
        return self.policy(h).log_prob({name: target for name, (target, _) in targets.items()}), valid

    def reward_loss(self, h: Float[Tensor, "B T W"], rewards: Float[Tensor, "B T"]) -> Float[Tensor, ""]:
        """Second sum of Eq. (9): reward prediction.

        Args:
            h: outputs of the agent token in the dtype of the parameters, (B, T, W).
            rewards: r_t in raw values, floating, (B, T).

        Returns:
            Scalar in float32 (float64 for float64).

        Raises:
            TypeError: if h or rewards is not a floating-point tensor.
            ValueError: if shapes, devices or names do not match.
        """
        return multi_token_loss(*self.reward_log_prob(h, rewards))

    def reward_log_prob(
        self, h: Float[Tensor, "B T W"], rewards: Float[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B T N"], Bool[Tensor, "B T N"]]:
        """Log-probabilities of the rewards at every distance.

        Args:
            h: outputs of the agent token in the dtype of the parameters, (B, T, W).
            rewards: r_t in raw values, floating, (B, T).

        Returns:
            ln p(r_{t+n} | h_t) for n in [0, L], (B, T, N), in float32 (float64 for float64), and a bool mask, (B, T,
            N), True where t + n < T.

        Raises:
            TypeError: if h or rewards is not a floating-point tensor.
            ValueError: if shapes, devices or names do not match.
        """
        targets, valid = multi_token_targets(rewards, self.length)
        return -self.reward.twohot.cross_entropy(self.reward(h), targets), valid

    def continue_loss(self, h: Float[Tensor, "B T W"], continues: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        """Negative log-likelihood −ln p(c_t | h_t) of whether the episode continues.

        Args:
            h: outputs of the agent token in the dtype of the parameters, (B, T, W).
            continues: c_t, False where the episode terminated on arriving at frame t, bool, (B, T).

        Returns:
            Loss of each frame in nats, (B, T), in float32 (float64 for float64).

        Raises:
            TypeError: if h is not a floating-point tensor.
            ValueError: if h is not of shape (B, T, W), or the agent has no head for ends.
        """
        if self.continues is None:
            raise ValueError("the agent has no head for ends: AgentConfig.continues must be True; got False")
        logits = self.continues(h)
        logits = logits.to(compute_dtype(logits))
        return nn.functional.softplus(torch.where(continues, -logits, logits))
