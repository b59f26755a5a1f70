"""Interactive decoding: frames equal those of the sampler, with and without a graph; buffers keep their address."""

import gc
import weakref
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from functools import partial

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dreamer4_impl.generation import cuda_graph
from dreamer4_impl.generation import decoder as module
from dreamer4_impl.generation.decoder import FrameDecoder
from dreamer4_impl.generation.rollout import rollout

#: Context of a time layer of the tiny preset, in frames.
CONTEXT = 3
#: A head width of the Triton kernels.
WIDE = {"head_width": 32}
#: Two time layers, so that the past reaches further than one window.
LAYERS = {"depth": 4, "time_every": 2}
GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")


def on_a_gpu(test):
    return GPU[0](GPU[1](test))


def seeded(device="cpu", seed=0):
    return torch.Generator(device).manual_seed(seed)


def at(actions, frame):
    return {name: part[:, frame] for name, part in actions.items()}


def stepped(engine: FrameDecoder, actions: dict[str, Tensor], frames: range) -> Tensor:
    return torch.stack([engine.step(at(actions, frame)) for frame in frames], dim=1)


class RecordedGraph(TorchDispatchMode):
    """A CUDA graph on a CPU: records every operation on tensors, reverts its effects, and replays them.

    As with a CUDA graph, a replay runs no Python: it uses neither new tensors of a variable nor new values of a number.
    It draws only from registered generators.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Callable, tuple, dict, list[Tensor]]] = []
        self.generators: list[torch.Generator] = []
        self.replays = 0
        self.before: dict[int, tuple[Tensor, Tensor]] = {}

    def register_generator_state(self, generator):
        self.generators.append(generator)

    @contextmanager
    def record(self):
        states = [generator.get_state() for generator in self.generators]
        with self:
            yield
        for tensor, value in reversed(self.before.values()):  # views of one tensor, the first change last
            tensor.copy_(value)
        for generator, state in zip(self.generators, states, strict=True):
            generator.set_state(state)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        generator = kwargs.get("generator")
        assert generator is None or generator._cdata in [known._cdata for known in self.generators], "not registered"
        if function._schema.is_mutable:
            for tensor in tree_leaves((args, kwargs)):
                if isinstance(tensor, Tensor):
                    self.before.setdefault(id(tensor), (tensor, tensor.clone()))
        out = function(*args, **kwargs)
        self.operations.append((function, args, kwargs, [x for x in tree_leaves(out) if isinstance(x, Tensor)]))
        return out

    def replay(self):
        self.replays += 1
        for function, args, kwargs, places in self.operations:
            computed = [x for x in tree_leaves(function(*args, **kwargs)) if isinstance(x, Tensor)]
            for place, value in zip(places, computed, strict=True):
                if place.data_ptr() != value.data_ptr():
                    place.copy_(value)


@pytest.fixture
def cuda_graphs_on_a_cpu(monkeypatch):
    """Replace the functions of torch.cuda that recording uses, so that they work on the CPU."""
    monkeypatch.setattr(torch.cuda, "CUDAGraph", RecordedGraph)
    monkeypatch.setattr(torch.cuda, "graph", RecordedGraph.record)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)


@pytest.fixture(params=["simulated", pytest.param("cuda", marks=GPU)])
def with_graph(request) -> Callable[..., FrameDecoder]:
    """Build a decoder with a graph: a CUDA graph, or on a CPU a `RecordedGraph`."""
    if request.param == "cuda":
        return partial(FrameDecoder, graph=True)
    request.getfixturevalue("cuda_graphs_on_a_cpu")

    def build(*arguments, **options):
        engine = FrameDecoder(*arguments, **options)
        engine.graph = True
        return engine

    return build


@pytest.fixture
def graph_device(with_graph) -> str:
    return "cuda" if isinstance(with_graph, partial) else "cpu"


@pytest.mark.parametrize(("batch", "time", "frames", "num_steps"), [(2, 2, 7, 4), (1, 0, 5, 1), (3, 8, 2, 2)])
def test_steps_generate_and_the_sampler_give_the_same_frames(tiny_on, device, batch, time, frames, num_steps):
    tiny = tiny_on(device)
    model, context, actions = tiny.dynamics(**LAYERS), tiny.latents(batch, time), tiny.actions(batch, time + frames)
    expected = rollout(model, context, actions, frames, num_steps, seeded(device), cache=False)
    engine = FrameDecoder(model, batch, num_steps=num_steps, generator=seeded(device))
    engine.start(context, {name: part[:, :time] for name, part in actions.items()})
    torch.testing.assert_close(stepped(engine, actions, range(time, time + frames)), expected, rtol=1e-9, atol=1e-9)
    engine.generator.manual_seed(0)
    torch.testing.assert_close(engine.generate(context, actions, frames), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("time", [0, 3 * CONTEXT + 2])
def test_a_graph_gives_the_frames_of_the_eager_computation(tiny_on, with_graph, graph_device, time):
    tiny, frames = tiny_on(graph_device), CONTEXT + 2
    model, context, actions = tiny.dynamics(**LAYERS), tiny.latents(2, time), tiny.actions(2, time + frames)
    engines = [
        build(model, 2, num_steps=2, generator=seeded(graph_device))
        for build in (with_graph, partial(FrameDecoder, graph=False))
    ]
    got, expected = (engine.generate(context, actions, frames) for engine in engines)
    assert_same(got, expected)
    assert torch.equal(*(engine.generator.get_state() for engine in engines))
    for caches in zip(*map(tensors, engines), strict=True):
        assert_same(*caches)
    assert_same(*(engine.h for engine in engines))
    again = engines[0].generate(context, actions, frames)
    assert not torch.isclose(again, got).any()
    engines[0].generator.manual_seed(0)
    assert torch.equal(engines[0].generate(context, actions, frames), got)


def assert_same(got: Tensor, expected: Tensor) -> None:
    """Compare bit for bit on a CPU; on a GPU a library may choose another algorithm while it is recorded."""
    rounding = 0.0 if got.device.type == "cpu" else 1e-9
    torch.testing.assert_close(got, expected, rtol=rounding, atol=rounding)


def tensors(engine: FrameDecoder) -> list[Tensor]:
    return [tensor for cache in engine.save().caches for tensor in (cache.keys, cache.values, cache.frames)]


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize(("time", "num_steps", "with_actions"), [(2, 4, True), (CONTEXT + 1, 1, False), (0, 2, True)])
def test_a_merged_commit_gives_the_same_frames(tiny_on, cuda_graphs_on_a_cpu, time, num_steps, with_actions, graph):
    tiny, frames, later = tiny_on(), 2 * CONTEXT + 2, 3
    model, context, actions = tiny.dynamics(**LAYERS), tiny.latents(2, time), tiny.actions(2, time + frames + later)
    actions = actions if with_actions else {}
    separate, merged = (
        FrameDecoder(model, 2, num_steps=num_steps, generator=seeded(), merge_commit=merge) for merge in (False, True)
    )
    merged.graph = graph
    drawn = []
    for engine in (separate, merged):
        engine.start(context, {name: part[:, :time] for name, part in actions.items()} or None)
        first = stepped(engine, actions, range(time, time + frames))
        saved = engine.save()
        second = stepped(engine, actions, range(time + frames, time + frames + later))
        engine.restore(saved)
        engine.generator.manual_seed(1)
        drawn.append(torch.cat([first, second, stepped(engine, actions, range(time + frames, time + frames + 2))], 1))
    torch.testing.assert_close(drawn[1], drawn[0], rtol=1e-9, atol=1e-9)
    assert int(merged.cache.frames) == int(separate.cache.frames) - 1
    assert merged.h is None


def test_a_model_without_the_option_ahead_is_decoded(tiny_on, monkeypatch):
    tiny = tiny_on()
    model, context, actions = tiny.dynamics(**LAYERS), tiny.latents(1, 2), tiny.actions(1, 5)
    expected = FrameDecoder(model, generator=seeded()).generate(context, actions, 3)

    def forward(z, tau, d, actions=None, task=None, labelled=None, *, cache=None, commit=True):
        return type(model).forward(model, z, tau, d, actions, task, labelled, cache=cache, commit=commit)

    monkeypatch.setattr(model, "forward", forward)
    assert torch.equal(FrameDecoder(model, generator=seeded()).generate(context, actions, 3), expected)


@pytest.mark.parametrize("num_steps", [1, 4])
def test_a_merged_commit_takes_no_pass_of_its_own(tiny_on, num_steps):
    tiny, lengths = tiny_on(), []
    engine = FrameDecoder(tiny.dynamics(**LAYERS), num_steps=num_steps, merge_commit=True)
    engine.model.register_forward_pre_hook(lambda module, inputs: lengths.append(inputs[0].shape[1]))
    stepped(engine, tiny.actions(1, 3), range(3))
    assert lengths == [1] * num_steps + 2 * ([2] + [1] * (num_steps - 1))


def test_a_merged_commit_needs_the_commit_pass(tiny_on):
    with pytest.raises(ValueError, match="merge_commit=True needs commit_pass=True; got commit_pass=False"):
        FrameDecoder(tiny_on().dynamics(), commit_pass=False, merge_commit=True)


def test_a_graph_is_recorded_once_and_replayed_for_every_frame(tiny_on, cuda_graphs_on_a_cpu):
    tiny = tiny_on()
    engine, actions = FrameDecoder(tiny.dynamics(**LAYERS), 2, generator=seeded()), tiny.actions(2, 4)
    engine.graph, calls = True, []
    engine.model.register_forward_pre_hook(lambda *_: calls.append(None))
    stepped(engine, actions, range(1))
    graph, _ = engine._recorded
    assert len(calls) == (cuda_graph.WARM_UP + 1) * (engine.num_steps + 1)
    stepped(engine, actions, range(1, 4))
    assert len(calls) == (cuda_graph.WARM_UP + 1) * (engine.num_steps + 1)
    assert (engine._recorded[0] is graph, graph.replays) == (True, 4)


def test_a_graph_records_draws_from_the_global_state_too(tiny_on, with_graph, graph_device):
    tiny, frames = tiny_on(graph_device), []
    for build in (with_graph, partial(FrameDecoder, graph=False)):
        with torch.random.fork_rng(devices=[graph_device] if graph_device == "cuda" else []):
            torch.manual_seed(3)
            frames.append(build(tiny.dynamics(**LAYERS), 2).generate(tiny.latents(2, 2), tiny.actions(2, 4), 2))
    assert_same(*frames)


def test_pixels_are_those_of_the_tokenizer_with_and_without_a_graph(tiny_on, with_graph, graph_device):
    tiny, frames, time = tiny_on(graph_device), 2 * CONTEXT + 2, 2
    model, tokenizer = tiny.dynamics(**LAYERS), tiny.tokenizer(**LAYERS)
    context, actions = tiny.latents(2, time), tiny.actions(2, time + frames)
    latent = rollout(model, context, actions, frames, 2, seeded(graph_device))
    expected = tokenizer.decode(torch.cat([context, latent], dim=1))[:, time:]
    engine = with_graph(model, 2, num_steps=2, generator=seeded(graph_device), tokenizer=tokenizer)
    got = engine.generate(context, actions, frames)
    assert got.shape == (2, frames, 6, 8, 3)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("commit_pass", "passes"), [(True, 5), (False, 4)])
def test_a_frame_takes_k_passes_and_the_commit_pass(tiny_on, commit_pass, passes):
    tiny = tiny_on()
    engine, committed = FrameDecoder(tiny.dynamics(**LAYERS), 2, commit_pass=commit_pass), []
    engine.model.register_forward_pre_hook(
        lambda module, given, named: committed.append(named["commit"]), with_kwargs=True
    )
    stepped(engine, tiny.actions(2, 3), range(3))
    assert committed == ([False] * (passes - 1) + [True]) * 3
    assert int(engine.cache.frames) == 3


def test_without_the_commit_pass_only_the_past_differs(tiny_on):
    tiny = tiny_on()
    model, context, actions = tiny.dynamics(**LAYERS), tiny.latents(2, 2), tiny.actions(2, 4)
    with_pass, without = (
        FrameDecoder(model, 2, commit_pass=commit_pass, generator=seeded()).generate(context, actions, 2)
        for commit_pass in (True, False)
    )
    assert torch.equal(with_pass[:, 0], without[:, 0])
    assert not torch.isclose(with_pass[:, 1], without[:, 1]).any()


@pytest.mark.parametrize("block", [1, 5])
def test_a_long_context_is_committed_in_blocks_with_the_same_result(tiny_on, monkeypatch, block):
    tiny, time = tiny_on(), 4 * CONTEXT + 1
    model, context, actions = tiny.dynamics(**LAYERS), tiny.latents(2, time), tiny.actions(2, time + 2)
    options = {"num_steps": 2, "tokenizer": tiny.tokenizer(**LAYERS)}
    whole, blocks = (FrameDecoder(model, 2, generator=seeded(), **options) for _ in range(2))
    expected = whole.generate(context, actions, 2)
    monkeypatch.setattr(module, "BLOCK", block)
    lengths = []
    model.register_forward_pre_hook(lambda module, given: lengths.append(given[0].shape[1]))
    torch.testing.assert_close(blocks.generate(context, actions, 2), expected, rtol=1e-9, atol=1e-9)
    assert lengths[: -(-time // block)] == [block] * (time // block) + [time % block] * bool(time % block)


def test_a_frame_beyond_all_windows_has_no_influence(tiny_on):
    tiny = tiny_on()
    model, reach = tiny.dynamics(**LAYERS), 2 * (CONTEXT - 1)
    assert model.config.transformer.layer_kinds().count("time") == 2
    context, actions = tiny.latents(1, reach + 1), tiny.actions(1, reach + 2)
    frames = []
    for old in (-reach - 1, -reach):
        other = context.clone()
        other[:, old] += 5
        frames.append(FrameDecoder(model, generator=seeded()).generate(other, actions, 1))
    unchanged = FrameDecoder(model, generator=seeded()).generate(context, actions, 1)
    assert torch.equal(frames[0], unchanged)
    assert not torch.isclose(frames[1], unchanged).any()


def test_bfloat16_frames_are_as_accurate_as_those_without_a_cache(tiny_on, device):
    half, exact = tiny_on(device, torch.bfloat16), tiny_on(device, torch.float32)
    model, truth, context = half.dynamics(**LAYERS), exact.dynamics(**LAYERS), half.latents(2, 3)
    truth.load_state_dict(model.state_dict())
    actions, frames = half.actions(2, 9), 6
    expected = rollout(truth, context.float(), actions, frames, 2, seeded(device), cache=False)
    whole = rollout(model, context, actions, frames, 2, seeded(device), cache=False)
    got = FrameDecoder(model, 2, num_steps=2, generator=seeded(device)).generate(context, actions, frames)
    assert got.dtype == torch.bfloat16
    assert (got - expected).norm() <= 2 * (whole - expected).norm()


def test_later_steps_do_not_change_earlier_frames(tiny_on, with_graph, graph_device):
    tiny = tiny_on(graph_device)
    engine, actions = with_graph(tiny.dynamics(**LAYERS), 2), tiny.actions(2, 6)
    frames, copies = [], []
    for time in range(6):
        frames.append(engine.step(at(actions, time)))
        copies.append(frames[-1].clone())
    assert all(torch.equal(*pair) for pair in zip(frames, copies, strict=True))
    assert len({frame.data_ptr() for frame in frames}) == 6


def test_the_callers_action_may_change_after_a_step(tiny_on, with_graph, graph_device):
    tiny = tiny_on(graph_device)
    actions = tiny.actions(2, 4)
    engines = [with_graph(tiny.dynamics(**LAYERS), 2, generator=seeded(graph_device)) for _ in range(2)]
    expected = stepped(engines[0], actions, range(4))
    held = {name: torch.zeros_like(part) for name, part in at(actions, 0).items()}
    for time in range(4):
        for name, part in at(actions, time).items():
            held[name].copy_(part)
        assert_same(engines[1].step(held), expected[:, time])


def test_labelled_may_change_at_every_step(tiny_on, with_graph, graph_device):
    tiny = tiny_on(graph_device)
    model, context, actions = tiny.dynamics(**LAYERS), tiny.latents(2, 2), tiny.actions(2, 5)
    labelled = torch.tensor([[1, 1, 0, 1, 1], [1, 1, 1, 0, 1]], dtype=torch.bool, device=graph_device)
    given = {**actions, "labelled": labelled}
    expected = rollout(model, context, given, 3, 2, seeded(graph_device), cache=False)
    got = with_graph(model, 2, num_steps=2, generator=seeded(graph_device)).generate(context, given, 3)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    assert not torch.isclose(got, rollout(model, context, actions, 3, 2, seeded(graph_device))).all()


@pytest.mark.parametrize("action", [None, {"keys": None, "mouse": None}])
def test_a_step_may_have_no_action(tiny_on, with_graph, graph_device, action):
    tiny = tiny_on(graph_device)
    engine = with_graph(tiny.dynamics(**LAYERS), 2, num_steps=2, generator=seeded(graph_device))
    got = torch.stack([engine.step(action) for _ in range(3)], dim=1)
    expected = rollout(tiny.dynamics(**LAYERS), tiny.latents(2, 0), None, 3, 2, seeded(graph_device), cache=False)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


def test_a_saved_past_can_be_restored_repeatedly(tiny_on, with_graph, graph_device):
    tiny = tiny_on(graph_device)
    engine = with_graph(tiny.dynamics(**LAYERS), 2, generator=seeded(graph_device), tokenizer=tiny.tokenizer(**LAYERS))
    actions, others = tiny.actions(2, 6), tiny.actions(2, 6, seed=1)
    stepped(engine, actions, range(2))
    saved, state = engine.save(), engine.generator.get_state()
    first = stepped(engine, actions, range(2, 6))
    frames = []
    for tried in (others, actions):
        engine.restore(saved)
        engine.generator.set_state(state)
        assert torch.equal(engine.h, saved.h)
        frames.append(stepped(engine, tried, range(2, 6)))
        assert not torch.isclose(engine.h, saved.h).all()
    assert torch.equal(frames[1], first)
    assert not torch.isclose(frames[0], first).all()


def test_start_clears_the_past_even_of_nan(tiny_on):
    tiny = tiny_on()
    model, context, actions = tiny.dynamics(**LAYERS), tiny.latents(2, 2), tiny.actions(2, 4)
    engine = FrameDecoder(model, 2, generator=seeded(), tokenizer=tiny.tokenizer(**LAYERS))
    engine.start(torch.full_like(tiny.latents(2, 4), torch.nan))
    engine.generator.manual_seed(0)
    fresh = FrameDecoder(model, 2, generator=seeded(), tokenizer=tiny.tokenizer(**LAYERS))
    assert torch.equal(engine.generate(context, actions, 2), fresh.generate(context, actions, 2))


def addresses(engine: FrameDecoder) -> set[int]:
    caches = [tensor for cache in engine._caches for tensor in (cache.keys, cache.values, cache.frames)]
    passes = engine._engine
    labels = [label for pair in (*passes._steps, passes._past_label) for label in pair]
    action = [values for values in engine._action.values() if values is not None]
    return {x.data_ptr() for x in (*caches, *labels, *action, engine._start, engine._noise, passes._level)}


def live_tensors() -> list[Tensor]:
    gc.collect()
    return [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]


def test_buffers_keep_their_address_and_steps_leave_no_tensor(tiny_on, with_graph, graph_device):
    tiny = tiny_on(graph_device)
    engine, actions = with_graph(tiny.dynamics(**LAYERS), 2, tokenizer=tiny.tokenizer(**LAYERS)), tiny.actions(2, 8)
    stepped(engine, actions, range(2))
    places, alive = addresses(engine), {id(tensor): weakref.ref(tensor) for tensor in live_tensors()}
    stepped(engine, actions, range(2, 5))
    engine.restore(engine.save())
    engine.generate(tiny.latents(2, 4), actions, 4)
    assert addresses(engine) == places
    assert [tensor.shape for tensor in live_tensors() if alive.get(id(tensor), lambda: None)() is not tensor] == []


def test_a_deleted_decoder_frees_its_cache_at_once(tiny_on, with_graph, graph_device):
    tiny = tiny_on(graph_device)
    engine = with_graph(tiny.dynamics(**LAYERS), tokenizer=tiny.tokenizer(**LAYERS))
    engine.step(at(tiny.actions(1, 1), 0))
    cache = weakref.ref(engine.cache)
    gc.collect()
    gc.disable()
    try:
        del engine
        assert cache() is None
    finally:
        gc.enable()


def test_the_host_never_waits_for_the_device(tiny_on, no_host_sync):
    tiny = tiny_on()
    engine, actions = FrameDecoder(tiny.dynamics(**LAYERS), 2, tokenizer=tiny.tokenizer(**LAYERS)), tiny.actions(2, 8)
    with no_host_sync:
        engine.generate(tiny.latents(2, 4), actions, 4)
        engine.restore(engine.save())


class OneDevice(TorchDispatchMode):
    """Fails on an operation with a tensor of another device: a graph cannot record a copy from the host."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        devices = {x.device.type for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)}
        assert devices <= {self.device}, f"{function} of {devices}"
        return out


