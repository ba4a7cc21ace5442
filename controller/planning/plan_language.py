"""The compact JSON in which the LLM writes a plan: its words, and the way from that JSON to a checked Plan and back.

    {"kind": "tasks", "s1": ["translation", "f1", "zh"], "s2": ["text-to-speech", "s1"]}
    {"kind": "chat"} or {"kind": "knowledge"}: no step is needed
    {"kind": "cannot", "task": "text-to-image"}: a task is needed that nobody serves

A step is [task, inputs…, options…]; an input is a file "f1", an earlier step "s1", a text that the request quotes "q1" or {"text": "free"};
where a task takes many, the last input may be a list of files and steps. A question or a prompt is written out, or is a quote, a step or
a file. What the schema (plan_schema.py) cannot say, that the step pointed at gives the right medium, is mended when the plan is read.
The kind stands first because a small model that has to say it decides better than one that may simply begin with a step.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import lru_cache
from typing import Any

from cluster.errors import PlanError
from cluster.tasks import TASKS, Option, Task, TaskSpec
from controller.asking.request import Request
from controller.planning.plan import InputFile, OutputOf, Plan, Step, StepInput, StepOption
from controller.planning.plan_languages import with_languages
from controller.planning.plan_media import with_fitting_media
from controller.planning.plan_repeats import without_repeats


class Kind(StrEnum):
    """What a request is, in the planner's words."""

    CHAT = "chat"
    KNOWLEDGE = "knowledge"
    TASKS = "tasks"
    CANNOT = "cannot"


LANGUAGES = (
    *("en", "zh", "de", "fr", "es", "it", "pt", "nl", "pl", "ru", "uk", "cs", "sv", "da", "fi", "no"),
    *("ja", "ko", "ar", "he", "hi", "tr", "el", "hu", "ro", "bg", "vi", "id", "th", "fa"),
)
# What people ask for, the hub's tasks and two that are none; what is not deployed can be named as the reason for declining.
HUB_TASKS = (
    *("text-to-image", "image-to-image", "text-to-video", "image-to-video", "text-to-audio", "audio-to-audio"),
    *("audio-classification", "visual-question-answering", "image-segmentation", "depth-estimation", "web-search", "sending-or-booking"),
    *(task.value for task in Task),
)

WANTED = ("text", "scene")
_REFERENCE = re.compile(r"[fsq][1-9]\d*", re.ASCII)
_STEP_ID = re.compile(r"s[1-9]\d{0,3}", re.ASCII)
_SHOWN_CHARACTERS = 80  # of a wrong value
TEXTS_KEPT = 128  # letters and digits alone; a request's are asked for with every step that is read


def read_plan(text: str, tasks: Collection[Task], request: Request, *, is_last: bool = False) -> Plan:
    """The Plan in a reply. Raises PlanError with what is wrong, in words that the LLM can act on.

    A text must stand in the request: a plan may not make up what its steps work on. Where the request has neither files nor quotes, and in
    the last reply that is asked for, the request itself takes the place of such a text.
    """
    draft = _read_json(text)
    kind = draft.pop("kind", None)
    if kind == Kind.CANNOT:
        wanted = str(draft.get("task"))[:_SHOWN_CHARACTERS]
        raise UnservedTask(f"no deployed model can do {wanted}; deployed tasks: {', '.join(sorted(tasks))}")
    if kind in (Kind.CHAT, Kind.KNOWLEDGE):
        return Plan()
    quotes = {quote.id: quote.text for quote in request.quotes}
    steps = with_fitting_media([_read_step(step_id, form, tasks, quotes) for step_id, form in draft.items()], request, is_last=is_last)
    if _asks_of_itself(steps, request):
        return Plan()
    grounded = [_grounded(step, request, is_last) for step in steps]
    return Plan.checked(without_repeats(with_languages(grounded, request, LANGUAGES)), request.media)


def write_plan(plan: Plan, request: Request | None = None) -> str:
    """The plan as the LLM would write it, for training and reading; texts that `request` quotes are named."""
    quotes = {quote.text: quote.id for quote in request.quotes} if request else {}
    steps = {step.id: _write_step(step, quotes) for step in plan.steps}
    kind = Kind.TASKS if steps else Kind.KNOWLEDGE
    return json.dumps({"kind": kind.value, **steps}, ensure_ascii=False, separators=(",", ":"))


class UnservedTask(PlanError):
    """The LLM says that the request needs a task that is not deployed: planning again would not help."""


