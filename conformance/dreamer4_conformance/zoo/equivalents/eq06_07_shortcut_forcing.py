"""Other ways to compute the shortcut forcing loss, Eq. (6)-(8)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dreamer4_conformance.adapter import Adapter, Network, TorchAdapter
from dreamer4_conformance.zoo.base import TextbookEquations, TextbookLoss
from dreamer4_conformance.zoo.equivalents import equivalent


@equivalent("textbook-noise-levels")
class TextbookNoiseLevels(TextbookEquations):
    """The textbook in noise levels, where tau = 1 is noise."""

    def __init__(self) -> None:
        super().__init__("noise")


@equivalent("textbook-coarse-grid")
class TextbookCoarseGrid(TextbookEquations):
    """The textbook with K_max = 8."""

    k_max = 8


@equivalent("textbook-one-step")
class TextbookOneStep(TextbookEquations):
    """K_max = 1: every timestep is at d_min = 1, and there is no bootstrap term."""

    k_max = 1


@equivalent("textbook-sum-norm")
class TextbookSumNorm(TextbookLoss):
    """‖·‖² as a sum over (S, D), a mean per term, the weight on the flow term alone (A7, A8, A27)."""

    def __init__(self) -> None:
        super().__init__(A7="flow", A8="sum", A27="per_term")


@equivalent("textbook-per-sequence")
class TextbookPerSequence(TextbookEquations):
    """d per sequence, with a declared share of rows at d_min (A2, A3)."""

    min_batch = 4

    def __init__(self) -> None:
        super().__init__(A2="split", A3="sequence")


@equivalent("textbook-averaged-teacher")
class TextbookAveragedTeacher(TextbookLoss):
    """A teacher that is an averaged copy of the network, declared (A38)."""

    def __init__(self) -> None:
        super().__init__(A38="average")


@equivalent("loss-unreduced")
class LossUnreduced(TextbookLoss):
    """Returns the loss of every timestep."""

    def average(self, loss: Tensor, bootstrap: Tensor) -> Tensor:
        return loss


@equivalent("loss-x-space")
class LossXSpace(TextbookLoss):
    """Bootstrap error in x-space, ‖ẑ1 − (z̃ + (1 − τ)(b' + b'')/2)‖²; corruption by `lerp`; detached target."""

    def mix(self, z0: Tensor, z1: Tensor, tau: Tensor) -> Tensor:
        """z0 + τ (z1 − z0)."""
        return torch.lerp(z0, z1, tau.expand_as(z0))

    def bootstrap_error(self, z1_hat: Tensor, z: Tensor, target: Tensor, tau: Tensor) -> Tensor:
        return self.norm(z1_hat - (z + (1 - tau)[..., None, None] * target).detach())

    def teacher_context(self) -> torch.enable_grad:
        return torch.enable_grad()


@equivalent("loss-teacher-in-inference-mode")
class LossTeacherInInferenceMode(TextbookLoss):
    """The teacher runs under `torch.inference_mode`."""

    def teacher_context(self) -> torch.inference_mode:
        return torch.inference_mode()

    def mean_velocity(self, b_prime: Tensor, b_double_prime: Tensor) -> Tensor:
        return super().mean_velocity(b_prime, b_double_prime).clone()


class _Rowwise(TextbookLoss):
    """Losses that compute flow and bootstrap rows separately, d per sequence (A3)."""

    def __init__(self) -> None:
        super().__init__(A3="sequence")

    def rows(self, d: Tensor) -> Tensor:
        return d[:, 0] > 1 / self.k_max

    def half(self, network: Network, z: Tensor, tau: Tensor, d: Tensor, actions: Tensor) -> Tensor:
        """b at (τ, d)."""
        return (network(z, self.signal(tau), d, actions) - z) / (1 - tau)[..., None, None]

    def bootstrap_goal(self, network: Network, z: Tensor, tau: Tensor, d: Tensor, actions: Tensor) -> Tensor:
        """Target of ẑ1 above d_min."""
        with torch.no_grad():
            first = self.half(network, z, tau, d / 2, actions)
            second = self.half(network, z + first * d[..., None, None] / 2, tau + d / 2, d / 2, actions)
        return z + (1 - tau)[..., None, None] * (first + second) / 2


@equivalent("loss-rows-split")
class LossRowsSplit(_Rowwise):
    """Separate student calls for flow and bootstrap rows, after a teacher that runs on bootstrap rows only."""

    def dynamics_loss_at(
        self, network: Network, z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, actions: Tensor
    ) -> Tensor:
        tau = self.signal(tau)
        z, above = self.mix(z0, z1, tau[..., None, None]), self.rows(d)
        total = torch.zeros((), dtype=z.dtype, device=z.device)
        for rows in (above, ~above):
            if rows.any():
                inputs = (z[rows], tau[rows], d[rows], actions[rows])
                goal = self.bootstrap_goal(network, *inputs) if rows is above else z1[rows]
                error = self.norm(network(inputs[0], self.signal(inputs[1]), *inputs[2:]) - goal)
                total = total + (self.loss_weight(inputs[1]) * error).sum()
        return total / tau.numel()


@equivalent("loss-rows-merged")
class LossRowsMerged(_Rowwise):
    """The first teacher call and the student share one batch, the teacher's rows first and in reverse order."""

    def dynamics_loss_at(
        self, network: Network, z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, actions: Tensor
    ) -> Tensor:
        tau = self.signal(tau)
        z, above = self.mix(z0, z1, tau[..., None, None]), self.rows(d).nonzero().flatten().flip(0)
        half = d[above] / 2
        merged = network(
            torch.cat([z[above], z]),
            self.signal(torch.cat([tau[above], tau])),
            torch.cat([half, d]),
            torch.cat([actions[above], actions]),
        )
        first, z1_hat = merged[: len(above)].detach(), merged[len(above) :]
        goal = z1.clone()
        if len(above):
            left = (1 - tau[above])[..., None, None]
            b_prime = (first - z[above]) / left
            second_z = z[above] + b_prime * half[..., None, None]
            with torch.no_grad():
                b_double_prime = self.half(network, second_z, tau[above] + half, half, actions[above])
            goal[above] = z[above] + left * (b_prime + b_double_prime) / 2
        return (self.loss_weight(tau) * self.norm(z1_hat - goal)).mean()


@equivalent("loss-permuted-rows")
class LossPermutedRows(TextbookLoss):
    """The batch is shuffled before anything is computed, and τ, d, noise are drawn after it."""

    def dynamics_loss(self, network: Network, z1: Tensor, actions: Tensor, seed: int) -> Tensor:
        order = torch.randperm(len(z1))
        return super().dynamics_loss(network, z1[order], actions[order], seed)


@equivalent("loss-integer-labels")
class LossIntegerLabels(TextbookLoss):
    """Integer labels: index of τ on the finest grid and log2(1/d); levels off the grid are rounded down (A10)."""

    def evaluate(self, network: Network, z: Tensor, tau: Tensor, d: Tensor, actions: Tensor | None) -> Tensor:
        index, exponent = (tau * self.k_max).floor().long(), torch.log2(1 / d).round().long()
        level, step = (index / self.k_max).to(z), (0.5**exponent).to(z)
        return super().evaluate(network, z, level, step, actions)


@equivalent("loss-half-step-at-d-min")
class LossHalfStepAtDMin(TextbookLoss):
    """In teacher calls, timesteps at d_min also take the step d_min/2; labels are rounded to the grid (A4, A10)."""

    def teacher_step(self, d: Tensor) -> Tensor:
        return (d / 2).clamp(min=1 / self.k_max)

    def second_label(self, tau: Tensor, half: Tensor) -> Tensor:
        return tau + half

    def second_input(self, z: Tensor, z0: Tensor, z1: Tensor, tau: Tensor, half: Tensor, b_prime: Tensor) -> Tensor:
        return z + b_prime * torch.where(half > 0, half, 0.5 / self.k_max)[..., None, None]


@equivalent("loss-compiled")
class LossCompiled(TextbookLoss):
    """The loss under `torch.compile`, with the network outside the graph."""

    def dynamics_loss_at(
        self, network: Network, z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, actions: Tensor
    ) -> Tensor:
        opaque = torch.compiler.disable(network)  # type: ignore[no-untyped-call]
        error, above = _compiled_error(self, opaque, z1, z0, tau, d, actions)
        return self.average(error, above)


@torch.compile(backend="aot_eager", dynamic=True)
def _compiled_error(
    book: TextbookLoss, network: Network, z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, actions: Tensor
) -> tuple[Tensor, Tensor]:
    tau = book.signal(tau)
    z, above = book.mix(z0, z1, tau[..., None, None]), d > 1 / book.k_max
    target = book.target(network, z, z0, z1, tau, d, actions)
    z1_hat = network(z, tau, d, actions)
    error = torch.where(above, book.bootstrap_error(z1_hat, z, target, tau), book.flow_error(z1_hat, z1))
    return book.weigh(error, tau, above), above


@equivalent("loss-unconditional")
class LossUnconditional(TorchAdapter):
    """Code without actions: the network receives none, and only the loss that draws everything inside is provided."""

    def dynamics_loss(self, network: Network, z1: Tensor, actions: Tensor, seed: int) -> Tensor:
        return TextbookEquations().dynamics_loss(lambda z, tau, d, _: network(z, tau, d), z1, actions, seed)


class _LossAlone(TorchAdapter):
    """The textbook's loss in the level and readings of the class, without any other operation."""

    @property
    def book(self) -> TextbookEquations:
        return TextbookEquations(self.level, **self.readings)

    def dynamics_loss(self, network: Network, z1: Tensor, actions: Tensor, seed: int) -> Tensor:
        """`dynamics_loss_at` at levels and noise that are drawn."""
        tau, d = (
            x.reshape(len(z1), -1).expand(z1.shape[:2]).to(z1) for x in self.book.sample_tau_d(seed, *z1.shape[:2])
        )
        return self.dynamics_loss_at(network, z1, torch.randn_like(z1), tau, d, actions)

    def dynamics_loss_at(
        self, network: Network, z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, actions: Tensor
    ) -> Tensor:
        return self.book.dynamics_loss_at(network, z1, z0, tau, d, actions)


@equivalent("loss-with-logging-calls")
class LossWithLoggingCalls(_LossAlone):
    """For logging, the network is called once before and once after the loss, without gradients."""

    def dynamics_loss_at(
        self, network: Network, z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, actions: Tensor
    ) -> Tensor:
        logged = torch.no_grad()(network)
        z = torch.lerp(z0, z1, tau[..., None, None].expand_as(z1))
        logged(z, tau, d, actions)
        loss = super().dynamics_loss_at(network, z1, z0, tau, d, actions)
        logged(z, tau, d, actions)
        return loss


@equivalent("loss-binary-actions")
class LossBinaryActions(_LossAlone):
    """Code with two discrete actions: the adapter maps each of the suite's vectors to a class, in the sampler too."""

    def dynamics_loss_at(
        self, network: Network, z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, actions: Tensor
    ) -> Tensor:
        """Class by the sign of the first component."""
        return super().dynamics_loss_at(network, z1, z0, tau, d, (actions[..., :1] > 0).long())

    def sample_frame(
        self, network: Network, context: Tensor, num_steps: int, seed: int, actions: Tensor | None = None
    ) -> Tensor:
        classes = None if actions is None else (actions[..., :1] > 0).long()
        return self.book.sample_frame(network, context, num_steps, seed, classes)


@equivalent("loss-detached")
class LossDetached(TorchAdapter):
    """An evaluation loss without gradients that draws everything inside."""

    @torch.no_grad()
    def dynamics_loss(self, network: Network, z1: Tensor, actions: Tensor, seed: int) -> Tensor:
        return TextbookEquations().dynamics_loss(network, z1, actions, seed)


@equivalent("loss-detached-per-sequence")
class LossDetachedPerSequence(_LossAlone):
    """An evaluation loss in noise levels, without gradients, d per sequence (A3)."""

    level = "noise"
    readings = {"A3": "sequence"}  # noqa: RUF012

    @torch.no_grad()
    def dynamics_loss_at(
        self, network: Network, z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, actions: Tensor
    ) -> Tensor:
        return super().dynamics_loss_at(network, z1, z0, tau, d, actions)


class _Detached(LossHalfStepAtDMin):
    """A loss without gradients."""

    @torch.no_grad()
    def dynamics_loss_at(
        self, network: Network, z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, actions: Tensor
    ) -> Tensor:
        return super().dynamics_loss_at(network, z1, z0, tau, d, self.classes(actions))

    def classes(self, actions: Tensor) -> Tensor:
        """One of two classes, by the sign of the first component."""
        return (actions[..., :1] > 0).long()


@equivalent("loss-detached-unconditional")
class LossDetachedUnconditional(_Detached):
    """Without gradients and without actions, a half step at d_min (A4), d per sequence (A3)."""

    conditional = False

    def __init__(self) -> None:
        super().__init__(A3="sequence")


@equivalent("loss-detached-binary-actions")
class LossDetachedBinaryActions(_Detached):
    """Without gradients, with two discrete actions, which many rows share; a half step at d_min (A4)."""


@equivalent("loss-two-terms")
class LossTwoTerms(TorchAdapter):
    """Every row has a flow term at d_min and a bootstrap term above it, each with its own mean (A2, A3, A27)."""

    readings = {"A2": "split", "A3": "sequence", "A27": "per_term"}  # noqa: RUF012
    d_min_share = 0.5

    def dynamics_loss(self, network: Network, z1: Tensor, actions: Tensor, seed: int) -> Tensor:
        book, finest, rows, z0 = _Rowwise(), self.k_max.bit_length() - 1, (len(z1), 1), torch.randn_like(z1)
        total = torch.zeros((), dtype=z1.dtype)
        for exponent in (torch.full(rows, finest), torch.randint(finest, rows)):
            steps = (2**exponent).expand(z1.shape[:2])
            tau, d = ((torch.rand(z1.shape[:2]) * steps).floor() / steps).to(z1), (1 / steps).to(z1)
            inputs = (book.mix(z0, z1, tau[..., None, None]), tau, d, actions)
            goal = z1 if exponent.eq(finest).all() else book.bootstrap_goal(network, *inputs)
            total = total + (book.loss_weight(tau) * book.norm(network(*inputs) - goal)).mean()
        return total


@equivalent("loss-two-terms-detached")
class LossTwoTermsDetached(LossTwoTerms):
    """The same without gradients: every row has two students."""

    @torch.no_grad()
    def dynamics_loss(self, network: Network, z1: Tensor, actions: Tensor, seed: int) -> Tensor:
        return super().dynamics_loss(network, z1, actions, seed)


@equivalent("loss-numpy")
class LossNumpy(Adapter):
    """Eq. (6)-(8) in NumPy, without gradients, d per sequence, noise levels."""

    level = "noise"
    readings = {"A3": "sequence"}  # noqa: RUF012

    def dynamics_loss(self, network: Network, z1: np.ndarray, actions: np.ndarray, seed: int) -> np.ndarray:
        """Draws by Eq. (4) in noise levels: σ in {d, …, 1}."""
        rng = np.random.default_rng(seed)
        batch, time = z1.shape[:2]
        steps = 2 ** rng.integers(0, self.k_max.bit_length(), (batch, 1))
        sigma = rng.integers(1, np.broadcast_to(steps, (batch, time)) + 1) / steps
        z0 = rng.standard_normal(z1.shape)
        d = np.broadcast_to(1 / steps, sigma.shape)
        return self.dynamics_loss_at(network, z1, z0.astype(z1.dtype), sigma, d, actions)

    def dynamics_loss_at(
        self, network: Network, z1: np.ndarray, z0: np.ndarray, tau: np.ndarray, d: np.ndarray, actions: np.ndarray
    ) -> np.ndarray:
        """With σ² scaling of the velocity error."""
        sigma = np.asarray(tau, np.float64)[..., None, None]
        step = np.asarray(d, np.float64)[..., None, None]
        z = sigma * z0 + (1 - sigma) * z1
        z1_hat = network(z, tau, d, actions)
        flow = (z1_hat - z1) ** 2
        b_prime = (network(z, tau, d / 2, actions) - z) / sigma
        z_prime = z + b_prime * step / 2
        b_double_prime = (network(z_prime, tau - d / 2, d / 2, actions) - z_prime) / (sigma - step / 2)
        bootstrap = sigma**2 * ((z1_hat - z) / sigma - (b_prime + b_double_prime) / 2) ** 2
        error = np.where(step > 1 / self.k_max, bootstrap, flow).mean((2, 3))
        return ((1 - 0.9 * sigma[..., 0, 0]) * error).mean()
