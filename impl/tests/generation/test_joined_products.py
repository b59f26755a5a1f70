"""Products of one input are one product in the passes of a frame, and follow changes of the parameters."""

from contextlib import nullcontext
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dreamer4_impl.generation.decoder import FrameDecoder
from dreamer4_impl.layers.joined import JoinedMatrices, SharedInput

from .test_decoder import at, cuda_graphs_on_a_cpu, graph_device, seeded, with_graph  # noqa: F401 - fixtures


class Products(TorchDispatchMode):
    """Addresses of the second matrix of each product."""

    def __init__(self):
        super().__init__()
        self.matrices = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in ("mm", "bmm"):
            self.matrices.append(args[1].data_ptr())
        return function(*args, **(kwargs or {}))


def enlarge(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)


def test_a_pass_multiplies_an_input_once(tiny_on):
    tiny = tiny_on()
    decoder = FrameDecoder(tiny.dynamics(depth=4))
    decoder.step(at(tiny.actions(1, 1), 0))
    with Products() as products:
        decoder.step(at(tiny.actions(1, 1), 0))
    layers = [layer for layer in decoder.model.modules() if isinstance(layer, SharedInput)]
    separate = {matrix.data_ptr() for layer in layers for matrix in layer.matrices()}
    assert len(layers) == 8
    assert not separate & {*products.matrices}
    with Products() as unjoined, mock.patch.object(JoinedMatrices, "used", nullcontext):
        decoder.step(at(tiny.actions(1, 1), 0))
    # In each of five passes, two products fewer per layer for queries, keys and values, and one fewer for gate and up.
    assert len(unjoined.matrices) == 190
    assert len(products.matrices) == 190 - 5 * 4 * (2 + 1)


def test_frames_follow_parameters_that_change_in_place(tiny_on, with_graph, graph_device):  # noqa: F811
    tiny = tiny_on(graph_device)
    model, actions = tiny.dynamics(), tiny.actions(1, 3)
    decoder = with_graph(model, generator=seeded(graph_device))
    decoder.step(at(actions, 0))
    enlarge(model)
    decoder.start(tiny.latents(1, 0))
    decoder.generator.manual_seed(7)
    got = decoder.step(at(actions, 1))
    fresh = FrameDecoder(model, generator=seeded(graph_device), graph=False)
    fresh.generator.manual_seed(7)
    torch.testing.assert_close(got, fresh.step(at(actions, 1)), rtol=1e-9, atol=1e-9)


def test_other_passes_use_the_parameters_themselves(tiny_on):
    model = tiny_on().dynamics()
    layer = next(layer for layer in model.modules() if isinstance(layer, SharedInput))
    matrices = JoinedMatrices(model)
    with matrices.used():
        assert layer.joined is not None
    assert layer.joined is None
    assert not any("joined" in name for name in model.state_dict())


def test_parameters_of_inference_mode_are_copied_every_time(tiny_on):
    with torch.inference_mode():
        model = tiny_on().dynamics()
        matrices = JoinedMatrices(model)
        layer = next(layer for layer in model.modules() if isinstance(layer, SharedInput))
        enlarge(model)
        with matrices.used():
            assert torch.equal(layer.joined, torch.cat(list(layer.matrices()), dim=1))
