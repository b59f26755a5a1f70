"""Operations of Eq. (1), (2), (4) and (6)-(8): corruption, levels, the loss of the dynamics, sampling of a frame."""

from __future__ import annotations

from dreamer4_conformance.adapter.operation import Array, Network, operation
from dreamer4_conformance.verdicts import NotProvided


class ShortcutForcingOperations:
    """Shortcut forcing, with the network as an argument. Sec. 2, p. 3; Sec. 3.2, p. 6."""

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
            network: called as the model, once per student and teacher pass, on any subset or order of the rows. Without
                gradients, leave out calls at other inputs or labels, such as for logging: they are taken for students.
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
