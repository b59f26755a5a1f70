"""A session: frames equal those of the decoder, and undo restores the state that determines them."""

from dataclasses import replace

import pytest
import torch

from dreamer4_impl.constants import CONTEXT_LEVEL
from dreamer4_impl.equations.eq01_corruption import corrupt
from dreamer4_impl.equations.eq02_sampling import context_label, corrupt_context, denoise
from dreamer4_impl.generation.decoder import FrameDecoder
from dreamer4_impl.play import session as module
from dreamer4_impl.play.controls import action_text
from dreamer4_impl.play.errors import RequestError, UsageError
from dreamer4_impl.play.picture import png, quantised
from dreamer4_impl.play.session import Session
from dreamer4_impl.play.world import BLOCK, World

#: Context frames of the tiny model.
CONTEXT = 3
LEFT, RIGHT = {"move": 3}, {"move": 2}


@pytest.fixture
def session(world) -> Session:
    return Session(world, clip=0, seed=5, steps=2)


def pictures(session, *actions, **options):
    pngs = []
    for action in actions:
        session.step(action, **options)
        pngs.append(session.picture)
    return pngs


def test_frames_equal_those_of_the_decoder_after_the_context(session, world, model, clip):
    video = torch.tensor(clip.frames[:CONTEXT]).float()[None] / 255
    moves = torch.cat([torch.tensor(clip.actions["move"][:CONTEXT]).long(), torch.tensor([3, 2])])[None]
    actions = {"move": moves, "labelled": torch.tensor([[False, True, True, True, True]])}
    decoder = FrameDecoder(
        model.dynamics, num_steps=2, generator=torch.Generator().manual_seed(5), tokenizer=model.tokenizer
    )
    generated = decoder.generate(model.tokenizer.encode(video), actions, frames=2)[0]
    assert pictures(session, LEFT, RIGHT) == [png(quantised(frame)) for frame in generated]


def test_session_starts_with_the_last_context_frame(session, clip):
    assert session.picture == png(clip.frames[CONTEXT - 1])
    assert session.state | {"milliseconds": 0} == {
        "frame": 0,
        "undo": 0,
        "recorded": 4,
        "clip": 0,
        "seed": 5,
        "steps": 2,
        "action": "",
        "milliseconds": 0,
    }


def test_frames_after_the_context_do_not_influence_the_model(session, world, clip):
    later = clip.frames.copy()
    later[CONTEXT:] = 0
    other = World(world.model, (replace(clip, frames=later),), "another")
    assert pictures(Session(other, clip=0, seed=5, steps=2), LEFT) == pictures(session, LEFT)


def test_action_determines_the_frame(session):
    pngs = []
    for move in range(6):
        pngs += pictures(session, {"move": move})
        session.undo()
    assert len(set(pngs)) == 6


def test_equal_actions_generate_equal_frames_after_undo(session):
    first, second = pictures(session, LEFT, RIGHT)
    session.undo()
    assert (session.picture, session.state["frame"], session.state["undo"]) == (first, 1, 1)
    assert pictures(session, RIGHT) == [second]


def test_undo_ends_at_the_first_frame(session, clip):
    pictures(session, LEFT, LEFT)
    session.undo()
    session.undo()
    assert session.picture == png(clip.frames[CONTEXT - 1])
    with pytest.raises(RequestError, match="nothing to undo"):
        session.undo()


def test_undo_history_is_limited_by_memory_but_has_one_frame(world, monkeypatch):
    monkeypatch.setattr(module, "UNDO_BYTES", 1)
    session = Session(world, clip=0, seed=0, steps=1)
    pictures(session, LEFT, LEFT)
    assert session.state["undo"] == 1


def test_changed_k_continues_from_the_same_cache(session, model):
    pictures(session, LEFT)
    decoder = FrameDecoder(model.dynamics, num_steps=8, tokenizer=model.tokenizer, generator=torch.Generator())
    decoder.restore(session.decoder.save())
    decoder.generator.set_state(session.generator.get_state())
    session.step(RIGHT, steps=8)
    expected = decoder.step({"move": torch.tensor([2]), "labelled": torch.tensor([True])})[0]
    assert (session.picture, session.state["steps"]) == (png(quantised(expected)), 8)


