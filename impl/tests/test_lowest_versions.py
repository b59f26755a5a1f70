"""constraints-lowest.txt pins every lower bound of pyproject.toml that tests run with, and nothing else."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Tools that `nox -s lowest` does not run, and trackers, for which the tests have fakes.
NOT_RUN = {"codespell", "import-linter", "mypy", "nox", "pytest-benchmark", "ruff", "trackio", "wandb"}
#: What builds the site, in the versions of constraints.txt: its tests need none of it.
NOT_RUN |= {"furo", "latex2mathml", "myst-parser", "sphinx", "sphinx-copybutton", "sphinx-design"}
#: Dependencies of dependencies; constraints-lowest.txt says why they are pinned.
FOLLOWS = {"jaxlib", "pyparsing"}


def lower_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    texts = [text for group in groups for text in group if not text.startswith(project["name"])]
    return dict(re.match(r"([\w-]+)>=([\d.]+)", text).groups() for text in texts)


def pins():
    lines = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def release(version):
    """Numbers of a release without trailing zeros: 2.0 and 2.0.0 are equal, 0.2 and 0.20 are not."""
    numbers = [int(number) for number in version.split(".")]
    while numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def test_every_lower_bound_is_pinned():
    expected = {name: release(version) for name, version in lower_bounds().items() if name not in NOT_RUN}
    assert {name: release(version) for name, version in pins().items() if name not in FOLLOWS} == expected
