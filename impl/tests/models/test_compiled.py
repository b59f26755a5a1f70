"""The models under torch.compile: one graph for each shape."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from dreamer4_impl.equations.eq06_07_shortcut_forcing import shortcut_forcing_loss_at
from dreamer4_impl.models.reconstruction import ReconstructionLoss

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")
#: T1, T2 and one frame.
LENGTHS = (4, 7, 1)
#: One layer over space and one over time: compiling takes as long as there are layers.
LAYERS = {"depth": 2, "time_every": 2}


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture(params=["eager", pytest.param("inductor", marks=pytest.mark.nightly)])
def backend(request):
    return request.param


def loss_of(tiny, model):
    """Eq. (7) as a function of tensors, and a function that makes them for T frames."""

    def loss(z1, z0, tau, d, actions):
        return shortcut_forcing_loss_at(model.network, z1, z0, tau, d, actions, k_max=8, teacher_rows=slice(None))

    def given(time):
        inputs = tiny.inputs(2, time)
        return inputs["z"], tiny.latents(2, time, seed=1), inputs["tau"], inputs["d"], inputs["actions"]

    return loss, given


def gradients(model, loss):
    return torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)


def test_the_loss_of_equation_7_is_one_graph_with_the_same_gradients(tiny_on, device, backend):
    tiny = tiny_on(device, torch.float32)
    model = tiny.dynamics(**LAYERS)
    loss, given = loss_of(tiny, model)
    compiled = torch.compile(loss, fullgraph=True, backend=backend)
    got, expected = compiled(*given(4)), loss(*given(4))
    torch.testing.assert_close(got, expected)
    for ours, theirs in zip(gradients(model, got), gradients(model, expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_nothing_is_compiled_again_when_a_length_repeats(tiny_on, device):
    tiny = tiny_on(device, torch.float32)
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(tiny.dynamics(**LAYERS), fullgraph=True, backend=counter, dynamic=False)
    for seed in range(3):
        for time in LENGTHS:
            compiled(**tiny.inputs(2, time, seed=seed))
    assert counter.frame_count == len(LENGTHS)


def test_a_step_with_a_cache_is_compiled_once_for_all_frames(tiny_on, device, backend):
    tiny = tiny_on(device, torch.float32)
    model, counter = tiny.dynamics(**LAYERS), CompileCounterWithBackend(backend)
    compiled = torch.compile(model, fullgraph=True, backend=counter, dynamic=False)
    caches = model.empty_cache(2), model.empty_cache(2)
    with torch.no_grad():
        for frame in range(8):
            inputs = tiny.inputs(2, 1, seed=frame)
            got, expected = compiled(**inputs, cache=caches[0]), model(**inputs, cache=caches[1])
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert counter.frame_count == 1


def test_the_loss_of_equation_5_is_one_graph_with_the_same_gradients(tiny_on, device, backend):
    tiny = tiny_on(device, torch.float32)
    tokenizer, criterion = (
        tiny.tokenizer(**LAYERS),
        ReconstructionLoss(lambda a, b: (a - b).abs().mean()).to(device).eval(),
    )

    def loss(video):
        return criterion(tokenizer(video), video)

    compiled = torch.compile(loss, fullgraph=True, backend=backend)
    got, expected = compiled(tiny.video(2, 4)), loss(tiny.video(2, 4))
    torch.testing.assert_close(got, expected)
    for ours, theirs in zip(gradients(tokenizer, got), gradients(tokenizer, expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_training_with_patch_dropout_is_one_graph(tiny_on, device, backend):
    tiny = tiny_on(device, torch.float32)
    tokenizer, video = tiny.tokenizer(**LAYERS).train(), tiny.video(2, 4)
    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(tokenizer, fullgraph=True, backend=counter)
    first, second = compiled(video), compiled(video)
    assert counter.frame_count == 1
    assert not torch.equal(first, second)


def test_the_heads_are_one_graph(tiny_on, device, backend):
    tiny = tiny_on(device, torch.float32)
    agent, h = tiny.agent(), torch.randn(2, 4, 24, device=device)
    actions, rewards = tiny.actions(2, 4), torch.randn(2, 4, device=device)

    def loss(h, actions, rewards):
        return agent.policy_loss(h, actions) + agent.reward_loss(h, rewards)

    compiled = torch.compile(loss, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(h, actions, rewards), loss(h, actions, rewards))
