"""CUDA graphs of a frame: when one can be recorded, and how.

The host launches a recorded frame, its noise included, with one call, and never waits.
"""

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from dreamer4_impl.attention.cache import Cache
from dreamer4_impl.precision import casts_automatically

#: Frames computed before one is recorded: the first compiles, loads and tunes, the second runs like the recorded one.
WARM_UP: Final = 2


def uses_graph(graph: bool | None, device: torch.device) -> bool:
    """Resolve the option `graph` of a decoder.

    Args:
        graph: None for wherever a graph can be recorded: on a CUDA device with autocast off.
        device: device of the model.

    Returns:
        True if frames are recorded and replayed.

    Raises:
        ValueError: if graph is True and the device is not a CUDA device, or autocast is on.

    Example:
        >>> uses_graph(None, torch.device("cpu"))
        False
    """
    if graph and device.type != "cuda":
        raise ValueError(f"graph=True needs a model on a CUDA device; got one on {device}")
    # Autocast frees its copies of the parameters at the end of its region, but the graph would go on reading them.
    automatic = casts_automatically(device)
    if graph and automatic:
        raise ValueError("graph=True needs autocast off: convert the model instead; got autocast on")
    return device.type == "cuda" and not automatic if graph is None else graph


def generator_on(device: torch.device, generator: torch.Generator | None) -> torch.Generator:
    """Resolve the option `generator` of a decoder: recording a graph must save and restore its state.

    Args:
        device: device of the model.
        generator: generator on that device, or None for torch's global one.

    Returns:
        The generator, never None.

    Raises:
        ValueError: if the generator is on another device.

    Example:
        >>> generator_on(torch.device("cpu"), None) is torch.default_generator
        True
    """
    if generator is None:
        return torch.cuda.default_generators[device.index] if device.type == "cuda" else torch.default_generator
    if generator.device != device:
        raise ValueError(f"generator must lie on {device} like the model; got {generator.device}")
    return generator


def record_frame(
    compute_frame: Callable[[], Tensor], generator: torch.Generator, caches: Sequence[Cache], device: torch.device
) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """Record the computation of a frame. Caches and generator are left in the state in which no frame was computed.

    Args:
        compute_frame: computes one frame from preallocated buffers and commits it to the caches.
        generator: CUDA generator from which compute_frame draws.
        caches: caches that compute_frame changes.
        device: CUDA device of the computation.

    Returns:
        The graph, and the buffer in which each replay leaves its frame.
    """
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with torch.cuda.device(device):
        frames_before, state = [cache.frames.clone() for cache in caches], generator.get_state()
        for _ in range(WARM_UP):
            compute_frame()
            # Only the slot of the next frame was written, and that frame overwrites it. A second frame would overwrite
            # the oldest one, to which the next frame still attends.
            for cache, frames in zip(caches, frames_before, strict=True):
                cache.frames.copy_(frames)
        generator.set_state(state)
        with torch.cuda.graph(graph):
            frame = compute_frame()
    return graph, frame
