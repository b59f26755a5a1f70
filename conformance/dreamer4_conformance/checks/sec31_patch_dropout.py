"""Checks of masked autoencoding: which patches are dropped, and what stands in their place.

The law is decided on fixed-seed draws. Under A33 "count" rounding is open: pN dropped patches may be rounded up or down. What is independent is
judged given how many patches each image drops, since then every set of that size is as likely as another.
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from dreamer4_conformance.instruments.black_box import REPEATS, example_inputs
from dreamer4_conformance.instruments.gradients import operation_gradients
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.instruments.tokenizer import dropout_masks
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.influence_verdicts import fail_unless_every_position_moves_z
from dreamer4_conformance.judging.strategies import seeds
from dreamer4_conformance.judging.tail_bounds import count_bound, distance_bound, mean_bound, union_bound
from dreamer4_conformance.verdicts import NotProvided
from dreamer4_reference.constants import MAE_MAX
from dreamer4_reference.sec31_patch_dropout import Draw, drop_count_law, replace_dropped

ROWS, TIME = 512, 8
FEW, MANY = 16, 64
"""Patches of an image: so few that Bernoulli draws may drop them all, and so many that their number shows p."""


LEAST = 1e-9
"""Variance that is assumed where none was seen, which leaves the bounds defined."""


def _seed(trial: Trial) -> int:
    return int(trial.rng().integers(2**31))


def _law(subject: Subject, patches: int) -> np.ndarray:
    """Probabilities (N + 1,) of the number of patches that an image drops."""
    draw: Draw = "count" if subject.readings["A33"] == "count" else "bernoulli"
    return np.asarray(drop_count_law(patches, draw=draw))


@check("tok.mae-law", needs=("patch_dropout",), decisions=1)
def check_number_of_dropped_patches_follows_its_law(subject: Subject, trial: Trial) -> None:
    """Found with certainty: a largest p of 0.8 or less, or of 1."""
    seed, law = _seed(trial), _law(subject, MANY)
    count = dropout_masks(subject, seed, ROWS, TIME, MANY).sum(-1).ravel()
    got = np.bincount(count, minlength=MANY + 1) / count.size
    open_to_rounding = 1 / (2 * MAE_MAX * MANY) if subject.readings["A33"] == "count" else 0.0
    distance = float(np.abs(np.cumsum(got) - np.cumsum(law)).max())
    bound = distance_bound(max(0.0, distance - open_to_rounding), count.size)
    sentence = f"the share of images with at most n of {MANY} patches dropped is off by {distance:.3g} from that of p ~ U(0, {MAE_MAX})"
    call = f"patch_dropout({seed}, {ROWS}, {TIME}, {MANY})"
    trial.reject_law(bound, sentence, call=call, got=got.round(4).tolist(), expected=law.round(4).tolist())


@check("tok.mae-law", needs=("patch_dropout",), decisions=1)
def check_images_lose_all_patches_as_often_as_they_should(subject: Subject, trial: Trial) -> None:
    """Drawn patch by patch a few do; by an exact count none does, since p N leaves one (A33)."""
    seed, share = _seed(trial), float(_law(subject, FEW)[-1])
    dropped = dropout_masks(subject, seed, ROWS, TIME, FEW).all(-1)
    images, of = int(dropped.sum()), dropped.size
    call = f"patch_dropout({seed}, {ROWS}, {TIME}, {FEW})"
    if subject.readings["A33"] == "count":
        sentence = f"{images} of {of} images drop all of {FEW} patches; a count of at most {MAE_MAX} of them leaves one (A33 = count)"
        trial.fail_unless(images == 0, sentence, call=call, got=images, expected=0)
    else:
        sentence = f"{images} of {of} images drop all of {FEW} patches; drawn patch by patch {share * of:.0f} would"
        trial.reject_law(count_bound(images, of, share), sentence, call=call, got=images / of, expected=share)


@check("tok.mae-law", needs=("patch_dropout",), decisions=2)
def check_images_draw_their_own_share(subject: Subject, trial: Trial) -> None:
    """The numbers of patches that neighbouring frames, and rows, drop: a correlation of 0.25 is found with certainty."""
    seed = _seed(trial)
    count = dropout_masks(subject, seed, ROWS, TIME, MANY).sum(-1)
    law, numbers = _law(subject, MANY), np.arange(MANY + 1)
    scores = (numbers - law @ numbers) / np.sqrt(law @ (numbers - law @ numbers) ** 2)
    call = f"patch_dropout({seed}, {ROWS}, {TIME}, {MANY})"
    for name, one, other in _neighbours(scores[count]):
        correlation = float((one * other).mean())
        bound = mean_bound(correlation, one.size, 1.0, float((scores**2).max()))
        sentence = f"the shares of patches that neighbouring {name} drop are correlated by {correlation:.3g}"
        trial.reject_law(bound, sentence, call=call, got=correlation, expected=0.0)


def _neighbours(x: np.ndarray) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Disjoint pairs, so that they are independent."""
    rows, frames = (size // 2 * 2 for size in x.shape[:2])
    return [("frames", x[:, 0:frames:2], x[:, 1:frames:2]), ("rows", x[0:rows:2], x[1:rows:2])]


@check("tok.mae-law", needs=("patch_dropout",), decisions=2)
def check_images_drop_patches_of_their_own(subject: Subject, trial: Trial) -> None:
    """Given how many, the patches of an image are independent of those of the frame, and the row, beside it."""
    seed = _seed(trial)
    for name, one, other in _neighbours(dropout_masks(subject, seed, ROWS, TIME, MANY)):
        excess, bound = _shared(one.reshape(-1, MANY), other.reshape(-1, MANY))
        sentence = f"neighbouring {name} drop {excess:.3g} patches more in common than independent images would"
        call = f"patch_dropout({seed}, {ROWS}, {TIME}, {MANY})"
        trial.reject_law(bound, sentence, call=call, got=excess, expected=0.0)


@check("tok.mae-law", needs=("patch_dropout",), decisions=2)
def check_patches_of_an_image_are_alike(subject: Subject, trial: Trial) -> None:
    """Given how many are dropped, each place is as likely as another, and so is each pair at any distance."""
    seed = _seed(trial)
    dropped = dropout_masks(subject, seed, ROWS, TIME, MANY)
    for what, judged in (("patches at place", _by_place), ("pairs of patches at distance", _by_distance)):
        excess, bounds = judged(dropped)
        worst = int(np.argmax(np.abs(excess)))
        sentence = f"{what} {worst} are dropped in {excess[worst]:.3g} of the images more than chance gives"
        call = f"patch_dropout({seed}, {ROWS}, {TIME}, {MANY})"
        trial.reject_law(
            union_bound(bounds), sentence, call=call, got=excess.round(4).tolist(), expected=[0.0] * len(excess)
        )


def _shared(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Mean number of patches dropped in both beyond chance, and its bound: hypergeometric, given both numbers."""
    patches = one.shape[1]
    a, b = one.sum(1), other.sum(1)
    excess = float(((one & other).sum(1) - a * b / patches).mean())
    variance = float((a * b * (patches - a) * (patches - b) / patches**2 / (patches - 1)).mean())
    return excess, mean_bound(excess, len(one), max(variance, LEAST), patches)


def _by_place(dropped: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """How much more often each place is dropped than the others of its image, and the bounds."""
    images = dropped.reshape(-1, dropped.shape[-1])
    share = images.mean(1, keepdims=True)
    excess, variance = (images - share).mean(0), max(float((share * (1 - share)).mean()), LEAST)
    return excess, [mean_bound(float(mean), len(images), variance, 1.0) for mean in excess]


def _by_distance(dropped: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """How many more pairs at each distance are dropped than chance gives, as a share of all such pairs, and the bounds."""
    images = dropped.reshape(-1, dropped.shape[-1])
    patches = images.shape[1]
    count = images.sum(1)
    chance = count * (count - 1) / (patches * (patches - 1))
    both = [(images[:, d:] & images[:, :-d]).mean(1) - chance for d in range(1, patches // 2 + 1)]
    # Bounded by 1 in size and of mean 0, whatever its variance.
    excess = np.array([0.0, *(pair.mean() for pair in both)])
    return excess, [mean_bound(float(pair.mean()), len(images), 1 / 4, 1.0) for pair in both]


@check("tok.mae-law", needs=("patch_dropout",))
def check_patches_follow_their_seed(subject: Subject, trial: Trial) -> None:
    """Exact: 512 images are never the same twice by chance."""
    call = f"patch_dropout(7, {ROWS}, 1, {MANY})"
    first, again, other = (dropout_masks(subject, seed, ROWS, 1, MANY) for seed in (7, 7, 8))
    trial.fail_unless(np.array_equal(first, again), "the same seed drops different patches", call=f"{call}, twice")
    trial.fail_unless(
        not np.array_equal(first, other), "two seeds drop the same patches", call=f"{call} and with seed 8"
    )


@check("tok.mae-law", needs=("patch_dropout", "encode", "example"))
def check_nothing_is_dropped_at_inference(subject: Subject, trial: Trial) -> None:
    """Exact: encoding follows no random state."""
    video = subject.native(example_inputs(subject, "encode", 0, 2, 3)["video"])
    encoded = {seed: _encoded(subject, video, seed) for seed in range(4)}
    sentence = "the same video is encoded to another z under another random state: something is drawn at inference"
    same = all(np.array_equal(encoded[0], other, equal_nan=True) for other in encoded.values())
    if not same and not all(_recurs(subject, video, seed, z) for seed, z in encoded.items()):
        trial.inconclusive("encode does not give the same twice under one random state: what it draws cannot be seen")
    trial.fail_unless(
        same, sentence, call="encode(example(0, 2, 3)['video']) after other seeds of the global random state"
    )


def _encoded(subject: Subject, video: object, seed: int) -> np.ndarray:
    return subject.read("encode", subject.call("encode", video, seeded=seed))


def _recurs(subject: Subject, video: object, seed: int, z: np.ndarray) -> bool:
    return all(np.array_equal(z, _encoded(subject, video, seed), equal_nan=True) for _ in range(REPEATS))


@check("tok.mae-embedding", needs=("mae_replace", "encode", "example"))
def check_every_patch_is_seen_at_inference(subject: Subject, trial: Trial) -> None:
    """Nothing stands in the place of a patch: each of some places of a frame moves z."""
    fail_unless_every_position_moves_z(subject, trial)


@check("tok.mae-embedding", needs=("mae_replace",))
def check_dropped_patches_become_the_embedding(subject: Subject, trial: Trial) -> None:
    """Values to one rounding; the gradient of their mean reaches the embedding where it stands, and the tokens elsewhere."""

    def holds(seed: int, shape: tuple[int, int, int, int]) -> None:
        rng = np.random.default_rng(seed)
        tokens, embedding = subject.round(rng.standard_normal(shape)), subject.round(rng.standard_normal(shape[3]))
        mask = rng.random(shape[:3]) < rng.random()
        call = f"mae_replace(tokens of {shape}, {mask.tolist()}, {embedding.tolist()})"
        got = subject.compute("mae_replace", tokens, mask, embedding, shape=shape)
        expected = replace_dropped(tokens, mask, embedding)
        terms = np.abs(tokens) + np.abs(embedding)
        trial.compare("the token of a patch", got, expected, terms=terms, k=1, eps=subject.eps, call=call)
        _gradients(subject, trial, tokens, mask, embedding, call)

    trial.for_all(
        seeds(), st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), st.integers(1, 4)), body=holds
    )


def _gradients(
    subject: Subject, trial: Trial, tokens: np.ndarray, mask: np.ndarray, embedding: np.ndarray, call: str
) -> None:
    try:
        of_tokens, of_embedding = operation_gradients(subject, "mae_replace", (0, 2), tokens, mask, embedding)
    except NotProvided:
        return
    kept = np.broadcast_to(~mask[..., None], tokens.shape) / tokens.size
    dropped = np.full_like(embedding, mask.sum() / tokens.size)
    for what, got, expected in (
        ("the gradient of the learned embedding", of_embedding, dropped),
        ("the gradient of a token", of_tokens, kept),
    ):
        # Half precision may add up the dropped patches one by one.
        k = 2 + mask.sum()
        trial.compare(
            what,
            got,
            expected,
            terms=1 / tokens.size + expected,
            k=k,
            eps=subject.eps,
            call=f"gradient of the mean of {call}",
        )


@signature("patch_dropout", tolerance=0.06)
def signature_law_of_the_dropped(subject: Subject) -> np.ndarray:
    """Shares, what neighbours share, where patches lie, and whether the seed counts."""
    return np.asarray(np.nan_to_num(attempt(lambda: _statistics(subject), 15), nan=-1.0))


def _statistics(subject: Subject) -> np.ndarray:
    dropped = dropout_masks(subject, 1, ROWS, TIME, MANY)
    share = dropped.mean(-1)
    all_of_few = 20 * dropout_masks(subject, 1, ROWS, TIME, FEW).all(-1).mean()
    pairs = [
        2 * np.corrcoef(one.ravel(), other.ravel())[0, 1] if one.std() * other.std() else 2.0
        for _, one, other in _neighbours(share)
    ]
    common = [_shared(one.reshape(-1, MANY), other.reshape(-1, MANY))[0] / 4 for _, one, other in _neighbours(dropped)]
    ends = (2 * _by_place(dropped)[0].clip(-1, 1)).take([0, -1])
    distances = 4 * _by_distance(dropped)[0].take([1, MANY // 2])
    same = [
        np.array_equal(dropout_masks(subject, 1, 4, 2, MANY), dropout_masks(subject, seed, 4, 2, MANY))
        for seed in (1, 2)
    ]
    quantiles = np.quantile(share, [0.1, 0.5, 0.9])
    return np.array([share.mean(), *quantiles, all_of_few, *pairs, *common, *ends, *distances, *same], np.float64)


@signature("mae_replace")
def signature_what_stands_for_the_dropped(subject: Subject) -> np.ndarray:
    """On two frames of three tokens, with the gradients of the mean."""
    tokens = np.array([[[[1.0, -0.5], [0.25, 2.0], [-1.5, 0.75]], [[0.5, 1.25], [-0.75, -2.0], [1.75, 0.125]]]])
    mask, embedding = np.array([[[True, False, False], [False, True, True]]]), np.array([-0.25, 0.625])

    def gradients() -> np.ndarray:
        return 12 * np.concatenate(
            [x.ravel() for x in operation_gradients(subject, "mae_replace", (0, 2), tokens, mask, embedding)]
        )

    values = attempt(lambda: subject.compute("mae_replace", tokens, mask, embedding), tokens.size)
    return np.concatenate([values, attempt(gradients, tokens.size + embedding.size)])


@signature("encode")
def signature_what_is_drawn_at_inference(subject: Subject) -> np.ndarray:
    """Whether a random state moves z."""

    def probe() -> float:
        video = subject.native(example_inputs(subject, "encode", 0, 1, 2)["video"])
        one, other = (subject.read("encode", subject.call("encode", video, seeded=seed)) for seed in (0, 1))
        return float(not np.array_equal(one, other))

    return attempt(probe, 1)
