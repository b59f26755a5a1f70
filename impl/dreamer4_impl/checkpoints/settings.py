"""Everything that decides a run, in frozen dataclasses that refuse what does not fit together; from TOML and JSON.

A configuration is put together from layers, each over the one before: the preset or the earlier phase of the model, what
the data say (size of a frame, actions, tasks), the TOML document, its table [only.PHASE], and what is typed with --set.
"""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from dreamer4_impl.arguments import require_between
from dreamer4_impl.attention.dispatch import BACKENDS
from dreamer4_impl.checkpoints.options import AgentOptions, DynamicsOptions, ImagineOptions, TokenizerOptions
from dreamer4_impl.checkpoints.toml import Table, assignments, from_table, merge, to_table, unknown
from dreamer4_impl.constants import IMAGE_SHARE
from dreamer4_impl.models import presets
from dreamer4_impl.models.configuration import ModelConfig

PhaseName = Literal["tokenizer", "dynamics", "agent", "imagine"]
PHASES: tuple[PhaseName, ...] = ("tokenizer", "dynamics", "agent", "imagine")
MODELS = {"tiny": presets.tiny, "small": presets.small, "paper": presets.paper}


@dataclass(frozen=True)
class Data:
    """Where clips come from.

    Args:
        paths: directories of datasets, as `dreamer4-record` writes them; several are one.
        held_out: share of the episodes that are kept for evaluation; None trains on all of them.
        damaged: what becomes of a damaged shard: a refusal, or a warning and the others alone.
        verify: "quick" compares sizes, "full" checksums.
        latents: directory in which the frames' latents are kept once they are encoded; None encodes them in every step.
    """

    paths: tuple[str, ...] = ()
    held_out: float | None = 0.1
    damaged: Literal["refuse", "skip"] = "refuse"
    verify: Literal["quick", "full"] = "quick"
    latents: str | None = None

    def __post_init__(self) -> None:
        if self.held_out is not None and not 0 < self.held_out <= 0.5:
            raise ValueError(f"held_out must lie in (0, 0.5], or be none; got {self.held_out!r}")


@dataclass(frozen=True)
class Batches:
    """What a step takes in.

    Args:
        size: B, samples of a step, over all processes and micro-batches.
        accumulation: micro-batches that each process goes through in a step.
        image_share: share of the videos that are treated as separate images.
        short_length: T1 of this phase; None is the model's. Short clips make a batch of many different scenes.
        long_every: every how many steps the batch is long, T2; all others are short, T1. 0 for never.
        long_only: share of the steps, the last ones, whose batches are all long.
    """

    size: int = 16
    accumulation: int = 1
    image_share: float = IMAGE_SHARE
    short_length: int | None = None
    long_every: int = 8
    long_only: float = 0.1

    def __post_init__(self) -> None:
        _require_at_least(1, size=self.size, accumulation=self.accumulation)
        if self.short_length is not None:
            _require_at_least(1, short_length=self.short_length)
        _require_at_least(0, long_every=self.long_every)
        require_between("image_share", self.image_share, 0.0, 1.0)
        require_between("long_only", self.long_only, 0.0, 1.0)


@dataclass(frozen=True)
class Optimiser:
    """AdamW. The paper gives none of these numbers.

    Args:
        learning_rate: after the warm-up.
        warmup: steps over which it rises linearly.
        decay: "none" keeps it, "cosine" lets it fall to a tenth by the last step.
        weight_decay: of matrices; gains and biases have none.
        betas: of AdamW.
        clip_norm: the gradient's norm is at most this.
        average: decay of a running average of the weights, kept beside them; None for none.
    """

    learning_rate: float = 3e-4
    warmup: int = 100
    decay: Literal["none", "cosine"] = "none"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0
    average: float | None = None

    def __post_init__(self) -> None:
        _require_at_least(0, warmup=self.warmup, weight_decay=self.weight_decay)
        for name in ("learning_rate", "clip_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be above 0 and finite; got {getattr(self, name)!r}")
        for name, number in (("betas", self.betas[0]), ("betas", self.betas[1]), ("average", self.average or 0.0)):
            if not 0 <= number < 1:
                raise ValueError(f"{name} must lie in [0, 1); got {getattr(self, name)!r}")


