"""Adapter of 4ku/dreamer4 at f336dc9, a checkout at `$DREAMER4_PEERS/4ku/dreamer4`; no licence is stated.

The transformer of Sec. 3.4 and the masks of its modes. There is no model yet: its plan lists tokenizer, dynamics and
agent as pending, so that no numbered equation is judged. Layers are those of their presets, smaller and with random
parameters. There is no window, no cache and no scale other than 1/√D.

Readings: time attention is part of every fourth layer, which mixes space too (A25).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache, cached_property
from types import SimpleNamespace
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dreamer4_conformance.adapter import AttentionOptions, TorchAdapter
from dreamer4_conformance.adapters.peers import checkout, git_blob, visiting
from dreamer4_conformance.adapters.randomisation import randomised
from dreamer4_conformance.verdicts import NotProvided

PROJECT = "4ku/dreamer4"
COMMIT, ITS_LAYERS = "f336dc9", "7c816a3c9d55b7103342909a832330f9cf251143"
"""The commit that this adapter was written for, and the blob hash of its layers.py."""
WIDTH, HEADS, LATENTS, TOKENS = 32, 4, 3, 7
PRESETS = {"encoder": "tok-small", "decoder": "tok-small", "dynamics": "dyn-small"}
MODES = {"encoder": "encoder", "decoder": "decoder", "dynamics": "wm_agent"}


@cache
def modules() -> SimpleNamespace:
    """Their modules by the last part of their names."""
    names = ("modality", "configs", "transformer", "transformer.rope")
    with visiting(checkout(PROJECT)):
        return SimpleNamespace(**{name.split(".")[-1]: importlib.import_module(f"dreamer4.{name}") for name in names})


class FourKu(TorchAdapter):
    """Layers, attention and masks."""

    name = PROJECT
    readings: Mapping[str, str] = {"A25": "adds"}

    def __init__(self) -> None:
        """Raises FileNotFoundError if there is no checkout."""
        self.code = modules()
        blob = git_blob(checkout(PROJECT) / "dreamer4" / "transformer" / "layers.py")
        self.version = COMMIT if blob == ITS_LAYERS else f"with layers.py {blob[:7]}"

    def _placed(self, module: nn.Module) -> Any:
        return module.requires_grad_(False).to(self.device, getattr(torch, self.dtype))

    @cached_property
    def transformers(self) -> Mapping[str, Any]:
        """A transformer for each component, of their presets but smaller."""
        modality = self.code.modality.Modality
        layouts = dict.fromkeys(("encoder", "decoder"), (LATENTS, ((modality.IMAGE, TOKENS - LATENTS),)))
        layouts["dynamics"] = (0, ((modality.SPATIAL, TOKENS),))
        return {
            component: self._placed(
                randomised(
                    self.code.configs.make_transformer(
                        PRESETS[component],
                        self.code.modality.TokenLayout(*layout),
                        MODES[component],
                        d_model=WIDTH,
                        n_heads=HEADS,
                    )
                )
            )
            for component, layout in layouts.items()
        }

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        """Inputs of layers."""
        generator = torch.Generator().manual_seed(seed)
        x = (4 * torch.rand(batch, time, TOKENS, WIDTH, generator=generator) - 2).to(
            self.device, getattr(torch, self.dtype)
        )
        return dict.fromkeys(("x", "x_encoder", "x_decoder"), x)

    # Attention

    def attention(self, q: Tensor, k: Tensor, v: Tensor, **options: Unpack[AttentionOptions]) -> Tensor:
        """Their module without norms and rotation, with these projections."""
        if options["window"] or options.get("scale"):
            raise NotProvided("their attention has no window and no scale (attention.py:160)")
        width, cap = q.shape[2] * q.shape[3], options["softcap"]
        attention = self.code.transformer.MultiheadAttention(
            width, q.shape[2], k.shape[2], use_qk_norm=False, logit_cap=cap
        )
        attention.q_proj, attention.k_proj, attention.v_proj = (Returning(x.flatten(2)) for x in (q, k, v))
        attention.out_proj = nn.Identity()
        out: Tensor = attention(q.flatten(2), is_causal=options["causal"])
        return out.view(q.shape)

    def qk_norm(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Their norm with its first gains of √D, which make it an RMS norm."""
        norm = self._placed(self.code.transformer.QKNorm(q.shape[3], q.shape[2], k.shape[2]))
        normalised = norm(q.transpose(1, 2), k.transpose(1, 2))
        return normalised[0].transpose(1, 2), normalised[1].transpose(1, 2)

    def rope(self, x: Tensor, positions: Tensor) -> Tensor:
        tables = self.code.rope.build_rope_cache(int(positions.max()) + 1, x.shape[-1])
        cosine, sine = (table.to(x)[positions] for table in tables)
        rotated: Tensor = self.code.rope.apply_rope(x.transpose(1, 2), cosine, sine)
        return rotated.transpose(1, 2)

    # Layers

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        normalised: Tensor = functional_call(self.code.transformer.RMSNorm(len(weight), eps), {"scale": weight}, x)
        return normalised

    def swiglu(self, x: Tensor, w_gate: Tensor, w_up: Tensor, w_down: Tensor) -> Tensor:
        """Their MLP with biases of zero."""
        width, hidden = w_up.shape
        parameters = {
            "fc_in.weight": torch.cat([w_gate, w_up], 1).T,
            "fc_in.bias": x.new_zeros(2 * hidden),
            "fc_out.weight": w_down.T,
            "fc_out.bias": x.new_zeros(width),
        }
        ratio = (hidden + 0.5) / width  # they round the hidden width down
        out: Tensor = functional_call(self.code.transformer.SwiGLU(width, ratio), parameters, x)
        return out

    def layer_kinds(self) -> list[str]:
        return ["both" if layer.has_time else "space" for layer in self.transformers["dynamics"].layers]

    def _layer(self, kind: str) -> Any:
        component, axis = kind.split(".")
        layers = [layer for layer in self.transformers[component].layers if layer.has_time == (axis == "time")]
        if not layers:
            raise NotProvided(f"every layer of their preset {PRESETS[component]} mixes time")
        return layers[0]

    def transformer_layer(self, x: Tensor, kind: str) -> Tensor:
        out: Tensor = self._layer(kind)(x)
        return out

    def space_layer(self, x: Tensor) -> Tensor:
        """One of their layers without time attention."""
        return self.transformer_layer(x, "dynamics.space")

    def time_layer(self, x: Tensor) -> Tensor:
        """The part of one of their layers that mixes time."""
        layer = self._layer("dynamics.time")
        mixed: Tensor = x + layer.time_attn(layer.norm_time(x))
        return mixed

    def block_zeroed(self, x: Tensor, kind: str) -> Tensor:
        """One of their layers with its output projections at zero."""
        layer = self._layer(kind)
        zeros = {
            name: torch.zeros_like(parameter)
            for name, parameter in layer.named_parameters()
            if name.split(".")[-2] in {"out_proj", "fc_out"}
        }
        out: Tensor = functional_call(layer, zeros, x)
        return out

    def space_mask(self, kind: str, counts: Mapping[str, int]) -> Tensor:
        """Their mask within a frame, in which latents of the tokenizer come first."""
        theirs = self.code.modality.Modality
        numbers = {"latent": theirs.SPATIAL, "register": theirs.REGISTER, "label": theirs.SHORTCUT_SIGNAL}
        numbers |= {"action": theirs.ACTION, "agent": theirs.AGENT}
        if kind != "dynamics":  # masks of the tokenizer only compare modalities
            numbers = {name: 100 + i for i, name in enumerate(counts)}
        if set(counts) - set(numbers):
            raise ValueError(f"{kind} has the modalities {', '.join(numbers)}; got {', '.join(counts)}")
        names = [name for name, count in counts.items() for _ in range(count)]
        order = sorted(range(len(names)), key=lambda i: kind != "dynamics" and names[i] != "latent")
        latents = 0 if kind == "dynamics" else counts.get("latent", 0)
        layout = self.code.modality.TokenLayout(latents, tuple((numbers[names[i]], 1) for i in order[latents:]))
        mask = self.code.modality.build_space_attn_mask(layout, MODES[kind])
        inverse = torch.tensor(order).argsort()
        allow: Tensor = mask[inverse[:, None], inverse]
        return allow


class Returning(nn.Module):
    """A projection that returns this tensor, whatever its input."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, _: Tensor) -> Tensor:
        return self.output
