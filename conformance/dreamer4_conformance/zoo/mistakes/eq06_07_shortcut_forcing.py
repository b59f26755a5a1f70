"""Mistakes in Eq. (6), (7) and (8): the shortcut forcing loss."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookEquations
from dreamer4_conformance.zoo.base.eq06_07_shortcut_forcing import Network
from dreamer4_conformance.zoo.mistakes import mistake

LOSSES = ("dynamics_loss", "dynamics_loss_at")


@mistake("ramp-flow-only", clause="eq08.applied", operations=LOSSES)
class RampFlowOnly(TextbookEquations):
    """w is missing from the bootstrap term."""

    def weigh(self, error: Tensor, tau: Tensor, bootstrap: Tensor) -> Tensor:
        return error * torch.where(bootstrap, 1.0, self.loss_weight(tau))


@mistake("ramp-bootstrap-only", clause="eq08.applied", operations=LOSSES)
class RampBootstrapOnly(TextbookEquations):
    """w is missing from the flow term."""

    def weigh(self, error: Tensor, tau: Tensor, bootstrap: Tensor) -> Tensor:
        return error * torch.where(bootstrap, self.loss_weight(tau), 1.0)


@mistake("ramp-after-averaging", clause="eq08.applied", operations=LOSSES)
class RampAfterAveraging(TextbookEquations):
    """The mean weight multiplies the mean loss instead of each weight its timestep's loss."""

    def weigh(self, error: Tensor, tau: Tensor, bootstrap: Tensor) -> Tensor:
        return error * self.loss_weight(tau).mean()


@mistake("factors-averaged-apart", clause="eq08.applied", operations=LOSSES)
class FactorsAveragedApart(TextbookEquations):
    """The velocity error and its factor w (1 − τ)² are averaged over the frames each, and the means multiplied."""

    def weigh(self, error: Tensor, tau: Tensor, bootstrap: Tensor) -> Tensor:
        factor = self.loss_weight(tau) * (1 - tau) ** 2
        product = (error / (1 - tau) ** 2).mean(1, keepdim=True) * factor.mean(1, keepdim=True)
        return torch.where(bootstrap, product, super().weigh(error, tau, bootstrap))


@mistake("ramp-normalised", clause="eq08.elementwise", operations=("ramp_weight",))
class RampNormalised(TextbookEquations):
    """Weights are divided by their mean over the batch."""

    def ramp_weight(self, tau: Tensor) -> Tensor:
        weight = super().ramp_weight(tau)
        return weight / weight.mean()


@mistake("velocity-output", clause="eq06.x-prediction", operations=LOSSES)
class VelocityOutput(TextbookEquations):
    """The network's output is interpreted as the velocity z1 − z0."""

    def flow_error(self, z1_hat: Tensor, z1: Tensor) -> Tensor:
        return self.norm(z1_hat - (z1 - self._z0))

    def dynamics_loss_at(
        self, network: Network, z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, actions: Tensor
    ) -> Tensor:
        self._z0 = z0
        return super().dynamics_loss_at(network, z1, z0, tau, d, actions)


@mistake("student-label-shifted", clause="eq07.student-label", operations=LOSSES)
class StudentLabelShifted(TextbookEquations):
    """The student is labelled with the level after its step."""

    def dynamics_loss_at(
        self, network: Network, z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, actions: Tensor
    ) -> Tensor:
        calls = 0

        def shifted(z: Tensor, level: Tensor, step: Tensor, actions: Tensor | None = None) -> Tensor:
            nonlocal calls
            calls += 1
            moved = self.signal((self.signal(level) + step).clamp(max=1 - 1 / self.k_max))
            return network(z, moved if calls == 1 else level, step, actions)

        return super().dynamics_loss_at(shifted, z1, z0, tau, d, actions)


@mistake("bootstrap-x-space", clause="eq07.bootstrap-value", operations=LOSSES)
class BootstrapXSpace(TextbookEquations):
    """The bootstrap target is the teacher's second prediction of z1, not the mean of two velocities."""

    def bootstrap_error(self, z1_hat: Tensor, z: Tensor, target: Tensor, tau: Tensor) -> Tensor:
        return self.norm(z1_hat - self._second)

    def velocity(self, z1_hat: Tensor, z: Tensor, tau: Tensor) -> Tensor:
        self._second = z1_hat.detach()
        return super().velocity(z1_hat, z, tau)