@dataclass(frozen=True)
class Execution:
    """How and where it is computed. Of these only `autocast` and `backend` change results by more than rounding order.

    Args:
        device: "auto" is "cuda" where there is one, else "cpu".
        backend: of attention, in place of the model's; None leaves them.
        autocast: None is float32 throughout. "float16" scales the loss.
        compile: the backend of torch.compile for the transformers' layers, such as "inductor"; None for none.
        recompute: layers' activations are computed again for the gradient instead of being kept.
        distributed: under torchrun, "ddp" gives every process the whole model, "fsdp" a share of it.
    """

    device: str = "auto"
    backend: str | None = None
    autocast: Literal["bfloat16", "float16"] | None = None
    compile: str | None = None
    recompute: bool = False
    distributed: Literal["ddp", "fsdp"] = "ddp"

    def __post_init__(self) -> None:
        if self.backend is not None and self.backend not in BACKENDS:
            raise ValueError(f"backend must be one of {', '.join(map(repr, BACKENDS))}; got {self.backend!r}")
        if self.autocast == "float16" and self.distributed == "fsdp":
            raise ValueError("autocast 'float16' scales the loss, which goes with distributed 'ddp'; got 'fsdp'")


@dataclass(frozen=True)
class Records:
    """What a run leaves behind.

    Args:
        checkpoint_every: steps; the last step has a checkpoint in any case.
        keep: how many checkpoints, the newest.
        tensorboard: whether metrics also go there.
    """

    checkpoint_every: int = 1000
    keep: int = 3
    tensorboard: bool = True

    def __post_init__(self) -> None:
        _require_at_least(1, checkpoint_every=self.checkpoint_every, keep=self.keep)


@dataclass(frozen=True)
class Settings:
    """One run of one phase.

    Args:
        phase: which one.
        model: its parts and lengths.
        steps: how many, counted from the start of the phase.
        seed: everything random follows from it.
        init: a run or checkpoint of an earlier phase to start from; None starts at random.
        the others: tables of their own.

    >>> Settings("tokenizer", presets.tiny(), steps=0)
    Traceback (most recent call last):
    ValueError: steps must be 1 or more; got 0
    """

    phase: PhaseName
    model: ModelConfig
    steps: int = 10_000
    seed: int = 0
    init: str | None = None
    data: Data = field(default_factory=Data)
    batches: Batches = field(default_factory=Batches)
    optimiser: Optimiser = field(default_factory=Optimiser)
    execution: Execution = field(default_factory=Execution)
    records: Records = field(default_factory=Records)
    tokenizer: TokenizerOptions = field(default_factory=TokenizerOptions)
    dynamics: DynamicsOptions = field(default_factory=DynamicsOptions)
    agent: AgentOptions = field(default_factory=AgentOptions)
    imagine: ImagineOptions = field(default_factory=ImagineOptions)

    def __post_init__(self) -> None:
        _require_at_least(1, steps=self.steps)
        _require_at_least(0, seed=self.seed)
        if self.phase in ("agent", "imagine") and self.model.agent is None:
            raise ValueError(f"phase {self.phase!r} trains the agent's heads: the model must have [model.agent]")
        if self.short_length > self.model.long_length:
            raise ValueError(
                f"batches.short_length must be at most model.long_length = {self.model.long_length}; got {self.short_length}"
            )
        if self.phase == "agent" and self.model.agent is not None and self.model.agent.length >= self.short_length:
            raise ValueError(
                f"batches.short_length must be above model.agent.length = {self.model.agent.length}, or no short batch holds "
                f"its targets; got {self.short_length}"
            )
        if self.phase == "tokenizer" and self.data.latents is not None:
            raise ValueError("phase 'tokenizer' trains what makes the latents: data.latents must be none")

    @property
    def short_length(self) -> int:
        """T1 of this phase."""
        return self.batches.short_length or self.model.short_length


def model_to_json(config: ModelConfig) -> Table:
    """The configuration of a model as JSON has it; `model_from_json` gives it back exactly.

    >>> model_to_json(presets.tiny())["tokenizer"]["height"]
    6
    """
    table: Table = to_table(config)
    return table


