"""Every provided operation is called once on an ordinary input: its answer must have the documented shape and type.

An operation is refused only where it works neither for B ≠ T nor for B = T; one that fails for certain shapes alone is
judged by the clauses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dreamer4_conformance.recorder import AFFINE
from dreamer4_conformance.subject import Draw, Subject
from dreamer4_conformance.verdicts import Deviation, Inconclusive, NotProvided, OperationFailed

TOKENS, CHANNELS, ACTIONS, CLASSES = 2, 3, 3, 4


@dataclass(frozen=True)
class Occasion:
    """The shapes of one round of calls, and the contents that they are filled with."""

    subject: Subject
    batch: int
    time: int

    def normal(self, *shape: int) -> np.ndarray:
        """Values of order one that the adapter's dtype represents."""
        return self.subject.round(np.random.default_rng(sum(shape)).standard_normal(shape))

    def frames(self) -> np.ndarray:
        """z (B, T, S, D)."""
        return self.normal(self.batch, self.time, TOKENS, CHANNELS)

    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """tau, d (B, T) on the grid of Eq. (4), clear of its end; d the same along a sequence."""
        finest = int(np.log2(self.subject.k_max))
        exponent = np.broadcast_to(1 + np.arange(self.batch)[:, None] % max(finest, 1), (self.batch, self.time))
        steps = 2 ** np.minimum(exponent, finest)
        return (steps - 1) // 2 / steps, 1.0 / steps


def first_contact(subject: Subject) -> Iterator[str]:
    """One sentence for every operation that cannot be used."""
    batch = max(3, subject.adapter.min_batch)
    time = 4 if batch != 4 else 5
    for name, contact in CONTACTS.items():
        if not subject.provides(name):
            continue
        problem = _problem(contact, Occasion(subject, batch, time))
        if problem is not None and _problem(contact, Occasion(subject, batch, batch)) is not None:
            yield problem


def _problem(contact: Callable[[Occasion], None], occasion: Occasion) -> str | None:
    try:
        with np.errstate(all="ignore"):
            contact(occasion)
    except Deviation as deviation:
        return deviation.message + (f" (called as {deviation.call})" if deviation.call else "")
    except (NotProvided, Inconclusive):
        return None
    return None


CONTACTS: dict[str, Callable[[Occasion], None]] = {}


def _contact(function: Callable[[Occasion], None]) -> Callable[[Occasion], None]:
    CONTACTS[function.__name__.removeprefix("_")] = function
    return function


def _floats(name: str, x: np.ndarray, *, finite: bool = True) -> np.ndarray:
    if x.dtype.kind != "f":
        raise OperationFailed(f"{name} returned {x.dtype} values; it needs floating-point ones")
    if finite and not np.isfinite(x).all():
        raise OperationFailed(f"{name} returned NaN or infinite values on ordinary input; it needs finite ones")
    return x


def _pair(name: str, returned: Any, needs: str) -> tuple[Any, Any]:
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        raise OperationFailed(f"{name} returned {type(returned).__name__}; it needs a pair ({needs})")
    return returned[0], returned[1]


