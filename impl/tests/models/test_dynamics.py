"""Sec. 3.2: the dynamics. Influence among tokens and frames; frame by frame equals the whole sequence."""

import pytest
import torch

from dreamer4_impl.equations.eq06_07_shortcut_forcing import shortcut_forcing_loss

BATCH_AND_TIME = [(3, 3), (2, 5), (1, 4), (3, 1)]


def frames(inputs, start, stop):
    """The same inputs, from frame `start` to frame `stop`."""
    return {
        name: {key: part[:, start:stop] for key, part in value.items()}
        if name == "actions"
        else value[:, start:stop]
        if value.ndim > 1
        else value
        for name, value in inputs.items()
    }


def changed(inputs, name, index, value):
    """The same inputs with one changed value."""
    inputs = {**inputs, "actions": dict(inputs["actions"])}
    group, key = (inputs["actions"], name.removeprefix("actions.")) if "." in name else (inputs, name)
    group[key] = group[key].clone()
    group[key][index] = value
    return inputs


def moved(model, inputs, other):
    """Per frame, whether ẑ₁ and the agent's output differ."""
    (z, h), (z_other, h_other) = model(**inputs), model(**other)
    return (z != z_other).any(3).any(2), None if h is None else (h != h_other).any(2)


@pytest.mark.parametrize("agent", [True, False])
@pytest.mark.parametrize(("batch", "time"), BATCH_AND_TIME)
def test_shapes_of_prediction_and_agent_output(tiny_on, device, agent, batch, time):
    tiny = tiny_on(device)
    z1_hat, h = tiny.dynamics(agent=agent)(**tiny.inputs(batch, time, agent=agent))
    assert z1_hat.shape == (batch, time, 5, 6)
    assert h.shape == (batch, time, 24) if agent else h is None


@pytest.mark.parametrize(("batch", "time"), BATCH_AND_TIME)
def test_permuting_the_batch_permutes_the_output(tiny_on, device, batch, time):
    tiny = tiny_on(device)
    model, inputs = tiny.dynamics(), tiny.inputs(batch, time)
    order = torch.arange(batch).roll(1)
    permuted = {
        name: {key: part[order] for key, part in value.items()} if name == "actions" else value[order]
        for name, value in inputs.items()
    }
    for got, expected in zip(model(**permuted), model(**inputs), strict=True):
        torch.testing.assert_close(got, expected[order], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "index", "value"),
    [
        ("z", (0, 1, 2, 3), 5.0),
        ("tau", (0, 1), 0.875),
        ("d", (0, 1), 0.25),
        *(("actions.keys", (0, 1, key), 2) for key in range(4)),
        ("actions.mouse", (0, 1), 4),
    ],
)
def test_an_input_influences_only_its_frame_and_later_ones(tiny_on, device, name, index, value):
    tiny = tiny_on(device)
    model, inputs = tiny.dynamics(), tiny.inputs(2, 4)
    given = inputs["actions"][name.removeprefix("actions.")] if "." in name else inputs[name]
    value = 1 - int(given[index]) if name == "actions.keys" else value
    if name == "actions.mouse":
        value = (int(given[index]) + 1) % 5
    assert given[index] != value
    for differs in moved(model, inputs, changed(inputs, name, index, value)):
        assert differs.tolist() == [[False, True, True, True], [False] * 4]


def test_the_task_influences_only_the_agent(tiny_on, device):
    tiny = tiny_on(device)
    model, inputs = tiny.dynamics(), tiny.inputs(2, 4)
    world, agent = moved(model, inputs, changed(inputs, "task", 0, (int(inputs["task"][0]) + 1) % 3))
    assert not world.any()
    assert agent.tolist() == [[True] * 4, [False] * 4]


def test_a_task_may_change_within_a_sequence(tiny_on, device):
    tiny = tiny_on(device)
    model, inputs = tiny.dynamics(), tiny.inputs(2, 4)
    inputs["task"] = inputs["task"][:, None].repeat(1, 4)
    world, agent = moved(model, inputs, changed(inputs, "task", (0, 2), (int(inputs["task"][0, 2]) + 1) % 3))
    assert not world.any()
    assert agent.tolist() == [[False, False, True, True], [False] * 4]


def test_the_agent_token_does_not_influence_the_prediction(tiny_on, device):
    tiny = tiny_on(device)
    model, inputs = tiny.dynamics(), tiny.inputs(2, 4)
    before = model(**inputs)
    with torch.no_grad():
        model.agent.embedding.add_(100.0)
    after = model(**inputs)
    assert torch.equal(before[0], after[0])
    assert not torch.isclose(before[1], after[1]).all(2).any()


