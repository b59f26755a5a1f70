"""Checks of the agent token, which attends to all tokens and is hidden from them, and of the heads on its output."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dreamer4_conformance.instruments.black_box import Segment, combined_influences, example_inputs, run_black_box
from dreamer4_conformance.instruments.dynamics import (
    DYNAMICS,
    MASK,
    TIME,
    Influences,
    action_delay,
    call_with,
    inputs_of_frames,
    missing_influences,
)
from dreamer4_conformance.instruments.heads import declared_length, distances
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.influence_verdicts import fail_unless_influence, fail_unless_mask_follows_reference
from dreamer4_conformance.verdicts import Inconclusive, NotProvided

HEADS = ("mtp_heads", *DYNAMICS)


def agent_output(subject: Subject, trial: Trial, seed: int, batch: int, time: int) -> np.ndarray:
    """The agent's output (B, T, …) for an example. Inconclusive if dynamics returns none, or the same for all rows."""
    outputs = run_black_box(subject, "dynamics", example_inputs(subject, "dynamics", seed, batch, time))
    if "agent" not in outputs:
        trial.inconclusive("dynamics returns no agent output")
    if (outputs["agent"] == outputs["agent"][:1]).all():
        trial.inconclusive("the agent's output does not depend on any input: are all parameters random?")
    return outputs["agent"]


@check("dyn.agent-firewall", needs=DYNAMICS)
def check_no_token_attends_to_the_agent_token(subject: Subject, trial: Trial) -> None:
    """The task, which only agent tokens hold, is replaced: z_hat does not change, the agent's outputs do. Exact.

    Without tasks the mask decides, if there is one.
    """
    agent_output(subject, trial, 0, 4, 3)
    if example_inputs(subject, "dynamics", 0, 2, 3)["task"] is None:
        reason = "example has no task, the only input that changes the agent token alone"
        raise NotProvided(reason) if subject.provides("modality_mask") else Inconclusive(reason)
    task = Segment("task")

    def complete(results: Influences) -> bool:
        return bool(results[task].frames("agent").all())

    influence = combined_influences(subject, "dynamics", [task], complete, seed=trial.seed, time=3)[task]
    leaks, missing = np.flatnonzero(influence.frames("z_hat")), np.flatnonzero(~influence.frames("agent"))
    sentence = f"frame {leaks[:1].sum()} of z_hat changes with the task, which only agent tokens hold"
    trial.fail_unless(not leaks.size, sentence, call=call_with(task, 3))
    sentence = f"the agent's output in frame {missing[:1].sum()} does not change with the task"
    fail_unless_influence(trial, subject, not missing.size, sentence, call=call_with(task, 3))


@check("dyn.agent-firewall", needs=DYNAMICS)
def check_agent_token_depends_on_all_inputs_up_to_its_frame(subject: Subject, trial: Trial) -> None:
    """z, τ, d or the actions of a frame are replaced: the agent's outputs of it and of later frames must change.

    Later frames are those inside the context.
    """
    agent_output(subject, trial, 0, 4, 3)
    segments = inputs_of_frames(subject, TIME)

    def complete(results: Influences) -> bool:
        return not list(missing_influences(subject, results, "agent", TIME))

    results = combined_influences(subject, "dynamics", segments, complete, seed=trial.seed, time=TIME)
    trial.cases += 1
    for segment, frame in missing_influences(subject, results, "agent", TIME):
        source = f"{segment.path} of frame {segment.index[0]}"
        sentence = f"the agent's output in frame {frame} does not change with {source}"
        fail_unless_influence(trial, subject, False, sentence, call=call_with(segment, TIME))


@check("dyn.agent-firewall", needs_one=MASK)
def check_mask_hides_the_agent_token_and_nothing_from_it(subject: Subject, trial: Trial) -> None:
    """Agent tokens attend to all tokens of their frame; no token of it or of a later frame attends to them. Exact."""
    fail_unless_mask_follows_reference(subject, trial, ("latent", "label", "action", "agent"), ("agent",))


# Eq. (9)