def _read_json(text: str) -> dict[str, Any]:
    try:
        draft = json.loads(text)
        json.dumps(draft, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as exc:
        raise PlanError(f"the plan is not JSON: {exc.msg} at character {exc.pos}") from exc
    except UnicodeEncodeError as exc:
        raise PlanError(r"the plan is not valid Unicode: it has half a character (\ud800 to \udfff)") from exc
    except RecursionError as exc:
        raise PlanError("the plan is not JSON: it is nested too deeply") from exc
    except ValueError as exc:
        raise PlanError("the plan is not JSON that can be read: it has a number of thousands of digits") from exc
    if not isinstance(draft, dict):
        raise PlanError("the plan is not a JSON object")
    return draft


def _read_step(step_id: str, form: Any, tasks: Collection[Task], quotes: Mapping[str, str]) -> Step:
    if not _STEP_ID.fullmatch(step_id):
        raise PlanError(f"{_shown(step_id)} names no step: the steps are s1, s2, s3 and so on")
    if not isinstance(form, list) or not form or form[0] not in tasks:
        raise PlanError(f"{step_id}: a step is [task, inputs, options] with one of these tasks: {', '.join(sorted(tasks))}")
    spec = TASKS[Task(form[0])]
    inputs, options = form[1 : 1 + len(spec.inputs)], form[1 + len(spec.inputs) :]
    if len(options) > len(spec.options):
        raise PlanError(f"{step_id}: {spec.task} takes {len(spec.inputs)} inputs and {len(spec.options)} options")
    return Step(
        step_id,
        spec.task,
        tuple(_read_input(step_id, source, quotes) for source in _flat(inputs, spec)),
        {option: _read_option(step_id, option, value, quotes) for option, value in zip(spec.options, options, strict=False)},
    )


def _asks_of_itself(steps: Sequence[Step], request: Request) -> bool:
    """Whether all that is planned is to answer a question out of nothing but its own words: that is general knowledge."""
    asks = all(step.task is Task.QUESTION_ANSWERING and all(isinstance(source, str) for source in step.inputs) for step in steps)
    return bool(steps) and asks and not request.files and not request.quotes


def _grounded(step: Step, request: Request, is_last: bool) -> Step:
    if TASKS[step.task].is_prompted:
        return step
    made_up = [source for source in step.inputs if isinstance(source, str) and _folded(source) not in _folded(request.text)]
    if made_up and not is_last and (request.files or request.quotes):
        raise PlanError(f'{step.id}: the text "{made_up[0][:80]}" does not stand in the request; use the output of a step instead')
    return replace(step, inputs=tuple(request.text if source in made_up else source for source in step.inputs))


@lru_cache(maxsize=TEXTS_KEPT)
def _folded(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def _flat(inputs: list[Any], spec: TaskSpec) -> list[Any]:
    if inputs and spec.takes_many and isinstance(inputs[-1], list):
        return [*inputs[:-1], *inputs[-1]]
    return inputs


def _read_input(step_id: str, source: Any, quotes: Mapping[str, str]) -> StepInput:
    match source:
        case {"text": str(text)} if text.strip():
            return text
        case str() if _REFERENCE.fullmatch(source):
            return _referred(step_id, source, quotes)
    raise PlanError(f'{step_id}: an input is a file "f1", a step "s1", a quote "q1" or {{"text": "..."}}, not {_shown(source)}')


def _referred(step_id: str, reference: str, quotes: Mapping[str, str]) -> StepInput:
    match reference[0]:
        case "f":
            return InputFile(reference)
        case "s":
            return OutputOf(reference)
    if reference not in quotes:
        raise PlanError(f"{step_id}: the request has no quote {reference}")
    return quotes[reference]


def _read_option(step_id: str, option: Option, value: Any, quotes: Mapping[str, str]) -> StepOption:
    match option, value:
        case Option.LABELS, [*labels] if all(isinstance(label, str) and label.strip() for label in labels) and len(set(labels)) > 1:
            return tuple(dict.fromkeys(labels))
        case Option.LANGUAGE, str() if value in LANGUAGES:
            return str(value)
        case ((Option.QUESTION | Option.PROMPT), str()) if _REFERENCE.fullmatch(value):
            return _referred(step_id, value, quotes)
        case ((Option.QUESTION | Option.PROMPT), str()) if value.strip():
            return str(value)
        case Option.WANTED, str() if value in WANTED:
            return str(value)
    raise PlanError(f"{step_id}: {_shown(value)} is no value for the option {option}")


def _shown(value: Any) -> str:
    return json.dumps(value)[:_SHOWN_CHARACTERS]


def _write_step(step: Step, quotes: Mapping[str, str]) -> list[Any]:
    spec = TASKS[step.task]
    fixed = len(spec.inputs) - 1
    inputs = [_write_input(source, quotes) for source in step.inputs]
    if len(inputs) > len(spec.inputs):
        inputs = [*inputs[:fixed], inputs[fixed:]]
    return [step.task.value, *inputs, *(_write_option(step.options[option], quotes) for option in spec.options if option in step.options)]


def _write_input(source: StepInput, quotes: Mapping[str, str]) -> Any:
    match source:
        case str():
            return quotes.get(source, {"text": source})
        case InputFile(id=reference) | OutputOf(step=reference):
            return reference


def _write_option(value: StepOption, quotes: Mapping[str, str]) -> Any:
    match value:
        case str():
            return quotes.get(value, value)
        case InputFile(id=reference) | OutputOf(step=reference):
            return reference
    return value
