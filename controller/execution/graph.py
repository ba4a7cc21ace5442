"""A Plan as Ray's task graph: every step is submitted at once, its arguments the futures of the steps it needs.

Ray's router waits for those futures, and what they stand for goes from replica to replica; nothing here waits before dispatching. What this
file waits for are results: to report them, to cancel a step that is past its time, and to submit again what a dying replica took along.
While the first steps run, the replicas are told which models the later ones want. A step that an earlier run did is not submitted, and one
that another run has on its way is shared. In a run that `holds`, a step whose result may be known once those of the steps it needs are
is held back until they ended.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType, TracebackType
from typing import Any, Self

from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException

from cluster.errors import Overloaded
from cluster.messages import OUT_OF_TIME, REPLICA_DIED, REPLICA_ERROR, TIMEOUT, Done, Failed, Skipped, TaskResult
from controller.execution.dispatch import Dispatch
from controller.execution.events import Emit, StepEnded, StepStarted
from controller.execution.flights import Flight
from controller.execution.sharing import Others
from controller.planning.plan import Plan, Step

GRACE_S = 5.0  # beyond the step's own limit, which its replica keeps: for a replica that no longer answers
TRIES = 3  # a step is submitted this often when replicas die under it
FIRST_WAIT_S, LONGEST_WAIT_S = 0.05, 1.0  # between two tries at a family whose queue is full


async def run_graph(
    plan: Plan,
    dispatches: Mapping[str, Dispatch],
    emit: Emit,
    known: Mapping[str, TaskResult] = MappingProxyType({}),
    others: Others | None = None,
) -> dict[str, TaskResult]:
    """Results by step id, one for every step; those that are `known` are handed on, and neither run nor told.

    A cancelled run leaves the steps still going, which ends those that no other run waits for.
    """
    async with GraphRun(emit, known, others) as graph:
        graph.add([step for step in plan.steps if step.id not in known], dispatches)
    return graph.results(plan)


class GraphRun:
    """A graph that runs, and may grow while it does. Leaving the context waits for every step; an error or a cancel inside it ends them."""

    def __init__(self, emit: Emit, known: Mapping[str, TaskResult] = MappingProxyType({}), others: Others | None = None) -> None:
        self._dispatches: dict[str, Dispatch] = {}
        self._emit = emit
        self._known = dict(known)
        self._others = others or Others()
        self._recall = self._others.recall
        self._flights = self._others.flights
        self._futures: dict[str, Any] = dict(known)  # what a step that needs it is given: a future, or a result
        self._rides: dict[str, tuple[Flight, bool]] = {}  # and whether another run had started it
        self._recipes: dict[str, str] = {}
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
            self._leave_all()

    @property
    def steps(self) -> frozenset[str]:
        """Ids of those that were added."""
        return frozenset(self._dispatches)

    def add(self, steps: Sequence[Step], dispatches: Mapping[str, Dispatch]) -> None:
        """Submits the steps; each that one of them needs is among them, was added before, or is known."""
        self._dispatches |= {step.id: dispatches[step.id] for step in steps}
        left = [step for step in steps if not self._is_made(step)]
        for step in left:
            self._submit(step)
        self._warm(left)
        for step in left:
            self._settled[step.id] = self._tasks.create_task(self._settle(step))

    def withdraw(self) -> None:
        """Leaves every step, and forgets them all: nothing more is told of them."""
        for task in self._settled.values():
            task.cancel()
        self._leave_all()
        self._settled.clear()
        self._told.clear()
        self._known = {step_id: result for step_id, result in self._known.items() if step_id not in self._dispatches}
        self._dispatches.clear()
        self._recipes.clear()
        self._futures = dict(self._known)

    async def settled(self) -> None:
        """Returns when every step that was added has its result."""
        if self._settled:
            await asyncio.wait(self._settled.values())

    def results(self, plan: Plan) -> dict[str, TaskResult]:
        """By step id, of every step of a plan whose run has ended."""
        return {step.id: self._known[step.id] if step.id in self._known else self._settled[step.id].result() for step in plan.steps}

    def _is_made(self, step: Step) -> bool:
        """Whether an earlier run did the step, of inputs that are known; then it has its result now."""
        if (recipe := self._recall.recipe(step, self._recipes)) is not None:
            self._recipes[step.id] = recipe
        if not self._is_first(step) or (result := self._recall.kept_of(step, self._known)) is None:
            return False
        self._known[step.id] = self._futures[step.id] = result
        self._emit(StepEnded(result, reused=True, was_kept=True))
        return True

    def _submit(self, step: Step) -> None:
        """Unless its result may be known, or one it needs was held back for that: then `_done` submits it."""
        if self._others.holds and not self._is_first(step) and self._recall.may_know(step):
            return
        if all(need in self._futures for need in step.needs):
            self._board(step, [self._futures[need] for need in step.needs])

    def _board(self, step: Step, upstream: Sequence[Any]) -> None:
        """`upstream`: futures or results of the steps it needs."""
        dispatch = self._dispatches[step.id]
        ride = self._flights.board(self._recipes.get(step.id), dispatch.shared_until_s, lambda: dispatch.submit(upstream))
        self._rides[step.id], self._futures[step.id] = ride, ride[0].future

    def _warm(self, steps: Sequence[Step]) -> None:
        """Once for every model that only later steps want: one that a first step wants is loaded by that step."""
        self._told |= {self._dispatches[step.id].model for step in steps if self._is_first(step)}
        for dispatch in (self._dispatches[step.id] for step in steps if not self._is_first(step)):
            if dispatch.model not in self._told:
                self._told.add(dispatch.model)
                self._warming.append(asyncio.create_task(_told(dispatch)))

    def _leave_all(self) -> None:
        for warming in self._warming:
            warming.cancel()
        for step_id in tuple(self._rides):
            self._leave(step_id)

    def _leave(self, step_id: str) -> None:
        if ride := self._rides.pop(step_id, None):
            self._flights.leave(ride[0])

    async def _settle(self, step: Step) -> TaskResult:
        """Follows a step to its end and reports it."""
        needed = [self._known[need] if need in self._known else await self._settled[need] for need in step.needs]
        missing = next((result for result in needed if not isinstance(result, Done)), None)
        if missing is not None:
            result: TaskResult = Skipped(step.id, step.task, missing.step_id)
            self._emit(StepEnded(result))
        else:
            result = await self._done(step, needed)
        self._leave(step.id)  # now that its result was told, and kept
        return result

    async def _done(self, step: Step, needed: Sequence[TaskResult]) -> TaskResult:
        if step.id not in self._rides:
            if (known := await self._recall.found(step, {result.step_id: result for result in needed})) is not None:
                self._emit(StepEnded(known, reused=True, was_kept=True))
                return known
            self._board(step, needed)
        self._emit(StepStarted(step.id))
        result = await self._awaited(step, needed)
        self._emit(StepEnded(result, reused=isinstance(result, Done) and self._rides[step.id][1]))
        return result

    def _is_first(self, step: Step) -> bool:
        """Whether nothing that runs now stands before it."""
        return all(need in self._known for need in step.needs)

    async def _awaited(self, step: Step, needed: Sequence[TaskResult]) -> TaskResult:
        """The step's result; submitted again, with the results it needs, when a replica died under it or under a need.

        A family whose queue is full is asked again for as long as the step may take.
        """
        now_s, dispatch = asyncio.get_running_loop().time, self._dispatches[step.id]
        timeout_s = dispatch.request.timeout_s
        patience, tries_left = Patience(min(now_s() + timeout_s, dispatch.until_s)), TRIES
        while tries_left:
            flight, _ = self._rides[step.id]
            try:
                started_s = now_s()
                async with asyncio.timeout_at(min(started_s + timeout_s + GRACE_S, dispatch.until_s)):
                    result = replace(await flight.landed(), step_id=step.id)
                if not isinstance(result, Skipped):
                    return result
                death = "its inputs failed for the run that had started it"  # what this run needs is there: `needed`
            except TimeoutError:
                waited_s = now_s() - started_s
                kind = OUT_OF_TIME if waited_s < timeout_s else TIMEOUT
                return Failed(step.id, step.task, f"no reply within {waited_s:.3g} s", kind)
            except BackPressureError:
                if not await patience.goes_on():
                    return Failed(step.id, step.task, "too many steps are waiting for this family", Overloaded.code)
                tries_left, death = tries_left + 1, ""
            except RayTaskError as exc:
                if not isinstance(exc.cause, (ActorDiedError, ActorUnavailableError)):
                    return Failed(step.id, step.task, f"the replica failed: {exc.cause or exc}", REPLICA_ERROR)
                death = type(exc.cause).__name__
            except (RayError, RayServeException) as exc:
                death = type(exc).__name__
            except asyncio.CancelledError:
                if (task := asyncio.current_task()) and task.cancelling():
                    raise
                death = "it was cancelled from outside"
            tries_left -= 1
            if tries_left:
                self._submit_again(step, needed)
        return Failed(step.id, step.task, f"its replica died {TRIES} times: {death}", REPLICA_DIED)

    def _submit_again(self, step: Step, needed: Sequence[TaskResult]) -> None:
        self._flights.land(self._rides[step.id][0])
        self._leave(step.id)
        self._board(step, needed)


class Patience:
    """With a full queue: waits longer and longer, until a moment of the event loop's clock."""

    def __init__(self, until_s: float) -> None:
        self._until_s = until_s
        self._next_s = FIRST_WAIT_S

    async def goes_on(self) -> bool:
        """After a wait; False, at once, when the time would be over."""
        wait_s = self._next_s * random.uniform(0.5, 1)  # noqa: S311 - so that those who were refused together do not come back together
        if asyncio.get_running_loop().time() + wait_s > self._until_s:
            return False
        await asyncio.sleep(wait_s)
        self._next_s = min(2 * self._next_s, LONGEST_WAIT_S)
        return True


async def _told(dispatch: Dispatch) -> None:
    """A warm-up is a guess: whether it works shows in the step itself."""
    with suppress(RayError, RayServeException):
        await dispatch.warm()
