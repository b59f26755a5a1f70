"""Model card of an exported model: README.md with the metadata that the Hugging Face Hub reads."""

from typing import Final

from dreamer4_impl.checkpoints.checkpoint import Checkpoint

HEADS: Final = ("policy", "reward", "value", "continues")
"""Names of the heads of an agent."""

CARD: Final = "README.md"
"""File name of the card."""

TEMPLATE: Final = """\
---
library_name: dreamer4-conformance
pipeline_tag: reinforcement-learning
tags:
- world-model
- dreamer4
---

# {name}

World model of [Dreamer 4](https://arxiv.org/abs/2509.24527), trained with
[dreamer4-conformance](https://github.com/dreamer4-conformance/dreamer4-conformance).

| | |
|---|---|
| phase of training | {phase}, {step} steps |
| parameters | {parameters} ({dtype}) |
| frames | {height}×{width}×{channels} |
| actions | {actions} |
| context | {context} frames |
| heads of the agent | {agent} |

`config.json` holds the complete configuration, `model.safetensors` the weights.

```python
from dreamer4_impl import load_model
from huggingface_hub import snapshot_download

model, report = load_model(snapshot_download("USER/{name}"))
```

The folder is uploaded with `hf upload USER/{name} {name}`. Training data, intended use and licence: to be
added by those who trained the model.
"""


def model_card(checkpoint: Checkpoint, name: str) -> str:
    """Describe a model.

    Args:
        checkpoint: configuration, step and weights.
        name: name of its folder.

    Returns:
        Markdown that begins with a block of YAML.
    """
    settings = checkpoint.settings
    tokenizer, dynamics = settings.model.tokenizer, settings.model.dynamics
    actions = [f"{type(component).__name__} {component.name} ({component.size})" for component in dynamics.actions]
    return TEMPLATE.format(
        name=name,
        phase=settings.phase,
        step=f"{checkpoint.step:,}",
        parameters=f"{sum(weight.numel() for weight in checkpoint.weights.values()):,}",
        dtype=", ".join(sorted({str(weight.dtype).removeprefix("torch.") for weight in checkpoint.weights.values()})),
        height=tokenizer.height,
        width=tokenizer.width,
        channels=tokenizer.channels,
        actions=", ".join(actions) or "none",
        context=dynamics.transformer.context,
        agent=", ".join(head for head in HEADS if any(name.startswith(f"agent.{head}.") for name in checkpoint.weights))
        or "none",
    )
