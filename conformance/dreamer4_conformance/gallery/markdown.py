"""Markdown of the reports on public implementations: a report as `run` writes it, then the derivations by hand.

`python -m dreamer4_conformance.gallery.markdown conformance/reports` writes every one again from its JSON; run it after
changing derivations. A test compares them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from dreamer4_conformance.adapters.peers import PEERS, Peer
from dreamer4_conformance.gallery.derivations import Derivation, Derivations, read_derivations
from dreamer4_conformance.report.document import read
from dreamer4_conformance.report.markdown import prose, to_markdown

TO_RUN = (
    "A snippet uses their code alone: `python -` runs it in the directory of the checkout. For `run again`, "
    "`DREAMER4_PEERS` names the directory of all checkouts, and `peers.txt` lists what their code imports."
)


def section(derivations: Derivations) -> str:
    """The derivations as Markdown; empty if there are none.

    Args:
        derivations: of one report.

    Returns:
        A section with a heading for each cause, or an empty text.
    """
    causes = "".join(f"\n{line}\n" for derivation in derivations.deviations for line in _cause(derivation))
    return f"\n## Derivations by hand\n\n{TO_RUN}\n{causes}" if causes else ""


def _cause(derivation: Derivation) -> Iterator[str]:
    yield f"### {prose(derivation.title)}"
    clauses, source = (", ".join(f"`{name}`" for name in names) for names in (derivation.clauses, derivation.source))
    yield f"{clauses}; {source}"
    yield prose(derivation.text)
    yield f"**Likely intent.** {prose(derivation.intent)}"
    yield f"```python\n{derivation.snippet}\n```"
    yield f"prints\n\n```text\n{derivation.output}\n```"


def section_of(peer: Peer, directory: Path) -> str:
    """The section on one implementation; empty without a file of derivations, or with one that cannot be read."""
    # A report is not lost for a fault in another file; `gallery` names it.
    with suppress(ValueError):
        return section(read_derivations(directory / "derivations" / f"{peer.report}.toml"))
    return ""


def markdown(peer: Peer, directory: Path) -> str:
    """A committed report and its derivations.

    Args:
        peer: an implementation with a report.
        directory: of the reports.

    Returns:
        Markdown text.

    Raises:
        ValueError: if the report cannot be read.
    """
    report = read(directory / f"{peer.report}.json")
    report.rerun_command = f"dreamer4-conformance run {peer.adapter} --clause {{clause}}"
    return to_markdown(report) + section_of(peer, directory)


def write(directory: Path) -> None:
    """Write the Markdown of every report of a directory again."""
    for peer in PEERS:
        if (directory / f"{peer.report}.json").exists():
            (directory / f"{peer.report}.md").write_text(markdown(peer, directory), "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