def test_a_frame_uses_no_tensor_of_the_host(tiny_on):
    # The device that no computation takes place on stands for one that is not the host.
    tiny = tiny_on("meta")
    engine = FrameDecoder(tiny.dynamics(**LAYERS), 2, tokenizer=tiny.tokenizer(**LAYERS))
    actions = {**tiny.actions(2, 7), "labelled": torch.ones(2, 7, dtype=torch.bool, device="meta")}
    context = tiny.latents(2, 4)
    with OneDevice("meta"):
        assert engine.generate(context, actions, 3).shape == (2, 3, 6, 8, 3)


@pytest.mark.nightly
@pytest.mark.skipif(torch.cuda.is_available(), reason="where there is a GPU, the next tests are about the kernels")
def test_fused_kernels_under_the_interpreter_equal_the_eager_backend(tiny_on):
    pytest.importorskip("triton")
    tiny = tiny_on("cpu", torch.float32)
    layers = {"depth": 1, "time_every": 1, **WIDE}
    context, actions = tiny.latents(1, 2), tiny.actions(1, 4)
    expected = rollout(tiny.dynamics(**layers), context, actions, 2, 1, seeded(), cache=False)
    got = rollout(tiny.dynamics(**layers, backend="triton"), context, actions, 2, 1, seeded())
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@on_a_gpu
@pytest.mark.parametrize("backend", ["eager", "triton"])
@pytest.mark.parametrize("graph", [True, False])
def test_on_a_gpu_a_step_never_synchronises_and_allocates_its_frame_only(tiny_on, graph, backend):
    tiny = tiny_on("cuda", torch.float32)
    engine = FrameDecoder(
        tiny.dynamics(**LAYERS, **WIDE, backend=backend), 2, graph=graph, tokenizer=tiny.tokenizer(**LAYERS)
    )
    actions = tiny.actions(2, 8)
    stepped(engine, actions, range(2))
    torch.cuda.synchronize()
    allocated = torch.cuda.memory_allocated()
    torch.cuda.set_sync_debug_mode("error")
    try:
        frame = engine.step(at(actions, 2))
        for time in range(3, 8):
            frame = engine.step(at(actions, time))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(frame).all()
    assert torch.cuda.memory_allocated() - allocated <= 512 * -(-frame.nbytes // 512)


@on_a_gpu
@pytest.mark.parametrize("compile", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_on_a_gpu_fused_kernels_in_a_graph_equal_the_eager_backend(tiny_on, compile):
    tiny, frames = tiny_on("cuda", torch.float32), 2 * CONTEXT + 2
    context, actions = tiny.latents(2, 5), tiny.actions(2, 5 + frames)
    expected = rollout(tiny.dynamics(**LAYERS, **WIDE), context, actions, frames, 4, seeded("cuda"), cache=False)
    engine = FrameDecoder(
        tiny.dynamics(**LAYERS, **WIDE, backend="triton"), 2, compile=compile, generator=seeded("cuda")
    )
    torch.testing.assert_close(engine.generate(context, actions, frames), expected, rtol=1e-3, atol=1e-4)


@on_a_gpu
def test_on_a_gpu_autocast_disables_the_graph(tiny_on):
    tiny = tiny_on("cuda", torch.float32)
    with torch.autocast("cuda", torch.bfloat16):
        engine = FrameDecoder(tiny.dynamics(**LAYERS))
        assert engine.step(at(tiny.actions(1, 1), 0)).isfinite().all()
        assert not engine.graph
        with pytest.raises(ValueError, match="graph=True needs autocast off"):
            FrameDecoder(tiny.dynamics(**LAYERS), graph=True)


def test_the_pass_is_compiled_once_for_denoising_and_once_for_commit(tiny_on, monkeypatch):
    torch.compiler.reset()
    tiny = tiny_on("cpu", torch.float32)
    counter = CompileCounterWithBackend("eager")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    model, context, actions = tiny.dynamics(depth=1, time_every=1), tiny.latents(2, 4), tiny.actions(2, 12)
    got, expected = (
        FrameDecoder(model, 2, num_steps=2, compile=compile, generator=seeded()).generate(context, actions, 8)
        for compile in (True, False)
    )
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert counter.frame_count == 2
    torch.compiler.reset()


@pytest.mark.flex
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")
def test_flex_takes_in_contexts_of_many_lengths(tiny_on):
    torch.compiler.reset()
    tiny = tiny_on("cpu", torch.float32)
    flex, eager = (
        FrameDecoder(tiny.dynamics(**LAYERS, backend=backend), num_steps=1, generator=seeded())
        for backend in ("flex", "eager")
    )
    # More forms than the 8 that torch allows: each length has its own, over space and over time.
    for length in range(1, 7):
        context, actions = tiny.latents(1, length), tiny.actions(1, length + 1)
        got, expected = (decoder.generate(context, actions, 1) for decoder in (flex, eager))
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    torch.compiler.reset()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_steps": 3}, "num_steps must be a power of two"),
        ({"num_steps": 16}, r"num_steps must lie in \[1, 8\]; got 16"),
        ({"context_level": 1.5}, r"context_level must lie in \[0, 1\]; got 1.5"),
        ({"batch": 0}, "batch must be a whole number, 1 or more; got 0"),
        ({"graph": True}, "graph=True needs a model on a CUDA device; got one on cpu"),
    ],
)
def test_invalid_options_of_a_decoder_raise(tiny_on, change, message):
    with pytest.raises(ValueError, match=message):
        FrameDecoder(tiny_on().dynamics(**LAYERS), **change)


