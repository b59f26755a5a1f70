"""Third-party imports of dreamer4_impl.data: numpy and rich; game and video packages only when one is opened."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import dreamer4_impl.data

MODULES = sorted(Path(dreamer4_impl.data.__file__).parent.rglob("*.py"))
LATE = {
    "environments.py": {"gymnasium", "ale_py"},
    "decoding.py": {"av"},
    "minari.py": {"minari"},
    "lerobot_files.py": {"pyarrow"},
}


def roots(nodes):
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - {"dreamer4_impl", "torch", "jaxtyping", "numpy", "rich"}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_games_and_videos_are_not_imported_before_they_are_opened(module):
    tree = ast.parse(module.read_text())
    assert roots(tree.body) == set()
    assert roots(ast.walk(tree)) == LATE.get(module.name, set())


#: What takes most of the time to start: seconds for PyTorch.
SLOW = ["torch", "numpy", "jaxtyping", "rich", "gymnasium", "av", "pyarrow", "minari"]


def test_help_imports_nothing_slow():
    program = (
        "import json, sys\n"
        "from dreamer4_impl.data.command import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print(json.dumps([name for name in {SLOW} if name in sys.modules]))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    text, _, imported = run.stdout.rstrip().rpartition("\n")
    assert "usage: dreamer4-record" in text
    assert json.loads(imported) == []
