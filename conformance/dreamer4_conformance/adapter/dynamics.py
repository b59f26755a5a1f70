"""Operations of Sec. 3.2: the dynamics model as a black box, its tokens, its masks and its cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dreamer4_conformance.adapter.operation import Array, operation
from dreamer4_conformance.verdicts import NotProvided


class DynamicsOperations:
    """The dynamics model. Sec. 3.2, p. 6; Sec. 3.3, p. 7."""

    @operation
    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        """Draw valid inputs of the model, its layers and the tokenizer.

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
    def rollout(self, context: Array, actions: Array, frames: int, num_steps: int, seed: int, *, cache: bool) -> Array:
        """Generate several frames with the adapter's own model, with and without its cache. Sec. 3.2, p. 6; Sec. 3.4.

        Args:
            context: clean past frames, float (B, T, S, D), from the "z" of `example`.
            actions: "actions" of `example` for the T + frames timesteps, in the same structure; None if there are none.
            frames: number of frames to generate, at least 1.
            num_steps: K per frame, a power of two in [1, k_max].
            seed: determines the noise, the same with and without cache; in [0, 2³¹).
            cache: whether to keep keys and values of past frames, or to compute them in every step.

        Returns:
            The generated frames, float (B, frames, S, D).

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
