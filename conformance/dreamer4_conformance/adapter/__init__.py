"""The adapter: the interface through which the suite calls an implementation.

    class Mine(TorchAdapter):
        name, version = "me/dreamer4", "1.0"
        level = "signal"                 # or "noise": tau = 1 is pure noise; the suite converts
        k_max = 64

        def ramp_weight(self, tau):
            return my_ramp(tau)

Every operation is optional. An operation that is not overridden is reported as `not-provided`, never as passed. An
operation may raise `NotProvided` or `NotImplementedError` for arguments that it does not support, with the reason as
message; any other exception fails the clauses that need the operation. Where the code has an equation that cannot be
called from outside, `not_testable` names the operation with the reason.

Where each operation is documented, by section of the paper:

- `shortcut_forcing`, Eq. (1), (2), (4), (6)-(8): corrupt, sample_tau_d, ramp_weight, dynamics_loss, dynamics_loss_at,
  sample_frame
- `tokenizer`, Eq. (5), Sec. 3.1: tokenizer_loss, loss_normalizer, encode, decode, reconstruct, decode_init,
  decode_step, patch_dropout, mae_replace, patch_grid, regroup
- `dynamics`, Sec. 3.2, 4: example, dynamics, dynamics_init, dynamics_step, rollout, label_token, action_tokens,
  mouse_class, modality_mask, space_mask
- `heads`, Eq. (9), Sec. 3.3: mtp_targets, mtp_loss, mtp_loss_of, mtp_heads, twohot_bins, twohot_encode, twohot_decode
- `imagination`, Eq. (10), (11), Sec. 3.3: lambda_returns, advantages, value_loss, policy_loss, policy_loss_factored,
  prior_start, imagined_trajectory
- `attention`, Sec. 3.4: attention, soft_cap, qk_norm, rope
- `layers`, Sec. 3.4: rms_norm, swiglu, space_layer, time_layer, layer_kinds, block_zeroed, transformer_layer
- `training`, Algorithm 1, App. A: training_plan, image_dynamics, training_gradients, agent_losses, resume,
  load_checkpoint, constants

`interface` has what an adapter declares (`Adapter`, its attributes) and the conversions of NumPy arrays;
`torch_adapter` and `jax_adapter` have those of the frameworks. `help(Adapter)` shows all of it.

Shapes: B batch, T time, S spatial tokens, D channels, A action components, H horizon, K bins or steps, N rows, tokens
or distances. Latents z are (B, T, S, D), tau and d are (B, T); an index range such as [0, T) is half open.

tau is in the adapter's own `level`. The docstrings write it as the signal level: tau = 0 is pure noise, tau = 1
is clean data. With `level = "noise"` the adapter receives and returns 1 - tau instead. d is a step size in (0, 1].

The arguments of operations that take z0 or z1, and those after a `*`, are passed by keyword: a swap would be silent.
Arrays arrive in the adapter's framework, floats in `dtype`, on `device`; integers are int64 and masks are boolean.
Results may have any floating-point dtype. Losses include the ramp weight and exclude RMS normalisation; a scalar loss
is a mean over (B, T). Equations, sections and pages are those of arXiv:2509.24527v1; an id such as A13 is a reading, a
choice that the paper leaves open (`dreamer4_conformance.readings`). Models, layers and training steps run with random
parameters, biases and zero-initialised ones included, which are the same in every call of an operation;
`dreamer4_conformance.randomised` fills those of a torch model.

The adapter's code runs in a worker process. An operation that ends the process fails its clauses; one that exceeds the
time limit or exhausts the memory leaves them undecided; neither is called again. Settings of the process (directory,
environment, error states, torch's modes and the like) that the adapter makes when it is imported or constructed hold
while its operations run. What an operation changes is restored after the call, and its clauses say so.
"""

from __future__ import annotations

from dreamer4_conformance.adapter.attention import AttentionOptions
from dreamer4_conformance.adapter.interface import Adapter, provides
from dreamer4_conformance.adapter.jax_adapter import JaxAdapter
from dreamer4_conformance.adapter.operation import OPERATIONS, Array, Network, operation
from dreamer4_conformance.adapter.torch_adapter import TorchAdapter

__all__ = [
    "OPERATIONS",
    "Adapter",
    "Array",
    "AttentionOptions",
    "JaxAdapter",
    "Network",
    "TorchAdapter",
    "operation",
    "provides",
]
