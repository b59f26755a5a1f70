"""What several tests share: a network that notes its calls, every public function with valid inputs, a ban on syncs."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from dreamer4_impl.attention import Preparation, attention, prepare, soft_cap
from dreamer4_impl.equations.eq01_corruption import corrupt
from dreamer4_impl.equations.eq02_sampling import generate, sample_frame
from dreamer4_impl.equations.eq04_grid import sample_tau_d
from dreamer4_impl.equations.eq05_tokenizer_loss import tokenizer_loss
from dreamer4_impl.equations.eq06_07_shortcut_forcing import shortcut_forcing_loss, shortcut_forcing_loss_at
from dreamer4_impl.equations.eq08_ramp_weight import ramp_weight
from dreamer4_impl.equations.eq09_multi_token import multi_token_loss, multi_token_targets
from dreamer4_impl.equations.eq10_lambda_return import advantages, lambda_returns, value_loss
from dreamer4_impl.equations.eq11_pmpo import policy_loss, policy_loss_factored
from dreamer4_impl.equations.loss_normalisation import RunningRMS
from dreamer4_impl.equations.sec31_patch_dropout import patch_dropout, replace_dropped
from dreamer4_impl.equations.twohot import TwoHot, symexp, symlog
from dreamer4_impl.layers.actions import Binary, Categorical
from dreamer4_impl.layers.patches import patchify, unpatchify
from dreamer4_impl.layers.rms_norm import rms_norm
from dreamer4_impl.layers.rope import rope
from dreamer4_impl.models.agent import Agent
from dreamer4_impl.models.dynamics import Dynamics
from dreamer4_impl.models.policy import Policy
from dreamer4_impl.models.presets import tiny
from dreamer4_impl.models.tokenizer import Tokenizer, regroup, ungroup

K_MAX = 8


class Call(NamedTuple):
    z: Tensor
    tau: Tensor
    d: Tensor
    actions: Any
    grad: bool


class Recorder:
    """Notes what it is called with, and returns what `network` returns."""

    def __init__(self, network: Callable[..., Tensor]) -> None:
        self.network, self.calls = network, []

    def __call__(self, z: Tensor, tau: Tensor, d: Tensor, actions: Any) -> Tensor:
        self.calls.append(Call(z, tau, d, actions, torch.is_grad_enabled()))
        return self.network(z, tau, d, actions)


def mixing_network(z: Tensor, tau: Tensor, d: Tensor, actions: Any = None) -> Tensor:
    """Depends on z, on both labels, on earlier frames and on the actions."""
    gain, shift = (0.3 + tau - 0.5 * d)[..., None, None], (0.2 * tau + d)[..., None, None]
    earlier = torch.nn.functional.pad(z[:, :-1], (0, 0, 0, 0, 1, 0))
    out = gain * z + shift + 0.25 * earlier
    if actions is not None:
        out = out + actions.to(out.dtype).sum(-1)[..., None, None]
    return out.to(z.dtype)


class NoHostSync(TorchDispatchMode):
    """Raises where the host would read a value of a tensor, or copy Python data to the device."""

    BANNED = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "lift_fresh", "unique")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name.startswith("index") and any(
            isinstance(index, Tensor) and index.dtype == torch.bool for index in _flat(args)
        )
        if name in self.BANNED or by_mask:
            raise AssertionError(f"{func} makes the host wait for the device")
        return func(*args, **(kwargs or {}))


def _flat(arguments: Any) -> Iterator[Any]:
    for argument in arguments:
        if isinstance(argument, list | tuple):
            yield from _flat(argument)
        else:
            yield argument


class Inputs:
    """Seeded random tensors of one dtype on one device."""

    def __init__(self, dtype: torch.dtype = torch.float32, device: str = "cpu") -> None:
        self.dtype, self.device = dtype, device
        self.generator = torch.Generator().manual_seed(0)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator).to(self.device, self.dtype)

    def integers(self, high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=self.generator).to(self.device)

    def levels(self, batch: int, time: int) -> tuple[Tensor, Tensor]:
        tau, d = sample_tau_d(batch, time, k_max=K_MAX, generator=self.generator)
        return tau.to(self.device, self.dtype), d.to(self.device, self.dtype)


class Tiny:
    """Parts of the tiny preset with every parameter random, so that none is hidden by a start at zero; and inputs."""

    def __init__(self, device: str = "cpu", dtype: torch.dtype = torch.float64) -> None:
        self.device, self.dtype, self.config = device, dtype, tiny()

    def random(self, build: Callable[[], nn.Module]) -> Any:
        """The same module every time, moved away from its start by enough to see, not so far that it is chaotic."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(1)
            module = build()
            for parameter in module.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
        return module.to(self.device, self.dtype)

    def tokenizer(self, **layers: int) -> Tokenizer:
        config = self.config.tokenizer
        encoder, decoder = replace(config.encoder, **layers), replace(config.decoder, **layers)
        return self.random(lambda: Tokenizer(replace(config, encoder=encoder, decoder=decoder))).eval()

    def dynamics(self, *, agent: bool = True, tasks: int = 3, **layers: int) -> Dynamics:
        transformer = replace(self.config.dynamics.transformer, **layers)
        config = replace(self.config.dynamics, transformer=transformer, agent=agent, tasks=tasks if agent else 0)
        return self.random(lambda: Dynamics(config))

    def agent(self) -> Agent:
        assert self.config.agent is not None
        config, width, actions = self.config.agent, self.config.dynamics.transformer.width, self.config.dynamics.actions
        return self.random(lambda: Agent(config, width, actions))

    def video(self, batch: int, time: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(batch, time, 6, 8, 3, generator=generator).to(self.device, self.dtype)

    def actions(self, batch: int, time: int, seed: int = 0) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        keys = torch.randint(2, (batch, time, 4), generator=generator)
        return {
            "keys": keys.to(self.device),
            "mouse": torch.randint(5, (batch, time), generator=generator).to(self.device),
        }

    def latents(self, batch: int, time: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(batch, time, 5, 6, generator=generator).to(self.device, self.dtype)

    def inputs(self, batch: int, time: int, *, agent: bool = True, seed: int = 0) -> dict[str, Any]:
        """Arguments of the dynamics, all distinct over batch and time."""
        generator = torch.Generator().manual_seed(seed)
        tau, d = sample_tau_d(batch, time, k_max=8, generator=generator)
        task = torch.randint(3, (batch,), generator=generator).to(self.device)
        return {
            "z": self.latents(batch, time, seed),
            "tau": tau.to(self.device),
            "d": d.to(self.device),
            "actions": self.actions(batch, time, seed),
        } | ({"task": task} if agent else {})


def _loss_at(x: Inputs, **options: Any) -> Callable[[], tuple[Callable[..., Any], tuple[Any, ...]]]:
    def loss(z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, actions: Tensor) -> Tensor:
        return shortcut_forcing_loss_at(mixing_network, z1, z0, tau, d, actions, k_max=K_MAX, **options)

    return loss, (x.normal(3, 2, 2, 3), x.normal(3, 2, 2, 3), *x.levels(3, 2), x.normal(3, 2, 1))


def _attention(x: Inputs, **options: Any) -> tuple[Callable[..., Tensor], tuple[Tensor, ...]]:
    q, k, v = (x.normal(2, 3, 4, heads, 6) for heads in (4, 2, 2))
    return lambda q, k, v: attention(q, k, v, **options), (q, k, v)


def _normalise(terms: RunningRMS) -> Callable[[Tensor], Tensor]:
    return lambda value: terms("flow", value)


def _policy(keys: Tensor, mouse: Tensor) -> Policy:
    return Policy((Binary("keys", 2), Categorical("mouse", 5)), {"keys": keys, "mouse": mouse})


#: Every public function on valid inputs: name → function of `Inputs` that gives (function of tensors, tensors).
CASES: dict[str, Callable[[Inputs], tuple[Callable[..., Any], tuple[Any, ...]]]] = {
    "corrupt": lambda x: (corrupt, (x.normal(2, 3, 2, 2), x.normal(2, 3, 2, 2), x.levels(2, 3)[0])),
    "ramp_weight": lambda x: (ramp_weight, (x.levels(2, 3)[0],)),
    "shortcut_forcing_loss_at": lambda x: _loss_at(x, teacher_rows=slice(None)),
    "shortcut_forcing_loss_at some rows": lambda x: _loss_at(x, teacher_rows=slice(1, None), reduction="none"),
    "tokenizer_loss": lambda x: (tokenizer_loss, (x.normal(), x.normal())),
    "running_rms": lambda x: (_normalise(RunningRMS(["flow"]).to(x.device)), (x.normal(),)),
    "multi_token_targets": lambda x: (lambda r: multi_token_targets(r, 2), (x.normal(2, 4),)),
    "multi_token_loss": lambda x: (multi_token_loss, (x.normal(2, 4, 3), x.integers(2, 2, 4, 3).bool())),
    "symlog": lambda x: (symlog, (x.normal(3),)),
    "symexp": lambda x: (symexp, (x.normal(3),)),
    "twohot_encode": lambda x: (TwoHot().encode, (x.normal(3),)),
    "twohot_decode": lambda x: (TwoHot(31, 2.0).decode, (x.normal(3, 31),)),
    "twohot_cross_entropy": lambda x: (TwoHot(31).cross_entropy, (x.normal(3, 31), x.normal(3))),
    "lambda_returns": lambda x: (lambda_returns, (x.normal(2, 5), x.normal(2, 6), x.levels(2, 5)[0])),
    "advantages": lambda x: (advantages, (x.normal(2, 5), x.normal(2, 6), x.levels(2, 5)[0])),
    "value_loss": lambda x: (value_loss, (x.normal(4, 255), x.normal(4))),
    "policy_loss": lambda x: (policy_loss, (x.normal(6, 4), x.normal(6, 4), x.integers(4, 6), x.normal(6))),
    "policy_loss_factored": lambda x: (
        lambda a, b, c, e, action, adv: policy_loss_factored([a, b], [c, e], action, adv),
        (x.normal(6, 4), x.normal(6, 2), x.normal(6, 4), x.normal(6, 2), x.integers(2, 6, 2), x.normal(6)),
    ),
    "patchify": lambda x: (lambda video: patchify(video, 2), (x.normal(2, 3, 3, 5, 2),)),
    "unpatchify": lambda x: (lambda patches: unpatchify(patches, 3, 5, 2), (x.normal(2, 3, 8, 8),)),
    "replace_dropped": lambda x: (replace_dropped, (x.normal(2, 3, 4, 5), x.integers(2, 2, 3, 4).bool(), x.normal(5))),
    "regroup": lambda x: (lambda latents: regroup(latents, 2), (x.normal(2, 3, 4, 5),)),
    "ungroup": lambda x: (lambda z: ungroup(z, 4), (x.normal(2, 3, 2, 10),)),
    "policy_log_prob": lambda x: (
        lambda keys, mouse, *taken: _policy(keys, mouse).log_prob(dict(zip(("keys", "mouse"), taken, strict=True))),
        (x.normal(6, 2), x.normal(6, 5), x.integers(2, 6, 2), x.integers(5, 6)),
    ),
    "policy_entropy": lambda x: (lambda *logits: _policy(*logits).entropy(), (x.normal(6, 2), x.normal(6, 5))),
    "policy_kl": lambda x: (
        lambda keys, mouse, *prior: _policy(keys, mouse).kl(_policy(*prior)),
        (x.normal(6, 2), x.normal(6, 5), x.normal(6, 2), x.normal(6, 5)),
    ),
    "rms_norm": lambda x: (rms_norm, (x.normal(2, 3), x.normal(3))),
    "prepare": lambda x: (
        lambda raw, gain, *angles: prepare(raw, Preparation(gain, 1e-6, angles), "time"),
        (x.normal(2, 3, 4, 2, 6), x.normal(6), x.normal(3, 3), x.normal(3, 3)),
    ),
    "rope": lambda x: (rope, (x.normal(2, 3, 4, 6), torch.arange(3, device=x.device))),
    "soft_cap": lambda x: (lambda logits: soft_cap(logits, 2.0), (x.normal(5),)),
    "attention over space": lambda x: _attention(x, axis="space", softcap=2.0),
    "attention over time": lambda x: _attention(x, axis="time", causal=True, window=2),
    "sample_frame": lambda x: (
        lambda context, noise: sample_frame(mixing_network, context, k_max=K_MAX, context_level=1.0, noise=noise),
        (x.normal(2, 3, 2, 2), x.normal(2, 2, 2)),
    ),
}
#: Their rounding is mostly the network's; tests of their own hold it.
ASKS_A_NETWORK = ("shortcut_forcing_loss_at", "shortcut_forcing_loss_at some rows", "sample_frame")
#: The functions that draw, here from the global state; only what they return can be compared, not its values.
DRAWING: dict[str, Callable[[Inputs], tuple[Callable[..., Any], tuple[Any, ...]]]] = {
    "sample_tau_d": lambda x: (lambda z: sample_tau_d(*z.shape, k_max=K_MAX, device=z.device), (x.normal(3, 2),)),
    "sample_tau_d split": lambda x: (
        lambda z: sample_tau_d(*z.shape, k_max=K_MAX, device=z.device, per="sequence", d_min_share=0.5),
        (x.normal(3, 2),),
    ),
    "shortcut_forcing_loss": lambda x: (
        lambda z1: shortcut_forcing_loss(mixing_network, z1, k_max=K_MAX, teacher_rows=slice(None)),
        (x.normal(3, 2, 2, 2),),
    ),
    "shortcut_forcing_loss split": lambda x: (
        lambda z1: shortcut_forcing_loss(mixing_network, z1, k_max=K_MAX, d_min_share=0.5),
        (x.normal(4, 2, 2, 2),),
    ),
    "patch_dropout": lambda x: (lambda v: patch_dropout(*v.shape, device=v.device), (x.normal(2, 3, 4),)),
    "policy_sample": lambda x: (
        lambda *logits: list(_policy(*logits).sample().values()),
        (x.normal(6, 2), x.normal(6, 5)),
    ),
    "generate": lambda x: (lambda context: generate(mixing_network, context, 2, 2), (x.normal(2, 3, 2, 2),)),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Callable[[Inputs], tuple[Callable[..., Any], tuple[Any, ...]]]:
    return CASES[request.param]


@pytest.fixture(params=[name for name in CASES if name not in ASKS_A_NETWORK])
def case_without_network(request: pytest.FixtureRequest) -> Callable[[Inputs], tuple[Callable[..., Any], Any]]:
    return CASES[request.param]


@pytest.fixture(params=[*CASES, *DRAWING])
def any_case(request: pytest.FixtureRequest) -> Callable[[Inputs], tuple[Callable[..., Any], tuple[Any, ...]]]:
    return {**CASES, **DRAWING}[request.param]


@pytest.fixture
def inputs() -> type[Inputs]:
    return Inputs


@pytest.fixture
def no_host_sync() -> NoHostSync:
    return NoHostSync()


@pytest.fixture
def recorder() -> type[Recorder]:
    return Recorder


@pytest.fixture
def mixing() -> Callable[..., Tensor]:
    return mixing_network


@pytest.fixture(
    params=[
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
            ],
        ),
    ]
)
def device(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def tiny_on() -> type[Tiny]:
    return Tiny
