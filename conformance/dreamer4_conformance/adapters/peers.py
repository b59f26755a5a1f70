"""Unmodified code of other projects: table of adapters, location and version of a checkout, clean imports."""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch

CHECKOUTS = "DREAMER4_PEERS"


class Peer(NamedTuple):
    """A public implementation at one version.

    Attributes:
        project: owner and name of the repository. Its checkout is `$DREAMER4_PEERS/owner/name`, or
            `owner/name@commit` where several states are judged.
        commit: abbreviated commit, or the version of a package from PyPI.
        adapter: `module:attr` of its adapter.
        licence: SPDX identifier, or "none stated".
        package: name on PyPI, if the installed package is judged in place of a checkout.
        origin: owner and name of the repository of which this one is a fork; empty for all others.
    """

    project: str
    commit: str
    adapter: str
    licence: str
    package: str = ""
    origin: str = ""

    @property
    def report(self) -> str:
        """Name of the committed reports, without the ending."""
        return f"{self.project.replace('/', '-')}-{self.commit}"


_ADAPTERS = "dreamer4_conformance.adapters"
EDWHU = "edwhu/dreamer4-jax"
PEERS = (
    Peer("nicklashansen/dreamer4", "bdeddfe", f"{_ADAPTERS}.nicklashansen:NicklasHansen", "MIT"),
    Peer("chrisgao99/dreamer4", "1d244d5", f"{_ADAPTERS}.chrisgao99:ChrisGao99", "MIT", "", "nicklashansen/dreamer4"),
    Peer("daniyal-rahman/ahriuwu", "a4764f4", f"{_ADAPTERS}.daniyal_rahman:DaniyalRahmanDecember", "none stated"),
    Peer("daniyal-rahman/ahriuwu", "5f33095", f"{_ADAPTERS}.daniyal_rahman:DaniyalRahmanMarch", "none stated"),
    Peer("daniyal-rahman/ahriuwu", "b36d0de", f"{_ADAPTERS}.daniyal_rahman:DaniyalRahman", "none stated"),
    Peer("lucidrains/dreamer4", "0.20.2", f"{_ADAPTERS}.lucidrains:Lucidrains", "MIT", "dreamer4"),
    Peer("vijayabhaskar-ev/dreamer_v4", "98e42c2", f"{_ADAPTERS}.vijayabhaskar_ev:VijayabhaskarEv", "MIT"),
    Peer("machines-in-motion/dreamer-v4", "c319a28", f"{_ADAPTERS}.machines_in_motion:MachinesInMotion", "GPL-3.0"),
    Peer("skr3178/DreamerV4", "3ee81d8", f"{_ADAPTERS}.skr3178:Skr3178", "none stated"),
    Peer(EDWHU, "8144b94", f"{_ADAPTERS}.edwhu:Edwhu", "none stated"),
    Peer("kih00/dreamer4-jax", "f1a4fdb", f"{_ADAPTERS}.edwhu_forks:Kih00", "none stated", "", EDWHU),
    Peer("Irayshon/Dreamer4-jax", "49164b3", f"{_ADAPTERS}.edwhu_forks:Irayshon", "none stated", "", EDWHU),
    Peer("klee972/dreamer4-nnx", "40cc2d2", f"{_ADAPTERS}.klee972:Klee972", "none stated"),
    Peer("4ku/dreamer4", "f336dc9", f"{_ADAPTERS}.fourku:FourKu", "none stated"),
)
"""Every implementation with a committed report, by the adapter that the report is about."""


def checkout(project: str) -> Path:
    """Path `$DREAMER4_PEERS/<owner>/<name>`, or `<owner>/<name>@<commit>`. FileNotFoundError if it does not exist."""
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

    Modules that are already loaded are not replaced by stubs. Afterwards the search path, the modules of these names
    with their submodules, the random state of torch and its TF32 switches are restored.
    """
    stubbed = {name: attributes for name, attributes in (stubs or {}).items() if name not in sys.modules}
    files = () if path is None else (*path.glob("*.py"), *path.glob("*/*.py"))
    tops = {file.stem if file.parent == path else file.parent.name for file in files}
    loaded = {name: sys.modules.pop(name) for name in _modules(tops, stubbed)}
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
        for name in _modules(tops, stubbed):
            del sys.modules[name]
        sys.modules.update(loaded)


def _modules(tops: Collection[str], names: Collection[str]) -> list[str]:
    """Loaded modules of these names, and those below these top-level modules."""
    return [name for name in sys.modules if name in names or name.partition(".")[0] in tops]
