"""Code that exits, dies, hangs or changes the process: its clauses say so, the others are judged as usual."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest


def _sibling(name: str) -> Any:
    spec = spec_from_file_location(f"hostile_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


adapters = _sibling("adapters")
CLAUSES = ("eq01.interpolate", "eq08.value")
#: Runs by default; the others in the nightly session.
REPRESENTATIVE = list(adapters.HOSTILE)[::8]


def test_the_list_has_at_least_150_adapters() -> None:
    assert len(adapters.HOSTILE) >= 150
    assert len({hostile.source for hostile in adapters.HOSTILE.values()}) >= 150


PARAMETERS = [
    pytest.param(name, marks=[] if name in REPRESENTATIVE else [pytest.mark.nightly]) for name in adapters.HOSTILE
]


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    """A process that has imported the suite and runs the command in forks of itself."""
    command = [sys.executable, Path(__file__).with_name("server.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes in /proc")
@pytest.mark.parametrize("name", PARAMETERS)
def test_hostile_adapter_is_contained(name: str, server: subprocess.Popen[str], tmp_path: Path) -> None:
    hostile, folder = adapters.HOSTILE[name], tmp_path / "folder"
    folder.mkdir()
    (folder / "mine.py").write_text(hostile.source)
    forms = ["--json", "a.json", "--markdown", "a.md", "--html", "a.html"]
    limit = "3" if "hang" in name else "30"
    arguments = ["run", "mine.py:Mine", "--clause", ",".join(CLAUSES), *forms, "--time-limit", limit]
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps({"folder": str(folder), "arguments": arguments, "seconds": 60}) + "\n")
    server.stdin.flush()
    ended = json.loads(server.stdout.readline())
    first, last, status = hostile.outcome.value
    errors = (tmp_path / "err").read_bytes().decode(errors="replace")
    assert ended == {"status": status, "left": 0}, errors[-2000:]
    if hostile.outcome is adapters.Outcome.REFUSED:
        assert {path.name for path in folder.iterdir()} <= {"__pycache__", "mine.py"}
        assert errors.startswith("dreamer4-conformance: ")
        assert hostile.text in errors
        assert "Traceback" not in errors
        assert "\x1b" not in errors
        return
    assert {path.name for path in folder.iterdir()} <= {"__pycache__", "mine.py", "a.json", "a.md", "a.html"}
    document = json.loads((folder / "a.json").read_text(encoding="utf-8"))
    rows = {row["id"]: row for row in document["clauses"]}
    assert [rows[clause]["status"] for clause in CLAUSES] == [first, last], rows
    if hostile.outcome is not adapters.Outcome.LAST_FAILS:
        assert hostile.text in rows[CLAUSES[0]]["message"]
    printed = "".join((folder / f"a.{form}").read_text(encoding="utf-8") for form in ("json", "md", "html"))
    assert not {"\x1b", "\0", "\u202e"} & set(printed)
