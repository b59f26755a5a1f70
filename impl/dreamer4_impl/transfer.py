"""Copies between the host and a device, for which the host does not wait."""

from collections.abc import Callable

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device; the host does not wait until the device has it.

    Args:
        tensor: on the CPU, or on the device already.
        device: target device. A GPU copies from page-locked memory.

    Returns:
        The tensor on the device.

    Example:
        >>> to_device(torch.ones(2), torch.device("cpu"))
        tensor([1., 1.])
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def to_host(numbers: Tensor) -> Callable[[], list[float]]:
    """Start to copy numbers to the host.

    Args:
        numbers: floating, (N,), on any device.

    Returns:
        Function that waits for the copy, and not for what the device computes after it, and returns the N numbers.

    Example:
        >>> to_host(torch.tensor([1.0, 2.0]))()
        [1.0, 2.0]
    """
    copies: Tensor = numbers.to("cpu", non_blocking=True)  # on a GPU, to page-locked memory
    if numbers.device.type != "cuda":
        return copies.tolist
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()

    def _wait() -> list[float]:
        copied.synchronize()
        return copies.tolist()

    return _wait