def test_a_generator_on_another_device_raises(tiny_on):
    with pytest.raises(ValueError, match="generator must lie on meta like the model; got cpu"):
        FrameDecoder(tiny_on("meta").dynamics(**LAYERS), generator=seeded())


@pytest.mark.parametrize(
    ("context", "error", "message"),
    [
        (torch.zeros(2, 5, 6), ValueError, r"context must have shape \(B, T, S, D\); got \(2, 5, 6\)"),
        (torch.zeros(1, 0, 5, 6), ValueError, r"context must have shape .* = \(2, 0, 5, 6\); got \(1, 0, 5, 6\)"),
        (torch.zeros(2, 3, 5, 7), ValueError, r"context must have shape .* = \(2, 3, 5, 6\); got \(2, 3, 5, 7\)"),
        (torch.zeros(2, 0, 5, 6), TypeError, "context must have the dtype of the parameters, torch.float64"),
        (torch.zeros(2, 0, 5, 6, dtype=torch.int64), TypeError, "context must be a floating-point tensor"),
    ],
)
def test_a_context_of_wrong_shape_raises_even_without_frames(tiny_on, context, error, message):
    with pytest.raises(error, match=message):
        FrameDecoder(tiny_on().dynamics(**LAYERS), 2).start(context)


def test_actions_of_another_length_than_the_context_raise(tiny_on):
    tiny = tiny_on()
    with pytest.raises(ValueError, match=r"actions must begin with the axes \(B, T\) = \(2, 3\); got \(2, 4, 4\)"):
        FrameDecoder(tiny.dynamics(**LAYERS), 2).start(tiny.latents(2, 3), tiny.actions(2, 4))