def _dimensions(name: str, x: np.ndarray, needs: tuple[int | None, ...]) -> np.ndarray:
    if x.ndim != len(needs) or any(n is not None and n != m for n, m in zip(needs, x.shape, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in needs)
        raise OperationFailed(f"{name} returned shape {x.shape}; it needs ({wanted})")
    return x


@_contact
def _corrupt(at: Occasion) -> None:
    z0, z1 = at.frames(), at.frames()[::-1].copy()
    _floats("corrupt", at.subject.corrupt(z0, z1, at.grid()[0]))


@_contact
def _sample_tau_d(at: Occasion) -> None:
    drawn = at.subject.call("sample_tau_d", 0, at.batch, at.time, seeded=0)
    for part, x in zip(("tau", "d"), _pair("sample_tau_d", drawn, "tau, d"), strict=True):
        _floats(f"sample_tau_d: {part}", at.subject.read("sample_tau_d", x))
    _, d = at.subject.sample_tau_d(0, at.batch, at.time)
    if not ((d > 0) & (d <= 1)).all():
        raise OperationFailed(f"sample_tau_d returned d from {d.min():g} to {d.max():g}; it needs step sizes in (0, 1]")


@_contact
def _ramp_weight(at: Occasion) -> None:
    _floats("ramp_weight", at.subject.ramp_weight(at.grid()[0]))


@_contact
def _dynamics_loss(at: Occasion) -> None:
    # What it draws inside may leave the domain; that the loss is finite there is a clause.
    _loss("dynamics_loss", at, finite=False)


@_contact
def _dynamics_loss_at(at: Occasion) -> None:
    _loss("dynamics_loss_at", at, finite=True)


def _loss(route: str, at: Occasion, *, finite: bool) -> None:
    tau, d = at.grid()
    z1 = at.frames()
    draw = Draw(z1, at.normal(at.batch, at.time, ACTIONS), 0, z1[::-1].copy(), tau, d)
    evaluation = at.subject.evaluate(route, AFFINE, draw)
    _floats(route, evaluation.loss, finite=finite)
    if not evaluation.calls:
        raise OperationFailed(f"{route} never called the network; it needs to call what it is given as the model")


@_contact
def _sample_frame(at: Occasion) -> None:
    actions = at.normal(at.batch, at.time + 1, ACTIONS)
    sampled = at.subject.sample_frame(AFFINE, at.frames(), min(4, at.subject.k_max), 0, actions)
    _floats("sample_frame", sampled.frame)
    if not sampled.calls:
        raise OperationFailed("sample_frame never called the network; it needs to call what it is given as the model")


@_contact
def _tokenizer_loss(at: Occasion) -> None:
    mse, lpips = np.array(0.5), np.array(0.25)
    _floats("tokenizer_loss", at.subject.compute("tokenizer_loss", mse, lpips, shape=()))


@_contact
def _loss_normalizer(at: Occasion) -> None:
    normalizer = at.subject.call("loss_normalizer")
    if not callable(normalizer):
        raise OperationFailed(f"loss_normalizer returned {type(normalizer).__name__}; it needs n(name, value)")
    try:
        divided = [normalizer("mse", at.subject.native(np.array(value))) for value in (1.0, 0.5)]
    except Exception as error:
        raise OperationFailed(f"loss_normalizer()('mse', 1.0) raised {type(error).__name__}: {error}") from error
    for value in divided:
        # Before the declared warm-up the estimate may still be anything.
        _floats("loss_normalizer()", at.subject.read("loss_normalizer()", value, ()), finite=False)


@_contact
def _mtp_targets(at: Occasion) -> None:
    time = at.time + 12
    returned = at.subject.call("mtp_targets", at.subject.native(at.normal(at.batch, time)), 8)
    targets, valid = (at.subject.read("mtp_targets", x) for x in _pair("mtp_targets", returned, "targets, valid"))
    _dimensions("mtp_targets: targets", targets, (at.batch, time, None))
    _dimensions("mtp_targets: valid", valid, targets.shape)
    if valid.dtype != bool:
        raise OperationFailed(f"mtp_targets: valid holds {valid.dtype} values; it needs booleans")


@_contact
def _mtp_loss(at: Occasion) -> None:
    distances = {"0..8": range(9), "0..7": range(8), "1..8": range(1, 9)}[at.subject.readings["A17"]]
    time = at.time + 12
    valid = np.arange(time)[:, None] + np.array(distances) < time
    log_prob = -np.abs(at.normal(at.batch, time, len(distances)))
    loss = at.subject.compute("mtp_loss", log_prob, np.broadcast_to(valid, log_prob.shape).copy(), shape=())
    _floats("mtp_loss", loss)


def _bins(at: Occasion) -> np.ndarray:
    return _dimensions("twohot_bins", at.subject.compute("twohot_bins"), (None,))


def _number_of_bins(at: Occasion) -> int:
    if at.subject.provides("twohot_bins"):
        return len(_bins(at))
    if at.subject.provides("twohot_encode"):
        return int(at.subject.compute("twohot_encode", np.zeros(1)).shape[-1])
    raise NotProvided


@_contact
def _twohot_bins(at: Occasion) -> None:
    bins = _floats("twohot_bins", _bins(at))
    if len(bins) < 2 or not (np.diff(bins) > 0).all():
        raise OperationFailed(f"twohot_bins returned {len(bins)} values; it needs at least two, in ascending order")


@_contact
def _twohot_encode(at: Occasion) -> None:
    bins = len(_bins(at)) if at.subject.provides("twohot_bins") else None
    encoded = at.subject.compute("twohot_encode", np.array([-0.5, 0.25, 0.5]))
    _floats("twohot_encode", _dimensions("twohot_encode", encoded, (3, bins)))


@_contact
def _twohot_decode(at: Occasion) -> None:
    logits = at.normal(3, _number_of_bins(at))
    _floats("twohot_decode", at.subject.compute("twohot_decode", logits, shape=(3,)))


@_contact
def _value_loss(at: Occasion) -> None:
    logits = at.normal(3, _number_of_bins(at))
    _floats("value_loss", at.subject.compute("value_loss", logits, np.array([-0.5, 0.25, 0.5]), shape=()))


def _imagined(at: Occasion) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
    shape = (at.batch, at.time)
    return at.normal(*shape), at.normal(at.batch, at.time + 1), np.ones(shape), 0.997, 0.95


@_contact
def _lambda_returns(at: Occasion) -> None:
    returns = at.subject.compute("lambda_returns", *_imagined(at), shape=(at.batch, at.time))
    _floats("lambda_returns", returns)


@_contact
def _advantages(at: Occasion) -> None:
    _floats("advantages", at.subject.compute("advantages", *_imagined(at), shape=(at.batch, at.time)))


@_contact
def _policy_loss(at: Occasion) -> None:
    logits, prior = at.normal(6, CLASSES), at.normal(CLASSES, 6).T.copy()
    action, advantage = np.arange(6) % CLASSES, np.array([1.0, -1.0, 0.5, -0.5, 2.0, -2.0])
    loss = at.subject.compute("policy_loss", logits, prior, action, advantage, 0.5, 0.3, shape=())
    _floats("policy_loss", loss)


@_contact
def _policy_loss_factored(at: Occasion) -> None:
    logits, prior = ([at.normal(6, width) + shift for width in (3, 2)] for shift in (0.0, 0.5))
    action, advantage = np.arange(12).reshape(6, 2) % 2, np.array([1.0, -1.0, 0.5, -0.5, 2.0, -2.0])
    loss = at.subject.compute("policy_loss_factored", logits, prior, action, advantage, 0.5, 0.3, shape=())
    _floats("policy_loss_factored", loss)


@_contact
def _prior_start(at: Occasion) -> None:
    returned = _mapping("prior_start", at.subject.call("prior_start", 0, seeded=0))
    shapes = set()
    for key in ("policy", "prior", "policy_after", "prior_after"):
        if key not in returned:
            raise OperationFailed(f"prior_start returned the keys {sorted(map(str, returned))}; it needs {key!r} too")
        name = f"prior_start: {key}"
        shapes.add(_dimensions(name, _floats(name, at.subject.read(name, returned[key])), (None, None)).shape)
    if len(shapes) > 1:
        raise OperationFailed(f"prior_start returned logits of shapes {sorted(shapes)}; it needs one shape (N, A)")


@_contact
def _constants(at: Occasion) -> None:
    for key, value in _mapping("constants", at.subject.call("constants")).items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise OperationFailed(f"constants: {key!r} is {value!r}; it needs a number")


def _mapping(name: str, returned: Any) -> Mapping[str, Any]:
    if not isinstance(returned, Mapping):
        raise OperationFailed(f"{name} returned {type(returned).__name__}; it needs a dict")
    return returned
