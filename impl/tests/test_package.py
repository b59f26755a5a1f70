"""The package as a whole: what it imports, and that its annotations are true."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dreamer4_impl

PACKAGE = Path(dreamer4_impl.__file__).parent


#: Packages that a folder may import in addition, installed by an extra or required by the wheel (numpy, rich, jinja2).
EXTRAS = {
    "data": {"numpy", "rich", "gymnasium", "ale_py", "av", "minari", "pyarrow"},
    "evaluation": {"numpy", "rich", "matplotlib", "PIL", "jinja2"},
    "examples": {"numpy", "gymnasium", "minigrid"},
    "play": {"numpy", "PIL"},
    "checkpoints": {"safetensors"},
    "training": {"numpy", "rich", "PIL", "tensorboard"},
}


def imported_roots(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module.split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}


def test_imports_torch_and_jaxtyping_and_neither_reference_nor_conformance():
    allowed = {"torch", "jaxtyping", "dreamer4_impl"} | sys.stdlib_module_names
    for path in PACKAGE.rglob("*.py"):
        folder = path.relative_to(PACKAGE).parts
        optional = {"triton"} if folder[:2] == ("attention", "triton") else EXTRAS.get(folder[0], set())
        assert imported_roots(path) <= allowed | optional, path.name


def test_every_public_name_is_loaded_on_first_use():
    assert sorted(dreamer4_impl.__all__) == dreamer4_impl.__all__
    for name in dreamer4_impl.__all__:
        assert getattr(dreamer4_impl, name).__module__.startswith("dreamer4_impl.")
        assert name in dir(dreamer4_impl)
    with pytest.raises(AttributeError, match="module 'dreamer4_impl' has no attribute 'absent'"):
        _ = dreamer4_impl.absent


def test_importing_the_package_alone_imports_neither_torch_nor_a_submodule():
    loaded = "[m for m in sys.modules if m.split('.')[0] in ('torch', 'numpy') or m.startswith('dreamer4_impl.')]"
    run = f"import sys, dreamer4_impl; dir(dreamer4_impl); sys.exit(bool({loaded}))"
    subprocess.run([sys.executable, "-c", run], check=True)


@pytest.mark.parametrize("unused", ["dreamer4_impl.attention.triton.operators", "torch._dynamo"])
def test_models_and_generation_do_not_import_what_they_may_never_use(unused):
    imports = "dreamer4_impl.models.dreamer4, dreamer4_impl.generation.decoder, dreamer4_impl.generation.rollout"
    program = f"import sys, {imports}; sys.exit({unused!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_example_runs_with_its_annotations_checked():
    """In a separate process: custom operators registered twice would replace those that other tests use."""
    folders = ("", "equations", "layers", "attention", "models", "generation")
    paths = [path for folder in folders for path in (PACKAGE / folder).glob("[!_]*.py")]
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in paths]
    run = f"""
import doctest, importlib
from jaxtyping import install_import_hook
with install_import_hook("dreamer4_impl", "beartype.beartype"):
    results = [doctest.testmod(importlib.import_module(name)) for name in {names}]
assert sum(result.attempted for result in results) > 30
assert not any(result.failed for result in results)
"""
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
