"""Equal calls that differ, sessions, lengths and shapes: which clause speaks, and which must not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dreamer4_conformance.adapter import TorchAdapter
from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.runner import judge
from dreamer4_conformance.verdicts import Result, Status
from dreamer4_conformance.zoo.base import TextbookModel
from dreamer4_conformance.zoo.equivalents.conditioning import PositionsFromATable, StepsWithoutAgent
from dreamer4_conformance.zoo.mistakes.cache import Generating
from dreamer4_conformance.zoo.mistakes.sec32_dynamics import WholeSequences
from dreamer4_conformance.zoo.mistakes.sequence_length import FramesCountedFromTheEnd
from dreamer4_conformance.zoo.mistakes.sessions import StateOfLastSession


def verdict(adapter: TorchAdapter, clause: str) -> Result:
    return judge(Subject(adapter), BY_ID[clause], minimal=False)


@pytest.fixture(autouse=True)
def without_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run no diagnosis, which these tests do not read."""
    monkeypatch.setattr("dreamer4_conformance.runner.gather", lambda *_: None)


class DropoutOn(Generating):
    """A cached model in training mode."""

    def hidden(self, x: Tensor, name: str) -> Tensor:
        return torch.nn.functional.dropout(super().hidden(x, name), 0.2)


def test_dropout_is_named_and_nothing_is_blamed_on_the_cache() -> None:
    assert verdict(DropoutOn(), "net.repeatable").status is Status.FAIL
    for clause in ("net.incremental", "net.prefix", "dyn.conditioning", "ctx.cache"):
        result = verdict(DropoutOn(), clause)
        assert result.status is Status.INCONCLUSIVE, f"{clause}: {result.message}"
        assert result.message.startswith("follows from net.repeatable: equal calls of")


def test_state_that_outlives_its_session_is_no_lack_of_repeatability() -> None:
    assert verdict(StateOfLastSession(), "net.repeatable").status is Status.PASS


@pytest.mark.parametrize("adapter_type", [StepsWithoutAgent, PositionsFromATable])
def test_steps_are_compared_as_far_as_they_go(adapter_type: type[TextbookModel]) -> None:
    result = verdict(adapter_type(), "net.incremental")
    assert result.status is Status.PASS, result.message


class NeedsTwoFrames(WholeSequences):
    """A sequence of one frame raises."""

    def dynamics(self, z: Tensor, *inputs: Any) -> Any:
        if z.shape[1] == 1:
            raise ValueError("a sequence needs two frames")
        return super().dynamics(z, *inputs)


class NeedsTwoSequences(WholeSequences):
    """A batch of one sequence raises."""

    def dynamics(self, z: Tensor, *inputs: Any) -> Any:
        if len(z) == 1:
            raise ValueError("a batch needs two sequences")
        return super().dynamics(z, *inputs)


MODEL = ("attn.causal", "net.space-full", "dyn.agent-firewall", "eq09.no-leak", "dyn.registers", "net.prefix")


@pytest.mark.parametrize("adapter_type", [NeedsTwoFrames, NeedsTwoSequences])
def test_a_crash_at_one_frame_or_one_sequence_fails_one_clause(adapter_type: type[WholeSequences]) -> None:
    for clause in MODEL:
        result = verdict(adapter_type(), clause)
        assert result.status is Status.PASS, f"{clause}: {result.message}"
    assert verdict(adapter_type(), "dyn.conditioning").status is Status.FAIL


class Constant(Generating):
    """z_hat, agent and generated frames do not depend on any input."""

    def predicted(self, z: Tensor, *inputs: Any, **options: Any) -> Any:
        z_hat, agent, state = super().predicted(z, *inputs, **options)
        return torch.ones_like(z_hat), None if agent is None else torch.ones_like(agent), state

    def rollout(self, context: Tensor, actions: Any, frames: int, num_steps: int, seed: int, *, cache: bool) -> Tensor:
        return torch.ones(len(context), frames, *context.shape[2:])


