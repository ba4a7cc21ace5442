"""Running the graph where results are known before, or may turn out to be: what is handed on, reused, held back and submitted."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from cluster.messages import Done, Failed, Skipped, TaskRequest, TaskResult
from cluster.tasks import Task
from controller.execution.events import Event, StepEnded, StepStarted
from controller.execution.graph import run_graph
from controller.execution.sharing import Nothing, Others
from controller.planning.plan import Plan, Step
from tests.fakes_family import SPAN, FakeFamily, a_plan, dispatches, done, hangs


@dataclass
class Remembered(Nothing):
    """A Recall that knows results by step id and what the step is given."""

    results: dict[tuple[str, tuple[str, ...]], str]

    def may_know(self, step: Step) -> bool:
        return any(step_id == step.id for step_id, _ in self.results)

    async def found(self, step: Step, results: Mapping[str, TaskResult]) -> Done | None:
        given = tuple(str(result.value) for need in step.needs if isinstance(result := results[need], Done))
        text = self.results.get((step.id, given))
        return None if text is None else Done(step.id, step.task, "org/earlier", text, SPAN)


async def gives_what_it_got(request: TaskRequest, given: list[TaskResult]) -> TaskResult:
    return done(request, f"{request.step_id}({','.join(str(one.value) for one in given if isinstance(one, Done))})")


async def recalled(
    plan: Plan, known: Mapping[str, TaskResult], results: dict[tuple[str, tuple[str, ...]], str]
) -> tuple[dict[str, TaskResult], FakeFamily, list[Event]]:
    family, told = FakeFamily({step.id: gives_what_it_got for step in plan.steps}), list[Event]()
    others = Others(Remembered(results), holds=True)
    return await run_graph(plan, dispatches(family, plan), told.append, known, others), family, told


def values(results: Mapping[str, TaskResult]) -> dict[str, Any]:
    return {step_id: result.value for step_id, result in results.items() if isinstance(result, Done)}


async def test_a_known_result_is_handed_on_and_its_step_neither_runs_nor_is_told() -> None:
    known: dict[str, TaskResult] = {"s1": Done("s1", Task.TEXT_GENERATION, "org/m", "x", SPAN)}
    results, family, told = await recalled(a_plan(s1="", s2="s1"), known, {})
    assert values(results) == {"s1": "x", "s2": "s2(x)"}
    assert family.submitted == ["s2"]
    assert [event.step for event in told if isinstance(event, StepStarted)] == ["s2"]


async def test_a_step_behind_a_known_failure_is_skipped() -> None:
    results, _, _ = await recalled(a_plan(s1="", s2="s1"), {"s1": Failed("s1", Task.TEXT_GENERATION, "no")}, {})
    assert isinstance(results["s2"], Skipped)


async def test_a_step_whose_changed_need_gave_the_same_is_reused() -> None:
    results, family, told = await recalled(a_plan(s1="", s2="s1", s3="s2"), {}, {("s2", ("s1()",)): "before"})
    assert values(results) == {"s1": "s1()", "s2": "before", "s3": "s3(before)"}
    assert family.submitted == ["s1", "s3"]
    assert [event.result.step_id for event in told if isinstance(event, StepEnded) and event.reused] == ["s2"]


async def test_a_step_whose_changed_need_gave_something_else_runs_and_so_do_those_behind_it() -> None:
    results, family, _ = await recalled(a_plan(s1="", s2="s1", s3="s2"), {}, {("s2", ("other",)): "before"})
    assert values(results) == {"s1": "s1()", "s2": "s2(s1())", "s3": "s3(s2(s1()))"}
    assert family.submitted == ["s1", "s2", "s3"]


async def test_a_step_that_cannot_be_known_is_submitted_at_once_behind_one_that_runs() -> None:
    family = FakeFamily({"s1": hangs})
    plan = a_plan(s1="", s2="s1")
    running = asyncio.create_task(run_graph(plan, dispatches(family, plan), lambda _event: None, {}, Others(Remembered({}), holds=True)))
    await asyncio.sleep(0)
    assert family.submitted == ["s1", "s2"]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
