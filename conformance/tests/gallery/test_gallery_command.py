"""`gallery` and `curves`: the page agrees with the committed reports, is complete and self-contained, and badges."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dreamer4_conformance.adapters.importing import BUNDLED
from dreamer4_conformance.adapters.peers import PEERS, Peer
from dreamer4_conformance.cli import main
from dreamer4_conformance.gallery import plots
from dreamer4_conformance.gallery.badges import badge
from dreamer4_conformance.gallery.curves import Curve, read_curves
from dreamer4_conformance.gallery.derivations import Derivation, Derivations, read_derivations
from dreamer4_conformance.gallery.entries import Entry, Verdict, read_entries
from dreamer4_conformance.gallery.markdown import section
from dreamer4_conformance.gallery.page import to_html
from dreamer4_conformance.gallery.records import is_available, location, record
from dreamer4_conformance.report import Report
from dreamer4_conformance.verdicts import Result, Status

REPORTS = Path(__file__).parents[2] / "reports"
PEER = next(peer for peer in PEERS if peer.project == "lucidrains/dreamer4")
DERIVATION = Derivation("A cause", ("eq08.value",), ("a.py:1",), "text", "intent", "print(1)", "1")


class Page(HTMLParser):
    """Identifiers, links, verdicts of the matrix, and addresses that a browser loads by itself."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids, self.links, self.loaded = list[str](), list[str](), list[str]()
        self.cells, self.unscoped, self._table = Counter[str](), 0, ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.ids += [values["id"]] if values.get("id") else []
        self.links += [values["href"]] if tag == "a" and values.get("href") else []
        self.loaded += [str(value) for name, value in attributes if name == "src" or (tag == "link" and name == "href")]
        self._table = values.get("id") or "" if tag == "table" else self._table
        self.unscoped += tag == "th" and "scope" not in values
        classes = (values.get("class") or "").split()
        if tag == "td" and "cell" in classes and self._table == "matrix":
            self.cells[classes[-1]] += 1


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return read_entries(REPORTS)


@pytest.fixture(scope="module")
def text(entries: list[Entry]) -> str:
    return to_html(entries)


def entry(*results: Result, **adapter: object) -> Entry:
    declared = {"name": PEER.project, "version": PEER.commit, "level": "signal", "readings": {}} | adapter
    environment = {"python": "3.11", "k_max": 64, "device": "cpu", "dtype": "float32", "profile": "ci", "seed": 0}
    return Entry(PEER, Report(declared, environment, list(results)), Derivations(), {})


def test_page_shows_every_committed_report_and_every_failure(entries: list[Entry], text: str) -> None:
    page = Page(text)
    assert {entry.peer for entry in entries} == {peer for peer in PEERS if (REPORTS / f"{peer.report}.json").exists()}
    rows = [json.loads((REPORTS / f"{entry.peer.report}.json").read_text("utf-8"))["clauses"] for entry in entries]
    statuses = Counter(row["status"] for clauses in rows for row in clauses)
    statuses["not-provided"] -= sum(len(entry.report.not_testable) for entry in entries)
    statuses["not-testable"] = sum(len(entry.report.not_testable) for entry in entries)
    page.cells.pop("not-judged", None)
    assert page.cells == statuses
    failing = [(e.peer.report, row) for e, clauses in zip(entries, rows, strict=True) for row in clauses]
    for report, row in failing:
        if row["status"] == "fail":
            assert f"{report}-{row['id']}" in page.ids
            assert f"#{report}-{row['id']}" in page.links
    for name in (*(entry.peer.licence for entry in entries), "How to object", "Likely intent"):
        assert name in text


def test_page_is_self_contained_and_its_links_lead_somewhere(text: str) -> None:
    page = Page(text)
    assert page.loaded == []
    assert "@import" not in text
    assert "url(" not in text
    assert page.unscoped == 0
    assert [name for name, count in Counter(page.ids).items() if count > 1] == []
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_command_writes_the_page_and_a_badge_for_each_implementation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], entries: list[Entry], text: str
) -> None:
    assert main(["gallery", "--reports", str(REPORTS), "--out", str(tmp_path / "out")]) == 0
    assert f"index.html: {len(entries)} implementations" in capsys.readouterr().out
    assert (tmp_path / "out" / "index.html").read_text("utf-8") == text  # the same page again
    badges = list((tmp_path / "out" / "badges").iterdir())
    assert {path.stem for path in badges} == {entry.peer.report for entry in entries}
    for path in badges:
        document = json.loads(path.read_text("utf-8"))
        assert document.keys() == {"schemaVersion", "label", "message", "color"}
        assert document["schemaVersion"] == 1
        assert re.fullmatch(r"\d+ of \d+ clauses pass", document["message"])