@mistake("bootstrap-missing", clause="eq07.bootstrap-value", operations=LOSSES)
class BootstrapMissing(TextbookEquations):
    """There is no bootstrap: above d_min, too, the target is the data, and the network is called once."""

    def target(
        self, network: Network, z: Tensor, z0: Tensor, z1: Tensor, tau: Tensor, d: Tensor, actions: Tensor
    ) -> Tensor:
        return self.velocity(z1, z, tau)


@mistake("bootstrap-unscaled", clause="eq07.bootstrap-value", operations=LOSSES)
class BootstrapUnscaled(TextbookEquations):
    """The bootstrap term lacks its factor (1 − τ)²."""

    def bootstrap_error(self, z1_hat: Tensor, z: Tensor, target: Tensor, tau: Tensor) -> Tensor:
        return self.norm(self.velocity(z1_hat, z, tau) - target)


@mistake("bootstrap-tau-squared", clause="eq07.bootstrap-value", operations=LOSSES)
class BootstrapTauSquared(TextbookEquations):
    """The velocity error is scaled by τ² in signal levels, (1 − τ)² in noise levels."""

    def bootstrap_error(self, z1_hat: Tensor, z: Tensor, target: Tensor, tau: Tensor) -> Tensor:
        return tau**2 * self.norm(self.velocity(z1_hat, z, tau) - target)


@mistake("velocity-unnormalised", clause="eq07.teacher-state", operations=LOSSES)
class VelocityUnnormalised(TextbookEquations):
    """b' and b'' lack the factor 1/(1 − τ)."""

    def velocity(self, z1_hat: Tensor, z: Tensor, tau: Tensor) -> Tensor:
        return z1_hat - z


@mistake("renoise-true", clause="eq07.teacher-state", operations=LOSSES)
class RenoiseTrue(TextbookEquations):
    """The second teacher input is the data corrupted with the true noise at the next level."""

    def second_input(self, z: Tensor, z0: Tensor, z1: Tensor, tau: Tensor, half: Tensor, b_prime: Tensor) -> Tensor:
        return self.mix(z0, z1, (tau + half)[..., None, None])


@mistake("renoise-fresh", clause="eq07.teacher-state", operations=LOSSES)
class RenoiseFresh(TextbookEquations):
    """The second teacher input is the teacher's prediction corrupted with new noise."""

    def second_input(self, z: Tensor, z0: Tensor, z1: Tensor, tau: Tensor, half: Tensor, b_prime: Tensor) -> Tensor:
        z1_hat = z + b_prime * (1 - tau)[..., None, None]
        return self.mix(torch.randn_like(z), z1_hat, (tau + half)[..., None, None])


@mistake("renoise-prediction", clause="eq07.teacher-state", operations=LOSSES)
class RenoisePrediction(TextbookEquations):
    """The second teacher input is the teacher's prediction corrupted with the true noise at the next level."""

    def second_input(self, z: Tensor, z0: Tensor, z1: Tensor, tau: Tensor, half: Tensor, b_prime: Tensor) -> Tensor:
        z1_hat = z + b_prime * (1 - tau)[..., None, None]
        return torch.where(half[..., None, None] > 0, self.mix(z0, z1_hat, (tau + half)[..., None, None]), z)


@mistake("teacher-state-unmoved", clause="eq07.teacher-state", operations=LOSSES)
class TeacherStateUnmoved(TextbookEquations):
    """The second teacher input is z̃ again, not the state after the first half step."""

    def second_input(self, z: Tensor, z0: Tensor, z1: Tensor, tau: Tensor, half: Tensor, b_prime: Tensor) -> Tensor:
        return z


@mistake("tau-mid-clamped", clause="eq07.teacher-labels", operations=LOSSES)
class TauMidClamped(TextbookEquations):
    """τ + d/2 is clamped so that it does not increase at the end of the range."""

    def second_label(self, tau: Tensor, half: Tensor) -> Tensor:
        return torch.minimum(tau + half, torch.full_like(tau, 0.5)).maximum(tau)


@mistake("teacher-full-step", clause="eq07.teacher-labels", operations=LOSSES)
class TeacherFullStep(TextbookEquations):
    """The teacher is conditioned on d instead of d/2."""

    def teacher_step(self, d: Tensor) -> Tensor:
        return d


