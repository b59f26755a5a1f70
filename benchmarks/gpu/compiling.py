"""Layers compiled one by one: those of a kind share what is compiled, so that depth costs no time."""

from dreamer4_impl.compilation import compile_module
from dreamer4_impl.models.dynamics import Dynamics

#: Layers of a kind are distinguished by numbers that may be compiled in, so that forms grow with the depth.
FORMS = 256


def compile_layers(model: Dynamics) -> None:
    """In place, each as one graph; a form beyond the limit raises TooManyFormsError."""
    for layer in model.transformer.layers:
        compile_module(layer, forms=FORMS)
