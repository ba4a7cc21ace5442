"""The four stages of a request, in order: plan, choose, run, answer. The file to read first.

Between the last two, what failed may be planned and run again. A plan that a person sent comes without the first.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from time import perf_counter

from cluster.errors import HuggingGPTError, Overloaded, RunTimeout
from cluster.logs import logger
from cluster.messages import ArtifactRef, Done, Failed, FromStep, Input, OptionValue, TaskRequest
from cluster.metrics import Stage, count_error, observe_stage, set_runs_in_flight
from cluster.settings import Limits
from cluster.state import ClusterState
from cluster.tasks import SEED_OPTION, TASKS
from controller.early_steps import EarlySteps
from controller.estimate import estimates
from controller.events import Emit, Event, PlanMade, Replan, Run, StepEnded
from controller.flights import Flights
from controller.graph import Dispatch, Family, GraphRun, Others, run_graph
from controller.plan import InputFile, OutputOf, Plan, Step, StepInput, StepOption
from controller.plan_json import GivenPlan
from controller.planner import Planner
from controller.replanner import Loss, Replanner, lost, why
from controller.request import Request
from controller.responder import Responder
from controller.results import Kept, Recall
from controller.selector import Choice, Selector

MENDING_SHARE = 0.75  # of the run's time that is left when steps have failed: the rest is for the answer


class Pipeline:
    """Answers requests, many at a time. `results` outlive the runs that made them; `is_stored`: whether an artifact still lies there."""

    def __init__(
        self,
        *,
        planner: Planner,
        replanner: Replanner,
        selector: Selector,
        families: Mapping[str, Family],
        responder: Responder,
        limits: Limits,
        cluster_state: Callable[[], Awaitable[ClusterState]],
        results: Kept[Done],
        is_stored: Callable[[ArtifactRef], bool],
        shares_results: bool = False,
    ) -> None:
        self._cluster_state = cluster_state
        self._planner = planner
        self._replanner = replanner
        self._results = results
        self._is_stored = is_stored
        self._shares_results = shares_results
        self._flights = Flights()
        self._selector = selector
        self._families = families
        self._responder = responder
        self._limits = limits
        self._in_flight = 0
        self._priming = asyncio.Lock()
        self._is_primed = False

    async def answer(self, request: Request, emit: Emit, given: GivenPlan | None = None) -> Run:
        """The whole way, under the plan that is `given` or the planner's. A step's failure is in the record.

        Raises HuggingGPTError when there is no answer at all.
        """
        async with self._admitted():
            run = Run(request.id)
            with _stage(run, Stage.TOTAL):
                await self._answer(request, run, emit, given)
        return run

    async def planned(self, request: Request) -> Run:
        """Stages one and two alone. Raises HuggingGPTError when there is no plan."""
        async with self._admitted():
            run = Run(request.id)
            await self._plan(request, run, None)
        return run

    async def ready(self) -> None:
        """Returns when the LLM has read the planner's prompt; at once from the second time on. Raises LanguageModelError."""
        async with self._priming:
            if not self._is_primed:
                await self._planner.prime()
                self._is_primed = True

    @asynccontextmanager
    async def _admitted(self) -> AsyncIterator[None]:
        """One of the runs in flight, for as long as a run may take; its error is counted. Raises Overloaded or RunTimeout."""
        if self._in_flight >= self._limits.max_runs_in_flight:
            raise Overloaded(f"{self._in_flight} runs are in flight, which is the limit; try again later")
        self._count(+1)
        try:
            async with asyncio.timeout(self._limits.run_timeout_s):
                yield
        except TimeoutError as exc:
            count_error(RunTimeout.code)
            raise RunTimeout(f"the run took longer than {self._limits.run_timeout_s:g} s and was stopped") from exc
        except HuggingGPTError as exc:
            count_error(exc.code)
            raise
        finally:
            self._count(-1)

    async def _plan(self, request: Request, run: Run, given: GivenPlan | None) -> None:
        """Stages one and two: fills in the run's plan and choices, and how long each step should take."""
        if given is None:
            with _stage(run, Stage.PLAN):
                planned = await self._planner.plan(request)
            run.plan, run.tokens_in, run.tokens_out = planned.plan, planned.tokens_in, planned.tokens_out
        else:
            run.plan = given.plan
        with _stage(run, Stage.SELECT):
            state = await self._cluster_state()
            run.choices = await self._selector.choose(run.plan, request, state, given.models if given else {})
            run.estimates = estimates(run.plan, run.choices, state)

    async def _answer(self, request: Request, run: Run, emit: Emit, given: GivenPlan | None) -> None:
        if given is None and self._planner.streams:
            await self._plan_and_execute(request, run, emit)
        else:
            await self._plan(request, run, given)
            emit(PlanMade(run.plan, run.choices))
            await self._execute(request, run, emit, holds=given is not None)
        if given is None:  # who sent a plan wants that one
            await self._mend(request, run, emit)
        with _stage(run, Stage.ANSWER):
            answer = await self._responder.answer(request, run.plan, run.results, emit)
        run.answer, run.answer_was_composed = answer.text, answer.was_composed

    async def _plan_and_execute(self, request: Request, run: Run, emit: Emit) -> None:
        """Stages one to three, overlapping: a step starts as soon as it is written, has its model, and those it needs have started."""
        recall = self._recall(request, run)
        noted = self._noting(run, recall, emit)
        refused: HuggingGPTError | None = None

        async def choose(plan: Plan, steps: Collection[str]) -> dict[str, Choice]:
            choices = await self._selector.choose_at_once(plan, request, await self._cluster_state(), steps)
            chosen = Plan(tuple(step for step in plan.steps if step.id in choices))
            await replace(recall, choices=choices).known(chosen)  # forgets what is no longer stored
            return choices

        async with GraphRun(noted, others=Others(recall, self._flights)) as graph:
            early = EarlySteps(run, graph, choose, lambda step, choice: self._dispatch(step, request, choice), emit)
            try:
                await self._plan_in_full(request, run, graph, early)
            except HuggingGPTError as exc:
                early.withdraw(exc.message)
                refused = exc
            else:
                emit(PlanMade(run.plan, run.choices))
                await recall.known(run.plan)  # forgets what is no longer stored
                left = [step for step in run.plan.steps if step.id not in graph.steps]
                self._note_first_step(run, left)
                graph.add(left, {step.id: self._dispatch(step, request, run.choices[step.id]) for step in left})
                with _stage(run, Stage.EXECUTE):
                    await graph.settled()
        if refused:
            raise refused
        run.results = graph.results(run.plan)

    async def _plan_in_full(self, request: Request, run: Run, graph: GraphRun, early: EarlySteps) -> None:
        """Stages one and two, while `early` starts what is certain. Raises HuggingGPTError when there is no plan."""
        starting = asyncio.create_task(early.start())
        try:
            with _stage(run, Stage.PLAN):
                planned = await self._planner.plan(request, early.tell)
            with _stage(run, Stage.SELECT):
                early.finish()
                await starting
                if any(step.id in graph.steps and step not in planned.plan.steps for step in run.plan.steps):
                    early.withdraw("the whole plan has other steps")
                made = {step_id: run.choices[step_id] for step_id in graph.steps}
                state = await self._cluster_state()
                choices = await self._selector.choose(planned.plan, request, state, made=made)
        finally:
            starting.cancel()
        run.plan, run.tokens_in, run.tokens_out = planned.plan, planned.tokens_in, planned.tokens_out
        run.choices.update(choices)
        run.estimates = estimates(run.plan, run.choices, state)

    async def _execute(self, request: Request, run: Run, emit: Emit, *, holds: bool = False) -> None:
        """Stage three: gives every step that has no result yet its result."""
        recall = self._recall(request, run)
        noted = self._noting(run, recall, emit)
        with _stage(run, Stage.EXECUTE):
            await recall.known(run.plan)  # forgets what is no longer stored
            known = dict(run.results)
            self._note_first_step(run, [step for step in run.plan.steps if step.id not in known])
            dispatches = {step.id: self._dispatch(step, request, run.choices[step.id]) for step in run.plan.steps if step.id not in known}
            run.results = await run_graph(run.plan, dispatches, noted, known, Others(recall, self._flights, holds))

    def _recall(self, request: Request, run: Run) -> Recall:
        return Recall(self._results, request, run.choices, self._is_stored, self._shares_results)

    def _noting(self, run: Run, recall: Recall, emit: Emit) -> Emit:
        def noted(event: Event) -> None:
            if isinstance(event, StepEnded):
                self._note(event, run, recall)
            emit(event)

        return noted

    def _note_first_step(self, run: Run, steps: Sequence[Step]) -> None:
        if steps and run.first_step_s is None:
            run.first_step_s = perf_counter() - run.started_s

    def _note(self, ended: StepEnded, run: Run, recall: Recall) -> None:
        """At once, so that a run that is stopped has what was done, and later runs too."""
        result = ended.result
        run.results[result.step_id] = result
        if ended.reused:
            run.reused.add(result.step_id)
        elif isinstance(result, Done):
            recall.keep(run.plan.step(result.step_id), result, run.results)

    async def _mend(self, request: Request, run: Run, emit: Emit) -> None:
        """While steps fail that another plan may spare: plans again and runs the new steps, and stops in time for an answer."""
        left_s = self._limits.run_timeout_s - (perf_counter() - run.started_s)
        latest = run.plan.steps
        try:
            async with asyncio.timeout(MENDING_SHARE * left_s):
                while len(run.replans) < self._replanner.max_replans and (loss := lost(latest, run.plan, run.results)):
                    if not (latest := await self._planned_again(request, run, loss, emit)):
                        return
                    await self._execute(request, run, emit)
        except TimeoutError:
            for step in run.plan.steps:
                if step.id not in run.results:
                    run.results[step.id] = Failed(step.id, step.task, "it was stopped, so that there was time for an answer", "timeout")
                    emit(StepEnded(run.results[step.id]))

    async def _planned_again(self, request: Request, run: Run, loss: Loss, emit: Emit) -> tuple[Step, ...]:
        """Stages one and two for what is missing: adds steps to the run, none where planning gives none."""
        reason = why(loss, run.choices)
        try:
            with _stage(run, Stage.PLAN):
                more = await self._replanner.plan(request, run.plan, run.results, run.choices, loss)
            with _stage(run, Stage.SELECT):
                choices = await self._selector.choose(more.plan, more.request, await self._cluster_state())
        except HuggingGPTError as exc:
            logger.info("planning again gave nothing", extra={"request_id": run.id, "reason": exc.message})
            run.replans.append(Replan(reason, refused=exc.message))
            return ()
        run.plan, run.choices = Plan((*run.plan.steps, *more.steps)), {**run.choices, **choices}
        run.tokens_in, run.tokens_out = run.tokens_in + more.tokens_in, run.tokens_out + more.tokens_out
        run.replans.append(Replan(reason, tuple(step.id for step in more.steps)))
        emit(PlanMade(Plan(more.steps), choices, len(run.replans), reason))
        return more.steps

    def _dispatch(self, step: Step, request: Request, choice: Choice) -> Dispatch:
        inputs = tuple(_input(source, step, request) for source in step.inputs)
        options = {option.value: _option(value, step, request) for option, value in step.options.items()}
        if request.terms.seed is not None and TASKS[step.task].draws:
            options[SEED_OPTION] = str(request.terms.seed)
        return Dispatch(
            self._families[choice.family],
            TaskRequest(
                run_id=request.id,
                step_id=step.id,
                task=step.task,
                models=choice.models,
                inputs=inputs,
                options=options,
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


def _option(value: StepOption, step: Step, request: Request) -> OptionValue | FromStep:
    """A text file's content, where the option names one: options are short texts, and ride in the message."""
    match value:
        case InputFile(id=file_id):
            return request.file(file_id).text or ""
        case OutputOf(step=step_id):
            return FromStep(step.needs.index(step_id))
        case _:
            return value


@contextmanager
def _stage(run: Run, stage: Stage) -> Iterator[None]:
    """Times a stage for the metrics and, summed up where it comes again, for the run's record; also when it fails."""
    started = perf_counter()
    try:
        yield
    finally:
        took_s = perf_counter() - started
        run.seconds[stage] = run.seconds.get(stage, 0.0) + took_s
        observe_stage(stage, took_s)
