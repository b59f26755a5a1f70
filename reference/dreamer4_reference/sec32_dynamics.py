"""Sec. 3.2, p. 6, and Sec. 3.3, p. 7: the dynamics, whose tokens are those of one frame after those of another.

    frame t = [S_z spatial | registers | one (τ_t, d_t) token | S_a action tokens | agent]
    (τ, d) token = [table_τ(τ) | table_d(d)] side by side;   action tokens = embedding + Σ components;   ẑ₁ = read-out of spatial

A frame has a label of its own. Registers are part of every frame and of no output. A clip without actions has the
learned embedding alone. Agent tokens see all of this and are seen by none of it.
Read as: K_max levels 0, 1/K_max, … are embedded, and a clean frame counts as the last of them (A12); a level between two
of them is rounded (A10). Which action a_{t−1} or a_t stands in frame t is the caller's (A32).

z → spatial tokens (B, T, S_z, D).   τ, d → tau, d (B, T).   E is the width of the layers. Parameters are a mapping:
layers (as `sec34_layers` has them), norm (E,), spatial_weight (D, E), spatial_bias (E,), registers (S_r, E),
tau_table (K_max, E/2), d_table (log₂ K_max + 1, E/2), actions (S_a, E), read_weight (E, D), read_bias (D,)
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Unpack

import numpy as np
from jaxtyping import Bool, Float64, Int

from dreamer4_reference.levels import (
    require_float64,
    require_level,
    require_names,
    require_power_of_two,
    require_same_shape,
    require_shape,
    require_step,
)
from dreamer4_reference.sec31_masks import modality_mask
from dreamer4_reference.sec34_layers import Settings, transformer

EMBEDDINGS: Final = ("spatial_weight", "spatial_bias", "registers", "tau_table", "d_table", "actions")
PARAMETERS: Final = (*EMBEDDINGS, "layers", "norm", "read_weight", "read_bias")


def level_index(tau: Float64[np.ndarray, "*batch"], k_max: int) -> Int[np.ndarray, "*batch"]:
    """Row of the table of signal levels.

    >>> level_index(np.array([0.0, 0.25, 1.0]), 4).tolist()
    [0, 1, 3]
    """
    require_power_of_two("k_max", k_max, equation="label token")
    require_level(tau, equation="label token")
    return np.asarray(np.minimum(np.rint(tau * k_max), k_max - 1).astype(np.int64))


def step_index(d: Float64[np.ndarray, "*batch"], k_max: int) -> Int[np.ndarray, "*batch"]:
    """Row of the table of step sizes, log₂(1/d).

    >>> step_index(np.array([1.0, 0.5, 0.25]), 4).tolist()
    [0, 1, 2]
    """
    require_step(d, k_max=k_max, equation="label token")
    return np.asarray(np.rint(-np.log2(d)).astype(np.int64))


def label_token(
    tau: Float64[np.ndarray, "B T"],
    d: Float64[np.ndarray, "B T"],
    tau_table: Float64[np.ndarray, "K_max D"],
    d_table: Float64[np.ndarray, "steps D"],
) -> Float64[np.ndarray, "B T 2*D"]:
    """One token for each frame: half of its channels say τ, half say d. d_table has log₂(K_max) + 1 rows.

    >>> tau_table, d_table = np.array([[5.0], [6.0]]), np.array([[7.0], [8.0]])
    >>> label_token(np.array([[0.0, 0.5]]), np.array([[1.0, 0.5]]), tau_table, d_table).tolist()
    [[[5.0, 7.0], [6.0, 8.0]]]
    """
    require_same_shape(equation="label token", tau=tau, d=d)
    require_shape("tau", tau, (None, None), equation="label token")
    require_float64(equation="label token", tau_table=tau_table, d_table=d_table)
    require_shape("tau_table", tau_table, (None, None), equation="label token")
    k_max = len(tau_table)
    rows_tau, rows_d = level_index(tau, k_max), step_index(d, k_max)
    require_shape("d_table", d_table, (k_max.bit_length(), tau_table.shape[1]), equation="label token")
    return np.concatenate([tau_table[rows_tau], d_table[rows_d]], axis=-1)


def action_tokens(
    components: Sequence[Float64[np.ndarray, "B T S_a D"]],
    embedding: Float64[np.ndarray, "S_a D"],
    labelled: Bool[np.ndarray, " B"],
    *,
    time: int = 1,
) -> Float64[np.ndarray, "B T S_a D"]:
    """The learned embedding, and in labelled clips the sum of the encoded components; nothing is averaged.

    Without components the embedding stands alone in each of `time` frames.

    >>> ones = np.ones((2, 1, 1, 1))
    >>> action_tokens([ones, 2 * ones], np.array([[4.0]]), np.array([True, False])).ravel().tolist()
    [7.0, 4.0]
    """
    require_float64(equation="action tokens", embedding=embedding)
    require_shape("embedding", embedding, (None, None), equation="action tokens")
    require_shape("labelled", labelled, (None,), equation="action tokens")
    if labelled.dtype != np.bool_:
        raise TypeError(f"action tokens: labelled has dtype {labelled.dtype}, but must be bool")
    frames = components[0].shape[1:2] if components else (time,)
    tokens = np.tile(embedding, (len(labelled), *frames, 1, 1))
    for index, component in enumerate(components):
        require_same_shape(equation="action tokens", tokens=tokens, **{f"components[{index}]": component})
        tokens = tokens + np.where(labelled[:, None, None, None], component, 0)
    return tokens


def embed_classes(
    action: Int[np.ndarray, "B T F"], tables: Float64[np.ndarray, "F classes S_a E"]
) -> Float64[np.ndarray, "B T S_a E"]:
    """F categorical components of as many classes, each looked up in its table, summed; binary ones have two classes.

    >>> embed_classes(np.array([[[2]]]), np.arange(3.0).reshape(1, 3, 1, 1)).item()
    2.0
    """
    require_float64(equation="action tokens", tables=tables)
    require_shape("tables", tables, (None,) * 4, equation="action tokens")
    require_shape("action", action, (None, None, len(tables)), equation="action tokens")
    if not np.issubdtype(action.dtype, np.integer):
        raise TypeError(f"action tokens: action has dtype {action.dtype}, but must hold class indices")
    if ((action < 0) | (action >= tables.shape[1])).any():
        raise ValueError(f"action tokens: action holds a class outside 0 … {tables.shape[1] - 1}")
    return np.asarray(tables[np.arange(len(tables)), action].sum(2))


def project_numbers(
    action: Float64[np.ndarray, "B T F"], weight: Float64[np.ndarray, "F S_a E"], bias: Float64[np.ndarray, "S_a E"]
) -> Float64[np.ndarray, "B T S_a E"]:
    """A continuous component of F numbers, projected linearly.

    >>> project_numbers(np.array([[[2.0]]]), np.array([[[3.0]]]), np.array([[1.0]])).item()
    7.0
    """
    require_float64(equation="action tokens", action=action, weight=weight, bias=bias)
    require_shape("weight", weight, (None,) * 3, equation="action tokens")
    require_shape("action", action, (None, None, len(weight)), equation="action tokens")
    require_shape("bias", bias, weight.shape[1:], equation="action tokens")
    return np.einsum("btf,fse->btse", action, weight) + bias


def dynamics(
    parameters: Mapping[str, Any],
    z: Float64[np.ndarray, "B T S_z D"],
    tau: Float64[np.ndarray, "B T"],
    d: Float64[np.ndarray, "B T"],
    components: Sequence[Float64[np.ndarray, "B T S_a E"]],
    labelled: Bool[np.ndarray, " B"],
    kinds: Sequence[str],
    *,
    agent: Float64[np.ndarray, "B T A E"] | None = None,
    window: int | None = None,
    **settings: Unpack[Settings],
) -> tuple[Float64[np.ndarray, "B T S_z D"], Float64[np.ndarray, "B T A E"] | None]:
    """ẑ₁, and what the agent tokens have become, where there are any: their inputs are `agent`.

    >>> parameters = {"spatial_weight": np.eye(2), "spatial_bias": np.zeros(2), "registers": np.ones((3, 2))}
    >>> parameters |= {"tau_table": np.ones((4, 1)), "d_table": np.ones((3, 1)), "actions": np.ones((1, 2))}
    >>> parameters |= {"layers": [], "norm": np.ones(2), "read_weight": np.eye(2), "read_bias": np.zeros(2)}
    >>> z, label = np.full((1, 1, 1, 2), 5.0), np.full((1, 1), 0.5)
    >>> dynamics(parameters, z, label, label, [], np.array([False]), [])[0].round(3).tolist()
    [[[[1.0, 1.0]]]]
    """
    require_names("parameters", parameters, PARAMETERS, equation="dynamics")
    require_float64(equation="dynamics", z=z)
    require_shape("z", z, (*tau.shape, None, len(parameters["spatial_weight"])), equation="dynamics")
    inputs = {f"components[{index}]": component for index, component in enumerate(components)}
    for name, tokens in (inputs if agent is None else inputs | {"agent": agent}).items():
        require_shape(name, tokens, (*tau.shape, None, len(parameters["norm"])), equation="dynamics")
    require_shape("labelled", labelled, z.shape[:1], equation="dynamics")
    frame = _frame_tokens(parameters, z, tau, d, components, labelled, agent)
    modality = [name for name, tokens in frame for _ in range(tokens.shape[2])]
    allow = modality_mask("dynamics", modality, np.zeros(len(modality), np.int64))
    x = np.concatenate([tokens for _, tokens in frame], axis=2)
    x = transformer(x, parameters["layers"], parameters["norm"], kinds, allow=allow, window=window, **settings)
    z_hat = x[:, :, : z.shape[2]] @ parameters["read_weight"] + parameters["read_bias"]
    return z_hat, None if agent is None else x[:, :, -agent.shape[2] :]


def _frame_tokens(
    parameters: Mapping[str, Any],
    z: np.ndarray,
    tau: np.ndarray,
    d: np.ndarray,
    components: Sequence[np.ndarray],
    labelled: np.ndarray,
    agent: np.ndarray | None,
) -> list[tuple[str, np.ndarray]]:
    registers = parameters["registers"]
    frame = [
        ("latent", z @ parameters["spatial_weight"] + parameters["spatial_bias"]),
        ("register", np.broadcast_to(registers, (*tau.shape, *registers.shape))),
        ("label", label_token(tau, d, parameters["tau_table"], parameters["d_table"])[:, :, None]),
        ("action", action_tokens(components, parameters["actions"], labelled, time=z.shape[1])),
    ]
    return frame if agent is None else [*frame, ("agent", agent)]
