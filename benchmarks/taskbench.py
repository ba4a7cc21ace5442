"""TaskBench's records (microsoft/JARVIS, MIT; Shen et al. 2023) as this project's requests and plans, and back.

TaskBench names files inside the request's words; here they become the request's files, and long quoted passages too, as the HTTP door
makes them. A node's arguments are positional and untyped there; here they are a step's inputs and its question.
"""

import json
import re
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from cluster.errors import PlanError
from cluster.messages import ArtifactRef
from cluster.tasks import TASKS, Media, Option, Task
from controller.asking.request import Request, RequestFile, split_passages
from controller.planning.plan import InputFile, OutputOf, Plan, Step, StepInput, StepOption
from controller.planning.plan_language import LANGUAGES

NAMES = (
    *("Token Classification", "Translation", "Summarization", "Question Answering", "Conversational", "Text Generation"),
    *("Sentence Similarity", "Tabular Classification", "Object Detection", "Image Classification", "Image-to-Image", "Image-to-Text"),
    *("Text-to-Image", "Text-to-Video", "Visual Question Answering", "Document Question Answering", "Image Segmentation"),
    *("Depth Estimation", "Text-to-Speech", "Automatic Speech Recognition", "Audio-to-Audio", "Audio Classification", "Image Editing"),
)
NAME_OF = {Task(name.lower().replace(" ", "-")): name for name in NAMES}
TASK_OF = {name: task for task, name in NAME_OF.items()}
TASKS23 = tuple(task for task in Task if task in NAME_OF)

_EXTENSIONS = {
    Media.IMAGE: ("jpg", "jpeg", "png", "gif", "bmp", "tiff", "webp"),
    Media.AUDIO: ("wav", "mp3", "flac", "ogg", "m4a"),
    Media.VIDEO: ("mp4", "avi", "mov", "mkv", "webm"),
    Media.TEXT: ("txt", "pdf", "csv", "doc", "docx", "md", "json", "xls", "xlsx", "html", "tsv"),
}
_MEDIA_OF = {extension: media for media, extensions in _EXTENSIONS.items() for extension in extensions}
_FILE = re.compile(rf"\b[\w-]+\.(?:{'|'.join(_MEDIA_OF)})\b", re.IGNORECASE)
_NODE = re.compile(r"<node-(\d+)>")
_TONGUE_NAMES = (
    *("english", "chinese", "german", "french", "spanish", "italian", "portuguese", "dutch", "polish", "russian", "ukrainian", "czech"),
    *("swedish", "danish", "finnish", "norwegian", "japanese", "korean", "arabic", "hebrew", "hindi", "turkish", "greek", "hungarian"),
    *("romanian", "bulgarian", "vietnamese", "indonesian", "thai", "persian"),
)
_TONGUES = dict(zip(_TONGUE_NAMES, LANGUAGES, strict=True))
_TONGUE = "|".join(_TONGUES)
_WANTED_TONGUE = [re.compile(rf"{before}\b({_TONGUE})\b", re.IGNORECASE) for before in (r"\b(?:to|into) (?:\w+ )?", r"\bin ", "")]


@dataclass(frozen=True, slots=True)
class Node:
    """A task of a TaskBench plan; an argument is a literal, a file's name or `<node-j>`, the output of node j."""

    task: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    id: str
    type: str  # "single", "chain" or "dag"
    user_request: str
    nodes: tuple[Node, ...]


def read_records(path: Path) -> list[Record]:
    """One record a line. Raises OSError, or ValueError naming the line that is none."""
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            form = json.loads(line)
            nodes = tuple(Node(node["task"], tuple(map(_as_text, node["arguments"]))) for node in form["task_nodes"])
            records.append(Record(form["id"], form["type"], form["user_request"], nodes))
        except (KeyError, TypeError, json.JSONDecodeError) as exc:
            raise ValueError(f"{path.name}, line {number}: no TaskBench record ({type(exc).__name__}: {exc})") from exc
    return records


def request_of(record: Record) -> Request:
    """The request as the HTTP door would read it, had the files that its words name been sent along."""
    text, passages = split_passages(record.user_request)
    names = list(dict.fromkeys(_FILE.findall(text)))
    files = [_file(f"f{n}", name, None) for n, name in enumerate(names, 1)]
    files += [_file(f"f{len(files) + n}", f"text {n}.txt", passage) for n, passage in enumerate(passages, 1)]
    return Request(record.id, text, tuple(files))