@pytest.mark.parametrize(
    "clause",
    [*MODEL[:4], "dyn.conditioning", "dyn.unlabelled", "net.prefix", "net.incremental", "net.sessions", "ctx.cache"],
)
def test_constant_model_decides_nothing(clause: str) -> None:
    result = verdict(Constant(), clause)
    assert result.status is Status.INCONCLUSIVE, f"{result.status}: {result.message}"


def constant_up_to_rounding(base: type[TextbookModel]) -> type[TextbookModel]:
    """A model whose agent output is the same for all sequences but for a rounding that depends on the row."""

    class ConstantAgent(base):  # type: ignore[misc, valid-type]
        def predicted(self, *inputs: Any, **options: Any) -> Any:
            z_hat, agent, state = super().predicted(*inputs, **options)
            rows = torch.arange(len(z_hat), device=z_hat.device) % 2
            equal = 1 + rows[(...,) + (None,) * (z_hat.ndim - 1)] * torch.finfo(z_hat.dtype).eps
            return z_hat, None if agent is None else torch.ones_like(agent) * equal[:, :, 0], state

    return ConstantAgent


@pytest.mark.parametrize("clause", ["net.prefix", "net.sessions"])
def test_output_that_varies_by_rounding_only_decides_nothing(clause: str) -> None:
    result = verdict(constant_up_to_rounding(Generating)(), clause)
    assert result.status is Status.INCONCLUSIVE, f"{result.status}: {result.message}"
    assert result.message == "agent is the same for all sequences: are all parameters random?"


class AgentOfTask(Generating):
    """The agent's output depends on the task alone, which two sequences may share."""

    def predicted(self, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any, *options: Any, **named: Any) -> Any:
        z_hat, agent, state = super().predicted(z, tau, d, actions, task, *options, **named)
        if agent is not None:
            agent = torch.ones_like(agent) * (1 + task.to(agent.dtype)).reshape(-1, 1, 1)
        return z_hat, agent, state


@pytest.mark.parametrize("clause", ["net.prefix", "net.sessions"])
def test_output_that_two_sequences_share_by_chance_is_compared(clause: str) -> None:
    shared = 0
    for seed in range(6):
        task = AgentOfTask().example(seed, 2, 5)["task"]
        shared += bool((task[0] == task[1]).all())
        result = judge(Subject(AgentOfTask()), BY_ID[clause], seed=seed, minimal=False)
        assert result.status is Status.PASS, f"{result.status}: {result.message}"
    assert 0 < shared < 6


@pytest.mark.parametrize(
    ("mistake", "clause"), [(FramesCountedFromTheEnd, "net.prefix"), (StateOfLastSession, "net.sessions")]
)
def test_outputs_beside_a_constant_one_are_compared(mistake: type[TextbookModel], clause: str) -> None:
    result = verdict(constant_up_to_rounding(mistake)(), clause)
    assert result.status is Status.FAIL, f"{result.status}: {result.message}"
    assert result.message.startswith("z_hat")


class NotANumber(WholeSequences):
    """Frames after the eighth are NaN."""

    def read_spatial(self, x: Tensor) -> Tensor:
        z_hat = super().read_spatial(x)
        return torch.cat([z_hat[:, :8], z_hat[:, 8:] * torch.nan], 1)


def test_nan_is_not_taken_for_a_change() -> None:
    result = verdict(NotANumber(), "attn.window")
    assert result.status is not Status.FAIL, result.message


class WithoutRegisters(WholeSequences):
    registers = 0


class RegistersUnknown(WholeSequences):
    registers = None
    modality_mask = TorchAdapter.modality_mask


@pytest.mark.parametrize("adapter_type", [WithoutRegisters, RegistersUnknown])
def test_registers_are_not_judged_without_any(adapter_type: type[WholeSequences]) -> None:
    assert verdict(adapter_type(), "dyn.registers").status is Status.NOT_PROVIDED
