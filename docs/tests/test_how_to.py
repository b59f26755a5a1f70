"""What README and the how-to pages tell a reader to copy works: Python, commands and addresses."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable, Sequence

import pytest

from docs.generator.repository import ROOT
from dreamer4_conformance import TorchAdapter, check_implementation, cli
from dreamer4_conformance.adapters.bundled import Bundled
from dreamer4_conformance.clauses import SITE, select
from dreamer4_conformance.verdicts import Status
from dreamer4_impl.data import command as record
from dreamer4_impl.evaluation import command as evaluation
from dreamer4_impl.play import command as play
from dreamer4_impl.training import command as training
from dreamer4_impl.training.sequence.arguments import sequence_parser

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs/how-to").glob("*.md"))]
PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "dreamer4-conformance": cli._parser,
    "dreamer4-train": training._parser,
    "dreamer4-train all": sequence_parser,
    "dreamer4-eval": evaluation._parser,
    "dreamer4-play": play._parser,
    "dreamer4-record": record._play_parser,
    "dreamer4-record video": record._video_parser,
    "dreamer4-record import": record._import_parser,
    "dreamer4-record check": record._check_parser,
}


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str) -> list[str]:
    return re.findall(r"(?ms)^```python\n(.*?)^```", text(name))


def commands(page: str) -> list[list[str]]:
    """Complete commands of a page: lines of its shell blocks, and code in its text that has options."""
    shell = "\n".join(re.findall(r"(?ms)^```sh\n(.*?)^```", page)).replace("\\\n", " ")
    quoted = re.findall(r"`(dreamer4-\w+ [^`]*--[^`]*)`", re.sub(r"(?ms)^```.*?^```", "", page))
    words = [shlex.split(line, comments=True) for line in shell.splitlines() + quoted]
    return [line for line in words if line and line[0] in PARSERS]


def arguments(line: Sequence[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    mode = " ".join(line[:2])
    return (PARSERS[mode](), [*line[2:]]) if mode in PARSERS else (PARSERS[line[0]](), [*line[1:]])


def test_commands_of_readme_and_pages_are_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for page in PAGES for line in commands(page.read_text(encoding="utf-8"))]
    assert {line[0] for line in lines} == {name for name in PARSERS if " " not in name}
    for line in lines:
        parser, words = arguments(line)
        try:
            parser.parse_args(words)
        except SystemExit:
            pytest.fail(f"{shlex.join(line)}: {capsys.readouterr().err}")


def test_an_option_that_does_not_exist_is_rejected() -> None:
    (line,) = commands("```sh\ndreamer4-play runs/imagine --gives 3  # comment\n```")
    parser, words = arguments(line)
    with pytest.raises(SystemExit):
        parser.parse_args(words)


def test_addresses_of_readme_are_pages_of_the_site() -> None:
    linked = re.findall(rf"\]\({re.escape(SITE)}/([^)]*)\)", README.read_text(encoding="utf-8"))
    assert len(linked) >= 3
    assert [page for page in linked if not (ROOT / "docs" / page).with_suffix(".md").is_file()] == []


def test_adapter_of_a_model_is_judged() -> None:
    bundled = Bundled()
    namespace = {"Mine": TorchAdapter, "my_batch": bundled.example, "my_model": bundled.dynamics}
    (adapter,) = blocks("docs/how-to/check.md")
    exec(adapter, namespace)
    namespace["MyModel"].context_frames = bundled.context_frames
    results = check_implementation(namespace["MyModel"], select(["attn.causal", "dyn.agent-firewall"]))
    assert [result.status for result in results] == [Status.PASS, Status.PASS]


def test_model_trains_and_generates_frames() -> None:
    namespace: dict[str, object] = {}
    for block in blocks("docs/how-to/use.md"):
        exec(block, namespace)
    assert tuple(namespace["video"].shape) == (1, 5, 6, 8, 3)  # type: ignore[attr-defined]
    assert tuple(namespace["frame"].shape) == (1, 6, 8, 3)  # type: ignore[attr-defined]
