"""Types that loss and sampler share: the dynamics network and the actions that condition it.

    ẑ₁ = f(z, τ, d, a)

z, noisy data (B, T, S, D).   τ and d, its labels (B, T).   ẑ₁, the prediction of the clean data z₁ (B, T, S, D).
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from torch import Tensor

from dreamer4_impl.arguments import require_floating, require_shape

#: `network(z, tau, d, actions) -> z1_hat`.
Network: TypeAlias = Callable[[Tensor, Tensor, Tensor, Any], Tensor]

#: None, a tensor, or a tuple or mapping of such, batch first. May also hold labels and other values of a sequence.
Actions: TypeAlias = Any


def index_actions(actions: Actions, index: Any) -> Actions:
    """Index every tensor in `actions`.

    Args:
        actions: None, a tensor, or a tuple, list or mapping of such, nested to any depth.
        index: index or tuple of indices, as in `tensor[index]`.

    Returns:
        The same structure with indexed tensors; a list becomes a tuple.

    Example:
        >>> import torch
        >>> index_actions({"keys": torch.arange(4), "mouse": None}, slice(2))
        {'keys': tensor([0, 1]), 'mouse': None}
    """
    if isinstance(actions, Mapping):
        return {name: index_actions(value, index) for name, value in actions.items()}
    if isinstance(actions, tuple | list):
        return tuple(index_actions(value, index) for value in actions)
    return None if actions is None else actions[index]


def require_actions(actions: Actions, shape: tuple[int, ...], meaning: str) -> None:
    """Raise unless `actions` is None or holds tensors that begin with these axes.

    Args:
        actions: None, a tensor, or a tuple, list or mapping of such.
        shape: required sizes of the leading axes.
        meaning: the axes in symbols, for the message, such as "(B, T)".

    Raises:
        TypeError: if a value is no tensor.
        ValueError: if the leading axes of a tensor differ.

    Example:
        >>> import torch
        >>> require_actions({"keys": torch.zeros(2, 3, 23), "mouse": torch.zeros(2, 3)}, (2, 3), "(B, T)")
    """
    if actions is None:
        return
    if isinstance(actions, Mapping | tuple | list):
        for value in actions.values() if isinstance(actions, Mapping) else actions:
            require_actions(value, shape, meaning)
    elif not isinstance(actions, Tensor):
        raise TypeError(f"actions must hold torch tensors; got {type(actions).__name__}")
    elif tuple(actions.shape[: len(shape)]) != shape:
        raise ValueError(f"actions must begin with the axes {meaning} = {shape}; got {tuple(actions.shape)}")


def predict(network: Network, z: Tensor, tau: Tensor, d: Tensor, actions: Actions) -> Tensor:
    """Call the network and check its output.

    Args:
        network: `network(z, tau, d, actions) -> z1_hat`.
        z: noisy data, floating, (B, T, S, D).
        tau: signal levels in the dtype of the computation, (B, T).
        d: step sizes in the dtype of the computation, (B, T).
        actions: passed to the network.

    Returns:
        The prediction ẑ₁ in the dtype of tau, (B, T, S, D).

    Raises:
        TypeError: if the output is not a floating-point tensor.
        ValueError: if the output has another shape or device than z.

    Example:
        >>> import torch
        >>> predict(lambda z, tau, d, actions: 2 * z, torch.ones(1, 1, 1, 2), torch.zeros(1, 1), torch.ones(1, 1), None)
        tensor([[[[2., 2.]]]])
    """
    z1_hat = network(z, tau, d, actions)
    require_floating(**{"the network's output": z1_hat})
    require_shape("the network's output", z1_hat, z.shape, "of its input z", like=z)
    return z1_hat.to(tau.dtype)
