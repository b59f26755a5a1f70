"""Numerical rules that every attention kernel must follow: functions of the name of a backend.

`test_kernel_numerics` runs them on every backend, `test_wrong_kernels` requires that each of them rejects wrong
kernels. Plain random inputs would let most wrong kernels pass. The inputs of `Problem` reach the cap: gains in [2,
4], log-normal norms of tokens, a quarter of the queries at 1e-3, where the ε of the norm matters and many keys have
weight. Positions are random too, because RoPE at consistently wrong positions of queries and keys changes no score.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from math import tanh
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor

from dreamer4_impl.attention import Cache, Preparation, attention, prepare_keys
from dreamer4_impl.layers.rope import rotation

from . import kernel_oracle as oracle

#: Lengths about the multiples of 8, 16 and 64 of which tiles and vectors are made.
LENGTHS = (1, 8, 15, 16, 17, 24, 63, 64, 65, 127, 129, 136, 191, 192, 193, 256, 264)
WIDTHS = (16, 32, 64, 128)
BOUND = 1e-5
#: Value of the margins around an output, and their size in numbers: more than a tile reaches.
SENTINEL, MARGIN = 12345.0, 1 << 16


@dataclass(frozen=True)
class Case:
    """A call of `attention`: sizes and options. The keys have `length` positions, the queries are the last of them."""

    axis: str = "time"
    length: int = 65
    queries: int | None = None
    cross_length: int = 2
    batch: int = 1
    heads: int = 4
    kv_heads: int = 2
    width: int = 64
    causal: bool = False
    window: int | None = None
    private: int = 0
    filled: int | None = None
    masked: bool = False
    softcap: float | None = 20.0
    scale: float | None = None
    raw: bool = True
    gains: bool = True
    strided: bool = False

    @property
    def visible(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("causal", "window", "private", "filled")}

    @property
    def requested_scale(self) -> float | None:
        """The error of float32 grows with the logits: where no cap bounds them, they are scaled to a third."""
        bounded = self.softcap is not None and self.softcap <= 50
        return self.scale if bounded or self.scale is not None else self.width**-0.5 / 3

    @property
    def positions(self) -> int:
        return 2 if self.axis == "space" else 1

    def shape(self, length: int, heads: int) -> list[int]:
        middle = [self.cross_length, length] if self.axis == "space" else [length, self.cross_length]
        return [self.batch, *middle, heads, self.width]


class Problem:
    """Random tensors of a case, including the gradient of the output."""

    eps = 1e-4

    def __init__(self, case: Case, dtype: torch.dtype, device: str, seed: int = 0) -> None:
        self.case, self.dtype, self.device = case, dtype, device
        self.generator = torch.Generator().manual_seed(seed)
        queries = case.queries or case.length
        self.scale = case.width**-0.5 if case.requested_scale is None else case.requested_scale
        self.visible = oracle.visible_keys(queries, case.length, **case.visible)
        self.mask = self._mask() if case.masked else None
        gain_q, gain_k = (2 + 2 * torch.rand(case.width, generator=self.generator) for _ in range(2))
        factor = torch.where(torch.arange(queries) % 4 == 2, 1e-3, 1.0)
        factor = factor.view(-1, 1, 1) if case.axis == "space" else factor.view(-1, 1, 1, 1)
        q = factor * self._draw(queries, case.heads, gain_q)
        k, v = self._draw(case.length, case.kv_heads, gain_k), self._draw(case.length, case.kv_heads)
        tensors = (q, k, v, *((gain_q, gain_k) if case.raw and case.gains else ()))
        self.names = ("q", "k", "v", "q gain", "k gain")[: len(tensors)]
        self.tensors = [x.to(device, dtype) for x in tensors]
        self.d_out = torch.randn(q.shape, generator=self.generator).to(device, dtype)
        self.angles = [self._angles(length) for length in (queries, case.length)]

    def _mask(self) -> Tensor:
        """Restrict the visible keys to a random half, at least one per query."""
        sample = self.visible & (torch.rand(self.visible.shape, generator=self.generator) > 0.5)
        last = self.visible & (self.visible.cumsum(1) == self.visible.sum(1, keepdim=True))
        self.visible = sample | last
        return self.visible.to(self.device)

    def _draw(self, length: int, heads: int, gain: Tensor | None = None) -> Tensor:
        shape = self.case.shape(length, heads)
        x = torch.randn(shape, generator=self.generator)
        if gain is not None and not self.case.raw:
            x = gain * x / x.square().mean(-1, keepdim=True).sqrt()
        spread = 1.0 if gain is None or self.case.raw else 0.2
        return x * (spread * torch.randn([*shape[:-1], 1], generator=self.generator)).exp()

    def _angles(self, length: int) -> tuple[Tensor, Tensor]:
        positions = torch.randint(1000, (length,), generator=self.generator)
        cos, sin = (table.float().to(self.device) for table in rotation(positions, self.case.width))
        return cos, sin

    def preparations(self, tensors: list[Tensor]) -> list[Preparation | None]:
        """Preparations of queries and of keys."""
        if not self.case.raw:
            return [None, None]
        gains = tensors[3:] or [None, None]
        return [Preparation(gain, self.eps, angles) for gain, angles in zip(gains, self.angles, strict=True)]

    def largest_logit(self) -> float:
        """Largest absolute logit after the cap."""
        case, (q, k) = self.case, self.tensors[:2]
        queries, keys = self.preparations(self.tensors)
        if queries is not None and keys is not None:
            q, k = oracle.prepare(q, *queries, case.axis), oracle.prepare(k, *keys, case.axis)
        k = k.repeat_interleave(case.heads // case.kv_heads, 3)
        q, k = (x.movedim(case.positions, -2) for x in (q, k))
        largest = float(self.scale * (q @ k.mT).abs().max())
        return largest if case.softcap is None else case.softcap * tanh(largest / case.softcap)

    def attend(self, backend: str, tensors: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Compute the output and the prepared keys with a backend."""
        case, (q, k, v) = self.case, tensors[:3]
        queries, keys = self.preparations(tensors)
        if keys is not None:
            k = prepare_keys(k, keys, case.axis, backend)
        filled = None if case.filled is None else torch.tensor(case.filled, device=self.device)
        options = {"mask": self.mask, "preparation": queries, "softcap": case.softcap, "scale": case.requested_scale}
        return attention(q, k, v, axis=case.axis, backend=backend, **{**case.visible, "filled": filled}, **options), k

    def attend_exactly(self, tensors: list[Tensor], storage: torch.dtype) -> tuple[Tensor, Tensor]:
        """Compute the same with the oracle, rounded to `storage` wherever a kernel rounds."""
        case, (q, k, v) = self.case, tensors[:3]
        queries, keys = self.preparations(tensors)
        if queries is not None and keys is not None:
            q = oracle.rounded(oracle.prepare(q, *queries, case.axis), value=storage)
            k = oracle.rounded(oracle.prepare(k, *keys, case.axis), value=storage, gradient=storage)
        options = {"axis": case.axis, "softcap": case.softcap, "scale": self.scale, "storage": storage}
        return oracle.attend(q, k, v, self.visible, **options), k


