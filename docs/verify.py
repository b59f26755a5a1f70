"""Verifies the built site: internal links, addresses of clauses, and that no page loads anything from elsewhere.

python -m docs.verify DIRECTORY
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dreamer4_conformance.clauses import CLAUSES, SITE

LOADING = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
"""Element → attribute whose address a browser loads with the page."""
NOT_LOADED = {"canonical", "index", "search", "next", "prev", "edit"}
"""Relations of `link` that are not loaded with the page."""


LOCAL = ("", "data")
"""Schemes of addresses within the site."""


class Page(HTMLParser):
    """Links, loaded addresses and identifiers of one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.identifiers: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect what one element refers to."""
        values = {name: value or "" for name, value in attrs}
        self.identifiers.update(values[name] for name in ("id", "name") if name in values)
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in LOADING and LOADING[tag] in values and values.get("rel") not in NOT_LOADED:
            self.loaded.append(values[LOADING[tag]])


def problems(site: Path) -> Iterator[str]:
    """Yield a sentence for everything that is wrong with the site.

    Args:
        site: directory that `sphinx-build` wrote.
    """
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        name = path.relative_to(site)
        yield from (
            f"{name} loads {address}" for address in page.loaded if urlsplit(address).scheme not in ("", "data")
        )
        yield from (f"{name} has a dead link {link}" for link in page.links if not _resolves(path, link, pages))
    for clause in CLAUSES:
        file, _, anchor = clause.address.removeprefix(f"{SITE}/").partition("#")
        target = pages.get(site / file)
        if target is None or anchor not in target.identifiers:
            yield f"the address of {clause.id} does not exist: {clause.address}"


def _resolves(path: Path, link: str, pages: dict[Path, Page]) -> bool:
    address = urlsplit(link)
    if address.scheme or address.netloc:
        return True
    target = (path.parent / unquote(address.path)).resolve() if address.path else path
    if target not in pages:
        return target.exists()
    anchor = unquote(address.fragment)
    return not anchor or anchor in pages[target].identifiers


def main(directory: str) -> int:
    """Print every problem; 1 if there is any."""
    lines = list(problems(Path(directory).resolve()))
    print(*lines, sep="\n", end="\n" if lines else "")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
