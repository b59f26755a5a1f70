"""Configuration of a training run: frozen dataclasses that check their values, read from TOML and JSON.

A configuration is merged from layers of rising priority: preset or earlier phase of the model; facts of the data (size
of a frame, actions, tasks); the TOML document; its table [only.PHASE]; the options --set.
"""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dreamer4_impl.arguments import require_at_least, require_between, require_size
from dreamer4_impl.attention.dispatch import BACKENDS
from dreamer4_impl.checkpoints.names import PHASES, SEQUENCE_TABLES, PhaseName, preset_documents
from dreamer4_impl.checkpoints.options import AgentOptions, DynamicsOptions, ImagineOptions, TokenizerOptions
from dreamer4_impl.checkpoints.toml import (
    Table,
    assignments,
    from_table,
    merge,
    shown,
    subtable,
    to_table,
    unknown_setting,
)
from dreamer4_impl.constants import IMAGE_SHARE
from dreamer4_impl.models import presets
from dreamer4_impl.models.configuration import ModelConfig

MODELS = {"tiny": presets.tiny, "small": presets.small, "paper": presets.paper}


@dataclass(frozen=True)
class Data:
    """Table [data]: source of the clips.

    Args:
        paths: directories of datasets that `dreamer4-record` wrote; several are joined.
        held_out: share of the episodes kept for evaluation, in (0, 0.5]; None trains on all of them.
        damaged: treatment of a damaged shard: "refuse" raises, "skip" warns and leaves the shard out.
        verify: "quick" compares sizes, "full" checksums.
        latents: directory that caches the latents of all frames; None encodes frames in every step.
        tasks: names of the model's tasks in their order. A run takes them from the earlier phase and the data, so that
            a task keeps its number however the datasets of a later phase are ordered.
    """

    paths: tuple[str, ...] = ()
    held_out: float | None = 0.1
    damaged: Literal["refuse", "skip"] = "refuse"
    verify: Literal["quick", "full"] = "quick"
    latents: str | None = None
    tasks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.held_out is not None and not 0 < self.held_out <= 0.5:
            raise ValueError(f"held_out must lie in (0, 0.5], or be none; got {self.held_out!r}")


@dataclass(frozen=True)
class Batches:
    """Table [batches].

    Args:
        size: B, samples of a step over all processes and micro-batches, 1 or more.
        accumulation: micro-batches per process and step, 1 or more.
        image_share: share of the videos that are treated as separate images, in [0, 1].
        short_length: T1 of this phase, frames; None is the model's. Short clips give batches of many different scenes.
        long_every: every n-th batch is long, T2, all others are short, T1; 0 for never, else 1 or more.
        long_only: share of the steps at the end whose batches are all long, in [0, 1].
    """

    size: int = 16
    accumulation: int = 1
    image_share: float = IMAGE_SHARE
    short_length: int | None = None
    long_every: int = 8
    long_only: float = 0.1

    def __post_init__(self) -> None:
        require_size(size=self.size, accumulation=self.accumulation)
        if self.short_length is not None:
            require_size(short_length=self.short_length)
        require_at_least(0, long_every=self.long_every)
        require_between("image_share", self.image_share, 0.0, 1.0)
        require_between("long_only", self.long_only, 0.0, 1.0)


