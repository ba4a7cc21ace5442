"""The suite as data: media.yaml and suite.yaml, checked when they are read. Says what is expected; checks.py says whether it came."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cluster.language import NAMES
from cluster.tasks import Task

HERE = Path(__file__).parent


class Kind(StrEnum):
    SINGLE = "single"
    CHAIN = "chain"
    LONG = "long"
    FAN_OUT = "fan_out"
    LANGUAGES = "languages"
    SMALL_TALK = "small_talk"
    KNOWLEDGE = "knowledge"
    IMPOSSIBLE = "impossible"
    FILES = "files"
    CONVERSATION = "conversation"


def _several(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


AnyWords = Annotated[tuple[str, ...], BeforeValidator(_several), Field(min_length=1)]  # one of them is enough
AnyTask = Annotated[tuple[Task, ...], BeforeValidator(_several), Field(min_length=1)]
Range = tuple[float, float]  # both ends included


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Medium(_Form):
    """A file that a request brings: exactly one of the first five says what it is made of."""

    photographs: tuple[str, ...] | None = None  # of scikit-image; several stand side by side
    lines: tuple[str, ...] | None = None  # drawn on a page; "left | right" is a line of two columns
    speak: str | None = None  # read aloud by the service's own voices
    recording: str | None = None  # of moonshine-voice
    text: str | None = None
    language: str = "en"
    says: str | None = None  # of a recording

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if sum(made is not None for made in (self.photographs, self.lines, self.speak, self.recording, self.text)) != 1:
            raise ValueError("a medium is exactly one of photographs, lines, speak, recording and text")
        if self.lines and not all(line.isascii() for line in self.lines):
            raise ValueError("Pillow's own font has ASCII letters only")
        return self

    @property
    def truth(self) -> str | None:
        """The words in it."""
        drawn = "\n".join(self.lines).replace("|", " ") if self.lines else None
        return self.text or self.speak or self.says or drawn


class WordErrors(_Form):
    file: str  # whose words are the truth
    most: float = Field(ge=0, lt=1)


class Shorter(_Form):
    file: str
    share: float = Field(gt=0, le=1)  # of the file's words, which the text must stay below


class TextExpected(_Form):
    """Of the answer, or of what a step gave. Everything must hold; `contains` counts words up, each with its equals."""

    contains: tuple[AnyWords, ...] = ()
    absent: tuple[str, ...] = ()
    numbers: tuple[float, ...] = ()
    language: str | None = None  # of an answer: of its first paragraph
    words: Range | None = None  # how many
    word_errors: WordErrors | None = None
    shorter: Shorter | None = None


class SoundExpected(_Form):
    """Of one of the recordings that were made."""

    seconds: Range
    language: str | None = None  # in which it was spoken
    heard: tuple[AnyWords, ...] = ()  # what Whisper base understands of it


class Expected(_Form):
    answer: TextExpected = TextExpected()
    steps: dict[Task, tuple[TextExpected, ...]] = {}  # each must be met by some step of that task
    sounds: tuple[SoundExpected, ...] = ()  # each by a recording of its own
    detects: dict[str, Range] = {}  # label → how many of it
    top_label: AnyWords | None = None  # the first label of a classification
    similarity: Range | None = None
    feeds: tuple[tuple[Task, Task], ...] = ()  # a step of the second works on what one of the first gave, directly or not
    avoids: tuple[Task, ...] = ()
    runs_nothing: bool = False
    declined: bool = False  # nothing is run, and the person is told that it cannot be done


class Request(_Form):
    """What a person says, turn by turn, with the files of the first turn. The last turn is judged."""

    id: str
    kind: Kind
    turns: Annotated[tuple[str, ...], BeforeValidator(_several), Field(min_length=1)]
    expect: Expected
    tasks: tuple[AnyTask, ...] = ()  # the plan must have each; of several, one: the first is the usual one
    files: tuple[str, ...] = ()
    language: str = "en"

    @model_validator(mode="after")
    def _can_fail(self) -> Self:
        if self.expect == Expected() and not self.tasks:
            raise ValueError(f"{self.id} expects nothing")
        if self.language not in NAMES:
            raise ValueError(f"{self.id}: the language {self.language} is not known")
        return self


class Suite(_Form):
    media: dict[str, Medium]
    requests: tuple[Request, ...]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        ids = [request.id for request in self.requests]
        if twice := sorted({one for one in ids if ids.count(one) > 1}):
            raise ValueError(f"two requests are called {twice[0]}")
        for request in self.requests:
            named = {*request.files, *_compared(request.expect)}
            if unknown := sorted(named - self.media.keys()):
                raise ValueError(f"{request.id}: there is no medium {unknown[0]}")
            if wordless := sorted(name for name in _compared(request.expect) if not self.media[name].truth):
                raise ValueError(f"{request.id}: nobody knows the words of {wordless[0]}")
        return self

    @property
    def truths(self) -> dict[str, str]:
        """The words of each file that has some."""
        return {name: medium.truth for name, medium in self.media.items() if medium.truth}


def read_suite(folder: Path = HERE) -> Suite:
    """Raises pydantic's ValidationError, a ValueError, for a suite that does not hold together."""
    media, requests = (yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8")) for name in ("media", "suite"))
    return Suite(media=media, requests=requests)


def _compared(expected: Expected) -> set[str]:
    """The files whose words an expectation needs."""
    texts = [expected.answer, *(text for wanted in expected.steps.values() for text in wanted)]
    return {form.file for text in texts for form in (text.word_errors, text.shorter) if form}
