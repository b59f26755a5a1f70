"""Sec. 3.2, p. 6: action components, each encoded into S_a tokens, summed with a learned embedding.

    tokens = e + Σ_c labelled · encode_c(a_c)

Categorical and binary components look up embeddings, continuous ones are projected linearly. Without actions the tokens
are the embedding e.
Read as (A32): block t holds a_{t−1}, the action that led to frame t; a first frame has none and is unlabelled.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from dreamer4_impl.arguments import require_device, require_floating, require_integer, require_shape, require_size
from dreamer4_impl.layers.initialisation import learned

#: Key of the mask, among the components, of timesteps that have actions.
LABELLED = "labelled"


@dataclass(frozen=True)
class Component(ABC):
    """One component of an action.

    Args:
        name: key of its values, an identifier other than "labelled".
        size: number of classes, switches or channels, 1 or more.

    Raises:
        ValueError: if the name or the size is not valid.
    """

    name: str
    size: int

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or self.name == LABELLED:
            raise ValueError(f"name must be an identifier other than {LABELLED!r}; got {self.name!r}")
        require_size(**{f"size of the component {self.name!r}": self.size})

    def shape(self, batch: int, time: int) -> tuple[int, ...]:
        """Shape of the values.

        Args:
            batch: B, number of sequences, 0 or more.
            time: T, number of timesteps, 0 or more.

        Returns:
            (B, T, size).
        """
        return (batch, time, self.size)

    @abstractmethod
    def encoder(self, width: int) -> nn.Module:
        """Create the module that encodes the values.

        Args:
            width: channels of the code, 1 or more.

        Returns:
            A module from values (B, T, …) to codes (B, T, width), with new parameters.
        """


@dataclass(frozen=True)
class Categorical(Component):
    """One of `size` classes: integers (B, T) in [0, size).

    Example:
        >>> Categorical("mouse", 121).shape(2, 3)
        (2, 3)
    """

    def shape(self, batch: int, time: int) -> tuple[int, ...]:
        """Shape of the values.

        Args:
            batch: B, number of sequences, 0 or more.
            time: T, number of timesteps, 0 or more.

        Returns:
            (B, T).
        """
        return (batch, time)

    def encoder(self, width: int) -> nn.Module:
        """Create a table with an embedding of each class.

        Args:
            width: channels of an embedding, 1 or more.

        Returns:
            The module, with new parameters.
        """
        return CategoricalEncoder(self.size, width)


@dataclass(frozen=True)
class Binary(Component):
    """`size` switches: 0 or 1 in any dtype, (B, T, size).

    Example:
        >>> Binary("keys", 23).shape(2, 3)
        (2, 3, 23)
    """

    def encoder(self, width: int) -> nn.Module:
        """Create tables with two embeddings of each switch.

        Args:
            width: channels of an embedding, 1 or more.

        Returns:
            The module, with new parameters.
        """
        return BinaryEncoder(self.size, width)


@dataclass(frozen=True)
class Continuous(Component):
    """`size` numbers: floating (B, T, size), of the order of 1."""

    def encoder(self, width: int) -> nn.Module:
        """Create a linear projection with a bias, so that an action of zeros differs from no action.

        Args:
            width: channels of the code, 1 or more.

        Returns:
            The module, with new parameters.
        """
        return ContinuousEncoder(self.size, width)


KINDS: dict[str, type[Component]] = {"categorical": Categorical, "binary": Binary, "continuous": Continuous}
"""Components by the name of their kind in configurations and datasets."""


class CategoricalEncoder(nn.Module):
    """Table of embeddings of classes.

    Args:
        size: number of classes, 1 or more.
        width: W, channels of an embedding, 1 or more.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.table = learned(size, width)

    def forward(self, values: Int[Tensor, "B T"]) -> Float[Tensor, "B T W"]:
        """Look up the embeddings.

        Args:
            values: classes in [0, size), integer of any width, (B, T); not checked.

        Returns:
            Embeddings in the dtype of the parameters.

        Raises:
            TypeError: if the classes are not an integer tensor.
        """
        require_integer(values=values)
        return nn.functional.embedding(values.long(), self.table)