def test_colour_of_a_badge_says_whether_a_clause_fails() -> None:
    colours = {Status.PASS: "brightgreen", Status.FAIL: "orange", Status.NOT_PROVIDED: "lightgrey"}
    for status, colour in colours.items():
        assert json.loads(badge(entry(Result("eq08.value", 8, "must", status)).report))["color"] == colour


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"rms.poison"', '"rms.positive"', "rms.poison fails without a derivation"),
        ('"rms.poison"', '"rms.poison", "eq08.value"', "eq08.value has a derivation and does not fail"),
        ('"rms.poison"', '"rms.poison", "rms.poison"', "rms.poison has 2 derivations"),
        ("intent =", "purpose =", "the key 'purpose' is unknown"),
        ("intent =", "# intent =", "the key 'intent' is missing"),
        ("remarks = [", "remarks = [[", "toml: "),
        ('clauses = ["rms.poison"]', 'clauses = "rms.poison"', "clauses is 'rms.poison'; it needs a list of texts"),
        ("date = ", "date = 1 # ", "date is 1; it needs a text"),
    ],
)
def test_report_and_derivations_that_disagree_are_not_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, message: str
) -> None:
    name = "machines-in-motion-dreamer-v4-c319a28"
    (tmp_path / "derivations").mkdir()
    shutil.copy(REPORTS / f"{name}.json", tmp_path)
    derivations = (REPORTS / "derivations" / f"{name}.toml").read_text("utf-8")
    (tmp_path / "derivations" / f"{name}.toml").write_text(
        f'date = "2026-01-01"\n{derivations}'.replace(old, new), "utf-8"
    )
    assert main(["gallery", "--reports", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_directory_without_reports_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gallery", "--reports", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "has no report of a known implementation" in capsys.readouterr().err


def test_not_testable_differs_from_not_provided_and_not_judged() -> None:
    absent = [
        Result(f"eq0{n}.a", n, "must", Status.NOT_PROVIDED, needs=[need]) for n, need in ((1, "corrupt"), (2, "rope"))
    ]
    shown = entry(*absent, not_testable={"corrupt": "inline"})
    verdicts = [shown.verdict(clause) for clause in ("eq01.a", "eq02.a", "eq03.a")]
    assert verdicts == [Verdict.NOT_TESTABLE, Verdict.NOT_PROVIDED, Verdict.NOT_JUDGED]


def test_texts_of_reports_and_derivations_are_escaped() -> None:
    failing = Result("eq08.value", 8, "must", Status.FAIL, message="<script>alert(1)</script>", call="<img src=x>")
    hostile = replace(DERIVATION, title="<i>`a<b`</i>", snippet="</pre><script>")
    text = to_html([replace(entry(failing), derivations=Derivations(deviations=(hostile,)))])
    assert "<script>alert" not in text
    assert "<img" not in text
    assert "&lt;i&gt;<code>a&lt;b</code>&lt;/i&gt;" in text
    assert text.count("<script>") == 1


def test_states_of_one_project_have_a_history(entries: list[Entry], text: str) -> None:
    states = [entry.peer.commit for entry in entries if entry.peer.project == "daniyal-rahman/ahriuwu"]
    history = text[text.index('id="history"') : text.index('id="implementations"')]
    assert states == ["a4764f4", "5f33095", "b36d0de"]
    assert [history.index(state) for state in states] == sorted(history.index(state) for state in states)
    assert "eq08.value" in history
    assert "eq01.swap" not in history  # it fails in no state


def test_plots_place_the_values_of_report_and_recorded_curve() -> None:
    curve = Curve("Ramp", "τ", "w", (0.0, 1.0), (1.0, 0.1), (0.1, None))
    failing = Result("eq04.step-law", 4, "reading", Status.FAIL, got=[1.0] + 6 * [0.0], expected=7 * [1 / 7])
    shown = replace(entry(failing), curves={"ramp": curve})
    ramp, steps = plots.plots(shown, ["eq08.value", "eq04.step-law"])
    assert ramp.theirs[0][0][1] < ramp.theirs[0][1][1]  # 1 is above 0.1
    assert ramp.theirs[0][1][0] == plots.WIDTH - plots.RIGHT
    assert ramp.paper == [[(plots.LEFT, ramp.theirs[0][1][1])]]  # a gap ends the line
    assert [tick.text for tick in steps.x_ticks] == ["1", "1/2", "1/4", "1/8", "1/16", "1/32", "1/64"]
    assert steps.bar > 0
    assert plots.plots(shown, ["eq02.step"]) == []


@pytest.mark.nightly
def test_recorded_curves_of_the_bundled_implementation_are_the_papers(tmp_path: Path) -> None:
    assert main(["curves", BUNDLED, "--json", str(tmp_path / "curves.json")]) == 0
    curves = read_curves(tmp_path / "curves.json")
    assert list(curves) == ["ramp", "levels", "labels", "sampler", "loss", "returns"]
    for name, curve in curves.items():
        bound = 0.02 if name == "levels" else 1e-4
        assert max(abs(a - b) for a, b in zip(curve.theirs, curve.paper, strict=True)) < bound, name  # type: ignore[operator]


#: An inverted ramp, a step without 1/(1 − τ), and returns without continuation.
WRONG = """
import numpy as np
from dreamer4_conformance import Adapter

class Mine(Adapter):
    def ramp_weight(self, tau):
        return 1 - 0.9 * tau

    def sample_frame(self, network, context, num_steps, seed, actions=None):
        z = np.random.default_rng(seed).standard_normal((len(context), 1, *context.shape[2:])).astype(context.dtype)
        for step in range(num_steps):
            frames = np.concatenate([context, z], 1)
            tau = np.full(frames.shape[:2], step / num_steps, context.dtype)
            prediction = network(frames, tau, np.full_like(tau, 1 / num_steps), actions)
            z = z + (prediction[:, -1:] - z) / num_steps
        return z[:, 0]

    def lambda_returns(self, reward, value, cont, gamma, lam):
        returns = value[:, -1:]
        for t in reversed(range(reward.shape[1])):
            following = (1 - lam) * value[:, t + 1 : t + 2] + lam * returns[:, :1]
            returns = np.concatenate([reward[:, t : t + 1] + gamma * following, returns], 1)
        return returns[:, :-1]
"""


def test_recorded_curves_show_what_an_implementation_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wrong.py").write_text(WRONG)
    assert main(["curves", "wrong.py:Mine", "--json", "curves.json"]) == 0
    curves = read_curves(Path("curves.json"))
    assert list(curves) == ["ramp", "labels", "sampler", "returns"]
    assert curves["ramp"].theirs == pytest.approx([1 - 0.9 * tau for tau in curves["ramp"].x])  # type: ignore[operator]
    assert curves["ramp"].paper == pytest.approx([0.9 * tau + 0.1 for tau in curves["ramp"].x])  # type: ignore[operator]
    assert curves["labels"].theirs == curves["labels"].paper == tuple(step / 8 for step in range(8))
    assert curves["sampler"].theirs[:2] == pytest.approx(curves["sampler"].paper[:2])  # the first step has τ = 0
    assert curves["sampler"].theirs[2] != pytest.approx(curves["sampler"].paper[2], rel=1e-3)
    assert curves["returns"].theirs[4:] == pytest.approx(curves["returns"].paper[4:])  # after the episode's end
    assert curves["returns"].theirs[3] != pytest.approx(curves["returns"].paper[3], rel=1e-3)


@pytest.mark.parametrize("content", ["[]", '{"schema": 2, "curves": {}}', '{"schema": 1, "curves": {"a": {"x": [1]}}}'])
def test_file_that_has_no_curves_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "curves.json").write_text(content)
    with pytest.raises(ValueError, match=r"curves\.json: "):
        read_curves(tmp_path / "curves.json")


@pytest.mark.parametrize("peer", [peer for peer in PEERS if (REPORTS / "curves" / f"{peer.report}.json").exists()])
def test_committed_curves_are_about_the_judged_commit(peer: Peer) -> None:
    document = json.loads((REPORTS / "curves" / f"{peer.report}.json").read_text("utf-8"))
    assert (document["adapter"], document["version"]) == (peer.project, peer.commit)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.report)