def test_undo_works_across_a_change_of_k(session):
    (first,) = pictures(session, LEFT)
    pictures(session, LEFT, steps=1)
    session.undo()
    session.undo()
    assert pictures(session, LEFT, steps=2) == [first]


def test_null_action_is_the_recorded_one_until_the_recording_ends(session, world, clip):
    followed = pictures(session, None, None)
    moves = [{"move": int(move)} for move in clip.actions["move"][CONTEXT : CONTEXT + 2]]
    assert followed == pictures(Session(world, clip=0, seed=5, steps=2), *moves)
    pictures(session, None, None)
    with pytest.raises(RequestError, match="the recording has ended"):
        session.step(None)
    assert session.state["recorded"] == 0


def test_unlabelled_recorded_action_does_not_influence_the_frame(session, world, clip):
    moves = clip.actions["move"].copy()
    moves[CONTEXT] = 0
    unknown = clip.labelled.copy()
    unknown[CONTEXT] = False
    hidden = [replace(clip, labelled=unknown), replace(clip, labelled=unknown, actions={"move": moves})]
    played = [pictures(Session(World(world.model, (c,), ""), clip=0, seed=5, steps=2), None) for c in hidden]
    assert played[0] == played[1] != pictures(session, None)


def played_without_a_cache(world, seed, steps, frames):
    """Actions of the policy and the last output of the agent token, each by passes over the whole sequence."""
    dynamics, generator = world.model.dynamics, torch.Generator().manual_seed(seed)
    k_max, task, drawn = dynamics.config.k_max, torch.tensor([1]), []
    z, actions = world.beginning(0)
    z = corrupt_context(z, CONTEXT_LEVEL, generator)

    def outputs(z, actions, *last):
        """Passes with the labels of the past, but for the last frame if its τ and d are given."""
        label = context_label(CONTEXT_LEVEL, k_max), 1 / k_max
        columns = [[label] * (z.shape[1] - len(last)) + [*last]]
        return dynamics(z, *torch.tensor(columns).unbind(-1), actions, task=task)

    for _ in range(frames):
        drawn.append(world.model.agent.policy.act(outputs(z, actions)[1][:, -1:]).sample(generator)["move"])
        actions = {"move": torch.cat([actions["move"], drawn[-1]], 1), "labelled": torch.ones(1, z.shape[1] + 1) > 0}
        actions["labelled"][:, 0] = False

        def clean(frame, index, z=z, actions=actions):
            return outputs(torch.cat([z, frame[:, None]], 1), actions, (index / steps, 1 / steps))[0][:, -1]

        start, noise = (torch.randn(z[:, :1].shape, generator=generator) for _ in range(2))
        frame = denoise(clean, start[:, 0], steps, z.dtype)
        z = torch.cat([z, corrupt(noise, frame[:, None], torch.full((1, 1), CONTEXT_LEVEL))], 1)
    return [int(move) for move in drawn], outputs(z, actions)[1][:, -1]


def test_autopilot_plays_as_the_policy_does_on_whole_sequences(session, world):
    moves, h = played_without_a_cache(world, seed=5, steps=2, frames=6)
    texts = []
    for _ in moves:
        session.step("policy")
        texts.append(session.state["action"])
    assert texts == [action_text(world.controls, {"move": move}) for move in moves]
    assert len(set(texts)) > 2
    torch.testing.assert_close(session.decoder.h, h, rtol=1e-4, atol=1e-4)


def test_autopilot_repeats_with_equal_seeds_and_after_undo(session, world):
    def played(session, frames):
        return [session.step("policy") or (session.picture, session.state["action"]) for _ in range(frames)]

    first = played(session, 4)
    assert played(Session(world, clip=0, seed=5, steps=2), 4) == first
    assert played(Session(world, clip=0, seed=6, steps=2), 4) != first
    for _ in range(3):
        session.undo()
    assert (session.picture, session.state["action"]) == first[0]
    h = session.decoder.h.clone()
    session.step(RIGHT)
    assert not torch.isclose(session.decoder.h, h).any()
    session.undo()
    assert torch.equal(session.decoder.h, h)
    assert played(session, 3) == first[1:]
    h = session.decoder.h.clone()
    session.step(RIGHT, steps=1)
    session.undo()
    assert torch.equal(session.decoder.h, h)
    session.undo()
    session.step("policy", steps=2)
    assert (session.picture, session.state["action"]) == first[3]