class BinaryEncoder(nn.Module):
    """Sum over the switches of the embedding of "on" or of "off", as one product with each table.

    Args:
        size: F, number of switches, 1 or more.
        width: W, channels of an embedding, 1 or more.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.on, self.off = learned(size, width), learned(size, width)

    def forward(self, values: Shaped[Tensor, "B T F"]) -> Float[Tensor, "B T W"]:
        """Sum the embeddings: Σ_k a_k on_k + (1 − a_k) off_k.

        Args:
            values: a, 0 or 1 in any dtype, (B, T, F); not checked.

        Returns:
            Sums in the dtype of the parameters.
        """
        pressed = values.to(self.on.dtype)
        return pressed @ self.on + (1 - pressed) @ self.off


class ContinuousEncoder(nn.Module):
    """Linear projection of numbers, with a bias.

    Args:
        size: F, numbers per timestep, 1 or more.
        width: W, channels of the code, 1 or more.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(size, width)

    def forward(self, values: Float[Tensor, "B T F"]) -> Float[Tensor, "B T W"]:
        """Project the values.

        Args:
            values: numbers of the order of 1, any floating dtype, (B, T, F).

        Returns:
            Codes in the dtype of the parameters.

        Raises:
            TypeError: if the values are not a floating-point tensor.
        """
        require_floating(values=values)
        return self.project(values.to(self.project.weight.dtype))


#: Values by component, None where a component is absent, and optionally `labelled`, bool (B,) or (B, T); or None.
ActionValues: TypeAlias = Mapping[str, Tensor | None] | None


class ActionEncoder(nn.Module):
    """Encode the action of every timestep into S_a tokens.

    Computed in the dtype of the parameters; differentiable; compiles without graph breaks; no host synchronisation.

    Args:
        components: of an action, may be empty.
        tokens: S_a, 1 or more.
        width: W, channels of a token, 1 or more.

    Example:
        >>> encoder = ActionEncoder([Categorical("mouse", 121)], tokens=2, width=8)
        >>> encoder({"mouse": torch.zeros(3, 4, dtype=torch.int64)}, batch=3, time=4).shape
        torch.Size([3, 4, 2, 8])
    """

    def __init__(self, components: Sequence[Component], tokens: int, width: int) -> None:
        super().__init__()
        self.components = tuple(components)
        self.embedding = learned(tokens, width)
        self.encoders = nn.ModuleList(component.encoder(tokens * width) for component in self.components)

    def forward(self, actions: ActionValues, batch: int, time: int) -> Float[Tensor, "B T S_a W"]:
        """Encode the actions of B sequences of T timesteps.

        Args:
            actions: None for no actions, or the values of every component by name, None where a component is absent,
                and optionally `labelled`, bool (B,) or (B, T): where it is False, values are ignored, NaN included.
            batch: B, sequences, 0 or more.
            time: T, timesteps, 0 or more.

        Returns:
            S_a tokens per timestep, in the dtype of the parameters.

        Raises:
            TypeError: if values are not a tensor of their component's dtype, or `labelled` is not a bool tensor.
            ValueError: if names, shapes or devices do not match the components.
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
        # Values without a label may be invalid: NaN, or classes that do not exist.
        valid = torch.where(labelled.reshape(labelled.shape + (1,) * (value.ndim - 2)), value, 0)
        encoded: Tensor = encoder(valid)
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
    """Add the encoded components to the learned embedding, where there is a label.

    Differentiable; compiles without graph breaks; no host synchronisation.

    Args:
        encoded: codes of the components, (B, T, S_a, W) each; may be empty.
        embedding: (S_a, W), or (B, T, S_a, W), which it must be without a component.
        labelled: True where there are actions, (B,) or (B, T).

    Returns:
        Tokens in the dtype of the embedding.

    Raises:
        ValueError: if the codes have different shapes, do not match the embedding, or are on another device.

    Example:
        >>> code = torch.ones(2, 1, 1, 1)
        >>> sum_action_tokens([code, 2 * code], 4 * code[0, 0], torch.tensor([True, False])).flatten().tolist()
        [7.0, 4.0]
    """
    mask = labelled.reshape(*labelled.shape, *(1,) * (4 - labelled.ndim))
    for number, component in enumerate(encoded):
        shape = (*encoded[0].shape[:2], *embedding.shape[-2:])
        require_shape(f"encoded[{number}]", component, shape, "(B, T, S_a, W)", like=embedding)
        embedding = embedding + torch.where(mask, component, 0).to(embedding.dtype)
    return embedding
