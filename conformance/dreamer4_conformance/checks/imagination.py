"""Checks of imagined trajectories: the bootstrap value of Eq. (10), and the actions whose likelihood Eq. (11) uses."""

from __future__ import annotations

import numpy as np

from dreamer4_conformance.instruments.imagination import Imagined, imagined_trajectory
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.tail_bounds import mean_bound, union_bound

TRAJECTORIES = ("imagined_trajectory",)
ROWS = 64
"""Minimum number of trajectories from which the actions are judged."""
COPY = 64
"""Roundings within which two values count as the same."""


@check("eq10.value", needs=TRAJECTORIES)
def check_bootstrap_is_the_value_of_the_last_state(subject: Subject, trial: Trial) -> None:
    """v_H is the value of the state after the last action, not a copy of v_{H−1}, in at least one trajectory.

    Under A14 "reward" there is no v_H, so that its absence is enough. Exact up to `COPY` roundings.
    """
    imagined = imagined_trajectory(subject, trial.seed)
    if subject.readings["A14"] == "reward":
        trial.fail_unless(
            imagined.value.shape[1] == imagined.action.shape[1], "there must be as many values as rewards"
        )
        return
    copied = imagined.same_values(COPY * subject.eps)
    if copied[:, :-1].all():
        trial.inconclusive("the imagined values do not change from step to step: are the parameters random?")
    sentence = (
        "v_H equals v_{H−1} in every trajectory; it needs to be the value of the state after the last action, or, "
        'under readings = {"A14": "reward"}, to be left out'
    )
    call, values = f"imagined_trajectory({trial.seed})", imagined.value[:, -2:].tolist()
    trial.fail_unless(not copied[:, -1].all(), sentence, call=call, got=values)


@check("eq11.value", needs=TRAJECTORIES, decisions=1)
def check_first_action_is_drawn_from_the_policy(subject: Subject, trial: Trial) -> None:
    """The first action is drawn from π(· | h_0) like the later ones from theirs.

    Statistical, on at least `ROWS` trajectories. Inconclusive if the later actions are not drawn from the policy, for
    example because imagination takes the most likely one.
    """
    batches = [imagined_trajectory(subject, trial.seed)]
    while sum(len(batch.value) for batch in batches) < ROWS:
        batches.append(imagined_trajectory(subject, trial.seed + len(batches)))
    later = [_departure(batch, slice(1, None)) for batch in batches]
    first = [_departure(batch, slice(0, 1)) for batch in batches]
    if _p_value(later) < 1e-6:
        trial.inconclusive("the imagined actions are not drawn from the policy's logits")
    sentence = "the first action is not drawn from the policy at h_0; the later actions are drawn from theirs"
    trial.reject_law(_p_value(first), sentence, call=f"imagined_trajectory({trial.seed})")


Departure = list[tuple[np.ndarray, np.ndarray]]
"""For each action component: 1[a = k] − π(k) for every state and class, (N, A), and its variances."""


def _departure(imagined: Imagined, steps: slice) -> Departure:
    departures = []
    for f, p in enumerate(imagined.probabilities):
        taken = np.eye(p.shape[2])[imagined.action[:, steps, f]]
        chosen = p[:, steps]
        departures.append(((taken - chosen).reshape(-1, p.shape[2]), (chosen * (1 - chosen)).reshape(-1, p.shape[2])))
    return departures


def _p_value(batches: list[Departure]) -> float:
    """Probability of mean departures this large of some class, over all batches (Bernstein)."""
    bounds = []
    for component in zip(*batches, strict=True):
        departure, variance = (np.concatenate(arrays) for arrays in zip(*component, strict=True))
        means = zip(departure.mean(0), variance.mean(0), strict=True)
        bounds += [mean_bound(float(mean), len(departure), float(size), 1.0) for mean, size in means]
    return union_bound(bounds)


@signature("imagined_trajectory")
def signature_copies_and_constant_actions(subject: Subject) -> np.ndarray:
    """Whether the last value is a copy of the one before, and whether the first and the later actions are constant."""

    def probe() -> list[float]:
        imagined = imagined_trajectory(subject, 0)
        first, later = imagined.action[:, 0], imagined.action[:, 1:]
        same = imagined.same_values(COPY * subject.eps)[:, -1].all()
        return [float(same), float((first == first[0]).all()), float((later == later[0, 0]).all())]

    return attempt(probe, 3)