@mistake("teacher-gradient", clause="eq07.stop-gradient", operations=LOSSES)
class TeacherGradient(TextbookEquations):
    """The bootstrap target is not detached: gradient flows into the teacher."""

    def teacher_context(self) -> Any:
        return nullcontext()


@mistake("student-detached-scale", clause="eq07.gradient", operations=LOSSES)
class StudentDetachedScale(TextbookEquations):
    """The loss is divided by its own detached value, which changes its gradient."""

    def weigh(self, error: Tensor, tau: Tensor, bootstrap: Tensor) -> Tensor:
        return super().weigh(error, tau, bootstrap) * 1.0 / error.detach().clamp(min=1e-8)


@mistake("teacher-no-actions", clause="eq07.actions", operations=LOSSES)
class TeacherNoActions(TextbookEquations):
    """The teacher is called without actions."""

    def teacher_actions(self, actions: Tensor) -> Tensor | None:
        return None


@mistake("teacher-averaged", clause="eq07.same-network", operations=LOSSES)
class TeacherAveraged(TextbookEquations):
    """b' and b'' come from an averaged copy of the network, which is not declared as a reading."""

    def teacher(self, network: Network) -> Network:
        import copy

        return copy.deepcopy(network)


@mistake("flow-everywhere", clause="eq07.flow-only-at-dmin", operations=LOSSES)
class FlowEverywhere(TextbookEquations):
    """The flow term is added above d_min too."""

    def flow_error(self, z1_hat: Tensor, z1: Tensor) -> Tensor:
        self._flow = super().flow_error(z1_hat, z1)
        return self._flow

    def weigh(self, error: Tensor, tau: Tensor, bootstrap: Tensor) -> Tensor:
        added = torch.where(bootstrap, self.loss_weight(tau) * self._flow, 0.0)
        return super().weigh(error, tau, bootstrap) + added


@mistake("flow-velocity-space", clause="eq07.flow-value", operations=LOSSES)
class FlowVelocitySpace(TextbookEquations):
    """The flow term is an unscaled velocity error: ‖ẑ1 − z1‖²/(1 − τ)²."""

    def weigh(self, error: Tensor, tau: Tensor, bootstrap: Tensor) -> Tensor:
        return super().weigh(torch.where(bootstrap, error, error / (1 - tau) ** 2), tau, bootstrap)


@mistake("target-noise", clause="eq07.perfect", operations=LOSSES)
class TargetNoise(TextbookEquations):
    """The target is the corrupted data instead of the clean data."""

    def flow_error(self, z1_hat: Tensor, z1: Tensor) -> Tensor:
        return self.norm(z1_hat - self._z)

    def mix(self, z0: Tensor, z1: Tensor, tau: Tensor) -> Tensor:
        self._z = super().mix(z0, z1, tau)
        return self._z


@mistake("labels-swapped-ends", clause="eq07.consistent-labels", operations=LOSSES)
class LabelsSwappedEnds(TextbookEquations):
    """The network receives noise levels where the rest of the code uses signal levels."""

    def evaluate(self, network: Network, z: Tensor, tau: Tensor, d: Tensor, actions: Tensor | None) -> Tensor:
        return super().evaluate(network, z, (1 - tau).clamp(0, 1 - 1 / self.k_max), d, actions)


@mistake("mixed-label-zero", clause="eq07.mixed-steps", operations=LOSSES)
class MixedLabelZero(TextbookEquations):
    """Timesteps at d_min in a mixed sequence are labelled 0 in the second teacher call."""

    def second_label(self, tau: Tensor, half: Tensor) -> Tensor:
        return torch.where(half > 0, tau + half, 0.0)


@mistake("velocity-divides-by-d", clause="eq07.finite", operations=LOSSES)
class VelocityDividesByZero(TextbookEquations):
    """The second velocity divides by 1 − (τ + d), which is zero at the end of the grid."""

    def mean_velocity(self, b_prime: Tensor, b_double_prime: Tensor) -> Tensor:
        return super().mean_velocity(b_prime, b_double_prime / (1 - self._end))

    def second_label(self, tau: Tensor, half: Tensor) -> Tensor:
        self._end = (tau + 2 * half >= 1).to(tau)[..., None, None]
        return super().second_label(tau, half)