@check("eq09.no-leak", needs=DYNAMICS)
def check_agent_token_does_not_depend_on_the_action_it_predicts(subject: Subject, trial: Trial) -> None:
    """An action is replaced: h_t does not change with its first label or a later action, and changes with a_{t−1}.

    Exact. Block t holds a_{t−1} or a_t (A32); the first label is a_t or a_{t+1} (A17).
    """
    agent_output(subject, trial, 0, 4, 3)
    segments = [Segment(name, (t,)) for t in range(TIME) for name in ("z", "actions")]

    def complete(results: Influences) -> bool:
        return not list(_missing_actions(subject, results))

    results = combined_influences(subject, "dynamics", segments, complete, seed=trial.seed, time=TIME)
    for segment, influence in _of_actions(results).items():
        block, call = int(segment.index[0]), call_with(segment, TIME)
        leaks = np.flatnonzero(influence.frames("agent")[: max(block - _last_visible_block(subject), 0)])
        changes = f"the agent's output in frame {leaks[:1].sum()} changes with the action of block {block}"
        trial.fail_unless(not leaks.size, f"{changes}, which it predicts{_readings(subject)}", call=call)
    _undecided_unless_a_leak_could_show(results)
    for segment, t in _missing_actions(subject, results):
        action = f"the action of block {segment.index[0]}, a_{t - 1}{_readings(subject)}"
        sentence = f"the agent's output in frame {t} does not change with {action}"
        fail_unless_influence(trial, subject, False, sentence, call=call_with(segment, TIME))


def _of_actions(results: Influences) -> Influences:
    return {segment: influence for segment, influence in results.items() if segment.path == "actions"}


def _missing_actions(subject: Subject, results: Influences) -> Iterator[tuple[Segment, int]]:
    """Actions, and the frame t that each leads to, for which h_t does not change: none of its labels holds them."""
    for segment, influence in _of_actions(results).items():
        t = int(segment.index[0]) + action_delay(subject, segment)
        if 0 < t < TIME and not influence.frames("agent")[t]:
            yield segment, t


def _undecided_unless_a_leak_could_show(results: Influences) -> None:
    """Inconclusive if the agent token ignores z of its frame or all actions, which dyn.agent-firewall rejects."""
    actions = _of_actions(results)
    if not actions:
        raise Inconclusive("every example has the same actions, or none: a leak of a label cannot be observed")
    z = any(influence.frames("agent")[s.index[0]] for s, influence in results.items() if s not in actions)
    action = any(influence.frames("agent").any() for influence in actions.values())
    missing = "any action" if z else "z of its own frame"
    if not (z and action):
        raise Inconclusive(f"the agent's output does not change with {missing}: the absence of a leak shows nothing")


def _last_visible_block(subject: Subject) -> int:
    """The last action block that h_t may depend on, relative to t: the one before the first that holds a label."""
    nearest = int(subject.readings["A17"] == "1..8")
    return nearest - (subject.readings["A32"] == "current")


def _readings(subject: Subject) -> str:
    return f" (A32 = {subject.readings['A32']}, A17 = {subject.readings['A17']})"


# The heads


@check("mtp.heads", needs=HEADS)
def check_every_distance_has_its_own_layer(subject: Subject, trial: Trial) -> None:
    """The heads return one output per distance of A17, see `_counts`, and each has a layer of its own.

    No two outputs are equal up to a factor and a constant, as those of one layer with other scales or biases are.
    """
    agent = agent_output(subject, trial, trial.seed, 2, 3)
    heads = _heads(subject, agent)
    counts, call = _counts(subject, heads.shape[2]), f"mtp_heads(agent of {'x'.join(map(str, agent.shape))})"
    sentence = (
        f"mtp_heads returned {heads.shape[2]} distances; {_declared(subject)} has {' or '.join(map(str, counts))}"
    )
    trial.fail_unless(heads.shape[2] in counts, sentence, call=call, got=heads.shape[2], expected=counts[0])
    _undecided_unless_heads_depend_on_agent(_moved_by_frame(subject, trial.seed))
    for n in range(heads.shape[2]):
        equal = [m for m in range(n) if _of_one_layer(heads[:, :, m], heads[:, :, n], subject.eps)]
        relation = "are equal up to a factor and a constant; each needs its own layer"
        sentence = f"the heads of A17's distances number {sum(equal[:1])} and {n} {relation}"
        trial.fail_unless(not equal, sentence, call=call)


def _of_one_layer(first: np.ndarray, second: np.ndarray, eps: float) -> bool:
    """Whether second = factor · first + constant of each class, over all positions (B, T, K), within rounding."""
    x, y = (head - head.mean((0, 1)) for head in (first, second))
    size = float((x**2).sum())
    factor = float((x * y).sum()) / size if size else 0.0
    rounding = 8 * eps * (abs(factor) * np.linalg.norm(first) + np.linalg.norm(second))
    # Outputs that hardly change are judged by whether they depend on the agent token.
    return bool(np.linalg.norm(y) > 4 * rounding and np.linalg.norm(y - factor * x) <= rounding)


