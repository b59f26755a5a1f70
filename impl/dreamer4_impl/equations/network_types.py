"""What the loss and the sampler call: the dynamics network and the actions that condition it.

    ẑ₁ = f(z, τ, d, a)

z (B, T, S, D) is noisy data, τ and d (B, T) are its labels, ẑ₁ is the prediction of the clean data z₁.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from torch import Tensor

from dreamer4_impl.arguments import require_floating, require_shape

#: `network(z, tau, d, actions) -> z1_hat`.
Network: TypeAlias = Callable[[Tensor, Tensor, Tensor, Any], Tensor]

#: None, a tensor, or a tuple or mapping of such, batch first; whatever else belongs to a sequence travels here too.
Actions: TypeAlias = Any


def index_actions(actions: Actions, index: Any) -> Actions:
    """Take `index` of every tensor in `actions`.

    >>> import torch
    >>> index_actions({"keys": torch.arange(4), "mouse": None}, slice(2))
    {'keys': tensor([0, 1]), 'mouse': None}
    """
    if isinstance(actions, Mapping):
        return {name: index_actions(part, index) for name, part in actions.items()}
    if isinstance(actions, tuple | list):
        return tuple(index_actions(part, index) for part in actions)
    return None if actions is None else actions[index]


def require_actions(actions: Actions, shape: tuple[int, ...], meaning: str) -> None:
    """Raise unless `actions` is None or holds tensors whose leading axes have `shape`, which is called `meaning`.

    >>> import torch
    >>> require_actions({"keys": torch.zeros(2, 3, 23), "mouse": torch.zeros(2, 3)}, (2, 3), "(B, T)")
    """
    if actions is None:
        return
    if isinstance(actions, Mapping | tuple | list):
        for part in actions.values() if isinstance(actions, Mapping) else actions:
            require_actions(part, shape, meaning)
    elif not isinstance(actions, Tensor):
        raise TypeError(f"actions must hold torch tensors; got {type(actions).__name__}")
    elif tuple(actions.shape[: len(shape)]) != shape:
        raise ValueError(f"actions must begin with the axes {meaning} = {shape}; got {tuple(actions.shape)}")


def predict(network: Network, z: Tensor, tau: Tensor, d: Tensor, actions: Actions) -> Tensor:
    """Call the network and return its prediction ẑ₁ in the dtype of τ, or say what is wrong with its output.

    >>> import torch
    >>> predict(lambda z, tau, d, actions: 2 * z, torch.ones(1, 1, 1, 2), torch.zeros(1, 1), torch.ones(1, 1), None)
    tensor([[[[2., 2.]]]])
    """
    z1_hat = network(z, tau, d, actions)
    require_floating(**{"the network's output": z1_hat})
    require_shape("the network's output", z1_hat, z.shape, "of its input z", like=z)
    return z1_hat.to(tau.dtype)