Results = dict[str, Tensor]


class Run:
    """One call: output and prepared keys, and on request the gradients of all inputs."""

    def __init__(
        self,
        attend: Callable[[list[Tensor]], tuple[Tensor, Tensor]],
        problem: Problem,
        tensors: list[Tensor],
        *,
        gradients: bool,
    ) -> None:
        self._names = problem.names if gradients else ()
        self._leaves = [x.detach().requires_grad_(gradients) for x in tensors]
        with nullcontext() if gradients else torch.no_grad():
            self._out, keys = attend(self._leaves)
        self._d_out = problem.d_out.to(self._out)
        if problem.case.strided:
            self._d_out = _strided(self._d_out)
        self.forward = {"out": self._out.detach(), "prepared keys": keys.detach()}

    def backward(self) -> Results:
        """Gradients by name; empty without gradients."""
        if not self._names:
            return {}
        gradients = torch.autograd.grad(self._out, self._leaves, self._d_out)
        return {f"d {name}": x for name, x in zip(self._names, gradients, strict=True)}

    def all(self) -> Results:
        return self.forward | self.backward()


def run_backend(backend: str, problem: Problem) -> Run:
    """Run a backend on a problem."""
    tensors = [_strided(x) for x in problem.tensors] if problem.case.strided else problem.tensors
    return Run(partial(problem.attend, backend), problem, tensors, gradients=differentiable(backend, problem))


