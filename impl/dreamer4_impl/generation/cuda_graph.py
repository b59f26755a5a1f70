"""CUDA graphs of a frame: when one can be recorded, and how.

The host launches a recorded frame, its noise included, with one call, and never waits.
"""

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

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
    compute_frame: Callable[[], Tensor], generator: torch.Generator, state: Sequence[Tensor], device: torch.device
) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """Record the computation of a frame. State and generator are left as if no frame was computed.

    Args:
        compute_frame: computes one frame from preallocated buffers and changes the state.
        generator: CUDA generator from which compute_frame draws.
        state: tensors that compute_frame changes and the next frame depends on.
        device: CUDA device of the computation.

    Returns:
        The graph, and the buffer in which each replay leaves its frame.
    """
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with torch.cuda.device(device):
        before, drawn = [tensor.clone() for tensor in state], generator.get_state()
        for _ in range(WARM_UP):
            compute_frame()
            for tensor, value in zip(state, before, strict=True):
                tensor.copy_(value)
        generator.set_state(drawn)
        with torch.cuda.graph(graph):
            frame = compute_frame()
    return graph, frame
