"""Checks of what the batches of a run consist of: lengths, separate images, relevant sequences.

Plans may be drawn or fixed. What is drawn is decided by laws, on one plan of `STEPS` steps; what is fixed may round a share of a small batch.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np

from dreamer4_conformance.instruments.black_box import Segment, combined_influences, influences
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.instruments.training import batch_lengths, marked_sequences, training_plan
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.tail_bounds import count_bound
from dreamer4_reference.algorithm1_training import rounded_share
from dreamer4_reference.constants import IMAGE_FRACTION, RELEVANT_FRACTION

STEPS = 1024
RARE = 16
"""Times as many steps of a plan in which no long batch was seen at first: one in 600 is then found with certainty."""
END = STEPS // 64
"""Steps at the end of a plan in which only long batches come, at least: by chance, at one in two, 16 in a row are 1 in 65,536 plans."""
FEW = 3
"""Videos of a batch of which 30 % may be rounded to none."""


def long_batches(frames: np.ndarray) -> tuple[np.ndarray, int]:
    """Which batches are of the largest length, and at which step only those begin to come."""
    long = frames == frames.max()
    short = np.flatnonzero(~long)
    return long, int(short[-1]) + 1 if short.size else 0


@check("train.batch-lengths", needs=("training_plan",), decisions=1)
def check_short_batches_alternate_with_long_ones_before_long_ones_alone(subject: Subject, trial: Trial) -> None:
    """Short ones are in the majority, long ones occur (one in 600 is found), and the last sixty-fourth is long alone."""
    call = f"training_plan({trial.seed}, {STEPS})"
    frames = batch_lengths(subject, training_plan(subject, trial.seed, STEPS))
    long, alone = long_batches(frames)
    trial.fail_unless(
        alone > 0, f"every batch has {frames[0]} frames; it needs many short ones, and occasional long ones", call=call
    )
    sentence = f"the last {STEPS - alone} of {STEPS} batches are long; it needs long ones alone at the end, for {END} steps at least"
    trial.fail_unless(STEPS - alone >= END, sentence, call=call, got=frames.tolist())
    mixed, share = long[:alone], float(long[:alone].mean())
    if not mixed.any():
        more = long_batches(batch_lengths(subject, training_plan(subject, trial.seed, RARE * STEPS)))
        sentence = "no long batch comes among the short ones; it needs an occasional one"
        trial.fail_unless(more[0][: more[1]].any(), sentence, call=f"training_plan({trial.seed}, {RARE * STEPS})")
    p_value = count_bound(int(mixed.sum()), mixed.size, 0.5) if share > 0.5 else 1.0
    sentence = f"{share:.0%} of the batches before the last {STEPS - alone} are long; it needs many short, and occasional long ones"
    trial.reject_law(p_value, sentence, call=call, got=frames.tolist())


@check("train.batch-lengths", needs=("training_plan",))
def check_long_batches_exceed_the_context(subject: Subject, trial: Trial) -> None:
    """Exact: T2 > C, as A30 counts C."""
    context, longest = (
        subject.adapter.context_frames,
        int(batch_lengths(subject, training_plan(subject, trial.seed, STEPS)).max()),
    )
    if context is None:
        trial.inconclusive("context_frames is None: no batch is longer than a context without a window")
    sentence = f"the longest batches have {longest} frames; it needs more than the context's {context}"
    trial.fail_unless(longest > context, sentence, call=f"training_plan({trial.seed}, {STEPS})", got=longest)


@check("train.images", needs=("training_plan",), decisions=2)
def check_three_in_ten_videos_of_a_batch_are_images(subject: Subject, trial: Trial) -> None:
    """Drawn video by video, a share off by 0.04 is found with certainty in batches of eight."""
    rows = marked_sequences(subject, training_plan(subject, trial.seed, STEPS), "image")
    if not any(row.any() for row in rows) and max(map(len, rows)) <= FEW:
        trial.inconclusive(f"no batch has more than {FEW} videos: 30 % of them may be rounded to none")
    _judge_share(trial, rows, IMAGE_FRACTION, "videos", "separate images")
    if not _within_rounding(rows, IMAGE_FRACTION):
        whole, chance = (
            sum(bool(row.all()) for row in rows),
            float(np.mean([IMAGE_FRACTION ** len(row) for row in rows])),
        )
        p_value = count_bound(whole, len(rows), chance) if whole > chance * len(rows) else 1.0
        sentence = f"{whole} of {len(rows)} batches consist of images alone; it needs 30 % of the videos of each batch"
        trial.reject_law(p_value, sentence, call=f"training_plan({trial.seed}, {STEPS})")


@check("train.data-mixture", needs=("training_plan",), decisions=1)
def check_half_of_the_sequences_are_relevant(subject: Subject, trial: Trial) -> None:
    """In each batch or over all of them. Drawn one by one, a share off by 0.04 is found with certainty in batches of eight."""
    rows = marked_sequences(subject, training_plan(subject, trial.seed, STEPS), "relevant")
    # Batches that are of one kind each are drawn as wholes.
    alike = all(row.all() or not row.any() for row in rows)
    _judge_share(trial, [row[:1] for row in rows] if alike else rows, RELEVANT_FRACTION, "sequences", "relevant")


def _judge_share(trial: Trial, rows: list[np.ndarray], share: float, of: str, what: str) -> None:
    """By law, unless every batch has the share itself, rounded."""
    count, total = int(sum(row.sum() for row in rows)), int(sum(map(len, rows)))
    p_value = 1.0 if _within_rounding(rows, share) else count_bound(count, total, share)
    sentence = f"{count / total:.1%} of the {of} are {what}; it needs {share:.0%}"
    call = f"training_plan({trial.seed}, {STEPS})"
    trial.reject_law(p_value, sentence, call=call, got=count / total, expected=share)


def _within_rounding(rows: list[np.ndarray], share: float) -> bool:
    """Whether every batch has the whole number below or above its share, and rounding does not decide by itself."""
    allowed = [rounded_share(len(row), share) for row in rows]
    exact = all(low <= int(row.sum()) <= high for row, (low, high) in zip(rows, allowed, strict=True))
    alone = sum(len(row) for row in rows if len(row) == 1)
    return exact and any(row.any() for row in rows) and 2 * alone < sum(map(len, rows))


TIME = 3


@check("train.images", needs=("example", "image_dynamics"))
def check_an_image_is_seen_by_no_other(subject: Subject, trial: Trial) -> None:
    """Exact, under both readings of A37: what one frame holds moves the output at that frame alone."""
    parts = [Segment("z", (frame,)) for frame in range(TIME)]
    found = combined_influences(
        subject, "image_dynamics", parts, lambda seen: _each_moves_its_own(seen.values()), seed=0, time=TIME
    )
    if not _each_moves_its_own(found.values()):
        trial.inconclusive("image_dynamics does not change with z: whether frames see each other cannot be seen")
    for seed in range(1, 4):
        for each in influences(subject, "image_dynamics", parts, seed=seed, time=TIME):
            frame = each.segment.index[0]
            others = [other for other in np.flatnonzero(each.frames("z_hat")) if other != frame]
            sentence = f"frame {others[:1]} of z_hat changes with {each.segment}: the frames of a separate image see each other"
            trial.fail_unless(not others, sentence, call=f"image_dynamics(**example({seed}, …, {TIME}))")


def _each_moves_its_own(found: Any) -> bool:
    return all(each.frames("z_hat")[each.segment.index[0]] for each in found)


@signature("training_plan", tolerance=0.06)
def signature_what_batches_consist_of(subject: Subject) -> np.ndarray:
    """Shares of long, marked and whole batches, and the length of the end."""
    return attempt(lambda: _statistics(subject), 8)


def _statistics(subject: Subject) -> list[float]:
    planned = training_plan(subject, 0, STEPS)
    frames = batch_lengths(subject, planned)
    long, alone = long_batches(frames)
    context = subject.adapter.context_frames
    runs = [len(list(group)) for is_long, group in groupby(long) if is_long]
    shares = [
        value
        for key in ("image", "relevant")
        for rows in [marked_sequences(subject, planned, key)]
        for value in (4 * float(np.concatenate(rows).mean()), 4 * float(np.mean([row.all() for row in rows])))
    ]
    exceeds = context is None or frames.max() > context or not alone
    among_short = float(long[:alone].mean()) if alone else 1.0
    return [4 * among_short, 4 * (1 - alone / STEPS), 4 * max(runs) / STEPS, float(exceeds), *shares]


@signature("image_dynamics")
def signature_what_images_see(subject: Subject) -> np.ndarray:
    """Whether the first frame moves each of three."""

    def probe() -> np.ndarray:
        found = influences(subject, "image_dynamics", [Segment("z", (0,))], seed=0, time=TIME)
        return found[0].frames("z_hat").astype(np.float64)

    return attempt(probe, TIME)
