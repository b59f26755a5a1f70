"""Checks of the batches of a training run: their lengths, separate images, and relevant sequences.

Plans may be random or fixed. Random shares are judged statistically, on one plan of `STEPS` steps; fixed shares may be
rounded in each batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby, pairwise

import numpy as np

from dreamer4_conformance.instruments.black_box import Influence, Segment, combined_influences, influences
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.instruments.training import Plan, batch_lengths, marked_sequences, training_plan
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.tail_bounds import count_bound
from dreamer4_reference.algorithm1_training import rounded_share
from dreamer4_reference.constants import IMAGE_SHARE, RELEVANT_SHARE

STEPS = 1024
LENGTHS = 3
"""Lengths of batches, the most frequent ones, in each of which the share of images is judged."""
RARE = 16
"""Factor on `STEPS` if a plan has no long batch before its end: one long batch in 600 is then certain to occur."""
END = STEPS // 64
"""Minimum number of long batches at the end of a plan. At one in two, 16 in a row occur in 1 of 65,536 plans."""
PERIODS = 4
"""Equal periods of a run, each of which needs the shares."""
FEW = 3
"""Batch size up to which 30 % of the videos may be rounded to none."""


def long_batches(frames: np.ndarray) -> tuple[np.ndarray, int]:
    """Mask (steps,) of the batches of the largest length, and the first step after which all batches are long."""
    long = frames == frames.max()
    short = np.flatnonzero(~long)
    return long, int(short[-1]) + 1 if short.size else 0


@check("train.batch-lengths", needs=("training_plan",), decisions=1 + PERIODS)
def check_short_and_long_batches_alternate_before_a_long_end(subject: Subject, trial: Trial) -> None:
    """Most batches are short, in each of `PERIODS` periods before the end, some are long, and the last 1/64 all are.

    Before that end, one long batch in 600 is detected with certainty, and a period with long batches only.
    """
    call = f"training_plan({trial.seed}, {STEPS})"
    frames = batch_lengths(subject, training_plan(subject, trial.seed, STEPS))
    long, end = long_batches(frames)
    sentence = f"every batch has {frames[0]} frames; it needs many short and occasional long batches"
    trial.fail_unless(end > 0, sentence, call=call)
    sentence = f"the last {STEPS - end} of {STEPS} batches are long; it needs at least {END} long batches at the end"
    trial.fail_unless(STEPS - end >= END, sentence, call=call, got=frames.tolist())
    mixed, share = long[:end], float(long[:end].mean())
    if not mixed.any():
        extended, extended_end = long_batches(batch_lengths(subject, training_plan(subject, trial.seed, RARE * STEPS)))
        sentence = "all batches before the end are short; it needs an occasional long batch"
        trial.fail_unless(extended[:extended_end].any(), sentence, call=f"training_plan({trial.seed}, {RARE * STEPS})")
    sentence = f"{share:.0%} of the batches before the last {STEPS - end} are long; most need to be short"
    trial.reject_law(_mostly_short(mixed), sentence, call=call, got=frames.tolist())
    for first, last in pairwise(np.linspace(0, end, PERIODS + 1).astype(int)):
        sentence = f"{mixed[first:last].mean():.0%} of batches {first} to {last - 1} are long; most need to be short"
        trial.reject_law(_mostly_short(mixed[first:last]), sentence, call=call, got=frames.tolist())


def _mostly_short(long: np.ndarray) -> float:
    """Bound of the probability of as many long batches if at most every second one is drawn as long."""
    count = int(long.sum())
    return count_bound(count, long.size, 0.5) if 2 * count > long.size else 1.0


@check("train.batch-lengths", needs=("training_plan",))
def check_long_batches_exceed_the_context(subject: Subject, trial: Trial) -> None:
    """The longest batches have more frames than the context, T2 > C, with C counted as A30 declares. Exact."""
    context, call = subject.adapter.context_frames, f"training_plan({trial.seed}, {STEPS})"
    longest = int(batch_lengths(subject, training_plan(subject, trial.seed, STEPS)).max())
    if context is None:
        trial.inconclusive("context_frames is None: without a window no batch is longer than the context")
    sentence = f"the longest batches have {longest} frames; it needs more than context_frames = {context}"
    trial.fail_unless(longest > context, sentence, call=call, got=longest)


@check("train.images", needs=("training_plan",), decisions=2 + PERIODS + LENGTHS)
def check_three_in_ten_videos_of_a_batch_are_images(subject: Subject, trial: Trial) -> None:
    """30 % of the videos of each batch are separate images, in each of `PERIODS` periods, in short and in long batches.

    If drawn per video in batches of eight, a share off by 0.04 over the run, or by 0.08 in a period, is detected with
    certainty.
    """
    plan = training_plan(subject, trial.seed, STEPS)
    rows = marked_sequences(subject, plan, "image")
    if not any(row.any() for row in rows) and max(map(len, rows)) <= FEW:
        trial.inconclusive(f"no batch has more than {FEW} videos: 30 % of them may be rounded to none")
    _judge_share(trial, rows, IMAGE_SHARE, "videos are separate images")
    for frames, selected in _by_length(subject, plan):
        predicate = f"videos in batches of {frames} frames are separate images"
        _judge_selection(trial, selected, IMAGE_SHARE, predicate)
    if not _within_rounding(rows, IMAGE_SHARE):
        count = sum(bool(row.all()) for row in rows)
        chance = float(np.mean([IMAGE_SHARE ** len(row) for row in rows]))
        p_value = count_bound(count, len(rows), chance) if count > chance * len(rows) else 1.0
        sentence = f"{count} of {len(rows)} batches have only images; it needs 30 % of the videos of each batch"
        trial.reject_law(p_value, sentence, call=f"training_plan({trial.seed}, {STEPS})")


@check("train.data-mixture", needs=("training_plan",), decisions=1 + PERIODS)
def check_half_of_the_sequences_are_relevant(subject: Subject, trial: Trial) -> None:
    """50 % of the sequences are relevant, in each batch or over all batches of each of `PERIODS` periods.

    If drawn per sequence in batches of eight, a share off by 0.04 over the run, or by 0.08 in a period, is
    certain to be detected.
    """
    rows = marked_sequences(subject, training_plan(subject, trial.seed, STEPS), "relevant")
    # If every batch has sequences of one kind only, the kind is drawn per batch.
    per_batch = all(row.all() or not row.any() for row in rows)
    _judge_share(trial, [row[:1] for row in rows] if per_batch else rows, RELEVANT_SHARE, "sequences are relevant")


def _by_length(subject: Subject, plan: Plan) -> list[tuple[int, list[np.ndarray]]]:
    """Flags of the batches of each length, for the `LENGTHS` most frequent lengths; empty without lengths."""
    frames = np.array([int(step["length"]) if "length" in step and "image" in step else 0 for step in plan])
    lengths, counts = np.unique(frames[frames > 0], return_counts=True)
    most_frequent = sorted(lengths[np.argsort(-counts, kind="stable")][:LENGTHS].tolist())
    by_length = ([plan[int(i)] for i in np.flatnonzero(frames == length)] for length in most_frequent)
    return [(n, marked_sequences(subject, steps, "image")) for n, steps in zip(most_frequent, by_length, strict=True)]


def _judge_share(trial: Trial, rows: list[np.ndarray], share: float, predicate: str) -> None:
    """Judge the share over the run and in each period."""
    _judge_selection(trial, rows, share, predicate)
    for first, last in pairwise(np.linspace(0, len(rows), PERIODS + 1).astype(int)):
        _judge_selection(trial, rows[first:last], share, f"{predicate} in batches {first} to {last - 1}")


def _judge_selection(trial: Trial, rows: list[np.ndarray], share: float, predicate: str) -> None:
    """Judge the share of some batches statistically, unless every one of them has it up to rounding."""
    count, total = int(sum(row.sum() for row in rows)), int(sum(map(len, rows)))
    if not total:
        return
    p_value = 1.0 if _within_rounding(rows, share) else count_bound(count, total, share)
    sentence = f"{count / total:.1%} of the {predicate}; it needs {share:.0%}"
    call = f"training_plan({trial.seed}, {STEPS})"
    trial.reject_law(p_value, sentence, call=call, got=count / total, expected=share)


def _within_rounding(rows: list[np.ndarray], share: float) -> bool:
    """Whether every batch has its share rounded down or up, and more than half of the rows are not alone in a batch."""
    allowed = [rounded_share(len(row), share) for row in rows]
    exact = all(low <= int(row.sum()) <= high for row, (low, high) in zip(rows, allowed, strict=True))
    single = sum(len(row) for row in rows if len(row) == 1)
    return exact and any(row.any() for row in rows) and 2 * single < sum(map(len, rows))


TIME = 3


@check("train.images", needs=("example", "image_dynamics"))
def check_separate_images_are_independent(subject: Subject, trial: Trial) -> None:
    """Replacing z of one image changes z_hat at that image and at no other. Exact, under both readings of A37."""
    images = [Segment("z", (frame,)) for frame in range(TIME)]
    own = combined_influences(subject, "image_dynamics", images, _all_change_own_frame, seed=0, time=TIME)
    if not _all_change_own_frame(own):
        trial.inconclusive("image_dynamics does not change with z, so influences between images cannot be detected")
    for seed in range(1, 4):
        for influence in influences(subject, "image_dynamics", images, seed=seed, time=TIME):
            changed = [int(t) for t in np.flatnonzero(influence.frames("z_hat")) if t != influence.segment.index[0]]
            sentence = f"z_hat of images {changed} changes with {influence.segment}; images must be independent"
            trial.fail_unless(not changed, sentence, call=f"image_dynamics(**example({seed}, …, {TIME}))")


def _all_change_own_frame(observed: Mapping[Segment, Influence]) -> bool:
    return all(influence.frames("z_hat")[segment.index[0]] for segment, influence in observed.items())


@signature("training_plan", tolerance=0.06)
def signature_composition_of_batches(subject: Subject) -> np.ndarray:
    """Shares of long batches, of marked sequences and of batches with marked sequences only, and the long end."""
    return attempt(lambda: _statistics(subject), 12)


def _statistics(subject: Subject) -> list[float]:
    plan = training_plan(subject, 0, STEPS)
    frames = batch_lengths(subject, plan)
    long, end = long_batches(frames)
    context = subject.adapter.context_frames
    runs = [len(list(group)) for is_long, group in groupby(long) if is_long]
    shares: list[float] = []
    for key in ("image", "relevant"):
        rows = marked_sequences(subject, plan, key)
        shares += [4 * float(np.concatenate(rows).mean()), 4 * float(np.mean([row.all() for row in rows]))]
        shares += [4 * float(np.concatenate(half).mean()) for half in (rows[: len(rows) // 2], rows[: len(rows) // 8])]
    exceeds = context is None or frames.max() > context or not end
    long_share = float(long[:end].mean()) if end else 1.0
    return [4 * long_share, 4 * (1 - end / STEPS), 4 * max(runs) / STEPS, float(exceeds), *shares]


@signature("image_dynamics")
def signature_influence_between_images(subject: Subject) -> np.ndarray:
    """Whether the first image changes the output at each of three."""

    def probe() -> np.ndarray:
        influence = influences(subject, "image_dynamics", [Segment("z", (0,))], seed=0, time=TIME)[0]
        return influence.frames("z_hat").astype(np.float64)

    return attempt(probe, TIME)
