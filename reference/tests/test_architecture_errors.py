"""Bad input to the architecture raises a message that names the argument, what was received and what is needed."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dreamer4_reference import minecraft_actions as minecraft
from dreamer4_reference import sec31_masks as masks
from dreamer4_reference import sec31_patch_dropout as dropout
from dreamer4_reference import sec31_tokenizer as tokenizer
from dreamer4_reference import sec32_dynamics as dynamics
from dreamer4_reference import sec34_attention as attention
from dreamer4_reference import sec34_layers as layers
from dreamer4_reference import sec34_norms as norms
from dreamer4_reference import sec34_rope as rope
from dreamer4_reference import sec34_swiglu as mlp

nan = np.nan
zero: Any = 0
rng = np.random.default_rng(0)
heads = np.ones((1, 2, 4, 6))
tokens = np.ones((1, 2, 3, 8))
all_pairs = np.ones((2, 2), bool)
tau, d = np.zeros((1, 2)), np.full((1, 2), 0.5)
layer = {name: np.ones(shape) for name, shape in layers.layer_shapes(8, 4, 2, 4, 6).items()}
frame = np.zeros(2, np.int64)
flags = np.zeros((1, 2, 3), bool)
encoder: dict[str, Any] = dict.fromkeys(tokenizer.ENCODER) | {"patch_weight": np.ones((8, 2))}
decoder: dict[str, Any] = dict.fromkeys(tokenizer.DECODER) | {"latent_weight": np.ones((3, 2))}
parts: dict[str, Any] = dict.fromkeys(dynamics.PARAMETERS) | {"spatial_weight": np.ones((8, 2)), "norm": np.ones(8)}


def attend(**change: Any) -> object:
    return attention.attention(**({"q": heads, "k": heads, "v": heads, "mask": all_pairs} | change))


def act(**change: Any) -> object:
    case: dict[str, Any] = {"components": [tokens], "embedding": np.ones((3, 8)), "labelled": np.array([True])}
    return dynamics.action_tokens(**(case | change))


CASES: dict[str, Callable[[], object]] = {
    "attention: q has dtype float32, but must be float64": lambda: attend(q=heads.astype(np.float32)),
    "attention: q has shape (2, 4, 6), but must have shape (any, any, any, any)": lambda: attend(q=heads[0]),
    "attention: k has shape (1, 2, 4, 5), but must have shape (1, any, any, 6)": lambda: attend(k=heads[..., :5]),
    "attention: v has shape (1, 1, 4, 6), but must have shape (1, 2, 4, 6)": lambda: attend(v=heads[:, :1]),
    "attention: 4 query heads are not a multiple of 3 key heads": lambda: attend(k=heads[:, :, :3], v=heads[:, :, :3]),
    "attention: mask has shape (1, 2), but must have shape (2, 2)": lambda: attend(mask=all_pairs[:1]),
    "attention: mask has dtype float64, but must be bool": lambda: attend(mask=np.ones((2, 2))),
    "attention: query 1 has no key to attend to, but needs at least one": lambda: attend(
        mask=np.array([[True, True], [False, False]])
    ),
    "attention: d_out has shape (1, 1, 4, 6), but must have shape (1, 2, 4, 6)": lambda: attention.attention_gradients(
        heads, heads, heads, heads[:, :1], mask=all_pairs
    ),
    "attention: window is 0 with causal = True, but must be ≥ 1 and needs causal = True": lambda: attention.may_attend(
        1, 0, causal=True, window=0
    ),
    "attention: window is 2 with causal = False, but": lambda: attention.attention_mask(2, 2, causal=False, window=2),
    "attention: length_q is 3, but must lie in 1 … length_k = 2": lambda: attention.attention_mask(
        3, 2, causal=True, window=None
    ),
    "soft cap: cap is 0.0, but must be finite and above 0": lambda: attend(softcap=0.0),
    "soft cap: cap is inf, but must be finite and above 0": lambda: attention.soft_cap(tau, np.inf),
    "RMSNorm: weight has shape (2,), but must have shape (8)": lambda: norms.rms_norm(tokens, np.ones(2), 0.1),
    "RMSNorm: eps is -1.0, but must be finite and at least 0": lambda: norms.rms_norm(tokens, np.ones(8), -1.0),
    "RMSNorm: x contains a zero vector and eps is 0, so the divisor is 0": lambda: norms.rms_norm(
        0 * tokens, np.ones(8), 0.0
    ),
    "QK-norm: k contains a zero vector, so the divisor is 0": lambda: norms.qk_norm(heads, 0 * heads),
    "QK-norm: q contains a vector of equal numbers, so the divisor is 0": lambda: norms.qk_norm(
        heads, heads, norm="layernorm"
    ),
    "QK-norm: norm is 'max', but must be one of 'rms', 'l2', 'layernorm'": lambda: norms.qk_norm(
        heads,
        heads,
        norm="max",  # type: ignore[arg-type]
    ),
    "QK-norm: q has shape (2, 4, 6), but must have shape (any, any, any, any)": lambda: norms.qk_norm(heads[0], heads),
    "RoPE: x has shape (1, 2, 4, 6), but must have shape (any, 3, any, any)": lambda: rope.rope(heads, np.arange(3)),
    "RoPE: positions has dtype float64, but must hold whole numbers": lambda: rope.rope(heads, np.arange(2.0)),
    "RoPE: dim is 5, but must be even and at least 2: channels are rotated in pairs": lambda: rope.rope(
        heads[..., :5], np.arange(2)
    ),
    "RoPE: base is 0.0, but must be finite and above 0": lambda: rope.rope_angles(np.arange(2), 4, base=0.0),
    "RoPE: layout is 'split', but must be one of 'half', 'interleaved'": lambda: rope.rope(
        heads,
        np.arange(2),
        layout="split",  # type: ignore[arg-type]
    ),
    "silu: x has dtype int64, but must be float64": lambda: mlp.silu(frame),
    "SwiGLU: w_up has shape (8, 5), but must have shape (8, 6)": lambda: mlp.swiglu(
        tokens, layer["w_gate"], layer["w_up"][:, :5], layer["w_down"]
    ),
    "SwiGLU: w_down has shape (8, 6), but must have shape (6, 8)": lambda: mlp.swiglu(
        tokens, layer["w_gate"], layer["w_up"], layer["w_down"].T
    ),
    "layers: depth is 0 and every is 4, but both must be ≥ 1": lambda: layers.layer_kinds(0),
    "layers: position is 'first', but must be one of 'last', 'other'": lambda: layers.layer_kinds(
        4,
        position="first",  # type: ignore[arg-type]
    ),
    "layers: kind is 'both', but must be one of 'space', 'time'": lambda: layers.residual_layer(
        tokens,
        layer,
        "both",  # type: ignore[arg-type]
    ),
    "layers: layer lacks wq, wk": lambda: layers.residual_layer(
        tokens, {name: layer[name] for name in layer.keys() - {"wq", "wk"}}, "space"
    ),
    "layers: q_gain has shape (5,), but must have shape (4)": lambda: layers.residual_layer(
        tokens, layer | {"q_gain": np.ones(5)}, "space"
    ),
    "layers: wv has shape (8, 4, 4), but must have shape (8, 2, 4)": lambda: layers.residual_layer(
        tokens, layer | {"wv": np.ones((8, 4, 4))}, "time"
    ),
    "layers: x has shape (2, 3, 8), but must have shape (any, any, any, any)": lambda: layers.residual_layer(
        tokens[0], layer, "time"
    ),
    "layers: x has shape (3, 8), but must have shape (any, any, any, any)": lambda: layers.space_attention(
        tokens[0, 0], layer
    ),
    "layers: wk has shape (7, 2, 4), but must have shape (8, any, any)": lambda: layers.time_attention(
        tokens, layer | {"wk": layer["wk"][:7]}
    ),
    "layers: kinds names 2 layers, but layers has 1": lambda: layers.transformer(tokens, [layer], np.ones(8), ["both"]),
    "attention: mask has shape (2, 2), but must have shape (3, 3)": lambda: layers.residual_layer(
        tokens, layer, "space", allow=all_pairs
    ),
    "modality mask: kind is 'agent', but must be one of 'encoder', 'decoder', 'dynamics'": lambda: masks.modality_mask(
        "agent",  # type: ignore[arg-type]
        ["latent"] * 2,
        frame,
    ),
    "modality mask: frame has shape (2,), but must have shape (1)": lambda: masks.modality_mask(
        "encoder", ["latent"], frame
    ),
    "modality mask: frame has dtype float64, but must hold whole numbers": lambda: masks.modality_mask(
        "encoder", ["latent"] * 2, np.zeros(2)
    ),
    "patch dropout: rng is of type int, but must be a numpy.random.Generator": lambda: dropout.patch_dropout(
        zero, 1, 1, 1
    ),
    "patch dropout: batch, time, patches are 1, 0, 4, but each must be ≥ 1": lambda: dropout.patch_dropout(
        rng, 1, 0, 4
    ),
    "patch dropout: draw is 'half', but must be one of 'bernoulli', 'count'": lambda: dropout.drop_count_law(
        4,
        draw="half",  # type: ignore[arg-type]
    ),
    "patch dropout: patches is 0, but must be ≥ 1": lambda: dropout.drop_count_law(0),
    "patch dropout: mask has shape (1, 2, 2), but must have shape (1, 2, 3)": lambda: dropout.replace_dropped(
        tokens, flags[..., :2], np.ones(8)
    ),
    "patch dropout: embedding has shape (7,), but must have shape (8)": lambda: dropout.replace_dropped(
        tokens, flags, np.ones(7)
    ),
    "patch dropout: mask has dtype float64, but must be bool": lambda: dropout.replace_dropped(
        tokens, np.zeros((1, 2, 3)), np.ones(8)
    ),
    "tokenizer: height, width, patch are 0, 640, 16, but each must be ≥ 1": lambda: tokenizer.patch_grid(0, 640),
    "bottleneck: weight has shape (2, 2), but must have shape (8, any)": lambda: tokenizer.bottleneck(
        tokens, np.eye(2), np.zeros(2)
    ),
    "regrouping: factor is 2, but must divide the 3 tokens of z": lambda: tokenizer.regroup(tokens),
    "regrouping: factor is 3, but must divide the 8 channels of z": lambda: tokenizer.unregroup(tokens, 3),
    "encoder: patches has shape (1, 2, 3, 7), but must have shape (any, any, any, 8)": lambda: tokenizer.encode(
        encoder, tokens[..., :7], []
    ),
    "decoder: unregrouped z has shape (1, 2, 6, 4), but must have shape (any, any, any, 3)": lambda: tokenizer.decode(
        decoder, tokens, []
    ),
    "label token: tau contains 1.5, but signal levels lie in [0, 1]": lambda: dynamics.level_index(tau + 1.5, 4),
    "label token: k_max is 6, but must be a power of two: 1, 2, 4, …": lambda: dynamics.level_index(tau, 6),
    "label token: d contains 0.5, but step sizes are 1, 1/2, … down to 1/1": lambda: dynamics.step_index(d, 1),
    "label token: d has shape (1, 1), but must have that of tau, (1, 2)": lambda: dynamics.label_token(
        tau, d[:, :1], np.ones((4, 2)), np.ones((3, 2))
    ),
    "label token: d_table has shape (2, 2), but must have shape (3, 2)": lambda: dynamics.label_token(
        tau, d, np.ones((4, 2)), np.ones((2, 2))
    ),
    "action tokens: labelled has dtype int64, but must be bool": lambda: act(labelled=np.array([1])),
    "action tokens: components[0] has shape (1, 2, 3, 7), but must have that of tokens, (1, 2, 3, 8)": lambda: act(
        components=[tokens[..., :7]]
    ),
    "action tokens: embedding has shape (8,), but must have shape (any, any)": lambda: act(embedding=np.ones(8)),
    "action tokens: action contains a class outside 0 … 1": lambda: dynamics.embed_classes(
        np.full((1, 2, 3), 2), np.ones((3, 2, 1, 4))
    ),
    "action tokens: action has dtype float64, but must hold class indices": lambda: dynamics.embed_classes(
        np.zeros((1, 2, 3)), np.ones((3, 2, 1, 4))
    ),
    "action tokens: action has shape (1, 2, 8), but must have shape (any, any, 3)": lambda: dynamics.project_numbers(
        np.ones((1, 2, 8)), np.ones((3, 1, 4)), np.ones((1, 4))
    ),
    "dynamics: z has shape (1, 2, 3, 7), but must have shape (1, 2, any, 8)": lambda: dynamics.dynamics(
        parts, tokens[..., :7], tau, d, [], np.array([True]), []
    ),
    "dynamics: labelled has shape (2,), but must have shape (1)": lambda: dynamics.dynamics(
        parts, tokens, tau, d, [], np.array([True, False]), []
    ),
    "dynamics: components[1] has shape (1, 1, 3, 8), but must have shape (1, 2, any, 8)": lambda: dynamics.dynamics(
        parts, tokens, tau, d, [tokens, tokens[:, :1]], np.array([True]), []
    ),
    "dynamics: agent has shape (1, 2, 3, 7), but must have shape (1, 2, any, 8)": lambda: dynamics.dynamics(
        parts, tokens, tau, d, [], np.array([True]), [], agent=tokens[..., :7]
    ),
    "dynamics: parameters lacks norm, read_weight": lambda: dynamics.dynamics(
        {name: None for name in parts if name not in ("norm", "read_weight")}, tokens, tau, d, [], np.array([True]), []
    ),
    "encoder: parameters lacks dropped": lambda: tokenizer.encode(encoder, tokens, [], dropped=flags),
    "decoder: parameters lacks queries": lambda: tokenizer.decode(
        {name: None for name in decoder if name != "queries"}, tokens, []
    ),
    "mouse class: movement has shape (2, 3), but must have shape (any, 2)": lambda: minecraft.mouse_class(
        np.ones((2, 3))
    ),
    "mouse class: movement contains NaN, but must hold numbers": lambda: minecraft.mouse_class(np.full((1, 2), nan)),
    "μ-law: limit is 0.0 and mu is 10.0, but both must be finite and above 0": lambda: minecraft.mouse_class(
        np.ones((1, 2)), limit=0.0
    ),
}


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize("sentence", CASES)
def test_bad_input_raises_the_documented_message(sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match="^" + re.escape(sentence)):
        CASES[sentence]()
