"""`python -m vectors` writes the files of vectors again from the reference; run it in the root of the repository."""

from __future__ import annotations

import argparse
from pathlib import Path

from dreamer4_conformance.clauses import BY_ID
from vectors.encoding import document, text
from vectors.subjects import SUBJECTS

FOLDER = Path(__file__).parent


def source_of(stem: str, clauses: set[str]) -> str:
    """The place in the paper of a subject: those of its clauses, the subject's own first."""
    ordered = sorted(clauses, key=lambda name: (BY_ID[name].module != stem, name))
    return "; ".join(dict.fromkeys(BY_ID[name].where for name in ordered))


def generate(stem: str) -> str:
    """The file of one subject, computed from the reference."""
    vectors = list(SUBJECTS[stem]())
    return text(document(stem, source_of(stem, {vector.clause for vector in vectors}), vectors))


def main() -> None:
    """Write all files, or those of some subjects."""
    parser = argparse.ArgumentParser(prog="python -m vectors", description=__doc__)
    parser.add_argument("stems", nargs="*", choices=[[], *SUBJECTS], metavar="STEM", help="subjects; all by default")
    for stem in parser.parse_args().stems or SUBJECTS:
        (FOLDER / f"{stem}.json").write_text(generate(stem), encoding="utf-8")


if __name__ == "__main__":
    main()
