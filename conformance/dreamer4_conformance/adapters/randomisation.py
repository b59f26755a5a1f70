"""Random parameters for a torch model under test: a public helper for adapters, `dreamer4_conformance.randomised`."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def randomised(module: Module, seed: int = 0) -> Module:
    """Fill every parameter of a model with random values of order one, and put the model into evaluation mode.

    Layers are often created with output projections, gates or biases of zero. Inputs then have no influence on outputs,
    so that clauses on influences are inconclusive. Call this after the model is created and before it is judged.

    Weights of linear and convolution layers become normal values / √fan-in, embeddings and learned tokens normal
    values, other matrices normal values / √(smaller of their last two axes), vectors of ones 1 + normal values / 4, all
    other vectors and scalars normal values / 2. The values depend on the seed, the shapes and the order of parameters,
    not on dtype and device. Buffers, integers and gradients are left alone. No random state changes.

    Args:
        module: the model; changed in place.
        seed: of the values, in [0, 2³¹).

    Returns:
        The same model.

    Raises:
        TypeError: if `module` is no `torch.nn.Module`.
        ValueError: if a lazy layer has no shape yet: run the model once before.

    Example:
        >>> head = nn.Linear(4, 3)
        >>> _ = nn.init.zeros_(head.weight)
        >>> bool((randomised(head).weight != 0).all()), head.training
        (True, False)
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"randomised: module is {type(module).__name__}; it needs a torch.nn.Module")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if nn.parameter.is_lazy(parameter):
                raise ValueError(f"randomised: {name} has no shape yet; run the model once before")
            if parameter.is_floating_point():
                owner = module.get_submodule(name.rpartition(".")[0])
                values = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(_scaled(values, parameter, owner))
    return module.eval()


def _scaled(values: Tensor, parameter: Tensor, owner: nn.Module) -> Tensor:
    """Normal values at the scale of a parameter of the module `owner`."""
    if parameter.ndim < 2:
        return 1 + values / 4 if bool((parameter == 1).all()) else values / 2
    if isinstance(owner, nn.Linear | nn.modules.conv._ConvNd):
        return values / (parameter.numel() / parameter.shape[0]) ** 0.5
    if isinstance(owner, nn.Embedding | nn.EmbeddingBag):
        return values
    return values / min(parameter.shape[-2:]) ** 0.5
