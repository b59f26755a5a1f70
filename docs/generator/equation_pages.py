"""One page for each module of the reference: its equation, its functions next to their text, its clauses."""

from __future__ import annotations

import re
from collections.abc import Iterator

from docs.generator.clause_entries import clauses_of, entry
from docs.generator.eleven import equations_of
from docs.generator.figures import FIGURES_OF
from docs.generator.markdown import dropdown, paragraph_as_markdown, paragraphs, preformatted, reading_label
from docs.generator.repository import code, link_to, read, source_link
from docs.generator.subjects import SUBJECTS, Subject
from dreamer4_conformance.readings import BY_ID


def equation_page(subject: Subject) -> str:
    """Markdown of the page of one reference module.

    Args:
        subject: the module.
    """
    blocks = ["---\nhide-toc: true\n---", f"# {subject.title}", *_opening(subject)]
    blocks += ["## Reference", *_reference(subject), "## Implementation", *_implementation(subject)]
    clauses = clauses_of(subject.stem)
    if clauses:
        blocks += ["## Clauses", _clause_list(subject)]
        blocks += [block for clause in clauses for block in entry(clause, 3)]
    return "\n\n".join(blocks) + "\n"


def _opening(subject: Subject) -> Iterator[str]:
    """The printed equation, the figure, and the module's text with its readings."""
    for equation in equations_of(subject.stem):
        yield f"$$\n{equation}\n$$"
    first, *texts = paragraphs(subject.module.__doc__ or "")
    yield paragraph_as_markdown(first)
    for text in texts:
        linked = _linked_readings(paragraph_as_markdown(text))
        is_reading = text.startswith(("Printed as", "Read as"))
        yield f":::{{admonition}} Reading\n{linked}\n:::" if is_reading else linked
    for name in FIGURES_OF.get(subject.stem, ()):
        yield f"```{{drawing}} {name}\n```"


def _linked_readings(text: str) -> str:
    """Turn the ids of readings into links, outside of preformatted text."""
    if text.startswith("```"):
        return text
    return re.sub(
        r"\b(A\d{1,2})\b",
        lambda match: f"[{match[1]}](#{reading_label(match[1])})" if match[1] in BY_ID else match[1],
        text,
    )


def _reference(subject: Subject) -> Iterator[str]:
    yield f"The module [`dreamer4_reference.{subject.stem}`]({link_to(subject.module)}), NumPy in float64. " + (
        "Each function: its text on the left, its code on the right. The examples are doctests."
        if subject.members
        else ""
    )
    for member in subject.members:
        yield _pair(subject, member)
    if not subject.members:
        yield preformatted(read(f"reference/dreamer4_reference/{subject.stem}.py"), "python")


def _pair(subject: Subject, member: type) -> str:
    kind = "autoclass" if isinstance(member, type) else "autofunction"
    options = "\n   :members:\n   :special-members: __call__" if kind == "autoclass" else ""
    directive = f".. {kind}:: dreamer4_reference.{subject.stem}.{member.__name__}{options}"
    text = preformatted(directive, "{eval-rst}")
    columns = [f":::{{div}} text\n{text}\n:::", f":::{{div}} code\n{preformatted(code(member), 'python')}\n:::"]
    return "\n".join(["::::{div} pair", *columns, "::::"])


def _implementation(subject: Subject) -> Iterator[str]:
    if not subject.counterparts:
        yield "There is no counterpart: the implementation trains Eq. 7, the same target under x-prediction."
    for path in subject.counterparts:
        yield f"The counterpart in PyTorch is [`{path.removeprefix('impl/')}`]({source_link(path)})."
        yield dropdown(f"Code of {path.removeprefix('impl/')}", preformatted(read(path), "python"))


def _clause_list(subject: Subject) -> str:
    listed = ", ".join(f"[{clause.id}](#{clause.id})" for clause in clauses_of(subject.stem))
    return (
        f"What the suite requires: {listed}. The sentence in italics after a mistake says how it shows in training; "
        "the [catalogue of mistakes](mistakes.md) is sorted by it."
    )


def index_page() -> str:
    """Markdown of the index: every equation and section with its clauses."""
    rows = [
        f"| [{subject.title}](/spec/{subject.stem}.md) | [`{subject.stem}`]({link_to(subject.module)}) | "
        f"{', '.join(f'[{clause.id}](#{clause.id})' for clause in clauses_of(subject.stem))} |"
        for subject in SUBJECTS
    ]
    pages = "\n".join(subject.stem for subject in SUBJECTS)
    return "\n\n".join(
        [
            "# The specification",
            "Every equation and section of the paper as executable code, one page each: the equation as printed, how "
            "it is read and why, symbols and shapes, the code of the reference next to its text, the implementation's "
            "counterpart, and the clauses that the suite judges with their checks and the mistakes that they reject.",
            "| equation or section | module | clauses |\n|---|---|---|\n" + "\n".join(rows),
            f"```{{toctree}}\n:hidden:\n\n{pages}\n```",
        ]
    )
