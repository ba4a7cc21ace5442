"""The task table: what each task eats, takes as options, and gives. Names are the hub's pipeline tags."""

from dataclasses import dataclass
from enum import StrEnum


class Media(StrEnum):
    """The four kinds of value that flow between steps."""

    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"


class Task(StrEnum):
    SUMMARIZATION = "summarization"
    TRANSLATION = "translation"
    QUESTION_ANSWERING = "question-answering"
    TEXT_GENERATION = "text-generation"
    TEXT_CLASSIFICATION = "text-classification"
    ZERO_SHOT_CLASSIFICATION = "zero-shot-classification"
    TOKEN_CLASSIFICATION = "token-classification"  # noqa: S105 - a task name
    SENTENCE_SIMILARITY = "sentence-similarity"
    IMAGE_TO_TEXT = "image-to-text"
    IMAGE_CLASSIFICATION = "image-classification"
    OBJECT_DETECTION = "object-detection"
    AUTOMATIC_SPEECH_RECOGNITION = "automatic-speech-recognition"
    TEXT_TO_SPEECH = "text-to-speech"


class Option(StrEnum):
    """Named literal arguments of a step; a task lists those it takes."""

    LANGUAGE = "language"  # ISO 639-1 code: of the output, and of what is spoken in a recording
    QUESTION = "question"
    LABELS = "labels"  # two or more class names
    PROMPT = "prompt"


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One row of the table.

    `inputs` are positional; every input must be fed. `required` options must be given, `optional` ones may be.
    With `takes_many` the last input may be several of its kind.
    """

    task: Task
    does: str  # one line for the planner's prompt
    inputs: tuple[Media, ...]
    output: Media
    required: tuple[Option, ...] = ()
    optional: tuple[Option, ...] = ()
    takes_many: bool = False

    @property
    def options(self) -> tuple[Option, ...]:
        return self.required + self.optional

    def media_of(self, count: int) -> tuple[Media, ...]:
        """What each of `count` inputs must be."""
        return self.inputs + self.inputs[-1:] * (count - len(self.inputs))


_T, _I, _A = Media.TEXT, Media.IMAGE, Media.AUDIO

TASKS: dict[Task, TaskSpec] = {
    spec.task: spec
    for spec in (
        TaskSpec(Task.SUMMARIZATION, "make a text shorter", (_T,), _T, optional=(Option.LANGUAGE,)),
        TaskSpec(Task.TRANSLATION, "translate a text", (_T,), _T, required=(Option.LANGUAGE,)),
        TaskSpec(Task.QUESTION_ANSWERING, "answer a question from a text", (_T,), _T, required=(Option.QUESTION,)),
        TaskSpec(Task.TEXT_GENERATION, "write a new text from results", (_T,), _T, required=(Option.PROMPT,), takes_many=True),
        TaskSpec(Task.TEXT_CLASSIFICATION, "sentiment of a text", (_T,), _T),
        TaskSpec(Task.ZERO_SHOT_CLASSIFICATION, "sort a text into given labels", (_T,), _T, required=(Option.LABELS,)),
        TaskSpec(Task.TOKEN_CLASSIFICATION, "named entities (people, places, dates, sums) in a text", (_T,), _T),
        TaskSpec(Task.SENTENCE_SIMILARITY, "how alike two texts are", (_T, _T), _T),
        TaskSpec(Task.IMAGE_TO_TEXT, "read the text in a picture (OCR)", (_I,), _T),
        TaskSpec(Task.IMAGE_CLASSIFICATION, "what a photograph shows", (_I,), _T),
        TaskSpec(Task.OBJECT_DETECTION, "find and count the objects in a photograph", (_I,), _T),
        TaskSpec(Task.AUTOMATIC_SPEECH_RECOGNITION, "transcribe speech", (_A,), _T, optional=(Option.LANGUAGE,)),
        TaskSpec(Task.TEXT_TO_SPEECH, "read a text aloud", (_T,), _A),
    )
}