@dataclass(frozen=True)
class Optimiser:
    """Table [optimiser]. The paper gives none of these choices.

    Args:
        layers: optimiser of the matrices in the transformers' layers: "adamw", or "muon" (`torch.optim.Muon`), whose
            updates have the same root mean square at the same learning rate. AdamW trains all other parameters.
        learning_rate: learning rate after the warm-up, above 0.
        warmup: steps over which it rises linearly, 0 or more.
        decay: "none" keeps it constant, "cosine" lets it fall to a tenth by the last step.
        decay_share: share of the steps, at the end, in which the cosine falls, in (0, 1]; 1 for all after the warm-up.
        weight_decay: weight decay of matrices, 0 or more; gains and biases have none.
        betas: decay rates of AdamW's moments, in [0, 1); Muon's momentum is 0.95.
        clip_norm: upper bound of the gradient's norm, above 0.
        average: decay of a running average of the weights, in [0, 1); None for none.
    """

    layers: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 3e-4
    warmup: int = 100
    decay: Literal["none", "cosine"] = "none"
    decay_share: float = 1.0
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0
    average: float | None = None

    def __post_init__(self) -> None:
        require_at_least(0, warmup=self.warmup, weight_decay=self.weight_decay)
        for name in ("learning_rate", "clip_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be above 0 and finite; got {getattr(self, name)!r}")
        if not 0 < self.decay_share <= 1:
            raise ValueError(f"decay_share must lie in (0, 1]; got {self.decay_share!r}")
        for name, number in (("betas", self.betas[0]), ("betas", self.betas[1]), ("average", self.average or 0.0)):
            if not 0 <= number < 1:
                raise ValueError(f"{name} must lie in [0, 1); got {getattr(self, name)!r}")


@dataclass(frozen=True)
class Execution:
    """Table [execution]. Only `autocast` and `backend` change results by more than the order of rounding.

    Args:
        device: "cpu", "cuda", or "auto", which is "cuda" if a GPU is available.
        backend: backend of attention that replaces the model's; None keeps the model's.
        autocast: None computes in float32. "float16" also scales the loss.
        compile: backend of torch.compile for the transformers' layers, such as "inductor"; None does not compile. A run
            stops with TooManyFormsError where layers need more compiled forms than `compilation.FORMS`.
        recompute: recompute the layers' activations for the gradient instead of storing them.
        distributed: engine under torchrun: "ddp" replicates the model, "fsdp" shards it, and each process saves its
            shards. A run may be resumed with another engine and number of processes.
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
    """Table [records]: files of a run, and where its curves and videos are shown.

    Args:
        checkpoint_every: steps between checkpoints, 1 or more; the last step always has one.
        keep: number of checkpoints that are kept, 1 or more.
        tensorboard: also write metrics and videos for TensorBoard.
        media_every: steps between videos of what the model makes of a few fixed clips, held-out ones if there are any,
            in RUN/media, TensorBoard and the tracker; 0 for none. A video costs the time of one or two steps. A sharded
            model (execution.distributed is "fsdp") has none.
        tracker: also send metrics and videos to a tracker, which is a package to be installed; the tracker's run is
            named like the run's directory. A tracker that fails never stops training.
        project: project of the tracker.
    """

    checkpoint_every: int = 1000
    keep: int = 3
    tensorboard: bool = True
    media_every: int = 1000
    tracker: Literal["trackio", "wandb"] | None = None
    project: str = "dreamer4"

    def __post_init__(self) -> None:
        require_at_least(1, checkpoint_every=self.checkpoint_every, keep=self.keep)
        require_at_least(0, media_every=self.media_every)
        if not self.project:
            raise ValueError("project must name a project of the tracker; got ''")


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of one run of one phase.

    Args:
        phase: "tokenizer", "dynamics", "agent" or "imagine".
        model: architecture of the model.
        steps: number of steps, 1 or more.
        seed: seed of everything random, 0 or more.
        init: run or checkpoint of an earlier phase to start from; None starts with random weights.
        data: source of the clips.
        batches: size and lengths of batches.
        optimiser: optimisers, learning rate, decay and bounds.
        execution: device, precision and engine.
        records: checkpoints and metrics.
        tokenizer: settings of the phase "tokenizer".
        dynamics: settings of the phases "dynamics" and "agent".
        agent: settings of the phases "agent" and "imagine".
        imagine: settings of the phase "imagine".

    Raises:
        ValueError: if a value is out of range or values do not fit together.

    >>> TrainingSettings("tokenizer", presets.tiny(), steps=0)
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
        require_at_least(1, steps=self.steps)
        require_at_least(0, seed=self.seed)
        if self.optimiser.layers == "muon" and self.execution.distributed == "fsdp":
            raise ValueError("optimiser.layers 'muon' needs whole matrices, execution.distributed 'ddp'; got 'fsdp'")
        if self.phase in ("agent", "imagine") and self.model.agent is None:
            raise ValueError(
                f"phase {self.phase!r} trains the agent's heads: the model must have [model.agent], and the data "
                f"categorical or binary actions; got {self.model.dynamics.actions}"
            )
        if self.short_length > self.model.long_length:
            raise ValueError(
                f"batches.short_length must be at most model.long_length = {self.model.long_length}; "
                f"got {self.short_length}"
            )
        if self.phase == "agent" and self.model.agent is not None and self.model.agent.length >= self.short_length:
            raise ValueError(
                f"batches.short_length must be above model.agent.length = {self.model.agent.length}, because short "
                f"batches would not contain its targets; got {self.short_length}"
            )
        if self.phase == "tokenizer" and self.data.latents is not None:
            raise ValueError("phase 'tokenizer' trains the encoder of the latents: data.latents must be none")

    @property
    def short_length(self) -> int:
        """Length of short clips in this phase.

        Returns:
            T1, frames.
        """
        return self.batches.short_length or self.model.short_length


def model_to_json(config: ModelConfig) -> Table:
    """Convert the configuration of a model to JSON types.

    Args:
        config: configuration of a model.

    Returns:
        Nested table, from which `model_from_json` restores the same configuration.

    Example:
        >>> model_to_json(presets.tiny())["tokenizer"]["height"]
        6
    """
    table: Table = to_table(config)
    return table


def model_from_json(table: Mapping[str, Any]) -> ModelConfig:
    """Create the configuration of a model from JSON types.

    Args:
        table: nested table.

    Returns:
        The configuration.

    Raises:
        ValueError: if a field is unknown, missing, of another type or out of range, or fields do not fit together.

    Example:
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
) -> TrainingSettings:
    """Merge the layers of a configuration.

    Args:
        phase: phase to run.
        document: content of a TOML document.
        overrides: settings of the form "section.key=value", of highest priority; "model=tiny" names a preset.
        model: base of the model's configuration if the document names no preset, such as that of an earlier phase.
        facts: settings of the model that follow from the data, as a nested table.

    Returns:
        The settings.

    Raises:
        ValueError: if a setting is unknown, missing, of another type or out of range, or settings do not fit together.

    Example:
        >>> settings_from("tokenizer", {"model": {"preset": "tiny"}}, ["seed=7", "only.tokenizer.steps=5"]).steps
        5
    """
    table = merged_layers(phase, document, overrides)
    table["model"] = _model_table(subtable(table, "model"), model, facts or {})
    backend = subtable(table, "execution").get("backend", "none")
    if backend != "none":
        table["model"] = merge(table["model"], _with_backend(backend))
    return from_table(TrainingSettings, table | {"phase": phase})