def test_policy_sees_the_task_of_the_clip(world):
    h = [Session(replace(world, tasks=tasks), 0, 5, 2).decoder.h for tasks in (world.tasks, world.tasks[::-1], ())]
    assert torch.equal(h[0], h[1])  # the clip's is the second of three
    others = Session(replace(world, tasks=world.tasks[1:]), 0, 5, 2).decoder.h
    assert not torch.isclose(h[0], others).any()
    assert not torch.isclose(h[0], h[2]).any()


def test_missing_autopilot_is_explained_and_changes_nothing(world, clip):
    for changed, message in (
        ({"phase": "dynamics"}, r"there is no autopilot, .* of the phase dynamics, and models of the phases agent and"),
        (
            {"tasks": ("Pong", "Boxing")},
            r"the task of the starting clip must be one of the model's \(Pong, Boxing\); got 'random frames'",
        ),
    ):
        session = Session(replace(world, **changed), clip=0, seed=5, steps=2)
        with pytest.raises(RequestError, match=message):
            session.step("policy", steps=4)
        assert (session.state["frame"], session.state["undo"], session.state["steps"]) == (0, 0, 2)
        assert pictures(session, LEFT) == pictures(Session(world, clip=0, seed=5, steps=2), LEFT)
    with pytest.raises(RequestError, match="names and values, \"policy\" or null; got 'left'"):
        session.step("left")


def test_reset_repeats_only_with_the_same_seed(session):
    (first,) = pictures(session, LEFT)
    session.reset(clip=0, seed=5, steps=2)
    (repeated,) = pictures(session, LEFT)
    session.reset(clip=0, seed=6, steps=2)
    (reseeded,) = pictures(session, LEFT)
    assert first == repeated != reseeded


def test_other_clip_starts_with_another_frame(session):
    before = session.picture
    session.reset(clip=1, seed=5, steps=2)
    assert session.picture != before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 3}, "steps must be a power of two from 1 to 8; got 3"),
        ({"steps": 16}, "steps must be a power of two"),
        ({"steps": 0}, "steps must be a power of two"),
        ({"seed": -1}, "seed must be an integer from 0 to 2147483647; got -1"),
        ({"seed": 2**31}, "seed must be"),
        ({"clip": 2}, "clip must be an integer from 0 to 1; got 2"),
        ({"clip": -1}, "clip must be"),
    ],
)
def test_invalid_reset_is_refused_and_changes_nothing(session, options, message):
    before = pictures(session, LEFT)[0], session.state
    with pytest.raises(RequestError, match=message):
        session.reset(**{"clip": 0, "seed": 0, "steps": 1} | options)
    assert (session.picture, session.state) == before


def test_refused_step_changes_nothing(session, world):
    with pytest.raises(RequestError):
        session.step({"move": 99})
    with pytest.raises(RequestError):
        session.step(LEFT, steps=5)
    assert session.state["frame"] == session.state["undo"] == 0
    assert pictures(session, LEFT) == pictures(Session(world, clip=0, seed=5, steps=2), LEFT)


def test_context_encoded_in_blocks_equals_a_single_pass(model, clip, monkeypatch):
    monkeypatch.setattr("dreamer4_impl.play.world.BLOCK", 2)
    latents, _ = World(model, (clip,), "in blocks").beginning(0)
    expected = model.tokenizer.encode(torch.tensor(clip.frames[:CONTEXT]).float()[None] / 255)
    assert BLOCK > 2
    torch.testing.assert_close(latents, expected)


def test_clip_that_does_not_fit_the_model_is_refused(model, clip):
    for wrong, message in (
        (replace(clip, frames=clip.frames[:, 1:]), r"= \(6, 8, 3\)"),
        (replace(clip, actions={"jump": clip.actions["move"]}), "shapes"),
    ):
        with pytest.raises(UsageError, match=f"does not fit the model: .*{message}"):
            World(model, (wrong,), "wrong")
