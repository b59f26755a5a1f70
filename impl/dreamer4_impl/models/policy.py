"""Sec. 3.3, p. 7: distributions over actions with categorical and vectorised binary components.

    ln π(a) = Σ_c ln π_c(a_c),   KL[π ‖ π'] = Σ_c KL[π_c ‖ π'_c]

The components, and the switches of a binary one, are independent given the state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dreamer4_impl.arguments import require_shape
from dreamer4_impl.equations.eq11_pmpo import expectation
from dreamer4_impl.layers.actions import Binary, Categorical, Component
from dreamer4_impl.precision import compute_dtype


def require_discrete(components: Sequence[Component]) -> None:
    """Raise unless there is a component and each is categorical or binary.

    Args:
        components: components of an action.

    Raises:
        ValueError: if there is none, or one is continuous.

    Example:
        >>> require_discrete([Categorical("mouse", 121), Binary("keys", 23)])
    """
    if not components or not all(isinstance(component, Categorical | Binary) for component in components):
        raise ValueError(f"a policy needs categorical and binary actions, at least one; got {tuple(components)}")


@dataclass(frozen=True)
class Policy:
    """Distribution over actions for every state of a batch.

    Methods compute and return float32 (float64 for float64). All but `sample` and `quantile` are differentiable. They
    compile without graph breaks, `sample` when its generator is None; no host synchronisation.

    Args:
        components: components of an action, in order, categorical and binary.
        logits: floating, by component, (…, size) each: of the classes, or of "on" for each switch.

    Raises:
        ValueError: if a component is continuous, there is none, or names, shapes or devices of logits do not match.

    Example:
        >>> policy = Policy((Binary("keys", 23),), {"keys": torch.zeros(5, 23)})
        >>> policy.log_prob(policy.sample()).shape, policy.entropy().shape
        (torch.Size([5]), torch.Size([5]))
    """

    components: tuple[Component, ...]
    logits: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        """Check the logits against the components."""
        require_discrete(self.components)
        names = [component.name for component in self.components]
        if sorted(self.logits) != sorted(names):
            raise ValueError(f"logits must hold the components {sorted(names)}; got {sorted(self.logits)}")
        lead = self.logits[names[0]].shape[:-1]
        for component in self.components:
            name, shape, like = component.name, (*lead, component.size), self.logits[names[0]]
            require_shape(f"logits[{name!r}]", self.logits[name], shape, "(…, size)", like=like)

    def factors(self) -> list[Float[Tensor, "*batch A"]]:
        """Split the policy into independent categorical choices, as the loss of Eq. (11) needs.

        Returns:
            Logits of every choice, (…, A_f) for f in [0, F): one for a categorical component, one of two classes for
            each switch of a binary one.
        """
        factors: list[Tensor] = []
        for component in self.components:
            logits = self.logits[component.name]
            if isinstance(component, Categorical):
                factors.append(logits)
            else:
                factors.extend(torch.stack([torch.zeros_like(logits), logits], dim=-1).unbind(-2))
        return factors

    def factor_actions(self, actions: Mapping[str, Tensor]) -> Int[Tensor, "*batch F"]:
        """Arrange actions in the order of `factors`.

        Args:
            actions: values of every component, integer, (…) of a categorical and (…, size) of a binary one.

        Returns:
            Classes of the choices, int64, (…, F).
        """
        values = [(component, actions[component.name].long()) for component in self.components]
        return torch.cat([x[..., None] if isinstance(component, Categorical) else x for component, x in values], dim=-1)

    def log_prob(self, actions: Mapping[str, Tensor]) -> Float[Tensor, "*batch"]:
        """Log-probability ln π(a) of actions.

        Args:
            actions: values of every component, integer, (…) of a categorical and (…, size) of a binary one.

        Returns:
            The sum over the components, (…).

        Raises:
            ValueError: if names, shapes or devices do not match.
        """
        names = {component.name for component in self.components}
        if set(actions) != names:
            raise ValueError(
                f"actions must hold the components {sorted(names)} and nothing else; got {sorted(actions)}"
            )
        total = []
        for component, log_p in self._log_p():
            action = actions[component.name]
            shape = log_p.shape[:-1]
            require_shape(f"actions[{component.name!r}]", action, shape, "of its choices", like=log_p)
            total.append(log_p.gather(-1, action.long()[..., None])[..., 0])
        return self._sum_over_choices(total)

    def entropy(self) -> Float[Tensor, "*batch"]:
        """Entropy −Σ_a π(a) ln π(a), exact.

        Returns:
            Entropy in nats, (…).
        """
        return self._sum_over_choices([expectation(log_p, -log_p) for _, log_p in self._log_p()])

    def kl(self, prior: "Policy") -> Float[Tensor, "*batch"]:
        """KL[π ‖ π_prior], exact.

        Args:
            prior: distribution over the same components, with the same leading axes.

        Returns:
            KL in nats, (…).
        """
        pairs = zip(self._log_p(), prior._log_p(), strict=True)
        return self._sum_over_choices([expectation(p, p - q) for (_, p), (_, q) in pairs])

    def sample(self, generator: torch.Generator | None = None) -> dict[str, Int[Tensor, "*choices"]]:
        """Draw an action by the Gumbel maximum.

        Args:
            generator: source of the draws, on the device of the logits; None is torch's global state.

        Returns:
            Values of every component, int64, (…) of a categorical and (…, size) of a binary one.
        """
        return {component.name: _draw(log_p, generator) for component, log_p in self._log_p()}

    def quantile(self, uniform: Mapping[str, Float[Tensor, "*choices"]]) -> dict[str, Int[Tensor, "*choices"]]:
        """Draw an action by inversion of given uniform numbers.

        Equal numbers nearly always draw equal actions from nearly equal policies.

        Args:
            uniform: numbers in [0, 1) for every component, floating, (…) of a categorical and (…, size) of a binary
                one.

        Returns:
            Values of every component, int64, shaped like its numbers.

        Raises:
            ValueError: if shapes or devices do not match.

        Example:
            >>> policy = Policy((Categorical("mouse", 4),), {"mouse": torch.zeros(2, 4)})
            >>> policy.quantile({"mouse": torch.tensor([0.3, 0.8])})
            {'mouse': tensor([1, 3])}
        """
        actions = {}
        for component, log_p in self._log_p():
            u = uniform[component.name]
            require_shape(f"uniform[{component.name!r}]", u, log_p.shape[:-1], "of its choices", like=log_p)
            passed = log_p.detach().exp().cumsum(-1) <= u[..., None]
            # Rounding may leave the last sum below the number.
            actions[component.name] = passed.sum(-1).clamp(max=log_p.shape[-1] - 1)
        return actions

    def _log_p(self) -> list[tuple[Component, Float[Tensor, "*choices A"]]]:
        """Normalised log-probabilities: (…, classes) of a categorical, (…, size, 2) of switches."""
        log_p = []
        for component in self.components:
            logits = self.logits[component.name]
            logits = logits.to(compute_dtype(logits))
            if not isinstance(component, Categorical):
                logits = torch.stack([torch.zeros_like(logits), logits], dim=-1)
            log_p.append((component, logits.log_softmax(-1)))
        return log_p

    def _sum_over_choices(self, values: Sequence[Tensor]) -> Float[Tensor, "*batch"]:
        pairs = zip(self.components, values, strict=True)
        return torch.stack([x if isinstance(component, Categorical) else x.sum(-1) for component, x in pairs]).sum(0)


def _draw(log_p: Float[Tensor, "*choices A"], generator: torch.Generator | None) -> Int[Tensor, "*choices"]:
    uniform = torch.rand(log_p.shape, generator=generator, device=log_p.device, dtype=log_p.dtype)
    # 1 − u lies in (0, 1], so that the inner logarithm is finite; where it is 0, the sum is +∞ and wins.
    return (log_p.detach() - (-(1 - uniform).log()).log()).argmax(-1)
