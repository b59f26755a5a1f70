"""Sec. 3.2, p. 6: action components, each encoded into S_a tokens, summed with a learned embedding.

    tokens = e + Σ_c labelled · encode_c(a_c)

Categorical and binary components look embeddings up, continuous ones are projected linearly. The embedding e is always
there; without actions it is alone.
Read as (A32): block t holds a_{t−1}, the action that led to frame t; a first frame, which no action led to, is unlabelled.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from dreamer4_impl.arguments import require_device, require_floating, require_integer, require_shape
from dreamer4_impl.layers.initialisation import learned

#: Name of what travels beside the components: which timesteps have actions.
LABELLED = "labelled"


@dataclass(frozen=True)
class Component(ABC):
    """One component of an action, by name."""

    name: str
    size: int

    def __post_init__(self) -> None:
        """Refuse what cannot be encoded."""
        if not self.name.isidentifier() or self.name == LABELLED:
            raise ValueError(f"name must be an identifier other than {LABELLED!r}; got {self.name!r}")
        if not isinstance(self.size, int) or self.size < 1:
            raise ValueError(
                f"size of the component {self.name!r} must be a whole number, 1 or more; got {self.size!r}"
            )

    def shape(self, batch: int, time: int) -> tuple[int, ...]:
        """Shape of the values of B sequences of T timesteps: (B, T, size)."""
        return (batch, time, self.size)

    @abstractmethod
    def encoder(self, width: int) -> nn.Module:
        """A module that encodes values (B, T, …) as (B, T, width)."""


@dataclass(frozen=True)
class Categorical(Component):
    """One of `size` classes: int (B, T), in 0, …, size − 1.

    >>> Categorical("mouse", 121).shape(2, 3)
    (2, 3)
    """

    def shape(self, batch: int, time: int) -> tuple[int, ...]:
        """(B, T)."""
        return (batch, time)

    def encoder(self, width: int) -> nn.Module:
        """One embedding for each class."""
        return CategoricalEncoder(self.size, width)


@dataclass(frozen=True)
class Binary(Component):
    """`size` switches: 0 or 1 in any dtype, (B, T, size).

    >>> Binary("keys", 23).shape(2, 3)
    (2, 3, 23)
    """

    def encoder(self, width: int) -> nn.Module:
        """Two embeddings for each switch."""
        return BinaryEncoder(self.size, width)


@dataclass(frozen=True)
class Continuous(Component):
    """`size` numbers: floating (B, T, size), of the order of 1."""

    def encoder(self, width: int) -> nn.Module:
        """A linear projection with a bias, so that an action of zeros differs from none."""
        return ContinuousEncoder(self.size, width)


class CategoricalEncoder(nn.Module):
    """Look the embedding of a class up."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.table = learned(size, width)

    def forward(self, values: Int[Tensor, "B T"]) -> Float[Tensor, "B T W"]:
        """Row of the table."""
        require_integer(values=values)
        return nn.functional.embedding(values.long(), self.table)


class BinaryEncoder(nn.Module):
    """Sum over the switches of the embedding of "on" or of "off", as one product with each table."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.on, self.off = learned(size, width), learned(size, width)

    def forward(self, values: Shaped[Tensor, "B T F"]) -> Float[Tensor, "B T W"]:
        """Σ_k a_k on_k + (1 − a_k) off_k."""
        pressed = values.to(self.on.dtype)
        return pressed @ self.on + (1 - pressed) @ self.off


class ContinuousEncoder(nn.Module):
    """Project the values linearly."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(size, width)

    def forward(self, values: Float[Tensor, "B T F"]) -> Float[Tensor, "B T W"]:
        """W a + b."""
        require_floating(values=values)
        return self.project(values.to(self.project.weight.dtype))


#: None, or component name → values, None where a component is absent; `labelled`, bool (B,) or (B, T), beside them.
ActionValues: TypeAlias = Mapping[str, Tensor | None] | None


