"""Steps that start while their plan is still being written.

The planner tells each beginning of the plan as it is read; here its new steps get their models and go to the graph. What cannot be decided
yet waits for the whole plan: a choice that is the LLM's, a model that fits no step so far. A plan that turns out wrong takes all back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection

from cluster.errors import HuggingGPTError
from controller.choosing.selector import Choice
from controller.execution.dispatch import Dispatch
from controller.execution.events import Emit, PlanWithdrawn, StepPlanned
from controller.execution.graph import GraphRun
from controller.execution.run import Run
from controller.planning.plan import Plan, Step

ChooseAtOnce = Callable[[Plan, Collection[str]], Awaitable[dict[str, Choice]]]  # of these steps of a plan's beginning
DispatchOf = Callable[[Step, Choice], Dispatch]


class EarlySteps:
    """Of one run. `tell` is what the planner calls; `finish` says that no more will come, and `start` returns once all was taken up."""

    def __init__(self, run: Run, graph: GraphRun, choose: ChooseAtOnce, dispatch: DispatchOf, emit: Emit) -> None:
        self._run, self._graph = run, graph
        self._choose, self._dispatch, self._emit = choose, dispatch, emit
        self._plans: asyncio.Queue[Plan | None] = asyncio.Queue()
        self._is_over = False

    def tell(self, plan: Plan | None) -> None:
        """The plan so far, or None when what was told before no longer holds."""
        if plan is None:
            self.withdraw("the plan was not valid")
        elif not self._is_over:
            self._plans.put_nowait(plan)

    def withdraw(self, why: str) -> None:
        """Cancels what was started and strikes it from the record; nothing starts early from now on."""
        self._is_over = True
        self._plans.put_nowait(None)
        if started := sorted(self._graph.steps):
            self._graph.withdraw()
            self._run.forget_steps()
            self._emit(PlanWithdrawn(tuple(started), why))

    def finish(self) -> None:
        """No more will be told."""
        self._plans.put_nowait(None)

    async def start(self) -> None:
        """Takes up what is told, until `finish` or `withdraw`."""
        while (plan := await self._latest()) is not None and not self._is_over:
            known = self._graph.steps
            new = [step for step in plan.steps if step.id not in known]
            try:
                choices = await self._choose(plan, {step.id for step in new})
            except HuggingGPTError:
                return  # it will be met again, and said, when the whole plan gets its models
            if not self._is_over:
                self._take_up(new, choices)

    async def _latest(self) -> Plan | None:
        """The last of what was told by now: the others are its beginnings, and each choice may wait for the hub."""
        plan = await self._plans.get()
        while plan is not None and not self._plans.empty():
            if (later := self._plans.get_nowait()) is None:
                self.finish()  # said again, for the next round
                break
            plan = later
        return plan

    def _take_up(self, new: list[Step], choices: dict[str, Choice]) -> None:
        ready: list[Step] = []
        for step in new:
            started = self._graph.steps.union(one.id for one in ready)
            if step.id in choices and started.issuperset(step.needs):
                ready.append(step)
        if not ready:
            return
        taken = {step.id: choices[step.id] for step in ready}
        self._run.plan = Plan((*self._run.plan.steps, *ready))  # what runs, also where `plan` says a step anew
        self._run.choices.update(taken)
        for step in ready:
            self._emit(StepPlanned(step, taken[step.id]))
        if self._run.first_step_s is None:
            self._run.first_step_s = self._run.elapsed_s
        self._graph.add(ready, {step.id: self._dispatch(step, taken[step.id]) for step in ready})