def exact(problem: Problem, storage: torch.dtype = torch.float64) -> Results:
    """Run the oracle on a problem, whose tensors may be on any device."""
    angles = problem.angles
    problem.angles = [(cos.cpu(), sin.cpu()) for cos, sin in angles]
    tensors = [x.double().cpu() for x in problem.tensors]
    results = Run(partial(problem.attend_exactly, storage=storage), problem, tensors, gradients=True).all()
    problem.angles = angles
    return {name: x.to(storage) for name, x in results.items()}


def differentiable(backend: str, problem: Problem) -> bool:
    """False for flex on a CPU, which has no gradient, and for a ring that is being filled."""
    return problem.case.filled is None and (backend != "flex" or problem.device != "cpu")


def supported_case(backend: str, case: Case) -> Case:
    """Replace what the backend lacks: SDPA has no cap, Triton no heads of width 16."""
    if backend == "sdpa":
        return replace(case, softcap=None)
    return replace(case, width=32) if backend == "triton" and case.width == 16 else case


def _strided(x: Tensor) -> Tensor:
    """Copy into a slice of larger storage, with NaN on all sides and between rows."""
    padded = torch.Size(size + 3 for size in x.shape)
    storage = torch.full((padded.numel() + 2 * MARGIN,), torch.nan, dtype=x.dtype, device=x.device)
    view = storage[MARGIN:-MARGIN].view(padded)[tuple(slice(1, 1 + size) for size in x.shape)]
    return view.copy_(x)


def relative(got: Tensor, expected: Tensor) -> float:
    """Relative L2 error."""
    return float((got.double().cpu() - expected.double()).norm() / expected.double().norm())


def require_close(got: Results, expected: Results, bound: float = BOUND, everywhere: float | None = None) -> None:
    """Bound the relative L2 error and, by `everywhere`, the ratio of the largest error to the largest value."""
    everywhere = everywhere or bound
    for name, x in got.items():
        error, wanted = relative(x, expected[name]), expected[name].double()
        largest = float((x.double().cpu() - wanted).abs().max() / wanted.abs().max())
        assert error <= bound, f"{name} must be within {bound:.0e} of float64, relative L2; got {error:.1e}"
        assert largest <= everywhere, (
            f"{name} must be within {everywhere:.1e} of its largest value everywhere; got {largest:.1e}"
        )


def require_same_bits(got: Results, expected: Results, requirement: str) -> None:
    for name, x in got.items():
        assert torch.equal(x, expected[name]), f"{name}: {requirement}"


# Rule 2: float32 in and out


def float32_is_exact(backend: str, device: str, case: Case, seed: int = 0) -> None:
    problem = Problem(supported_case(backend, case), torch.float32, device, seed)
    _require_exact(run_backend(backend, problem), problem)


def _require_exact(run: Run, problem: Problem) -> None:
    expected = exact(problem)
    # A backward pass that computes a weight exp(s − lse) again adds the products q·k in another order than the forward
    # pass did. Both sums are wrong by about √D roundings of s, and cap, base and difference are rounded once each; a
    # rounding changes the weight by the factor 1 ± eps/2 · |s|.
    roundings = 3 + problem.case.width**0.5
    everywhere = max(BOUND, roundings * torch.finfo(torch.float32).eps / 2 * problem.largest_logit())
    require_close(run.forward, expected)
    got = run.backward()
    if int(problem.visible.sum(1).max()) == 1:
        # The only weight is 1 whatever the query, so all gradients but that of v are rounding errors.
        got = {name: x for name, x in got.items() if name == "d v"}
    require_close(got, expected, everywhere=everywhere)


