"""Command line `dreamer4-conformance`: run, init, list, explain, peers, curves, gallery, compare."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from dreamer4_conformance.adapters.importing import BUNDLED
from dreamer4_conformance.clauses import Clause, select
from dreamer4_conformance.gallery.command import EXIT as PEERS_EXIT
from dreamer4_conformance.gallery.command import PEERS, add_peers_arguments, peers
from dreamer4_conformance.gallery.publication import (
    CURVES,
    GALLERY,
    add_curves_arguments,
    add_gallery_arguments,
    curves,
    gallery,
)
from dreamer4_conformance.gallery.publication import EXIT as GALLERY_EXIT
from dreamer4_conformance.joining.command import EXIT as INIT_EXIT
from dreamer4_conformance.joining.command import INIT, add_arguments, init
from dreamer4_conformance.options import add_conditions, add_selection, equations
from dreamer4_conformance.report.files import CannotWriteError
from dreamer4_conformance.verdicts import AdapterError

if TYPE_CHECKING:
    from dreamer4_conformance.report import Report

DESCRIPTION = """\
Judges an implementation of Dreamer 4 by the paper (arXiv:2509.24527), clause by
clause.

  dreamer4-conformance run                      the bundled implementation
  dreamer4-conformance init my_project          writes an adapter for your code
  dreamer4-conformance run my_adapter.py:Mine   yours; see `run --help`
  dreamer4-conformance explain eq08.value       what a clause requires; also a
                                                reading, A13, or a mistake
"""

RUN = """\
Runs the checks and prints a report: every cause of failures in full (the call
that shows it, the result, the value of the paper, known mistakes that behave
the same, and what to do), then counts per equation and what to add to the
adapter. -v also prints the table of all clauses.

An adapter overrides the operations that your code has; all others are reported
as not provided:

  # my_adapter.py
  from dreamer4_conformance import TorchAdapter
  from my_project import ramp

  class Mine(TorchAdapter):
      name, version = "me/dreamer4", "1.0"
      level = "signal"             # "noise" if 1 is pure noise in your code

      def ramp_weight(self, tau):
          return ramp(tau)

  dreamer4-conformance run my_adapter.py:Mine --eq 8
"""

EXIT = """\
exit status:
  0  everything provided conforms, and everything required is provided and
     decided; known failures and quality clauses, which are not in the paper, do
     not count
  1  a deviation, an expected failure that passes, or something required that is
     not provided or inconclusive
  2  invalid arguments, or an adapter that cannot be used
"""

COMPARE = """\
Prints what differs between JSON reports, from each to the next, oldest first:
adapter and conditions of the run, and per clause the verdict, the readings,
the mistakes that behave the same, and the cause.