@mistake("loss-factor", clause="eq07.absolute", operations=LOSSES)
class LossFactor(TextbookEquations):
    """The bootstrap term is multiplied by 10."""

    def weigh(self, error: Tensor, tau: Tensor, bootstrap: Tensor) -> Tensor:
        return super().weigh(torch.where(bootstrap, 10 * error, error), tau, bootstrap)


@mistake("loss-clamped", clause="eq07.absolute", operations=LOSSES)
class LossClamped(TextbookEquations):
    """The error of a timestep is clamped at 4."""

    def weigh(self, error: Tensor, tau: Tensor, bootstrap: Tensor) -> Tensor:
        return super().weigh(error.clamp(max=4.0), tau, bootstrap)


@mistake("broadcast-batch", clause="eq07.batch-shapes", operations=LOSSES)
class BroadcastBatch(TextbookEquations):
    """A (B,) weight multiplies a (B, T) loss: an error, or silently wrong values where B = T."""

    def weigh(self, error: Tensor, tau: Tensor, bootstrap: Tensor) -> Tensor:
        return error * self.loss_weight(tau)[:, 0]


@mistake("nan-replaced", clause="eq07.nan-visible", operations=LOSSES)
class NanReplaced(TextbookEquations):
    """NaN is replaced by zero before the mean."""

    def average(self, loss: Tensor, bootstrap: Tensor) -> Tensor:
        return super().average(torch.nan_to_num(loss, nan=0.0), bootstrap)


@mistake("target-clipped", clause="eq07.bootstrap-value", operations=LOSSES)
class TargetClipped(TextbookEquations):
    """The bootstrap target, a velocity, is clipped to ±4."""

    limit = 4.0

    def mean_velocity(self, b_prime: Tensor, b_double_prime: Tensor) -> Tensor:
        return super().mean_velocity(b_prime, b_double_prime).clamp(-self.limit, self.limit)


@mistake("target-clipped-widely", clause="eq07.bootstrap-value", operations=LOSSES)
class TargetClippedWidely(TargetClipped):
    """The bootstrap target is clipped to ±100, a range that ordinary latents hardly leave."""

    limit = 100.0


@mistake("bootstrap-error-clamped", clause="eq07.absolute", operations=LOSSES)
class BootstrapErrorClamped(TextbookEquations):
    """The bootstrap error is clamped at 100 before its factor (1 − τ)²."""

    def bootstrap_error(self, z1_hat: Tensor, z: Tensor, target: Tensor, tau: Tensor) -> Tensor:
        return (1 - tau) ** 2 * self.norm(self.velocity(z1_hat, z, tau) - target).clamp(max=100.0)


@mistake("loss-huber", clause="eq07.absolute", operations=LOSSES)
class LossHuber(TextbookEquations):
    """Errors above 10 count linearly, as in a Huber loss."""

    def norm(self, error: Tensor) -> Tensor:
        size = error.abs()
        huber = torch.where(size <= 10, size.square(), 20 * size - 100)
        return huber.mean((2, 3)) if self.follows["A8"] == "mean" else huber.sum((2, 3))


@mistake("flow-scaled", clause="eq07.flow-value", operations=LOSSES)
class FlowScaled(TextbookEquations):
    """The flow term has the bootstrap term's factor (1 − τ)² on an error that is in x-space already."""

    def weigh(self, error: Tensor, tau: Tensor, bootstrap: Tensor) -> Tensor:
        return super().weigh(torch.where(bootstrap, error, error * (1 - tau) ** 2), tau, bootstrap)


@mistake("flow-target-of-next-row", clause="eq07.flow-value", operations=LOSSES)
class FlowTargetOfNextRow(TextbookEquations):
    """The flow term compares with the data of another row of the batch."""

    def flow_error(self, z1_hat: Tensor, z1: Tensor) -> Tensor:
        return self.norm(z1_hat - z1.roll(1, 0))


@mistake("ramp-missing", clause="eq08.applied", operations=LOSSES)
class RampMissing(TextbookEquations):
    """Every timestep of the loss has weight 1."""

    def loss_weight(self, tau: Tensor) -> Tensor:
        return torch.ones_like(tau)


@mistake("ramp-of-first-timestep", clause="eq08.applied", operations=LOSSES)
class RampOfFirstTimestep(TextbookEquations):
    """All timesteps of a sequence have the weight of its first level."""

    def weigh(self, error: Tensor, tau: Tensor, bootstrap: Tensor) -> Tensor:
        return super().weigh(error, tau[:, :1].expand_as(tau), bootstrap)