def merged_layers(phase: PhaseName, document: Mapping[str, Any], overrides: Sequence[str] = ()) -> Table:
    """Merge a TOML document, its table for a phase, and overrides.

    Args:
        phase: phase to run.
        document: content of a TOML document.
        overrides: settings of the form "section.key=value".

    Returns:
        Nested table, without the table "only" and those of the document that only `dreamer4-train all` uses.

    Raises:
        ValueError: if an override has another form, or a value is in the place of a table.

    Example:
        >>> merged_layers("agent", {"seed": 1, "only": {"agent": {"seed": 2}}}, ["steps=3"])
        {'seed': 2, 'steps': 3}
    """
    typed: Table = {}
    for override in overrides:
        typed = merge(typed, _with_named_model(assignments([override])))
    training = {name: value for name, value in document.items() if name not in SEQUENCE_TABLES}
    table = _for_phase(phase, _with_named_model(training))
    table = _for_phase(phase, table | {"only": typed.pop("only", {})})
    return merge(table, typed)


def read_document(name: str) -> Table:
    """Read a TOML document.

    Args:
        name: path of a document, or name of a preset.

    Returns:
        Content of the document.

    Raises:
        ValueError: if there is neither, or the document is not valid TOML.

    Example:
        >>> read_document("absent")
        Traceback (most recent call last):
        ValueError: there is no configuration file and no preset 'absent'; presets are atari-cpu, atari-gpu, grid-cpu
    """
    path, documents = Path(name), preset_documents()
    if path.suffix != ".toml":
        path = documents.get(name, path)
    if not path.is_file():
        raise ValueError(f"there is no configuration file and no preset {name!r}; presets are {', '.join(documents)}")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error


