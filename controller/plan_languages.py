"""What a plan leaves unsaid about languages: a summary of a text is wanted in the language of whoever asks. Pure.

Only where both languages are known: that of the request by its words, that of a file by its text.
"""

from collections.abc import Sequence
from dataclasses import replace

from cluster.language import detect_language
from cluster.tasks import Option, Task
from controller.plan import InputFile, Step
from controller.request import Request


def with_languages(steps: Sequence[Step], request: Request, known: Sequence[str]) -> list[Step]:
    """`known` are the languages that a plan can name."""
    own = detect_language(request.text)
    if own is None or own not in known:
        return list(steps)
    return [replace(step, options={**step.options, Option.LANGUAGE: own}) if _is_foreign(step, request, own) else step for step in steps]


def _is_foreign(step: Step, request: Request, own: str) -> bool:
    """Whether the step sums up a file of another language, and no language was named."""
    if step.task is not Task.SUMMARIZATION or Option.LANGUAGE in step.options:
        return False
    sources = [request.file(source.id) for source in step.inputs if isinstance(source, InputFile) and source.id in request.media]
    return any(file.language not in (None, own) for file in sources)