def test_the_prediction_is_the_same_with_and_without_an_agent_token(tiny_on, device):
    tiny = tiny_on(device)
    with_agent, without = tiny.dynamics(), tiny.dynamics(agent=False)
    missing = without.load_state_dict(with_agent.state_dict(), strict=False)
    assert missing.missing_keys == []
    inputs = tiny.inputs(2, 4)
    without_task = {name: value for name, value in inputs.items() if name != "task"}
    torch.testing.assert_close(with_agent(**inputs)[0], without(**without_task)[0], rtol=1e-12, atol=1e-12)


def test_unlabelled_sequences_use_only_the_learned_embedding(tiny_on, device):
    tiny = tiny_on(device)
    model, inputs = tiny.dynamics(), tiny.inputs(2, 4)
    labelled = torch.tensor([True, False], device=device)
    other = {
        **inputs,
        "actions": {"keys": inputs["actions"]["keys"].double(), "mouse": inputs["actions"]["mouse"].clone()},
    }
    other["actions"]["keys"][1], other["actions"]["mouse"][1] = torch.nan, -7
    none = {**inputs, "actions": None}
    for got, same, without in zip(
        model(**inputs, labelled=labelled), model(**other, labelled=labelled), model(**none), strict=True
    ):
        assert torch.equal(got, same)
        torch.testing.assert_close(got[1], without[1], rtol=1e-12, atol=1e-12)
        assert not torch.isclose(got[0], without[0]).any(-1).all()


def test_labelled_among_the_components_equals_the_argument(tiny_on, device):
    tiny = tiny_on(device)
    model, inputs = tiny.dynamics(agent=False), tiny.inputs(2, 4, agent=False)
    labelled = torch.tensor([[False, True, True, True], [False] * 4], device=device)
    beside = {**inputs, "actions": {**inputs["actions"], "labelled": labelled}}
    assert torch.equal(model(**inputs, labelled=labelled)[0], model.network(**beside))


@pytest.mark.parametrize("agent", [True, False])
@pytest.mark.parametrize("chunks", [[1] * 17, [4, 1, 1, 5, 1, 3, 2], [16, 1]])
def test_frame_by_frame_equals_the_whole_sequence_far_beyond_the_window(tiny_on, device, agent, chunks):
    tiny = tiny_on(device)
    model, inputs = tiny.dynamics(agent=agent), tiny.inputs(2, sum(chunks), agent=agent)
    assert sum(chunks) > 5 * model.config.transformer.context
    whole, cache, start = model(**inputs), model.empty_cache(2), 0
    for chunk in chunks:
        stop = start + chunk
        part = frames(inputs, start, stop)
        model(**{**part, "z": part["z"] + 1}, cache=cache, commit=False)
        for got, expected in zip(model(**part, cache=cache), whole, strict=True):
            if expected is not None:
                torch.testing.assert_close(got, expected[:, start:stop], rtol=1e-10, atol=1e-10)
        start = stop


def test_bfloat16_frame_by_frame_is_as_accurate_as_the_whole_sequence(tiny_on, device):
    exact, half = tiny_on(device), tiny_on(device, torch.bfloat16)
    model, inputs = half.dynamics(), half.inputs(2, 12)
    truth = exact.dynamics().requires_grad_(False)
    truth.load_state_dict(model.state_dict())
    truth, whole = truth(**{**inputs, "z": inputs["z"].double()}), model(**inputs)
    cache = model.empty_cache(2)
    steps = [model(**frames(inputs, time, time + 1), cache=cache) for time in range(12)]
    for index in (0, 1):
        expected = truth[index]
        error_of_steps = (torch.cat([step[index] for step in steps], dim=1) - expected).norm() / expected.norm()
        error_of_whole = (whole[index] - expected).norm() / expected.norm()
        assert error_of_steps <= 2 * error_of_whole
        assert error_of_whole < 0.1


def test_a_pass_without_commit_does_not_change_the_cache(tiny_on, device):
    tiny = tiny_on(device)
    model, inputs = tiny.dynamics(), tiny.inputs(2, 9)
    cache = model.empty_cache(2)
    model(**frames(inputs, 0, 8), cache=cache)
    first = model(**frames(inputs, 8, 9), cache=cache, commit=False)
    model(**frames(tiny.inputs(2, 1, seed=3), 0, 1), cache=cache, commit=False)
    again = model(**frames(inputs, 8, 9), cache=cache, commit=False)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_registers_are_part_of_every_frame_and_not_of_the_output(tiny_on, device):
    tiny = tiny_on(device)
    model, inputs = tiny.dynamics(), tiny.inputs(2, 3)
    before = model(**inputs)
    with torch.no_grad():
        model.registers[0].add_(1.0)
    after = model(**inputs)
    assert before[0].shape == inputs["z"].shape
    assert all((a != b).any(-1).all() for a, b in zip(before, after, strict=True))


