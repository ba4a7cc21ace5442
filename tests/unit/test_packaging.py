"""The three import packages are this distribution's alone and load from this checkout; what the code imports is declared and pinned."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("cluster", "controller", "deployments")
OURS = {*PACKAGES, "benchmarks", "tests"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_name_is_owned_by_this_distribution_alone(name: str) -> None:
    assert set(packages_distributions().get(name, [])) <= {PROJECT["name"]}


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_loads_from_this_checkout(name: str) -> None:
    assert Path(str(import_module(name).__file__)) == ROOT / name / "__init__.py"


@pytest.mark.parametrize("folder", [*PACKAGES, "benchmarks", "tests/unit", "tests/cluster"])
def test_every_import_is_of_a_declared_package(folder: str) -> None:
    names = {name for path in (ROOT / folder).rglob("*.py") for name in imported(path)}
    owners = packages_distributions()
    undeclared = {name for name in names if not declared() & {normal(owner) for owner in owners.get(name, [name])}}
    assert undeclared == set()


def test_every_declared_package_that_a_laptop_installs_is_pinned() -> None:
    pins = (ROOT / "cluster/constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {normal(line.partition("==")[0]) for line in pins if "==" in line}
    extras = PROJECT["optional-dependencies"]
    assert {normal(line) for line in (*PROJECT["dependencies"], *extras["laptop"], *extras["dev"])} - pinned == {PROJECT["name"]}


def declared() -> set[str]:
    """Every distribution that pyproject names, in the dependencies or in an extra."""
    extras = PROJECT["optional-dependencies"].values()
    return {normal(line) for lines in (PROJECT["dependencies"], *extras) for line in lines}


def normal(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0].lower().replace("_", "-").replace(".", "-")


def imported(path: Path) -> Iterator[str]:
    """Top-level names that are neither Python's own nor this project's."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=aliases):
                found = [alias.name for alias in aliases]
            case ast.ImportFrom(module=str(module), level=0):
                found = [module]
            case _:
                continue
        yield from (top for name in found if (top := name.partition(".")[0]) not in OURS | sys.stdlib_module_names)
