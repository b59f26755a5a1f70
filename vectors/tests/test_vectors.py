"""The files: valid by the schema, equal to a regeneration, complete, and enough for a reader in another language."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamer4_conformance.adapter import OPERATIONS
from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.instruments.subject import EPS
from dreamer4_conformance.judging.check import Trial
from dreamer4_conformance.readings import BY_ID as READINGS
from dreamer4_conformance.verdicts import Deviation
from vectors.__main__ import generate
from vectors.encoding import decode, decode_array, decode_bound, hexadecimal, rounded_up
from vectors.judge import FOLDER, STEPS, load
from vectors.subjects import SUBJECTS
from vectors.vector import FLAGS, draw, within

jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema")

WITHOUT_VECTORS = {
    *("dynamics_loss", "patch_dropout", "training_plan", "prior_start", "imagined_trajectory"),  # draw at random
    *("encode", "decode", "reconstruct", "decode_init", "decode_step", "example", "dynamics", "dynamics_init"),
    *("dynamics_step", "rollout", "label_token", "action_tokens", "mtp_heads", "space_layer", "time_layer"),
    *("layer_kinds", "block_zeroed", "transformer_layer", "image_dynamics", "training_gradients", "agent_losses"),
    *("resume", "load_checkpoint"),  # a model's parameters determine the result
    "twohot_bins",  # their number is the implementation's choice; they are an input of the vectors
}


def committed(stem: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{stem}.json").read_text(encoding="utf-8"))


def schema() -> Any:
    return jsonschema.Draft202012Validator(json.loads((FOLDER / "schema.json").read_text(encoding="utf-8")))


def shortened(x: Any) -> Any:
    """The same structure with at most four items in each list, which validate in a tenth of the time."""
    if isinstance(x, dict):
        return {name: x[name] if name == "vectors" and not x[name] else shortened(x[name]) for name in x}
    return [shortened(item) for item in (x if x and isinstance(x[0], dict) else x[:4])] if isinstance(x, list) else x


@pytest.mark.parametrize("stem", SUBJECTS)
def test_structure_of_a_file_is_valid(stem: str) -> None:
    schema().validate(shortened(committed(stem)))


@pytest.mark.nightly
@pytest.mark.parametrize("stem", SUBJECTS)
def test_file_is_valid(stem: str) -> None:
    schema().validate(committed(stem))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), 2),
        (("vectors", 0, "flags"), ["unheard"]),
        (("vectors", 0, "settings"), {"colour": 1}),
        (("vectors", 0, "outputs"), {}),
        (("vectors", 0, "inputs", "tau", "data", 0), "0.5"),
        (("vectors", 0, "inputs", "tau", "shape"), None),
        (("vectors", 0, "outputs", "result", "bound"), 1.0),
    ],
)
def test_schema_rejects(path: tuple[Any, ...], value: Any) -> None:
    document = committed("eq08_ramp_weight")
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert not schema().is_valid(document)


# Regeneration


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Places at which two documents differ by more than the last place of exp, log or tanh."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        if "bound" in old and "data" in old:
            yield from _output_differences(old, new, path)
            return
        for name in old:
            yield from differences(old[name], new[name], f"{path}/{name}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new) and old and isinstance(old[0], dict):
        for index, pair in enumerate(zip(old, new, strict=True)):
            yield from differences(*pair, f"{path}/{index}")
    elif old != new:
        yield path


def _output_differences(old: Any, new: Any, path: str) -> Iterator[str]:
    if any(old.get(name) != new.get(name) for name in ("dtype", "shape")):
        yield path
        return
    values, bounds = (np.array([f(x) for x in (old, new)]) for f in (decode_array, _bounds))
    if not np.all(np.isclose(*values, rtol=0, atol=2.0**-20 * bounds[0], equal_nan=True)):
        yield f"{path}/data"
    if not np.allclose(*bounds, rtol=2.0**-7, atol=0):
        yield f"{path}/bound"


def _bounds(output: Any) -> np.ndarray:
    return np.broadcast_to(decode_bound(output), output["shape"])


@pytest.mark.parametrize("stem", SUBJECTS)
def test_file_equals_a_regeneration(stem: str) -> None:
    assert list(differences(committed(stem), json.loads(generate(stem)))) == []


def test_a_changed_number_is_a_difference() -> None:
    document = committed("eq08_ramp_weight")
    for field, name, step in (("inputs", "tau", 2.0**-40), ("outputs", "result", 2.0**-40)):
        changed = copy.deepcopy(document)
        data = changed["vectors"][0][field][name]["data"]
        data[2] = hexadecimal(float.fromhex(data[2]) + step)
        assert list(differences(document, changed)) == [f"/vectors/0/{field}/{name}/data"]
    changed = copy.deepcopy(document)
    changed["vectors"][0]["outputs"]["result"]["bound"] = "0x1.06p-21"
    assert list(differences(document, changed)) == ["/vectors/0/outputs/result/bound"]


# Contents


def test_no_file_has_lost_its_subject() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == {*SUBJECTS, "schema"}


def test_every_pure_operation_has_vectors() -> None:
    assert {vector["operation"] for vector in load()} == {*OPERATIONS, *STEPS} - WITHOUT_VECTORS
    assert set(OPERATIONS) >= WITHOUT_VECTORS


def test_names_exist_and_ids_are_unique() -> None:
    vectors = list(load())
    assert len({vector["id"] for vector in vectors}) == len(vectors)
    assert {vector["clause"] for vector in vectors} <= set(BY_ID)
    for vector in vectors:
        for reading, options in vector["readings"].items():
            assert set(options) <= set(READINGS[reading].options)


def test_flags_are_those_of_the_schema_and_of_the_readme_and_each_is_used() -> None:
    listed = schema().schema["$defs"]["vector"]["properties"]["flags"]["items"]["enum"]
    assert set(listed) == set(FLAGS) == {flag for vector in load() for flag in vector["flags"]}
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for flag, meaning in FLAGS.items():
        assert f"| `{flag}` | {meaning} |" in readme


def test_inputs_are_exact_in_float32() -> None:
    for vector in load():
        inputs = {name: x for name, x in decode(vector["inputs"]).items() if name != "slope"}
        for x in _floats(inputs):
            with np.errstate(over="ignore"):
                np.testing.assert_array_equal(x, np.float32(x).astype(np.float64), err_msg=vector["id"])


def _floats(x: Any) -> Iterator[Any]:
    if isinstance(x, float) or (isinstance(x, np.ndarray) and x.dtype.kind == "f"):
        yield x
    elif isinstance(x, dict | list):
        for item in x.values() if isinstance(x, dict) else x:
            yield from _floats(item)


def test_all_files_together_are_below_one_megabyte() -> None:
    assert sum(path.stat().st_size for path in FOLDER.glob("*.json")) < 2**20


def test_a_bound_is_that_of_the_suite_for_float32() -> None:
    value, terms = draw(1, 3), draw(2, 3) ** 2
    bound = within(value, terms, 4).bound
    assert bound is not None
    trial, tolerance = Trial(), {"terms": terms, "k": 4, "eps": EPS["float32"]}
    trial.compare("x", value + 0.999 * bound, value, **tolerance)  # type: ignore[arg-type]
    with pytest.raises(Deviation):
        trial.compare("x", value + 1.001 * bound, value, **tolerance)  # type: ignore[arg-type]


@pytest.mark.parametrize("bound", [1.0, 1.001, 3e-30, 2.0**-126])
def test_bounds_are_rounded_up_by_less_than_one_per_cent(bound: float) -> None:
    assert bound <= rounded_up(bound) <= 1.01 * bound


# A reader in another language


def read(implementation: Path) -> subprocess.CompletedProcess[str]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    command = [node, str(FOLDER / "reader.mjs"), str(implementation)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_implementation_in_javascript_passes() -> None:
    result = read(FOLDER / "example.mjs")
    counts = json.loads(result.stdout)
    assert (result.returncode, result.stderr, counts["wrong"]) == (0, "", 0)
    assert counts["right"] >= 80


MISTAKES = {
    "ramp inverted": ("0.9 * tau + 0.1", "1 - 0.9 * tau", "ramp_weight/grid-levels, eq08.value"),
    "half step missing": ("d) / 2;", "d);", "dynamics_loss_at/bootstrap, eq07.bootstrap-value"),
    "zero negative": ("(x) => x < 0).length", "(x) => x <= 0).length", "policy_loss/zeros, eq11.zero-advantage"),
    "v_t in place of v_t+1": ("/ H) + 1]", "/ H)]", "lambda_returns/one-step, eq10.value"),
    "no clip at the edge": ("Math.min(Math.max(value, bins[0]), bins.at(-1))", "value", "twohot_encode/edges-7-raw"),
}


def test_reader_in_javascript_names_mistakes(tmp_path: Path) -> None:
    source = (FOLDER / "example.mjs").read_text(encoding="utf-8")
    for old, new, _ in MISTAKES.values():
        assert source.count(old) == 1
        source = source.replace(old, new)
    (tmp_path / "wrong.mjs").write_text(source, encoding="utf-8")
    result = read(tmp_path / "wrong.mjs")
    assert result.returncode == 1
    for _, _, named in MISTAKES.values():
        assert re.search(f"^wrong: {re.escape(named)}", result.stdout, re.MULTILINE)


def test_reader_rejects_an_implementation_without_a_right_vector(tmp_path: Path) -> None:
    (tmp_path / "empty.mjs").write_text("export const [readings, settings, operations] = [{}, {}, {}];", "utf-8")
    assert read(tmp_path / "empty.mjs").returncode == 1
