"""The four stages of a request, in order: plan, choose, run, answer. The file to read first."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter

from cluster.errors import HuggingGPTError, Overloaded, RunTimeout
from cluster.messages import FromStep, Input, TaskRequest
from cluster.metrics import Stage, count_error, observe_stage, set_runs_in_flight
from cluster.settings import Limits
from cluster.state import ClusterState
from controller.events import Emit, PlanMade, Run
from controller.graph import Dispatch, Family, run_graph
from controller.plan import InputFile, OutputOf, Step, StepInput
from controller.planner import Planner
from controller.request import Request
from controller.responder import Responder
from controller.selector import Choice, Selector


class Pipeline:
    """Answers requests, many at a time."""

    def __init__(
        self,
        *,
        planner: Planner,
        selector: Selector,
        families: Mapping[str, Family],
        responder: Responder,
        limits: Limits,
        cluster_state: Callable[[], Awaitable[ClusterState]],
    ) -> None:
        self._cluster_state = cluster_state
        self._planner = planner
        self._selector = selector
        self._families = families
        self._responder = responder
        self._limits = limits
        self._in_flight = 0
        self._priming = asyncio.Lock()
        self._is_primed = False

    async def answer(self, request: Request, emit: Emit) -> Run:
        """The whole way. A step's failure is in the record; raises HuggingGPTError when there is no answer at all."""
        if self._in_flight >= self._limits.max_runs_in_flight:
            raise Overloaded(f"{self._in_flight} runs are in flight, which is the limit; try again later")
        self._count(+1)
        run = Run(request.id)
        try:
            async with asyncio.timeout(self._limits.run_timeout_s):
                with _stage(run, Stage.TOTAL):
                    await self._answer(request, run, emit)
        except TimeoutError as exc:
            count_error(RunTimeout.code)
            raise RunTimeout(f"the run took longer than {self._limits.run_timeout_s:g} s and was stopped") from exc
        except HuggingGPTError as exc:
            count_error(exc.code)
            raise
        finally:
            self._count(-1)
        return run

    async def plan(self, request: Request, run: Run) -> None:
        """Stages one and two: fills in the run's plan and choices."""
        with _stage(run, Stage.PLAN):
            planned = await self._planner.plan(request)
        run.plan, run.tokens_in, run.tokens_out = planned.plan, planned.tokens_in, planned.tokens_out
        with _stage(run, Stage.SELECT):
            run.choices = await self._selector.choose(planned.plan, request, await self._cluster_state())

    async def ready(self) -> None:
        """Returns when the LLM has read the planner's prompt; at once from the second time on. Raises LanguageModelError."""
        async with self._priming:
            if not self._is_primed:
                await self._planner.prime()
                self._is_primed = True

    async def _answer(self, request: Request, run: Run, emit: Emit) -> None:
        await self.plan(request, run)
        emit(PlanMade(run.plan, run.choices))
        with _stage(run, Stage.EXECUTE):
            dispatches = {step.id: self._dispatch(step, request, run.choices[step.id]) for step in run.plan.steps}
            run.results = await run_graph(run.plan, dispatches, emit)
        with _stage(run, Stage.ANSWER):
            answer = await self._responder.answer(request, run.plan, run.results, emit)
        run.answer, run.answer_was_composed = answer.text, answer.was_composed

    def _dispatch(self, step: Step, request: Request, choice: Choice) -> Dispatch:
        inputs = tuple(_input(source, step, request) for source in step.inputs)
        return Dispatch(
            self._families[choice.family],
            TaskRequest(
                run_id=request.id,
                step_id=step.id,
                task=step.task,
                models=choice.models,
                inputs=inputs,
                options={option.value: value for option, value in step.options.items()},
                timeout_s=self._limits.step_timeout_s,
                cards=choice.cards,
            ),
        )

    def _count(self, change: int) -> None:
        self._in_flight += change
        set_runs_in_flight(self._in_flight)


def _input(source: StepInput, step: Step, request: Request) -> Input:
    match source:
        case str():
            return source
        case InputFile(id=file_id):
            return request.file(file_id).artifact
        case OutputOf(step=step_id):
            return FromStep(step.needs.index(step_id))


@contextmanager
def _stage(run: Run, stage: Stage) -> Iterator[None]:
    """Times a stage for the metrics and for the run's record, also when it fails."""
    started = perf_counter()
    try:
        yield
    finally:
        run.seconds[stage] = perf_counter() - started
        observe_stage(stage, run.seconds[stage])
