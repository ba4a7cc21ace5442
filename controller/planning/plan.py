"""Plan: a directed acyclic graph of steps. A Plan that exists can be run: it was checked when it was made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

from cluster.errors import PlanError
from cluster.messages import OptionValue
from cluster.tasks import TASKS, Media, Option, Task

REFERRING = frozenset({Option.QUESTION, Option.PROMPT})  # options that may be what a step gave or a file says


@dataclass(frozen=True, slots=True)
class OutputOf:
    """Stands for what another step gives."""

    step: str


@dataclass(frozen=True, slots=True)
class InputFile:
    """Stands for a file of the request, by its number in the prompt: "f1"."""

    id: str


StepInput = str | InputFile | OutputOf  # str: a text quoted from the request
StepOption = OptionValue | InputFile | OutputOf  # a question may be what a recording asks


@dataclass(frozen=True, slots=True)
class Step:
    id: str
    task: Task
    inputs: tuple[StepInput, ...]
    options: Mapping[Option, StepOption] = field(default_factory=dict)
    needs: tuple[str, ...] = field(init=False, compare=False, repr=False)
    """Ids of the steps this one waits for, each once, in the order of the inputs and options."""

    def __post_init__(self) -> None:
        given = (*self.inputs, *self.options.values())
        needs = tuple(dict.fromkeys(source.step for source in given if isinstance(source, OutputOf)))
        object.__setattr__(self, "needs", needs)  # made once: a graph asks for it again and again


@dataclass(frozen=True, slots=True)
class Plan:
    steps: tuple[Step, ...] = ()  # each step comes after every step it needs
    _by_id: Mapping[str, Step] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_id", {step.id: step for step in self.steps})

    @classmethod
    def checked(cls, steps: Sequence[Step], files: Mapping[str, Media]) -> "Plan":
        """Orders the steps. Raises PlanError for shared ids, cycles, unknown references, wrong media or missing options."""
        by_id = {step.id: step for step in steps}
        if len(by_id) < len(steps):
            raise PlanError("two steps share an id")
        for step in steps:
            _check_step(step, by_id, files)
        try:
            order = list(TopologicalSorter({step.id: step.needs for step in steps}).static_order())
        except CycleError as exc:
            raise PlanError(f"steps wait for each other: {' -> '.join(exc.args[1])}") from exc
        return cls(tuple(by_id[step_id] for step_id in order))

    def step(self, step_id: str) -> Step:
        return self._by_id[step_id]

    @property
    def last_steps(self) -> tuple[Step, ...]:
        """The steps that no other step needs."""
        needed = {need for step in self.steps for need in step.needs}
        return tuple(step for step in self.steps if step.id not in needed)

    def as_json(self) -> list[dict[str, Any]]:
        return [
            {
                "id": step.id,
                "task": step.task.value,
                "inputs": [_input_as_json(source) for source in step.inputs],
                "options": {option.value: _option_as_json(value) for option, value in step.options.items()},
            }
            for step in self.steps
        ]


def _check_step(step: Step, steps: Mapping[str, Step], files: Mapping[str, Media]) -> None:
    spec = TASKS[step.task]
    if len(step.inputs) < len(spec.inputs) or (len(step.inputs) > len(spec.inputs) and not spec.takes_many):
        wanted = ", ".join(spec.inputs)
        raise PlanError(f"{step.id}: {step.task} takes {len(spec.inputs)} inputs ({wanted}), not {len(step.inputs)}")
    for source, wanted_media in zip(step.inputs, spec.media_of(len(step.inputs)), strict=True):
        given = _media_of(step, source, steps, files)
        if given != wanted_media:
            raise PlanError(f"{step.id}: {step.task} eats {wanted_media}, but {_name(source)} is {given}")
    if missing := [option for option in spec.required if not step.options.get(option)]:
        raise PlanError(f"{step.id}: {step.task} needs the option {missing[0]}")
    if unknown := [option for option in step.options if option not in spec.options]:
        raise PlanError(f"{step.id}: {step.task} takes no option {unknown[0]}")
    for option, value in step.options.items():
        if isinstance(value, InputFile | OutputOf):
            _check_referring(step, option, value, steps, files)


def _check_referring(
    step: Step, option: Option, value: InputFile | OutputOf, steps: Mapping[str, Step], files: Mapping[str, Media]
) -> None:
    if option not in REFERRING:
        raise PlanError(f"{step.id}: the option {option} is written out, it cannot be {_name(value)}")
    if (given := _media_of(step, value, steps, files)) != Media.TEXT:
        raise PlanError(f"{step.id}: the option {option} is text, but {_name(value)} is {given}")


def _media_of(step: Step, source: StepInput, steps: Mapping[str, Step], files: Mapping[str, Media]) -> Media:
    match source:
        case str():
            return Media.TEXT
        case InputFile(id=file_id):
            if file_id not in files:
                raise PlanError(f"{step.id}: there is no file {file_id}")
            return files[file_id]
        case OutputOf(step=step_id):
            if step_id not in steps:
                raise PlanError(f"{step.id}: no step has id {step_id}")
            return TASKS[steps[step_id].task].output


def _name(source: StepInput) -> str:
    match source:
        case str():
            return "the quoted text"
        case InputFile(id=file_id):
            return file_id
        case OutputOf(step=step_id):
            return step_id


def _input_as_json(source: StepInput) -> dict[str, str]:
    match source:
        case str():
            return {"text": source}
        case InputFile(id=file_id):
            return {"file": file_id}
        case OutputOf(step=step_id):
            return {"step": step_id}


def _option_as_json(value: StepOption) -> Any:
    return _input_as_json(value) if isinstance(value, InputFile | OutputOf) else value
