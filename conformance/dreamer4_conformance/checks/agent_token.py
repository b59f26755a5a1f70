"""Checks of the agent token, which sees and is not seen, and of the heads that read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

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
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.influence_verdicts import fail_unless_influence, fail_unless_mask_follows_reference
from dreamer4_conformance.verdicts import Inconclusive

HEADS = ("mtp_heads", *DYNAMICS)


def agent_output(subject: Subject, trial: Trial, seed: int, batch: int, time: int) -> np.ndarray:
    """The agent's output (B, T, …) on an example. Inconclusive where there is none."""
    found = run_black_box(subject, "dynamics", example_inputs(subject, "dynamics", seed, batch, time))
    if "agent" not in found:
        trial.inconclusive("dynamics returns no agent output")
    return found["agent"]


@check("dyn.agent-firewall", needs=DYNAMICS)
def check_nothing_sees_the_agent_token(subject: Subject, trial: Trial) -> None:
    """The task moves the agent's outputs, and no number of z_hat."""
    agent_output(subject, trial, 0, 1, 1)
    if example_inputs(subject, "dynamics", 0, 1, 1)["task"] is None:
        trial.inconclusive("example has no task, by which the agent token could be changed")
    task = Segment("task")

    def complete(found: Influences) -> bool:
        return bool(found[task].frames("agent").all())

    moved = combined_influences(subject, "dynamics", [task], complete, seed=trial.seed, time=3)[task]
    leaks = np.flatnonzero(moved.frames("z_hat"))
    sentence = f"frame {leaks[0] if leaks.size else ''} of z_hat changes with the task, which only agent tokens hold"
    trial.fail_unless(not leaks.size, sentence, call=call_with(task, 3))
    blind = np.flatnonzero(~moved.frames("agent"))
    sentence = f"the agent's output in frame {blind[0] if blind.size else ''} does not change with the task"
    fail_unless_influence(trial, subject, not blind.size, sentence, call=call_with(task, 3))


@check("dyn.agent-firewall", needs=DYNAMICS)
def check_agent_token_sees_everything_up_to_its_frame(subject: Subject, trial: Trial) -> None:
    """z, both labels and the actions of its frame, and of earlier ones inside the context."""
    agent_output(subject, trial, 0, 1, 1)

    def complete(found: Influences) -> bool:
        return not list(missing_influences(subject, found, "agent", TIME))

    found = combined_influences(
        subject, "dynamics", inputs_of_frames(subject, TIME), complete, seed=trial.seed, time=TIME
    )
    trial.cases += 1
    for part, frame in missing_influences(subject, found, "agent", TIME):
        sentence = f"the agent's output in frame {frame} does not change with {part.path} of frame {part.index[0]}"
        fail_unless_influence(trial, subject, False, sentence, call=call_with(part, TIME))


@check("dyn.agent-firewall", needs=MASK)
def check_mask_hides_agent_tokens_and_nothing_from_them(subject: Subject, trial: Trial) -> None:
    """Within a frame; and of earlier frames none is seen either."""
    names = ("latent", "label", "action", "agent")
    fail_unless_mask_follows_reference(subject, trial, names, ("agent",))


# Eq. (9)


@check("eq09.no-leak", needs=DYNAMICS)
def check_agent_token_does_not_see_the_action_it_predicts(subject: Subject, trial: Trial) -> None:
    """Exact. Block t holds a_{t−1} or a_t (A32), the first label is a_t or a_{t+1} (A17); the action before it is seen."""
    agent_output(subject, trial, 0, 1, 1)
    parts = [Segment(name, (t,)) for t in range(TIME) for name in ("z", "actions")]

    def complete(found: Influences) -> bool:
        return not list(_unseen(subject, found))

    found = combined_influences(subject, "dynamics", parts, complete, seed=trial.seed, time=TIME)
    for part, influence in _acted(found).items():
        block = int(part.index[0])
        leaks = np.flatnonzero(influence.frames("agent")[: max(block - _last_seen(subject), 0)])
        frame = leaks[0] if leaks.size else 0
        sentence = f"the agent's output in frame {frame} changes with the action of block {block}, which it predicts"
        trial.fail_unless(not leaks.size, sentence + _as_declared(subject), call=call_with(part, TIME))
    _undecided_unless_label_could_show(found)
    for part, t in _unseen(subject, found):
        sentence = (
            f"the agent's output in frame {t} does not change with the action of block {part.index[0]}, a_{t - 1}"
        )
        fail_unless_influence(trial, subject, False, sentence + _as_declared(subject), call=call_with(part, TIME))


def _acted(found: Influences) -> Influences:
    return {part: influence for part, influence in found.items() if part.path == "actions"}


def _unseen(subject: Subject, found: Influences) -> Iterator[tuple[Segment, int]]:
    """Actions, and the frame that comes after each, where it does not move: no label is among what led to it."""
    for part, influence in _acted(found).items():
        t = int(part.index[0]) + action_delay(subject, part)
        if t < TIME and not influence.frames("agent")[t]:
            yield part, t


def _undecided_unless_label_could_show(found: Influences) -> None:
    """Inconclusive where the agent token sees nothing that a label could be among: dyn.agent-firewall rejects that."""
    acted = _acted(found)
    if not acted:
        raise Inconclusive("every example has the same actions, or none: whether the agent token sees a label is open")
    frame = any(each.frames("agent")[part.index[0]] for part, each in found.items() if part not in acted)
    action = any(each.frames("agent").any() for each in acted.values())
    unseen = "z of its own frame" if not frame else "any action"
    if not (frame and action):
        raise Inconclusive(f"the agent's output does not change with {unseen}: that it leaks no label says nothing")


