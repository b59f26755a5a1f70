"""Which keys a query may attend to, along the axis of attention.

The queries are the last of the keys' positions: of Lq queries and Lk keys, query i has position i + Lk − Lq.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor


class Visible(NamedTuple):
    """The keys that a query may attend to: those that no field hides.

    Args:
        causal: hide keys at later positions than the query's.
        window: with `causal`, how many keys up to and including the query's own position are visible, 1 or more; None
            is all (A30).
        private: how many positions at the end, in [0, Lk], are visible to each other only: the agent token, for
            example.
        mask: bool (Lq, Lk), True = may attend; None hides nothing.
        filled: how many keys at the start hold data, integer (), 1 or more, on the device of the keys; None is all.

    Example:
        >>> Visible(causal=True, window=2).table(2, 3, torch.device("cpu")).tolist()
        [[True, True, False], [False, True, True]]
    """

    causal: bool = False
    window: int | None = None
    private: int = 0
    mask: Tensor | None = None
    filled: Tensor | None = None

    # Fields are tested one by one: the Dynamo of torch 2.11 fails to compare tuples that hold a tensor.
    @property
    def hides_nothing(self) -> bool:
        """True where every query may attend to every key."""
        return not self.causal and not self.private and self.mask is None and self.filled is None

    @property
    def is_causal_only(self) -> bool:
        """True where only `causal`, with or without a window, hides keys."""
        return self.causal and not self.private and self.mask is None and self.filled is None

    def rule(self, query: Tensor, key: Tensor, length_q: int, length_k: int) -> Tensor:
        """Evaluate the rule for pairs of a query and a key.

        Args:
            query: integers in [0, Lq), any shape.
            key: integers in [0, Lk), of a shape that broadcasts with that of `query`.
            length_q: Lq, number of queries, at least 0.
            length_k: Lk, number of keys, at least 0.

        Returns:
            Bool, True = may attend, of the broadcast shape. Only elementwise operations, as FlexAttention demands,
            and a lookup in the mask.
        """
        behind = query + (length_k - length_q) - key
        visible = behind >= 0 if self.causal else behind == behind
        if self.window is not None:
            visible = visible & (behind < self.window)
        if self.private:
            public = length_k - self.private
            visible = visible & ((key < public) | (behind + key >= public))
        if self.filled is not None:
            visible = visible & (key < self.filled)
        return visible if self.mask is None else visible & self.mask[query, key]

    def table(self, length_q: int, length_k: int, device: torch.device) -> Bool[Tensor, "Lq Lk"] | None:
        """Evaluate the rule for all pairs.

        Args:
            length_q: Lq, number of queries, at least 0.
            length_k: Lk, number of keys, at least 0.
            device: device of the result.

        Returns:
            Bool (Lq, Lk), True = may attend; None where nothing is hidden.
        """
        if not self.causal and not self.private and self.filled is None:
            return self.mask
        query, key = (torch.arange(length, device=device) for length in (length_q, length_k))
        return self.rule(query[:, None], key, length_q, length_k)
