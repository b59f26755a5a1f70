"""The adapter: the interface through which the suite calls an implementation.

    class Mine(TorchAdapter):
        name, version = "me/dreamer4", "1.0"
        level = "signal"                 # or "noise": tau = 1 is pure noise; the suite converts
        k_max = 64

        def ramp_weight(self, tau):
            return my_ramp(tau)

Every operation is optional. An operation that is not overridden is reported as `not-provided`, never as passed. An
operation may raise `NotProvided` or `NotImplementedError` for arguments that it does not support, with the reason as
message; any other exception fails the clauses that need the operation.

Shapes: B batch, T time, S spatial tokens, D channels, A action components, H horizon, K bins or steps, N rows, tokens
or distances. Latents z are (B, T, S, D), tau and d are (B, T); an index range such as [0, T) is half open.

tau is in the adapter's own `level`. The docstrings below write it as the signal level: tau = 0 is pure noise, tau = 1
is clean data. With `level = "noise"` the adapter receives and returns 1 - tau instead. d is a step size in (0, 1].

The arguments of operations that take z0 or z1, and those after a `*`, are passed by keyword: a swap would be silent.
Arrays arrive in the adapter's framework, floats in `dtype`, on `device`; integers are int64 and masks are boolean.
Results may have any floating-point dtype. Losses include the ramp weight and exclude RMS normalisation; a scalar loss
is a mean over (B, T). Equations, sections and pages are those of arXiv:2509.24527v1; an id such as A13 is a reading, a
choice that the paper leaves open (`dreamer4_conformance.readings`).

The adapter's code runs in a worker process. An operation that ends the process fails its clauses; one that exceeds the
time limit or exhausts the memory leaves them undecided; neither is called again. Settings of the process (directory,
environment, error states, torch's modes and the like) that the adapter makes when it is imported or constructed hold
while its operations run. What an operation changes is restored after the call, and its clauses say so.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import numpy as np

from dreamer4_conformance.verdicts import NotProvided

Array = Any
Network = Callable[..., Array]
"""`network(z, tau, d, actions=None) -> z_hat`, the argument of a loss or a sampler.

