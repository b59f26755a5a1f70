"""Operations of Eq. (10) and (11): returns, advantages, and the losses of imagination training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dreamer4_conformance.adapter.operation import Array, operation
from dreamer4_conformance.verdicts import NotProvided


class ImaginationOperations:
    """Imagination training. Sec. 3.3, p. 7 and 8."""

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
