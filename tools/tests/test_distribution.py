"""What is published: both distributions, their pages on PyPI, the release workflow and the recipe for conda-forge."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]


def project(folder: str = ".") -> dict[str, Any]:
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def document(path: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def spaceless(requirements: list[str]) -> list[str]:
    return sorted(requirement.replace(" ", "") for requirement in requirements)


@pytest.mark.parametrize("path", ["README.md", "demo/README.md"])
def test_pages_on_pypi_have_absolute_links(path: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / path).read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(\s*([^)\s]+)", text) + re.findall(r"(?:src|href)=[\"']([^\"']+)", text)
    assert links
    assert [link for link in links if not link.startswith(("https://", "#"))] == []


def test_demo_is_an_extra_of_the_package_and_installs_its_own() -> None:
    demo = project("demo")
    (requirement,) = [r for r in project()["optional-dependencies"]["demo"] if demo["name"] in r]
    lowest = requirement.removeprefix(f"{demo['name']}>=")
    assert [*map(int, demo["version"].split("."))] >= [*map(int, lowest.split("."))]
    assert not demo.get("dependencies")


def test_release_builds_checks_and_publishes_both_distributions() -> None:
    jobs = document(".github/workflows/release.yml")["jobs"]
    commands = "\n".join(step.get("run", "") for step in jobs["build"]["steps"])
    assert "twine check --strict dist/* dist-demo/*" in commands
    assert "-m build --outdir dist-demo demo" in commands
    publish = jobs["publish"]
    assert publish["strategy"]["matrix"]["folder"] == ["dist-demo", "dist"]  # the extra names the demo
    assert publish["permissions"] == {"id-token": "write"}  # trusted publishing: no token is stored
    assert "secrets." not in (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")


def test_conda_recipe_has_the_requirements_and_commands_of_the_package() -> None:
    recipe, published = document("conda/recipe.yaml"), project()
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    host, required = recipe["requirements"]["host"], recipe["requirements"]["run"]
    assert spaceless(required[1:]) == spaceless(published["dependencies"])
    assert spaceless(host[2:]) == spaceless(build)
    assert f">={recipe['context']['python_min']}" == published["requires-python"]
    assert dict(entry.split(" = ") for entry in recipe["build"]["python"]["entry_points"]) == published["scripts"]
    assert recipe["about"]["summary"] == published["description"]


def test_citation_names_the_repository_and_no_placeholder() -> None:
    citation = document("CITATION.cff")
    assert citation["repository-code"] == project()["urls"]["Source"]
    assert not re.search(r"doi|zenodo|TODO|X{4}|0{6}", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.I)