z and z_hat are (N, T, S, D), tau and d broadcast to (N, T), actions are (N, T, A). It predicts the clean data z1.
"""

OPERATIONS: list[str] = []
F = TypeVar("F", bound=Callable[..., Any])


def operation(method: F) -> F:
    """Register a method of `Adapter` as an operation that adapters may override.

    Args:
        method: function whose name is added to `OPERATIONS`.

    Returns:
        The same function.
    """
    OPERATIONS.append(method.__name__)
    return method


class Adapter:
    """Interface of an implementation in NumPy. Subclass `TorchAdapter` or `JaxAdapter` for those frameworks.

    Attributes:
        name: shown in reports, for example "me/dreamer4".
        version: shown in reports.
        level: "signal" if tau = 1 is clean data in the adapted code, "noise" if tau = 1 is pure noise.
        k_max: K_max; the finest step size is 1 / k_max. A power of two.
        device: where the operations run, for example "cpu" or "cuda:0". `--device` overrides it.
        dtype: in which dtype the operations run, one of `dtypes`. `--dtype` overrides it.
        readings: reading id → option, only where it differs from the default (`dreamer4_conformance.readings`).
        expected_failures: clause id → reason. Strict like pytest's strict xfail: an unexpected pass fails.
        min_batch: smallest B that `sample_tau_d`, `dynamics_loss` and `patch_dropout` work with as intended.
        min_time: smallest T that `dynamics_loss` and `dynamics_loss_at` work with.
        d_min_share: with reading A2 "split", the share of rows, or of timesteps, at d = 1 / k_max, in [0, 1].
        context_level: with reading A9 "level", the signal level of context frames, in [0, 1].
        rms_warmup: number of values per loss term after which the running RMS is judged (A24).
        dtypes: dtypes that the framework supports.
        backends: names that `attention` accepts as `backend=`; empty if it has one implementation.
        registers: number of register tokens per frame of `dynamics` (A26), 0 without any; None leaves the answer to
            `modality_mask`, which raises ValueError for modalities that the model does not have.
        context_frames: C of `dynamics` and `time_layer`, in frames as reading A30 counts them; None if time attention
            has no window.
        few_shapes: True if each new shape takes seconds, in compiled code for example; checks then repeat shapes.
    """

    name: str = "unnamed"
    version: str = "0"
    level: Literal["signal", "noise"] = "signal"
    k_max: int = 64
    device: str = "cpu"
    dtype: str = "float32"
    readings: Mapping[str, str] = {}
    expected_failures: Mapping[str, str] = {}
    min_batch: int = 1
    min_time: int = 1
    d_min_share: float | None = None
    context_level: float = 0.9
    rms_warmup: int = 1000
    dtypes: Sequence[str] = ("float64", "float32")
    backends: Sequence[str] = ()
    registers: int | None = None
    context_frames: int | None = None
    few_shapes: bool = False

    # Eq. 1, 2, 4, 6-8

    @operation
    def corrupt(self, z0: Array, z1: Array, tau: Array) -> Array:
        """Mix noise and data: z̃ = (1 − τ) z0 + τ z1. Eq. (1), Sec. 2, p. 3; Eq. (6), Sec. 3.2, p. 6.

        Args:
            z0: noise, float (B, T, S, D).
            z1: clean data, float (B, T, S, D).
            tau: signal level of each timestep in [0, 1], float (B, T).

        Returns:
            z̃, float (B, T, S, D).

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def sample_tau_d(self, seed: int, batch: int, time: int) -> tuple[Array, Array]:
        """Draw signal levels and step sizes for training. Eq. (4), Sec. 2, p. 3.

        d is uniform over {1, 1/2, …, 1/k_max} (A2), tau uniform over {0, d, 2d, …, 1 − d}, for each timestep (A3).

        Args:
            seed: determines the draw, in [0, 2³¹).
            batch: B, at least `min_batch`.
            time: T, at least 1.

        Returns:
            A pair (tau, d): tau float (B, T), a multiple of d in [0, 1 − d]; d float (B, T), or (B,) with reading A3
            "sequence".

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def ramp_weight(self, tau: Array) -> Array:
        """Loss weight w(τ) = 0.9 τ + 0.1. Eq. (8), Sec. 3.2, p. 6.

        Args:
            tau: signal levels in [0, 1], float of any shape.

        Returns:
            Weights in [0.1, 1], shaped like tau: 0.1 at pure noise, 1 at clean data.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def dynamics_loss(self, network: Network, z1: Array, actions: Array, seed: int) -> Array:
        """Shortcut forcing loss that draws noise, levels and steps itself. Eq. (4), (6)-(8), Sec. 3.2, p. 6.

        Readings: A2 and A3 (law and granularity of d), A7 (terms that are weighted), A8 and A27 (norm and average),
        A38 (teacher).

        Args:
            network: called as the model, once per student and teacher pass, on any subset or order of the rows.
            z1: clean data, float (B, T, S, D), B at least `min_batch`, T at least `min_time`.
            actions: action vectors, float (B, T, A); pass them to `network` unchanged, in the same rows as z.
            seed: determines everything that is drawn, in [0, 2³¹).

        Returns:
            The loss, weighted by `ramp_weight`: a float scalar, or float (B, T), one value per timestep.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def dynamics_loss_at(self, network: Network, z1: Array, z0: Array, tau: Array, d: Array, actions: Array) -> Array:
        """Shortcut forcing loss at the noise, levels and steps passed in. Eq. (6)-(8), Sec. 3.2, p. 6.

        Readings: A7 (terms that are weighted), A8 and A27 (norm and average), A38 (teacher).

        Args:
            network: called as the model, once per student and teacher pass, on any subset or order of the rows.
            z1: clean data, float (B, T, S, D), T at least `min_time`.
            z0: noise, float (B, T, S, D).
            tau: signal levels, float (B, T), multiples of d in [0, 1 − d].
            d: step sizes, float (B, T), in {1, 1/2, …, 1/k_max}; constant along T with reading A3 "sequence".
            actions: action vectors, float (B, T, A); pass them to `network` unchanged, in the same rows as z.

        Returns:
            The loss, weighted by `ramp_weight`: a float scalar, or float (B, T), one value per timestep.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def sample_frame(
        self, network: Network, context: Array, num_steps: int, seed: int, actions: Array | None = None
    ) -> Array:
        """Generate the frame after `context` in K Euler steps. Eq. (2), Sec. 2, p. 3; Sec. 3.2, p. 6.

        Readings: A9, A11, A12 and A28 (corruption of the context frames, their labels, when their noise is drawn).

        Args:
            network: call it with z (B, T + 1, S, D), context frames first and the generated frame last.
            context: clean past frames, float (B, T, S, D); T may be 0. Raise NotProvided if T must be positive.
            num_steps: K, a power of two in [1, k_max].
            seed: determines the noise, in [0, 2³¹).
            actions: action vectors a_t for t in [0, T], float (B, T + 1, A), or None; pass them to every call. An
                unconditional model leaves this argument out.

        Returns:
            The generated frame, float (B, S, D).

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def rollout(self, context: Array, actions: Array, frames: int, num_steps: int, seed: int, *, cache: bool) -> Array:
        """Generate several frames with the adapter's own model, with and without its cache. Sec. 3.2, p. 6; Sec. 3.4.

        Args:
            context: clean past frames, float (B, T, S, D), from the "z" of `example`.
            actions: "actions" of `example` for the T + frames timesteps, in the same structure; None if there are none.
            frames: number of frames to generate, at least 1.
            num_steps: K per frame, a power of two in [1, k_max].
            seed: determines the noise, the same with and without cache.
            cache: whether to keep keys and values of past frames, or to compute them in every step.

        Returns:
            The generated frames, float (B, frames, S, D).

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    # Eq. 5 and loss normalisation

    @operation
    def tokenizer_loss(self, mse: Array, lpips: Array) -> Array:
        """Combine the tokenizer's loss terms: L_MSE + 0.2 L_LPIPS. Eq. (5), Sec. 3.1, p. 5.

        Args:
            mse: the normalised mean squared error, a float scalar.
            lpips: the normalised LPIPS term, a float scalar.

        Returns:
            The loss, a float scalar. No state: equal arguments give equal results.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def loss_normalizer(self) -> Callable[[str, Array], Array]:
        """Create a running-RMS normaliser of loss terms. Sec. 3.1, p. 5; Sec. 3.4.

        Reading A24: decay, first estimate and order of update and division are open; `rms_warmup` declares when the
        estimate is settled.

        Returns:
            A fresh function n(name, value) → value divided by the running root mean square of the term `name`. It
            updates that estimate in each call. The suite's terms are "mse" and "lpips", each value is a float scalar.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    # Eq. 9

    @operation
    def mtp_targets(self, x: Array, length: int) -> tuple[Array, Array]:
        """Shift a sequence into the targets of multi-token prediction. Eq. (9), Sec. 3.3, p. 7.

        Readings: A17 (the N distances of actions are n in [0, L], [0, L) or [1, L]) and A17.rewards (those of rewards);
        A29 "complete" allows to mark only the positions whose targets are valid at all distances.

        Args:
            x: x_t for t in [0, T): actions as integers, int (B, T), or rewards, float (B, T).
            length: L, at least 1.

        Returns:
            A pair (targets, valid): targets (B, T, N) in the dtype of x holds x_{t+n}; valid bool (B, T, N) is True
            where t + n < T. Targets that are not valid may hold anything.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def mtp_loss(self, log_prob: Array, valid: Array) -> Array:
        """Negative log-likelihood over timesteps and distances. Eq. (9), Sec. 3.3, p. 7.

        Readings: A17 (distances), A19 (sum or mean over distances), A29 (positions that the mean over (B, T) counts).

        Args:
            log_prob: log-likelihood of the target at each distance, float (B, T, N).
            valid: bool (B, T, N), False past the end of the sequence; log_prob there must not matter.

        Returns:
            The loss, a float scalar.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def mtp_loss_of(self, x: Array, log_prob: Array) -> Array:
        """Compute targets and loss of multi-token prediction in one function. Eq. (9), Sec. 3.3, p. 7.

        For code that does not separate `mtp_targets` from `mtp_loss`. Readings: A17, A19 and A29, as there.

        Args:
            x: actions x_t in [0, K) for t in [0, T), int (B, T).
            log_prob: ln p(k | h_t) of the K classes at each of the N distances, float (B, T, N, K); exp adds up to 1.

        Returns:
            The loss, a float scalar. log_prob at positions and distances with t + n ≥ T must not matter.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def twohot_bins(self) -> Array:
        """List the bins of two-hot values. Sec. 3.3, p. 7.

        Returns:
            Values of the bins, float (K,), K at least 2, finite and ascending, in raw values rather than symlog values.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def twohot_encode(self, x: Array) -> Array:
        """Encode values as weights of at most two adjacent bins. Sec. 3.3, p. 7.

        Reading A23: the encoding is linear in raw values, or in symlog values.

        Args:
            x: values, float (N,), also beyond the outermost bins.

        Returns:
            Weights, float (N, K), non-negative, with sum 1 in each row.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def twohot_decode(self, logits: Array) -> Array:
        """Decode the mean of a categorical distribution over the bins. Sec. 3.3, p. 7.

        Reading A23: the mean of raw values, or symexp of the mean of symlog values.

        Args:
            logits: log-probabilities up to a constant, float (N, K).

        Returns:
            Values, float (N,).

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    # Eq. 10, 11

    @operation
    def lambda_returns(self, reward: Array, value: Array, cont: Array, gamma: float, lam: float) -> Array:
        """Compute R_t = r_t + γ c_t ((1 − λ) v_{t+1} + λ R_{t+1}) with R_H = v_H. Eq. (10), Sec. 3.3, p. 7.

        Readings: A13 (v_{t+1} or v_t in the mixture), A14 (last row), A15 (c_t or c_{t+1}).

        Args:
            reward: r_t for t in [0, H), float (B, H).
            value: v_t for t in [0, H], float (B, H + 1); with reading A14 "reward" v_t for t in [0, H), float (B, H).
            cont: c_t for t in [0, H), float (B, H) in [0, 1]; 0 ends the episode.
            gamma: discount γ in [0, 1].
            lam: mixture λ in [0, 1].

        Returns:
            R_t for t in [0, H), float (B, H).

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def advantages(self, reward: Array, value: Array, cont: Array, gamma: float, lam: float) -> Array:
        """Compute A_t = R_t − v_t, neither centred nor scaled. Eq. (11), Sec. 3.3, p. 8.

        Readings: those of `lambda_returns`.

        Args:
            reward: r_t for t in [0, H), float (B, H).
            value: as for `lambda_returns`.
            cont: c_t for t in [0, H), float (B, H) in [0, 1].
            gamma: discount γ in [0, 1].
            lam: mixture λ in [0, 1].

        Returns:
            A_t for t in [0, H), float (B, H).

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def value_loss(self, logits: Array, returns: Array) -> Array:
        """Cross-entropy of the value head against two-hot returns, −ln p(R | s). Eq. (10), Sec. 3.3, p. 7.

        Args:
            logits: over the bins of `twohot_bins`, float (N, K).
            returns: R, float (N,), in raw values; no gradient flows into them. If your training step detaches them, do
                so here.

        Returns:
            The mean over N, a float scalar.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def policy_loss(
        self, logits: Array, prior_logits: Array, action: Array, advantage: Array, alpha: float, beta: float
    ) -> Array:
        """PMPO loss of one categorical action. Eq. (11), Sec. 3.3, p. 8.

            (1 − α)/|D⁻| Σ_{D⁻} ln π(a) − α/|D⁺| Σ_{D⁺} ln π(a) + β/N Σ KL[π ‖ π_prior],  D⁺ = {A ≥ 0}, D⁻ = {A < 0}

        Args:
            logits: of the policy π over A actions, float (N, A); N pools batch and time.
            prior_logits: of the prior, float (N, A); no gradient flows into them. If your training step computes them
                without gradient, detach them here.
            action: indices in [0, A), int (N,).
            advantage: A_t, float (N,); only its sign matters.
            alpha: weight α of D⁺, in [0, 1].
            beta: weight β of the prior term, at least 0.

        Returns:
            The loss, a float scalar. An empty set contributes 0.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def policy_loss_factored(
        self,
        logits: list[Array],
        prior_logits: list[Array],
        action: Array,
        advantage: Array,
        alpha: float,
        beta: float,
    ) -> Array:
        """PMPO loss of several action components: ln π and KL are sums over them. Eq. (11), Sec. 3.3, p. 8.

        Args:
            logits: of the policy, one float (N, A_f) for each component f in [0, F).
            prior_logits: of the prior, one float (N, A_f) for each component; no gradient flows into them, as for
                `policy_loss`.
            action: indices in [0, A_f), int (N, F).
            advantage: A_t, float (N,); only its sign matters.
            alpha: weight α of D⁺, in [0, 1].
            beta: weight β of the prior term, at least 0.

        Returns:
            The loss, a float scalar.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def prior_start(self, seed: int) -> Mapping[str, Array]:
        """Evaluate policy head and prior before and after the first update of imagination training. Sec. 3.3, p. 8.

        Args:
            seed: determines parameters, states and the update, in [0, 2³¹).

        Returns:
            Logits on the same states: "policy" and "prior" before the update, "policy_after" and "prior_after" after.
            Under each key float (N, A), or a list with one float (N, A_f) for each action component.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    # Sec. 3.4: attention and layers

    @operation
    def attention(
        self,
        q: Array,
        k: Array,
        v: Array,
        *,
        causal: bool,
        window: int | None,
        softcap: float | None,
        scale: float | None = None,
    ) -> Array:
        """Grouped-query attention without norms and rotation. Sec. 3.4.

        With a non-empty `backends`, the suite passes one of its names as the further keyword `backend`.

        Args:
            q: queries, float (B, L, Hq, D), Hq a multiple of Hkv.
            k: keys, float (B, L, Hkv, D); head h of k and v serves queries h Hq/Hkv to (h + 1) Hq/Hkv − 1.
            v: values, float (B, L, Hkv, D).
            causal: whether query i attends only to keys j ≤ i.
            window: number of keys that a query attends to, itself included: i − window < j. None disables it; set only
                together with `causal`.
            softcap: c of the logits' cap c tanh(logit / c), applied before the mask; None disables it.
            scale: factor of q·k before the cap; None stands for 1/√D.

        Returns:
            Outputs, float (B, L, Hq, D).

        Raises:
            NotProvided: if not overridden. Raise NotImplementedError for options that a backend does not support.
        """
        raise NotProvided

    @operation
    def soft_cap(self, logits: Array, cap: float) -> Array:
        """Bound logits smoothly: cap · tanh(logits / cap). Sec. 3.4.

        Args:
            logits: float of any shape.
            cap: c, above 0.

        Returns:
            Capped logits in [−cap, cap], shaped like logits.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def qk_norm(self, q: Array, k: Array) -> tuple[Array, Array]:
        """Normalise queries and keys for each head over D. Sec. 3.4.

        Reading A31: RMS, L2 or LayerNorm. Learned gains, if there are any, are 1.

        Args:
            q: queries, float (B, L, Hq, D).
            k: keys, float (B, L, Hkv, D).

        Returns:
            A pair (q, k) of the same shapes.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def rope(self, x: Array, positions: Array) -> Array:
        """Rotate queries or keys by their positions along one axis. Sec. 3.4.

        Reading A35: the model uses it along time and space, or along time only.

        Args:
            x: queries or keys, float (B, L, H, D), D even.
            positions: position of each token, int (L,), at least 0, increasing. From 64 on, an operation may
                raise any exception, as at the end of a table.

        Returns:
            Rotated x, float (B, L, H, D), with the same norm in every head.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def rms_norm(self, x: Array, weight: Array, eps: float) -> Array:
        """Divide by the root mean square over the last axis and multiply by a gain. Sec. 3.4.

        Args:
            x: float (…, D).
            weight: the full gain, float (D,): 1 changes nothing (pass weight − 1 to code that stores an offset from 1).
            eps: added to the mean square, above 0.

        Returns:
            Normalised x, float (…, D).

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def swiglu(self, x: Array, w_gate: Array, w_up: Array, w_down: Array) -> Array:
        """Gated MLP without biases: (silu(x w_gate) ⊙ x w_up) w_down. Sec. 3.4.

        Args:
            x: float (…, D).
            w_gate: float (D, F), F the hidden width. torch's `Linear.weight` is the transpose.
            w_up: float (D, F).
            w_down: float (F, D).

        Returns:
            float (…, D).

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def space_layer(self, x: Array) -> Array:
        """Apply one complete space layer, residual connections included, with random parameters. Sec. 3.4.

        Args:
            x: "x" of `example`, float (B, T, S, D). All S tokens of a frame attend to each other.

        Returns:
            float (B, T, S, D).

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def time_layer(self, x: Array) -> Array:
        """Apply one complete causal time layer, residual connections included, with random parameters. Sec. 3.4.

        Readings: A30 (whether `context_frames` counts the current frame), A35 (RoPE axes); with A25 "adds" the time
        layer alone, without the space layer to which it is added.

        Args:
            x: "x" of `example`, float (B, T, S, D). A token attends to its own spatial position, over `context_frames`.

        Returns:
            float (B, T, S, D).

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def layer_kinds(self) -> list[str]:
        """List the kinds of the dynamics model's layers. Sec. 3.4.

        Readings: A25 (a time layer replaces a space layer or is added to it), A39 (its place among four).

        Returns:
            "space" or "time" for every layer in order; with A25 "adds" also "both".

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def block_zeroed(self, x: Array, kind: str) -> Array:
        """Apply a layer whose attention and MLP output zeros. Sec. 3.4.

        An override without the argument `kind` is called with x alone and judged as one kind of layer.

        Args:
            x: "x" of `example` for the dynamics, "x_encoder" or "x_decoder" for the tokenizer, float (B, T, S, D).
            kind: "dynamics.space", "dynamics.time", "encoder.space", "encoder.time", "decoder.space" or "decoder.time":
                a complete layer of that part of the model, one that mixes time for "time". Raise NotProvided for kinds
                that the model does not have.

        Returns:
            float (B, T, S, D); the identity if the layer is residual.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def transformer_layer(self, x: Array, kind: str) -> Array:
        """Apply one complete layer of any part of the model, with random parameters. Sec. 3.4.

        In addition to `space_layer` and `time_layer`, which are those of the dynamics and decide more clauses.

        Args:
            x: as for `block_zeroed`, float (B, T, S, D).
            kind: as for `block_zeroed`.

        Returns:
            float (B, T, S, D).

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    # Sec. 3.1 to 3.3: the model as black boxes. Parameters are random, biases and zero-initialised layers included, and
    # the same in every call; `dreamer4_conformance.randomised` fills those of a torch model.

    @operation
    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        """Draw valid inputs of the black boxes below.

        The suite mixes examples: it replaces some values of an example by those of an example with another seed, so any
        such mixture must be valid too.

        Args:
            seed: determines the values, in [0, 2³¹).
            batch: B, at least 1.
            time: T, at least 1.

        Returns:
            Inputs by argument name, those that the provided operations take:

            - "z" float (B, T, S, D); "tau" and "d" float (B, T), on the grid of Eq. (4), tau in the adapter's level;
            - "actions": an array (B, T, …), or a dict or list of arrays; each channel of an array (B, T, A) is a
              component, a one-hot array and any other array is one component; absent or None if there are no actions;
            - "task": an array, or a dict or list of arrays, (B, …); absent or None if there is no task;
            - "video": frames (B, T, …) as `encode` takes them; "x": input of the layers, float (B, T, S, D).
            - "x_encoder", "x_decoder": input of the tokenizer's layers, float (B, T, S, D), where the operations that
              take a kind of layer support them.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def dynamics(
        self, z: Array, tau: Array, d: Array, actions: Any, task: Any, labelled: Array
    ) -> tuple[Array, Array | None]:
        """Apply the dynamics model to whole sequences. Sec. 3.2, p. 6; Sec. 3.3, p. 7.

        Readings: A32 (whether block t holds the action before or after frame t), A30 (`context_frames`).

        Args:
            z: corrupted frames, float (B, T, S, D).
            tau: signal level of each frame, float (B, T) in [0, 1].
            d: step size of each frame, float (B, T).
            actions: structured like "actions" of `example`; actions[:, t] enters block t. None if there are none.
            task: structured like "task" of `example`; None if there is none.
            labelled: bool (B,), False for a sequence without actions, whose action values must not matter.

        Returns:
            A pair (z_hat, agent): the prediction of the clean frames, float (B, T, S, D), and the output of the agent
            token, float (B, T, …), or None if there is no agent token.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def dynamics_init(self, batch: int) -> Any:
        """Create the state of `dynamics_step` before the first frame. Sec. 3.4.

        Args:
            batch: B, at least 1.

        Returns:
            The state, of any type, with an empty cache.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def dynamics_step(
        self, state: Any, z: Array, tau: Array, d: Array, actions: Any, task: Any
    ) -> tuple[Array, Array | None, Any]:
        """Apply the dynamics model to the next frame with a cache of the past. Sec. 3.4.

        Frame by frame it equals `dynamics` with labelled = True. Reading A32 as there.

        Args:
            state: from `dynamics_init` or the previous step.
            z: the corrupted frame, float (B, 1, S, D).
            tau: its signal level, float (B, 1) in [0, 1].
            d: its step size, float (B, 1).
            actions: the frame's actions, (B, 1, …), structured like "actions" of `example`; None if there are none.
            task: as in `dynamics`; time axes, where it has them, have length 1.

        Returns:
            A triple (z_hat, agent, state): outputs as of `dynamics` with T = 1, and the state after this frame.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def label_token(self, tau: Array, d: Array) -> Array:
        """Embed signal level and step size as one token. Sec. 3.2, p. 6.

        Judged: the token is a term of τ plus a term of d, which are two embeddings side by side or any linear map of
        them, so return them before or after such a projection, but before a nonlinearity; all levels have different
        terms, and so have all step sizes; a level off the grid, such as that of the context (A9), has the term of a
        neighbour on the grid, or raises.

        Args:
            tau: signal levels, float (B, T) in [0, 1].
            d: step sizes, float (B, T), in {1, 1/2, …, 1/k_max}.

        Returns:
            The token that enters the dynamics model, float (B, T, D): two discrete embeddings side by side, or a linear
            map of them.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def action_tokens(self, components: list[Array], embedding: Array, labelled: Array) -> Array:
        """Sum encoded action components and the learned embedding. Sec. 3.2, p. 6.

        Args:
            components: encoded components, each float (B, T, S_a, D).
            embedding: the learned embedding, float (S_a, D), always added.
            labelled: bool (B,); False leaves the components of that sequence out.

        Returns:
            Action tokens, float (B, T, S_a, D).

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def mtp_heads(self, agent: Array) -> Array:
        """Apply the output layers of one multi-token prediction head. Eq. (9), Sec. 3.3, p. 7.

        Args:
            agent: agent output of `dynamics`, float (B, T, …).

        Returns:
            Outputs, float (B, T, N, K), one for each of the N distances (A17).

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def modality_mask(self, kind: str, modality: list[str], frame: Array) -> Array:
        """Compute which tokens attend to which. Sec. 3.1, p. 5; Sec. 3.2, p. 6; Sec. 3.3, p. 7.

        Args:
            kind: "encoder", "decoder" or "dynamics". Raise ValueError for modalities that the model does not have.
            modality: modality of each of the N tokens. Encoder and decoder: "latent", "image", and further modalities
                by other names. Dynamics: "latent", "register", "label", "action", "agent".
            frame: frame of each token, int (N,), at least 0.

        Returns:
            bool (N, N), rows are queries, columns are keys, True = may attend.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def space_mask(self, kind: str, counts: Mapping[str, int]) -> Array:
        """Compute which tokens of one frame attend to which, for code whose mask covers one frame. Sec. 3.1, p. 5.

        It decides the same clauses as `modality_mask`; of tokens in different frames it says nothing.

        Args:
            kind: "encoder", "decoder" or "dynamics". Raise ValueError for modalities that the model does not have.
            counts: number of tokens of each modality, at least 1, in the order of the mask's rows and columns: with
                {"image": 4, "latent": 2} tokens 0 … 3 are patches. Modalities as for `modality_mask`.

        Returns:
            bool (S, S), rows are queries, columns are keys, True = may attend.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def encode(self, video: Array) -> Array:
        """Encode frames at inference, without patch dropout. Sec. 3.1, p. 5.

        Args:
            video: "video" of `example`, (B, T, …).

        Returns:
            Latents z after the bottleneck's tanh, float (B, T, S, D) in [−1, 1].

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def decode(self, z: Array) -> Array:
        """Decode latents into frames. Sec. 3.1, p. 5.

        Args:
            z: latents, float (B, T, S, D) in [−1, 1].

        Returns:
            Frames, float (B, T, …).

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def reconstruct(self, video: Array) -> Array:
        """Encode and decode frames at inference, in one pass. Sec. 3.1, p. 5.

        Args:
            video: "video" of `example`, (B, T, …).

        Returns:
            Frames, float (B, T, …); decode(encode(video)) unless the bottleneck is bypassed. Either may clip pixels.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def decode_init(self, batch: int) -> Any:
        """Create the state of `decode_step` before the first frame. Sec. 3.1, p. 5.

        Args:
            batch: B, at least 1.

        Returns:
            The state, of any type, with an empty cache.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def decode_step(self, state: Any, z: Array) -> tuple[Array, Any]:
        """Decode the next frame with a cache of the past; frame by frame it equals `decode`. Sec. 3.1, p. 5.

        Args:
            state: from `decode_init` or the previous step.
            z: latents of the frame, float (B, 1, S, D) in [−1, 1].

        Returns:
            A pair (video, state): the frame, float (B, 1, …), and the state after it.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def patch_dropout(self, seed: int, batch: int, time: int, patches: int) -> Array:
        """Draw the patches that masked-autoencoder training drops. Sec. 3.1, p. 5.

        For each image p ~ U(0, 0.9); then each patch is dropped with probability p, or an exact count of them (A33).

        Args:
            seed: determines the draw, in [0, 2³¹).
            batch: B, at least `min_batch`.
            time: T, at least 1.
            patches: N, patches of a frame, at least 1.

        Returns:
            bool (B, T, N), True = dropped.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def mae_replace(self, tokens: Array, mask: Array, embedding: Array) -> Array:
        """Replace dropped patches by the learned embedding. Sec. 3.1, p. 5.

        Args:
            tokens: patch tokens, float (B, T, N, D).
            mask: bool (B, T, N), True = dropped.
            embedding: the learned embedding, float (D,).

        Returns:
            float (B, T, N, D).

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def patch_grid(self, height: int, width: int) -> tuple[int, int]:
        """Count the patches of a frame after padding. Sec. 3.1, p. 5.

        Args:
            height: of the frame in pixels, before padding.
            width: of the frame in pixels, before padding.

        Returns:
            A pair (rows, columns) of patches, integers.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def regroup(self, z: Array) -> Array:
        """Reshape the bottleneck's latents to those that the dynamics model takes. Sec. 3.1, p. 5.

        Reading A36: consecutive pairs of tokens side by side, or another order.

        Args:
            z: latents of the bottleneck, float (B, T, 512, 16).

        Returns:
            float (B, T, 256, 32).

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def mouse_class(self, movement: Array) -> Array:
        """Classify mouse movements into 11 × 11 μ-law bins. Sec. 4.

        Args:
            movement: two coordinates in the unit of the adapter's data, float (N, 2).

        Returns:
            Classes in [0, 121), int (N,).

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def constants(self) -> Mapping[str, float]:
        """List default hyperparameters. Sec. 3, App. A.

        Returns:
            Numbers by name, those that the code has a default for: "num_steps" (K), "gamma" (γ of Eq. 10, in [0, 1]),
            "alpha" and "beta" (α in [0, 1], β ≥ 0 of Eq. 11), "mtp_length" (L), "mae_max" (largest p), "lpips_weight",
            "image_fraction" (share of a batch that is separate images); for Minecraft (Sec. 4) "binary_actions" and
            "mouse_classes".

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    # Algorithm 1: training of a small model of the adapter's own. Parameters are random, zero-initialised ones too.

    @operation
    def training_plan(self, seed: int, steps: int) -> Sequence[Mapping[str, Any]]:
        """List the composition of every batch of a complete run. Algorithm 1; Sec. 3.4; App. A.

        Args:
            seed: determines what is drawn, in [0, 2³¹).
            steps: number of training steps of the run, at least 1.

        Returns:
            One mapping for each step, in order, with the keys that apply: "length", frames of the batch in dynamics
            training, an integer; "image", bool (B,), True for a video whose frames are treated as separate images;
            "relevant", bool (B,), True for a relevant and False for a uniformly sampled sequence of agent finetuning.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def image_dynamics(self, z: Array, tau: Array, d: Array) -> Array:
        """Apply the dynamics model to videos whose frames are separate images, as training does. Sec. 3.4.

        Reading A37: frames are reshaped to T = 1, or time attention is masked.

        Args:
            z: corrupted frames, float (B, T, S, D).
            tau: signal level of each frame, float (B, T) in [0, 1].
            d: step size of each frame, float (B, T).

        Returns:
            z_hat, float (B, T, S, D).

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def training_gradients(self, phase: str, seed: int, terms: Sequence[str] | None = None) -> Mapping[str, Any]:
        """Compute the gradients of one training step, by component of the model. Algorithm 1; Sec. 3.3.

        Args:
            phase: "dynamics", "agent" (agent finetuning) or "imagine" (imagination training).
            seed: determines data and draws, in [0, 2³¹).
            terms: loss terms to differentiate, keys of `agent_losses`; None for all terms of the phase.

        Returns:
            Component → gradient. Components: "tokenizer", "transformer" (of the dynamics model), "policy", "reward",
            "value", "prior", and others that the model has. A gradient is one array or a list with one array per
            parameter; None stands for no gradient.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def agent_losses(self, seed: int, data: Sequence[int], relevant: Sequence[bool]) -> Mapping[str, Array]:
        """Compute the loss terms of one step of agent finetuning, before normalisation. Eq. (7), (9), Sec. 3.3, p. 7.

        Args:
            seed: determines what the step itself draws, in [0, 2³¹).
            data: one number per sequence of the batch; its frames, actions and rewards depend on that number alone.
            relevant: for each sequence, True if it is relevant, False if it is sampled uniformly.

        Returns:
            Scalars by term, those that the code has: "dynamics" (Eq. 7), "policy" and "reward" (Eq. 9).

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def imagined_trajectory(self, seed: int) -> Mapping[str, Any]:
        """Imagine trajectories with the policy in the world model, as imagination training does. Sec. 3.3, p. 7.

        The paper unrolls the policy from the last frame of recorded contexts; H is at least 2.

        Args:
            seed: determines contexts and draws, in [0, 2³¹).

        Returns:
            "value": v_t that enters `lambda_returns`, float (B, H + 1), or (B, H) with reading A14 "reward".
            "action": classes a_t taken at h_t, int (B, H), or (B, H, F) for F components. "logits": of the policy at
            h_t for t in [0, H), float (B, H, A), or a list with one float (B, H, A_f) for each component.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def resume(self, seed: int, steps: int, at: int | None) -> Mapping[str, Array]:
        """Train, optionally with an interruption, and return the final state. Not in the paper.

        Args:
            seed: determines parameters, data and draws, in [0, 2³¹).
            steps: number of training steps of the run, at least 1.
            at: number of steps after which the run is saved and continues from the checkpoint alone, as in a new
                process, in [1, steps); None for a run without interruption.

        Returns:
            Arrays by name: the parameters, and any other state that must be the same.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def load_checkpoint(self, removed: str | None, added: str | None) -> Mapping[str, Any]:
        """Load a checkpoint of one model into another, newly created model. Not in the paper.

        Args:
            removed: name of a parameter to delete from the checkpoint before loading; None to delete none.
            added: name of a parameter, unknown to the model, to add to the checkpoint before loading; None to add none.

        Returns:
            "missing" and "unexpected": lists of the names that loading reports. "parameters": the model's parameters
            after loading, arrays by name.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    # Conversions, random state and gradients, which the framework's subclass overrides

    def to_native(self, x: np.ndarray) -> Array:
        """Convert a NumPy array to an argument of an operation.

        Args:
            x: floats, integers or booleans, of any shape.

        Returns:
            A copy, so that in-place operations do not change the suite's arrays: floats in `dtype` on `device`;
            integers and booleans in their dtype.
        """
        return x.astype(self.dtype if x.dtype.kind == "f" else x.dtype)

    def to_numpy(self, x: Array) -> np.ndarray:
        """Convert a result of an operation to NumPy.

        Args:
            x: an array of the framework or a number.

        Returns:
            Floats as float64; integers and booleans in their dtype.

        Raises:
            TypeError: if x is not numeric.
        """
        array = np.asarray(x)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"an array of dtype {array.dtype}")
        return array.astype(np.float64) if array.dtype.kind == "f" else array

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Surround each call of an operation that takes a seed. NumPy adapters must use the seed themselves.

        Args:
            seed: of the operation, in [0, 2³¹).

        Returns:
            A context manager, which does nothing here.
        """
        yield

    def affine(self, z: Array, gain: np.ndarray, offset: np.ndarray, past: np.ndarray) -> Array:
        """Evaluate the suite's analytic network: gain z + offset + past Σ earlier frames, differentiable in z.

        Args:
            z: input, float (N, T, S, D).
            gain: float64, broadcasts to z.
            offset: float64, broadcasts to z.
            past: float64, broadcasts to z.

        Returns:
            float (N, T, S, D), rounded once to the dtype of z.
        """
        wide = np.asarray(z, np.float64)
        return (gain * wide + offset + past * wide[:, :-1].sum(1)[:, None]).astype(np.asarray(z).dtype)

    def output_gradients(
        self, loss: Callable[[Callable[[Array], Array]], Array]
    ) -> tuple[Array, list[np.ndarray | None] | None]:
        """Differentiate a loss with respect to the network's outputs.

        Args:
            loss: function of `probe`; it passes each output of the network through `probe` and uses the result. Its
                value is a scalar or (B, T), which is averaged first.

        Returns:
            The value, and one float64 gradient for each output in the order of the calls, None for an output that the
            value does not depend on, if the framework reports that. None instead of the list if the framework has no
            gradients or the value carries none.
        """
        return loss(lambda output: output), None

    def gradients(self, function: Callable[..., Array], *inputs: Array) -> list[np.ndarray]:
        """Differentiate the mean of `function(*inputs)` with respect to each input.

        Args:
            function: takes the inputs, returns an array.
            inputs: arrays of the framework, floats.

        Returns:
            One float64 gradient for each input, zeros if the function does not depend on it.

        Raises:
            NotProvided: if the framework has no gradients.
        """
        raise NotProvided("gradients need a TorchAdapter or a JaxAdapter")


