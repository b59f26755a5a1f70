"""Reports on disk: where they are, and whether an earlier one still describes the same code under the same options."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from dreamer4_conformance.adapters.peers import Peer, git_blob
from dreamer4_conformance.gallery.markdown import section_of
from dreamer4_conformance.report import DISTRIBUTION, Report, installed
from dreamer4_conformance.report.document import read, to_json
from dreamer4_conformance.report.files import reserved

SUITE = ("dreamer4_conformance", "dreamer4_reference")
"""Packages whose sources decide a verdict, in addition to those of the implementation."""


def location(peer: Peer, checkouts: Path) -> Path | None:
    """Checkout of a peer: `owner/name@commit`, else `owner/name`; None if there is none, or for a package."""
    places = (checkouts / f"{peer.project}@{peer.commit}", checkouts / peer.project)
    return None if peer.package else next((path for path in places if path.is_dir()), None)


def is_available(peer: Peer, checkouts: Path) -> bool:
    """True if the peer's checkout exists, or its package is installed."""
    return installed(peer.package) is not None if peer.package else location(peer, checkouts) is not None


def fingerprint(peer: Peer, checkouts: Path, arguments: Sequence[str]) -> str:
    """Hash of all that decides a report: code of the peer, code and version of the suite, and options.

    Args:
        peer: an implementation that is there.
        checkouts: directory of the checkouts.
        arguments: of `dreamer4-conformance run`, without the adapter and the files.

    Returns:
        16 hexadecimal digits.
    """
    checkout = location(peer, checkouts)
    theirs = f"{peer.package} {installed(peer.package)}" if checkout is None else _sources(checkout)
    parts = [peer.adapter, theirs, *_suite(), *arguments]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@cache
def _suite() -> list[str]:
    """Version of the suite, and hashes of its sources, which may have changed since it was installed."""
    specs = (find_spec(name) for name in SUITE)
    folders = [folder for spec in specs if spec is not None for folder in spec.submodule_search_locations or ()]
    return [installed(DISTRIBUTION) or "", *(_sources(Path(folder)) for folder in folders)]


def _sources(folder: Path) -> str:
    """Hash of the Python files below a folder, without hidden directories: identifies a state without history."""
    files = sorted(path for path in folder.rglob("*.py") if path.is_file())
    names = [path.relative_to(folder) for path in files]
    visible = [f"{name} {git_blob(folder / name)}" for name in names if not str(name).startswith(".")]
    return hashlib.sha256("\n".join(visible).encode()).hexdigest()


def recorded(peer: Peer, out: Path, expected: str) -> Report | None:
    """The report of an earlier call, if both files are complete and its fingerprint is the expected one."""
    try:
        report = read(out / f"{peer.report}.json")
    except ValueError:
        return None
    current = report.environment.get("fingerprint") == expected
    return report if current and (out / f"{peer.report}.md").is_file() else None


def record(peer: Peer, out: Path, report: Report, expected: str, markdown: str) -> None:
    """Write the report with its fingerprint, as JSON and as Markdown with the derivations in `out`.

    The JSON has no durations: judged again with the same seed, the same code gives the same bytes.

    Raises:
        CannotWriteError: if a file cannot be written.
    """
    report.environment["fingerprint"] = expected
    with reserved([out / f"{peer.report}.md", out / f"{peer.report}.json"]) as (text, data):
        text.write(markdown + section_of(peer, out))
        data.write(to_json(report, seconds=False))
