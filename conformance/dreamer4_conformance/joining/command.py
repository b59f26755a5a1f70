"""The command `init`: options, questions on a terminal, and what is written and printed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from dreamer4_conformance.joining.conventions import FRAMEWORKS, LEVELS, STEPS, UNITS, is_power_of_two

if TYPE_CHECKING:
    from dreamer4_conformance.joining.conventions import Conventions
    from dreamer4_conformance.joining.matching import Matches
    from dreamer4_conformance.joining.skeleton import Plan
    from dreamer4_conformance.joining.sources import Sources

INIT = """\
Reads your package without importing it, pairs its functions with operations of
the adapter by their names and parameters, and writes

  my_adapter.py                    an adapter that runs; operations without a
                                   match are commented out
  test_dreamer4.py                 a test per clause, in tests/ if there is one
  .github/workflows/dreamer4.yml   the same in the CI of GitHub

  dreamer4-conformance init my_project
  dreamer4-conformance init src/my_project --level noise --steps log2 --dry-run

On a terminal it asks for the conventions that no option sets. Elsewhere it
takes those that the code suggests, and prints them.
"""

EXIT = """\
exit status:
  0  the files are written, or printed by --dry-run
  2  invalid arguments, no such package, or a file that exists, without --force
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `init`.

    Args:
        parser: of the command.
    """
    package = "directory, Python file or importable module with your code (default: the current directory)"
    parser.add_argument("package", metavar="PACKAGE", nargs="?", default=".", help=package)
    parser.add_argument("--name", help="name of your implementation in reports (default: that of PACKAGE)")
    parser.add_argument(
        "--framework", choices=FRAMEWORKS, help="what the adapter's arrays are (default: by the imports)"
    )
    parser.add_argument("--level", choices=LEVELS, help="whether tau = 1 is clean data (signal) or pure noise (noise)")
    parser.add_argument("--unit", choices=UNITS, help="levels are in [0, 1] (float) or 0 … k_max (integer)")
    steps = "a step of size d is d (size), 1/d (count), log2(1/d) (log2) or d k_max (multiple)"
    parser.add_argument("--steps", choices=STEPS, help=steps)
    parser.add_argument("--k-max", metavar="K", type=power_of_two, help="K_max, a power of two (default: 64)")
    where = "where the files are written (default: the current directory)"
    parser.add_argument("--directory", metavar="DIR", type=Path, default=Path(), help=where)
    parser.add_argument("--force", action="store_true", help="overwrite files that exist")
    parser.add_argument("--dry-run", action="store_true", help="print the files and write nothing")


def power_of_two(text: str) -> int:
    """Parse a power of two.

    Example:
        >>> power_of_two("64")
        64
    """
    if not text.isdecimal() or not is_power_of_two(int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no power of two such as 64")
    return int(text)


def init(options: argparse.Namespace) -> int:
    """Write the files, or print them with `--dry-run`.

    Args:
        options: parsed by `add_arguments`.

    Returns:
        The exit status.

    Raises:
        ValueError: if the package cannot be read, the directory does not exist, or a file exists, without `--force`.
        CannotWriteError: if a file cannot be written.
    """
    from dreamer4_conformance.joining.matching import match_operations
    from dreamer4_conformance.joining.skeleton import ADAPTER, Plan, written_files
    from dreamer4_conformance.joining.sources import read_sources

    if not options.directory.is_dir():
        raise ValueError(f"--directory is {str(options.directory)!r}, which is no directory")
    sources = read_sources(options.package, Path(), ignored=[options.directory / ADAPTER])
    matches, candidates = match_operations(sources.functions)
    conventions = _conventions(options, sources, matches)
    plan = Plan(options.name or _package_name(options.package), options.directory, conventions, matches, candidates)
    texts = written_files(plan)
    if options.dry_run:
        print("\n".join(f"# {path}\n\n{text}" for path, text in texts.items()), end="")
        return 0
    _write(texts, options.force)
    print("\n".join(_summary(plan, sources, list(texts))))
    return 0


def _package_name(package: str) -> str:
    path = Path(package)
    return path.resolve().stem if path.exists() else package


def _conventions(options: argparse.Namespace, sources: Sources, matches: Matches) -> Conventions:
    """Conventions by option, else by answer on a terminal, else as the code suggests."""
    from dreamer4_conformance.joining.conventions import QUESTIONS, Conventions, ask, suggested

    values = asdict(suggested(sources, matches))
    for name in (field.name for field in fields(Conventions)):
        option = getattr(options, name)
        if option is not None:
            values[name] = option
        elif sys.stdin.isatty():
            question, choices = QUESTIONS[name]
            values[name] = type(values[name])(ask(question, choices, str(values[name])))
    return Conventions(**values)


def _write(texts: dict[Path, str], force: bool) -> None:
    from dreamer4_conformance.report.files import CannotWriteError, reserved

    existing = [str(path) for path in texts if path.exists()]
    if existing and not force:
        raise ValueError(
            f"{' and '.join(existing)} exist{'s' * (len(existing) == 1)}; --force overwrites, --dry-run prints"
        )
    try:
        for path in texts:
            path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWriteError(f"cannot write {error.filename}: {error.strerror}") from error
    with reserved(list(texts)) as opened:
        for file, text in zip(opened, texts.values(), strict=True):
            file.write(text)


def _summary(plan: Plan, sources: Sources, paths: list[Path]) -> Iterator[str]:
    """What was matched, which conventions hold, what was written, and what to do next."""
    from dreamer4_conformance.joining.skeleton import ADAPTER, location

    count = len(plan.matches)
    yield f"{count} operation{'s' * (count != 1)} matched" + (":" if count else "; call your code in the adapter")
    for operation, match in plan.matches.items():
        yield f"  {operation:<16} {match.function.module}.{match.function.name}  {location(match, plan.directory)}"
    for operation, candidates in plan.candidates.items():
        yield f"  {operation:<16} perhaps {candidates[0].function.name}: {candidates[0].reason}"
    yield "conventions: " + ", ".join(f"{name} {value}" for name, value in asdict(plan.conventions).items())
    yield from (f"not read: {reason}" for reason in sources.unreadable)
    yield f"wrote {', '.join(map(str, paths))}"
    adapter = plan.directory / ADAPTER
    yield f"next: dreamer4-conformance run {adapter}:Mine"
