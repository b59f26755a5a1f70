"""Algorithm 1: what each phase trains, on which sequences, independent of the division of a batch."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dreamer4_impl.checkpoints.options import AgentOptions, ImagineOptions, TokenizerOptions
from dreamer4_impl.checkpoints.settings import Batches, TrainingSettings
from dreamer4_impl.data.clips import Batch
from dreamer4_impl.data.latents import encode_episode
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.presets import tiny
from dreamer4_impl.training.phase import Phase
from dreamer4_impl.training.phases.agent import AgentPhase
from dreamer4_impl.training.phases.dynamics import DynamicsPhase
from dreamer4_impl.training.phases.imagine import ImaginePhase
from dreamer4_impl.training.phases.tokenizer import TokenizerPhase

PHASES = {"tokenizer": TokenizerPhase, "dynamics": DynamicsPhase, "agent": AgentPhase, "imagine": ImaginePhase}
SAMPLES, LENGTH = 4, 5


def tiny_settings(phase, **changes):
    settings = TrainingSettings(
        phase, tiny(), batches=Batches(size=SAMPLES), imagine=ImagineOptions(horizon=3, context=LENGTH)
    )
    return replace(settings, **changes)


@pytest.fixture
def model():
    """Model with every parameter changed from its initial value, so that each has an influence."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        model = Dreamer4(tiny())
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


def random_batch(rows=range(SAMPLES), relevant=(False, True, False, True)):
    """Batch whose rows are functions of their numbers."""
    clips = [torch.Generator().manual_seed(row) for row in rows]

    def whole(high, *shape):
        return torch.stack([torch.randint(high, (LENGTH, *shape), generator=clip) for clip in clips])

    actions, taken = ({"keys": whole(2, 4), "mouse": whole(5)} for _ in range(2))
    return Batch(
        video=whole(256, 6, 8, 3).to(torch.uint8),
        latents=None,
        actions=actions | {"labelled": whole(2).bool()},
        taken=taken,
        taken_labelled=torch.ones(len(clips), LENGTH, dtype=torch.bool),
        rewards=whole(3).float(),
        continues=torch.ones(len(clips), LENGTH, dtype=torch.bool),
        task=torch.tensor([row % 3 for row in rows]),
        relevant=torch.tensor([relevant[row] for row in rows]),
    )


def started(name, model, **changes):
    phase = PHASES[name](tiny_settings(name, **changes))
    phase.companions(model)
    return phase


def averages(*parts):
    """Means of the partial means; 0 if there is nothing to count, as in the loop."""
    return {
        name: sum(part[name].total for part in parts) / sum(part[name].count for part in parts).clamp(min=1e-9)
        for name in parts[0]
    }


def means_of(phase, model, batch, step, indices):
    """Partial means, after a check that their counts equal those of the inputs."""
    inputs, counts = phase.inputs(model, batch, step, indices)
    means = phase.means(model, inputs)
    assert {name: means[name].count.item() for name in counts} == {name: n.item() for name, n in counts.items()}
    return means


def loss_of(phase, *parts):
    return phase.combine(phase.terms(averages(*parts)))


