"""Sec. 3.3, p. 7: distributions over actions, categorical components and vectorised binary ones.

    ln π(a) = Σ_c ln π_c(a_c),   KL[π ‖ π'] = Σ_c KL[π_c ‖ π'_c]

The components, and the switches of a binary one, are independent given the state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dreamer4_impl.arguments import require_shape
from dreamer4_impl.layers.actions import Binary, Categorical, Component
from dreamer4_impl.precision import compute_dtype


def require_discrete(components: Sequence[Component]) -> None:
    """Raise ValueError unless there is a component and each is categorical or binary.

    >>> require_discrete([Categorical("mouse", 121), Binary("keys", 23)])
    """
    if not components or not all(isinstance(component, Categorical | Binary) for component in components):
        raise ValueError(f"a policy needs categorical and binary actions, at least one; got {tuple(components)}")


@dataclass(frozen=True)
class Policy:
    """A distribution over actions for every state of a batch.

    Args:
        components: of an action, in order.
        logits: by component, (…, size): of the classes, or of "on" for each switch.

    Computed and returned in float32 (float64 for float64). Differentiable but for `sample`; compiles without graph
    breaks, `sample` when its generator is None; no host synchronisation.

    >>> policy = Policy((Binary("keys", 23),), {"keys": torch.zeros(5, 23)})
    >>> policy.log_prob(policy.sample()).shape, policy.entropy().shape
    (torch.Size([5]), torch.Size([5]))
    """

    components: tuple[Component, ...]
    logits: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        """Refuse logits that are not those of the components."""
        require_discrete(self.components)
        names = [component.name for component in self.components]
        if sorted(self.logits) != sorted(names):
            raise ValueError(f"logits must be given for {sorted(names)}; got {sorted(self.logits)}")
        lead = self.logits[names[0]].shape[:-1]
        for part in self.components:
            shape, like = (*lead, part.size), self.logits[names[0]]
            require_shape(f"logits[{part.name!r}]", self.logits[part.name], shape, "(…, size)", like=like)

    def factors(self) -> list[Float[Tensor, "*batch A"]]:
        """Logits of every independent choice, as the loss of Eq. (11) takes them: a switch is one of two classes."""
        found: list[Tensor] = []
        for component in self.components:
            logits = self.logits[component.name]
            if isinstance(component, Categorical):
                found.append(logits)
            else:
                found.extend(torch.stack([torch.zeros_like(logits), logits], dim=-1).unbind(-2))
        return found

    def factor_actions(self, actions: Mapping[str, Tensor]) -> Int[Tensor, "*batch F"]:
        """The choices taken, in the order of `factors`."""
        parts = [actions[component.name] for component in self.components]
        return torch.cat(
            [
                part.long()[..., None] if isinstance(component, Categorical) else part.long()
                for component, part in zip(self.components, parts, strict=True)
            ],
            dim=-1,
        )

    def log_prob(self, actions: Mapping[str, Tensor]) -> Float[Tensor, "*batch"]:
        """ln π(a); each component of the shape of its logits, without the axis of the classes."""
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
            taken = log_p.gather(-1, action.long()[..., None])[..., 0]
            total.append(taken if isinstance(component, Categorical) else taken.sum(-1))
        return torch.stack(total).sum(0)

    def entropy(self) -> Float[Tensor, "*batch"]:
        """−Σ_a π(a) ln π(a), exact."""
        return self._sum_over_choices([-(log_p.exp() * log_p).sum(-1) for _, log_p in self._log_p()])

    def kl(self, other: "Policy") -> Float[Tensor, "*batch"]:
        """KL[self ‖ other], exact."""
        pairs = zip(self._log_p(), other._log_p(), strict=True)
        return self._sum_over_choices([(p.exp() * (p - q)).sum(-1) for (_, p), (_, q) in pairs])

    def sample(self, generator: torch.Generator | None = None) -> dict[str, Int[Tensor, "*choices"]]:
        """Draw an action by the Gumbel maximum, from `generator` or torch's global state: int64."""
        return {component.name: _draw(log_p, generator) for component, log_p in self._log_p()}

    def quantile(self, uniform: Mapping[str, Float[Tensor, "*choices"]]) -> dict[str, Int[Tensor, "*choices"]]:
        """The action that given numbers in [0, 1) draw by inversion: int64, of their shapes.

        Args:
            uniform: by component, of the shape of its logits, without the axis of the classes.

        The same numbers draw the same action from nearly equal policies, nearly always.

        >>> Policy((Categorical("mouse", 4),), {"mouse": torch.zeros(2, 4)}).quantile({"mouse": torch.tensor([0.3, 0.8])})
        {'mouse': tensor([1, 3])}
        """
        found = {}
        for component, log_p in self._log_p():
            u = uniform[component.name]
            require_shape(f"uniform[{component.name!r}]", u, log_p.shape[:-1], "of its choices", like=log_p)
            passed = log_p.detach().exp().cumsum(-1) <= u[..., None]
            # Rounding may leave the last sum below the number.
            found[component.name] = passed.sum(-1).clamp(max=log_p.shape[-1] - 1)
        return found

    def _log_p(self) -> list[tuple[Component, Float[Tensor, "*choices A"]]]:
        """Normalised log-probabilities: (…, classes) of a categorical, (…, size, 2) of switches."""
        found = []
        for component in self.components:
            logits = self.logits[component.name]
            logits = logits.to(compute_dtype(logits))
            if not isinstance(component, Categorical):
                logits = torch.stack([torch.zeros_like(logits), logits], dim=-1)
            found.append((component, logits.log_softmax(-1)))
        return found

    def _sum_over_choices(self, parts: Sequence[Tensor]) -> Float[Tensor, "*batch"]:
        pairs = zip(self.components, parts, strict=True)
        return torch.stack([p if isinstance(component, Categorical) else p.sum(-1) for component, p in pairs]).sum(0)


def _draw(log_p: Float[Tensor, "*choices A"], generator: torch.Generator | None) -> Int[Tensor, "*choices"]:
    uniform = torch.rand(log_p.shape, generator=generator, device=log_p.device, dtype=log_p.dtype)
    # 1 − u lies in (0, 1], so that the inner logarithm is finite; where it is 0, the sum is +∞ and wins.
    return (log_p.detach() - (-(1 - uniform).log()).log()).argmax(-1)