def model_from_json(table: Mapping[str, Any]) -> ModelConfig:
    """The configuration of a model from JSON; what does not fit together is refused.

    >>> model_from_json(model_to_json(presets.tiny())) == presets.tiny()
    True
    """
    return from_table(ModelConfig, table, "model")


def settings_from(
    phase: PhaseName,
    document: Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    model: ModelConfig | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Settings:
    """Put the layers of a configuration together.

    Args:
        phase: the one to run.
        document: a TOML document.
        overrides: "section.key=value" each.
        model: the one to start from where the document names no preset, as that of an earlier phase.
        facts: what the data say of the model, as a part of its table.

    >>> settings_from("tokenizer", {"model": {"preset": "tiny"}}, ["seed=7", "only.tokenizer.steps=5"]).steps
    5
    """
    typed = assignments(overrides)
    table = _for_phase(phase, _for_phase(phase, dict(document)) | {"only": typed.pop("only", {})})
    table = merge(table, typed)
    table["model"] = _model_table(table.get("model", {}), model, facts or {})
    backend = table.get("execution", {}).get("backend", "none")
    if backend != "none":
        table["model"] = merge(table["model"], _with_backend(backend))
    return from_table(Settings, table | {"phase": phase})


def read_document(name: str) -> Table:
    """The TOML document of this path, or the preset of this name.

    >>> read_document("no such preset")
    Traceback (most recent call last):
    ValueError: there is no configuration file 'no such preset', and no preset of this name; there are ...
    """
    path = Path(name)
    if path.suffix != ".toml" and name in document_presets():
        path = document_presets()[name]
    if not path.is_file():
        known = ", ".join(document_presets()) or "none"
        raise ValueError(f"there is no configuration file {name!r}, and no preset of this name; there are {known}")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error


@cache
def document_presets() -> dict[str, Path]:
    """Presets that come with the package, by name."""
    found = Path(str(files("dreamer4_impl.checkpoints"))) / "presets"
    return {path.stem: path for path in sorted(found.glob("*.toml"))}


def settings_to_json(settings: Settings) -> Table:
    """The whole configuration, as a checkpoint holds it.

    >>> settings_to_json(Settings("tokenizer", presets.tiny()))["optimiser"]["betas"]
    [0.9, 0.99]
    """
    table: Table = to_table(settings)
    return table


def settings_from_json(table: Mapping[str, Any]) -> Settings:
    """The configuration that a checkpoint holds.

    >>> settings = Settings("tokenizer", presets.tiny())
    >>> settings_from_json(settings_to_json(settings)) == settings
    True
    """
    return from_table(Settings, table)


def _for_phase(phase: PhaseName, table: Table) -> Table:
    only = table.pop("only", {})
    for name in only:
        if name not in PHASES:
            raise ValueError(unknown(name, PHASES, "only"))
    return merge(table, only.get(phase, {}))


def _model_table(table: Mapping[str, Any], model: ModelConfig | None, facts: Mapping[str, Any]) -> Table:
    own = dict(table)
    preset = own.pop("preset", None)
    if preset is not None and preset not in MODELS:
        raise ValueError(f"model.preset must be one of {', '.join(map(repr, MODELS))}; got {preset!r}")
    if preset is not None:
        model = MODELS[preset]()
    base = {} if model is None else model_to_json(model)
    merged = merge(merge(base, facts), own)
    dynamics = merged.get("dynamics", {})
    if dynamics.get("agent") is not True and "tasks" not in own.get("dynamics", {}):
        # Tasks are told to the agent token: without one, that of the data are nobody's.
        merged = merge(merged, {"dynamics": {"tasks": 0}})
    return merged


def _with_backend(backend: str) -> Table:
    transformer = {"backend": backend}
    return {
        "tokenizer": {"encoder": transformer, "decoder": transformer},
        "dynamics": {"transformer": transformer},
    }


def _require_at_least(least: int, **numbers: float) -> None:
    for name, number in numbers.items():
        if number < least:
            raise ValueError(f"{name} must be {least} or more; got {number!r}")
