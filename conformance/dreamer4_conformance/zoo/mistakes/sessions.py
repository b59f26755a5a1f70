"""Mistakes in repeated use: calls that are not repeatable, sessions that are not independent."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookModel
from dreamer4_conformance.zoo.base.sec32_dynamics import EMPTY, State
from dreamer4_conformance.zoo.base.sec34_layers import Past
from dreamer4_conformance.zoo.mistakes import mistake
from dreamer4_conformance.zoo.mistakes.cache import Generating
from dreamer4_conformance.zoo.mistakes.sec32_dynamics import WholeSequences

SIGNAL = ("signal",)
STEP = ("dynamics_step",)
DECODE_STEP = ("decode_step",)


@mistake("dropout-left-on", clause="net.repeatable", operations=("dynamics",), levels=SIGNAL)
class DropoutLeftOn(WholeSequences):
    """The model is left in training mode: dropout sets a tenth of each MLP's hidden channels to 0."""

    def hidden(self, x: Tensor, name: str) -> Tensor:
        return torch.nn.functional.dropout(super().hidden(x, name), 0.1)


@mistake("dropout-left-on-in-encoder", clause="net.repeatable", operations=("encode",), levels=SIGNAL)
class DropoutLeftOnInEncoder(TextbookModel):
    """The encoder is left in training mode: dropout sets a tenth of the channels of its tokens to 0."""

    def at_inference(self, tokens: Tensor) -> Tensor:
        return torch.nn.functional.dropout(tokens, 0.1)


@mistake("state-of-last-session", clause="net.sessions", operations=STEP, levels=SIGNAL)
class StateOfLastSession(Generating):
    """A new session of as many sequences starts from the last state of the session before."""

    last: State = EMPTY
    rows = 0

    def dynamics_init(self, batch: int) -> Any:
        return self.last if self.rows == batch else EMPTY

    def dynamics_step(
        self, state: Any, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any
    ) -> tuple[Tensor, Tensor | None, Any]:
        z_hat, agent, self.last = super().dynamics_step(state, z, tau, d, actions, task)
        self.rows = len(z)
        return z_hat, agent, self.last

    def prefilled(self, past: Tensor, actions: Any) -> Any:
        return self.append_frames(EMPTY, past, actions, 0)


@mistake("sessions-share-a-cache", clause="net.sessions", operations=STEP, levels=SIGNAL)
class SessionsShareACache(Generating):
    """The cache belongs to the model, and a new session clears it for all sessions."""

    cache: State = EMPTY

    def dynamics_init(self, batch: int) -> Any:
        self.cache = EMPTY
        return None

    def dynamics_step(
        self, state: Any, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any
    ) -> tuple[Tensor, Tensor | None, Any]:
        z_hat, agent, self.cache = super().dynamics_step(self.cache, z, tau, d, actions, task)
        return z_hat, agent, None


@mistake("decoder-sessions-share-a-cache", clause="net.sessions", operations=DECODE_STEP, levels=SIGNAL)
class DecoderSessionsShareACache(TextbookModel):
    """The decoder's cache belongs to the model, and a new session clears it for all sessions."""

    cache: tuple[Past, int] = ({}, 0)

    def decode_init(self, batch: int) -> Any:
        self.cache = ({}, 0)
        return None

    def decode_step(self, state: Any, z: Tensor) -> tuple[Tensor, Any]:
        video, self.cache = super().decode_step(self.cache, z)
        return video, None
