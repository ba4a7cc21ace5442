"""The four stages of a request, in order: plan, choose, run, answer. The file to read first.

Between the last two, what failed may be planned and run again. A plan that a person sent comes without the first.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace

from cluster.errors import HuggingGPTError
from cluster.logs import logger
from cluster.memory_share import memory_share
from cluster.messages import OUT_OF_TIME, ArtifactRef, Done, Failed
from cluster.metrics import Stage, count_replan, count_step, observe_first_step
from cluster.settings import Limits
from cluster.state import ClusterState
from controller.answering.responder import Responder
from controller.asking.request import Request
from controller.choosing.estimate import estimates
from controller.choosing.selector import Choice, Selector
from controller.execution.admission import Admission
from controller.execution.dispatch import Dispatch, Family, Routes, dispatch_of
from controller.execution.early_steps import EarlySteps
from controller.execution.events import Emit, Event, PlanMade, StepEnded, StepStarted
from controller.execution.flights import Flights
from controller.execution.graph import GraphRun, run_graph
from controller.execution.latencies import Latencies
from controller.execution.replanner import Addition, Loss, Replanner, lost, why
from controller.execution.results import Kept, Recall
from controller.execution.run import Replan, Run
from controller.execution.run_spans import DONE, describe_run, note_step, planning_span, run_span
from controller.execution.sharing import Others
from controller.planning.plan import Plan, Step
from controller.planning.plan_json import GivenPlan
from controller.planning.planner import Planned, Planner

STOPPED = "it was stopped, so that there was time for an answer"
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
        self._families = {name: Routes(family) for name, family in families.items()}
        self._responder = responder
        self._limits = limits
        self._admission = Admission(limits, memory_share)
        self._priming = asyncio.Lock()
        self._is_primed = False
        self.latencies = Latencies()

    async def answer(self, request: Request, emit: Emit, given: GivenPlan | None = None, run: Run | None = None) -> Run:
        """The whole way, under the plan that is `given` or the planner's. A step's failure is in the record.

        `run`: the record to write, where somebody wants to read it meanwhile. Raises HuggingGPTError when there is no answer at all.
        """
        run = run or Run(request.id)
        async with self._admission.admitted(request.terms.timeout_s) as run.budget:
            with run_span(request) as run.span:
                try:
                    with run.stage(Stage.TOTAL):
                        await self._answer(request, run, emit, given)
                    run.span.describe(DONE)
                finally:
                    run.add_up()
                    describe_run(run.span, run.results, run.tokens_in, run.tokens_out)
                    if run.first_step_s is not None:
                        observe_first_step(run.first_step_s)
                    self.latencies.add(run.seconds)
        return run

    async def planned(self, request: Request) -> Run:
        """Stages one and two alone. Raises HuggingGPTError when there is no plan."""
        async with self._admission.admitted(request.terms.timeout_s) as budget:
            with planning_span(request) as span:
                run = Run(request.id, budget, span)
                await self._plan(request, run, None)
        return run

    async def ready(self) -> None:
        """Returns when the LLM has read the planner's prompt; at once from the second time on. Raises LanguageModelError."""
        async with self._priming:
            if not self._is_primed:
                await self._planner.prime()
                self._is_primed = True

    async def tell_on(self) -> None:
        """For ever: how many runs are in flight, for the metrics."""
        await self._admission.tell_on()

    @property
    def runs_in_flight(self) -> int:
        return self._admission.in_flight

    def retry_after_s(self) -> int:
        """When whoever is refused should come again."""
        return self._admission.retry_after_s()

    async def _plan(self, request: Request, run: Run, given: GivenPlan | None) -> None:
        """Stages one and two: fills in the run's plan and choices, and how long each step should take."""
        if given is None:
            with run.stage(Stage.PLAN):
                planned = await self._planner.plan(request)
            self._count_planning(run, planned)
            run.plan = planned.plan
        else:
            run.plan = given.plan
        with run.stage(Stage.SELECT):
            state = await self._cluster_state()
            wanted = given.models if given else {}
            run.choices = await self._selector.choose(run.plan, request, state, wanted, left_s=run.budget.steps_left_s)
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
        with run.stage(Stage.ANSWER):
            answer = await self._responder.answer(request, run.plan, run.results, emit, within_s=run.budget.words_left_s)
        run.answer, run.answer_was_composed = answer.text, answer.was_composed

    async def _plan_and_execute(self, request: Request, run: Run, emit: Emit) -> None:
        """Stages one to three, overlapping: a step starts as soon as it is written, has its model, and those it needs have started."""
        recall = self._recall(request, run)
        noted = self._noting(run, recall, emit)
        refused: HuggingGPTError | None = None

        async def choose(plan: Plan, steps: Collection[str]) -> dict[str, Choice]:
            state = await self._cluster_state()
            choices = await self._selector.choose_at_once(plan, request, state, steps, left_s=run.budget.steps_left_s)
            every = {**run.choices, **choices}
            so_far = Plan(tuple(step for step in plan.steps if step.id in every))
            await replace(recall, choices=every).known(so_far)  # forgets what is no longer stored
            return choices

        async with GraphRun(noted, others=Others(recall, self._flights)) as graph:
            early = EarlySteps(run, graph, choose, lambda step, choice: self._dispatch(step, request, choice, run), emit)
            try:
                await self._plan_in_full(request, run, graph, early)
            except HuggingGPTError as exc:
                early.withdraw(exc.message)
                refused = exc
            else:
                emit(PlanMade(run.plan, run.choices))
                with run.stage(Stage.EXECUTE):
                    await recall.known(run.plan)  # forgets what is no longer stored
                    left = [step for step in run.plan.steps if step.id not in graph.steps]
                    self._note_first_step(run, left)
                    graph.add(left, {step.id: self._dispatch(step, request, run.choices[step.id], run) for step in left})
                    await graph.settled()
        if refused:
            raise refused
        run.results = graph.results(run.plan)

    async def _plan_in_full(self, request: Request, run: Run, graph: GraphRun, early: EarlySteps) -> None:
        """Stages one and two, while `early` starts what is certain. Raises HuggingGPTError when there is no plan."""
        starting = asyncio.create_task(early.start())
        try:
            with run.stage(Stage.PLAN):
                planned = await self._planner.plan(request, early.tell)
            with run.stage(Stage.SELECT):
                early.finish()
                await starting
                if any(step.id in graph.steps and step not in planned.plan.steps for step in run.plan.steps):
                    early.withdraw("the whole plan has other steps")
                made = {step_id: run.choices[step_id] for step_id in graph.steps}
                state = await self._cluster_state()
                choices = await self._selector.choose(planned.plan, request, state, made=made, left_s=run.budget.steps_left_s)
        finally:
            starting.cancel()
        self._count_planning(run, planned)
        run.plan = planned.plan
        run.choices.update(choices)
        run.estimates = estimates(run.plan, run.choices, state)

    async def _execute(self, request: Request, run: Run, emit: Emit, *, holds: bool = False) -> None:
        """Stage three: gives every step that has no result yet its result."""
        recall = self._recall(request, run)
        noted = self._noting(run, recall, emit)
        with run.stage(Stage.EXECUTE):
            await recall.known(run.plan)  # forgets what is no longer stored
            known = dict(run.results)
            left = [step for step in run.plan.steps if step.id not in known]
            self._note_first_step(run, left)
            dispatches = {step.id: self._dispatch(step, request, run.choices[step.id], run) for step in left}
            run.results = await run_graph(run.plan, dispatches, noted, known, Others(recall, self._flights, holds))

    def _recall(self, request: Request, run: Run) -> Recall:
        return Recall(self._results, request, run.choices, self._is_stored, self._shares_results)

    def _noting(self, run: Run, recall: Recall, emit: Emit) -> Emit:
        def noted(event: Event) -> None:
            match event:
                case StepStarted(step=step_id):
                    run.step_started(step_id)
                case StepEnded():
                    self._note(event, run, recall)
            emit(event)

        return noted

    def _note_first_step(self, run: Run, steps: Sequence[Step]) -> None:
        if steps and run.first_step_s is None:
            run.first_step_s = run.elapsed_s

    def _note(self, ended: StepEnded, run: Run, recall: Recall) -> None:
        """At once, so that a run that is stopped has what was done, and later runs too."""
        result = ended.result
        run.results[result.step_id] = result
        run.step_ended(result.step_id)
        count_step(result, reused=ended.reused, was_kept=ended.was_kept)
        note_step(run.span, ended)
        if ended.reused:
            run.reused.add(result.step_id)
        if isinstance(result, Done) and not ended.was_kept:
            recall.keep(run.plan.step(result.step_id), result, run.results)

    async def _mend(self, request: Request, run: Run, emit: Emit) -> None:
        """While steps fail that another plan may spare: plans again and runs the new steps, and stops in time for an answer."""
        latest = run.plan.steps
        if run.budget.steps_left_s <= 0:
            return
        try:
            async with asyncio.timeout(MENDING_SHARE * run.budget.left_s):
                while len(run.replans) < self._replanner.max_replans and (loss := lost(latest, run.plan, run.results)):
                    if not (latest := await self._planned_again(request, run, loss, emit)):
                        return
                    await self._execute(request, run, emit)
        except TimeoutError:
            for step in run.plan.steps:
                if step.id not in run.results:
                    run.results[step.id] = Failed(step.id, step.task, STOPPED, OUT_OF_TIME)
                    emit(StepEnded(run.results[step.id]))
                    count_step(run.results[step.id])

    async def _planned_again(self, request: Request, run: Run, loss: Loss, emit: Emit) -> tuple[Step, ...]:
        """Stages one and two for what is missing: adds steps to the run, none where planning gives none."""
        reason = why(loss, run.choices)
        try:
            with run.stage(Stage.PLAN):
                more = await self._replanner.plan(request, run.plan, run.results, run.choices, loss)
            with run.stage(Stage.SELECT):
                choices = await self._selector.choose(more.plan, more.request, await self._cluster_state(), left_s=run.budget.steps_left_s)
        except HuggingGPTError as exc:
            logger.info("planning again gave nothing", extra={"reason": exc.message})
            run.replans.append(Replan(reason, refused=exc.message))
            return ()
        run.plan, run.choices = Plan((*run.plan.steps, *more.steps)), {**run.choices, **choices}
        self._count_planning(run, more)
        run.replans.append(Replan(reason, tuple(step.id for step in more.steps)))
        count_replan()
        emit(PlanMade(Plan(more.steps), choices, len(run.replans), reason))
        return more.steps

    def _count_planning(self, run: Run, planned: Planned | Addition) -> None:
        run.tokens_in += planned.tokens_in
        run.tokens_out += planned.tokens_out
        run.planning += planned.timing

    def _dispatch(self, step: Step, request: Request, choice: Choice, run: Run) -> Dispatch:
        family, timeout_s = self._families[choice.family], self._limits.step_timeout_s
        return dispatch_of(step, request, choice, family, timeout_s=timeout_s, budget=run.budget, trace=run.span.carrier)