def nodes_of(plan: Plan, request: Request) -> tuple[Node, ...]:
    """A plan in TaskBench's form: the inputs, and a question, are its arguments."""
    places = {step.id: place for place, step in enumerate(plan.steps)}

    def argument(source: StepInput | StepOption) -> str:
        match source:
            case OutputOf(step=step_id):
                return f"<node-{places[step_id]}>"
            case InputFile(id=file_id):
                file = request.file(file_id)
                return file.text or file.artifact.name
        return str(source)

    return tuple(
        Node(
            NAME_OF.get(step.task, step.task.value),
            tuple(argument(source) for source in (*step.inputs, *(v for o, v in step.options.items() if o is Option.QUESTION))),
        )
        for step in plan.steps
    )


def gold_plan(record: Record, request: Request) -> Plan | None:
    """The record's plan in this project's terms, for training; None where it cannot be said in them.

    About one in eight cannot: a picture is wanted and a text is given, an argument is in no word of the request, a reference leads nowhere.
    """
    try:
        order = list(TopologicalSorter({i: _needs(node) - {i} for i, node in enumerate(record.nodes)}).static_order())
        steps = {i: f"s{place}" for place, i in enumerate(order, 1)}
        return Plan.checked([_step(i, record, request, steps) for i in order], request.media)
    except (PlanError, CycleError, KeyError, _Unsayable):
        return None


class _Unsayable(Exception):
    """An argument that has no place in this project's plans."""


def _step(index: int, record: Record, request: Request, steps: dict[int, str]) -> Step:
    node = record.nodes[index]
    spec = TASKS[TASK_OF[node.task]]
    given = [(_source(argument, request, steps), _media(argument, record, request)) for argument in node.arguments]
    asks = Option.QUESTION in spec.required
    if asks and spec.inputs == (Media.TEXT,) and len(given) == 2 and _is_question(given[0][0]) and not _is_question(given[1][0]):
        given.reverse()
    inputs = []
    for media in spec.inputs:
        found = next((one for one in given if one[1] == media), None)
        if found is None:
            raise _Unsayable
        given.remove(found)
        inputs.append(found[0])
    options: dict[Option, StepOption] = {}
    if asks and given:
        options[Option.QUESTION] = given.pop(0)[0]
    if given:
        raise _Unsayable
    if spec.task is Task.TRANSLATION:
        options[Option.LANGUAGE] = _wanted_language(record.user_request)
    if not spec.is_prompted and any(isinstance(source, str) and not _is_quoted(source, request) for source in inputs):
        raise _Unsayable
    return Step(steps[index], spec.task, tuple(inputs), options)


def _source(argument: str, request: Request, steps: dict[int, str]) -> StepInput:
    if node := _NODE.fullmatch(argument):
        return OutputOf(steps[int(node[1])])
    for file in request.files:
        if argument in (file.artifact.name, file.text):
            return InputFile(file.id)
    if "<" in argument or _FILE.fullmatch(argument) or not argument.strip():
        raise _Unsayable
    return _unquoted(argument.strip())


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 2 and text[0] == text[-1] and text[0] in "'\"" else text


def _media(argument: str, record: Record, request: Request) -> Media:
    if node := _NODE.fullmatch(argument):
        return TASKS[TASK_OF[record.nodes[int(node[1])].task]].output if int(node[1]) < len(record.nodes) else Media.TEXT
    return next((file.artifact.media for file in request.files if file.artifact.name == argument), Media.TEXT)


def _needs(node: Node) -> set[int]:
    return {int(found[1]) for argument in node.arguments if (found := _NODE.fullmatch(argument))}


def _is_question(source: StepInput) -> bool:
    return isinstance(source, str) and source.endswith("?")


def _is_quoted(text: str, request: Request) -> bool:
    return any(quote.text == text for quote in request.quotes) or (not request.files and not request.quotes and text in request.text)


def _wanted_language(text: str) -> str:
    found = next(filter(None, (pattern.findall(text) for pattern in _WANTED_TONGUE)), ["english"])
    return _TONGUES[found[0].lower()]


def _file(file_id: str, name: str, text: str | None) -> RequestFile:
    media = _MEDIA_OF[name.rpartition(".")[2].lower()]
    return RequestFile(file_id, ArtifactRef("0" * 64, f"{media}/x", len(text or ""), name), text)


def _as_text(argument: Any) -> str:
    return argument if isinstance(argument, str) else json.dumps(argument)
