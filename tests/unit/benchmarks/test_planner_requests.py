"""The synthetic requests for the planner's training: right by the task table, and none that the tests ask."""

import json
import re
from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from benchmarks.planner_training.requests import LAPTOP, Example, examples
from cluster.messages import ArtifactRef
from cluster.tasks import TASKS, Media, Option, Task
from controller.asking.quotes import quotes_in
from controller.asking.request import Request, RequestFile
from controller.planning.plan_language import LANGUAGES, UnservedTask, read_plan

ROOT = Path(__file__).parents[3]
COUNT = 2000
SOME = frozenset(list(Task)[::5])
TABLES = pytest.mark.parametrize("tasks", [frozenset(LAPTOP), frozenset(Task), SOME], ids=["laptop", "all", "some"])


def wrong(example: Example, tasks: Collection[Task]) -> str | None:
    """What is wrong with its plan by the task table; None when nothing is."""
    plan: dict[str, Any] = json.loads(json.dumps(example.plan))
    match plan.pop("kind"):
        case "chat" | "knowledge":
            return None if not plan and not example.files else "such a request has neither steps nor files"
        case "cannot":
            return None if list(plan) == ["task"] and plan["task"] not in {task.value for task in tasks} else "it could be done"
    names = {name for name, _, _ in example.files}
    known = {f"f{n}": media for n, (_, media, _) in enumerate(example.files, 1)}
    known |= dict.fromkeys((quote.id for quote in quotes_in(example.text, names)), Media.TEXT)
    if list(plan) != [f"s{n}" for n in range(1, len(plan) + 1)] or not 1 <= len(plan) <= 5:
        return "its steps are not s1 to s5"
    for step, form in plan.items():
        if fault := wrong_step(form, known, tasks):
            return f"{step}: {fault}"
        known[step] = TASKS[Task(form[0])].output
    used = json.dumps(list(plan.values()))
    return None if all(f'"f{n}"' in used for n in range(1, len(example.files) + 1)) else "a file is not used"


def wrong_step(form: list[Any], known: dict[str, Media], tasks: Collection[Task]) -> str | None:
    spec = TASKS[Task(form[0])]
    inputs, options = form[1 : 1 + len(spec.inputs)], form[1 + len(spec.inputs) :]
    if spec.task not in tasks or len(inputs) < len(spec.inputs) or not len(spec.required) <= len(options) <= len(spec.options):
        return f"{spec.task} is not deployed, or not so long"
    for source, media in zip(inputs, spec.inputs, strict=True):
        several = source if isinstance(source, list) and spec.takes_many else [source]
        for one in several:
            is_free = isinstance(one, dict) and spec.is_prompted and bool(one["text"]) and media is Media.TEXT
            if not is_free and known.get(one) != media:
                return f"{one} is no {media}"
    for option, value in zip(spec.options, options, strict=False):
        if not is_value(option, value, known):
            return f"{value} is no {option}"
    return None


def is_value(option: Option, value: Any, known: dict[str, Media]) -> bool:
    match option:
        case Option.LANGUAGE:
            return value in LANGUAGES
        case Option.WANTED:
            return value in {"text", "scene"}
        case Option.LABELS:
            return isinstance(value, list) and len(value) > 1
    if re.fullmatch(r"[fsq]\d+", value):
        return known.get(value) is Media.TEXT
    return "{" not in value and len(value) > 2


@TABLES
def test_every_plan_is_right_by_type(tasks: frozenset[Task]) -> None:
    faults = [(example, fault) for example in examples(1, COUNT, tasks) if (fault := wrong(example, tasks))]
    assert faults[:3] == []


@TABLES
def test_the_planner_reads_every_plan(tasks: frozenset[Task]) -> None:
    for example in examples(2, COUNT, tasks):
        files = (RequestFile(f"f{n}", ArtifactRef("0" * 64, f"{m}/x", 1, name)) for n, (name, m, _) in enumerate(example.files, 1))
        written = json.dumps(example.plan, ensure_ascii=False)
        try:
            plan = read_plan(written, tasks, Request("r", example.text, tuple(files)))
        except UnservedTask:
            assert example.plan["kind"] == "cannot"
        else:
            assert {step.task for step in plan.steps} == example.tasks


@TABLES
def test_every_deployed_task_occurs(tasks: frozenset[Task]) -> None:
    assert {task for example in examples(3, COUNT, tasks) for task in example.tasks} == tasks


def test_no_slot_is_left_open() -> None:
    left = [example.text for example in examples(4, COUNT, tuple(Task)) if re.search(r"[{}<>|]|  ", example.text)]
    assert left == []


def test_a_seed_decides_all() -> None:
    assert list(examples(5, 200, frozenset(LAPTOP))) == list(examples(5, 200, sorted(frozenset(LAPTOP))))
    assert list(examples(5, 200, frozenset(LAPTOP))) != list(examples(6, 200, frozenset(LAPTOP)))


def test_every_kind_and_many_languages_and_few_repetitions() -> None:
    made = list(examples(7, COUNT, frozenset(LAPTOP)))
    kinds = {kind: sum(example.plan["kind"] == kind for example in made) / COUNT for kind in ("chat", "knowledge", "cannot")}
    assert all(0.03 < share < 0.12 for share in kinds.values()), kinds
    assert 0.03 < sum(bool(re.search("[\u4e00-\u9fff]", example.text)) for example in made) / COUNT < 0.1
    assert len({example.text for example in made if example.tasks}) > 0.9 * sum(bool(example.tasks) for example in made)


def test_a_laptop_is_not_asked_to_caption() -> None:
    assert not any("scene" in form for example in examples(8, COUNT, frozenset(LAPTOP)) for form in example.plan.values())
    assert any("scene" in form for example in examples(8, COUNT, tuple(Task)) for form in example.plan.values())


def test_a_task_that_is_not_deployed_is_declined_and_never_planned() -> None:
    declined = [e.plan["task"] for e in examples(9, COUNT, frozenset(LAPTOP) - {Task.TRANSLATION}) if e.plan["kind"] == "cannot"]
    assert "translation" in declined and "text-to-image" in declined


def test_without_a_deployed_task_it_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one deployed task"):
        next(examples(1, 1, ()))


def test_nothing_is_learnt_that_the_tests_ask() -> None:
    sources = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)] + [ROOT / "benchmarks" / "demo.py"]
    asked = "\n".join(path.read_text(encoding="utf-8") for path in sources).casefold()
    made = (example.text for example in islice(examples(10, 10_000, frozenset(LAPTOP)), 10_000) if example.tasks)
    assert [text for text in made if f'"{text.casefold()}"' in asked] == []
