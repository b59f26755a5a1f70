"""The commands `gallery`, the page and the badges from committed reports, and `curves`, the values of its plots."""

from __future__ import annotations

import argparse
from pathlib import Path

GALLERY = """\
Writes a page that shows, clause by clause, what public implementations of
Dreamer 4 do, from the reports that `peers --out` has written:

  dreamer4-conformance gallery --reports conformance/reports --out gallery

  DIR/<report>.json              the reports, one for each implementation
  DIR/derivations/<report>.toml  by hand, for every failure: its cause, what the
                                 authors probably wanted, and a snippet
  DIR/curves/<report>.json       written by `curves`, for the plots; optional

The output is index.html, which loads nothing from other addresses, and
badges/<report>.json for https://shields.io/badges/endpoint-badge. The same
reports give the same files. Nothing is written if a failure has no derivation
or a derivation has no failure.
"""

CURVES = """\
Records curves of an adapter next to those of the paper, from the same inputs:
the ramp weight, the law of the level, labels and path of the sampler, the loss
by level, and λ-returns. `gallery` plots them with the failures that they show.

  dreamer4-conformance curves my_adapter.py:Mine --json curves.json

Curves whose operations the adapter does not provide, or whose calls do not
match the paper's, are left out. The adapter's code runs in this process.
"""

EXIT = """\
exit status:
  0  the page and the badges are written
  2  a report cannot be read, or reports and derivations disagree
"""


def add_gallery_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `gallery`.

    Args:
        parser: of the command.
    """
    parser.add_argument("--reports", metavar="DIR", type=Path, required=True, help="directory of the reports")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="directory of the page; made if absent")


def add_curves_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `curves`.

    Args:
        parser: of the command.
    """
    parser.add_argument("adapter", metavar="ADAPTER", help="module:attr or file.py:attr, as for `run`")
    parser.add_argument("--json", metavar="FILE", type=Path, required=True, help="file to write")


def curves(options: argparse.Namespace) -> int:
    """Record the curves of an adapter.

    Args:
        options: parsed by `add_curves_arguments`.

    Returns:
        The exit status, 0.

    Raises:
        AdapterError: if the adapter is unusable.
        CannotWriteError: if the file cannot be written.
    """
    from dreamer4_conformance.adapters.importing import load
    from dreamer4_conformance.adapters.validation import examine
    from dreamer4_conformance.gallery.curves import to_json
    from dreamer4_conformance.gallery.recording import record_curves
    from dreamer4_conformance.instruments.guard import Guard
    from dreamer4_conformance.report.files import reserved

    with reserved([options.json]) as (file,):
        subject = examine(load(options.adapter), device=None, dtype=None, guard=Guard())
        recorded = record_curves(subject)
        file.write(to_json(subject.adapter.name, subject.adapter.version, recorded))
    print(f"{options.json}: {', '.join(recorded) or 'no curve can be recorded'}")
    return 0


def gallery(options: argparse.Namespace) -> int:
    """Write the page and the badges.

    Args:
        options: parsed by `add_gallery_arguments`.

    Returns:
        The exit status.

    Raises:
        ValueError: if a report cannot be read, or reports and derivations disagree.
        CannotWriteError: if a file cannot be written.
    """
    from dreamer4_conformance.gallery.badges import badge
    from dreamer4_conformance.gallery.entries import read_entries
    from dreamer4_conformance.gallery.page import to_html
    from dreamer4_conformance.report.files import make_directory, reserved

    entries = read_entries(options.reports)
    texts = {"index.html": to_html(entries)}
    texts |= {f"badges/{entry.peer.report}.json": badge(entry.report) for entry in entries}
    make_directory(options.out / "badges")
    with reserved([options.out / name for name in texts]) as files:
        for file, text in zip(files, texts.values(), strict=True):
            file.write(text)
    print(f"{options.out / 'index.html'}: {len(entries)} implementations")
    return 0