def settings_to_json(settings: TrainingSettings) -> Table:
    """Convert settings to JSON types, as a checkpoint holds them.

    Args:
        settings: settings of a run.

    Returns:
        Nested table, from which `settings_from_json` restores the same settings.

    Example:
        >>> settings_to_json(TrainingSettings("tokenizer", presets.tiny()))["optimiser"]["betas"]
        [0.9, 0.99]
    """
    table: Table = to_table(settings)
    return table


def settings_from_json(table: Mapping[str, Any]) -> TrainingSettings:
    """Create settings from JSON types.

    Args:
        table: nested table.

    Returns:
        The settings.

    Raises:
        ValueError: if a setting is unknown, missing, of another type or out of range, or settings do not fit together.

    Example:
        >>> settings = TrainingSettings("tokenizer", presets.tiny())
        >>> settings_from_json(settings_to_json(settings)) == settings
        True
    """
    return from_table(TrainingSettings, table)


def _for_phase(phase: PhaseName, table: Table) -> Table:
    only = subtable(table, "only")
    for name in only:
        if name not in PHASES:
            raise ValueError(unknown_setting(name, PHASES, "only"))
    specific = {name: _with_named_model(subtable(only, name, "only")) for name in only}
    return merge({name: value for name, value in table.items() if name != "only"}, specific.get(phase, {}))


def _with_named_model(table: Mapping[str, Any]) -> Table:
    """A copy in which model = "tiny" is the table that names this preset."""
    model = table.get("model", {})
    if isinstance(model, str):
        model = {"preset": model}
    if not isinstance(model, Mapping):
        raise ValueError(f"model must be a table, or the name of a preset; got {shown(model)}")
    return {**table, "model": model} if model else dict(table)


def _model_table(table: Mapping[str, Any], model: ModelConfig | None, facts: Mapping[str, Any]) -> Table:
    own = dict(table)
    preset = own.pop("preset", None)
    if preset is not None and preset not in tuple(MODELS):
        raise ValueError(f"model.preset must be one of {', '.join(map(repr, MODELS))}; got {shown(preset)}")
    if preset is not None:
        model = MODELS[preset]()
    base = {} if model is None else model_to_json(model)
    if not isinstance(own.get("agent", base.get("agent")), Mapping):
        facts = {name: fact for name, fact in facts.items() if name != "agent"}
    merged = merge(merge(base, facts), own)
    dynamics = subtable(merged, "dynamics", "model")
    if "actions" in facts.get("dynamics", {}) and not _allow_a_policy(dynamics["actions"]):
        merged["agent"] = None  # tokenizer and dynamics are trained without the agent's heads
    if dynamics.get("agent") is not True and "tasks" not in own.get("dynamics", {}):
        # Only the agent token uses tasks: without one, the tasks of the data are ignored.
        merged = merge(merged, {"dynamics": {"tasks": 0}})
    return merged


def _allow_a_policy(actions: object) -> bool:
    listed = actions if isinstance(actions, list) else []
    kinds = [action.get("kind") for action in listed if isinstance(action, Mapping)]
    return bool(kinds) and "continuous" not in kinds


def _with_backend(backend: str) -> Table:
    transformer = {"backend": backend}
    return {
        "tokenizer": {"encoder": transformer, "decoder": transformer},
        "dynamics": {"transformer": transformer},
    }