def _last_seen(subject: Subject) -> int:
    """h_t may see the action blocks up to t plus this: those before the first that holds a label."""
    nearest = int(subject.readings["A17"] == "1..8")
    return nearest - (subject.readings["A32"] == "current")


def _as_declared(subject: Subject) -> str:
    return f" (A32 = {subject.readings['A32']}, A17 = {subject.readings['A17']})"


# The heads


@check("mtp.heads", needs=HEADS)
def check_every_distance_has_a_layer_of_its_own(subject: Subject, trial: Trial) -> None:
    """As many outputs as A17 has distances (see `_distances`), no two of them equal."""
    agent = agent_output(subject, trial, trial.seed, 2, 3)
    heads = _heads(subject, agent)
    count = _distances(subject, heads.shape[2])
    call = f"mtp_heads(agent of {'x'.join(map(str, agent.shape))})"
    sentence = f"mtp_heads returned {heads.shape[2]} distances; A17 = {subject.readings['A17']} has {count}"
    trial.fail_unless(heads.shape[2] == count, sentence, call=call, got=heads.shape[2], expected=count)
    _undecided_unless_heads_move(_moved_by_frame(subject, trial.seed))
    for n in range(count):
        same = [m for m in range(n) if np.allclose(heads[:, :, n], heads[:, :, m], rtol=8 * subject.eps, atol=0)]
        sentence = f"the heads at distances number {same[0] if same else ''} and {n} of A17 give the same: one layer serves both"
        trial.fail_unless(not same, sentence, call=call)


def _distances(subject: Subject, returned: int) -> int:
    """Distances of A17 with the L of `constants`. Where that is not given, L is taken for the paper's 8 if so many, or one, are returned."""
    from_zero = subject.readings["A17"] == "0..8"
    declared = subject.call("constants") if subject.provides("constants") else None
    if isinstance(declared, Mapping) and "mtp_length" in declared:
        return int(subject.read("constants", declared["mtp_length"], ())) + from_zero
    return 8 + from_zero if returned in (1, 8, 9) else returned


def _undecided_unless_heads_move(moved: np.ndarray) -> None:
    if not moved.any():
        raise Inconclusive("mtp_heads does not change with the agent tokens at all: are its parameters random?")


def _heads(subject: Subject, agent: np.ndarray) -> np.ndarray:
    """(B, T, N, K)."""
    heads = subject.compute("mtp_heads", agent)
    return heads.reshape(*agent.shape[:2], *(heads.shape[2:] if heads.ndim == 4 else (-1, 1)))


@check("mtp.heads", needs=HEADS)
def check_each_head_reads_the_agent_token_of_its_frame(subject: Subject, trial: Trial) -> None:
    """Bit for bit: h_t of one sequence, and neither neighbours in time nor other sequences."""
    agent_output(subject, trial, 0, 1, 1)
    moved = _moved_by_frame(subject, trial.seed)
    _undecided_unless_heads_move(moved)
    call = "mtp_heads(agent), with one frame of another example"
    for t in range(3):
        blind = np.flatnonzero(~moved[t, t])
        sentence = f"the head at distance number {blind[0] if blind.size else ''} of A17 does not change with h_{t} in frame {t}"
        fail_unless_influence(trial, subject, not blind.size, sentence, call=call)
        others = np.delete(moved[t], t, axis=0).any() or moved[3].any()
        trial.fail_unless(not others, f"heads change with h_{t} in another frame or another sequence", call=call)


def _moved_by_frame(subject: Subject, seed: int) -> np.ndarray:
    """bool (4, 3, N): what moves where frame t of sequence t is another, and nothing of sequence 3. Inconclusive where heads do not repeat."""
    base, other = (_agents(subject, seed + shift) for shift in (0, 1009))
    touched = base.copy()
    touched[range(3), range(3)] = other[range(3), range(3)]
    before, after = _heads(subject, base), _heads(subject, touched)
    if not all(np.array_equal(_heads(subject, x), y, equal_nan=True) for x, y in ((base, before), (touched, after))):
        raise Inconclusive("mtp_heads does not give the same twice: nothing can be told from what moves")
    return np.asarray((before != after).any(3))


def _agents(subject: Subject, seed: int) -> np.ndarray:
    return run_black_box(subject, "dynamics", example_inputs(subject, "dynamics", seed, 4, 3))["agent"]


@signature("mtp_heads")
def signature_what_the_heads_read(subject: Subject) -> np.ndarray:
    """Whether heads differ, whether they are those of A17, and what moves with which frame: itself, earlier, later, others."""

    def probe() -> np.ndarray:
        heads, moved = _heads(subject, _agents(subject, 6)), _moved_by_frame(subject, 6)
        differ = [not np.allclose(heads[:, :, 0], heads[:, :, n], rtol=0.02) for n in (1, -1)]
        count = heads.shape[2] == _distances(subject, heads.shape[2])
        own, later, earlier = moved[[0, 1, 2], [0, 1, 2]], moved[0, 1:], moved[2, :2]
        return np.array([*differ, count, own.all(), own.any(), later.any(), earlier.any(), moved[3].any()], float)

    return attempt(probe, 8)