def test_markdown_of_a_report_ends_with_its_derivations(peer: Peer) -> None:
    derivations = read_derivations(REPORTS / "derivations" / f"{peer.report}.toml")
    last = derivations.deviations[-1]
    assert section(derivations).endswith(f"```python\n{last.snippet}\n```\n\nprints\n\n```text\n{last.output}\n```\n")
    advice = "run python -m dreamer4_conformance.gallery.markdown conformance/reports"
    assert (REPORTS / f"{peer.report}.md").read_text("utf-8").endswith(section(derivations)), advice


def test_report_of_peers_gets_the_derivations_next_to_it(tmp_path: Path) -> None:
    report = entry(Result("eq08.value", 8, "must", Status.PASS)).report
    (tmp_path / "derivations").mkdir()
    shutil.copy(REPORTS / "derivations" / f"{PEER.report}.toml", tmp_path / "derivations")
    record(PEER, tmp_path, report, "fingerprint", "# report\n")
    text = (tmp_path / f"{PEER.report}.md").read_text("utf-8")
    assert text.startswith("# report\n\n## Derivations by hand\n\nA snippet uses their code alone: ")
    assert "\n\n### There is no step size d = 1\n" in text
    (tmp_path / "derivations" / f"{PEER.report}.toml").write_text("no TOML")
    record(PEER, tmp_path, report, "fingerprint", "# report\n")  # the run is not lost
    assert (tmp_path / f"{PEER.report}.md").read_text("utf-8") == "# report\n"


@pytest.mark.peers
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.report)
def test_snippets_of_the_derivations_print_what_is_recorded(peer: Peer) -> None:
    checkouts = Path(os.environ.get("DREAMER4_PEERS", "absent"))
    if not is_available(peer, checkouts):
        pytest.skip(f"{peer.project} {peer.commit} is not there")
    for derivation in read_derivations(REPORTS / "derivations" / f"{peer.report}.toml").deviations:
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-"],
            input=derivation.snippet,
            cwd=location(peer, checkouts),
            capture_output=True,
            encoding="utf-8",
        )
        *_, error = run.stderr.strip().splitlines() or [""]
        if error.startswith("ModuleNotFoundError"):
            pytest.skip(f"{peer.project}: {error}")
        assert run.stdout.strip() == derivation.output, f"{derivation.title}: {error}"
