"""Operations of Eq. (9) and two-hot values: the heads of agent finetuning."""

from __future__ import annotations

from dreamer4_conformance.adapter.operation import Array, operation
from dreamer4_conformance.verdicts import NotProvided


class HeadsOperations:
    """Multi-token prediction and two-hot values. Sec. 3.3, p. 7."""

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