KEYS, MOUSE = torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64)
#: Invalid actions of a step.
WRONG_ACTIONS = {
    "no mapping": (KEYS, TypeError, "action must be None or map names of components to tensors; got Tensor"),
    "no tensor": ({"keys": KEYS, "mouse": 3}, TypeError, r"action\['mouse'\] must be a torch tensor; got int"),
    "nested": ({"keys": {"a": KEYS}, "mouse": MOUSE}, TypeError, r"action\['keys'\] must be a torch tensor; got dict"),
    "another batch": ({"keys": KEYS[:1], "mouse": MOUSE}, ValueError, r"action\['keys'\] .* \(2, 4\); got \(1, 4\)"),
    "with time": (
        {"keys": KEYS[:, None], "mouse": MOUSE},
        ValueError,
        r"action\['keys'\] .* \(2, 4\); got \(2, 1, 4\)",
    ),
    "labels with time": (
        {"keys": KEYS, "mouse": MOUSE, "labelled": KEYS > 0},
        ValueError,
        r"\['labelled'\] .* = \(2,\)",
    ),
    "too few": ({"keys": KEYS}, ValueError, r"actions must hold the components \['keys', 'mouse'\].*got \['keys'\]"),
    "another": ({"keys": KEYS, "mose": MOUSE}, ValueError, r"got \['keys', 'mose'\]"),
    "no integers": ({"keys": KEYS, "mouse": MOUSE.double()}, TypeError, "must be an integer tensor; got torch.float64"),
}


