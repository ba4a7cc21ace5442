"""Steps that a plan says twice: a small model that loops writes the same step again and again. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from cluster.tasks import TASKS, Family, Option, Task
from controller.planning.plan import OutputOf, Step, StepInput, StepOption

# Whoever asks for two pictures of a cat wants two: these draw another one each time.
_MADE_ANEW = frozenset({Task.TEXT_TO_AUDIO, Task.TEXT_GENERATION, Task.CONVERSATIONAL})
_FAMILIES_ANEW = frozenset({Family.IMAGE_GENERATION, Family.VIDEO})

Source = TypeVar("Source")
_Known = tuple[Task, tuple[StepInput, ...], tuple[tuple[Option, StepOption], ...]]


def without_repeats(steps: Sequence[Step]) -> list[Step]:
    """The steps in their order, of equal ones the first; what needed another needs that one, and a list names each thing once.

    In the order in which they were written, so that the beginning of a plan is read the same as the whole. Tasks that make something new
    each time are left as they are.
    """
    first: dict[_Known, str] = {}
    stands_for: dict[str, str] = {}
    kept: list[Step] = []
    for written in steps:
        step = _pointed(written, stands_for)
        known = (step.task, step.inputs, tuple(sorted(step.options.items())))
        if not _is_made_anew(step.task) and known in first:
            stands_for[step.id] = first[known]
            continue
        first.setdefault(known, step.id)
        kept.append(step)
    return [_pointed(step, stands_for) for step in kept]


def _pointed(step: Step, stands_for: Mapping[str, str]) -> Step:
    def to(source: Source) -> Source | OutputOf:
        return OutputOf(stands_for.get(source.step, source.step)) if isinstance(source, OutputOf) else source

    inputs = tuple(to(source) for source in step.inputs)
    spec = TASKS[step.task]
    if spec.takes_many:
        fixed = len(spec.inputs) - 1
        inputs = (*inputs[:fixed], *dict.fromkeys(inputs[fixed:]))
    return replace(step, inputs=inputs, options={option: to(value) for option, value in step.options.items()})


def _is_made_anew(task: Task) -> bool:
    return task in _MADE_ANEW or TASKS[task].family in _FAMILIES_ANEW