# Rule 3: bfloat16


def bfloat16_error_is_that_of_rounding(backend: str, device: str, case: Case) -> None:
    """At most twice the error of the reference that rounds to bfloat16 exactly what a kernel rounds."""
    problem = Problem(supported_case(backend, case), torch.bfloat16, device)
    expected, matched = exact(problem), exact(problem, torch.bfloat16)
    for name, x in run_backend(backend, problem).all().items():
        assert x.dtype == torch.bfloat16, f"{name} must have the dtype of the inputs; got {x.dtype}"
        error, allowed = relative(x, expected[name]), 2 * relative(matched[name], expected[name])
        assert error <= allowed, f"{name} may be {allowed:.1e} off in bfloat16, relative L2; got {error:.1e}"


# Rule 5: equalities


def window_of_all_keys_is_no_window(backend: str, device: str, case: Case) -> None:
    unlimited, windowed = (
        run_backend(
            backend, Problem(supported_case(backend, replace(case, causal=True, window=w)), torch.float32, device)
        ).all()
        for w in (None, case.length)
    )
    require_close(windowed, {name: x.cpu() for name, x in unlimited.items()}, 1e-6)


def distant_cap_is_no_cap(backend: str, device: str, case: Case) -> None:
    run = run_backend(backend, Problem(replace(case, softcap=1e6), torch.float32, device))
    _require_exact(run, Problem(replace(case, softcap=None), torch.float32, device))


def grouped_heads_equal_repeated_heads(backend: str, device: str, case: Case) -> None:
    problem, repeated = (Problem(supported_case(backend, case), torch.float32, device) for _ in range(2))
    group = case.heads // case.kv_heads
    for index in (1, 2):
        repeated.tensors[index] = problem.tensors[index].repeat_interleave(group, dim=3)
    expected = run_backend(backend, repeated).all()
    for name in expected.keys() & {"d k", "d v"}:
        expected[name] = expected[name].unflatten(3, (case.kv_heads, group)).sum(4)
    expected["prepared keys"] = expected["prepared keys"][..., ::group, :]
    require_close(run_backend(backend, problem).all(), {name: x.cpu() for name, x in expected.items()}, BOUND)


def hidden_keys_change_no_bit(backend: str, device: str, case: Case, rows: slice) -> None:
    """Make keys and values large that are hidden from `rows` of the queries; NaN would pass any mask as 0 · NaN."""
    problem = Problem(supported_case(backend, case), torch.float32, device)
    hidden = (~problem.visible[rows].any(0)).nonzero().flatten().to(device)
    assert len(hidden), "some keys must be hidden from these queries"
    compared_rows = torch.arange(len(problem.visible), device=device)[rows]
    ignored = torch.tensor(
        sorted({*range(len(problem.visible))} - {*compared_rows.tolist()}), device=device, dtype=torch.int64
    )
    problem.d_out.index_fill_(case.positions, ignored, 0)
    clean = run_backend(backend, problem).all()
    for index, large in ((1, 1e4), (2, -1e4)):
        problem.tensors[index] = problem.tensors[index].index_fill(case.positions, hidden, large)
    loud = run_backend(backend, problem).all()
    for name in {"out", "d q"} & clean.keys():
        clean[name], loud[name] = (x[name].index_select(case.positions, compared_rows) for x in (clean, loud))
    for name in {"d k", "d v"} & clean.keys():
        gradient = loud[name].index_select(case.positions, hidden)
        assert not gradient.any(), f"{name} must be 0 at keys that are hidden from all queries with a gradient"
    compared = clean.keys() - {"prepared keys", "d k", "d k gain"}
    requirement = "keys and values that are hidden from the queries must change no bit"
    require_same_bits({name: loud[name] for name in compared}, clean, requirement)


