"""Witnesses of readings: one call of the reference for each option, whose results differ."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from dreamer4_reference import (
    eq02_sampling,
    eq04_grid,
    eq05_tokenizer_loss,
    eq06_07_shortcut_forcing,
    eq09_multi_token,
    eq10_lambda_return,
    loss_normalisation,
    sec31_patch_dropout,
    sec31_tokenizer,
    sec32_dynamics,
    sec34_attention,
    sec34_layers,
    sec34_norms,
    twohot,
)


@dataclass(frozen=True)
class Witness:
    """An input on which the options of a reading give different results.

    Attributes:
        setup: statements that define the arguments; empty if the calls need none.
        calls: option → expression in the reference; the option may be a sentence where a reading has no options.
        meaning: what the numbers are; names in quotes each option that has no call.
        equal_because: why all options give the same result; empty if the results differ.
    """

    setup: str
    calls: dict[str, str]
    meaning: str
    equal_because: str = ""

    def results(self) -> dict[str, str]:
        """Result of every call as it is printed: option → text."""
        names = dict(MODULES)
        exec(self.setup, names)
        return {option: repr(eval(call, names)) for option, call in self.calls.items()}

    def session(self) -> str:
        """Imports, setup and calls as an interactive session, with the results."""
        statements = [*self.setup.splitlines(), *self.calls.values()]
        used = [name for name in MODULES if re.search(rf"\b{name}\.", "\n".join(statements))]
        modules = ", ".join(name for name in used if name != "np")
        lines = ["import numpy as np"] * ("np" in used) + [f"from dreamer4_reference import {modules}"]
        session = [f">>> {line}" for line in lines + self.setup.splitlines()]
        for option, result in self.results().items():
            session += [f">>> {self.calls[option]}", result]
        return "\n".join(session)


MODULES = {
    "np": np,
    **{
        module.__name__.rpartition(".")[2]: module
        for module in (
            eq02_sampling, eq04_grid, eq05_tokenizer_loss, eq06_07_shortcut_forcing, eq09_multi_token,
            eq10_lambda_return, loss_normalisation, sec31_patch_dropout, sec31_tokenizer, sec32_dynamics,
            sec34_attention, sec34_layers, sec34_norms, twohot,
        )
    },
}  # fmt: skip
"""Names that a witness may use."""


def _options(call: str, *options: str) -> dict[str, str]:
    return {option: call.format(option=option) for option in options}


_RETURNS = "reward, cont = np.ones((1, 2)), np.array([[1.0, 0.5]])\nvalue = np.array([[4.0, 2.0, 8.0]])"
_TOKENS = (
    "log_prob = np.array([[[-1.0, -4.0], [-2.0, -8.0], [-3.0, np.nan]]])\n"
    "valid = np.array([[[True, True], [True, True], [True, False]]])"
)
_LOSS = (
    "z, tau, d = np.zeros((1, 2, 1, 1)), np.array([[0.5, 0.0]]), np.array([[0.5, 1.0]])\n"
    "network = lambda z, tau, d, actions: z + 1"
)

WITNESSES: dict[str, Witness] = {
    "A1": Witness(
        "from fractions import Fraction",
        {"multiples of d": "[str(tau) for tau in eq04_grid.signal_levels(Fraction(1, 4))]"},
        "levels τ of the step size d = 1/4; as printed, {0, 1/d, …} would be 0, 4, 8, … with an end below its start",
    ),
    "A2": Witness(
        "",
        {"uniform": "{str(d): str(p) for d, p in eq04_grid.step_law(8).items()}"},
        'probability of each step size for K_max = 8; with "split" the declared share is at d = 1/8, and '
        "the other three have a third of the remainder each",
    ),
    "A3": Witness(
        "rng = np.random.default_rng(1)",
        {
            "timestep": "eq04_grid.sample_tau_d(rng, 64, (1, 4))[1].tolist()",
            "sequence": "np.repeat(eq04_grid.sample_tau_d(rng, 64, (1, 1))[1], 4, 1).tolist()",
        },
        "step sizes of a sequence of four timesteps, from one generator",
    ),
    "A4": Witness(
        "z, tau, d, labels = np.zeros((1, 2, 1, 1)), np.array([[0.5, 0.0]]), np.array([[0.5, 1.0]]), []\n"
        "network = lambda z, tau, d, actions: labels.append((tau.tolist(), d.tolist())) or z",
        {
            "as they are": "(eq06_07_shortcut_forcing.bootstrap_target(network, z, tau, d, k_max=2), labels)[1]",
        },
        "(τ, d) of the teacher's two calls, for one timestep at d_min = 1/2 and one with d = 1",
    ),
    "A7": Witness(
        _LOSS,
        _options(
            "eq06_07_shortcut_forcing.shortcut_forcing_loss("
            "network, z, z, tau, d, k_max=2, weighted={option!r}).tolist()",
            "both", "flow",
        ),
        "loss of a timestep at d_min and of one above it",
    ),
    "A8": Witness(
        "z1_hat, z1 = np.full((1, 1, 4, 2), 3.0), np.ones((1, 1, 4, 2))",
        _options("eq06_07_shortcut_forcing.flow_error(z1_hat, z1, norm={option!r}).item()", "mean", "sum"),
        "error of a frame of 4 tokens of 2 channels, each wrong by 2",
    ),
    "A9": Witness(
        "context, noise = np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1, 1))",
        {
            "slight": "eq02_sampling.corrupt_context(context, noise).item()",
            "none": "eq02_sampling.corrupt_context(context, noise, level=1.0).item()",
            "level": "eq02_sampling.corrupt_context(context, noise, level=0.75).item()",
            "literal": "eq02_sampling.corrupt_context(context, noise, level=0.1).item()",
        },
        'factor of the past frame in what the network receives; "level" with `context_level = 0.75`',
    ),
    "A10": Witness(
        "tau = np.array([0.9])",
        {"nearest": "sec32_dynamics.level_index(tau, 64).tolist()"},
        "row of the label for the context's level 0.9, which is 57.6 of 64; 57 and 58 both pass",
    ),
    "A11": Witness(
        "",
        {
            "d_min": "sec32_dynamics.step_index(np.array([1 / 64]), 64).tolist()",
            "current": "sec32_dynamics.step_index(np.array([1 / 4]), 64).tolist()",
        },
        "row of the label of a context frame's step size, with K_max = 64, generating with K = 4 steps",
    ),
    "A12": Witness(
        "tau = np.array([1.0])",
        {"last": "sec32_dynamics.level_index(tau, 64).tolist()"},
        'row of the label for a clean frame; with "own" the table has one more row, 64',
    ),
    "A13": Witness(
        _RETURNS,
        _options(
            "eq10_lambda_return.lambda_returns(reward, value, cont, gamma=1.0, lam=0.5, mixture={option!r}).tolist()",
            "v_next", "v_same",
        ),
        "returns of two steps",
    ),
    "A14": Witness(
        _RETURNS,
        {
            "v": "eq10_lambda_return.lambda_returns(reward, value, cont, gamma=1.0, lam=0.5).tolist()",
            "reward": "eq10_lambda_return.lambda_returns("
            'reward, value[:, :2], cont, gamma=1.0, lam=0.5, last="reward").tolist()',
        },
        'returns of two steps; "reward" receives as many values as rewards',
    ),
    "A15": Witness(
        _RETURNS,
        _options(
            "eq10_lambda_return.lambda_returns(reward, value, cont, gamma=1.0, lam=0.5, pairing={option!r}).tolist()",
            "t", "next",
        ),
        "returns of two steps, c = 1 and 1/2",
    ),
    "A17": Witness(
        "x = np.arange(12)[None]",
        {
            "0..8": "eq09_multi_token.multi_token_targets(x, tuple(range(9)))[0][0, 0].tolist()",
            "0..7": "eq09_multi_token.multi_token_targets(x, tuple(range(8)))[0][0, 0].tolist()",
            "1..8": "eq09_multi_token.multi_token_targets(x, tuple(range(1, 9)))[0][0, 0].tolist()",
        },
        "timesteps that the agent token of timestep 0 predicts",
    ),
    "A17.rewards": Witness(
        "x = np.arange(12)[None]",
        {
            "same": "eq09_multi_token.multi_token_targets(x, tuple(range(9)))[0][0, 0].tolist()",
            "0..7": "eq09_multi_token.multi_token_targets(x, tuple(range(8)))[0][0, 0].tolist()",
            "1..8": "eq09_multi_token.multi_token_targets(x, tuple(range(1, 9)))[0][0, 0].tolist()",
        },
        'timesteps whose reward the agent token of timestep 0 predicts, if A17 is "0..8", which "same" then equals',
    ),
    "A19": Witness(
        _TOKENS,
        _options("eq09_multi_token.multi_token_loss(log_prob, valid, over={option!r})", "sum", "mean"),
        "loss of two distances whose means are 2 and 6",
    ),
    "A23": Witness(
        "bins, p = twohot.symexp_bins(5), np.array([[0.0, 0.0, 0.5, 0.5, 0.0]])",
        _options("twohot.twohot_decode(p, bins, space={option!r}).round(2).tolist()", "raw", "symlog"),
        "value of a distribution with half of its mass at 0 and half at symexp(10) = 22025.47",
    ),
    "A24": Witness(
        "normalise = loss_normalisation.RunningRMS()",
        {"this reference": '[round(normalise("mse", value), 3) for value in (2.0, 2.0, 4.0)]'},
        "three values of one term after division, with decay 0.99, the value included before dividing",
    ),
    "A25": Witness(
        "",
        _options("sec34_layers.layer_kinds(4, time_layer={option!r})", "replaces", "adds"),
        "what each of four layers mixes",
    ),
    "A26": Witness(
        "",
        {"c = 50": "sec34_attention.soft_cap(np.array([10.0, 100.0]), 50.0).round(2).tolist()"},
        "logits 10 and 100 under the soft cap",
    ),
    "A27": Witness(
        "loss, d = np.array([[1.0, 2.0, 6.0]]), np.array([[0.5, 1.0, 1.0]])",
        _options("eq06_07_shortcut_forcing.average(loss, d, k_max=2, averaging={option!r})", "joint", "per_term"),
        "average of three timesteps, the first of them at d_min",
    ),
    "A28": Witness(
        "rng, past = np.random.default_rng(0), np.ones((1, 1, 1, 1))\n"
        "corrupted = lambda: eq02_sampling.corrupt_context(past, rng.normal(size=past.shape)).item()",
        {
            "frame": "len(set(8 * [corrupted()]))",
            "generated": "len(set(4 * [corrupted()] + 4 * [corrupted()]))",
            "evaluation": "len(set([corrupted() for evaluation in range(8)]))",
        },
        "number of different inputs that the network receives for one past frame while it generates two frames with "
        "K = 4 evaluations each",
    ),
    "A29": Witness(
        _TOKENS,
        _options(
            "eq09_multi_token.multi_token_loss(log_prob, valid, positions={option!r})",
            "valid", "all", "complete", "pooled",
        ),
        "loss of three positions and two distances, where the last target of the second is past the end",
    ),
    "A30": Witness(
        "",
        {
            "inclusive": "[sec34_attention.may_attend(4, key, causal=True, window=3) for key in range(5)]",
            "exclusive": "[sec34_attention.may_attend(4, key, causal=True, window=4) for key in range(5)]",
        },
        "frames 0 … 4 that frame 4 attends to with C = 3",
    ),
    "A31": Witness(
        "q = np.array([3.0, 4.0, 0.0, 5.0]).reshape(1, 1, 1, 4)",
        _options("sec34_norms.qk_norm(q, q, norm={option!r})[0].round(3).ravel().tolist()", "rms", "l2", "layernorm"),
        "a query (3, 4, 0, 5) after the norm",
    ),
    "A32": Witness(
        "taken, tables = np.arange(4).reshape(1, 4, 1), np.arange(4.0).reshape(1, 4, 1, 1)",
        {
            "previous": "int(sec32_dynamics.embed_classes(np.roll(taken, 1, axis=1), tables)[0, 2].item())",
            "current": "int(sec32_dynamics.embed_classes(taken, tables)[0, 2].item())",
        },
        "action in the block of frame 2 (`actions[:, 2]`), where action t = 0 … 3 is taken after frame t is observed",
    ),
    "A33": Witness(
        "",
        _options("sec31_patch_dropout.drop_count_law(4, draw={option!r}).round(3).tolist()", "bernoulli", "count"),
        "probability that 0, 1, … 4 of 4 patches are dropped",
    ),
    "A34": Witness(
        "error, dropped = np.array([1.0, 1.0, 1.0, 3.0]), np.array([False, False, False, True])",
        {
            "all": "eq05_tokenizer_loss.tokenizer_loss(mse=(error**2).mean().item(), lpips=0.0)",
            "dropped": "eq05_tokenizer_loss.tokenizer_loss(mse=(error[dropped] ** 2).mean().item(), lpips=0.0)",
        },
        "loss, before its terms are normalised, of four patches with errors 1, 1, 1 and 3, the last one dropped",
    ),
    "A35": Witness(
        "rng, shapes = np.random.default_rng(0), sec34_layers.layer_shapes(2, 1, 1, 2, 2)\n"
        "layer, x = {name: rng.normal(size=shape) for name, shape in shapes.items()}, rng.normal(size=(1, 1, 3, 2))",
        _options("sec34_layers.space_attention(x, layer, axes={option!r}).round(3).tolist()[0][0][2]", "both", "time"),
        "last of three tokens after the attention of a space layer",
    ),
    "A36": Witness(
        "z = np.arange(4.0).reshape(1, 1, 4, 1)",
        {"pairs": "sec31_tokenizer.regroup(z).reshape(2, 2).tolist()"},
        'tokens 0 … 3 as two tokens of two channels; every other result is "other"',
    ),
    "A37": Witness(
        "rng, shapes = np.random.default_rng(0), sec34_layers.layer_shapes(2, 1, 1, 2, 2)\n"
        "layer, x = {name: rng.normal(size=shape) for name, shape in shapes.items()}, rng.normal(size=(1, 3, 1, 2))",
        {
            "reshape": "sec34_layers.time_attention(x.reshape(3, 1, 1, 2), layer).round(3).reshape(3, 2).tolist()",
            "mask": "sec34_layers.time_attention(x, layer, window=1).round(3).reshape(3, 2).tolist()",
        },
        "three images after the attention of a time layer",
        equal_because="Under both options the only key of an image in time attention is its own, with weight 1. Only "
        'the shape of the input differs: (B T, 1, S, D) with "reshape", (B, T, S, D) with "mask".',
    ),
    "A38": Witness(
        "network, average = (lambda z, *labels: z + 1), (lambda z, *labels: z + 0.5)\n"
        "z, tau, d = np.zeros((1, 1, 1, 1)), np.zeros((1, 1)), np.ones((1, 1))",
        {
            "self": "eq06_07_shortcut_forcing.bootstrap_target(network, z, tau, d)[0].item()",
            "average": "eq06_07_shortcut_forcing.bootstrap_target(average, z, tau, d)[0].item()",
        },
        "b′, where the average of the parameters is still half-way",
    ),
    "A39": Witness(
        "",
        _options("sec34_layers.layer_kinds(4, position={option!r})", "last", "other"),
        "what each of four layers mixes",
    ),
}  # fmt: skip
"""Reading → its witness."""
