"""Checks of the layers as black boxes, Sec. 3.4: factorised space and time (A25, A39), residual, pre-normalisation.

x and its shape are those of the adapter's example. Influences are exact; a check that compares sizes has a threshold.
"""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
from hypothesis import strategies as st

from dreamer4_conformance.instruments.black_box import Segment, influences
from dreamer4_conformance.instruments.layers import (
    LARGE_FACTOR,
    LAYER_KINDS,
    SMALL_FACTOR,
    cross_token_response,
    layer_input,
    layer_output,
    missing_token_influences,
    named_layer,
    provided_kinds,
    tokens_moved,
    update_sizes,
)
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, pattern, signature
from dreamer4_conformance.judging.influence_verdicts import fail_unless_tokens_move
from dreamer4_conformance.judging.strategies import seeds
from dreamer4_conformance.verdicts import NotProvided

GROWTH = 2.0
"""Largest growth of the update from `SMALL_FACTOR` to `LARGE_FACTOR` that is accepted."""
SIZE_RESPONSE = 1 / 4
"""Largest effect of a token's size that is accepted, as a share of the effect of its content.

Without a norm the share is above 1, with one about ε.
"""


# Factorised space and time


def scattered_tokens(seed: int, rows: int, time: int, tokens: int) -> list[Segment]:
    """One token of x per row, at different frames and positions."""
    return [Segment("x", ((seed + row) % time, (seed // time + 2 * row) % tokens)) for row in range(rows)]


@check("net.factorised", needs=("example", "space_layer"))
def check_space_layers_mix_all_tokens_of_a_frame_and_no_frames(subject: Subject, trial: Trial) -> None:
    """One token of the input is replaced: every token of its frame changes, and no other frame. Exact."""
    _fail_unless_confined(subject, trial, "space_layer", axis=0)
    tokens = layer_input(subject, 0, 1, 2).shape[2]
    positions = sorted({0, tokens // 2, tokens - 1})
    segments, needed = [Segment("x", (1, s)) for s in positions], np.zeros((len(positions), 2, tokens), bool)
    needed[:, 1] = np.arange(tokens) != np.array(positions)[:, None]
    fail_unless_tokens_move(subject, trial, "space_layer", segments, 2, needed)


@check("net.factorised", needs=("example", "time_layer"))
def check_time_layers_mix_no_positions(subject: Subject, trial: Trial) -> None:
    """One token of the input is replaced: no other position changes, in any frame. Exact.

    Which frames change is judged by attn.causal and attn.window.
    """
    _fail_unless_confined(subject, trial, "time_layer", axis=1)


def _fail_unless_confined(subject: Subject, trial: Trial, operation: str, *, axis: int) -> None:
    """Deviation if a replaced token changes another frame (axis 0) or another position (axis 1)."""
    tokens, name = layer_input(subject, 0, 1, 2).shape[2], ("frame", "position")[axis]

    def holds(seed: int, rows: int, time: int) -> None:
        segments = scattered_tokens(seed, rows, time, tokens)
        for influence in influences(subject, operation, segments, seed=seed, time=time):
            own, moved = influence.segment.index[axis], np.asarray(tokens_moved(influence).any(1 - axis))
            leaks = np.flatnonzero(moved & (np.arange(len(moved)) != own))
            leak, shape = leaks[0] if len(leaks) else own, "x".join(map(str, influence.moved["x"].shape))
            sentence = f"{name} {leak} of {operation}'s output changes with {influence.segment} of {name} {own}"
            trial.fail_unless(not len(leaks), sentence, call=f"{operation}(x) for rows of {shape} (T, S, D)")

    trial.for_all(seeds(), st.integers(1, 5), st.integers(2, 5), body=holds)


@check("net.factorised", needs=("layer_kinds",))
def check_a_quarter_of_the_layers_mixes_time(subject: Subject, trial: Trial) -> None:
    """Of any four consecutive layers one is "time" or "both" (A25): the last of each four, or not the last (A39)."""
    kinds = list(subject.call("layer_kinds"))
    mixing, absent = ("time", "both") if subject.readings["A25"] == "replaces" else ("both", "time")
    sentence = f"a layer is {absent!r}; one that mixes time needs to be {mixing!r} (A25 = {subject.readings['A25']})"
    trial.fail_unless(absent not in kinds, sentence, got=kinds)
    counts = [kinds[first : first + 4].count(mixing) for first in range(max(1, len(kinds) - 3))]
    least, window = (1, 4) if len(kinds) >= 4 else (0, len(kinds))
    wrong = next((count for count in counts if not least <= count <= 1), None)
    sentence = f"{wrong} of {window} consecutive layers mix time; one in four needs to"
    trial.fail_unless(wrong is None, sentence, call="layer_kinds()", got=kinds)
    if len(kinds) >= 4:
        index, last = kinds.index(mixing), subject.readings["A39"] == "last"
        sentence = f"layer {index} of 0 to 3 mixes time; it needs to be {'layer 3' if last else 'another than layer 3'}"
        trial.fail_unless((index == 3) == last, sentence, call="layer_kinds()", got=kinds)


# The residual


@check("net.residual", needs=("example", "block_zeroed"))
def check_a_block_that_adds_nothing_is_the_identity(subject: Subject, trial: Trial) -> None:
    """With attention and MLP zeroed, a block of each kind returns its input, whatever its size.

    Exact, token by token.
    """
    for kind in provided_kinds(subject, "block_zeroed"):
        _fail_unless_identity(subject, trial, kind)


def _fail_unless_identity(subject: Subject, trial: Trial, kind: str | None) -> None:
    def holds(seed: int, batch: int, time: int, scale: float) -> None:
        x = subject.round(scale * layer_input(subject, seed, batch, time, kind))
        y = layer_output(subject, "block_zeroed", x, kind)
        changed = np.argwhere((y != x).any(-1))
        row, frame, token = changed[0] if len(changed) else (0, 0, 0)
        got, expected = y[row, frame, token], x[row, frame, token]
        layer = "" if kind is None else f" of a layer of kind {kind!r}"
        sentence = f"token {token} of frame {frame}{layer} changes although attention and MLP are zero"
        call = f"block_zeroed(x of {'x'.join(map(str, x.shape))} (B, T, S, D){'' if kind is None else f', {kind!r}'})"
        trial.fail_unless(not len(changed), sentence, call=call, got=got.tolist(), expected=expected.tolist())

    trial.for_all(seeds(), st.integers(1, 3), st.integers(1, 4), st.sampled_from([1.0, 1 / 8, 64.0]), body=holds)


# Normalisation before each sublayer

MIXING = ("space_layer", "time_layer")
LAYERS = (*MIXING, "transformer_layer")


def provided_layers(subject: Subject, operations: tuple[str, ...] = LAYERS) -> list[tuple[str, str | None]]:
    """Operations that the adapter provides, each with the kinds of layer that it supports.

    Raises:
        NotProvided: if none supports any kind.
    """
    layers: list[tuple[str, str | None]] = []
    reason = NotProvided("no layer")
    for operation in filter(subject.provides, operations):
        try:
            layers += [(operation, kind) for kind in provided_kinds(subject, operation)]
        except NotProvided as absent:
            reason = absent
    if not layers:
        raise reason
    return layers


@check("net.prenorm", needs=("example",), needs_one=LAYERS)
def check_the_update_does_not_grow_with_its_input(subject: Subject, trial: Trial) -> None:
    """The update that a layer adds to x does not grow with x, as its sublayers read x normalised.

    x is scaled fourfold; the update may grow by `GROWTH`. With a norm after the residual it grows like −x.
    """
    reasons: list[str] = []
    for (operation, kind), seed in product(provided_layers(subject), range(3)):
        small, large, rounding = update_sizes(subject, operation, seed, kind)
        name = named_layer(operation, kind)
        growth = f"the update of {name} grows from {small:.3g} to {large:.3g} when x grows fourfold"
        call = " and ".join(f"{name}: its output for {c:g} x, less {c:g} x" for c in (SMALL_FACTOR, LARGE_FACTOR))
        allowed = large <= GROWTH * small + rounding
        trial.fail_unless(allowed, f"{growth}; it is bounded if x is normalised first", call=call)
        if not small > rounding:
            reasons.append(f"the update of {name} is within the rounding of x in {subject.adapter.dtype}")
    if reasons:
        trial.inconclusive(reasons[0])


@check("net.prenorm", needs=("example",), needs_one=MIXING)
def check_a_token_does_not_depend_on_the_size_of_the_others(subject: Subject, trial: Trial) -> None:
    """Attention reads each token normalised: scaling the other tokens does not change the output of one.

    The change must be at most `SIZE_RESPONSE` of the change when the other tokens are replaced. `transformer_layer` is
    not judged: with two attentions in a layer, the second reads x plus the update of the first.
    """
    reasons: list[str] = []
    for (operation, _), seed in product(provided_layers(subject, MIXING), range(3)):
        size, content, output = cross_token_response(subject, operation, seed)
        if not content > 8 * subject.eps * output:
            reasons.append(f"{operation} mixes tokens too little to decide whether it normalises them first")
            continue
        change = (
            f"a token changes by {size:.3g} when the other tokens of {operation} are {SMALL_FACTOR:g} times as large"
        )
        call = f"{operation}(x) and {operation}(x with the other tokens times {SMALL_FACTOR:g})"
        trial.fail_unless(size <= SIZE_RESPONSE * content, f"{change}; normalised first they are the same", call=call)
    if reasons:
        trial.inconclusive(reasons[0])


# Signatures


def growth(subject: Subject, operation: str, kind: str | None = None) -> float:
    """The power of x's scale by which the update grows, rounded: 0 if it is bounded."""
    small, large, _ = update_sizes(subject, operation, 0, kind)
    return float(np.round(np.log(large / small) / np.log(LARGE_FACTOR / SMALL_FACTOR)))


def depends_on_size(subject: Subject, operation: str) -> bool:
    """Whether the output of a token depends on the size of the other tokens."""
    size, content, _ = cross_token_response(subject, operation, 0)
    return size > SIZE_RESPONSE * content


def leaks(subject: Subject, operation: str, axis: int) -> bool:
    """Whether a token influences another frame (axis 0) or another position (axis 1)."""
    tokens = layer_input(subject, 0, 1, 2).shape[2]
    results = influences(subject, operation, scattered_tokens(0, 4, 3, tokens), seed=0, time=3)
    return any(np.delete(tokens_moved(result), result.segment.index[axis], axis).any() for result in results)


def hides_tokens(subject: Subject) -> bool:
    """Whether a space layer hides a token of a frame from another one."""
    tokens = layer_input(subject, 0, 1, 2).shape[2]
    segments, needed = [Segment("x", (1, s)) for s in (0, tokens - 1)], np.zeros((2, 2, tokens), bool)
    needed[:, 1] = True
    return bool(missing_token_influences(subject, "space_layer", segments, 2, needed).any())


@signature("space_layer")
def signature_what_a_space_layer_mixes(subject: Subject) -> np.ndarray:
    """Whether frames mix, whether tokens are hidden, whether sizes matter."""
    return pattern(
        lambda: leaks(subject, "space_layer", 0),
        lambda: hides_tokens(subject),
        lambda: growth(subject, "space_layer"),
        lambda: depends_on_size(subject, "space_layer"),
    )


@signature("time_layer")
def signature_what_a_time_layer_mixes(subject: Subject) -> np.ndarray:
    """Whether positions mix, whether sizes matter."""
    return pattern(
        lambda: leaks(subject, "time_layer", 1),
        lambda: growth(subject, "time_layer"),
        lambda: depends_on_size(subject, "time_layer"),
    )


@signature("layer_kinds")
def signature_where_time_is_mixed(subject: Subject) -> np.ndarray:
    """Whether the last layer of four mixes time, whether another does, how many of the first four, and its kind."""
    kinds = list(subject.call("layer_kinds"))
    mixing = np.array([kind != "space" for kind in kinds])
    last = np.arange(len(kinds)) % 4 == 3
    return np.array(
        [mixing[last].any(), mixing[~last].any(), mixing[:4].sum(), "time" in kinds, "both" in kinds], float
    )


@signature("transformer_layer")
def signature_norms_of_each_kind(subject: Subject) -> np.ndarray:
    """For each kind of layer, the power of x's scale by which the update grows."""
    return pattern(*(partial(growth, subject, "transformer_layer", kind) for kind in LAYER_KINDS))


def zeroed_blocks(subject: Subject) -> tuple[list[str | None], np.ndarray]:
    """Kinds of layer that the implementation supports, and the signature of them."""
    kinds = provided_kinds(subject, "block_zeroed")
    return kinds, signature_output_of_a_zeroed_block(subject, kinds)


@signature("block_zeroed", observe=zeroed_blocks)
def signature_output_of_a_zeroed_block(subject: Subject, kinds: list[str | None]) -> np.ndarray:
    """For each kind, see `_factors`; for None, an adapter that takes no kind, those of the first one."""
    first = provided_kinds(subject, "block_zeroed")[0]
    return np.concatenate([attempt(partial(_factors, subject, kind or first), 6) for kind in kinds])


def _factors(subject: Subject, kind: str | None) -> np.ndarray:
    """Whether any and all tokens are unchanged, and the least and the largest factor between output and input.

    The factors are rounded, to integers for tokens with a root mean square of 1 and to tenths for those with
    `LARGE_FACTOR`, so that models with other gains, numbers of tokens and orders of tokens compare. A factor of 1/2, as
    of two connections that divide by √2, is rounded to 0.
    """
    x = layer_input(subject, 0, 2, 3, kind)
    unit = x / np.sqrt(np.square(x).mean(-1, keepdims=True))
    values: list[float] = []
    for scale, resolution in ((1.0, 1), (LARGE_FACTOR, 10)):
        x = subject.round(scale * unit)
        y = layer_output(subject, "block_zeroed", x, kind)
        factors = (y * x).sum(-1) / (x * x).sum(-1)
        values += [*np.floor(resolution * np.array([factors.min(), factors.max()]) + 0.4) / resolution]
    unchanged = (y == x).all(-1)
    return np.array([unchanged.any(), unchanged.all(), *values], float)