def gradients(model, loss):
    """Names of the parameters with a non-zero gradient."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return {name for name, gradient in zip(names, found, strict=True) if gradient is not None and gradient.any()}


def begin(names):
    return {".".join(name.split(".")[:2]) for name in names}


@pytest.mark.parametrize("name", PHASES)
def test_gradient_reaches_exactly_the_trained_parameters(name, model):
    phase = started(name, model)
    reached = gradients(model, loss_of(phase, means_of(phase, model, random_batch(), 0, range(SAMPLES))))
    trained = {trained for trained, _ in phase.trained(model)}
    assert reached <= trained
    # Every trained module has a parameter with a gradient.
    assert begin(trained) == begin(reached)


def test_trained_modules_are_those_of_algorithm_1(model):
    parts = {name: begin(trained for trained, _ in started(name, model).trained(model)) for name in PHASES}
    dynamics = {f"dynamics.{name}" for name, _ in model.dynamics.named_children()} | {"dynamics.registers"}
    assert parts["tokenizer"] == {"tokenizer.encoder", "tokenizer.decoder"}
    assert parts["dynamics"] == dynamics - {"dynamics.agent"}
    assert parts["agent"] == dynamics | {"agent.policy", "agent.reward"}
    assert parts["imagine"] == {"agent.policy", "agent.value"}


@pytest.mark.parametrize("name", PHASES)
def test_means_do_not_depend_on_the_division_of_a_batch(name, model):
    phase, everything = started(name, model), range(SAMPLES)
    whole = means_of(phase, model, random_batch(), 3, everything)
    divided = [means_of(phase, model, random_batch(rows), 3, rows) for rows in ([0, 2], [1], [3])]
    assert [list(part) for part in divided] == [list(whole)] * 3
    for term, mean in averages(whole).items():
        torch.testing.assert_close(mean, averages(*divided)[term], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", PHASES)
def test_draws_differ_by_step_and_seed_and_repeat(name, model):
    phase, batch = started(name, model), random_batch()
    here, again, later = (loss_of(phase, means_of(phase, model, batch, step, range(SAMPLES))) for step in (2, 2, 4))
    assert here.item() == again.item() != later.item()
    seeded = started(name, model, seed=1)
    assert loss_of(seeded, means_of(seeded, model, batch, 2, range(SAMPLES))).item() != here.item()


def agent_terms(model, batch, **options):
    phase = started("agent", model, agent=AgentOptions(**options))
    return phase.terms(averages(means_of(phase, model, batch, 0, range(SAMPLES))))


def mixed(old, new, rows):
    """Old values with new ones in these rows."""
    old = old.clone()
    old[rows] = new[rows].to(old.dtype)
    return old


def changed(batch, rows, **changes):
    return replace(batch, **{name: mixed(getattr(batch, name), new, rows) for name, new in changes.items()})


UNIFORM, RELEVANT = [0, 2], [1, 3]


def test_policy_term_depends_on_relevant_sequences_only(model):
    batch = random_batch()
    other = {name: (values + 1) % 2 for name, values in batch.taken.items()}
    for rows, same in ((UNIFORM, True), (RELEVANT, False)):
        taken = {name: mixed(values, other[name], rows) for name, values in batch.taken.items()}
        assert (
            agent_terms(model, replace(batch, taken=taken))["policy"] == agent_terms(model, batch)["policy"]
        ) == same


@pytest.mark.parametrize(("counted", "same"), [("uniform", True), ("all", False)])
def test_dynamics_term_depends_on_the_sequences_that_it_counts(model, counted, same):
    batch = random_batch()
    dark = torch.zeros_like(batch.video)
    for rows, equal in ((RELEVANT, same), (UNIFORM, False)):
        term = agent_terms(model, changed(batch, rows, video=dark), dynamics=counted)["dynamics"]
        assert (term == agent_terms(model, batch, dynamics=counted)["dynamics"]) == equal
    relevant = agent_terms(model, random_batch(relevant=(True,) * SAMPLES), dynamics=counted)["dynamics"]
    assert bool(gradients(model, relevant)) != same


def test_reward_term_depends_on_all_sequences(model):
    batch = random_batch()
    for rows in (RELEVANT, UNIFORM):
        term = agent_terms(model, changed(batch, rows, rewards=batch.rewards + 5))["reward"]
        assert term != agent_terms(model, batch)["reward"]


def test_ends_are_learned_from_all_sequences_by_a_head_of_their_own():
    config = replace(tiny(), agent=replace(tiny().agent, continues=True))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = Dreamer4(config)
    phase, batch = AgentPhase(replace(tiny_settings("agent"), model=config)), random_batch()
    assert phase.term_names == ("dynamics", "policy", "reward", "continues")
    assert "agent.continues" in begin(name for name, _ in phase.trained(model))

    def term(batch):
        return phase.terms(averages(means_of(phase, model, batch, 0, range(SAMPLES))))["continues"]

    assert term(batch).item() == pytest.approx(np.log(2))  # at the start, an end is as likely as none
    assert begin(gradients(model, term(batch))) == {"agent.continues"}  # its output layer is 0
    torch.nn.init.constant_(model.agent.continues.head.read.bias, 3.0)
    for rows in (RELEVANT, UNIFORM):
        assert term(changed(batch, rows, continues=torch.zeros_like(batch.continues))) > term(batch) + 0.5


def test_unlabelled_actions_are_not_cloned(model):
    batch = random_batch()
    unknown = batch.taken_labelled.clone()
    unknown[1, 2:] = False
    other = {name: values.clone() for name, values in batch.taken.items()}
    other["mouse"][1, 2:] = 0
    terms = [agent_terms(model, replace(batch, taken=t, taken_labelled=unknown)) for t in (batch.taken, other)]
    assert terms[0]["policy"] == terms[1]["policy"]


@pytest.mark.parametrize(("levels", "same"), [("drawn", True), ("context", False)])
def test_the_heads_read_frames_at_the_levels_drawn_or_at_that_of_the_context(model, levels, same):
    """With k_max = 1 all levels drawn are 0: frames are noise, and the heads do not depend on the data."""
    config = replace(tiny(), dynamics=replace(tiny().dynamics, k_max=1))
    noisy = Dreamer4(config)
    phase = AgentPhase(replace(tiny_settings("agent"), model=config, agent=AgentOptions(levels=levels)))
    batches = random_batch(), changed(random_batch(), UNIFORM + RELEVANT, video=torch.zeros(4, 5, 6, 8, 3))
    torch.nn.init.normal_(noisy.agent.reward.head.read.weight)
    terms = [phase.terms(averages(means_of(phase, noisy, batch, 0, range(SAMPLES)))) for batch in batches]
    assert (terms[0]["reward"] == terms[1]["reward"]) == same
    phases = [started("agent", model, agent=AgentOptions(levels=each)) for each in ("drawn", levels)]
    means = [averages(means_of(phase, model, random_batch(), 0, range(SAMPLES))) for phase in phases]
    assert means[0]["dynamics"] == means[1]["dynamics"]


def test_relevant_sequences_without_teacher_give_finite_gradients(model):
    loss = loss_of(phase := started("agent", model), means_of(phase, model, random_batch(), 0, range(SAMPLES)))
    found = torch.autograd.grad(loss, [p for _, p in phase.trained(model)], allow_unused=True)
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in found if gradient is not None)


@pytest.mark.parametrize("name", PHASES)
def test_every_phase_implements_the_interface(name, model):
    phase: Phase = started(name, model)
    means = means_of(phase, model, random_batch(), 0, range(SAMPLES))
    assert phase.name == name
    assert tuple(phase.terms(averages(means))) == phase.term_names
    assert not [name for name, mean in means.items() if mean.count.requires_grad]


def test_the_policy_waits_for_the_value(model):
    options = ImagineOptions(horizon=3, context=LENGTH, value_steps=2)
    phase = started("imagine", model, imagine=options)
    for step, reached in ((1, {"agent.value"}), (2, {"agent.policy", "agent.value"})):
        means = means_of(phase, model, random_batch(), step, range(SAMPLES))
        assert begin(gradients(model, loss_of(phase, means))) == reached
    with pytest.raises(ValueError, match="value_steps must be 0 or more; got -1"):
        ImagineOptions(value_steps=-1)


def test_noise_is_added_to_latents_at_the_end_alone(model, monkeypatch):
    decoded, decode = [], model.tokenizer.decode
    monkeypatch.setattr(model.tokenizer, "decode", lambda z: (decoded.append(z.detach()), decode(z))[1])
    for options in (TokenizerOptions(), TokenizerOptions(latent_noise=0.25, noise_share=0.5)):
        phase = started("tokenizer", model, tokenizer=options, steps=8)
        for step in (3, 4):
            torch.manual_seed(0)
            means_of(phase, model, random_batch(), step, range(SAMPLES))
    count = len(decoded) // 4
    plain, noisy = (torch.cat([z.flatten() for z in decoded[first : first + count]]) for first in (count, 3 * count))
    assert all(map(torch.equal, decoded[:count], decoded[2 * count : 3 * count]))
    assert float((noisy - plain).std()) == pytest.approx(0.25, rel=0.2)


def test_training_without_lpips_has_a_note(model):
    assert "without LPIPS" in " ".join(started("tokenizer", model).notes)
    assert not TokenizerPhase(tiny_settings("tokenizer"), lambda video_hat, video: video.mean()).notes


def test_share_of_dropped_patches_follows_the_settings(model, monkeypatch):
    shares, encode = [], model.tokenizer.encode
    monkeypatch.setattr(
        model.tokenizer,
        "encode",
        lambda video, dropped: (shares.append(dropped.float().mean()), encode(video, dropped))[1],
    )
    for options in (TokenizerOptions(), TokenizerOptions(most_dropped=0.0)):
        means_of(started("tokenizer", model, tokenizer=options), model, random_batch(), 0, range(SAMPLES))
    images = len(shares) // 2
    assert min(shares[:images]) > 0.2
    assert max(shares[images:]) == 0


def test_perceptual_distance_is_a_separate_term_over_all_frames(model):
    phase = TokenizerPhase(tiny_settings("tokenizer"), lambda video_hat, video: (video_hat - video).abs().mean())
    whole = means_of(phase, model, random_batch(), 3, range(SAMPLES))
    divided = [means_of(phase, model, random_batch(rows), 3, rows) for rows in ([0, 2], [1], [3])]
    torch.testing.assert_close(averages(*divided), averages(whole))
    terms = {"mse": torch.tensor(1.0), "lpips": torch.tensor(2.0)}
    assert phase.combine(terms) == pytest.approx(1.4)


def test_standardising_tokenizer_gets_mean_and_deviation_of_the_data(model):
    frames = np.random.default_rng(0).integers(256, size=(7, 6, 8, 3), dtype=np.uint8)
    episodes = (SimpleNamespace(length=3), SimpleNamespace(length=4))
    dataset = SimpleNamespace(
        episodes=episodes,
        clip=lambda number, start, length: SimpleNamespace(frames=frames[:3] if number == 0 else frames[3:]),
    )
    config = replace(tiny(), tokenizer=replace(tiny().tokenizer, standardise=True))
    standardised = Dreamer4(config)
    started("tokenizer", model).prepare(standardised, dataset)
    pixels = torch.tensor(frames).double() / 255
    mean = pixels.mean(0)
    torch.testing.assert_close(standardised.tokenizer.pixel_mean, mean.float())
    torch.testing.assert_close(
        standardised.tokenizer.pixel_std.double(), (pixels - mean).square().mean().sqrt(), rtol=1e-5, atol=0
    )


def test_dynamics_set_origin_and_unit_of_the_latents_once(model):
    frames = np.random.default_rng(0).integers(256, size=(7, 6, 8, 3), dtype=np.uint8)
    dataset = SimpleNamespace(
        episodes=(SimpleNamespace(length=7),), clip=lambda number, start, length: SimpleNamespace(frames=frames)
    )
    config = replace(tiny(), tokenizer=replace(tiny().tokenizer, standardise_latents=True))
    phase, standardised = started("dynamics", model), Dreamer4(config)
    phase.prepare(standardised, dataset)
    z = encode_episode(standardised.tokenizer, frames)
    torch.testing.assert_close(z.mean(0), torch.zeros(5, 6), rtol=0, atol=1e-5)
    assert float(z.square().mean()) == pytest.approx(1, rel=1e-4)
    recorded, dataset.clip = frames, lambda number, start, length: SimpleNamespace(frames=frames // 2)
    phase.prepare(standardised, dataset)
    assert torch.equal(encode_episode(standardised.tokenizer, recorded), z)
    phase.prepare(model, dataset)


@pytest.mark.parametrize("name", ["dynamics", "agent"])
def test_separate_images_are_sequences_of_one_frame_without_actions(name, model, monkeypatch):
    phase, calls = started(name, model), []
    forward = model.dynamics.forward
    monkeypatch.setattr(model.dynamics, "forward", lambda *given: (calls.append(given), forward(*given))[1])
    step = next(step for step in range(9) if any(phase.plan(step).image))
    images = sum(phase.plan(step).image)
    means_of(phase, model, random_batch(), step, range(SAMPLES))
    students = {given[0].shape[1]: given for given in calls}
    assert students[LENGTH][0].shape[0] == SAMPLES - images
    assert students[1][0].shape[0] == images * LENGTH
    assert not students[1][3]["labelled"].any()


def test_tokenizer_encodes_separate_images_as_single_frames(model, monkeypatch):
    phase, lengths = started("tokenizer", model), []
    encode = model.tokenizer.encode
    monkeypatch.setattr(
        model.tokenizer, "encode", lambda video, dropped: (lengths.append(video.shape[:2]), encode(video, dropped))[1]
    )
    step = next(step for step in range(9) if any(phase.plan(step).image))
    means_of(phase, model, random_batch(), step, range(SAMPLES))
    images = sum(phase.plan(step).image)
    assert lengths == [(SAMPLES - images, LENGTH), (images * LENGTH, 1)]


@pytest.mark.parametrize("name", ["dynamics", "agent"])
def test_every_micro_batch_calls_the_network_equally_often(name, model, monkeypatch):
    """Processes that shard its parameters synchronise at every call."""
    phase, counts = started(name, model), []
    forward = model.dynamics.forward
    for rows in ([0, 1], [2, 3], [0, 1, 2]):
        calls = []
        monkeypatch.setattr(
            model.dynamics, "forward", lambda *given, calls=calls: (calls.append(0), forward(*given))[1]
        )
        means_of(phase, model, random_batch(rows), 0, rows)
        counts.append(len(calls))
    assert len(set(counts)) == 1
