"""Unmodified code of other projects: location and version of a checkout, and imports without side effects."""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

CHECKOUTS = "DREAMER4_PEERS"


def checkout(project: str) -> Path:
    """Path `$DREAMER4_PEERS/<owner>/<name>`. Raises FileNotFoundError if it does not exist."""
    root = os.environ.get(CHECKOUTS)
    if not root:
        raise FileNotFoundError(
            f"{CHECKOUTS} is not set; a checkout of {project} is looked for at ${CHECKOUTS}/{project}"
        )
    path = Path(root) / project
    if not path.is_dir():
        raise FileNotFoundError(f"there is no checkout of {project} at {path} (${CHECKOUTS}/{project})")
    return path


def git_blob(path: Path) -> str:
    """Git's blob hash of a file, which identifies the version of a checkout without history."""
    contents = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(contents) + contents).hexdigest()


@contextmanager
def visiting(path: Path | None = None, stubs: Mapping[str, Mapping[str, Any]] | None = None) -> Iterator[None]:
    """Imports inside find the modules of `path` first, and a stub module with these attributes for each of `stubs`.

    Modules that are already loaded are not replaced by stubs. Afterwards the search path, the modules of these names,
    the random state of torch and its TF32 switches are restored.
    """
    stubbed = {name: attributes for name, attributes in (stubs or {}).items() if name not in sys.modules}
    names = [*stubbed, *(() if path is None else (file.stem for file in path.glob("*.py")))]
    loaded = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    search_path, switches = sys.path.copy(), (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
    sys.path[:0] = [] if path is None else [str(path)]
    for name, attributes in stubbed.items():
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(attributes)
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.path[:] = search_path
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = switches
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(loaded)