exit status:
  0  nothing deviates in the last report that passed in an earlier one
  1  something does (quality clauses, which are not in the paper, do not count)
  2  a file that is not a report
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments; None for those of the process.

    Returns:
        The exit status.
    """
    options = _parser().parse_args(argv)
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that no partial file remains
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    try:
        status: int = options.action(options)
        sys.stdout.flush()
    except (AdapterError, UsageError, CannotWriteError) as error:
        print(f"dreamer4-conformance: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupted:
        report = getattr(interrupted, "report", None)  # of the clauses that were judged
        if report is not None:
            _print(report, options.verbose)
        print("dreamer4-conformance: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


class UsageError(ValueError):
    """Invalid arguments; the message is shown to the user."""


@contextmanager
def _usage() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from error


# Parsing


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "dreamer4-conformance", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(_command(commands, "run", _run, "judge an implementation", RUN, EXIT))
    add_arguments(
        _command(commands, "init", _init, "write an adapter skeleton, a test and a workflow", INIT, INIT_EXIT)
    )
    listed = _command(commands, "list", _list, "print the clauses", "Prints every clause with its requirement.")
    listed.add_argument("--readings", action="store_true", help="print the choices that the paper leaves open instead")
    add_selection(listed)
    explain = _command(
        commands,
        "explain",
        _explain,
        "explain a clause, a reading or a mistake",
        "Prints the requirement, equation, readings, checks and rejected mistakes of a\n"
        "clause, the options of a reading, or the description and code of a mistake.",
    )
    names = "for example eq07.teacher-state, A13 or ramp-inverted; `list` prints clauses, `list --readings` readings"
    explain.add_argument("name", metavar="CLAUSE|READING|MISTAKE", help=names)
    add_peers_arguments(_command(commands, "peers", _peers, "judge public implementations", PEERS, PEERS_EXIT))
    add_curves_arguments(_command(commands, "curves", curves, "record curves for the gallery", CURVES))
    add_gallery_arguments(
        _command(commands, "gallery", _gallery, "write a page and badges from reports", GALLERY, GALLERY_EXIT)
    )
    compare = _command(commands, "compare", _compare, "compare JSON reports", COMPARE)
    compare.add_argument("reports", metavar="REPORT.json", nargs="+", type=Path, help="written by `run --json`")
    return parser


def _version() -> str:
    try:
        return version("dreamer4-conformance")
    except PackageNotFoundError:  # a checkout on the path
        return "not installed"


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    action: Callable[[argparse.Namespace], int],
    summary: str,
    description: str,
    epilog: str = "",
) -> argparse.ArgumentParser:
    verbatim = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(name, help=summary, description=description, epilog=epilog, formatter_class=verbatim)
    parser.set_defaults(action=action)
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "adapter",
        metavar="ADAPTER",
        nargs="?",
        default=BUNDLED,
        help="module:attr or file.py:attr, where attr is an adapter, its class, or a function that returns one "
        "(default: the bundled implementation)",
    )
    add_selection(parser)
    required = "equations whose selected clauses must be provided and decided"
    parser.add_argument("--require", metavar="4,7", type=equations, action="extend", default=[], help=required)
    add_conditions(parser, "0 for ci, else a random one")
    parser.add_argument("--traceback", action="store_true", help="print the whole traceback of an exception")
    default = "(default: the adapter's)"
    parser.add_argument("--device", metavar="cpu|cuda", help=f"device of the operations {default}")
    parser.add_argument("--dtype", choices=("float64", "float32", "bfloat16"), help=f"their dtype {default}")
    forms = {"json": "JSON, for `compare`", "markdown": "Markdown, for a CI summary", "html": "an HTML page"}
    for form, text in forms.items():
        parser.add_argument(f"--{form}", metavar="FILE", type=Path, help=f"also write the report as {text}")
    parser.add_argument("-v", "--verbose", action="store_true", help="also print the table of all clauses")
    annotations = "also print an annotation of GitHub Actions for each cause of failures"
    parser.add_argument("--annotations", action="store_true", help=annotations)


# Commands


def _run(options: argparse.Namespace) -> int:
    from dreamer4_conformance.report.files import reserved
    from dreamer4_conformance.run_report import default_seed, selection

    with _usage():
        clauses = selection(options.eq, options.clause, options.require)
    if options.seed is None:
        options.seed = default_seed(options.profile)
    forms = [form for form in ("json", "markdown", "html") if getattr(options, form)]
    with reserved([getattr(options, form) for form in forms]) as files:
        report = _judge(options, clauses)
        for form, file in zip(forms, files, strict=True):
            file.write(_written(report, form))
    _print(report, options.verbose)
    if options.annotations:
        from dreamer4_conformance.report.annotations import repository_root, to_annotations

        for command in to_annotations(report, repository_root()):
            print(command)
    return report.exit_status


def _judge(options: argparse.Namespace, clauses: list[Clause]) -> Report:
    from dreamer4_conformance.isolation import start
    from dreamer4_conformance.isolation.contained import Conditions
    from dreamer4_conformance.run_report import run

    conditions = Conditions(
        options.profile, options.seed, options.device, options.dtype, options.time_limit, options.traceback
    )
    with closing(start(options.adapter, conditions)) as judge, _progress(len(clauses)) as before:
        return run(judge, clauses, require=options.require, rerun_command=_rerun_command(options), before=before)


def _rerun_command(options: argparse.Namespace) -> str:
    words = ["dreamer4-conformance", "run", shlex.quote(options.adapter), "--clause", "{clause}"]
    if (options.profile, options.seed) != ("ci", 0):
        words += ["--profile", options.profile, "--seed", str(options.seed)]
    for name in ("device", "dtype"):
        words += [f"--{name}", getattr(options, name)] if getattr(options, name) else []
    return " ".join(words)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[Clause], None]]:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    # A thread that refreshes by itself would be in the way of a fork.
    with Progress(console=console, transient=True, disable=not console.is_terminal, auto_refresh=False) as progress:
        task = progress.add_task("", total=total)
        yield lambda clause: progress.update(task, advance=1, description=clause.id, refresh=True)


def _written(report: Report, form: str) -> str:
    from dreamer4_conformance.report.document import to_json
    from dreamer4_conformance.report.markdown import to_markdown
    from dreamer4_conformance.report.page import to_html

    return {"json": to_json, "markdown": to_markdown, "html": to_html}[form](report)


def _print(report: Report, verbose: bool) -> None:
    from rich.console import Console

    from dreamer4_conformance.report.terminal import print_report

    print_report(report, Console(), verbose=verbose)


def _init(options: argparse.Namespace) -> int:
    with _usage():
        return init(options)


def _peers(options: argparse.Namespace) -> int:
    with _usage():
        return peers(options)


def _gallery(options: argparse.Namespace) -> int:
    with _usage():
        return gallery(options)


def _list(options: argparse.Namespace) -> int:
    from dreamer4_conformance.explain import listing, listing_of_readings

    with _usage():
        clauses = select(options.clause, options.eq)
    if options.readings:
        everything = options.eq is None and options.clause is None
        print("\n".join(listing_of_readings(None if everything else clauses)))
    else:
        print("\n".join(listing(clauses)))
    return 0


def _explain(options: argparse.Namespace) -> int:
    from dreamer4_conformance.explain import explanation

    with _usage():
        lines = explanation(options.name)
    print("\n".join(lines))
    return 0


def _compare(options: argparse.Namespace) -> int:
    from rich.console import Console

    from dreamer4_conformance.report.comparison import Comparison
    from dreamer4_conformance.report.document import read

    if len(set(options.reports)) < len(options.reports):
        raise UsageError("a report is named twice")
    with _usage():
        comparison = Comparison({str(path): read(path) for path in options.reports})
    comparison.print(Console())
    return int(bool(comparison.regressions()))
