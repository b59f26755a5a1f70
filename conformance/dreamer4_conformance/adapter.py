"""The adapter: how an implementation is handed to the suite. Every operation is optional; what is not overridden is `not-provided`.

    class Mine(TorchAdapter):
        name, version = "me/dreamer4", "1.0"
        level = "signal"                 # or "noise": there tau = 1 is noise, and the suite converts
        k_max = 64

        def ramp_weight(self, tau):
            return my_ramp(tau)

Shapes: B batch, T time, S spatial tokens, D channels; z is (B, T, S, D), tau and d are (B, T). tau is in the adapter's own level, d is a
step size in (0, 1]. Losses include the ramp weight and exclude RMS normalisation; a scalar is a mean over (B, T).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import numpy as np

from dreamer4_conformance.verdicts import NotProvided

Array = Any
Network = Callable[..., Array]
"""`network(z, tau, d, actions=None) -> z_hat`: what the suite hands to a loss or a sampler."""

OPERATIONS: list[str] = []
F = TypeVar("F", bound=Callable[..., Any])


def operation(method: F) -> F:
    """Marks a method as an operation that adapters override."""
    OPERATIONS.append(method.__name__)
    return method


class Adapter:
    """An implementation as the suite sees it, in NumPy arrays. Subclass `TorchAdapter` or `JaxAdapter` for those frameworks.

    Attributes:
        level: "signal" (tau = 1 is clean) or "noise" (tau = 1 is noise).
        k_max: finest step is 1 / k_max; a power of two.
        readings: reading id → option, only where it differs from the default (`dreamer4_conformance.readings`).
        expected_failures: clause id → reason. Strict: an unexpected pass fails.
        min_batch: smallest batch that `sample_tau_d` and `dynamics_loss` work with as intended.
        d_min_share: under reading A2 "split", the share of rows at d_min.
        context_level: under reading A9 "level", the signal level of context frames.
        rms_warmup: values per term after which the running RMS is judged (A24).
        backends: names that `attention` takes as `backend=`; empty where it has one way only.
        context_frames: C of `dynamics` and `time_layer` as A30 counts it; None where time attention has no window.
    """

    name: str = "unnamed"
    version: str = "0"
    level: Literal["signal", "noise"] = "signal"
    k_max: int = 64
    device: str = "cpu"
    dtype: str = "float32"
    readings: Mapping[str, str] = {}
    expected_failures: Mapping[str, str] = {}
    min_batch: int = 1
    d_min_share: float | None = None
    context_level: float = 0.9
    rms_warmup: int = 1000
    dtypes: Sequence[str] = ("float64", "float32")
    backends: Sequence[str] = ()
    context_frames: int | None = None

    # Eq. 1, 2, 4, 6-8

    @operation
    def corrupt(self, z0: Array, z1: Array, tau: Array) -> Array:
        """Eq. (1), (6): z of the shape of z0."""
        raise NotProvided

    @operation
    def sample_tau_d(self, seed: int, batch: int, time: int) -> tuple[Array, Array]:
        """Eq. (4): tau (B, T); d (B, T), or (B,) under reading A3 "sequence"."""
        raise NotProvided

    @operation
    def ramp_weight(self, tau: Array) -> Array:
        """Eq. (8), of any shape."""
        raise NotProvided

    @operation
    def dynamics_loss(self, network: Network, z1: Array, actions: Array, seed: int) -> Array:
        """Eq. (4), (6)-(8) with everything drawn inside: scalar or (B, T). actions (B, T, A)."""
        raise NotProvided

    @operation
    def dynamics_loss_at(self, network: Network, z1: Array, z0: Array, tau: Array, d: Array, actions: Array) -> Array:
        """Eq. (6)-(8) with everything given: scalar or (B, T)."""
        raise NotProvided

    @operation
    def sample_frame(
        self, network: Network, context: Array, num_steps: int, seed: int, actions: Array | None = None
    ) -> Array:
        """Eq. (2): context (B, T, S, D), T may be 0; actions (B, T + 1, A) → next frame (B, S, D).

        The network is given (B, T + 1, S, D), the generated frame last.
        """
        raise NotProvided

    @operation
    def rollout(self, context: Array, actions: Array, frames: int, num_steps: int, seed: int, *, cache: bool) -> Array:
        """The adapter's own model, with and without its cache: (B, frames, S, D)."""
        raise NotProvided

    # Eq. 5 and loss normalisation

    @operation
    def tokenizer_loss(self, mse: Array, lpips: Array) -> Array:
        """Eq. (5): two already normalised scalars, stateless."""
        raise NotProvided

    @operation
    def loss_normalizer(self) -> Callable[[str, Array], Array]:
        """A fresh running-RMS normaliser n; n(name, value) → value divided by the estimate of that term.

        The suite's terms are named "mse" and "lpips".
        """
        raise NotProvided

    # Eq. 9

    @operation
    def mtp_targets(self, x: Array, length: int) -> tuple[Array, Array]:
        """Eq. (9): x (B, T) → targets (B, T, N) and valid (B, T, N), N distances as declared (A17); length is L."""
        raise NotProvided

    @operation
    def mtp_loss(self, log_prob: Array, valid: Array) -> Array:
        """Eq. (9): log_prob (B, T, N), valid bool (B, T, N) → scalar loss."""
        raise NotProvided

    @operation
    def twohot_bins(self) -> Array:
        """The bins (K,) in raw values, ascending."""
        raise NotProvided

    @operation
    def twohot_encode(self, x: Array) -> Array:
        """x (N,) → probabilities (N, K)."""
        raise NotProvided

    @operation
    def twohot_decode(self, logits: Array) -> Array:
        """logits (N, K) → values (N,)."""
        raise NotProvided

    # Eq. 10, 11

    @operation
    def lambda_returns(self, reward: Array, value: Array, cont: Array, gamma: float, lam: float) -> Array:
        """Eq. (10): reward, cont (B, H), value (B, H + 1) → (B, H)."""
        raise NotProvided

    @operation
    def advantages(self, reward: Array, value: Array, cont: Array, gamma: float, lam: float) -> Array:
        """A_t = R_t − v_t: (B, H), from the arguments of `lambda_returns`."""
        raise NotProvided

    @operation
    def value_loss(self, logits: Array, returns: Array) -> Array:
        """Eq. (10): logits (N, K), returns (N,) → scalar, a mean over N."""
        raise NotProvided

    @operation
    def policy_loss(
        self, logits: Array, prior_logits: Array, action: Array, advantage: Array, alpha: float, beta: float
    ) -> Array:
        """Eq. (11): logits, prior_logits (N, A), action int (N,), advantage (N,) → scalar."""
        raise NotProvided

    @operation
    def policy_loss_factored(
        self,
        logits: list[Array],
        prior_logits: list[Array],
        action: Array,
        advantage: Array,
        alpha: float,
        beta: float,
    ) -> Array:
        """Eq. (11) over F action components: F logits (N, A_f), action int (N, F)."""
        raise NotProvided

    @operation
    def prior_start(self, seed: int) -> Mapping[str, Array]:
        """The policy head and its prior around the first update of imagination training, on the same states.

        Keys: "policy", "prior" (N, A), logits before the first update; "policy_after", "prior_after" (N, A), after one update.
        """
        raise NotProvided

    # Sec. 3.4: attention and layers

    @operation
    def attention(
        self,
        q: Array,
        k: Array,
        v: Array,
        *,
        causal: bool,
        window: int | None,
        softcap: float | None,
        scale: float | None = None,
    ) -> Array:
        """q (B, L, Hq, D), k, v (B, L, Hkv, D) → (B, L, Hq, D): neither norm nor rotation, only what is asked for.

        `window` counts keys, self included, and comes with `causal`; None disables window and cap; `scale` None is 1/√D and precedes the cap.
        With `backends` one more keyword, `backend`, is passed. Raise `NotImplementedError` for what a backend does not cover.
        """
        raise NotProvided

    @operation
    def soft_cap(self, logits: Array, cap: float) -> Array:
        """cap · tanh(logits / cap), of any shape."""
        raise NotProvided

    @operation
    def qk_norm(self, q: Array, k: Array) -> tuple[Array, Array]:
        """q (B, L, Hq, D), k (B, L, Hkv, D) → both, normalised per head with gains, if any, at 1 (A31)."""
        raise NotProvided

    @operation
    def rope(self, x: Array, positions: Array) -> Array:
        """x (B, L, H, D) rotated by its positions, int (L,), along one axis."""
        raise NotProvided

    @operation
    def rms_norm(self, x: Array, weight: Array, eps: float) -> Array:
        """x (…, D), weight (D,), the full gain → (…, D)."""
        raise NotProvided

    @operation
    def swiglu(self, x: Array, w_gate: Array, w_up: Array, w_down: Array) -> Array:
        """(silu(x w_gate) ⊙ x w_up) w_down: x (…, D); w_gate, w_up (D, F); w_down (F, D)."""
        raise NotProvided

    @operation
    def space_layer(self, x: Array) -> Array:
        """One whole layer that mixes space, residuals included: x (B, T, S, D) → (B, T, S, D). All S tokens see each other."""
        raise NotProvided

    @operation
    def time_layer(self, x: Array) -> Array:
        """One whole layer that mixes time, causally, over `context_frames`: x (B, T, S, D) → (B, T, S, D).

        Under A25 "adds" the time layer alone, without the space layer that it is added to.
        """
        raise NotProvided

    @operation
    def layer_kinds(self) -> list[str]:
        """ "space", "time", or under A25 "adds" "both", for every layer of the dynamics in order."""
        raise NotProvided

    @operation
    def block_zeroed(self, x: Array) -> Array:
        """A layer whose attention and MLP put out zeros: x (B, T, S, D) → (B, T, S, D)."""
        raise NotProvided

    # Sec. 3.1 to 3.3: the model as black boxes, their parameters random, biases and zero-initialised layers included, and the same at every call

    @operation
    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        """Valid inputs of the black boxes, by argument: z, tau, d, actions, task, labelled, video, x; those that are needed.

        tau is in the adapter's own level. actions: an array (B, T, …), or a dict or list of such, one for each component; in one array (B, T, A)
        each of the A is a component. task (B, …), left out where there is none. x is the input of the layers. Two examples can be mixed value by
        value: the suite replaces parts of one by those of another.
        """
        raise NotProvided

    @operation
    def dynamics(
        self, z: Array, tau: Array, d: Array, actions: Any, task: Any, labelled: Array
    ) -> tuple[Array, Array | None]:
        """The whole sequence at once: z_hat (B, T, S, D), and the agent token's output (B, T, …) or None.

        actions[:, t] is what block t holds (A32). labelled bool (B,): False where a clip has no actions. task None is valid where there is no task.
        """
        raise NotProvided

    @operation
    def dynamics_init(self, batch: int) -> Any:
        """The state before the first frame, for `dynamics_step`."""
        raise NotProvided

    @operation
    def dynamics_step(
        self, state: Any, z: Array, tau: Array, d: Array, actions: Any, task: Any
    ) -> tuple[Array, Array | None, Any]:
        """`dynamics` of labelled clips, one frame at a time: every time axis has length 1. (z_hat, agent, state)."""
        raise NotProvided

    @operation
    def label_token(self, tau: Array, d: Array) -> Array:
        """tau, d (B, T) → the token (B, T, D) that the dynamics is given for them, as put together from its embeddings."""
        raise NotProvided

    @operation
    def action_tokens(self, components: list[Array], embedding: Array, labelled: Array) -> Array:
        """Encoded components, each (B, T, S_a, D), the learned embedding (S_a, D) and labelled bool (B,) → (B, T, S_a, D)."""
        raise NotProvided

    @operation
    def mtp_heads(self, agent: Array) -> Array:
        """Outputs (B, T, N, K) of one head for each of the N distances (A17), from the agent output of `dynamics`."""
        raise NotProvided

    @operation
    def modality_mask(self, kind: str, modality: list[str], frame: Array) -> Array:
        """bool (N, N), rows are queries, True = may attend, for N tokens of these modalities in these frames, int (N,).

        kind "encoder" and "decoder": "latent", "image", and further modalities by names of their own; "dynamics": "latent", "register",
        "label", "action", "agent".
        """
        raise NotProvided

    @operation
    def encode(self, video: Array) -> Array:
        """The tokenizer at inference: video (B, T, …) as `example` has it → z (B, T, S, D)."""
        raise NotProvided

    @operation
    def decode(self, z: Array) -> Array:
        """z (B, T, S, D) → video (B, T, …)."""
        raise NotProvided

    @operation
    def reconstruct(self, video: Array) -> Array:
        """The tokenizer from end to end at inference: video (B, T, …) → video (B, T, …)."""
        raise NotProvided

    @operation
    def decode_init(self, batch: int) -> Any:
        """The state before the first frame, for `decode_step`."""
        raise NotProvided

    @operation
    def decode_step(self, state: Any, z: Array) -> tuple[Array, Any]:
        """`decode`, one frame at a time: z (B, 1, S, D) → (video (B, 1, …), state)."""
        raise NotProvided

    @operation
    def patch_dropout(self, seed: int, batch: int, time: int, patches: int) -> Array:
        """Which patches are dropped in training: bool (B, T, N), True = dropped (A33)."""
        raise NotProvided

    @operation
    def mae_replace(self, tokens: Array, mask: Array, embedding: Array) -> Array:
        """tokens (B, T, N, D), mask bool (B, T, N), True = dropped, embedding (D,) → (B, T, N, D)."""
        raise NotProvided

    @operation
    def patch_grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches of a frame of this size, after padding."""
        raise NotProvided

    @operation
    def regroup(self, z: Array) -> Array:
        """The bottleneck's (B, T, 512, 16) as the dynamics takes it, (B, T, 256, 32) (A36)."""
        raise NotProvided

    @operation
    def mouse_class(self, movement: Array) -> Array:
        """Mouse movement (N, 2) in the unit of the adapter's data → class in 0 … 120, int (N,)."""
        raise NotProvided

    @operation
    def constants(self) -> Mapping[str, float]:
        """Default values: num_steps, gamma, alpha, beta, mtp_length, mae_max, lpips_weight, image_fraction.

        For Minecraft: binary_actions, mouse_classes.
        """
        raise NotProvided

    # Algorithm 1: the training of a small model of the adapter's own, its parameters random, those that start at zero included

    @operation
    def training_plan(self, seed: int, steps: int) -> Sequence[Mapping[str, Any]]:
        """What the batches of a whole run of `steps` steps consist of, in order.

        One mapping for each step. "length": frames, in dynamics training; "image": bool (B,), which of its videos are treated as separate images;
        "relevant": bool (B,), which sequences of agent finetuning are relevant ones, the others uniform. Leave out what there is none of.
        """
        raise NotProvided

    @operation
    def image_dynamics(self, z: Array, tau: Array, d: Array) -> Array:
        """`dynamics` as training calls it on videos that are treated as separate images: z_hat (B, T, S, D)."""
        raise NotProvided

    @operation
    def training_gradients(self, phase: str, seed: int, terms: Sequence[str] | None = None) -> Mapping[str, Any]:
        """Gradients of one step of "dynamics", "agent" or "imagine", by part of the model.

        Parts: "tokenizer", "transformer" (of the dynamics), "policy", "reward", "value", "prior", and others that there are. Each is a list of the
        gradients of its parameters, or one array; None stands for no gradient. `terms` are those of the loss to differentiate, None for all:
        "dynamics", "policy" and "reward" of "agent", the keys of `agent_losses`.
        """
        raise NotProvided

    @operation
    def agent_losses(self, seed: int, data: Sequence[int], relevant: Sequence[bool]) -> Mapping[str, Array]:
        """The terms of one step of agent finetuning, scalars: "dynamics" (Eq. 7), "policy" and "reward" (Eq. 9), those that there are.

        The batch has a sequence for each number of `data`, whose frames, actions and rewards are drawn from that number alone; a relevant one where
        `relevant` says so. What the step itself draws follows `seed`. The terms are those before normalisation.
        """
        raise NotProvided

    @operation
    def resume(self, seed: int, steps: int, at: int | None) -> Mapping[str, Array]:
        """What a run of `steps` steps ends with, by name: its parameters, and whatever else is to be the same.

        `at` None: the run is not interrupted. Else it is saved after `at` steps, and goes on from what was saved alone, as in a new process.
        """
        raise NotProvided

    @operation
    def load_checkpoint(self, removed: str | None, added: str | None) -> Mapping[str, Any]:
        """A checkpoint of one model loaded into another, newly made.

        `removed` is a parameter that is taken from the checkpoint first, `added` a name under which it is given one that the model has not.
        "missing", "unexpected": the names that loading reports. "parameters": those of the model after loading, by name.
        """
        raise NotProvided

    # Arrays. Frameworks override these five.

    def to_native(self, x: np.ndarray) -> Array:
        """Floats in the adapter's dtype on its device; integers and booleans as they are."""
        return x.astype(self.dtype) if x.dtype.kind == "f" else x

    def to_numpy(self, x: Array) -> np.ndarray:
        """The array or number as NumPy: floats as float64. Raises TypeError for anything else."""
        array = np.asarray(x)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"an array of dtype {array.dtype}")
        return array.astype(np.float64) if array.dtype.kind == "f" else array

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Surrounds every operation that is given a seed. NumPy adapters must use the seed themselves."""
        yield

    def affine(self, z: Array, gain: np.ndarray, offset: np.ndarray, past: np.ndarray) -> Array:
        """gain z + offset, plus past times the sum of the earlier frames, rounded once to the dtype of z; differentiable in z.

        z (N, T, S, D); gain, offset, past broadcast to it. The arithmetic of the suite's networks.
        """
        wide = np.asarray(z, np.float64)
        return (gain * wide + offset + past * wide[:, :-1].sum(1)[:, None]).astype(np.asarray(z).dtype)

    def output_gradients(
        self, loss: Callable[[Callable[[Array], Array]], Array]
    ) -> tuple[Array, list[np.ndarray] | None]:
        """The value of `loss(probe)` and its gradient with respect to every array that passed through `probe`, in order.

        None in place of the gradients where the framework has none. A loss of shape (B, T) is averaged first.
        """
        return loss(lambda output: output), None

    def gradients(self, function: Callable[..., Array], *inputs: Array) -> list[np.ndarray]:
        """Gradient of the mean of `function(*inputs)` with respect to each input; zeros where it does not depend on it."""
        raise NotProvided("gradients need a TorchAdapter or a JaxAdapter")


class TorchAdapter(Adapter):
    """An implementation in PyTorch. The global random states are seeded before every operation with a seed, and restored after it."""

    dtypes: Sequence[str] = ("float64", "float32", "bfloat16")

    def to_native(self, x: np.ndarray) -> Array:
        """A copy as a tensor on `device`, floats in `dtype`: an operation that works in place spoils nothing of the suite's."""
        import torch

        tensor = torch.from_numpy(np.array(x, order="C")).to(self.device)
        return tensor.to(getattr(torch, self.dtype)) if tensor.is_floating_point() else tensor

    def to_numpy(self, x: Array) -> np.ndarray:
        """The tensor or number as NumPy: floats as float64."""
        import torch

        if not isinstance(x, torch.Tensor):
            return super().to_numpy(x)
        x = x.detach().cpu()
        return super().to_numpy((x.double() if x.is_floating_point() else x).numpy())

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Seeds torch (CPU and the adapter's device), NumPy and Python from `seed`; restores them afterwards."""
        import torch

        numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002 - other people's global state
        devices = [self.device] if self.device != "cpu" else []
        with torch.random.fork_rng(devices=devices):
            # torch.manual_seed also notes a stack trace for devices that are not there: milliseconds, at every operation.
            (torch.manual_seed if devices else torch.default_generator.manual_seed)(seed)
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            try:
                yield
            finally:
                np.random.set_state(numpy_state)  # noqa: NPY002
                random.setstate(python_state)

    def affine(self, z: Array, gain: np.ndarray, offset: np.ndarray, past: np.ndarray) -> Array:
        """In float64 on the device of z."""
        import torch

        a, b, c = (torch.tensor(x, dtype=torch.float64, device=z.device) for x in (gain, offset, past))
        wide = z.double()
        return (a * wide + b + c * wide[:, :-1].sum(1)[:, None]).to(z.dtype)

    def output_gradients(
        self, loss: Callable[[Callable[[Array], Array]], Array]
    ) -> tuple[Array, list[np.ndarray] | None]:
        """Through one additive leaf per probed output; None for a plain number or a detached tensor, as logs hold them."""
        import torch

        leaves = []

        def probe(output: Array) -> Array:
            with torch.inference_mode(False):
                leaves.append(torch.zeros(output.shape, dtype=output.dtype, device=output.device, requires_grad=True))
            return output + leaves[-1]

        value = loss(probe)
        if not isinstance(value, torch.Tensor) or not value.requires_grad:
            return value, None
        found = torch.autograd.grad(value.mean(), leaves, allow_unused=True)
        return value, [
            np.zeros(tuple(leaf.shape)) if g is None else self.to_numpy(g)
            for leaf, g in zip(leaves, found, strict=True)
        ]

    def gradients(self, function: Callable[..., Array], *inputs: Array) -> list[np.ndarray]:
        """By torch.autograd."""
        import torch

        leaves = [x.detach().clone().requires_grad_() for x in inputs]
        value = function(*leaves)
        if not value.requires_grad:
            return [np.zeros(tuple(leaf.shape)) for leaf in leaves]
        found = torch.autograd.grad(value.mean(), leaves, allow_unused=True)
        return [np.zeros(tuple(x.shape)) if g is None else self.to_numpy(g) for x, g in zip(leaves, found, strict=True)]


class JaxAdapter(Adapter):
    """An implementation in JAX. Losses and samplers are called outside `jit`: the suite's network reads the labels that it is given.

    With float64 the caller enables `jax_enable_x64`. Operations turn `seed` into a key themselves.
    """

    dtypes: Sequence[str] = ("float32", "bfloat16")

    def to_native(self, x: np.ndarray) -> Array:
        """A jax array, floats in `dtype`."""
        import jax.numpy as jnp

        return jnp.asarray(x, dtype=self.dtype if x.dtype.kind == "f" else None)

    def to_numpy(self, x: Array) -> np.ndarray:
        """The array or number as NumPy: floats (bfloat16 too) as float64."""
        import jax

        while isinstance(x, jax.core.Tracer):
            if not hasattr(x, "primal"):
                raise TypeError("a value inside jit, which the network cannot read; call the operation outside jit")
            x = x.primal
        if isinstance(x, jax.Array) and jax.numpy.issubdtype(x.dtype, jax.numpy.floating):
            return np.asarray(x.astype("float32") if x.dtype.itemsize < 4 else x).astype(np.float64)
        return super().to_numpy(x)

    def affine(self, z: Array, gain: np.ndarray, offset: np.ndarray, past: np.ndarray) -> Array:
        """In float32 at least."""
        import jax.numpy as jnp

        wide = z.astype(jnp.promote_types(z.dtype, "float32"))
        a, b, c = (jnp.asarray(x, wide.dtype) for x in (gain, offset, past))
        return (a * wide + b + c * wide[:, :-1].sum(1)[:, None]).astype(z.dtype)

    def output_gradients(
        self, loss: Callable[[Callable[[Array], Array]], Array]
    ) -> tuple[Array, list[np.ndarray] | None]:
        """In two passes: the first finds the shapes, the second differentiates with respect to one additive array per output."""
        import jax
        import jax.numpy as jnp

        shapes: list[Array] = []

        def note(output: Array) -> Array:
            shapes.append(jnp.zeros(output.shape, output.dtype))
            return output

        value = loss(note)

        def perturbed(deltas: list[Array]) -> Array:
            remaining = iter(deltas)
            return jnp.mean(loss(lambda output: output + next(remaining)))

        return value, [self.to_numpy(g) for g in jax.grad(perturbed)(shapes)]

    def gradients(self, function: Callable[..., Array], *inputs: Array) -> list[np.ndarray]:
        """By jax.grad."""
        import jax
        import jax.numpy as jnp

        found = jax.grad(lambda *xs: jnp.mean(function(*xs)), argnums=tuple(range(len(inputs))))(*inputs)
        return [self.to_numpy(g) for g in found]


def provides(adapter: Adapter, name: str) -> bool:
    """Whether the adapter overrides the operation, in its class or on the instance."""
    return name in vars(adapter) or getattr(type(adapter), name) is not getattr(Adapter, name)
