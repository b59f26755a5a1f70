"""The generated pages of the site, and the sections that pages take from the repository's Markdown files."""

from __future__ import annotations

import re

from docs.generator.api_pages import api_pages
from docs.generator.catalogue_pages import clauses_page, mistakes_page, readings_page
from docs.generator.equation_pages import equation_page, index_page
from docs.generator.repository import read, section, with_site_links
from docs.generator.results import TABLES
from docs.generator.subjects import SUBJECTS

FOLDERS = ("spec", "api")
"""Folders of the site that are generated, and not under version control."""


def generated_pages() -> dict[str, str]:
    """Path of every generated page, relative to `docs`, and its Markdown."""
    pages = {f"spec/{subject.stem}.md": equation_page(subject) for subject in SUBJECTS}
    pages["spec/index.md"] = index_page()
    pages["spec/clauses.md"] = clauses_page()
    pages["spec/readings.md"] = readings_page()
    pages["spec/mistakes.md"] = mistakes_page()
    return {**pages, **api_pages()}


def expanded(page: str) -> str:
    """Replace each line `% from FILE`, `% from FILE, section TITLE` or `% results NAME` by that text or table.

    Args:
        page: Markdown of a page.

    Returns:
        The page with the texts, whose links are those of the site, and with the tables of committed results; the first
        heading of a whole file is left out, because the page has its own.

    Raises:
        KeyError: if there is no such table.
        ValueError: if a file has no such section.
    """
    page = re.sub(r"(?m)^% from (\S+?)(?:, section (.+))?$", _inserted, page)
    return re.sub(r"(?m)^% results (\S+)$", lambda match: TABLES[match[1]](), page)


def _inserted(match: re.Match[str]) -> str:
    path, title = match[1], match[2]
    text = section(read(path), title) if title else re.sub(r"\A# .*\n", "", read(path))
    return with_site_links(text, path)
