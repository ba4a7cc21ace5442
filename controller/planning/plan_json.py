"""A plan as JSON, as POST /v1/plan gives it and a person may have edited it, back into a checked Plan. Says which step has which fault."""

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.errors import BadRequest, PlanError
from cluster.tasks import TASKS, Media, Option, Task
from controller.planning.plan import InputFile, OutputOf, Plan, Step, StepInput, StepOption
from controller.planning.plan_language import LANGUAGES, WANTED

FIELDS = frozenset({"id", "task", "inputs", "options", "model", "fallbacks", "reason", "estimated_s"})
MOST_INPUTS = 20  # of a step
MOST_LABELS = 100
MOST_FALLBACKS = 10
SHOWN_CHARACTERS = 80  # of a wrong value

_ID = re.compile(r"[A-Za-z][\w-]{0,39}", re.ASCII)
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


@dataclass(frozen=True, slots=True)
class GivenPlan:
    """A plan that a person sent. `models`: by step id those that it names, best first."""

    plan: Plan
    models: Mapping[str, tuple[str, ...]]


def read_steps(
    steps: Sequence[Any], files: Mapping[str, Media], tasks: Collection[Task], *, max_steps: int, max_characters: int
) -> GivenPlan:
    """Raises BadRequest with one sentence that names the step and the fault. `tasks` are those that can be run here."""
    if not steps:
        raise BadRequest("the plan has no steps")
    if len(steps) > max_steps:
        raise BadRequest(f"the plan has {len(steps):,} steps; at most {max_steps:,} are allowed (limits.max_run_steps)")
    read = [_read_step(entry, place, tasks, max_characters) for place, entry in enumerate(steps, 1)]
    ids = [step.id for step, _ in read]
    if len(set(ids)) < len(ids):
        raise BadRequest(f"{Counter(ids).most_common(1)[0][0]}: two steps have this id")
    try:
        plan = Plan.checked([step for step, _ in read], files)
    except PlanError as exc:
        raise BadRequest(exc.message) from exc
    return GivenPlan(plan, {step.id: models for step, models in read if models})


def check_id(value: Any, place: str) -> str:
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    raise BadRequest(f"{place}: an id is a letter and up to 39 more letters, digits, - and _, not {_shown(value)}")


def check_text(text: str, place: str, max_characters: int) -> str:
    if len(text) > max_characters:
        raise BadRequest(f"{place}: a text has {len(text):,} characters; the limit is {max_characters:,}: send a long text as a file")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise BadRequest(f"{place}: a text is not valid Unicode at character {exc.start}") from exc
    return text


def _read_step(entry: Any, place: int, tasks: Collection[Task], max_characters: int) -> tuple[Step, tuple[str, ...]]:
    if not isinstance(entry, Mapping):
        raise BadRequest(f"step {place} of the plan is no JSON object, but {_shown(entry)}")
    step_id = check_id(entry.get("id"), f"step {place} of the plan")
    if unknown := sorted(set(map(str, entry)) - FIELDS):
        raise BadRequest(f"{step_id}: a step has no field {_shown(unknown[0])}; it may have {', '.join(sorted(FIELDS))}")
    task = _read_task(step_id, entry.get("task"), tasks)
    inputs, options = entry.get("inputs", []), entry.get("options", {})
    if not isinstance(inputs, list) or len(inputs) > MOST_INPUTS:
        raise BadRequest(f"{step_id}: inputs is a list of at most {MOST_INPUTS}, not {_shown(inputs)}")
    if not isinstance(options, Mapping):
        raise BadRequest(f"{step_id}: options is a JSON object, not {_shown(options)}")
    read = tuple(_read_input(step_id, source, max_characters) for source in inputs)
    return Step(step_id, task, read, _read_options(step_id, task, options, max_characters)), _read_models(step_id, entry)


def _read_task(step_id: str, name: Any, tasks: Collection[Task]) -> Task:
    if not isinstance(name, str) or name not in list(Task):
        raise BadRequest(f"{step_id}: no task is called {_shown(name)}; `hgpt models tasks` shows those there are")
    if name not in tasks:
        raise BadRequest(f"{step_id}: no deployed model can do {name}")
    return Task(name)


def _read_input(step_id: str, source: Any, max_characters: int) -> StepInput:
    match source:
        case {"text": str(text)} if len(source) == 1 and text.strip():
            return check_text(text, step_id, max_characters)
        case {"file": str(file_id)} if len(source) == 1 and _ID.fullmatch(file_id):
            return InputFile(file_id)
        case {"step": str(other)} if len(source) == 1 and _ID.fullmatch(other):
            return OutputOf(other)
    raise BadRequest(f'{step_id}: an input is {{"file": "f1"}}, {{"step": "s1"}} or {{"text": "…"}}, not {_shown(source)}')


def _read_options(step_id: str, task: Task, options: Mapping[str, Any], max_characters: int) -> dict[Option, StepOption]:
    known = {option.value: option for option in TASKS[task].options}
    if unknown := [name for name in options if name not in known]:
        takes = f"it takes {', '.join(known)}" if known else "it takes none"
        raise BadRequest(f"{step_id}: {task} has no option {_shown(unknown[0])}; {takes}")
    return {known[name]: _read_option(step_id, known[name], value, max_characters) for name, value in options.items()}


def _read_option(step_id: str, option: Option, value: Any, max_characters: int) -> StepOption:
    match option, value:
        case Option.LANGUAGE, str() if value in LANGUAGES:
            return value
        case Option.WANTED, str() if value in WANTED:
            return value
        case Option.LABELS, [*labels] if 1 < len(labels) <= MOST_LABELS and all(isinstance(one, str) and one.strip() for one in labels):
            return tuple(check_text(label, step_id, max_characters) for label in labels)
        case ((Option.QUESTION | Option.PROMPT), str()) if value.strip():
            return check_text(value, step_id, max_characters)
        case ((Option.QUESTION | Option.PROMPT), Mapping()):
            return _read_input(step_id, value, max_characters)
    raise BadRequest(f"{step_id}: {_shown(value)} is no value for the option {option}")


def _read_models(step_id: str, entry: Mapping[str, Any]) -> tuple[str, ...]:
    """None without `model`: fallbacks alone are what an edit left behind."""
    model, fallbacks = entry.get("model"), entry.get("fallbacks") or []
    if model is None:
        return ()
    if not isinstance(fallbacks, list) or len(fallbacks) > MOST_FALLBACKS:
        raise BadRequest(f"{step_id}: fallbacks is a list of at most {MOST_FALLBACKS} models")
    for name in (model, *fallbacks):
        if not isinstance(name, str) or not _MODEL.fullmatch(name):
            raise BadRequest(f"{step_id}: {_shown(name)} is no id of a model; they read owner/name")
    return tuple(dict.fromkeys((model, *fallbacks)))


def _shown(value: Any) -> str:
    """JSON in one line, cut."""
    text = json.dumps(value, default=str)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