def _counts(subject: Subject, returned: int) -> list[int]:
    """Numbers of A17's distances, for actions and for rewards, for the L of `constants`.

    Without it L is the paper's 8 if the number of distances that is returned is 1, 8 or 9, else as returned.
    """
    length = declared_length(subject)
    if length is None and returned not in (1, 8, 9):
        return [returned]
    counts = [len(distances(subject, 8 if length is None else length, kind)) for kind in ("actions", "rewards")]
    return list(dict.fromkeys(counts))


def _declared(subject: Subject) -> str:
    """A17 and A17.rewards as declared, for a message."""
    rewards = subject.readings["A17.rewards"]
    return f"A17 = {subject.readings['A17']}" + ("" if rewards == "same" else f", A17.rewards = {rewards}")


def _undecided_unless_heads_depend_on_agent(moved: np.ndarray) -> None:
    if not moved.any():
        raise Inconclusive("mtp_heads does not change with the agent tokens at all: are its parameters random?")


def _heads(subject: Subject, agent: np.ndarray) -> np.ndarray:
    """Outputs of `mtp_heads`, (B, T, N, K)."""
    heads = subject.compute("mtp_heads", agent)
    return heads.reshape(*agent.shape[:2], *(heads.shape[2:] if heads.ndim == 4 else (-1, 1)))


@check("mtp.heads", needs=HEADS)
def check_each_head_depends_on_the_agent_token_of_its_frame_only(subject: Subject, trial: Trial) -> None:
    """h_t of one sequence is replaced: every head of that frame changes, no other frame or sequence does. Exact."""
    agent_output(subject, trial, 0, 4, 3)
    moved = _moved_by_frame(subject, trial.seed)
    _undecided_unless_heads_depend_on_agent(moved)
    call = "mtp_heads(agent), with one frame of another example"
    for t in range(3):
        missing = np.flatnonzero(~moved[t, t])
        sentence = f"the head of A17's distance number {missing[:1].sum()} does not change with h_{t} in frame {t}"
        fail_unless_influence(trial, subject, not missing.size, sentence, call=call)
        leaks = np.delete(moved[t], t, axis=0).any() or moved[3].any()
        trial.fail_unless(not leaks, f"heads change with h_{t} in another frame or another sequence", call=call)


def _moved_by_frame(subject: Subject, seed: int) -> np.ndarray:
    """bool (4, 3, N): which heads change when frame t of sequence t is replaced and sequence 3 is not.

    Inconclusive if `mtp_heads` is not repeatable.
    """
    base, donor = (_agents(subject, seed + shift) for shift in (0, 1009))
    replaced = base.copy()
    replaced[range(3), range(3)] = donor[range(3), range(3)]
    before, after = _heads(subject, base), _heads(subject, replaced)
    if not all(np.array_equal(_heads(subject, x), y, equal_nan=True) for x, y in ((base, before), (replaced, after))):
        raise Inconclusive("mtp_heads is not repeatable: its influences cannot be observed")
    return np.asarray((before != after).any(3))


def _agents(subject: Subject, seed: int) -> np.ndarray:
    return run_black_box(subject, "dynamics", example_inputs(subject, "dynamics", seed, 4, 3))["agent"]


@signature("mtp_heads")
def signature_inputs_of_the_heads(subject: Subject) -> np.ndarray:
    """Whether heads share a layer and are as many as the distances; which change with their own and other frames."""

    def probe() -> np.ndarray:
        heads, moved = _heads(subject, _agents(subject, 6)), _moved_by_frame(subject, 6)
        equal = np.allclose(heads[:, :, 0], heads[:, :, -1], rtol=0.02)
        proportional = np.linalg.matrix_rank(np.stack([heads[:, :, n].ravel() for n in (0, -1)]), rtol=2**-10) < 2
        shared = [_of_one_layer(heads[:, :, 0], heads[:, :, n], 2**-10) for n in (1, -1)]
        count = heads.shape[2] in _counts(subject, heads.shape[2])
        own, later, earlier = moved[[0, 1, 2], [0, 1, 2]], moved[0, 1:], moved[2, :2]
        return np.array(
            [*shared, equal, proportional, count, own.all(), own.any(), later.any(), earlier.any(), moved[3].any()],
            float,
        )

    return attempt(probe, 10)