def equal_logits_get_equal_weights(backend: str, device: str, case: Case, size: float) -> None:
    """All keys are equal, so each weight is 1 over their number, however far from 0 the logits are."""
    problem = Problem(supported_case(backend, replace(case, raw=False)), torch.float32, device)
    q, k, _ = problem.tensors
    direction = torch.full_like(q[0, 0, 0, 0], case.width**-0.5)
    problem.tensors[:2] = (size / problem.scale * direction).expand_as(q), direction.expand_as(k)
    run, expected = run_backend(backend, problem), exact(problem)
    require_close(run.forward, expected)
    # The gradient of q is only rounding errors.
    require_close({name: x for name, x in run.backward().items() if name != "d q"}, expected)


def distant_logits_keep_their_neighbours(backend: str, device: str, case: Case) -> None:
    """Logits far below the cap lie next to small negative ones, whose weights and gradients must be exact."""
    problem = Problem(supported_case(backend, replace(case, raw=False)), torch.float32, device)
    factors = torch.tensor([-1.0, -0.002, -0.001, 0.003], device=device).repeat(case.length)[: case.length]
    shape = (1, 1, -1, 1, 1) if case.axis == "space" else (1, -1, 1, 1, 1)
    q, k, _ = problem.tensors
    direction = torch.full_like(q[0, 0, 0, 0], case.width**-0.5)
    size = 1000 / problem.scale
    problem.tensors[:2] = (size * direction).expand_as(q), (factors.view(shape) * direction).expand_as(k)
    _require_exact(run_backend(backend, problem), problem)


def decoding_equals_the_full_pass(backend: str, device: str, case: Case) -> None:
    """Decode frame by frame with a ring of `window` slots, whose empty slots hold large numbers, and in one pass."""
    case = supported_case(backend, replace(case, axis="time", causal=True))
    assert case.window is not None
    problem = Problem(case, torch.float32, device)
    expected = exact(problem)["out"]
    ring = (1, *case.shape(case.window, case.kv_heads))
    keys, values = (torch.full(ring, large, device=device) for large in (1e4, -1e4))
    cache = Cache(keys, values, torch.zeros((), dtype=torch.int64, device=device))
    for frame in range(case.length):
        got = _decoded(backend, problem, cache, frame)
        require_close({"out": got}, {"out": expected[:, frame : frame + 1]})
        stored = torch.arange(max(0, frame + 1 - case.window), frame + 1, device=device)
        copied = torch.equal(values[0][:, stored % case.window], problem.tensors[2][:, stored])
        assert copied, "the ring must hold the values of the last frames, frame t in slot t mod C"
        cache.advance(1)


def _decoded(backend: str, problem: Problem, cache: Cache, frame: int) -> Tensor:
    q, k, v = (x[:, frame : frame + 1] for x in problem.tensors[:3])
    queries, keys = (_frame_preparation(frame, preparation) for preparation in problem.preparations(problem.tensors))
    with torch.no_grad():
        keys_and_values = cache.extend(0, k, v, keys, commit=True, backend=backend)
        options = {
            "softcap": problem.case.softcap,
            "scale": problem.scale,
            "preparation": queries,
            "backend": backend,
        }
        return attention(q, *keys_and_values, axis="time", **cache.visible(1)._asdict(), **options)


def _frame_preparation(frame: int, preparation: Preparation) -> Preparation:
    cos, sin = (table[frame : frame + 1] for table in preparation.angles)
    return preparation._replace(angles=(cos, sin))


# Rule 6: storage


def only_own_storage_is_accessed(backend: str, device: str, case: Case) -> None:
    """Inputs lie in storage of NaN; buffers of outputs hold NaN between margins of a fixed number."""
    problem = Problem(supported_case(backend, replace(case, strided=True)), torch.float32, device)
    with buffers_of(torch.nan) if backend == "triton" else nullcontext([]) as margins:
        _require_exact(run_backend(backend, problem), problem)
    for margin in margins:
        assert (margin == SENTINEL).all(), "nothing may be written before or after an output"


def repeated_call_gives_equal_bits(backend: str, device: str, case: Case) -> None:
    """The result does not depend on the initial values of the buffers."""
    problem = Problem(supported_case(backend, case), torch.float32, device)
    results = []
    for fill in (0.0, 1.0):
        with buffers_of(fill) if backend == "triton" else nullcontext():
            results.append(run_backend(backend, problem).all())
    require_same_bits(results[1], results[0], "the same call must give the same bits")


