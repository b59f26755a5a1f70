"""Operations of Sec. 3.4: norms, MLP, and complete layers."""

from __future__ import annotations

from dreamer4_conformance.adapter.operation import Array, operation
from dreamer4_conformance.verdicts import NotProvided


class LayersOperations:
    """Layers of the transformer. Sec. 3.4."""

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
