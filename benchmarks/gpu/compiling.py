"""Layers compiled one by one: those of a kind share what is compiled, so that depth costs no time."""

import torch

from dreamer4_impl.models.dynamics import Dynamics

#: Layers of a kind are told apart by numbers that may be compiled in; torch would take so many for a mistake.
SHAPES = 256


def compile_layers(model: Dynamics) -> None:
    """In place, each as one graph; beyond the limit it raises, and nothing goes on uncompiled."""
    torch._dynamo.config.recompile_limit = SHAPES
    for layer in model.transformer.layers:
        layer.compile(fullgraph=True)
