"""Operations of Algorithm 1: batches, gradients and checkpoints of a small model, and the default constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dreamer4_conformance.adapter.operation import Array, operation
from dreamer4_conformance.verdicts import NotProvided


class TrainingOperations:
    """Training of a small model of the adapter's own. Algorithm 1; Sec. 3.4; App. A."""

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
