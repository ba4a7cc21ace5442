"""A Plan as Ray's task graph: every step is submitted at once, its arguments the futures of the steps it needs.

Ray resolves those futures between the replicas; nothing here waits before dispatching. What this file waits for are
results: to report them, to cancel a step that is past its time, and to submit again what a dying replica took along.
While the first steps run, the replicas are told which models the later ones want. A step whose result may be known from an earlier
run, once that of the steps it needs is, is the exception: it is held back until they ended.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Any, Protocol, Self

from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException

from cluster.messages import Done, Failed, Skipped, TaskRequest, TaskResult
from controller.events import Emit, StepEnded, StepStarted
from controller.plan import Plan, Step

GRACE_S = 5.0  # beyond the step's own limit, which its replica keeps: for a replica that no longer answers
TRIES = 3  # a step is submitted this often when replicas die under it


class Family(Protocol):
    """A handle of a family deployment, as `ray.serve.handle.DeploymentHandle` offers it."""

    def options(self, *, multiplexed_model_id: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Where a step goes and what it is told."""

    family: Family
    request: TaskRequest

    def submit(self, upstream: Sequence[Any]) -> Any:
        """The step's future. `upstream` are futures or results of the steps it needs, in the order of `Step.needs`."""
        return self._replica.run.remote(self.request, *upstream)

    def warm(self) -> Any:
        """The future of telling a replica that this step will want its first model."""
        model_id = self.request.models[0]
        return self._replica.warm.remote(model_id, self.request.cards.get(model_id))

    @property
    def model(self) -> tuple[int, str]:
        """Its first model, in its family: what warming is about."""
        return id(self.family), self.request.models[0]

    @property
    def _replica(self) -> Any:
        return self.family.options(multiplexed_model_id=self.request.models[0])


class Recall(Protocol):
    """What earlier runs made."""

    def may_know(self, step: Step) -> bool:
        """False only where no result could be this step's, whatever it is given."""
        ...

    async def found(self, step: Step, results: Mapping[str, TaskResult]) -> Done | None:
        """The step's result, where the same was made before of what `results` holds of the steps it needs."""
        ...


async def run_graph(
    plan: Plan,
    dispatches: Mapping[str, Dispatch],
    emit: Emit,
    known: Mapping[str, TaskResult] = MappingProxyType({}),
    recall: Recall | None = None,
) -> dict[str, TaskResult]:
    """Results by step id, one for every step; those that are `known` are handed on, and neither run nor told.

    A cancelled run cancels the steps still going.
    """
    async with GraphRun(emit, known, recall) as graph:
        graph.add([step for step in plan.steps if step.id not in known], dispatches)
    return graph.results(plan)


