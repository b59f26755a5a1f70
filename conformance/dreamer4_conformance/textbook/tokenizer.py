"""The tokenizer in plain PyTorch (Sec. 3.1)."""

from __future__ import annotations

from dreamer4_conformance.textbook.dynamics import Dynamics


class Tokenizer(Dynamics):
    """Encoder, bottleneck and decoder over the same layers."""
