"""Per-layer compilation: layers of one kind share compiled code, so that depth adds no compile time."""

from dreamer4_impl.compilation import compile_module
from dreamer4_impl.models.dynamics import Dynamics

#: Limit of compiled forms per layer class; layer indices may be compiled in as constants, one form per layer.
FORMS = 256


def compile_layers(model: Dynamics) -> None:
    """Compile every layer of the model in place, each as one graph.

    A call that needs more than `FORMS` forms raises TooManyFormsError.
    """
    for layer in model.transformer.layers:
        compile_module(layer, forms=FORMS)
