"""Vectors against an adapter of the suite: a reader in Python, with which the zoos show what vectors reject."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dreamer4_conformance.instruments.attention_case import AttentionCase, backend_gradients, outputs_by_backend
from dreamer4_conformance.instruments.dynamics import adapter_mask, frame_mask, mouse_classes
from dreamer4_conformance.instruments.gradients import operation_gradients
from dreamer4_conformance.instruments.heads import adapter_bins, declared_length
from dreamer4_conformance.instruments.sampler_trace import SamplerCall, trace_sampler
from dreamer4_conformance.instruments.subject import Draw, Subject
from dreamer4_conformance.instruments.tokenizer import frame_grid
from dreamer4_conformance.verdicts import Deviation, NotProvided, OperationFailed
from vectors import network
from vectors.encoding import decode, decode_array, decode_bound, decode_free

FOLDER = Path(__file__).parent
STEPS = ("euler_step", "bootstrap_target", "symlog", "symexp")
"""Operations of vectors that the adapter interface does not have."""
MAY_RAISE = {"not_finite", "large_values", "tau_one"}
"""Flags of vectors on which an implementation may raise an error."""
LONGER = 8
"""Factor of the warm-up of an estimate that approaches slowly from its first value (A24)."""
SAME_BINS = 1e-5
"""Relative difference of bins that were computed in float32."""

Results = dict[str, np.ndarray]
DIFFERENTIATED = ("tokenizer_loss", "mae_replace", "value_loss", "policy_loss")
"""Operations with gradients with respect to their inputs, besides attention."""


def load() -> Iterator[dict[str, Any]]:
    """Every vector of the folder, as JSON."""
    for path in sorted(FOLDER.glob("*.json")):
        if path.name != "schema.json":
            yield from json.loads(path.read_text(encoding="utf-8"))["vectors"]


def judge(subject: Subject, vector: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Judge an adapter by one vector.

    Args:
        subject: the adapter.
        vector: as JSON.
        settings: those of the adapter, apart from K_max and L, which it declares; a vector with others is left out.

    Raises:
        NotProvided: if the adapter lacks the operation, or has other readings or settings.
        Inconclusive: if the calls of a sampler cannot be read.
        Deviation: if an output is wrong.
    """
    operation = vector["operation"]
    if operation in STEPS or not subject.provides(operation):
        raise NotProvided(operation)
    inputs = decode(vector["inputs"])
    declared = {"k_max": subject.k_max, "mtp_length": declared_length(subject) or 8, **settings}
    _require_choices(subject, vector, inputs, declared)
    try:
        with np.errstate(invalid="ignore"):  # inputs and results may be NaN or infinite
            results = CALLS.get(operation, partial(_compute, operation))(subject, inputs)
    except OperationFailed as failed:
        if MAY_RAISE.isdisjoint(vector["flags"]):
            raise
        raise NotProvided(failed.message) from failed
    if "settles" in vector["flags"] and not _agrees(vector, results):
        results = _loss_normalizer(subject, inputs, LONGER)
    for name, output in vector["outputs"].items():
        if name.startswith("gradient.") and operation in DIFFERENTIATED and name.removeprefix("gradient.") in inputs:
            results |= _gradient(subject, operation, inputs, name)
        for key in (key for key in results if key == name or key.startswith(f"{name}.")):
            compare(f"{vector['id']}: {key}", results[key], output)


def _agrees(vector: Mapping[str, Any], results: Results) -> bool:
    try:
        for name, output in vector["outputs"].items():
            compare(name, results[name], output)
    except Deviation:
        return False
    return True


def compare(name: str, got: np.ndarray, output: Mapping[str, Any]) -> None:
    """Deviation unless a result has the shape of an output and each number is within its bound of the value."""
    value = decode_array(output)
    if np.shape(got) != value.shape:
        raise Deviation(f"{name} has shape {np.shape(got)}; it needs {value.shape}")
    error, bound = np.abs(np.asarray(got, np.float64) - value), decode_bound(output)
    right = np.where(np.isnan(value), ~np.isfinite(got), error <= bound) | decode_free(output)
    if not right.all():
        raise Deviation(f"{name} is {np.asarray(got).tolist()}; it needs {value.tolist()} within {bound.tolist()}")