class TorchAdapter(Adapter):
    """Interface of an implementation in PyTorch.

    Before each operation that takes a seed, the global random states are seeded with it; afterwards they are restored.
    """

    dtypes: Sequence[str] = ("float64", "float32", "bfloat16")

    def to_native(self, x: np.ndarray) -> Array:
        """Copy a NumPy array to a tensor, so that in-place operations do not change the suite's arrays.

        Args:
            x: floats, integers or booleans, of any shape.

        Returns:
            Tensor on `device`, floats in `dtype`.
        """
        import torch

        tensor = torch.from_numpy(np.array(x, order="C")).to(self.device)
        return tensor.to(getattr(torch, self.dtype)) if tensor.is_floating_point() else tensor

    def to_numpy(self, x: Array) -> np.ndarray:
        """Convert a tensor or number to NumPy.

        Args:
            x: a tensor on any device, or a number.

        Returns:
            Floats as float64, detached; integers and booleans in their dtype.

        Raises:
            TypeError: if x is not numeric.
        """
        import torch

        if not isinstance(x, torch.Tensor):
            return super().to_numpy(x)
        x = x.detach().cpu()
        return super().to_numpy((x.double() if x.is_floating_point() else x).numpy())

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Seed the global random states of torch (CPU and `device`), NumPy and Python, and restore them afterwards.

        Args:
            seed: of the operation, in [0, 2³¹).

        Returns:
            A context manager.
        """
        import torch

        numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002 - user code's global state
        devices = [self.device] if self.device != "cpu" else []
        with torch.random.fork_rng(devices=devices):
            # torch.manual_seed also records a stack trace for devices that do not exist: milliseconds per operation.
            (torch.manual_seed if devices else torch.default_generator.manual_seed)(seed)
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            try:
                yield
            finally:
                np.random.set_state(numpy_state)  # noqa: NPY002
                random.setstate(python_state)

    def affine(self, z: Array, gain: np.ndarray, offset: np.ndarray, past: np.ndarray) -> Array:
        """Evaluate the suite's analytic network in float64 on the device of z.

        Args:
            z: input, float (N, T, S, D).
            gain: float64, broadcasts to z.
            offset: float64, broadcasts to z.
            past: float64, broadcasts to z.

        Returns:
            Tensor (N, T, S, D), rounded once to the dtype of z.
        """
        import torch

        a, b, c = (torch.tensor(x, dtype=torch.float64, device=z.device) for x in (gain, offset, past))
        wide = z.double()
        return (a * wide + b + c * wide[:, :-1].sum(1)[:, None]).to(z.dtype)

    def output_gradients(
        self, loss: Callable[[Callable[[Array], Array]], Array]
    ) -> tuple[Array, list[np.ndarray | None] | None]:
        """Differentiate a loss with respect to one zero leaf that is added to each output of the network.

        Args:
            loss: function of `probe`, as in `Adapter.output_gradients`.

        Returns:
            The value, and one float64 gradient per output, None for an output that the value does not depend on; None
            instead of the list for a number or a detached tensor.
        """
        import torch

        leaves: list[Array] = []

        def _probe(output: Array) -> Array:
            with torch.inference_mode(False):
                leaves.append(torch.zeros(output.shape, dtype=output.dtype, device=output.device, requires_grad=True))
            return output + leaves[-1]

        value = loss(_probe)
        if not isinstance(value, torch.Tensor) or not value.requires_grad:
            return value, None
        gradients = torch.autograd.grad(value.mean(), leaves, allow_unused=True)
        return value, [None if gradient is None else self.to_numpy(gradient) for gradient in gradients]

    def gradients(self, function: Callable[..., Array], *inputs: Array) -> list[np.ndarray]:
        """Differentiate the mean of `function(*inputs)` with respect to each input, by torch.autograd.

        Args:
            function: takes the inputs, returns a tensor.
            inputs: floating-point tensors.

        Returns:
            One float64 gradient for each input, zeros if the function does not depend on it.
        """
        leaves = [x.detach().clone().requires_grad_() for x in inputs]
        return self._mean_gradients(function(*leaves), leaves)

    def _mean_gradients(self, value: Array, leaves: list[Array]) -> list[np.ndarray]:
        import torch

        if not value.requires_grad:
            return [np.zeros(tuple(leaf.shape)) for leaf in leaves]
        gradients = torch.autograd.grad(value.mean(), leaves, allow_unused=True, materialize_grads=True)
        return [self.to_numpy(gradient) for gradient in gradients]


class JaxAdapter(Adapter):
    """Interface of an implementation in JAX.

    Losses and samplers are called outside `jit`, because the suite's network reads the values of its arguments;
    `dreamer4_conformance.jax.closure_value` calls a loss that is defined inside a jitted step. For float64 the caller
    enables `jax_enable_x64`. Operations convert `seed` to a key themselves.

    JAX compiles each of its operations again for each shape, outside `jit` as well, and this takes most of the time
    of a run. Checks therefore use few shapes, and operations that take a seed are compiled without optimisations.
    """

    dtypes: Sequence[str] = ("float32", "bfloat16")
    few_shapes = True

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Compile with few optimisations while an operation that takes a seed runs.

        Args:
            seed: of the operation, which converts it to a key itself.

        Returns:
            A context manager.
        """
        with _few_optimisations():
            yield

    def to_native(self, x: np.ndarray) -> Array:
        """Convert a NumPy array to a jax array.

        Args:
            x: floats, integers or booleans, of any shape.

        Returns:
            jax array, floats in `dtype`.
        """
        import jax.numpy as jnp

        return jnp.asarray(x, dtype=self.dtype if x.dtype.kind == "f" else None)

    def to_numpy(self, x: Array) -> np.ndarray:
        """Convert a jax array or number to NumPy.

        Args:
            x: a jax array, a tracer of `jax.grad`, or a number.

        Returns:
            Floats, bfloat16 included, as float64; integers and booleans in their dtype.

        Raises:
            TypeError: if x is traced by `jit`, or not numeric.
        """
        import jax

        while isinstance(x, jax.core.Tracer):
            if not hasattr(x, "primal"):
                raise TypeError("a value inside jit, which the network cannot read; call the operation outside jit")
            x = x.primal
        if isinstance(x, jax.Array) and jax.numpy.issubdtype(x.dtype, jax.numpy.floating):
            return np.asarray(x.astype("float32") if x.dtype.itemsize < 4 else x).astype(np.float64)
        return super().to_numpy(x)

    def affine(self, z: Array, gain: np.ndarray, offset: np.ndarray, past: np.ndarray) -> Array:
        """Evaluate the suite's analytic network in float64 NumPy, which needs no compilation, differentiable in z.

        Args:
            z: input, float (N, T, S, D).
            gain: float64, broadcasts to z.
            offset: float64, broadcasts to z.
            past: float64, broadcasts to z.

        Returns:
            jax array (N, T, S, D), rounded once to the dtype of z.
        """
        import jax
        import jax.numpy as jnp

        @jax.custom_jvp
        def _network(z: Array) -> Array:
            return jnp.asarray(Adapter.affine(self, self.to_numpy(z), gain, offset, past), z.dtype)

        @_network.defjvp
        def _differentiated(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
            (tangent,) = tangents
            change = jnp.asarray(gain, tangent.dtype) * tangent
            if past.any():
                change = change + jnp.asarray(past, tangent.dtype) * tangent[:, :-1].sum(1)[:, None]
            return _network(*primals), change

        return _network(z)

    def output_gradients(
        self, loss: Callable[[Callable[[Array], Array]], Array]
    ) -> tuple[Array, list[np.ndarray | None] | None]:
        """Differentiate a loss in one pass: an identity behind each output keeps the gradient that arrives there.

        Args:
            loss: function of `probe`, as in `Adapter.output_gradients`.

        Returns:
            The value, and one float64 gradient per output, None for an output that the value does not depend on.
        """
        import jax
        import jax.numpy as jnp

        gradients: list[np.ndarray | None] = []

        def _averaged(origin: Array) -> tuple[Array, Array]:
            def _probe(output: Array) -> Array:
                index = len(gradients)
                gradients.append(None)

                @jax.custom_vjp
                def _identity(output: Array, origin: Array) -> Array:
                    return output

                def _keep(_: None, gradient: Array) -> tuple[Array, Array]:
                    gradients[index] = self.to_numpy(gradient)
                    return gradient, jnp.zeros_like(origin)

                _identity.defvjp(lambda output, origin: (output, None), _keep)
                return _identity(output, origin)  # the origin makes every output part of what is differentiated

            value = loss(_probe)
            return jnp.mean(value), value

        with _few_optimisations():
            (_, value), _ = jax.value_and_grad(_averaged, has_aux=True)(0.0)
        return value, gradients

    def gradients(self, function: Callable[..., Array], *inputs: Array) -> list[np.ndarray]:
        """Differentiate the mean of `function(*inputs)` with respect to each input, by jax.grad.

        Args:
            function: takes the inputs, returns a jax array.
            inputs: floating-point jax arrays.

        Returns:
            One float64 gradient for each input, zeros if the function does not depend on it.
        """
        import jax
        import jax.numpy as jnp

        differentiate = jax.grad(lambda *xs: jnp.mean(function(*xs)), argnums=tuple(range(len(inputs))))
        return [self.to_numpy(gradient) for gradient in differentiate(*inputs)]


@contextmanager
def _few_optimisations() -> Iterator[None]:
    """Compile in two thirds of the time; the arithmetic is the same."""
    import jax

    update: Callable[[str, bool], None] = jax.config.update
    before = jax.config.values["jax_disable_most_optimizations"]
    update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        update("jax_disable_most_optimizations", before)


def provides(adapter: Adapter, name: str) -> bool:
    """Check whether an adapter overrides an operation.

    Args:
        adapter: the instance to inspect.
        name: of the operation, one of `OPERATIONS`.

    Returns:
        True if its class or the instance itself overrides it.
    """
    return name in vars(adapter) or getattr(type(adapter), name) is not getattr(Adapter, name)
