"""First calls of the dynamics and of what belongs to it."""

from __future__ import annotations

import numpy as np

from dreamer4_conformance.instruments.black_box import Tree, arguments, run
from dreamer4_conformance.instruments.smoke_calls import (
    CHANNELS,
    TOKENS,
    Occasion,
    contact,
    dimensions,
    floats,
    mapping,
)
from dreamer4_conformance.instruments.stepwise import rolled_out, unroll
from dreamer4_conformance.verdicts import OperationFailed


def _inputs(at: Occasion) -> dict[str, Tree]:
    return arguments(at.subject, "dynamics", 0, at.batch, at.time)


@contact
def _example(at: Occasion) -> None:
    example = mapping("example", at.subject.call("example", 0, at.batch, at.time, seeded=0))
    for name in ("tau", "d"):
        if example.get(name) is not None:
            x = at.subject.read(f"example: {name}", example[name], (at.batch, at.time))
            floats(f"example: {name}", x)
            if not ((x >= 0) & (x <= 1)).all():
                raise OperationFailed(f"example: {name} lies in {x.min():g} … {x.max():g}; it needs numbers in [0, 1]")


@contact
def _dynamics(at: Occasion) -> None:
    # How many tokens z_hat has is a clause.
    given = _inputs(at)
    z_hat = _outputs("dynamics", at, run(at.subject, "dynamics", given), at.time)
    dimensions("dynamics: z_hat", z_hat, (at.batch, at.time, None, given["z"].shape[-1]))


@contact
def _dynamics_step(at: Occasion) -> None:
    _outputs("dynamics_step", at, unroll(at.subject, _inputs(at), 1), 1)


def _outputs(name: str, at: Occasion, found: dict[str, np.ndarray], time: int) -> np.ndarray:
    if "z_hat" not in found:
        raise OperationFailed(f"{name} returned None for z_hat; it needs ({at.batch}, {time}, S, D)")
    for output, x in found.items():
        floats(f"{name}: {output}", x)
        if x.shape[1] != time:
            raise OperationFailed(f"{name}: {output} has shape {x.shape}; it needs ({at.batch}, {time}, …)")
    return found["z_hat"]


@contact
def _label_token(at: Occasion) -> None:
    tau, d = at.grid()
    token = at.subject.compute("label_token", at.subject.level(tau), d)
    floats("label_token", dimensions("label_token", token, (at.batch, at.time, None)))


@contact
def _action_tokens(at: Occasion) -> None:
    components = [at.normal(at.batch, at.time, TOKENS, CHANNELS), -at.normal(at.batch, at.time, TOKENS, CHANNELS)]
    labelled = np.arange(at.batch) % 2 == 0
    tokens = at.subject.compute("action_tokens", components, at.normal(TOKENS, CHANNELS), labelled)
    floats("action_tokens", dimensions("action_tokens", tokens, (at.batch, at.time, TOKENS, CHANNELS)))


@contact
def _mtp_heads(at: Occasion) -> None:
    if not at.subject.provides("dynamics"):
        return
    agent = run(at.subject, "dynamics", _inputs(at)).get("agent")
    if agent is not None:
        heads = at.subject.compute("mtp_heads", agent)
        floats("mtp_heads", dimensions("mtp_heads", heads, (at.batch, at.time, None, None)))


@contact
def _rollout(at: Occasion) -> None:
    given = arguments(at.subject, "rollout", 0, at.batch, at.time + 1)
    for cache in (False, True):
        z = rolled_out(at.subject, given, at.time, seed=0, cache=cache, num_steps=min(4, at.subject.k_max))
        floats("rollout", dimensions("rollout", z, (at.batch, 1, *given["z"].shape[2:])))
