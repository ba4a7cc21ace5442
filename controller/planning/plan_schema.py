"""The JSON schema of the plan language (plan_language.py), which the engine decodes under. Pure.

The schema of step k names only the quotes, the files and the steps before k, and only where their medium can fit, so a decoder that obeys
it cannot point forward, to itself, or at nothing. It is small, because it goes with every request and some engines compile it each time:
tasks of one shape share a form, and what an input may be is defined once.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cluster.tasks import TASKS, Media, Option, Task, TaskSpec
from controller.asking.request import Request
from controller.planning.plan_language import HUB_TASKS, LANGUAGES, WANTED, Kind

SCHEMAS_KEPT = 64
_TEXT = {"type": "string"}
_FREE_TEXT = {"type": "object", "properties": {"text": _TEXT}, "required": ["text"], "additionalProperties": False}
_OPTION_SCHEMA: dict[Option, dict[str, Any]] = {
    Option.LANGUAGE: {"enum": list(LANGUAGES)},
    Option.QUESTION: _TEXT,
    Option.PROMPT: _TEXT,
    Option.WANTED: {"enum": list(WANTED)},
    Option.LABELS: {"type": "array", "items": _TEXT, "minItems": 2, "maxItems": 10},
}

Schema = dict[str, Any]


def plan_schema(tasks: Collection[Task], request: Request, max_steps: int) -> Schema:
    """JSON schema of a plan over the deployed tasks, the request's files and its quotes.

    Only keywords that vLLM and llama.cpp share. A small model likes to make up what its steps work on, so a text can only be one that
    the request quotes; it is free where the request has neither quotes nor files. Requests with as many quotes and the same kinds of
    files have one schema, which is made once: so an engine can keep the grammar that it compiled, as vLLM does.
    """
    quotes = tuple(dict.fromkeys(quote.id for quote in request.quotes))
    return _schema(tuple(task for task in Task if task in tasks), tuple(request.media.items()), quotes, max_steps)


@lru_cache(maxsize=SCHEMAS_KEPT)
def _schema(tasks: tuple[Task, ...], named: tuple[tuple[str, Media], ...], quotes: tuple[str, ...], max_steps: int) -> Schema:
    files = dict(named)
    media = {Media.TEXT, *files.values()}
    defined = _Definitions()
    steps: Schema = {}  # those that some task can be
    for position in range(1, max_steps + 1):
        feedable = [TASKS[task] for task in tasks if set(TASKS[task].inputs) <= media]
        if forms := _Place(position, files, quotes, defined).forms(feedable):
            steps[f"s{position}"] = {"anyOf": forms}
        media |= {spec.output for spec in feedable}
    declined = list(dict.fromkeys(task for task in HUB_TASKS if task not in {deployed.value for deployed in tasks}))
    return {
        "anyOf": [
            _object({"kind": {"enum": [Kind.CHAT.value, Kind.KNOWLEDGE.value]}}),
            *([_object({"kind": {"const": Kind.TASKS.value}, **steps}, required=["kind", "s1"])] if "s1" in steps else []),
            _object({"kind": {"const": Kind.CANNOT.value}, "task": {"enum": declined}}),
        ],
        "$defs": defined.by_name,
    }


def _object(properties: Schema, required: list[str] | None = None) -> Schema:
    needed = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": False}


class _Definitions:
    """Schemas by name, each distinct one once."""

    def __init__(self) -> None:
        self.by_name: dict[str, Schema] = {}
        self._names: dict[str, str] = {}

    def __call__(self, schema: Schema) -> Schema:
        """A reference to it; itself where that is no longer."""
        text = json.dumps(schema)
        name = self._names.get(text, f"d{len(self._names)}")
        reference = {"$ref": f"#/$defs/{name}"}
        if len(text) <= len(json.dumps(reference)):
            return schema
        self._names[text] = name
        self.by_name[name] = schema
        return reference


@dataclass(frozen=True, slots=True)
class _Place:
    """A step's place in the plan, and what can be named there."""

    position: int
    files: Mapping[str, Media]
    quotes: Sequence[str]
    defined: _Definitions

    def forms(self, specs: Iterable[TaskSpec]) -> list[Schema]:
        """The arrays that a step may be: one for all tasks that take the same after their name."""
        tasks: dict[str, list[str]] = {}
        rests: dict[str, list[Schema]] = {}
        for spec in specs:
            for rest in self._rests(spec):
                key = json.dumps(rest)
                tasks.setdefault(key, []).append(spec.task.value)
                rests[key] = rest
        rows = [[{"enum": tasks[key]}, *rest] for key, rest in rests.items()]
        return [{"type": "array", "prefixItems": row, "minItems": len(row), "maxItems": len(row)} for row in rows]

    def _rests(self, spec: TaskSpec) -> Iterator[list[Schema]]:
        """What may follow the task's name: its inputs, then its options without and with those that it may have."""
        inputs = [self._input(media, is_free=spec.is_prompted) for media in spec.inputs]
        if not all(inputs):
            return
        if spec.takes_many:
            inputs[-1] = self._one_or_many(spec.inputs[-1], inputs[-1])
        required = [*inputs, *(self.defined(_OPTION_SCHEMA[option]) for option in spec.required)]
        for n in range(len(spec.optional) + 1):
            yield required + [self.defined(_OPTION_SCHEMA[option]) for option in spec.optional[:n]]

    def _input(self, media: Media, *, is_free: bool) -> Schema:
        """{} when nothing can feed this input. `is_free`: a text may be made up although the request quotes one or has files."""
        choices = [self.defined({"enum": references})] if (references := self._references(media)) else []
        if media == Media.TEXT:
            choices += [{"enum": list(self.quotes)}] if self.quotes else []
            choices += [self.defined(_FREE_TEXT)] if is_free or not (self.quotes or self.files) else []
        return self.defined(_any_of(choices)) if choices else {}

    def _one_or_many(self, media: Media, one: Schema) -> Schema:
        """That input, or a list of two to four references where there are as many."""
        references = self._references(media)
        if len(references) < 2:
            return one
        items = self.defined({"enum": references})
        return self.defined(_any_of([one, {"type": "array", "items": items, "minItems": 2, "maxItems": min(4, len(references))}]))

    def _references(self, media: Media) -> list[str]:
        return [file for file, kind in self.files.items() if kind == media] + [f"s{n}" for n in range(1, self.position)]


def _any_of(choices: list[Schema]) -> Schema:
    return {"anyOf": choices} if len(choices) > 1 else choices[0]
