"""Global random states of a process: seeding, saving and restoring.

Training uses generators keyed by step and sample instead. The global states are saved because a perceptual network or a
user-defined phase may use them.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and PyTorch on all devices.

    Args:
        seed: 0 or more.

    Example:
        >>> seed_everything(0)
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (the global state is intended)
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """Read the global random states.

    Returns:
        States by library, in types that `torch.load` accepts with `weights_only`.

    Example:
        >>> sorted(random_state())
        ['cuda', 'numpy', 'python', 'torch']
    """
    numpy: Any = np.random.get_state(legacy=False)  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": numpy | {"state": numpy["state"] | {"key": torch.from_numpy(numpy["state"]["key"].astype(np.int64))}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Restore the global random states.

    Args:
        state: result of `random_state`; states of GPUs that are not available are ignored.

    Example:
        >>> restore_random_state(random_state())
    """
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    key = state["numpy"]["state"]["key"].numpy().astype(np.uint32)
    np.random.set_state(state["numpy"] | {"state": state["numpy"]["state"] | {"key": key}})  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    for device, cuda in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(cuda, device)


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Context after which the global random states are those from before it.

    Returns:
        The context.

    Example:
        >>> state = torch.get_rng_state()
        >>> with preserved_random_state():
        ...     _ = torch.rand(3)
        >>> torch.equal(torch.get_rng_state(), state)
        True
    """
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(state)
