"""Request: what a person asks, with every text and medium that a plan may use as a numbered file. Pure data and text."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cluster.chat import Message
from cluster.language import detect_language
from cluster.messages import ArtifactRef
from cluster.tasks import Media, Task
from controller.asking.quotes import DOUBLE, PAIRED, SINGLE, Quote, marked, quotes_in
from controller.asking.terms import Terms

LONG_TEXT_CHARACTERS = 240  # a passage of this length inside a message becomes a file, so that a plan need not copy it
HISTORY_CHARACTERS = 200  # of each earlier message, in the planner's prompt
HISTORY_MESSAGES = 4

_MODEL_NAMED = re.compile(
    r"(?:\b(?:use|using|model|modell|modelo|modèle|nutze|verwende|utilise|usa)|[用模型])[\s:`\"']{1,3}"
    r"([A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,94}\w)(?![\w/])",
    re.IGNORECASE | re.ASCII,
)
# No pattern may look past the next mark of its kind: a message of quotes alone must not take quadratic time.
_PASSAGES = (
    re.compile(r"```[^\n`]*\n([^`]+)```"),
    *(re.compile(marks) for marks in (PAIRED, DOUBLE, SINGLE)),
    re.compile(r"[^\n]{,200}?(?::\s+|：\s*)(?![\"'“„”«»‹「『‘‚״＂])(.+)\Z", re.DOTALL),
    re.compile(r"\A[^\n]+\n\s*\n(.+)\Z", re.DOTALL),
)


@dataclass(frozen=True, slots=True)
class RequestFile:
    """A file the plan can use. `text` is the content of a text file, else None."""

    id: str  # "f1"
    artifact: ArtifactRef
    text: str | None = None

    @property
    def language(self) -> str | None:
        return detect_language(self.text) if self.text else None

    def line(self) -> str:
        """How the planner's prompt shows it."""
        language = f" ({self.language})" if self.language else ""
        return f"{self.id} = {self.artifact.media} {self.artifact.name}{language}"


@dataclass(frozen=True, slots=True)
class Request:
    id: str
    text: str
    files: tuple[RequestFile, ...] = ()
    history: tuple[Message, ...] = ()  # earlier turns, oldest first, without this one
    models: Mapping[Task, str] | None = None  # task → model id, where the person named one for it
    named: tuple[str, ...] = ()  # model ids that the person named, for whatever step they can do
    terms: Terms = Terms()
    quotes: tuple[Quote, ...] = field(init=False, compare=False, repr=False)
    """The texts it quotes, without those that are a file's name."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "quotes", quotes_in(self.text, {file.artifact.name for file in self.files}))

    @property
    def media(self) -> dict[str, Media]:
        return {file.id: file.artifact.media for file in self.files}

    def file(self, file_id: str) -> RequestFile:
        return next(file for file in self.files if file.id == file_id)

    def for_planner(self) -> str:
        """Earlier turns in short, one line a file, then the request with its quotes marked."""
        earlier = [f"{m['role']}: {_short(m['content'])}" for m in self.history[-HISTORY_MESSAGES:]]
        files = [file.line() for file in self.files] or ["no files"]
        return "\n".join([*earlier, *files, marked(self.text, self.quotes)])


def split_passages(text: str) -> tuple[str, tuple[str, ...]]:
    """The request without its long quoted passages, and those passages, in order.

    Each passage leaves `(text N)` behind; N counts from 1. A text with none comes back as it is.
    """
    for pattern in _PASSAGES:
        passages: list[str] = []

        def replaced(match: re.Match[str], found: list[str] = passages) -> str:
            whole = match[match.lastindex or 0]
            passage = whole.strip()
            if len(passage) < LONG_TEXT_CHARACTERS:
                return match.group(0)
            found.append(passage)
            before, after = match.group(0).split(whole, 1)
            return f"{before}(text {len(found)}){after}"

        shorter = pattern.sub(replaced, text)
        if passages:
            return shorter, tuple(passages)
    return text, ()


def models_named(text: str) -> tuple[str, ...]:
    """Model ids that a request tells to use: "with the model openai/whisper-small", "nutze …", "用 …". Each once.

    "use input/output" names none: a model's name has a hyphen, a digit or an underscore.
    """
    return tuple(dict.fromkeys(name for name in _MODEL_NAMED.findall(text) if re.search(r"[-_\d]", name)))


def artifacts_named(messages: Sequence[Message]) -> tuple[str, ...]:
    """sha256 of the artifacts that earlier answers link to, latest last, each once."""
    links = [sha for m in messages for sha in re.findall(r"/v1/artifacts/([0-9a-f]{64})", m["content"])]
    return tuple(dict.fromkeys(links))


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= HISTORY_CHARACTERS else f"{flat[:HISTORY_CHARACTERS]}…"
