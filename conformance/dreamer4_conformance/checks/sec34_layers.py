"""Checks of the layers as black boxes: space and time apart (A25, A39), the residual, and normalisation before each sublayer.

x and its sizes are the adapter's own. Who influences whom is exact; what is read from sizes has its threshold beside it.
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from dreamer4_conformance.instruments.black_box import Influence, Segment, influences
from dreamer4_conformance.instruments.layers import (
    LARGE_FACTOR,
    SMALL_FACTOR,
    cross_token_response,
    layer_input,
    layer_output,
    missing_token_influences,
    tokens_moved,
    update_sizes,
)
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, pattern, signature
from dreamer4_conformance.judging.influence_verdicts import fail_unless_tokens_move
from dreamer4_conformance.judging.strategies import seeds

GROWTH = 2.0
"""Growth of the update from SMALL to LARGE that is allowed."""
HEED = 1 / 4
"""How much of what another content does another size may do; without the norm it is more than 1, with it some ε."""


# Space and time apart


def scattered(seed: int, rows: int, time: int, tokens: int) -> list[Segment]:
    """One token for each row, in different frames and places."""
    return [Segment("x", ((seed + row) % time, (seed // time + 2 * row) % tokens)) for row in range(rows)]


@check("net.factorised", needs=("example", "space_layer"))
def check_space_layers_mix_all_tokens_of_a_frame_and_no_frames(subject: Subject, trial: Trial) -> None:
    """One token changes: its frame alone moves, and every token of it."""
    tokens = layer_input(subject, 0, 1, 2).shape[2]

    def holds(seed: int, rows: int, time: int) -> None:
        for found in influences(subject, "space_layer", scattered(seed, rows, time, tokens), seed=seed, time=time):
            _stays(trial, "space_layer", found, "frame", found.frames("x"), found.segment.index[0])

    trial.for_all(seeds(), st.integers(1, 5), st.integers(2, 5), body=holds)
    places = sorted({0, tokens // 2, tokens - 1})
    parts, needed = [Segment("x", (1, s)) for s in places], np.zeros((len(places), 2, tokens), bool)
    needed[:, 1] = np.arange(tokens) != np.array(places)[:, None]
    fail_unless_tokens_move(subject, trial, "space_layer", parts, 2, needed)


@check("net.factorised", needs=("example", "time_layer"))
def check_time_layers_mix_no_places(subject: Subject, trial: Trial) -> None:
    """One token changes: its place alone moves. Which frames do is attn.causal and attn.window."""
    tokens = layer_input(subject, 0, 1, 2).shape[2]

    def holds(seed: int, rows: int, time: int) -> None:
        for found in influences(subject, "time_layer", scattered(seed, rows, time, tokens), seed=seed, time=time):
            _stays(trial, "time_layer", found, "place", np.asarray(tokens_moved(found).any(0)), found.segment.index[1])

    trial.for_all(seeds(), st.integers(1, 5), st.integers(2, 5), body=holds)


def _stays(trial: Trial, operation: str, found: Influence, axis: str, moved: np.ndarray, own: int) -> None:
    """Only the `own` entry of `moved` may be set."""
    elsewhere = np.flatnonzero(moved & (np.arange(len(moved)) != own))
    other = elsewhere[0] if len(elsewhere) else own
    sentence = f"{axis} {other} of {operation}'s output changes with {found.segment} of {axis} {own}"
    shape = "x".join(map(str, found.moved["x"].shape))
    trial.fail_unless(not len(elsewhere), sentence, call=f"{operation}(x) for rows of {shape} (T, S, D)")


@check("net.factorised", needs=("layer_kinds",))
def check_a_quarter_of_the_layers_mixes_time(subject: Subject, trial: Trial) -> None:
    """Each four layers in a row hold one, "time" or "both" (A25), the last of the four or another (A39)."""
    kinds = list(subject.call("layer_kinds"))
    mixing, absent = ("time", "both") if subject.readings["A25"] == "replaces" else ("both", "time")
    trial.fail_unless(absent not in kinds, f"a layer is {absent!r}; a layer that mixes time is {mixing!r}", got=kinds)
    held = [kinds[first : first + 4].count(mixing) for first in range(max(1, len(kinds) - 3))]
    least, together = (1, 4) if len(kinds) >= 4 else (0, len(kinds))
    odd = next((n for n in held if not least <= n <= 1), None)
    sentence = f"{odd} of {together} layers in a row mix time; one in four does"
    trial.fail_unless(odd is None, sentence, call="layer_kinds()", got=kinds)
    if len(kinds) < 4:
        return
    index, last = kinds.index(mixing), subject.readings["A39"] == "last"
    sentence = f"layer {index} mixes time, counted from 0; it is {'the last' if last else 'not the last'} of four"
    trial.fail_unless((index == 3) == last, sentence, call="layer_kinds()", got=kinds)


# The residual


@check("net.residual", needs=("example", "block_zeroed"))
def check_a_block_that_adds_nothing_is_the_identity(subject: Subject, trial: Trial) -> None:
    """Exactly, token by token, whatever the size of x."""

    def holds(seed: int, batch: int, time: int, scale: float) -> None:
        x = subject.round(scale * layer_input(subject, seed, batch, time))
        y = layer_output(subject, "block_zeroed", x)
        changed = np.argwhere((y != x).any(-1))
        row, frame, token = changed[0] if len(changed) else (0, 0, 0)
        got, expected = y[row, frame, token], x[row, frame, token]
        sentence = f"token {token} of frame {frame} is not what it was, with attention and MLP zero"
        call = f"block_zeroed(x of {'x'.join(map(str, x.shape))} (B, T, S, D))"
        trial.fail_unless(not len(changed), sentence, call=call, got=got.tolist(), expected=expected.tolist())

    trial.for_all(seeds(), st.integers(1, 3), st.integers(1, 4), st.sampled_from([1.0, 1 / 8, 64.0]), body=holds)


# Normalisation before each sublayer


def offered(subject: Subject) -> list[str]:
    """The layers that the adapter provides."""
    return [name for name in ("space_layer", "time_layer") if subject.provides(name)]


@check("net.prenorm", needs=("example",), needs_one=("space_layer", "time_layer"))
def check_the_update_does_not_grow_with_its_input(subject: Subject, trial: Trial) -> None:
    """A sublayer sees x normalised, so what it adds to x is bounded. A norm behind the residual makes it grow like −x."""
    reasons: list[str] = []
    for operation in offered(subject):
        for seed in range(3):
            small, large, rounding = update_sizes(subject, operation, seed)
            sentence = f"what {operation} adds to x grows from {small:.3g} to {large:.3g} where x grows fourfold; normalised first it is bounded"
            call = f"{operation}({SMALL_FACTOR:g} x) − {SMALL_FACTOR:g} x and {operation}({LARGE_FACTOR:g} x) − {LARGE_FACTOR:g} x"
            trial.fail_unless(large <= GROWTH * small + rounding, sentence, call=call)
            if not small > rounding:
                reasons.append(f"what {operation} adds to x is lost beside x in {subject.adapter.dtype}")
    if reasons:
        trial.inconclusive(reasons[0])


@check("net.prenorm", needs=("example",), needs_one=("space_layer", "time_layer"))
def check_a_token_is_seen_without_its_size(subject: Subject, trial: Trial) -> None:
    """Attention reads each token normalised by itself: the size of the others changes no output but their own."""
    reasons: list[str] = []
    for operation in offered(subject):
        for seed in range(3):
            size, content, output = cross_token_response(subject, operation, seed)
            if not content > 8 * subject.eps * output:
                reasons.append(f"{operation} mixes too little to see whether it is normalised first")
                continue
            sentence = f"a token moves by {size:.3g} where {operation} is given {SMALL_FACTOR:g} times the others; normalised first they are the same"
            call = f"{operation}(x) and {operation}(x with the other tokens times {SMALL_FACTOR:g})"
            trial.fail_unless(size <= HEED * content, sentence, call=call)
    if reasons:
        trial.inconclusive(reasons[0])


# What an implementation looks like, whatever its sizes


def growth(subject: Subject, operation: str) -> float:
    """Power of 4 with which the update grows: 0 where it is bounded."""
    small, large, _ = update_sizes(subject, operation, 0)
    return float(np.round(np.log(large / small) / np.log(LARGE_FACTOR / SMALL_FACTOR)))


def heeds_size(subject: Subject, operation: str) -> bool:
    """Whether tokens are seen with their size."""
    size, content, _ = cross_token_response(subject, operation, 0)
    return size > HEED * content


def leaks(subject: Subject, operation: str, axis: int) -> bool:
    """Whether a token moves another frame (axis 0) or another place (axis 1)."""
    tokens = layer_input(subject, 0, 1, 2).shape[2]
    found = influences(subject, operation, scattered(0, 4, 3, tokens), seed=0, time=3)
    return any(np.delete(tokens_moved(one), one.segment.index[axis], axis).any() for one in found)


def blind(subject: Subject) -> bool:
    """Whether a token of a frame does not see another."""
    tokens = layer_input(subject, 0, 1, 2).shape[2]
    needed = np.zeros((2, 2, tokens), bool)
    needed[:, 1] = True
    return bool(
        missing_token_influences(
            subject, "space_layer", [Segment("x", (1, 0)), Segment("x", (1, tokens - 1))], 2, needed
        ).any()
    )


@signature("space_layer")
def signature_what_a_space_layer_mixes(subject: Subject) -> np.ndarray:
    """Whether frames mix, whether tokens are hidden, how sizes count."""
    return pattern(
        lambda: leaks(subject, "space_layer", 0),
        lambda: blind(subject),
        lambda: growth(subject, "space_layer"),
        lambda: heeds_size(subject, "space_layer"),
    )


@signature("time_layer")
def signature_what_a_time_layer_mixes(subject: Subject) -> np.ndarray:
    """Whether places mix, how sizes count."""
    return pattern(
        lambda: leaks(subject, "time_layer", 1),
        lambda: growth(subject, "time_layer"),
        lambda: heeds_size(subject, "time_layer"),
    )


@signature("layer_kinds")
def signature_where_time_is_mixed(subject: Subject) -> np.ndarray:
    """Last of four, elsewhere, in how many of the first four, and under which name."""
    kinds = list(subject.call("layer_kinds"))
    mixing = np.array([kind != "space" for kind in kinds])
    last = np.arange(len(kinds)) % 4 == 3
    return np.array(
        [mixing[last].any(), mixing[~last].any(), mixing[:4].sum(), "time" in kinds, "both" in kinds], float
    )


@signature("block_zeroed")
def signature_what_a_zeroed_block_leaves(subject: Subject) -> np.ndarray:
    """Whether the first and the last token are what they were; the factor by which the output is the input."""
    x = layer_input(subject, 0, 2, 3)
    y = attempt(lambda: layer_output(subject, "block_zeroed", x), x.size).reshape(x.shape)
    return np.array([(y == x)[:, :, 0].all(), (y == x)[:, :, -1].all(), np.round((y * x).sum() / (x * x).sum(), 2)])
