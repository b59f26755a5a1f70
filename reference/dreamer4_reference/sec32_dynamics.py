"""Sec. 3.2, p. 6, and Sec. 3.3, p. 7: the dynamics, a transformer over the tokens of all frames in order.

    frame t = [S_z spatial | registers | one (τ_t, d_t) token | S_a action tokens | agent]
    (τ, d) token = [table_τ(τ) | table_d(d)], concatenated;   action tokens = embedding + Σ components
    ẑ₁ = linear read-out of the spatial tokens

Each frame has its own (τ, d). Registers are input tokens without an output. In a clip without actions the action
tokens are the learned embedding alone. Agent tokens see all other tokens, and no other token sees them.
Read as: the K_max levels 0, 1/K_max, …, 1 − 1/K_max have embeddings, and a clean frame, τ = 1, uses the last of them
(A12); a level between two of them is rounded to the nearest (A10). Whether a_{t−1} or a_t belongs to frame t is decided
by the caller (A32).

z → spatial tokens (B, T, S_z, D).   τ, d → tau, d (B, T).   E is the width of the layers. Parameters are a mapping:
layers (as in `sec34_layers`), norm (E,), spatial_weight (D, E), spatial_bias (E,), registers (S_r, E),
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
"""Names of the dynamics' parameters."""


def level_index(tau: Float64[np.ndarray, "*batch"], k_max: int) -> Int[np.ndarray, "*batch"]:
    """Row of each signal level in the embedding table, round(τ K_max), at most K_max − 1.

    Args:
        tau: signal levels in [0, 1], float64, any shape; a level off the grid is rounded (A10), τ = 1 gets the last row
            (A12).
        k_max: K_max, a power of two.

    Returns:
        Rows in [0, K_max), int64, shaped like tau.

    Raises:
        TypeError: if tau is not a float64 array or k_max is not an int.
        ValueError: if a level lies outside [0, 1] or k_max is not a power of two.

    Example:
        >>> level_index(np.array([0.0, 0.25, 1.0]), 4).tolist()
        [0, 1, 3]
    """
    require_power_of_two("k_max", k_max, equation="label token")
    require_level(tau, equation="label token")
    return np.asarray(np.minimum(np.rint(tau * k_max), k_max - 1).astype(np.int64))


def step_index(d: Float64[np.ndarray, "*batch"], k_max: int) -> Int[np.ndarray, "*batch"]:
    """Row of each step size in the embedding table, log₂(1/d).

    Args:
        d: step sizes in {1, 1/2, …, 1/K_max}, float64, any shape.
        k_max: K_max, a power of two.

    Returns:
        Rows in [0, log₂ K_max], int64, shaped like d.

    Raises:
        TypeError: if d is not a float64 array or k_max is not an int.
        ValueError: if d is not in the list of step sizes or k_max is not a power of two.

    Example:
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
    """Token (τ, d) of each frame: half of its channels embed τ, the other half d.

    Args:
        tau: signal levels in [0, 1], float64, (B, T).
        d: step sizes in {1, 1/2, …, 1/K_max}, float64, (B, T).
        tau_table: embeddings of the K_max levels, float64, (K_max, D); its length defines K_max.
        d_table: embeddings of the step sizes, float64, (log₂ K_max + 1, D).

    Returns:
        float64, (B, T, 2 D).

    Raises:
        TypeError: if an argument is not a float64 array.
        ValueError: if shapes do not match, tau or d is out of range, or the length of tau_table is not a power of two.

    Example:
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
    """Action tokens: the learned embedding plus, in labelled clips, the sum of the encoded components (not their mean).

    Args:
        components: encoded action components, each float64, (B, T, S_a, D); may be empty.
        embedding: learned embedding, float64, (S_a, D).
        labelled: bool, (B,), True for clips that have actions; in other clips the components are ignored.
        time: T, used only if components is empty.

    Returns:
        float64, (B, T, S_a, D).

    Raises:
        TypeError: if embedding or a component is not a float64 array, or labelled is not bool.
        ValueError: if shapes do not match.

    Example:
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
    """Encode F categorical action components by table look-up and sum; a binary component has two classes.

    Args:
        action: classes in [0, classes), any integer dtype, (B, T, F).
        tables: one embedding table per component, all with the same number of classes, float64, (F, classes, S_a, E).

    Returns:
        float64, (B, T, S_a, E).

    Raises:
        TypeError: if tables is not a float64 array or action is not of an integer dtype.
        ValueError: if shapes do not match or a class is out of range.

    Example:
        >>> embed_classes(np.array([[[2]]]), np.arange(3.0).reshape(1, 3, 1, 1)).item()
        2.0
    """
    require_float64(equation="action tokens", tables=tables)
    require_shape("tables", tables, (None,) * 4, equation="action tokens")
    require_shape("action", action, (None, None, len(tables)), equation="action tokens")
    if not np.issubdtype(action.dtype, np.integer):
        raise TypeError(f"action tokens: action has dtype {action.dtype}, but must hold class indices")
    if ((action < 0) | (action >= tables.shape[1])).any():
        raise ValueError(f"action tokens: action contains a class outside 0 … {tables.shape[1] - 1}")
    return np.asarray(tables[np.arange(len(tables)), action].sum(2))


def project_numbers(
    action: Float64[np.ndarray, "B T F"], weight: Float64[np.ndarray, "F S_a E"], bias: Float64[np.ndarray, "S_a E"]
) -> Float64[np.ndarray, "B T S_a E"]:
    """Encode a continuous action component of F numbers by a linear projection.

    Args:
        action: float64, (B, T, F).
        weight: float64, (F, S_a, E).
        bias: float64, (S_a, E).

    Returns:
        float64, (B, T, S_a, E).

    Raises:
        TypeError: if an argument is not a float64 array.
        ValueError: if shapes do not match.

    Example:
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
    """Predict the clean latents ẑ₁ of every frame from corrupted latents, labels and actions; causal in time.

    Args:
        parameters: arrays under the names of `PARAMETERS`, shapes in the module's docstring.
        z: z̃, corrupted latents, float64, (B, T, S_z, D).
        tau: signal levels in [0, 1], float64, (B, T).
        d: step sizes in {1, 1/2, …, 1/K_max}, float64, (B, T).
        components: encoded action components, each float64, (B, T, S_a, E), as from `embed_classes` or
            `project_numbers`.
        labelled: bool, (B,), True for clips that have actions.
        kinds: axes that the layers mix, as from `layer_kinds`; [] runs no layer.
        agent: agent tokens at the input of the transformer, float64, (B, T, A, E), A ≥ 1; None for none.
        window: context length C of time layers in frames, at least 1, the current frame included; None for no limit.
        settings: softcap, eps, base and axes of the layers, as in `Settings`.

    Returns:
        (ẑ₁, agent output): float64 (B, T, S_z, D), not bounded, and float64 (B, T, A, E) or None without agent tokens.

    Raises:
        TypeError: if an array is not float64, or labelled is not bool.
        ValueError: if a parameter is missing, shapes do not match, tau or d is out of range, or an option is invalid.

    Example:
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
