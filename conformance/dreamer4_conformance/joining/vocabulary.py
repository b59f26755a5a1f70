"""Names that implementations use for each operation and its arguments.

An operation that is not listed is a model, a layer or a training step: a class that only its author can construct.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

OPTIONAL = frozenset({"seed", "actions", "scale"})
"""Arguments that a function may lack: one without a seed draws from the global random state, which is seeded."""

ALIASES: Mapping[str, tuple[str, ...]] = {
    "network": (
        "model",
        "net",
        "denoiser",
        "dynamics",
        "predictor",
        "world_model",
        "dyn",
        "apply_fn",
        "apply",
        "fn",
        "f",
    ),
    "z0": ("noise", "eps", "epsilon", "x0"),
    "z1": ("x1", "clean", "z_clean", "latents", "latent", "data", "target", "targets", "z", "x", "x0", "x_start"),
    "tau": ("taus", "signal", "signal_level", "sigma", "noise_level", "level", "levels", "t"),
    "d": ("step_size", "step", "steps", "delta", "dt"),
    "actions": ("action", "act", "a"),
    "context": ("past", "history", "past_latents", "context_latents", "z_context", "ctx"),
    "num_steps": ("k", "n_steps", "sampling_steps", "steps"),
    "batch": ("batch_size", "b", "bsz", "n", "rows"),
    "time": ("t", "seq_len", "length", "frames", "num_frames", "timesteps"),
    "reward": ("rewards", "rew", "r"),
    "value": ("values", "val", "v"),
    "cont": ("continues", "continue_", "conts", "continuation", "not_done", "c"),
    "gamma": ("discount", "discount_factor"),
    "lam": ("lambda_", "lmbda", "lambd", "gae_lambda", "td_lambda"),
    "logits": ("policy_logits", "pi_logits", "value_logits", "pred_logits"),
    "returns": ("target", "targets", "ret", "lambda_returns"),
    "prior_logits": ("prior", "ref_logits", "reference_logits", "behavior_logits", "behaviour_logits", "bc_logits"),
    "action": ("actions", "act", "a"),
    "advantage": ("advantages", "adv", "advs"),
    "alpha": ("pmpo_alpha", "pos_weight"),
    "beta": ("pmpo_beta", "kl_weight", "kl_coef", "kl_scale"),
    "mse": ("mse_loss", "recon_loss", "l_mse"),
    "lpips": ("lpips_loss", "perceptual", "perceptual_loss", "l_lpips"),
    "x": ("values", "value", "scalar", "scalars", "targets", "target", "inputs", "hidden", "hidden_states"),
    "length": ("mtp_length", "horizon", "n", "l"),
    "log_prob": ("log_probs", "logp", "logprobs"),
    "valid": ("mask", "valid_mask"),
    "q": ("query", "queries"),
    "k": ("key", "keys"),
    "v": ("value", "values"),
    "causal": ("is_causal",),
    "window": ("window_size", "context"),
    "softcap": ("soft_cap", "cap", "logit_cap"),
    "cap": ("softcap", "soft_cap", "logit_cap", "c"),
    "positions": ("pos", "position", "position_ids"),
    "weight": ("gain", "scale", "gamma", "w"),
    "eps": ("epsilon",),
    "w_gate": ("gate", "w1"),
    "w_up": ("up", "w3"),
    "w_down": ("down", "w2"),
    "tokens": ("patches", "x"),
    "mask": ("drop", "dropped", "drop_mask"),
    "embedding": ("mask_token", "mask_embedding"),
    "patches": ("num_patches", "n"),
    "movement": ("mouse", "delta", "xy"),
}

CONSTANTS: Mapping[str, tuple[str, ...]] = {
    "k_max": ("kmax", "max_steps", "num_levels", "k"),
    "device": (),
    "dtype": (),
}
"""Parameters that are not arguments of an operation, and have a value in every adapter."""

RANDOM = ("generator", "gen", "rng", "key", "rng_key", "prng_key")
ENDED = ("done", "dones", "terminal", "terminals", "terminated")
"""Names of 1 − c_t, where the code marks the end of an episode."""
INDEXED = ("idx", "index", "indices")
"""Last words of names for levels and steps that are counted by whole numbers."""


@dataclass(frozen=True)
class Entry:
    """How an operation is recognised.

    Attributes:
        names: alternatives; a function's name contains all words of one of them. Plural endings do not count.
        arguments: of the operation, all of which the function must take, apart from those in `OPTIONAL`.
        excluded: words that a function of this name has if it is something else.
    """

    names: tuple[str, ...]
    arguments: tuple[str, ...]
    excluded: frozenset[str] = field(default=frozenset())


_LOSS = ("shortcut loss", "forcing loss", "dynamics loss", "flow loss", "dynamics pretrain loss", "world model loss")
_LEVELS = ("sample tau", "sample level", "sample step", "sample signal", "draw tau", "draw level", "sample grid")
_WEIGHTS = frozenset({"weight"})

VOCABULARY: Mapping[str, Entry] = {
    "corrupt": Entry(("corrupt", "add noise", "interpolate", "noise latent", "q sample"), ("z0", "z1", "tau")),
    "sample_tau_d": Entry(_LEVELS, ("seed", "batch", "time")),
    "ramp_weight": Entry(("ramp", "tau weight", "signal weight", "loss weight"), ("tau",)),
    "dynamics_loss": Entry(_LOSS, ("network", "z1", "actions", "seed"), _WEIGHTS),
    "dynamics_loss_at": Entry(_LOSS, ("network", "z1", "z0", "tau", "d", "actions"), _WEIGHTS),
    "sample_frame": Entry(
        ("sample frame", "generate frame", "next frame", "euler sample", "denoise frame", "sample timestep"),
        ("network", "context", "num_steps", "seed", "actions"),
    ),
    "tokenizer_loss": Entry(("tokenizer loss", "tokeniser loss", "reconstruction loss"), ("mse", "lpips")),
    "patch_dropout": Entry(
        ("patch dropout", "mae mask", "drop patch", "patch mask"), ("seed", "batch", "time", "patches")
    ),
    "mae_replace": Entry(("mae replace", "replace patch", "apply mask"), ("tokens", "mask", "embedding")),
    "mouse_class": Entry(("mouse class", "mu law", "mouse bin", "discretize mouse"), ("movement",)),
    "mtp_targets": Entry(("mtp target", "multi token target"), ("x", "length")),
    "mtp_loss": Entry(("mtp loss", "multi token loss"), ("log_prob", "valid")),
    "mtp_loss_of": Entry(("mtp loss", "multi token loss"), ("x", "log_prob")),
    "twohot_bins": Entry(("twohot bin", "two hot bin", "symexp bin", "make bin"), ()),
    "twohot_encode": Entry(
        ("twohot", "two hot"), ("x",), frozenset({"decode", "inverse", "mean", "bin", "loss", "from"})
    ),
    "twohot_decode": Entry(
        (
            "twohot decode",
            "two hot decode",
            "twohot mean",
            "two hot mean",
            "from twohot",
            "from two hot",
            "twohot inverse",
        ),
        ("logits",),
    ),
    "lambda_returns": Entry(
        ("lambda return", "td lambda", "lambda target", "compute return"), ("reward", "value", "cont", "gamma", "lam")
    ),
    "advantages": Entry(("advantage",), ("reward", "value", "cont", "gamma", "lam")),
    "value_loss": Entry(("value loss", "critic loss"), ("logits", "returns")),
    "policy_loss": Entry(
        ("pmpo", "policy loss", "actor loss"), ("logits", "prior_logits", "action", "advantage", "alpha", "beta")
    ),
    "attention": Entry(("attention", "attend"), ("q", "k", "v", "causal", "window", "softcap", "scale")),
    "soft_cap": Entry(("soft cap", "softcap", "cap logit"), ("logits", "cap")),
    "qk_norm": Entry(("qk norm", "qknorm", "norm qk"), ("q", "k")),
    "rope": Entry(("rope", "rotary", "apply rotary"), ("x", "positions")),
    "rms_norm": Entry(("rms norm", "rmsnorm"), ("x", "weight", "eps")),
    "swiglu": Entry(("swiglu", "swi glu"), ("x", "w_gate", "w_up", "w_down")),
}

PREFERRED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "corrupt": {"tau": ("time", "times")},
    "ramp_weight": {"tau": ("time", "times", "timesteps")},
    "soft_cap": {"logits": ("x", "scores", "s")},
    "twohot_decode": {"logits": ("x", "probs", "p")},
    "value_loss": {"logits": ("pred", "value")},
    "policy_loss": {"logits": ("pi", "policy")},
    "mtp_targets": {"x": ("actions", "rewards", "sequence")},
    "mtp_loss_of": {"x": ("actions", "action")},
}
"""Names that mean an argument in one operation only."""


def words(name: str) -> list[str]:
    """Words of an identifier in lower case, without plural endings.

    Args:
        name: in snake case or camel case, or words; "Class.method" gives the words of the method.

    Returns:
        The words in order.

    Example:
        >>> words("compute_lambda_returns"), words("twoHotEncode")
        (['compute', 'lambda', 'return'], ['two', 'hot', 'encode'])
    """
    snake = name.rpartition(".")[2].replace(" ", "_")
    spaced = "".join(f"_{letter}" if letter.isupper() else letter for letter in snake)
    split = [word.lower() for word in spaced.split("_") if word]
    return [word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word for word in split]