def _require_choices(
    subject: Subject, vector: Mapping[str, Any], inputs: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
    """NotProvided if the vector holds for other readings, settings, dtypes or lengths than those of the adapter."""
    if subject.adapter.dtype == "bfloat16":
        raise NotProvided("the bounds are those of float32")
    if "time_one" in vector["flags"] and subject.adapter.min_time > 1:
        raise NotProvided("T is at least 2")
    for reading, options in vector["readings"].items():
        declared = subject.readings[reading]
        declared = subject.readings["A17"] if declared == "same" else declared
        if declared not in options:
            raise NotProvided(f"{reading} = {declared}")
    for name, value in decode(vector["settings"]).items():
        if settings.get(name) != value:
            raise NotProvided(f"{name} = {settings.get(name)}")
    if "bins" in inputs:
        bins = adapter_bins(subject) if subject.provides("twohot_bins") else np.empty(0)
        if bins.shape != inputs["bins"].shape or not np.allclose(bins, inputs["bins"], rtol=SAME_BINS, atol=0):
            raise NotProvided("other bins")


def _arguments(operation: str, inputs: Mapping[str, Any]) -> list[Any]:
    """Positional arguments: all inputs but the bins, which an adapter has itself."""
    return [x for name, x in inputs.items() if name != "bins"]


def _compute(operation: str, subject: Subject, inputs: Mapping[str, Any]) -> Results:
    return {"result": subject.compute(operation, *_arguments(operation, inputs))}


def _gradient(subject: Subject, operation: str, inputs: Mapping[str, Any], name: str) -> Results:
    """A gradient of the mean of the result; nothing if the adapter has no gradients."""
    index = list(inputs).index(name.removeprefix("gradient."))
    try:
        return {name: operation_gradients(subject, operation, (index,), *_arguments(operation, inputs))[0]}
    except NotProvided:
        return {}


def _corrupt(subject: Subject, inputs: Mapping[str, Any]) -> Results:
    return {"result": subject.corrupt(**inputs)}


def _ramp_weight(subject: Subject, inputs: Mapping[str, Any]) -> Results:
    return {"result": subject.ramp_weight(inputs["tau"])}


def _dynamics_loss_at(subject: Subject, inputs: Mapping[str, Any]) -> Results:
    arguments = Draw(**{name: x for name, x in inputs.items() if name != "network"})
    evaluation = subject.evaluate("dynamics_loss_at", network.decoded(inputs["network"]), arguments)
    results = {"loss": np.asarray(evaluation.mean)}
    if evaluation.loss.ndim == 2:
        results["timesteps"] = evaluation.loss
        if subject.readings["A27"] == "per_term":
            del results["loss"]
    if evaluation.has_gradients:
        gradients = [call.gradient for call in evaluation.calls if call.gradient is not None]
        results["gradient.theta"] = np.asarray(sum(gradient.sum() for gradient in gradients))
    return results


def _sample_frame(subject: Subject, inputs: Mapping[str, Any]) -> Results:
    call = SamplerCall(inputs["context"], inputs["actions"], inputs["num_steps"], seed=1)
    trace = trace_sampler(subject, call, network.decoded(inputs["network"]))
    if not trace.evaluations:
        raise Deviation("no output of the network changes the frame")
    moved = inputs["slope"] * (inputs["start"] - trace.evaluations[0].z[:, -1])
    tau, d = (np.stack([getattr(x, name)[:, -1] for x in trace.evaluations]) for name in ("tau", "d"))
    return {"frame": trace.frame + moved, "tau": tau[:, 0], "d": d[:, 0]}


DRAWS, SHAPE = 32, (64, 32)
"""So many draws of this shape miss no pair of K_max = 64 with a probability above 1e-50."""


def _sample_tau_d(subject: Subject, inputs: Mapping[str, Any]) -> Results:
    """The pairs that occur, in the order of the vectors: d falls, τ rises."""
    batch = max(SHAPE[0], subject.adapter.min_batch)
    drawn = [np.stack(subject.sample_tau_d(seed, batch, SHAPE[1]), -1).reshape(-1, 2) for seed in range(DRAWS)]
    pairs = sorted(set(map(tuple, np.concatenate(drawn).tolist())), key=lambda pair: (-pair[1], pair[0]))
    return dict(zip(("tau", "d"), np.array(pairs).T, strict=True))


def _loss_normalizer(subject: Subject, inputs: Mapping[str, Any], factor: int = 1) -> Results:
    """The squares of the divisors over the last period; every phase lasts for `factor` warm-ups at least."""
    normalise = subject.call("loss_normalizer")

    def output(name: str, value: float) -> float:
        return float(subject.read("loss_normalizer", normalise(name, subject.native(np.array(value))), ()))

    squares: dict[str, list[float]] = {}
    last = 0.0
    for phase in inputs["phases"]:
        settling = max(phase["periods"], factor * subject.adapter.rms_warmup) if phase["periods"] > 1 else 1
        for period in range(settling):
            for name, value in phase["values"]:
                try:
                    last = output(name, value)
                except (ArithmeticError, ValueError, RuntimeError):
                    continue  # a normaliser may refuse a value that is not finite
                if period == settling - 1:
                    squares.setdefault(name, []).append((value / last) ** 2 if last else np.inf)
        if phase is not inputs["phases"][-1]:
            squares.clear()
    results = {f"divisor_square.{name}": np.asarray(np.mean(x)) for name, x in squares.items()}
    return results | {"last_output": np.asarray(last)}


def _pair(names: tuple[str, str], operation: str, subject: Subject, inputs: Mapping[str, Any]) -> Results:
    returned = subject.call(operation, *map(subject.native, inputs.values()))
    return {name: subject.read(operation, x) for name, x in zip(names, returned, strict=True)}


def _modality_mask(subject: Subject, inputs: Mapping[str, Any]) -> Results:
    try:
        return {"result": adapter_mask(subject, inputs["kind"], inputs["modality"], inputs["frame"])}
    except OperationFailed as failed:
        raise _other_model(failed) from failed


def _space_mask(subject: Subject, inputs: Mapping[str, Any]) -> Results:
    tokens = [name for name, count in inputs["counts"] for _ in range(count)]
    try:
        return {"result": frame_mask(subject, inputs["kind"], tokens)}
    except OperationFailed as failed:
        raise _other_model(failed) from failed


def _other_model(failed: OperationFailed) -> Exception:
    """NotProvided for ValueError, by which a mask refuses the modalities of another model; else the failure."""
    return NotProvided(failed.message) if isinstance(failed.__cause__, ValueError) else failed


def _patch_grid(subject: Subject, inputs: Mapping[str, Any]) -> Results:
    rows, columns = frame_grid(subject, inputs["height"], inputs["width"])
    return {"rows": np.asarray(rows), "columns": np.asarray(columns)}


def _mouse_class(subject: Subject, inputs: Mapping[str, Any]) -> Results:
    return {"result": mouse_classes(subject, inputs["movement"])}


def _constants(subject: Subject, inputs: Mapping[str, Any]) -> Results:
    returned = subject.call("constants")
    return {name: np.asarray(subject.read("constants", x, ()), np.float64) for name, x in returned.items()}


def _attention(subject: Subject, inputs: Mapping[str, Any]) -> Results:
    """Output and gradients of every backend, under names that end with the backend's."""
    options = {name: inputs[name] for name in ("causal", "window", "softcap", "scale")}
    case = AttentionCase(inputs["q"], inputs["k"], inputs["v"], **options)
    weight = inputs.get("weight")
    results: Results = {}
    for backend, output in outputs_by_backend(subject, case):
        results[f"result.{backend}"] = output
        gradients = None if weight is None else backend_gradients(subject, case, weight, backend)
        results |= {f"gradient.{name}.{backend}": x for name, x in zip("qkv", gradients or (), strict=False)}
    if not results:
        raise NotProvided("no backend supports the call")
    return results


CALLS: dict[str, Callable[[Subject, Mapping[str, Any]], Results]] = {
    "corrupt": _corrupt,
    "ramp_weight": _ramp_weight,
    "dynamics_loss_at": _dynamics_loss_at,
    "sample_frame": _sample_frame,
    "sample_tau_d": _sample_tau_d,
    "loss_normalizer": _loss_normalizer,
    "mtp_targets": partial(_pair, ("targets", "valid"), "mtp_targets"),
    "qk_norm": partial(_pair, ("q", "k"), "qk_norm"),
    "modality_mask": _modality_mask,
    "space_mask": _space_mask,
    "patch_grid": _patch_grid,
    "mouse_class": _mouse_class,
    "constants": _constants,
    "attention": _attention,
}
"""Operations whose arguments or results are not those of a plain call."""
