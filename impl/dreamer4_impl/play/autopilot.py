"""The policy of the model as the player: which one it is, and its actions as JSON values.

    a_t ~ π(· | h_t)

Read as: h_t is the output of the agent token in the pass that commits frame t, and π is distance 0 of the policy head,
as in imagination and in evaluation's real games.
"""

from collections.abc import Mapping
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor

from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.heads import PolicyHead

#: Value of `action` in a request for the action of the policy.
POLICY: Final = "policy"
#: What the policy of a checkpoint has learned from, by phase.
ORIGINS: Final[Mapping[str, str]] = {
    "agent": "the cloned policy, which imitates the recorded actions",
    "imagine": "the policy trained in imagination",
}


def absence(model: Dreamer4, phase: str) -> str | None:
    """Say why a model has no autopilot.

    Args:
        model: the played model.
        phase: phase of its training.

    Returns:
        The reason, without a full stop; None if the model has a trained policy.
    """
    if model.agent is not None and phase in ORIGINS:
        return None
    return (
        f"there is no autopilot, because this model has no trained agent: it is of the phase {phase}, and models of "
        f"the phases {' and '.join(ORIGINS)} have one"
    )


def draw_action(policy: PolicyHead, h: Float[Tensor, "1 W"], generator: torch.Generator) -> dict[str, Any]:
    """Draw an action of the policy.

    Args:
        policy: policy head.
        h: output of the agent token at the current frame, (1, W).
        generator: source of the draw, on the device of h.

    Returns:
        By component the class, or a list of switches, as in a request of the page.

    Example:
        >>> from dreamer4_impl.layers.actions import Categorical
        >>> head = PolicyHead(4, 8, [Categorical("move", 3)])
        >>> draw_action(head, torch.zeros(1, 4), torch.Generator().manual_seed(0))["move"] in range(3)
        True
    """
    with torch.no_grad():
        drawn = policy.act(h[:, None]).sample(generator)
    return {name: value[0, 0].tolist() for name, value in drawn.items()}