class ActionEncoder(nn.Module):
    """Turn the action of every timestep into S_a tokens.

    Args:
        components: what an action consists of; may be empty.
        tokens: S_a.
        width: channels of a token.

    Computed in the dtype of the parameters; differentiable; compiles without graph breaks; no host synchronisation.

    >>> encoder = ActionEncoder([Categorical("mouse", 121)], tokens=2, width=8)
    >>> encoder({"mouse": torch.zeros(3, 4, dtype=torch.int64)}, batch=3, time=4).shape
    torch.Size([3, 4, 2, 8])
    """

    def __init__(self, components: Sequence[Component], tokens: int, width: int) -> None:
        """Start with random embeddings."""
        super().__init__()
        self.components = tuple(components)
        self.embedding = learned(tokens, width)
        self.encoders = nn.ModuleList(component.encoder(tokens * width) for component in self.components)

    def forward(self, actions: ActionValues, batch: int, time: int) -> Float[Tensor, "B T S_a W"]:
        """Tokens of the actions of B sequences of T timesteps.

        Args:
            actions: None, or every component by name, None where it is absent. `labelled`, bool (B,) or (B, T), may
                stand beside them: where it is False the values are never looked at.
        """
        actions = {} if actions is None else dict(actions)
        labelled = self._labelled(actions.pop(LABELLED, None), batch, time)
        self._require_names(actions)
        encoded = [
            self._encode(component, encoder, value, labelled)
            for component, encoder in zip(self.components, self.encoders, strict=True)
            if (value := actions.get(component.name)) is not None
        ]
        return sum_action_tokens(encoded, self.embedding.expand(batch, time, -1, -1), labelled)

    def _encode(
        self, component: Component, encoder: nn.Module, value: Tensor, labelled: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T S_a W"]:
        name = f"actions[{component.name!r}]"
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a torch tensor; got {type(value).__name__}")
        require_shape(name, value, component.shape(*labelled.shape), f"of {component}", like=self.embedding)
        # Values without a label may be anything, NaN and classes that do not exist included.
        known = torch.where(labelled.reshape(labelled.shape + (1,) * (value.ndim - 2)), value, 0)
        encoded: Tensor = encoder(known)
        return encoded.reshape(*labelled.shape, *self.embedding.shape)

    def _labelled(self, labelled: Tensor | None, batch: int, time: int) -> Bool[Tensor, "B T"]:
        if labelled is None:
            return torch.ones(batch, time, dtype=torch.bool, device=self.embedding.device)
        if not isinstance(labelled, Tensor) or labelled.dtype != torch.bool:
            raise TypeError(
                f"labelled must be a bool tensor; got {getattr(labelled, 'dtype', type(labelled).__name__)}"
            )
        if tuple(labelled.shape) not in ((batch,), (batch, time)):
            raise ValueError(f"labelled must have shape (B,) or (B, T) = {(batch, time)}; got {tuple(labelled.shape)}")
        require_device("labelled", labelled, like=self.embedding)
        return labelled.reshape(batch, -1).expand(batch, time)

    def _require_names(self, actions: Mapping[str, Tensor | None]) -> None:
        names = {component.name for component in self.components}
        if actions and set(actions) != names:
            raise ValueError(
                f"actions must hold the components {sorted(names)}, None where one is absent; got {sorted(actions)}"
            )


def sum_action_tokens(
    encoded: Sequence[Float[Tensor, "B T S_a W"]],
    embedding: Float[Tensor, "*lead S_a W"],
    labelled: Bool[Tensor, "B ..."],
) -> Float[Tensor, "B T S_a W"]:
    """The learned embedding plus every encoded component, where there is a label.

    Args:
        encoded: the components, (B, T, S_a, W) each; may be empty.
        embedding: (S_a, W), or that for every timestep, as it must be without a component.
        labelled: (B,) or (B, T).

    In the dtype of the embedding; differentiable; compiles without graph breaks; no host synchronisation.

    >>> ones = torch.ones(2, 1, 1, 1)
    >>> sum_action_tokens([ones, 2 * ones], 4 * ones[0, 0], torch.tensor([True, False])).flatten().tolist()
    [7.0, 4.0]
    """
    mask = labelled.reshape(*labelled.shape, *(1,) * (4 - labelled.ndim))
    for number, component in enumerate(encoded):
        shape = (*encoded[0].shape[:2], *embedding.shape[-2:])
        require_shape(f"encoded[{number}]", component, shape, "(B, T, S_a, W)", like=embedding)
        embedding = embedding + torch.where(mask, component, 0).to(embedding.dtype)
    return embedding