@contextmanager
def buffers_of(fill: float) -> Iterator[list[Tensor]]:
    """Make `torch.empty` and its variants return filled tensors between margins of sentinels, which are yielded."""
    margins: list[Tensor] = []

    def empty(*size: Any, **options: Any) -> Tensor:
        shape = torch.Size(size[0] if len(size) == 1 and not isinstance(size[0], int) else size)
        storage = torch.full((shape.numel() + 2 * MARGIN,), SENTINEL, **options)
        margins.extend((storage[:MARGIN], storage[-MARGIN:]))
        return storage[MARGIN:-MARGIN].fill_(fill).view(shape)

    def like(x: Tensor, *size: Any, **options: Any) -> Tensor:
        return empty(*(size or (x.shape,)), **{"dtype": x.dtype, "device": x.device, **options})

    with (
        mock.patch.object(torch, "empty", empty),
        mock.patch.object(torch, "empty_like", like),
        mock.patch.object(Tensor, "new_empty", like),
    ):
        yield margins


# Rule 7: shapes


def any_case(seed: int, longest: int = LENGTHS[-1]) -> Case:
    """Draw a case: any length, width and option, with few heads and sequences."""
    draw = random.Random(seed)
    length = draw.choice([length for length in LENGTHS if length <= longest])
    causal, kv_heads = draw.random() < 0.5, draw.choice((1, 2))
    return Case(
        axis=draw.choice(("space", "time")),
        length=length,
        queries=draw.choice((None, draw.randint(1, length))),
        cross_length=draw.choice((1, 2)),
        batch=draw.choice((1, 2)),
        heads=draw.choice((1, 2, 3)) * kv_heads,
        kv_heads=kv_heads,
        width=draw.choice(WIDTHS),
        causal=causal,
        window=draw.choice((None, draw.randint(1, length + 2))) if causal else None,
        private=draw.choice((0, 1, min(5, length))),
        masked=draw.random() < 0.2,
        softcap=draw.choice((None, 5.0, 50.0, 300.0)),
        scale=draw.choice((None, 0.05)),
        raw=draw.random() < 0.7,
        gains=draw.random() < 0.8,
        strided=draw.random() < 0.5,
    )


class Check(NamedTuple):
    """Arguments of a rule, `rule(backend, device, **arguments)`, which raises AssertionError with the requirement."""

    rule: Callable[..., None]
    arguments: dict[str, Any]

    def run(self, backend: str, device: str) -> None:
        self.rule(backend, device, **self.arguments)


#: Small, because the interpreter is slow: two sequences of two or three tiles each.
SPACE = Case(axis="space", length=37, cross_length=1, heads=4, kv_heads=2, private=3)
TIME = Case(axis="time", length=50, cross_length=2, heads=2, kv_heads=1, causal=True, window=13)
ONE_FRAME = Case(length=40, queries=1, cross_length=1, heads=6, filled=23)
#: More sequences of more tiles.
LONG_SPACE = replace(SPACE, length=201, cross_length=2, heads=6)
LONG_TIME = replace(TIME, length=203, cross_length=1, heads=6, kv_heads=2, window=99, batch=2)
LONG_FRAME = replace(ONE_FRAME, length=192, cross_length=5, filled=129, batch=2)


def _clear_checks() -> dict[str, Check]:
    """Tiles of keys or rows that just fail to be clear: with 32 keys and 32 rows, two of each query, in float32.

    With a small scale every key has weight.
    """
    time = Case(axis="time", cross_length=1, heads=2, kv_heads=1, causal=True, raw=False, scale=0.02)
    space = replace(time, axis="space", causal=False)
    every = slice(None)
    return {
        "clear keys, causal": Check(float32_is_exact, {"case": replace(time, length=72, queries=10)}),
        "clear keys, window": Check(float32_is_exact, {"case": replace(time, length=80, queries=10, window=47)}),
        "clear keys, private": Check(float32_is_exact, {"case": replace(space, length=33, private=2)}),
        "clear rows, causal": Check(float32_is_exact, {"case": replace(time, length=48, queries=34)}),
        "clear rows, window": Check(float32_is_exact, {"case": replace(time, length=50, queries=34, window=47)}),
        "clear slots": Check(hidden_keys_change_no_bit, {"case": replace(space, length=37, filled=31), "rows": every}),
    }