def test_gradient_reaches_every_parameter(tiny_on, device):
    tiny = tiny_on(device)
    model = tiny.dynamics()
    z1_hat, h = model(**tiny.inputs(4, 7))
    (z1_hat.square().mean() + h.square().mean()).backward()
    dead = [name for name, parameter in model.named_parameters() if not parameter.grad.any()]
    assert dead == []


def test_the_loss_of_equation_7_trains_all_but_the_agent_token(tiny_on, device):
    tiny = tiny_on(device)
    model = tiny.dynamics()
    actions, z1 = tiny.actions(4, 7), tiny.latents(4, 7)
    shortcut_forcing_loss(model.network, z1, actions, k_max=8, generator=torch.Generator(device)).backward()
    untouched = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert untouched == {"agent.embedding", "agent.tasks"}


def test_the_loss_of_equation_7_decreases(tiny_on, device):
    tiny = tiny_on(device, torch.float32)
    model = tiny.dynamics(agent=False)
    actions, z1 = tiny.actions(8, 4), tiny.latents(8, 4).tanh()
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)

    def loss(seed):
        generator = torch.Generator(device).manual_seed(seed)
        return shortcut_forcing_loss(model.network, z1, actions, k_max=8, generator=generator)

    with torch.no_grad():
        before = sum(loss(seed) for seed in range(1000, 1004))
    for seed in range(30):
        optimiser.zero_grad()
        loss(seed).backward()
        optimiser.step()
    with torch.no_grad():
        after = sum(loss(seed) for seed in range(1000, 1004))
    assert after < 0.7 * before


def test_the_host_never_waits_for_the_device(tiny_on, no_host_sync):
    tiny = tiny_on()
    model, inputs, cache = tiny.dynamics(), tiny.inputs(2, 1), tiny.dynamics().empty_cache(2)
    with no_host_sync:
        model(**inputs)
        model(**inputs, labelled=torch.ones(2, dtype=torch.bool), cache=cache)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"z": torch.zeros(2, 3, 5, 7)}, ValueError, r"z must have shape \(B, T, S_z, D\) = \(2, 3, 5, 6\); got"),
        ({"z": torch.zeros(2, 3, 5, 6, dtype=torch.int64)}, TypeError, "z must be a floating-point tensor"),
        ({"tau": torch.zeros(2)}, ValueError, r"tau must have shape \(B, T\) = \(2, 3\); got \(2,\)"),
        ({"d": torch.zeros(2)}, ValueError, r"d must have shape \(B, T\) = \(2, 3\); got \(2,\)"),
        (
            {"task": torch.zeros(3, dtype=torch.int64)},
            ValueError,
            r"task must have shape \(B,\) or \(B, T\) = \(2, 3\)",
        ),
        ({"task": torch.zeros(2)}, TypeError, "task must be an integer tensor"),
        ({"labelled": torch.ones(2)}, TypeError, "labelled must be a bool tensor; got torch.float32"),
        (
            {"labelled": torch.ones(3, dtype=torch.bool)},
            ValueError,
            r"labelled must have shape \(B,\) or \(B, T\) = \(2, 3\); got \(3,\)",
        ),
    ],
)
def test_invalid_input_raises_and_names_the_argument(tiny_on, change, error, message):
    tiny = tiny_on()
    with pytest.raises(error, match=message):
        tiny.dynamics()(**{**tiny.inputs(2, 3), **change})


def test_a_task_without_an_agent_token_raises(tiny_on):
    tiny = tiny_on()
    with pytest.raises(ValueError, match="task must be None for a model without an agent token"):
        tiny.dynamics(agent=False)(**tiny.inputs(2, 3))


def test_a_task_without_task_embeddings_raises(tiny_on):
    tiny = tiny_on()
    with pytest.raises(ValueError, match="task must be None for a model without tasks"):
        tiny.dynamics(tasks=0)(**tiny.inputs(2, 3))


def test_a_model_built_without_memory_loads_all_that_it_needs(tiny_on):
    tiny = tiny_on("cpu")
    model, inputs = tiny.dynamics(), tiny.inputs(2, 3)
    with torch.device("meta"):
        loaded = type(model)(model.config)
    loaded = loaded.to_empty(device="cpu").to(tiny.dtype)
    loaded.load_state_dict(model.state_dict())
    assert torch.equal(loaded(**inputs)[0], model(**inputs)[0])


def test_a_dtype_other_than_that_of_the_parameters_raises(tiny_on):
    tiny = tiny_on("cpu", torch.float32)
    inputs = tiny.inputs(2, 3)
    with pytest.raises(TypeError, match=r"z must have the dtype of the parameters, torch.float32, unless autocast"):
        tiny.dynamics()(**{**inputs, "z": inputs["z"].double()})
