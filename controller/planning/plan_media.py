"""Type constraints that JSON Schema cannot say: an edge joins what a step gives to what another eats, or is moved to one that does."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cluster.tasks import TASKS, Media, Option
from controller.asking.request import Request
from controller.planning.plan import InputFile, OutputOf, Step, StepInput, StepOption


def with_fitting_media(steps: Sequence[Step], request: Request, *, is_last: bool = False) -> list[Step]:
    """The steps, each reference of the wrong medium moved to the latest step before that gives the right one, else to the first such file.

    Inputs that only stand in the wrong order are put right. An instruction that nothing gives is the request itself, and so is a question
    that nothing gives but what it is about. Any other reference that nothing can replace stays, and the plan's check says what is wrong
    with it.
    """
    giving: dict[str, Media] = dict(request.media)
    mended: list[Step] = []
    for step in steps:
        mender = _Mender(step, giving, request, is_last)
        mended.append(replace(step, inputs=mender.inputs(), options={o: mender.option(o, v) for o, v in step.options.items()}))
        giving[step.id] = TASKS[step.task].output
    return mended


class _Mender:
    """For one step; `giving` holds the media of the files and of the steps before it, in order."""

    def __init__(self, step: Step, giving: Mapping[str, Media], request: Request, is_last: bool) -> None:
        self._step = step
        self._spec = TASKS[step.task]
        self._giving = giving
        self._request = request
        self._takes_request = self._spec.is_prompted or is_last

    def inputs(self) -> tuple[StepInput, ...]:
        given = self._step.inputs
        wanted = self._spec.media_of(len(given))
        if len(given) == 2 and wanted[0] != wanted[1] and (self._media(given[0]), self._media(given[1])) == (wanted[1], wanted[0]):
            return given[1], given[0]
        fitting = [self._fitting(source, media) for source, media in zip(given, wanted, strict=False)]
        return (*fitting, *given[len(fitting) :])

    def option(self, option: Option, value: StepOption) -> StepOption:
        """Options are free words to the grammar: they alone can point at a step that is not there yet."""
        if not isinstance(value, InputFile | OutputOf) or self._media(value) is Media.TEXT:
            return value
        instead = self._latest(Media.TEXT)
        return self._request.text if instead is None or instead in self._step.inputs else instead

    def _fitting(self, source: StepInput, media: Media) -> StepInput:
        if self._media(source) in (None, media):
            return source
        instead = self._latest(media)
        if instead is None and media is Media.TEXT and self._takes_request:
            return self._request.text
        return source if instead is None else instead

    def _media(self, source: StepInput) -> Media | None:
        """None where it is not known."""
        match source:
            case str():
                return Media.TEXT
            case OutputOf(step=name) | InputFile(id=name):
                return self._giving.get(name)

    def _latest(self, media: Media) -> InputFile | OutputOf | None:
        fitting = [name for name, kind in self._giving.items() if kind == media]
        files = [name for name in fitting if name in self._request.media]
        steps = [name for name in fitting if name not in self._request.media]
        return OutputOf(steps[-1]) if steps else InputFile(files[0]) if files else None