class GraphRun:
    """A graph that runs, and may grow while it does. Leaving the context waits for every step; an error or a cancel inside it ends them."""

    def __init__(self, emit: Emit, known: Mapping[str, TaskResult] = MappingProxyType({}), recall: Recall | None = None) -> None:
        self._dispatches: dict[str, Dispatch] = {}
        self._emit = emit
        self._known = known
        self._recall = recall
        self._futures: dict[str, Any] = dict(known)
        self._warming: list[asyncio.Task[None]] = []
        self._told: set[tuple[int, str]] = set()  # models that a replica was told of, or that a first step wants
        self._settled: dict[str, asyncio.Task[TaskResult]] = {}
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            await self._tasks.__aexit__(kind, error, trace)
        except BaseExceptionGroup:
            if error is None:
                raise
            raise error from None  # what the body raised, as it was
        finally:
            self._cancel_unsettled()

    @property
    def steps(self) -> frozenset[str]:
        """Ids of those that were added."""
        return frozenset(self._settled)

    def add(self, steps: Sequence[Step], dispatches: Mapping[str, Dispatch]) -> None:
        """Submits the steps; each that one of them needs is among them, was added before, or is known."""
        self._dispatches |= {step.id: dispatches[step.id] for step in steps}
        for step in steps:
            self._submit(step)
        self._warm(steps)
        for step in steps:
            self._settled[step.id] = self._tasks.create_task(self._settle(step))

    def withdraw(self) -> None:
        """Cancels every step, and forgets them all: nothing more is told of them."""
        for step_id, task in self._settled.items():
            task.cancel()
            if step_id in self._futures:
                task.add_done_callback(partial(_cancel_with, self._futures[step_id]))
        self._settled.clear()
        self._told.clear()
        self._dispatches.clear()
        self._futures = dict(self._known)

    async def settled(self) -> None:
        """Returns when every step that was added has its result."""
        if self._settled:
            await asyncio.wait(self._settled.values())

    def results(self, plan: Plan) -> dict[str, TaskResult]:
        """By step id, of every step of a plan whose run has ended."""
        return {step.id: self._known[step.id] if step.id in self._known else self._settled[step.id].result() for step in plan.steps}

    def _submit(self, step: Step) -> None:
        """Unless its result may be known, or one it needs was held back for that: then `settle` submits it."""
        waits = not self._is_first(step)
        if waits and self._recall is not None and self._recall.may_know(step):
            return
        if all(need in self._futures for need in step.needs):
            self._futures[step.id] = self._dispatches[step.id].submit([self._futures[need] for need in step.needs])

    def _warm(self, steps: Sequence[Step]) -> None:
        """Once for every model that only later steps want: one that a first step wants is loaded by that step."""
        self._told |= {self._dispatches[step.id].model for step in steps if self._is_first(step)}
        for dispatch in (self._dispatches[step.id] for step in steps if not self._is_first(step)):
            if dispatch.model not in self._told:
                self._told.add(dispatch.model)
                self._warming.append(asyncio.create_task(_told(dispatch)))

    def _cancel_unsettled(self) -> None:
        for warming in self._warming:
            warming.cancel()
        for step_id, task in self._settled.items():
            if task.cancelled() and step_id in self._futures:
                self._futures[step_id].cancel()

    async def _settle(self, step: Step) -> TaskResult:
        """Follows a step to its end and reports it."""
        needed = [self._known[need] if need in self._known else await self._settled[need] for need in step.needs]
        missing = next((result for result in needed if not isinstance(result, Done)), None)
        is_held = step.id not in self._futures
        if missing is not None:
            if not is_held:
                self._futures[step.id].cancel()
            result: TaskResult = Skipped(step.id, step.task, missing.step_id)
        elif is_held and (known := await self._recalled(step, needed)) is not None:
            self._emit(StepEnded(known, reused=True))
            return known
        else:
            if is_held:
                self._futures[step.id] = self._dispatches[step.id].submit(needed)
            self._emit(StepStarted(step.id))
            result = await self._awaited(step, needed)
        self._emit(StepEnded(result))
        return result

    def _is_first(self, step: Step) -> bool:
        """Whether nothing that runs now stands before it."""
        return all(need in self._known for need in step.needs)

    async def _recalled(self, step: Step, needed: Sequence[TaskResult]) -> Done | None:
        return await self._recall.found(step, {result.step_id: result for result in needed}) if self._recall else None

    async def _awaited(self, step: Step, needed: Sequence[TaskResult]) -> TaskResult:
        """The step's result; submitted again, with the results it needs, when a replica died under it or under a need."""
        request = self._dispatches[step.id].request
        for tries_left in reversed(range(TRIES)):
            try:
                async with asyncio.timeout(request.timeout_s + GRACE_S):
                    result: TaskResult = await self._futures[step.id]
                    return result
            except TimeoutError:
                self._futures[step.id].cancel()
                return Failed(step.id, step.task, f"no reply within {request.timeout_s:g} s", "timeout")
            except RayTaskError as exc:
                if not isinstance(exc.cause, (ActorDiedError, ActorUnavailableError)):
                    return Failed(step.id, step.task, f"the replica failed: {exc.cause or exc}", "replica_error")
                death = type(exc.cause).__name__
            except BackPressureError:
                return Failed(step.id, step.task, "too many steps are waiting for this family", "overloaded")
            except (RayError, RayServeException) as exc:
                death = type(exc).__name__
            if not tries_left:
                break
            self._futures[step.id] = self._dispatches[step.id].submit(needed)
        return Failed(step.id, step.task, f"its replica died {TRIES} times: {death}", "replica_died")


def _cancel_with(future: Any, task: asyncio.Task[TaskResult]) -> None:
    """Only when the task has ended: to one that still waits, Ray 2.60 reports a cancelled future as an error, and the cancel is lost."""
    if task.cancelled():
        future.cancel()


async def _told(dispatch: Dispatch) -> None:
    """A warm-up is a guess: whether it works shows in the step itself."""
    with suppress(RayError, RayServeException):
        await dispatch.warm()
