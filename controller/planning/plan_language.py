"""The compact JSON in which the LLM writes a plan: its schema, and the way from that JSON to a checked Plan.

    {"kind": "tasks", "s1": ["translation", "f1", "zh"], "s2": ["text-to-speech", "s1"]}
    {"kind": "chat"} or {"kind": "knowledge"}: no step is needed
    {"kind": "cannot", "task": "text-to-image"}: a task is needed that nobody serves

A step is [task, inputs…, options…]; an input is a file "f1", an earlier step "s1", a text that the request quotes "q1" or {"text": "free"};
where a task takes many, the last input may be a list of files and steps. A question or a prompt is written out, or is a quote, a step or
a file. The schema of step k names only the quotes, the files and the steps before k, and only where
their medium can fit, so a decoder that obeys it cannot point forward, to itself, or at nothing. What JSON Schema cannot say, that
the step pointed at gives the right medium, is mended when the plan is read. The kind stands first because a
small model that has to say it decides better than one that may simply begin with a step.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import lru_cache
from typing import Any

from cluster.errors import PlanError
from cluster.tasks import TASKS, Media, Option, Task, TaskSpec
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
_OPTION_SCHEMA: dict[Option, dict[str, Any]] = {
    Option.LANGUAGE: {"enum": list(LANGUAGES)},
    Option.QUESTION: {"type": "string"},
    Option.PROMPT: {"type": "string"},
    Option.WANTED: {"enum": list(WANTED)},
    Option.LABELS: {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 10},
}
_FREE_TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"], "additionalProperties": False}
_REFERENCE = re.compile(r"[fsq][1-9]\d*", re.ASCII)
_STEP_ID = re.compile(r"s[1-9]\d{0,3}", re.ASCII)
_SHOWN_CHARACTERS = 80  # of a wrong value
SCHEMAS_KEPT = 64
TEXTS_KEPT = 128  # letters and digits alone; a request's are asked for with every step that is read


def plan_schema(tasks: Collection[Task], request: Request, max_steps: int) -> dict[str, Any]:
    """JSON schema of a plan over the deployed tasks, the request's files and its quotes.

    Only keywords that vLLM and llama.cpp share. A small model likes to make up what its steps work on, so a text can only be one that
    the request quotes; it is free where the request has neither quotes nor files. Requests with as many quotes and the same kinds of
    files have one schema, which is made once: so an engine can keep the grammar that it compiled, as vLLM does.
    """
    quotes = tuple(dict.fromkeys(quote.id for quote in request.quotes))
    return _schema(tuple(task for task in Task if task in tasks), tuple(request.media.items()), quotes, max_steps)


@lru_cache(maxsize=SCHEMAS_KEPT)
def _schema(tasks: tuple[Task, ...], named: tuple[tuple[str, Media], ...], quotes: tuple[str, ...], max_steps: int) -> dict[str, Any]:
    files = dict(named)
    quoted: list[dict[str, Any]] = [{"enum": list(quotes)}] if quotes else [] if files else [_FREE_TEXT]
    media = {Media.TEXT, *files.values()}
    definitions: dict[str, Any] = {}
    for position in range(1, max_steps + 1):
        feedable = [TASKS[task] for task in tasks if set(TASKS[task].inputs) <= media]
        definitions[f"s{position}"] = {"anyOf": [form for spec in feedable for form in _forms(spec, position, files, quoted)]}
        media |= {spec.output for spec in feedable}
    declined = list(dict.fromkeys(task for task in HUB_TASKS if task not in {deployed.value for deployed in tasks}))
    return {
        "anyOf": [
            _object({"kind": {"enum": [Kind.CHAT.value, Kind.KNOWLEDGE.value]}}),
            _object({"kind": {"const": Kind.TASKS.value}, **definitions}, required=["kind", "s1"]),
            _object({"kind": {"const": Kind.CANNOT.value}, "task": {"enum": declined}}),
        ]
    }


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


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    needed = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": False}


def _forms(spec: TaskSpec, position: int, files: Mapping[str, Media], quoted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The arrays that may stand for this task at this position: without and with its optional options."""
    texts = [*(each for each in quoted if each is not _FREE_TEXT), _FREE_TEXT] if spec.is_prompted else quoted
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
