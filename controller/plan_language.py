"""The compact JSON in which the LLM writes a plan: its schema, and the way from that JSON to a checked Plan.

    {"kind": "tasks", "s1": ["translation", "f1", "zh"], "s2": ["text-to-speech", "s1"]}
    {"kind": "chat"} or {"kind": "knowledge"}: no step is needed
    {"kind": "cannot", "task": "text-to-image"}: a task is needed that nobody serves

A step is [task, inputs…, options…]; an input is a file "f1", an earlier step "s1" or {"text": "quoted"}; where a task takes many,
the last input may be a list of files and steps. The schema of step k names only the files and the steps before k, and only where
their medium can fit, so a decoder that obeys it cannot point forward, to itself, or at nothing. The kind stands first because a
small model that has to say it decides better than one that may simply begin with a step.
"""

import json
import re
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any

from cluster.errors import PlanError
from cluster.messages import OptionValue
from cluster.tasks import TASKS, Media, Option, Task, TaskSpec
from controller.plan import InputFile, OutputOf, Plan, Step, StepInput


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
# Tasks of the hub that people ask for; those that are not deployed can be named as the reason for declining.
HUB_TASKS = (
    *("text-to-image", "image-to-image", "text-to-video", "image-to-video", "text-to-audio", "audio-to-audio"),
    *("audio-classification", "visual-question-answering", "image-segmentation", "depth-estimation", "web-search"),
    *(task.value for task in Task),
)

WANTED = ("text", "scene")
_OPTION_SCHEMA: dict[Option, dict[str, Any]] = {
    Option.LANGUAGE: {"enum": list(LANGUAGES)},
    Option.QUESTION: {"type": "string"},
    Option.PROMPT: {"type": "string"},
    Option.WANTED: {"enum": list(WANTED)},
    Option.LABELS: {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 10},
}
_FREE_TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"], "additionalProperties": False}
_QUOTE = re.compile(r"[“„«「『]([^“”„«»「」『』]+)[”“»」』]|(?<!\w)\"([^\"]+)\"(?!\w)|(?<!\w)'((?:[^']|(?<=\w)'(?=\w))+)'(?!\w)")


def plan_schema(tasks: Collection[Task], files: Mapping[str, Media], max_steps: int, request: str = "") -> dict[str, Any]:
    """JSON schema of a plan over the deployed tasks, the request's files and its quoted words.

    Only keywords that vLLM and llama.cpp share. A small model likes to make up what its steps work on, so a text can only be one that
    the request quotes; it is free where the request has neither quotes nor files.
    """
    quoted = _quoted_schema(request, files)
    media = {Media.TEXT, *files.values()}
    definitions: dict[str, Any] = {}
    for position in range(1, max_steps + 1):
        feedable = [TASKS[task] for task in Task if task in tasks and set(TASKS[task].inputs) <= media]
        definitions[f"s{position}"] = {"anyOf": [form for spec in feedable for form in _forms(spec, position, files, quoted)]}
        media |= {spec.output for spec in feedable}
    declined = [task for task in HUB_TASKS if task not in {deployed.value for deployed in tasks}]
    return {
        "anyOf": [
            _object({"kind": {"enum": [Kind.CHAT.value, Kind.KNOWLEDGE.value]}}),
            _object({"kind": {"const": Kind.TASKS.value}, **definitions}, required=["kind", "s1"]),
            _object({"kind": {"const": Kind.CANNOT.value}, "task": {"enum": declined}}),
        ]
    }


def read_plan(text: str, tasks: Collection[Task], files: Mapping[str, Media], request: str) -> Plan:
    """The Plan in a reply. Raises PlanError with what is wrong, in words that the LLM can act on.

    A quoted text must stand in `request`: a plan may not make up what its steps work on.
    """
    try:
        draft = json.loads(text)
    except json.JSONDecodeError as exc:
        raise PlanError(f"the plan is not JSON: {exc.msg} at character {exc.pos}") from exc
    except RecursionError as exc:
        raise PlanError("the plan is not JSON: it is nested too deeply") from exc
    if not isinstance(draft, dict):
        raise PlanError("the plan is not a JSON object")
    kind = draft.pop("kind", None)
    if kind == Kind.CANNOT:
        raise UnservedTask(f"no deployed model can do {draft.get('task')}; deployed tasks: {', '.join(sorted(tasks))}")
    if kind in (Kind.CHAT, Kind.KNOWLEDGE):
        return Plan()
    steps = [_read_step(step_id, form, tasks) for step_id, form in draft.items()]
    for step in steps:
        for quoted in () if TASKS[step.task].is_prompted else (source for source in step.inputs if isinstance(source, str)):
            if _folded(quoted) not in _folded(request):
                raise PlanError(f'{step.id}: the text "{quoted[:80]}" does not stand in the request; use the output of a step instead')
    return Plan.checked(steps, files)


def write_plan(plan: Plan) -> str:
    """The plan as the LLM would write it: for demonstrations and repairs."""
    steps = {step.id: _write_step(step) for step in plan.steps}
    kind = Kind.TASKS if steps else Kind.KNOWLEDGE
    return json.dumps({"kind": kind.value, **steps}, ensure_ascii=False, separators=(",", ":"))


