"""Dispatch: where a step goes and what it is told. Knows the handle of a family, and waits for nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol

from cluster.messages import FromStep, Input, OptionValue, TaskRequest
from cluster.tasks import SEED_OPTION, TASKS
from controller.asking.request import Request
from controller.choosing.selector import Choice
from controller.execution.budget import Budget
from controller.planning.plan import InputFile, OutputOf, Step, StepInput, StepOption

MOST_ROUTES = 256  # of a family


class Family(Protocol):
    """A handle of a family deployment, as `ray.serve.handle.DeploymentHandle` offers it."""

    def options(self, *, multiplexed_model_id: str) -> Any: ...


class Routes:
    """A Family that makes the handle for a model once: Ray copies one anew for `options` and for a method, which every step would pay."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._routes: dict[str, _Route] = {}

    def options(self, *, multiplexed_model_id: str) -> "_Route":
        if multiplexed_model_id not in self._routes:
            if len(self._routes) >= MOST_ROUTES:
                self._routes.clear()
            self._routes[multiplexed_model_id] = _Route(self._family.options(multiplexed_model_id=multiplexed_model_id))
        return self._routes[multiplexed_model_id]


class _Route:
    """The methods of a replica that a step is sent to."""

    def __init__(self, handle: Any) -> None:
        self.run, self.warm = handle.run, handle.warm


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Where a step goes and what it is told."""

    family: Family
    request: TaskRequest
    until_s: float = inf  # of the event loop's clock: when its reply is given up at the latest
    is_hurried: bool = False  # its run has less time left than a step may take

    def submit(self, upstream: Sequence[Any]) -> Any:
        """The step's future. `upstream` are futures or results of the steps it needs, in the order of `Step.needs`."""
        return self._replica.run.remote(self.request, *upstream)

    def warm(self) -> Any:
        """The future of telling a replica that this step will want its first model."""
        model_id = self.request.models[0]
        return self._replica.warm.remote(model_id, self.request.cards.get(model_id))

    @property
    def shared_until_s(self) -> float:
        """What another run that rides along can count on."""
        return self.until_s if self.is_hurried else inf

    @property
    def model(self) -> tuple[int, str]:
        """Its first model, in its family: what warming is about."""
        return id(self.family), self.request.models[0]

    @property
    def _replica(self) -> Any:
        return self.family.options(multiplexed_model_id=self.request.models[0])


def dispatch_of(
    step: Step, request: Request, choice: Choice, family: Family, *, timeout_s: float, budget: Budget, trace: Mapping[str, str]
) -> Dispatch:
    """`timeout_s`: what a step may take at most, where the run has as long. `trace`: the carrier of the run's span."""
    options = {option.value: _option(value, step, request) for option, value in step.options.items()}
    if request.terms.seed is not None and TASKS[step.task].draws:
        options[SEED_OPTION] = str(request.terms.seed)
    told = TaskRequest(
        run_id=request.id,
        step_id=step.id,
        task=step.task,
        models=choice.models,
        inputs=tuple(_input(source, step, request) for source in step.inputs),
        options=options,
        timeout_s=timeout_s,
        cards=choice.cards,
        until_s=budget.steps_until_s,
        request_id=request.terms.request_id,
        trace=trace,
    )
    return Dispatch(family, told, budget.replies_until_s, is_hurried=budget.steps_left_s < timeout_s)


def _input(source: StepInput, step: Step, request: Request) -> Input:
    match source:
        case str():
            return source
        case InputFile(id=file_id):
            return request.file(file_id).artifact
        case OutputOf(step=step_id):
            return FromStep(step.needs.index(step_id))


def _option(value: StepOption, step: Step, request: Request) -> OptionValue | FromStep:
    """A text file's content, where the option names one: options are short texts, and ride in the message."""
    match value:
        case InputFile(id=file_id):
            return request.file(file_id).text or ""
        case OutputOf(step=step_id):
            return FromStep(step.needs.index(step_id))
        case _:
            return value
