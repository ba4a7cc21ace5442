"""What a plan leaves unsaid about languages: a summary of a text is wanted in the language of whoever asks. Pure.

Only where both languages are known: that of the request by its words, that of a file by its text.
"""

from collections.abc import Sequence
from dataclasses import replace

from cluster.language import detect_language
from cluster.tasks import Option, Task
from controller.asking.request import Request
from controller.planning.plan import InputFile, Step


def with_languages(steps: Sequence[Step], request: Request, known: Sequence[str]) -> list[Step]:
    """`known` are the languages that a plan can name."""
    return [_told(step, request, known) for step in steps]


def _told(step: Step, request: Request, known: Sequence[str]) -> Step:
    if step.task is not Task.SUMMARIZATION or Option.LANGUAGE in step.options:
        return step
    files = [request.file(source.id) for source in step.inputs if isinstance(source, InputFile) and source.id in request.media]
    written = {file.language for file in files} - {None}
    if not written or (own := detect_language(request.text)) is None or own in written or own not in known:
        return step
    return replace(step, options={**step.options, Option.LANGUAGE: own})
