"""Checks of masked autoencoding: the law of dropped patches, and the embedding that replaces them.

The law is decided on fixed-seed draws. Under A33 = count, p N dropped patches may be rounded up or down. Independence
is judged given the number of patches that each image drops: all sets of that size are then equally likely.
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from dreamer4_conformance.instruments.black_box import REPEATS, combined_influences, example_inputs, influences
from dreamer4_conformance.instruments.gradients import operation_gradients
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.instruments.tokenizer import dropout_masks
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, pattern, signature
from dreamer4_conformance.judging.influence_verdicts import (
    fail_unless_every_number_moves,
    fail_unless_segments_move_their_frame,
    video_numbers,
)
from dreamer4_conformance.judging.strategies import seeds
from dreamer4_conformance.judging.tail_bounds import count_bound, distance_bound, mean_bound, union_bound
from dreamer4_conformance.verdicts import NotProvided
from dreamer4_reference.constants import MAE_MAX
from dreamer4_reference.sec31_patch_dropout import Draw, drop_count_law, replace_dropped

ROWS, TIME = 512, 8
FEW, MANY = 16, 64
"""Patches of an image: few enough for Bernoulli draws to drop all of them, many enough for their number to show p."""
LEAST = 1e-9
"""Smallest variance assumed, so that bounds are defined if every draw is the same."""


def _law(subject: Subject, patches: int) -> np.ndarray:
    """Probabilities (N + 1,) of the number of patches that an image drops under A33."""
    draw: Draw = "count" if subject.readings["A33"] == "count" else "bernoulli"
    return np.asarray(drop_count_law(patches, draw=draw))


def _dropped(subject: Subject, trial: Trial, patches: int) -> tuple[np.ndarray, str]:
    """The masks (B, T, N) of a fixed-seed draw, and the call that returned them."""
    seed = int(trial.rng().integers(2**31))
    return dropout_masks(subject, seed, ROWS, TIME, patches), f"patch_dropout({seed}, {ROWS}, {TIME}, {patches})"


@check("tok.mae-law", needs=("patch_dropout",), decisions=1)
def check_number_of_dropped_patches_follows_its_law(subject: Subject, trial: Trial) -> None:
    """The number of patches that an image drops is distributed as for p ~ U(0, 0.9), over 4096 images of 64 patches.

    Detected with certainty: a largest p of at most 0.8, or of 1.
    """
    dropped, call = _dropped(subject, trial, MANY)
    _reject_law_of_counts(subject, trial, dropped.sum(-1).ravel(), call)


@check("tok.mae-law", needs=("patch_dropout",), decisions=1)
def check_every_seed_draws_its_own_share(subject: Subject, trial: Trial) -> None:
    """Over 512 seeds, the number of patches that one image of the smallest batch drops follows the same law.

    Detected with certainty: a p that is the same for every seed, or none at B = T = 1.
    """
    seeds_drawn = trial.rng().integers(2**31, size=ROWS)
    count = np.array([dropout_masks(subject, int(seed), 1, 1, MANY)[0, 0].sum() for seed in seeds_drawn])
    _reject_law_of_counts(subject, trial, count, f"patch_dropout(seed, {subject.adapter.min_batch}, 1, {MANY})")


def _reject_law_of_counts(subject: Subject, trial: Trial, count: np.ndarray, call: str) -> None:
    """Judge numbers of dropped patches by their distribution function."""
    law = _law(subject, MANY)
    got = np.bincount(count, minlength=MANY + 1) / count.size
    rounding = 1 / (2 * MAE_MAX * MANY) if subject.readings["A33"] == "count" else 0.0
    distance = float(np.abs(np.cumsum(got) - np.cumsum(law)).max())
    bound = distance_bound(max(0.0, distance - rounding), count.size)
    distribution = f"the distribution function of the number of dropped patches of {MANY} is off by {distance:.3g}"
    sentence = f"{distribution} from that for p ~ U(0, {MAE_MAX})"
    trial.reject_law(bound, sentence, call=call, got=got.round(4).tolist(), expected=law.round(4).tolist())


@check("tok.mae-law", needs=("patch_dropout",), decisions=1)
def check_images_drop_all_patches_at_the_expected_rate(subject: Subject, trial: Trial) -> None:
    """No image of 16 patches drops all of them under A33 = count; under A33 = bernoulli a few do, by the law."""
    (dropped, call), share = _dropped(subject, trial, FEW), float(_law(subject, FEW)[-1])
    images, total = int(dropped.all(-1).sum()), ROWS * TIME
    sentence = f"{images} of {total} images drop all of {FEW} patches"
    if subject.readings["A33"] == "count":
        sentence = f"{sentence}; a count of at most {MAE_MAX} N keeps at least one (A33 = count)"
        trial.fail_unless(images == 0, sentence, call=call, got=images, expected=0)
    else:
        sentence = f"{sentence}; drawn patch by patch about {share * total:.0f} do"
        trial.reject_law(count_bound(images, total, share), sentence, call=call, got=images / total, expected=share)


@check("tok.mae-law", needs=("patch_dropout",), decisions=2)
def check_images_draw_their_own_share(subject: Subject, trial: Trial) -> None:
    """The numbers of patches that neighbouring frames, and neighbouring rows, drop are uncorrelated.

    Detected with certainty: a correlation of 0.25.
    """
    dropped, call = _dropped(subject, trial, MANY)
    law, numbers = _law(subject, MANY), np.arange(MANY + 1)
    scores = (numbers - law @ numbers) / np.sqrt(law @ (numbers - law @ numbers) ** 2)
    for name, first, second in _neighbours(scores[dropped.sum(-1)]):
        correlation = float((first * second).mean())
        bound = mean_bound(correlation, first.size, 1.0, float((scores**2).max()))
        sentence = f"the numbers of patches that neighbouring {name} drop are correlated by {correlation:.3g}"
        trial.reject_law(bound, sentence, call=call, got=correlation, expected=0.0)


def _neighbours(x: np.ndarray) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Neighbouring frames and neighbouring rows of x (B, T, …), in disjoint and therefore independent pairs."""
    rows, frames = (size // 2 * 2 for size in x.shape[:2])
    return [("frames", x[:, 0:frames:2], x[:, 1:frames:2]), ("rows", x[0:rows:2], x[1:rows:2])]


@check("tok.mae-law", needs=("patch_dropout",), decisions=2)
def check_images_drop_independent_patches(subject: Subject, trial: Trial) -> None:
    """Neighbouring frames, and rows, drop as many patches in common as independent images with the same numbers do."""
    dropped, call = _dropped(subject, trial, MANY)
    for name, first, second in _neighbours(dropped):
        excess, bound = _common_patches(first.reshape(-1, MANY), second.reshape(-1, MANY))
        sentence = f"neighbouring {name} drop {excess:.3g} patches more in common than independent images"
        trial.reject_law(bound, sentence, call=call, got=excess, expected=0.0)


@check("tok.mae-law", needs=("patch_dropout",), decisions=2)
def check_patches_of_an_image_are_exchangeable(subject: Subject, trial: Trial) -> None:
    """Given how many patches an image drops, all positions are equally likely, and all pairs at any distance."""
    dropped, call = _dropped(subject, trial, MANY)
    for name, excesses in (("patches at position", _by_position), ("pairs of patches at distance", _by_distance)):
        excess, bounds = excesses(dropped)
        worst = int(np.argmax(np.abs(excess)))
        sentence = f"{name} {worst} are dropped in a share of images that is off by {excess[worst]:.3g}"
        expected = [0.0] * len(excess)
        trial.reject_law(union_bound(bounds), sentence, call=call, got=excess.round(4).tolist(), expected=expected)


def _common_patches(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Mean excess of patches dropped in both images, and its bound: hypergeometric, given both numbers."""
    patches = first.shape[1]
    a, b = first.sum(1), second.sum(1)
    excess = float(((first & second).sum(1) - a * b / patches).mean())
    variance = float((a * b * (patches - a) * (patches - b) / patches**2 / (patches - 1)).mean())
    return excess, mean_bound(excess, len(first), max(variance, LEAST), patches)


def _by_position(dropped: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Excess of images that drop a position, compared with the mean over positions (N,), and the bounds."""
    images = dropped.reshape(-1, dropped.shape[-1])
    share = images.mean(1, keepdims=True)
    excess, variance = (images - share).mean(0), max(float((share * (1 - share)).mean()), LEAST)
    return excess, [mean_bound(float(mean), len(images), variance, 1.0) for mean in excess]


def _by_distance(dropped: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Excess of dropped pairs at distances 0 to N/2, as a share of the pairs at that distance, and the bounds."""
    images = dropped.reshape(-1, dropped.shape[-1])
    patches = images.shape[1]
    count = images.sum(1)
    chance = count * (count - 1) / (patches * (patches - 1))
    pairs = [((images[:, d:] & images[:, :-d]).mean(1) - chance).mean() for d in range(1, patches // 2 + 1)]
    # A pair's deviation is at most 1 in size and has mean 0, whatever its variance.
    return np.array([0.0, *pairs]), [mean_bound(float(pair), len(images), 1 / 4, 1.0) for pair in pairs]


@check("tok.mae-law", needs=("patch_dropout",))
def check_patches_follow_their_seed(subject: Subject, trial: Trial) -> None:
    """The same seed drops the same patches of 512 images, another seed drops different ones. Exact."""
    call = f"patch_dropout(7, {ROWS}, 1, {MANY})"
    first, second, changed = (dropout_masks(subject, seed, ROWS, 1, MANY) for seed in (7, 7, 8))
    trial.fail_unless(np.array_equal(first, second), "the same seed drops different patches", call=f"{call}, twice")
    differs, call = not np.array_equal(first, changed), f"{call} and with seed 8"
    trial.fail_unless(differs, "two seeds drop the same patches", call=call)


@check("tok.mae-law", needs=("patch_dropout", "example"), needs_one=("encode", "reconstruct"))
def check_nothing_is_dropped_at_inference(subject: Subject, trial: Trial) -> None:
    """The global random state is seeded differently: encoding and reconstruction of a video do not change. Exact."""
    for operation in filter(subject.provides, ("encode", "reconstruct")):
        _fail_unless_independent_of_random_state(subject, trial, operation)


def _fail_unless_independent_of_random_state(subject: Subject, trial: Trial, operation: str) -> None:
    video = subject.native(example_inputs(subject, operation, 0, 2, 3)["video"])
    outputs = {seed: _output(subject, operation, video, seed) for seed in range(4)}
    same = all(np.array_equal(outputs[0], x, equal_nan=True) for x in outputs.values())
    if not same and not all(_is_repeatable(subject, operation, video, seed, x) for seed, x in outputs.items()):
        trial.inconclusive(f"{operation} is not repeatable at one random state: whether it draws patches is undecided")
    sentence = f"the output of {operation} changes with the global random state: something is drawn at inference"
    call = f"{operation}(example(0, 2, 3)['video']) with different seeds of the global random state"
    trial.fail_unless(same, sentence, call=call)


def _output(subject: Subject, operation: str, video: object, seed: int) -> np.ndarray:
    return subject.read(operation, subject.call(operation, video, seeded=seed))


def _is_repeatable(subject: Subject, operation: str, video: object, seed: int, output: np.ndarray) -> bool:
    repeated = (_output(subject, operation, video, seed) for _ in range(REPEATS))
    return all(np.array_equal(output, x, equal_nan=True) for x in repeated)


@check("tok.mae-embedding", needs=("mae_replace", "encode", "example"))
def check_every_patch_is_encoded_at_inference(subject: Subject, trial: Trial) -> None:
    """No patch is replaced by the embedding: each of some numbers of a frame of the video changes z."""
    fail_unless_every_number_moves(subject, trial, "encode", "z")


@check("tok.mae-embedding", needs=("mae_replace", "reconstruct", "example"))
def check_every_patch_is_reconstructed_from_at_inference(subject: Subject, trial: Trial) -> None:
    """No patch is dropped in the end-to-end pass: each number that changes z changes the reconstruction too.

    Without `encode`, each of some numbers of a frame of the video must change the reconstruction.
    """
    segments = video_numbers(subject, "reconstruct")
    if subject.provides("encode"):
        influencing = combined_influences(subject, "encode", segments, lambda results: True, seed=0, time=2)
        segments = [segment for segment, influence in influencing.items() if influence.frames("z")[-1]]
    if not segments:
        trial.inconclusive("z does not depend on the video at all")
    fail_unless_segments_move_their_frame(subject, trial, "reconstruct", segments, "video")


@check("tok.mae-embedding", needs=("mae_replace",))
def check_dropped_patches_become_the_embedding(subject: Subject, trial: Trial) -> None:
    """Dropped patches become the learned embedding, others keep their token, and so do the gradients of the mean.

    Within one rounding; gradients within one per dropped patch, as half precision may sum them one by one.
    """
    shapes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), st.integers(1, 4))

    def holds(seed: int, shape: tuple[int, int, int, int]) -> None:
        rng = np.random.default_rng(seed)
        tokens, embedding = subject.round(rng.standard_normal(shape)), subject.round(rng.standard_normal(shape[3]))
        mask = rng.random(shape[:3]) < rng.random()
        call = f"mae_replace(tokens of {shape}, {mask.tolist()}, {embedding.tolist()})"
        got = subject.compute("mae_replace", tokens, mask, embedding, shape=shape)
        expected = replace_dropped(tokens, mask, embedding)
        terms = np.abs(tokens) + np.abs(embedding)
        trial.compare("the token of a patch", got, expected, terms=terms, k=1, eps=subject.eps, call=call)
        _compare_gradients(subject, trial, (tokens, mask, embedding), f"gradient of the mean of {call}")

    trial.for_all(seeds(), shapes, body=holds)


def _compare_gradients(
    subject: Subject, trial: Trial, inputs: tuple[np.ndarray, np.ndarray, np.ndarray], call: str
) -> None:
    tokens, mask, embedding = inputs
    try:
        d_tokens, d_embedding = operation_gradients(subject, "mae_replace", (0, 2), *inputs)
    except NotProvided:
        return
    visible = np.broadcast_to(~mask[..., None], tokens.shape) / tokens.size
    dropped = np.full_like(embedding, mask.sum() / tokens.size)
    for name, got, expected in (("the embedding", d_embedding, dropped), ("a token", d_tokens, visible)):
        name, terms = f"the gradient with respect to {name}", 1 / tokens.size + expected
        trial.compare(name, got, expected, terms=terms, k=2 + mask.sum(), eps=subject.eps, call=call)


@signature("patch_dropout", tolerance=0.06)
def signature_law_of_dropped_patches(subject: Subject) -> np.ndarray:
    """Distribution of the number dropped, dependence between and within images, and dependence on the seed."""
    return np.asarray(np.nan_to_num(attempt(lambda: _statistics(subject), 16), nan=-1.0))


def _statistics(subject: Subject) -> np.ndarray:
    dropped = dropout_masks(subject, 1, ROWS, TIME, MANY)
    share = dropped.mean(-1)
    all_dropped = 20 * dropout_masks(subject, 1, ROWS, TIME, FEW).all(-1).mean()
    correlations = [2 * _correlation(x.ravel(), y.ravel()) for _, x, y in _neighbours(share)]
    common = [_common_patches(x.reshape(-1, MANY), y.reshape(-1, MANY))[0] / 4 for _, x, y in _neighbours(dropped)]
    ends = (2 * _by_position(dropped)[0].clip(-1, 1)).take([0, -1])
    distances = 4 * _by_distance(dropped)[0].take([1, MANY // 2])
    first, second, changed = (dropout_masks(subject, seed, 4, 2, MANY) for seed in (1, 1, 2))
    same = [np.array_equal(first, second), np.array_equal(first, changed)]
    alone = np.mean([dropout_masks(subject, seed, 1, 1, MANY)[0, 0] for seed in range(2 * MANY)])
    quantiles = np.quantile(share, [0.1, 0.5, 0.9])
    return np.array(
        [share.mean(), *quantiles, all_dropped, *correlations, *common, *ends, *distances, *same, alone], float
    )


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    """The correlation coefficient; 1 if one of both is constant."""
    return float(np.corrcoef(x, y)[0, 1]) if x.std() * y.std() else 1.0


@signature("mae_replace")
def signature_replaced_tokens(subject: Subject) -> np.ndarray:
    """Tokens of two frames of three patches, and the gradients of their mean."""
    tokens = np.array([[[[1.0, -0.5], [0.25, 2.0], [-1.5, 0.75]], [[0.5, 1.25], [-0.75, -2.0], [1.75, 0.125]]]])
    mask, embedding = np.array([[[True, False, False], [False, True, True]]]), np.array([-0.25, 0.625])

    def gradients() -> np.ndarray:
        results = operation_gradients(subject, "mae_replace", (0, 2), tokens, mask, embedding)
        return 12 * np.concatenate([x.ravel() for x in results])

    values = attempt(lambda: subject.compute("mae_replace", tokens, mask, embedding), tokens.size)
    return np.concatenate([values, attempt(gradients, tokens.size + embedding.size)])


def _draws_at_inference(subject: Subject, operation: str) -> float:
    video = subject.native(example_inputs(subject, operation, 0, 1, 2)["video"])
    first, second = (_output(subject, operation, video, seed) for seed in (0, 1))
    return float(not np.array_equal(first, second))


@signature("encode")
def signature_randomness_of_encode(subject: Subject) -> np.ndarray:
    """Whether z depends on the global random state."""
    return pattern(lambda: _draws_at_inference(subject, "encode"))


@signature("reconstruct")
def signature_randomness_of_reconstruct(subject: Subject) -> np.ndarray:
    """Whether the reconstruction depends on the global random state, and on every one of some numbers of the video."""

    def complete() -> bool:
        results = influences(subject, "reconstruct", video_numbers(subject, "reconstruct"), seed=0, time=2)
        return all(influence.frames("video")[-1] for influence in results)

    return pattern(lambda: _draws_at_inference(subject, "reconstruct"), complete)
