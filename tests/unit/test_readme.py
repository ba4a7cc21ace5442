"""What the README tells a newcomer to type is true: targets, commands, code and files exist."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

from cluster.tasks import TASKS, TaskSpec
from controller.cli import parser

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
FENCED = re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
SHELL_LINES = [line for language, block in FENCED if language == "sh" for line in block.splitlines()]
SHOWN = [*SHELL_LINES, *re.findall(r"(?<!`)`([^`\n]+)`(?!`)", README)]


def starting_with(program: str) -> list[str]:
    return sorted({line.strip() for line in SHOWN if line.strip().startswith(f"{program} ")})


@pytest.mark.parametrize("line", starting_with("make"))
def test_a_make_line_names_targets_that_exist(line: str) -> None:
    words = [word for word in shlex.split(line, comments=True)[1:] if "=" not in word]
    assert [word for word in words if not re.search(rf"^{re.escape(word)}:", MAKEFILE, re.MULTILINE)] == []


@pytest.mark.parametrize("line", starting_with("hgpt"))
def test_an_hgpt_line_parses(line: str) -> None:
    assert parser().parse_args(shlex.split(line.partition(" > ")[0], comments=True)[1:]).run


@pytest.mark.parametrize("line", [*starting_with("python -m"), *starting_with(".venv/bin/python -m")])
def test_a_module_that_is_run_exists(line: str) -> None:
    assert find_spec(shlex.split(line)[2])


@pytest.mark.parametrize("code", [block for language, block in FENCED if language == "python"])
def test_the_python_code_compiles(code: str) -> None:
    compile(code, "README.md", "exec")


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)", README))))
def test_a_linked_file_exists(link: str) -> None:
    assert link.startswith("https://") or (ROOT / link).exists()


@pytest.mark.parametrize("path", sorted({text for text in SHOWN if re.fullmatch(r"[\w.-]+(/[\w.-]+)+/?", text)}))
def test_a_path_below_a_folder_of_this_checkout_exists(path: str) -> None:
    """Other paths are model ids, media types and what a run leaves."""
    assert (ROOT / path).exists() or not (ROOT / path.partition("/")[0]).is_dir() or path.startswith("demo-output/")


def test_the_readme_shows_each_kind_of_command() -> None:
    assert starting_with("make") and starting_with("hgpt") and [language for language, _ in FENCED if language == "python"]


@pytest.mark.parametrize("spec", TASKS.values(), ids=str)
def test_the_task_table_is_that_of_the_code(spec: TaskSpec) -> None:
    flow = f"{', '.join(spec.inputs) or 'nothing'} → {spec.output}"
    options = ", ".join([*spec.required, *(f"[{option}]" for option in spec.optional)])
    assert f"| {spec.task} | {flow} | {options} | {spec.family} | {spec.runner} | {spec.default_model} |\n" in README
