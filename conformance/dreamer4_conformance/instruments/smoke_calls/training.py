"""First calls of training and of checkpoints."""

from __future__ import annotations

from dreamer4_conformance.checks.algorithm1_training import lengths, marked, plan
from dreamer4_conformance.checks.checkpoints import final, loading
from dreamer4_conformance.checks.training_phases import DATA, RELEVANT, arrays, losses, reached
from dreamer4_conformance.instruments.black_box import arguments, run
from dreamer4_conformance.instruments.smoke_calls import Occasion, contact, floats, mapping
from dreamer4_conformance.judging.check import Trial
from dreamer4_conformance.verdicts import Inconclusive, OperationFailed


@contact
def _training_plan(at: Occasion) -> None:
    planned = plan(at.subject, 0, 8)
    for key in ("length", "image", "relevant"):
        try:
            lengths(at.subject, Trial(), planned) if key == "length" else marked(at.subject, Trial(), planned, key)
        except Inconclusive:
            continue


@contact
def _image_dynamics(at: Occasion) -> None:
    given = arguments(at.subject, "image_dynamics", 0, at.batch, at.time)
    z_hat = floats("image_dynamics", run(at.subject, "image_dynamics", given)["z_hat"])
    if z_hat.shape != given["z"].shape:
        raise OperationFailed(f"image_dynamics returned shape {z_hat.shape}; it needs {given['z'].shape}")


@contact
def _training_gradients(at: Occasion) -> None:
    reached(at.subject, "dynamics", 0)
    found = at.subject.call("training_gradients", "dynamics", 0, seeded=0)
    for part, value in mapping("training_gradients", found).items():
        for gradient in arrays(value):
            floats(f"training_gradients: {part}", at.subject.read("training_gradients", gradient))


@contact
def _agent_losses(at: Occasion) -> None:
    losses(at.subject, 0, DATA)
    found = at.subject.call("agent_losses", 0, list(DATA), list(RELEVANT), seeded=0)
    for name, value in mapping("agent_losses", found).items():
        if value is not None:
            floats(f"agent_losses: {name}", at.subject.read("agent_losses", value, ()))


@contact
def _resume(at: Occasion) -> None:
    for name, x in final(at.subject, 1, None).items():
        floats(f"resume: {name}", x)


@contact
def _load_checkpoint(at: Occasion) -> None:
    for name, x in loading(at.subject).parameters.items():
        floats(f"load_checkpoint: {name}", x)