class UnservedTask(PlanError):
    """The LLM says that the request needs a task that is not deployed: planning again would not help."""


def _quoted_schema(request: str, files: Mapping[str, Media]) -> list[dict[str, Any]]:
    quotes = list(dict.fromkeys(next(filter(None, groups)).strip() for groups in _QUOTE.findall(request)))
    if files and not quotes:
        return []
    return [_object({"text": {"enum": quotes} if quotes else {"type": "string"}})]


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    needed = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": False}


def _forms(spec: TaskSpec, position: int, files: Mapping[str, Media], quoted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The arrays that may stand for this task at this position: without and with its optional options."""
    texts = [_FREE_TEXT] if spec.is_prompted else quoted
    inputs = [_input_schema(media, position, files, texts) for media in spec.inputs]
    if not all(inputs):
        return []
    if spec.takes_many:
        inputs[-1] = {"anyOf": [inputs[-1], *_list_schema(spec.inputs[-1], position, files)]}
    required = [{"const": spec.task.value}, *inputs, *(_OPTION_SCHEMA[option] for option in spec.required)]
    longer = [required + [_OPTION_SCHEMA[option] for option in spec.optional[:n]] for n in range(len(spec.optional) + 1)]
    return [{"type": "array", "prefixItems": row, "minItems": len(row), "maxItems": len(row)} for row in longer]


def _references(media: Media, position: int, files: Mapping[str, Media]) -> list[str]:
    return [file for file, kind in files.items() if kind == media] + [f"s{n}" for n in range(1, position)]


def _list_schema(media: Media, position: int, files: Mapping[str, Media]) -> list[dict[str, Any]]:
    """Two to four references; nothing when there are not that many."""
    references = _references(media, position, files)
    if len(references) < 2:
        return []
    return [{"type": "array", "items": {"enum": references}, "minItems": 2, "maxItems": min(4, len(references))}]


def _input_schema(media: Media, position: int, files: Mapping[str, Media], quoted: list[dict[str, Any]]) -> dict[str, Any]:
    """{} when nothing can feed this input."""
    references = _references(media, position, files)
    choices: list[dict[str, Any]] = [{"enum": references}] if references else []
    if media == Media.TEXT:
        choices += quoted
    return {"anyOf": choices} if len(choices) > 1 else choices[0] if choices else {}


def _read_step(step_id: str, form: Any, tasks: Collection[Task]) -> Step:
    if not isinstance(form, list) or not form or form[0] not in tasks:
        raise PlanError(f"{step_id}: a step is [task, inputs, options] with one of these tasks: {', '.join(sorted(tasks))}")
    spec = TASKS[Task(form[0])]
    inputs, options = form[1 : 1 + len(spec.inputs)], form[1 + len(spec.inputs) :]
    if len(options) > len(spec.options):
        raise PlanError(f"{step_id}: {spec.task} takes {len(spec.inputs)} inputs and {len(spec.options)} options")
    return Step(
        step_id,
        spec.task,
        tuple(_read_input(step_id, source) for source in _flat(inputs, spec)),
        {option: _read_option(step_id, option, value) for option, value in zip(spec.options, options, strict=False)},
    )


def _folded(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def _flat(inputs: list[Any], spec: TaskSpec) -> list[Any]:
    if inputs and spec.takes_many and isinstance(inputs[-1], list):
        return [*inputs[:-1], *inputs[-1]]
    return inputs


def _read_input(step_id: str, source: Any) -> StepInput:
    match source:
        case {"text": str(text)} if text.strip():
            return text
        case str() if source[:1] == "f" and source[1:].isdigit():
            return InputFile(source)
        case str() if source[:1] == "s" and source[1:].isdigit():
            return OutputOf(source)
    raise PlanError(f'{step_id}: an input is a file "f1", a step "s1" or {{"text": "..."}}, not {json.dumps(source)[:80]}')


def _read_option(step_id: str, option: Option, value: Any) -> OptionValue:
    match option, value:
        case Option.LABELS, [*labels] if len(labels) > 1 and all(isinstance(label, str) and label for label in labels):
            return tuple(labels)
        case Option.LANGUAGE, str() if value in LANGUAGES:
            return str(value)
        case ((Option.QUESTION | Option.PROMPT), str()) if value.strip():
            return str(value)
        case Option.WANTED, str() if value in WANTED:
            return str(value)
    raise PlanError(f"{step_id}: {json.dumps(value)[:80]} is no value for the option {option}")


def _write_step(step: Step) -> list[Any]:
    spec = TASKS[step.task]
    fixed = len(spec.inputs) - 1
    inputs = [_write_input(source) for source in step.inputs]
    if len(inputs) > len(spec.inputs):
        inputs = [*inputs[:fixed], inputs[fixed:]]
    return [step.task.value, *inputs, *(step.options[option] for option in spec.options if option in step.options)]


def _write_input(source: StepInput) -> Any:
    match source:
        case str():
            return {"text": source}
        case InputFile(id=reference) | OutputOf(step=reference):
            return reference