@pytest.mark.parametrize("wrong", WRONG_ACTIONS)
def test_an_invalid_action_raises_and_the_next_valid_one_works(tiny_on, wrong):
    engine = FrameDecoder(tiny_on().dynamics(**LAYERS), 2)
    action, error, message = WRONG_ACTIONS[wrong]
    with pytest.raises(error, match=message):
        engine.step(action)
    engine.step({"keys": KEYS, "mouse": MOUSE})
    with pytest.raises((TypeError, ValueError), match="action"):
        engine.step(action)
    engine.step({"keys": KEYS, "mouse": MOUSE})
    assert int(engine.cache.frames) == 2


@pytest.mark.parametrize(
    "action",
    [
        None,
        {"keys": KEYS, "mouse": None},
        {"keys": KEYS.double(), "mouse": MOUSE},
        {"keys": KEYS, "mouse": MOUSE, "labelled": MOUSE == 0},
    ],
)
def test_a_step_with_other_components_than_the_first_raises(tiny_on, action):
    engine = FrameDecoder(tiny_on().dynamics(**LAYERS), 2)
    engine.step({"mouse": MOUSE, "keys": KEYS})
    with pytest.raises(
        ValueError, match=r"action must have the components and dtypes of the first step, .*'labelled', bool"
    ):
        engine.step(action)
    engine.step({"keys": KEYS, "mouse": MOUSE})


@pytest.mark.parametrize("created", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_decoder_works_inside_and_outside_inference_mode(tiny_on, created, first):
    model = tiny_on("cpu", torch.float32).dynamics()

    def frames(created, first):
        with torch.inference_mode(created):
            decoder = FrameDecoder(model, generator=seeded())
            action = {"keys": torch.ones(1, 4), "mouse": torch.tensor([2])}
        with torch.inference_mode(first):
            decoder.start(torch.zeros(1, 2, 5, 6))
            frame = decoder.step(action)
        decoder.restore(decoder.save())
        return torch.stack([frame.clone(), decoder.step(action)])

    assert torch.equal(frames(created, first), frames(False, False))