def _checks(space: Case, time: Case, frame: Case, decoded: Case) -> dict[str, Check]:
    exact, hidden, equal = float32_is_exact, hidden_keys_change_no_bit, equal_logits_get_equal_weights
    return {
        "float32 space": Check(exact, {"case": space}),
        "float32 time": Check(exact, {"case": time}),
        "float32 wide": Check(exact, {"case": replace(space, private=0, width=128, kv_heads=1, heads=2, softcap=50.0)}),
        "float32 narrow": Check(exact, {"case": replace(time, width=32, softcap=5.0)}),
        "float32 without cap and gains": Check(exact, {"case": replace(space, softcap=None, gains=False, heads=2)}),
        "float32 last queries": Check(exact, {"case": replace(time, queries=13, raw=False, window=20)}),
        "float32 masked": Check(
            exact, {"case": replace(space, masked=True, private=0, scale=0.05, heads=2, softcap=3.0)}
        ),
        "float32 one frame": Check(exact, {"case": frame}),
        "float32 far cap": Check(exact, {"case": replace(frame, softcap=100.0, scale=0.4)}),
        "bfloat16 space": Check(bfloat16_error_is_that_of_rounding, {"case": space}),
        "bfloat16 time": Check(bfloat16_error_is_that_of_rounding, {"case": time}),
        "bfloat16 one frame": Check(bfloat16_error_is_that_of_rounding, {"case": replace(frame, softcap=None)}),
        "window of all": Check(
            window_of_all_keys_is_no_window, {"case": replace(time, length=time.length // 3 * 2, cross_length=1)}
        ),
        "cap far away": Check(distant_cap_is_no_cap, {"case": replace(space, kv_heads=1, heads=1)}),
        "repeated heads": Check(grouped_heads_equal_repeated_heads, {"case": replace(space, length=space.length - 8)}),
        "hidden future": Check(hidden, {"case": replace(time, cross_length=1, window=None), "rows": slice(0, 40)}),
        "hidden past": Check(hidden, {"case": replace(time, cross_length=1), "rows": slice(time.length - 5, None)}),
        "hidden private": Check(hidden, {"case": replace(space, kv_heads=1, heads=1), "rows": slice(0, -3)}),
        "hidden slots": Check(hidden, {"case": frame, "rows": slice(None)}),
        "large logits": Check(equal, {"case": replace(time, cross_length=1, softcap=None), "size": 300.0}),
        "large negative logits": Check(equal, {"case": replace(time, cross_length=1, softcap=1e3), "size": -300.0}),
        "logits beyond the cap": Check(equal, {"case": replace(frame, softcap=64.0), "size": 200.0}),
        "logits beyond a large cap": Check(equal, {"case": replace(frame, softcap=88.0), "size": 200.0}),
        "distant neighbours": Check(
            distant_logits_keep_their_neighbours, {"case": replace(space, private=0, softcap=5.0, kv_heads=1, heads=2)}
        ),
        **_clear_checks(),
        "decoding": Check(decoding_equals_the_full_pass, {"case": decoded}),
        "storage space": Check(only_own_storage_is_accessed, {"case": space}),
        "storage time": Check(only_own_storage_is_accessed, {"case": replace(time, heads=time.kv_heads, raw=False)}),
        "same bits": Check(repeated_call_gives_equal_bits, {"case": replace(space, kv_heads=1, heads=2)}),
    }


CHECKS = _checks(SPACE, TIME, ONE_FRAME, Case(length=4, window=3, heads=6, cross_length=1))
LONG_CHECKS = _checks(LONG_SPACE, LONG_TIME, LONG_FRAME, Case(length=70, window=33, heads=8, batch=2))
